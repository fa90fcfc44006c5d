/* What the parts of the fault shim know of each other; `rules.c` describes the control file. */

#ifndef KMS_FAULT_SHIM_H
#define KMS_FAULT_SHIM_H

#include "pkcs11.h"
#include <stdatomic.h>
#include <stdbool.h>

#define FUNCTION_NUMBER(name, parameters) FN_##name,
enum function { PKCS11_FUNCTIONS(FUNCTION_NUMBER) FUNCTIONS };
#undef FUNCTION_NUMBER

extern const char *const function_names[FUNCTIONS];

/* The function list of the real module; set before anything else runs. */
extern CK_FUNCTION_LIST *real;

void pause_us(unsigned long microseconds);

/* ---- counts.c: calls and faults by function, in a mapped file that outlives the process ---- */

/* `directory` may be null: then nothing is counted. */
void counts_open(const char *directory);
void count_call(enum function function);
void count_fault(enum function function);

/* ---- rules.c: the control file ---- */

enum renumber { RENUMBER_NO, RENUMBER_PERMUTE, RENUMBER_INVALID };
enum corrupt { CORRUPT_NO, CORRUPT_FLIP, CORRUPT_CONSTANT };
enum own_iv { OWN_IV_NO, OWN_IV_INIT, OWN_IV_ENCRYPT, OWN_IV_HIDDEN, OWN_IV_CONSTANT };

#define MAX_RULES 64
#define MAX_HIDDEN 64

struct rule {
  bool matches[FUNCTIONS];
  bool pass, has_rv, after, hang, crash, session_loss, logout, pin_fail;
  enum corrupt corrupt;
  enum own_iv own_iv;
  CK_RV rv;
  unsigned long from, to, count, delay;
  double probability;
  /* Matching calls so far, and how often the rule acted. */
  atomic_ulong seen, hits;
};

/* One loaded control file. Never freed: a call may be in the middle of it. Ends after its last rule. */
struct rules {
  struct rules *previous;
  unsigned long generation;
  bool release;
  enum renumber renumber;
  atomic_bool renumbered;
  int hidden_count, count;
  CK_ULONG hidden[MAX_HIDDEN];
  struct rule rule[MAX_RULES];
};

/* `path` may be null: then there are never any rules. */
void rules_open(const char *path);
/* The rules of the control file as it is now, at most a few milliseconds late. */
struct rules *rules_now(void);
/* The last generation that had a `release` line. */
unsigned long rules_released(void);
bool rules_hide(const struct rules *rules, CK_ULONG mechanism);

/* ---- gcm.c: a token that makes its own IVs ---- */

CK_RV gcm_encrypt_init(enum own_iv how, CK_ULONG session, CK_MECHANISM *mechanism, CK_ULONG key);
CK_RV gcm_encrypt(CK_ULONG session, CK_BYTE *in, CK_ULONG in_length, CK_BYTE *out, CK_ULONG *out_length);

/* ---- tables.c: what the application holds: sessions and object handles ---- */

void session_opened(CK_ULONG session, CK_ULONG slot, unsigned long generation);
void session_closed(CK_ULONG session);
void sessions_closed(CK_ULONG slot);
/* Whether it was opened before the rules of this generation were loaded. */
bool session_older(CK_ULONG session, unsigned long generation);
void session_lose(CK_ULONG session);
bool session_lost(CK_ULONG session);

/* @return false when the application may not know this handle any more */
bool object_to_real(CK_ULONG *handle);
void object_to_application(CK_ULONG *handle);
void object_destroyed(CK_ULONG application_handle);
/* @return false when it has to be tried again, as no session is open */
bool objects_renumber(enum renumber how);
/* After C_Finalize. */
void tables_clear(void);

#endif
