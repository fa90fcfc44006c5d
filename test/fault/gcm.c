/*
 * An HSM that makes the IVs of AES-GCM itself: the application gives 12 zero bytes, and the IV is written over them, as
 * AWS CloudHSM documents. With C_EncryptInit, or only with C_Encrypt into the memory that C_EncryptInit was shown.
 */

#include "shim.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define CKM_AES_GCM 0x1087
#define IV_BYTES 12

/* CK_GCM_PARAMS of PKCS#11 2.40. */
struct gcm_params {
  CK_BYTE *iv;
  CK_ULONG iv_length, iv_bits;
  CK_BYTE *aad;
  CK_ULONG aad_length, tag_bits;
};

/* What C_EncryptInit was given, for C_Encrypt: the IV as a pointer, the rest copied. */
struct waiting {
  struct waiting *next;
  CK_ULONG session, key;
  struct gcm_params params;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct waiting *first;

static struct waiting *take(CK_ULONG session) {
  pthread_mutex_lock(&lock);
  struct waiting **at = &first;
  while (*at != NULL && (*at)->session != session) at = &(*at)->next;
  struct waiting *found = *at;
  if (found != NULL) *at = found->next;
  pthread_mutex_unlock(&lock);
  return found;
}

static void drop(struct waiting *waiting) {
  if (waiting == NULL) return;
  free(waiting->params.aad);
  free(waiting);
}

static CK_RV keep(CK_ULONG session, CK_ULONG key, const struct gcm_params *params) {
  struct waiting *waiting = calloc(1, sizeof *waiting);
  if (waiting == NULL) abort();
  *waiting = (struct waiting){.session = session, .key = key, .params = *params};
  if ((waiting->params.aad = malloc(params->aad_length + 1)) == NULL) abort();
  if (params->aad_length > 0) memcpy(waiting->params.aad, params->aad, params->aad_length);
  drop(take(session));
  pthread_mutex_lock(&lock);
  waiting->next = first;
  first = waiting;
  pthread_mutex_unlock(&lock);
  return CKR_OK;
}

static CK_RV begin(CK_ULONG session, struct gcm_params *params, CK_ULONG key) {
  CK_MECHANISM mechanism = {CKM_AES_GCM, params, sizeof *params};
  return real->C_EncryptInit(session, &mechanism, key);
}

static bool zeros(const struct gcm_params *params) {
  static const CK_BYTE zero[IV_BYTES];
  return params->iv_length == IV_BYTES && memcmp(params->iv, zero, IV_BYTES) == 0;
}

CK_RV gcm_encrypt_init(enum own_iv how, CK_ULONG session, CK_MECHANISM *mechanism, CK_ULONG key) {
  if (how == OWN_IV_NO || mechanism == NULL || mechanism->mechanism != CKM_AES_GCM) return real->C_EncryptInit(session, mechanism, key);
  if (mechanism->ulParameterLen != sizeof(struct gcm_params) || !zeros(mechanism->pParameter)) return CKR_MECHANISM_PARAM_INVALID;
  struct gcm_params params = *(struct gcm_params *)mechanism->pParameter;
  CK_BYTE hidden[IV_BYTES];
  if (how == OWN_IV_ENCRYPT) return keep(session, key, &params);
  if (how == OWN_IV_HIDDEN) params.iv = hidden;
  if (how == OWN_IV_CONSTANT) memset(params.iv, 0x42, IV_BYTES);
  else if (real->C_GenerateRandom(session, params.iv, IV_BYTES) != CKR_OK) return CKR_GENERAL_ERROR;
  return begin(session, &params, key);
}

CK_RV gcm_encrypt(CK_ULONG session, CK_BYTE *in, CK_ULONG in_length, CK_BYTE *out, CK_ULONG *out_length) {
  struct waiting *waiting = take(session);
  CK_RV rv = CKR_OK;
  if (waiting != NULL) {
    rv = real->C_GenerateRandom(session, waiting->params.iv, IV_BYTES);
    if (rv == CKR_OK) rv = begin(session, &waiting->params, waiting->key);
    drop(waiting);
  }
  return rv == CKR_OK ? real->C_Encrypt(session, in, in_length, out, out_length) : rv;
}
