/*
 * A Cryptoki that forwards every call to a real module and fails on demand (security §4.2). A test asset: the KMS does not
 * know about it. Neither PINs nor data are ever written anywhere.
 *
 * Environment, read with the first call after C_GetFunctionList, the two files also with each C_Initialize:
 *   KMS_FAULT_MODULE        path of the real module
 *   KMS_FAULT_CONTROL       control file, see rules.c
 *   KMS_FAULT_COUNTS        directory for counts, see counts.c
 *   KMS_FAULT_LATENCY_US    delays every call that uses a key or an object
 *   KMS_FAULT_LATENCY_INIT  1: the Init calls too
 *
 * The library stays loaded once it is loaded, and the real module with it: a thread may be hanging in it.
 */

#include "shim.h"
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define FUNCTION_NAME(name, parameters) #name,
const char *const function_names[FUNCTIONS] = {PKCS11_FUNCTIONS(FUNCTION_NAME)};

CK_FUNCTION_LIST *real;

static unsigned long latency;
static bool latency_of_init;
static atomic_bool logged_out;

/* A process that runs one test after another has other files for each. */
static void follow_files(void) {
  static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
  static char counts[4096], control[4096];
  const char *wanted_counts = getenv("KMS_FAULT_COUNTS"), *wanted_control = getenv("KMS_FAULT_CONTROL");
  pthread_mutex_lock(&one_at_a_time);
  if (wanted_counts != NULL && strcmp(counts, wanted_counts) != 0) {
    snprintf(counts, sizeof counts, "%s", wanted_counts);
    counts_open(counts);
  }
  if (wanted_control != NULL && strcmp(control, wanted_control) != 0) {
    snprintf(control, sizeof control, "%s", wanted_control);
    rules_open(control);
  }
  pthread_mutex_unlock(&one_at_a_time);
}

void pause_us(unsigned long microseconds) {
  struct timespec left = {(time_t)(microseconds / 1000000), (long)(microseconds % 1000000) * 1000};
  while (microseconds > 0 && nanosleep(&left, &left) != 0 && errno == EINTR) continue;
}

static int compare_longs(const void *a, const void *b) {
  long x = *(const long *)a, y = *(const long *)b;
  return (x > y) - (x < y);
}

/*
 * How long to sleep for a delay of so many microseconds. The kernel wakes late, under a hypervisor by a tenth of 2 ms, and
 * who asked for 2 ms shall not measure that. Only what an idle thread sees here is taken off, by the median of 15.
 */
static unsigned long corrected(unsigned long microseconds) {
  enum { SAMPLES = 15 };
  long late[SAMPLES];
  if (microseconds < 500) return microseconds;
  for (int i = 0; i < SAMPLES; i++) {
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    pause_us(microseconds);
    clock_gettime(CLOCK_MONOTONIC, &to);
    late[i] = (to.tv_sec - from.tv_sec) * 1000000 + (to.tv_nsec - from.tv_nsec) / 1000 - (long)microseconds;
  }
  qsort(late, SAMPLES, sizeof late[0], compare_longs);
  long median = late[SAMPLES / 2];
  return median > 0 && (unsigned long)median < microseconds / 4 ? microseconds - (unsigned long)median : microseconds;
}

static void open_module(void) {
  CK_RV (*get)(CK_FUNCTION_LIST **) = NULL;
  const char *path = getenv("KMS_FAULT_MODULE"), *us = getenv("KMS_FAULT_LATENCY_US");
  const char *init = getenv("KMS_FAULT_LATENCY_INIT");
  void *module = path == NULL ? NULL : dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (module != NULL) *(void **)&get = dlsym(module, "C_GetFunctionList");
  if (get == NULL || get(&real) != CKR_OK) {
    const char *reason = path == NULL ? "is not set" : dlerror();
    fprintf(stderr, "kmsfault: KMS_FAULT_MODULE: %s\n", reason == NULL ? "no function list" : reason);
    real = NULL;
    return;
  }
  latency = corrected(us == NULL ? 0 : strtoul(us, NULL, 10));
  latency_of_init = init != NULL && strcmp(init, "1") == 0;
  follow_files();
}

static CK_FUNCTION_LIST *module(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, open_module);
  return real;
}

/* xorshift64*, one sequence per thread. */
static double random_fraction(void) {
  static _Thread_local uint64_t state;
  if (state == 0) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    state = ((uint64_t)now.tv_nsec << 32 ^ (uint64_t)now.tv_sec ^ (uint64_t)(uintptr_t)&state) | 1;
  }
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return (double)(state * UINT64_C(0x2545F4914F6CDD1D) >> 11) / (double)(UINT64_C(1) << 53);
}

/* ---- One call ---- */

/* USES_KEY: for the latency, and refused after a logout. INIT: starts an operation. */
enum { USES_KEY = 1, INIT = 2 };

struct call {
  enum function function;
  int flags;
  CK_ULONG session, slot;
  const CK_MECHANISM *mechanism;
  /* Handles the application gives, with what it is told when one means nothing. */
  struct {
    CK_ULONG *handle;
    CK_RV invalid;
  } in[2];
  /* A result that can be corrupted; a null pointer asks for the length only. */
  CK_BYTE *out;
  const CK_ULONG *out_length;
  /* Handles the module gives: one behind each pointer, or `*made_count` behind the first. */
  CK_ULONG *made[2];
  const CK_ULONG *made_count;
  CK_ULONG *new_session;
  CK_ULONG application_handle;
  struct rules *rules;
  struct rule *rule;
  bool forward;
};

static CK_RV fault(const struct call *call, CK_RV rv) {
  count_fault(call->function);
  return rv;
}

/* Whether the rule can act on a call of this kind at all. */
static bool suits(const struct rule *rule, const struct call *call) {
  if (rule->session_loss && !session_older(call->session, call->rules->generation)) return false;
  if (rule->logout && (call->flags & USES_KEY) == 0) return false;
  if (rule->pin_fail && call->function != FN_C_Login) return false;
  if (rule->corrupt != CORRUPT_NO && call->out_length == NULL) return false;
  if (rule->own_iv != OWN_IV_NO && call->function != FN_C_EncryptInit) return false;
  return rule->probability >= 1 || random_fraction() < rule->probability;
}

/* Every rule counts the calls that match its name; the first that may act is returned. */
static struct rule *winner(const struct call *call) {
  struct rule *found = NULL;
  for (int i = 0; i < call->rules->count; i++) {
    struct rule *rule = &call->rules->rule[i];
    if (!rule->matches[call->function]) continue;
    unsigned long seen = atomic_fetch_add(&rule->seen, 1) + 1;
    if (found != NULL || seen < rule->from || seen > rule->to || !suits(rule, call)) continue;
    if (atomic_fetch_add(&rule->hits, 1) < rule->count) found = rule;
  }
  return found;
}

static void hang(const struct rules *rules) {
  while (rules_released() <= rules->generation) {
    pause_us(50000);
    rules_now();
  }
}

static void crash(void) {
  /* A core file would hold PINs and data. */
  struct rlimit no_core = {0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  signal(SIGSEGV, SIG_DFL);
  raise(SIGSEGV);
}

/* @return false when `rv` is the answer */
static bool act(const struct call *call, CK_RV *rv) {
  const struct rule *rule = call->rule;
  if (rule->pass) return true;
  count_fault(call->function);
  pause_us(rule->delay);
  if (rule->hang) hang(call->rules);
  if (rule->crash) crash();
  if (rule->session_loss) {
    session_lose(call->session);
    *rv = CKR_SESSION_HANDLE_INVALID;
    return false;
  }
  if (rule->logout) {
    logged_out = true;
    real->C_Logout(call->session);
    *rv = CKR_USER_NOT_LOGGED_IN;
    return false;
  }
  if (rule->pin_fail) {
    *rv = CKR_PIN_INCORRECT;
    return false;
  }
  *rv = rule->rv;
  return !rule->has_rv || rule->after;
}

/* Sets `forward`, or returns the answer. */
static CK_RV before(struct call *call) {
  CK_RV rv = CKR_OK;
  if (module() == NULL) return CKR_GENERAL_ERROR;
  if (call->function == FN_C_Initialize) follow_files();
  struct rules *rules = call->rules = rules_now();
  count_call(call->function);
  if (rules->renumber != RENUMBER_NO && !atomic_exchange(&rules->renumbered, true))
    rules->renumbered = objects_renumber(rules->renumber);
  if (session_lost(call->session)) return fault(call, CKR_SESSION_HANDLE_INVALID);
  if (logged_out && (call->flags & USES_KEY) != 0) return fault(call, CKR_USER_NOT_LOGGED_IN);
  call->rule = winner(call);
  if (call->rule != NULL && !act(call, &rv)) return rv;
  if ((call->flags & USES_KEY) != 0 && ((call->flags & INIT) == 0 || latency_of_init)) pause_us(latency);
  if (call->mechanism != NULL && rules_hide(rules, call->mechanism->mechanism)) return fault(call, CKR_MECHANISM_INVALID);
  if (call->in[0].handle != NULL) call->application_handle = *call->in[0].handle;
  for (int i = 0; i < 2; i++)
    if (call->in[i].handle != NULL && !object_to_real(call->in[i].handle)) return fault(call, call->in[i].invalid);
  call->forward = true;
  return CKR_OK;
}

/* What the real module's answer changes in our tables. */
static void note(const struct call *call, CK_RV rv) {
  if (call->function == FN_C_Login && (rv == CKR_OK || rv == CKR_USER_ALREADY_LOGGED_IN)) logged_out = false;
  if (rv != CKR_OK) return;
  if (call->function == FN_C_Finalize) {
    tables_clear();
    logged_out = false;
  }
  if (call->function == FN_C_CloseSession) session_closed(call->session);
  if (call->function == FN_C_CloseAllSessions) sessions_closed(call->slot);
  if (call->function == FN_C_DestroyObject) object_destroyed(call->application_handle);
  if (call->new_session != NULL) session_opened(*call->new_session, call->slot, rules_now()->generation);
  if (call->made_count != NULL)
    for (CK_ULONG i = 0; i < *call->made_count; i++) object_to_application(&call->made[0][i]);
  else
    for (int i = 0; i < 2; i++)
      if (call->made[i] != NULL) object_to_application(call->made[i]);
}

static CK_RV after(const struct call *call, CK_RV rv) {
  const struct rule *rule = call->rule;
  note(call, rv);
  if (rule == NULL) return rv;
  if (rv == CKR_OK && call->out != NULL && call->out_length != NULL && *call->out_length > 0) {
    if (rule->corrupt == CORRUPT_FLIP) call->out[0] ^= 1;
    if (rule->corrupt == CORRUPT_CONSTANT) memset(call->out, 0x42, *call->out_length);
  }
  return rule->has_rv ? rule->rv : rv;
}

/* ---- The functions ---- */

#define FORWARD(NAME, PARAMETERS, ARGUMENTS, ...)                                         \
  static CK_RV NAME PARAMETERS {                                                          \
    struct call call = {.function = FN_##NAME, __VA_ARGS__};                              \
    CK_RV rv = before(&call);                                                             \
    if (!call.forward) return rv;                                                         \
    return after(&call, real->NAME == NULL ? CKR_FUNCTION_NOT_SUPPORTED : real->NAME ARGUMENTS); \
  }

typedef CK_ULONG N;
typedef CK_ULONG *NS;
typedef CK_BYTE *BYTES;
typedef CK_MECHANISM *MECHANISM;
typedef CK_ATTRIBUTE *TEMPLATE;

#define KEY(handle) {&(handle), CKR_KEY_HANDLE_INVALID}
#define OBJECT(handle) {&(handle), CKR_OBJECT_HANDLE_INVALID}

FORWARD(C_Initialize, (void *arguments), (arguments), .flags = 0)
FORWARD(C_Finalize, (void *reserved), (reserved), .flags = 0)
FORWARD(C_GetInfo, (void *info), (info), .flags = 0)

FORWARD(C_GetSlotList, (CK_BYTE with_token, NS list, NS count), (with_token, list, count), .flags = 0)
FORWARD(C_GetSlotInfo, (N slot, void *info), (slot, info), .slot = slot)
FORWARD(C_GetTokenInfo, (N slot, void *info), (slot, info), .slot = slot)
FORWARD(C_InitToken, (N slot, BYTES pin, N length, BYTES label), (slot, pin, length, label), .slot = slot)
FORWARD(C_InitPIN, (N s, BYTES pin, N length), (s, pin, length), .session = s)
FORWARD(C_SetPIN, (N s, BYTES old, N old_length, BYTES pin, N length), (s, old, old_length, pin, length), .session = s)
FORWARD(C_WaitForSlotEvent, (N flags, NS slot, void *reserved), (flags, slot, reserved), .flags = 0)

FORWARD(C_OpenSession, (N slot, N flags, void *data, void *notify, NS s), (slot, flags, data, notify, s),
  .slot = slot, .new_session = s)
FORWARD(C_CloseSession, (N s), (s), .session = s)
FORWARD(C_CloseAllSessions, (N slot), (slot), .slot = slot)
FORWARD(C_GetSessionInfo, (N s, void *info), (s, info), .session = s)
FORWARD(C_GetOperationState, (N s, BYTES state, NS length), (s, state, length), .session = s)
FORWARD(C_SetOperationState, (N s, BYTES state, N length, N key, N authentication), (s, state, length, key, authentication),
  .session = s, .in = {KEY(key), KEY(authentication)})
FORWARD(C_Login, (N s, N user, BYTES pin, N length), (s, user, pin, length), .session = s)
FORWARD(C_Logout, (N s), (s), .session = s)

FORWARD(C_CreateObject, (N s, TEMPLATE t, N count, NS object), (s, t, count, object),
  .session = s, .flags = USES_KEY, .made = {object})
FORWARD(C_CopyObject, (N s, N object, TEMPLATE t, N count, NS copy), (s, object, t, count, copy),
  .session = s, .flags = USES_KEY, .in = {OBJECT(object)}, .made = {copy})
FORWARD(C_DestroyObject, (N s, N object), (s, object), .session = s, .flags = USES_KEY, .in = {OBJECT(object)})
FORWARD(C_GetObjectSize, (N s, N object, NS size), (s, object, size),
  .session = s, .flags = USES_KEY, .in = {OBJECT(object)})
FORWARD(C_GetAttributeValue, (N s, N object, TEMPLATE t, N count), (s, object, t, count),
  .session = s, .flags = USES_KEY, .in = {OBJECT(object)})
FORWARD(C_SetAttributeValue, (N s, N object, TEMPLATE t, N count), (s, object, t, count),
  .session = s, .flags = USES_KEY, .in = {OBJECT(object)})
FORWARD(C_FindObjectsInit, (N s, TEMPLATE t, N count), (s, t, count), .session = s)
FORWARD(C_FindObjects, (N s, NS objects, N room, NS count), (s, objects, room, count),
  .session = s, .made = {objects}, .made_count = count)
FORWARD(C_FindObjectsFinal, (N s), (s), .session = s)

/* Single-part, update and final calls differ in their arguments only. */
#define OPERATION_INIT(NAME)                                                              \
  FORWARD(NAME, (N s, MECHANISM m, N key), (s, m, key),                                   \
    .session = s, .mechanism = m, .flags = USES_KEY | INIT, .in = {KEY(key)})
#define IN_OUT(NAME)                                                                      \
  FORWARD(NAME, (N s, BYTES in, N in_length, BYTES result, NS length), (s, in, in_length, result, length), \
    .session = s, .flags = USES_KEY, .out = result, .out_length = length)
#define IN_ONLY(NAME)                                                                     \
  FORWARD(NAME, (N s, BYTES in, N in_length), (s, in, in_length), .session = s, .flags = USES_KEY)
#define OUT_ONLY(NAME)                                                                    \
  FORWARD(NAME, (N s, BYTES result, NS length), (s, result, length),                      \
    .session = s, .flags = USES_KEY, .out = result, .out_length = length)

static CK_RV C_EncryptInit(N s, MECHANISM m, N key) {
  struct call call = {
    .function = FN_C_EncryptInit, .session = s, .mechanism = m, .flags = USES_KEY | INIT, .in = {KEY(key)}};
  CK_RV rv = before(&call);
  if (!call.forward) return rv;
  return after(&call, gcm_encrypt_init(call.rule == NULL ? OWN_IV_NO : call.rule->own_iv, s, m, key));
}

static CK_RV C_Encrypt(N s, BYTES in, N in_length, BYTES result, NS length) {
  struct call call = {.function = FN_C_Encrypt, .session = s, .flags = USES_KEY, .out = result, .out_length = length};
  CK_RV rv = before(&call);
  return call.forward ? after(&call, gcm_encrypt(s, in, in_length, result, length)) : rv;
}

IN_OUT(C_EncryptUpdate)
OUT_ONLY(C_EncryptFinal)
OPERATION_INIT(C_DecryptInit)
IN_OUT(C_Decrypt)
IN_OUT(C_DecryptUpdate)
OUT_ONLY(C_DecryptFinal)
OPERATION_INIT(C_SignInit)
IN_OUT(C_Sign)
IN_ONLY(C_SignUpdate)
OUT_ONLY(C_SignFinal)
OPERATION_INIT(C_SignRecoverInit)
IN_OUT(C_SignRecover)
OPERATION_INIT(C_VerifyInit)
FORWARD(C_Verify, (N s, BYTES in, N in_length, BYTES signature, N length), (s, in, in_length, signature, length),
  .session = s, .flags = USES_KEY)
IN_ONLY(C_VerifyUpdate)
IN_ONLY(C_VerifyFinal)
OPERATION_INIT(C_VerifyRecoverInit)
IN_OUT(C_VerifyRecover)
IN_OUT(C_DigestEncryptUpdate)
IN_OUT(C_DecryptDigestUpdate)
IN_OUT(C_SignEncryptUpdate)
IN_OUT(C_DecryptVerifyUpdate)

FORWARD(C_DigestInit, (N s, MECHANISM m), (s, m), .session = s, .mechanism = m)
FORWARD(C_Digest, (N s, BYTES in, N in_length, BYTES result, NS length), (s, in, in_length, result, length), .session = s)
FORWARD(C_DigestUpdate, (N s, BYTES in, N in_length), (s, in, in_length), .session = s)
FORWARD(C_DigestKey, (N s, N key), (s, key), .session = s, .flags = USES_KEY, .in = {KEY(key)})
FORWARD(C_DigestFinal, (N s, BYTES result, NS length), (s, result, length), .session = s)

FORWARD(C_GenerateKey, (N s, MECHANISM m, TEMPLATE t, N count, NS key), (s, m, t, count, key),
  .session = s, .mechanism = m, .flags = USES_KEY, .made = {key})
FORWARD(C_GenerateKeyPair, (N s, MECHANISM m, TEMPLATE t, N count, TEMPLATE u, N private_count, NS key, NS private_key),
  (s, m, t, count, u, private_count, key, private_key),
  .session = s, .mechanism = m, .flags = USES_KEY, .made = {key, private_key})
FORWARD(C_WrapKey, (N s, MECHANISM m, N wrapping, N key, BYTES result, NS length), (s, m, wrapping, key, result, length),
  .session = s, .mechanism = m, .flags = USES_KEY,
  .in = {{&wrapping, CKR_WRAPPING_KEY_HANDLE_INVALID}, KEY(key)}, .out = result, .out_length = length)
FORWARD(C_UnwrapKey, (N s, MECHANISM m, N unwrapping, BYTES in, N in_length, TEMPLATE t, N count, NS key),
  (s, m, unwrapping, in, in_length, t, count, key),
  .session = s, .mechanism = m, .flags = USES_KEY,
  .in = {{&unwrapping, CKR_UNWRAPPING_KEY_HANDLE_INVALID}}, .made = {key})
FORWARD(C_DeriveKey, (N s, MECHANISM m, N base, TEMPLATE t, N count, NS key), (s, m, base, t, count, key),
  .session = s, .mechanism = m, .flags = USES_KEY, .in = {KEY(base)}, .made = {key})

FORWARD(C_SeedRandom, (N s, BYTES seed, N length), (s, seed, length), .session = s)
FORWARD(C_GenerateRandom, (N s, BYTES result, N length), (s, result, length),
  .session = s, .out = result, .out_length = &length)
FORWARD(C_GetFunctionStatus, (N s), (s), .session = s)
FORWARD(C_CancelFunction, (N s), (s), .session = s)

static CK_RV C_GetMechanismInfo(N slot, N type, void *info) {
  CK_MECHANISM mechanism = {type, NULL, 0};
  struct call call = {.function = FN_C_GetMechanismInfo, .slot = slot, .mechanism = &mechanism};
  CK_RV rv = before(&call);
  return call.forward ? after(&call, real->C_GetMechanismInfo(slot, type, info)) : rv;
}

/* The whole list has to be read even for its length, as only some of what is hidden may be in it. */
static CK_RV shown_mechanisms(const struct rules *rules, N slot, NS list, NS count) {
  N all = 0, shown = 0;
  CK_RV rv = real->C_GetMechanismList(slot, NULL, &all);
  if (rv != CKR_OK || count == NULL) return rv == CKR_OK ? CKR_ARGUMENTS_BAD : rv;
  NS mechanisms = calloc(all + 1, sizeof *mechanisms);
  if (mechanisms == NULL) return CKR_HOST_MEMORY;
  rv = real->C_GetMechanismList(slot, mechanisms, &all);
  for (N i = 0; rv == CKR_OK && i < all; i++)
    if (!rules_hide(rules, mechanisms[i])) mechanisms[shown++] = mechanisms[i];
  if (rv == CKR_OK && list != NULL && *count < shown) rv = CKR_BUFFER_TOO_SMALL;
  if (rv == CKR_OK && list != NULL) memcpy(list, mechanisms, shown * sizeof *list);
  if (rv == CKR_OK || rv == CKR_BUFFER_TOO_SMALL) *count = shown;
  free(mechanisms);
  return rv;
}

static CK_RV C_GetMechanismList(N slot, NS list, NS count) {
  struct call call = {.function = FN_C_GetMechanismList, .slot = slot};
  CK_RV rv = before(&call);
  if (!call.forward) return rv;
  if (call.rules->hidden_count > 0) return after(&call, shown_mechanisms(call.rules, slot, list, count));
  return after(&call, real->C_GetMechanismList(slot, list, count));
}

/* Works without the real module, whose path may not be in the environment yet; it is neither counted nor ruled. */
__attribute__((visibility("default"))) CK_RV C_GetFunctionList(CK_FUNCTION_LIST **list) {
#define FUNCTION_POINTER(name, parameters) .name = name,
  static CK_FUNCTION_LIST functions = {.version = {2, 40}, PKCS11_FUNCTIONS(FUNCTION_POINTER)};
  if (list == NULL) return CKR_ARGUMENTS_BAD;
  *list = &functions;
  return CKR_OK;
}
