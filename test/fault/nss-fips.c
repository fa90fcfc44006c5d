/* NSS has its FIPS function table behind a name no application asks for (pkcs11-lab §1.2). Needs libnss3. */

#include "pkcs11.h"
#include <dlfcn.h>
#include <stddef.h>

__attribute__((visibility("default"))) CK_RV C_GetFunctionList(CK_FUNCTION_LIST **list) {
  CK_RV (*get)(CK_FUNCTION_LIST **) = NULL;
  void *softokn = dlopen("libsoftokn3.so", RTLD_NOW | RTLD_LOCAL);
  if (softokn != NULL) *(void **)&get = dlsym(softokn, "FC_GetFunctionList");
  return get == NULL ? CKR_GENERAL_ERROR : get(list);
}
