/*
 * The control file: what goes wrong, one rule a line. It is replaced with rename(2), and every process that has the shim
 * loaded sees the change with the first call that begins 2 ms later.
 *
 *   # comment
 *   <C_Function | C_Prefix* | *> [condition …] action …
 *
 * The first rule wins whose name matches and whose conditions hold; a rule whose conditions do not hold is passed over.
 * Everything is counted per process and from the loading of the file: replacing it, even with the same rules, starts anew.
 *
 * Conditions
 *   nth=N  from=N  to=M   among the calls that match the name, whoever won them
 *   p=0.05                probability
 *   count=N               the rule ends after it has acted N times
 *
 * Actions; those of one rule combine, in this order
 *   delay=µs              before anything else
 *   hang=1                waits until a later control file has the line `release`, then goes on
 *   crash=1               SIGSEGV, without a core file
 *   session-loss=1        CKR_SESSION_HANDLE_INVALID for sessions opened before the rule was loaded. A session that got
 *                         this answer stays lost; the real one stays open, so the login lasts
 *   logout=1              really logs out, once unless count= says otherwise. Calls that use keys then answer
 *                         CKR_USER_NOT_LOGGED_IN until C_Login succeeds, whatever becomes of the rule
 *   pin-fail=1            C_Login answers CKR_PIN_INCORRECT; the PIN is not handed on
 *   rv=0x…                the return value, without forwarding
 *   after=forward         forward all the same, and then return rv
 *   corrupt=flip          flips the lowest bit of the first byte of a successful result
 *   corrupt=constant      fills the result with 0x42
 *   own-iv=init           the token makes the IV of AES-GCM, writes it over the 12 zero bytes it was given, and refuses
 *                         any other IV
 *   own-iv=encrypt        the same, written with C_Encrypt only
 *   own-iv=hidden         makes one and does not write it
 *   own-iv=constant       writes and uses the same one each time
 *   pass=1                nothing: exempts the call from the rules below
 *
 * session-loss, logout, pin-fail, own-iv (C_EncryptInit) and corrupt act only on calls they make sense for and pass the others over.
 *
 * Lines that act as a whole, without conditions
 *   * renumber=1          when loaded, handles are dealt out anew among objects of one class and key type: an old
 *                         handle now denotes another object. Lasts until C_Finalize
 *   * renumber=invalid    when loaded, all handles become invalid; searches give new ones. Lasts until C_Finalize
 *   mech hide=0x1087,…    mechanisms the token seems not to have
 *   release               ends the hanging of calls that hung under earlier control files
 */

#include "shim.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CHECK_EVERY_NS 2000000
#define MAX_FILE 65536

static const char *control;
static struct rules none;
static _Atomic(struct rules *) current = &none;
static atomic_ulong released;

static pthread_mutex_t loading = PTHREAD_MUTEX_INITIALIZER;
static _Atomic int64_t checked;
static struct stat loaded;

void rules_open(const char *path) { control = path; }

unsigned long rules_released(void) { return released; }

bool rules_hide(const struct rules *rules, CK_ULONG mechanism) {
  for (int i = 0; i < rules->hidden_count; i++)
    if (rules->hidden[i] == mechanism) return true;
  return false;
}

static bool match_names(struct rule *rule, const char *pattern) {
  size_t length = strlen(pattern);
  bool prefix = length > 0 && pattern[length - 1] == '*', any = false;
  for (int i = 0; i < FUNCTIONS; i++) {
    bool match = prefix ? strncmp(function_names[i], pattern, length - 1) == 0 : strcmp(function_names[i], pattern) == 0;
    rule->matches[i] = match;
    any = any || match;
  }
  return any;
}

static bool number(const char *text, unsigned long *value) {
  char *end;
  errno = 0;
  *value = strtoul(text, &end, 0);
  return errno == 0 && end != text && *end == '\0';
}

static bool hide(struct rules *rules, char *list) {
  char *rest = NULL;
  for (char *item = strtok_r(list, ",", &rest); item != NULL; item = strtok_r(NULL, ",", &rest)) {
    if (rules->hidden_count == MAX_HIDDEN || !number(item, &rules->hidden[rules->hidden_count])) return false;
    rules->hidden_count++;
  }
  return true;
}

static bool word(const char *value, const char *only, bool *flag) { return *flag = strcmp(value, only) == 0; }

static bool chance(const char *text, double *probability) {
  char *end;
  *probability = strtod(text, &end);
  return end != text && *end == '\0' && *probability >= 0 && *probability <= 1;
}

static bool own_iv(const char *value, enum own_iv *how) {
  static const char *const names[] = {"", "init", "encrypt", "hidden", "constant"};
  for (int i = OWN_IV_INIT; i <= OWN_IV_CONSTANT; i++)
    if (strcmp(value, names[i]) == 0) *how = (enum own_iv)i;
  return *how != OWN_IV_NO;
}

static bool set(struct rules *rules, struct rule *rule, const char *key, char *value) {
  bool *flag = NULL;
  if (strcmp(key, "rv") == 0) return rule->has_rv = number(value, &rule->rv);
  if (strcmp(key, "nth") == 0) return number(value, &rule->from) && number(value, &rule->to) && rule->from > 0;
  if (strcmp(key, "from") == 0) return number(value, &rule->from);
  if (strcmp(key, "to") == 0) return number(value, &rule->to);
  if (strcmp(key, "count") == 0) return number(value, &rule->count);
  if (strcmp(key, "delay") == 0) return number(value, &rule->delay);
  if (strcmp(key, "p") == 0) return chance(value, &rule->probability);
  if (strcmp(key, "after") == 0) return word(value, "forward", &rule->after);
  if (strcmp(key, "hide") == 0) return hide(rules, value);
  if (strcmp(key, "corrupt") == 0) {
    rule->corrupt = strcmp(value, "flip") == 0 ? CORRUPT_FLIP : strcmp(value, "constant") == 0 ? CORRUPT_CONSTANT : CORRUPT_NO;
    return rule->corrupt != CORRUPT_NO;
  }
  if (strcmp(key, "own-iv") == 0) return own_iv(value, &rule->own_iv);
  if (strcmp(key, "renumber") == 0) {
    rules->renumber = strcmp(value, "1") == 0 ? RENUMBER_PERMUTE : strcmp(value, "invalid") == 0 ? RENUMBER_INVALID : RENUMBER_NO;
    return rules->renumber != RENUMBER_NO;
  }
  if (strcmp(key, "hang") == 0) flag = &rule->hang;
  if (strcmp(key, "crash") == 0) flag = &rule->crash;
  if (strcmp(key, "session-loss") == 0) flag = &rule->session_loss;
  if (strcmp(key, "logout") == 0) flag = &rule->logout;
  if (strcmp(key, "pin-fail") == 0) flag = &rule->pin_fail;
  if (strcmp(key, "pass") == 0) flag = &rule->pass;
  return flag != NULL && word(value, "1", flag);
}

/* @return false when the line is none of the language above */
static bool parse_line(struct rules *rules, char *line) {
  char *rest = NULL, *name = strtok_r(line, " \t\r", &rest);
  if (name == NULL || name[0] == '#') return true;
  if (strcmp(name, "release") == 0) return rules->release = strtok_r(NULL, " \t\r", &rest) == NULL;
  bool whole = strcmp(name, "mech") == 0;
  if (rules->count == MAX_RULES) return false;
  struct rule *rule = &rules->rule[rules->count];
  memset(rule, 0, sizeof *rule);
  rule->from = 1;
  rule->to = ~0UL;
  rule->count = ~0UL;
  rule->probability = 1;
  if (!whole && !match_names(rule, name)) return false;
  for (char *item = strtok_r(NULL, " \t\r", &rest); item != NULL; item = strtok_r(NULL, " \t\r", &rest)) {
    char *value = strchr(item, '=');
    if (value == NULL) return false;
    *value++ = '\0';
    whole = whole || strcmp(item, "hide") == 0 || strcmp(item, "renumber") == 0;
    if (!set(rules, rule, item, value)) return false;
  }
  if (rule->logout && rule->count == ~0UL) rule->count = 1;
  bool acts = rule->pass || rule->has_rv || rule->hang || rule->crash || rule->session_loss || rule->logout ||
    rule->pin_fail || rule->corrupt != CORRUPT_NO || rule->own_iv != OWN_IV_NO || rule->delay > 0;
  if (!whole) rules->count++;
  return whole || (acts && (rule->has_rv || !rule->after));
}

static void parse(struct rules *rules, char *text) {
  int at = 0;
  char *rest = text;
  for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n")) {
    at++;
    int before = rules->count;
    if (parse_line(rules, line)) continue;
    rules->count = before;
    fprintf(stderr, "kmsfault: control file, line %d: not understood, ignored\n", at);
  }
}

static bool same(const struct stat *a, const struct stat *b) {
  return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
    a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* A missing file is an empty one. */
static void load(void) {
  struct rules *rules = calloc(1, sizeof *rules);
  char *text = calloc(1, MAX_FILE + 1);
  int file = open(control, O_RDONLY | O_CLOEXEC);
  if (rules == NULL || text == NULL) abort();
  memset(&loaded, 0, sizeof loaded);
  if (file >= 0) {
    ssize_t length = 0, got;
    if (fstat(file, &loaded) != 0) memset(&loaded, 0, sizeof loaded);
    while (length < MAX_FILE && (got = read(file, text + length, (size_t)(MAX_FILE - length))) > 0) length += got;
    close(file);
  }
  rules->previous = current;
  rules->generation = rules->previous->generation + 1;
  parse(rules, text);
  free(text);
  struct rules *fitted = realloc(rules, offsetof(struct rules, rule) + (size_t)rules->count * sizeof rules->rule[0]);
  if (fitted != NULL) rules = fitted;
  current = rules;
  if (rules->release) released = rules->generation;
}

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

struct rules *rules_now(void) {
  if (control == NULL || now_ns() - checked < CHECK_EVERY_NS) return current;
  /* Whoever comes while another thread looks waits for it, so that no call goes by rules older than said above. */
  pthread_mutex_lock(&loading);
  int64_t now = now_ns();
  if (now - checked >= CHECK_EVERY_NS) {
    struct stat found;
    if (stat(control, &found) != 0) memset(&found, 0, sizeof found);
    if (current == &none || !same(&found, &loaded)) load();
    checked = now;
  }
  pthread_mutex_unlock(&loading);
  return current;
}
