/* Place: a stack of names. */
#include "place.h"

#include <string.h>

#include "memory.h"
#include "profile.h"

enum { DEPTH = 128 };

_Thread_local const char *place;

static _Thread_local const char *outer[DEPTH];
static _Thread_local int depth; /* may be above DEPTH: those are in the place below */

struct name {
  struct name *next;
  char text[];
};

static struct name *names; /* all of them: they are never let go */

const char *place_name(const char *text) {
  for (const struct name *known = names; known; known = known->next)
    if (strcmp(known->text, text) == 0) return known->text;
  size_t bytes = strlen(text) + 1;
  struct name *name = memory_new(1, sizeof *name + bytes);
  if (!name) return NULL;
  memcpy(name->text, text, bytes);
  name->next = names;
  names = name;
  return name->text;
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
