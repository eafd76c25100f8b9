/* Profile: wall-clock time, and what is computed and moved in it, by phase, name and place. Spans nest; each moment
   counts for the innermost one, so that the spans and what lies outside all of them add up to the whole. One thread is
   profiled, the one that started it; elsewhere, and when it is off, a span costs one test. */
#ifndef GLS_BASE_PROFILE_H
#define GLS_BASE_PROFILE_H

#include <stdbool.h>
#include <stdint.h>

struct profile_entry {
  const char *phase, *name, *place; /* place: NULL where no module is at work */
  int64_t calls;
  double seconds;
  double operations, bytes; /* floating-point operations; read and written, as if each were once */
};

/* One span that has ended. */
struct profile_event {
  int entry;
  double start, seconds; /* from the profile's start; with the spans inside */
};

extern _Thread_local bool profile_on;
extern bool profile_counts; /* what other threads compute for the profiled one counts too */

/* Forgets what was measured before. events: how many spans are kept one by one, at most. */
void profile_start(int events);
/* The entries in the order of their first call, until the next start; *seconds: from start to stop. */
const struct profile_entry *profile_stop(int *count, double *seconds);
/* What was kept of single spans; *lost: those for which there was no room. */
const struct profile_event *profile_events(int *count, int64_t *lost);

void profile_enter(const char *phase, const char *name);
void profile_leave(void);
void profile_add(double operations, double bytes);
/* Whether anything has been counted in the innermost span. */
bool profile_counted(void);

/* Strings that live as long as the profile. Every begin has its end, in the same function. */
static inline void profile_begin(const char *phase, const char *name) {
  if (profile_on) profile_enter(phase, name);
}
static inline void profile_end(void) {
  if (profile_on) profile_leave();
}
/* The end of a span whose last deed gave a status: profile_begin(…); STATUS_TRY(profile_ended(deed(…))). */
static inline int profile_ended(int status) {
  profile_end();
  return status;
}
/* What a kernel does, in the span under way. */
static inline void profile_count(double operations, double bytes) {
  if (__atomic_load_n(&profile_counts, __ATOMIC_RELAXED)) profile_add(operations, bytes);
}

#endif
