/*
 * What the application holds: its sessions, with the moment they were opened, and its object handles, which can be made
 * to denote other objects than they did. Until a renumbering, application handles are the real ones.
 *
 * Handles inside mechanism parameters and templates are not translated; nothing here uses any.
 */

#include "shim.h"
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* ---- Sessions ---- */

struct session {
  CK_ULONG handle, slot;
  unsigned long generation;
  bool lost;
};

static pthread_mutex_t session_lock = PTHREAD_MUTEX_INITIALIZER;
static struct session *sessions;
static size_t session_count, session_room;
/* Spares every call the lock while nothing is lost. */
static atomic_bool any_lost;

static struct session *session_find(CK_ULONG handle) {
  for (size_t i = 0; i < session_count; i++)
    if (sessions[i].handle == handle) return &sessions[i];
  return NULL;
}

void session_opened(CK_ULONG handle, CK_ULONG slot, unsigned long generation) {
  pthread_mutex_lock(&session_lock);
  struct session *session = session_find(handle);
  if (session == NULL) {
    if (session_count == session_room) {
      session_room = session_room == 0 ? 64 : 2 * session_room;
      sessions = realloc(sessions, session_room * sizeof *sessions);
      if (sessions == NULL) abort();
    }
    session = &sessions[session_count++];
  }
  *session = (struct session){handle, slot, generation, false};
  pthread_mutex_unlock(&session_lock);
}

void session_closed(CK_ULONG handle) {
  pthread_mutex_lock(&session_lock);
  struct session *session = session_find(handle);
  if (session != NULL) *session = sessions[--session_count];
  pthread_mutex_unlock(&session_lock);
}

void sessions_closed(CK_ULONG slot) {
  pthread_mutex_lock(&session_lock);
  size_t kept = 0;
  for (size_t i = 0; i < session_count; i++)
    if (sessions[i].slot != slot) sessions[kept++] = sessions[i];
  session_count = kept;
  pthread_mutex_unlock(&session_lock);
}

bool session_older(CK_ULONG handle, unsigned long generation) {
  pthread_mutex_lock(&session_lock);
  struct session *session = session_find(handle);
  bool older = session != NULL && session->generation < generation;
  pthread_mutex_unlock(&session_lock);
  return older;
}

void session_lose(CK_ULONG handle) {
  pthread_mutex_lock(&session_lock);
  struct session *session = session_find(handle);
  if (session != NULL) any_lost = session->lost = true;
  pthread_mutex_unlock(&session_lock);
}

bool session_lost(CK_ULONG handle) {
  if (!any_lost) return false;
  pthread_mutex_lock(&session_lock);
  struct session *session = session_find(handle);
  bool lost = session != NULL && session->lost;
  pthread_mutex_unlock(&session_lock);
  return lost;
}

/* A slot with a session of the application, or false. */
static bool any_slot(CK_ULONG *slot) {
  pthread_mutex_lock(&session_lock);
  bool found = session_count > 0;
  if (found) *slot = sessions[0].slot;
  pthread_mutex_unlock(&session_lock);
  return found;
}

/* ---- A map of non-zero numbers, open addressing ---- */

struct map {
  CK_ULONG *keys, *values;
  size_t room, count;
};

static size_t map_home(const struct map *map, CK_ULONG key) {
  return (size_t)((key * UINT64_C(0x9E3779B97F4A7C15)) >> 20) & (map->room - 1);
}

static size_t map_place(const struct map *map, CK_ULONG key) {
  size_t i = map_home(map, key);
  while (map->keys[i] != 0 && map->keys[i] != key) i = (i + 1) & (map->room - 1);
  return i;
}

/* 0 when there is none. */
static CK_ULONG map_get(const struct map *map, CK_ULONG key) {
  return map->room == 0 ? 0 : map->values[map_place(map, key)];
}

static void map_put(struct map *map, CK_ULONG key, CK_ULONG value);

static void map_grow(struct map *map) {
  struct map old = *map;
  map->room = old.room == 0 ? 1024 : 2 * old.room;
  map->count = 0;
  map->keys = calloc(map->room, sizeof *map->keys);
  map->values = calloc(map->room, sizeof *map->values);
  if (map->keys == NULL || map->values == NULL) abort();
  for (size_t i = 0; i < old.room; i++)
    if (old.keys[i] != 0) map_put(map, old.keys[i], old.values[i]);
  free(old.keys);
  free(old.values);
}

static void map_put(struct map *map, CK_ULONG key, CK_ULONG value) {
  if (2 * map->count >= map->room) map_grow(map);
  size_t i = map_place(map, key);
  if (map->keys[i] == 0) map->count++;
  map->keys[i] = key;
  map->values[i] = value;
}

/* What follows in the same run moves up, so that no gap cuts it off from its home. */
static void map_remove(struct map *map, CK_ULONG key) {
  if (map->room == 0) return;
  size_t gap = map_place(map, key), mask = map->room - 1;
  if (map->keys[gap] == 0) return;
  for (size_t i = (gap + 1) & mask; map->keys[i] != 0; i = (i + 1) & mask) {
    if (((i - map_home(map, map->keys[i])) & mask) < ((i - gap) & mask)) continue;
    map->keys[gap] = map->keys[i];
    map->values[gap] = map->values[i];
    gap = i;
  }
  map->keys[gap] = map->values[gap] = 0;
  map->count--;
}

static void map_clear(struct map *map) {
  free(map->keys);
  free(map->values);
  memset(map, 0, sizeof *map);
}

/* ---- Object handles ---- */

static pthread_mutex_t object_lock = PTHREAD_MUTEX_INITIALIZER;
static struct map real_of, application_of;
/* False while application handles are the real ones. */
static atomic_bool renumbered;
/* After renumber=invalid no handle may be what it was; `highest` was the greatest number seen on either side. */
static bool always_fresh;
static CK_ULONG highest;

bool object_to_real(CK_ULONG *handle) {
  if (!renumbered || *handle == 0) return true;
  pthread_mutex_lock(&object_lock);
  CK_ULONG found = map_get(&real_of, *handle);
  pthread_mutex_unlock(&object_lock);
  if (found != 0) *handle = found;
  return found != 0;
}

void object_to_application(CK_ULONG *handle) {
  if (*handle == 0) return;
  pthread_mutex_lock(&object_lock);
  CK_ULONG given = *handle, known = map_get(&application_of, given);
  if (given > highest) highest = given;
  if (known == 0) {
    known = always_fresh || map_get(&real_of, given) != 0 ? ++highest : given;
    map_put(&application_of, given, known);
    map_put(&real_of, known, given);
  }
  *handle = known;
  pthread_mutex_unlock(&object_lock);
}

void object_destroyed(CK_ULONG handle) {
  pthread_mutex_lock(&object_lock);
  CK_ULONG found = map_get(&real_of, handle);
  if (found != 0) {
    map_remove(&real_of, handle);
    map_remove(&application_of, found);
  }
  pthread_mutex_unlock(&object_lock);
}

struct known {
  CK_ULONG application, actual, class, key_type;
};

static bool attribute(CK_ULONG session, CK_ULONG object, CK_ULONG type, CK_ULONG *value) {
  CK_ATTRIBUTE template = {type, value, sizeof *value};
  return real->C_GetAttributeValue(session, object, &template, 1) == CKR_OK && template.ulValueLen == sizeof *value;
}

static int by_kind(const void *left, const void *right) {
  const struct known *a = left, *b = right;
  if (a->class != b->class) return a->class < b->class ? -1 : 1;
  if (a->key_type != b->key_type) return a->key_type < b->key_type ? -1 : 1;
  return a->application < b->application ? -1 : a->application > b->application;
}

/* Among objects of one kind each handle gets the object of the next one; objects that are gone lose theirs. */
static void permute(CK_ULONG session) {
  size_t count = 0;
  struct known *all = calloc(real_of.count + 1, sizeof *all);
  if (all == NULL) abort();
  for (size_t i = 0; i < real_of.room; i++) {
    if (real_of.keys[i] == 0) continue;
    struct known one = {real_of.keys[i], real_of.values[i], 0, CK_UNAVAILABLE_INFORMATION};
    if (!attribute(session, one.actual, CKA_CLASS, &one.class)) continue;
    if (!attribute(session, one.actual, CKA_KEY_TYPE, &one.key_type)) one.key_type = CK_UNAVAILABLE_INFORMATION;
    all[count++] = one;
  }
  qsort(all, count, sizeof *all, by_kind);
  map_clear(&real_of);
  map_clear(&application_of);
  for (size_t start = 0, end; start < count; start = end) {
    for (end = start + 1; end < count && all[end].class == all[start].class && all[end].key_type == all[start].key_type;) end++;
    for (size_t i = start; i < end; i++) {
      size_t next = i + 1 < end ? i + 1 : start;
      map_put(&real_of, all[i].application, all[next].actual);
      map_put(&application_of, all[next].actual, all[i].application);
    }
  }
  free(all);
}

bool objects_renumber(enum renumber how) {
  CK_ULONG slot, session;
  if (how == RENUMBER_INVALID) {
    pthread_mutex_lock(&object_lock);
    map_clear(&real_of);
    map_clear(&application_of);
    always_fresh = renumbered = true;
    pthread_mutex_unlock(&object_lock);
    return true;
  }
  /* A session of our own: one of the application's might be closed meanwhile. */
  if (!any_slot(&slot)) return false;
  if (real->C_OpenSession(slot, CKF_RW_SESSION | CKF_SERIAL_SESSION, NULL, NULL, &session) != CKR_OK) return false;
  pthread_mutex_lock(&object_lock);
  permute(session);
  renumbered = true;
  pthread_mutex_unlock(&object_lock);
  real->C_CloseSession(session);
  return true;
}

void tables_clear(void) {
  pthread_mutex_lock(&session_lock);
  session_count = 0;
  any_lost = false;
  pthread_mutex_unlock(&session_lock);
  pthread_mutex_lock(&object_lock);
  map_clear(&real_of);
  map_clear(&application_of);
  always_fresh = renumbered = false;
  pthread_mutex_unlock(&object_lock);
}
