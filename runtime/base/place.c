/* Place: a stack of names. */
#include "place.h"

#include <string.h>

#include "memory.h"
#include "profile.h"

enum { DEPTH = 128 };

_Thread_local const char *place;

static _Thread_local const char *outer[DEPTH];
static _Thread_local int depth; /* may be above DEPTH: those are in the place below */

const char *place_name(const char *text) {
  size_t bytes = strlen(text) + 1;
  char *name = memory_new(bytes, 1);
  return name ? memcpy(name, text, bytes) : NULL;
}

void place_enter(const char *name) {
  if (depth++ >= DEPTH) return;
  outer[depth - 1] = place;
  place = name;
  profile_begin("module", name);
}

void place_leave(void) {
  if (depth == 0 || depth-- > DEPTH) return;
  profile_end();
  place = outer[depth];
}

int place_depth(void) { return depth; }

void place_unwind(int to) {
  while (depth > to) place_leave();
}
