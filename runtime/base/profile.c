/* Profile: a stack of open spans, and a table of what the closed ones took. */
#include "profile.h"

#include <string.h>
#include <time.h>

enum { ENTRIES = 256, DEPTH = 64 };

_Thread_local bool profile_on;

static struct profile_entry entry[ENTRIES]; /* the last one takes all that finds no place */
static int entry_count;
static struct {
  int entry;
  double start, inside; /* seconds; of inner spans */
} span[DEPTH];
static int depth; /* may be above DEPTH: those count for the span below */
static double started;

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static bool same(const struct profile_entry *e, const char *phase, const char *name) {
  return (e->phase == phase || strcmp(e->phase, phase) == 0) && (e->name == name || strcmp(e->name, name) == 0);
}

static int find(const char *phase, const char *name) {
  for (int i = 0; i < entry_count; i++)
    if (same(&entry[i], phase, name)) return i;
  if (entry_count == ENTRIES) return ENTRIES - 1;
  entry[entry_count] = (struct profile_entry){.phase = phase, .name = name};
  if (entry_count == ENTRIES - 1) entry[entry_count].phase = entry[entry_count].name = "more";
  return entry_count++;
}

void profile_start(void) {
  entry_count = depth = 0;
  profile_on = true;
  started = now();
}

const struct profile_entry *profile_stop(int *count, double *seconds) {
  *seconds = profile_on ? now() - started : 0;
  *count = profile_on ? entry_count : 0;
  profile_on = false;
  return entry;
}

void profile_enter(const char *phase, const char *name) {
  if (depth++ >= DEPTH) return;
  span[depth - 1].entry = find(phase, name);
  span[depth - 1].inside = 0;
  span[depth - 1].start = now();
}

void profile_leave(void) {
  if (depth == 0 || depth-- > DEPTH) return; /* 0: begun before the start */
  double whole = now() - span[depth].start;
  struct profile_entry *e = &entry[span[depth].entry];
  e->calls++;
  e->seconds += whole - span[depth].inside;
  if (depth > 0) span[depth - 1].inside += whole;
}
