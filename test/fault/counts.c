/*
 * Calls and faults by function, in `<pid>.counts` in the directory KMS_FAULT_COUNTS names. The file is a shared mapping,
 * so that it is right after SIGKILL too. A process that happens to get the id of an earlier one counts on.
 */

#include "shim.h"
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* 64 bytes; shim.ts reads it. */
struct slot {
  char name[48];
  _Atomic uint64_t calls, faults;
};

static struct slot *slots;

void counts_open(const char *directory) {
  char path[4096];
  if (directory == NULL) return;
  snprintf(path, sizeof path, "%s/%ld.counts", directory, (long)getpid());
  int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  size_t size = FUNCTIONS * sizeof(struct slot);
  if (file < 0 || ftruncate(file, (off_t)size) != 0) {
    fprintf(stderr, "kmsfault: %s: cannot count there\n", path);
    if (file >= 0) close(file);
    return;
  }
  void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (memory == MAP_FAILED) return;
  slots = memory;
  for (int i = 0; i < FUNCTIONS; i++) strncpy(slots[i].name, function_names[i], sizeof slots[i].name - 1);
}

void count_call(enum function function) {
  if (slots != NULL) atomic_fetch_add_explicit(&slots[function].calls, 1, memory_order_relaxed);
}

void count_fault(enum function function) {
  if (slots != NULL) atomic_fetch_add_explicit(&slots[function].faults, 1, memory_order_relaxed);
}
