/* Profile: wall-clock time by phase and name. Spans nest; each moment counts for the innermost one, so that the spans
   and what lies outside all of them add up to the whole. One thread is profiled, the one that started it; elsewhere,
   and when it is off, a span costs one test. */
#ifndef GLS_BASE_PROFILE_H
#define GLS_BASE_PROFILE_H

#include <stdbool.h>
#include <stdint.h>

struct profile_entry {
  const char *phase, *name;
  int64_t calls;
  double seconds;
};

extern _Thread_local bool profile_on;

void profile_start(void); /* forgets what was measured before */
/* The entries in the order of their first call, until the next start; *seconds: from start to stop. */
const struct profile_entry *profile_stop(int *count, double *seconds);

void profile_enter(const char *phase, const char *name);
void profile_leave(void);

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

#endif
