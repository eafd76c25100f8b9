/* Profile: a stack of open spans, a table of what the closed ones took, and a list of them. */
#include "profile.h"

#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "memory.h"
#include "place.h"

enum { ENTRIES = 4096, SLOTS = 2 * ENTRIES, DEPTH = 256 };

_Thread_local bool profile_on;
bool profile_counts;

static struct profile_entry entry[ENTRIES]; /* the last one takes all that finds no place */
static int entry_count;
static int slot[SLOTS]; /* hash table of entries, from 1; 0: free */
static struct {
  int entry;
  double start, inside;      /* seconds; of inner spans */
  int64_t operations, bytes; /* so far at its start */
  int64_t operations_inside, bytes_inside;
} span[DEPTH];
static int depth; /* may be above DEPTH: those count for the span below */
static double started;
static atomic_llong operations, bytes; /* so far */
static struct profile_event *event;
static int event_count, event_most;
static int64_t event_lost;

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static uint64_t mix(uint64_t hash, const char *text) {
  return (hash ^ (uint64_t)(uintptr_t)text) * 0x9E3779B97F4A7C15u;
}

static bool same(const struct profile_entry *e, const char *phase, const char *name) {
  return e->phase == phase && e->name == name && e->place == place;
}

/* By the addresses of the strings: those that are equal in two places are two entries. */
static int find(const char *phase, const char *name) {
  uint64_t at = mix(mix(mix(0, phase), name), place) >> 40;
  for (at %= SLOTS; slot[at]; at = (at + 1) % SLOTS)
    if (same(&entry[slot[at] - 1], phase, name)) return slot[at] - 1;
  if (entry_count == ENTRIES) return ENTRIES - 1;
  entry[entry_count] = (struct profile_entry){.phase = phase, .name = name, .place = place};
  if (entry_count == ENTRIES - 1)
    entry[entry_count] = (struct profile_entry){.phase = "more", .name = "more"};
  else
    slot[at] = entry_count + 1;
  return entry_count++;
}

void profile_start(int events) {
  entry_count = depth = event_count = event_most = 0;
  event_lost = 0;
  memset(slot, 0, sizeof slot);
  memory_delete(event);
  event = events > 0 ? memory_new((size_t)events, sizeof *event) : NULL;
  if (event) event_most = events;
  profile_on = true;
  __atomic_store_n(&profile_counts, true, __ATOMIC_RELAXED);
  started = now();
}

const struct profile_entry *profile_stop(int *count, double *seconds) {
  *seconds = profile_on ? now() - started : 0;
  *count = profile_on ? entry_count : 0;
  profile_on = false;
  __atomic_store_n(&profile_counts, false, __ATOMIC_RELAXED);
  return entry;
}

const struct profile_event *profile_events(int *count, int64_t *lost) {
  *count = event_count;
  *lost = event_lost;
  return event;
}

void profile_add(double more_operations, double more_bytes) {
  atomic_fetch_add_explicit(&operations, (long long)more_operations, memory_order_relaxed);
  atomic_fetch_add_explicit(&bytes, (long long)more_bytes, memory_order_relaxed);
}

void profile_enter(const char *phase, const char *name) {
  if (depth++ >= DEPTH) return;
  span[depth - 1].entry = find(phase, name);
  span[depth - 1].inside = 0;
  span[depth - 1].operations_inside = span[depth - 1].bytes_inside = 0;
  span[depth - 1].operations = atomic_load(&operations);
  span[depth - 1].bytes = atomic_load(&bytes);
  span[depth - 1].start = now();
}

bool profile_counted(void) {
  if (depth == 0 || depth > DEPTH) return true;
  return atomic_load(&operations) - span[depth - 1].operations != span[depth - 1].operations_inside;
}

void profile_leave(void) {
  if (depth == 0 || depth-- > DEPTH) return; /* 0: begun before the start */
  double whole = now() - span[depth].start;
  struct profile_entry *e = &entry[span[depth].entry];
  int64_t all_operations = atomic_load(&operations) - span[depth].operations;
  int64_t all_bytes = atomic_load(&bytes) - span[depth].bytes;
  e->calls++;
  e->seconds += whole - span[depth].inside;
  e->operations += (double)(all_operations - span[depth].operations_inside);
  e->bytes += (double)(all_bytes - span[depth].bytes_inside);
  if (depth > 0) {
    span[depth - 1].inside += whole;
    span[depth - 1].operations_inside += all_operations;
    span[depth - 1].bytes_inside += all_bytes;
  }
  if (event_count < event_most)
    event[event_count++] = (struct profile_event){span[depth].entry, span[depth].start - started, whole};
  else
    event_lost += event_most > 0;
}
