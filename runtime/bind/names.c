/* Names: the nearest of the known names to one that is not. */
#include "bind.h"

#include <string.h>

static int minimum(int a, int b) { return a < b ? a : b; }

/* Edit distance (Levenshtein) of short names. */
static int name_distance(const char *a, const char *b) {
  enum { LONGEST = 48 };
  int row[LONGEST + 1], length = (int)strlen(b);
  if (length > LONGEST) return LONGEST;
  for (int j = 0; j <= length; j++) row[j] = j;
  for (int i = 1; *a; a++, i++) {
    int diagonal = row[0];
    row[0] = i;
    for (int j = 1; j <= length; j++) {
      int above = row[j];
      row[j] = minimum(minimum(above, row[j - 1]) + 1, diagonal + (*a != b[j - 1]));
      diagonal = above;
    }
  }
  return row[length];
}

void bind_push_suggestion(lua_State *L, const char *given, const char *const *names) {
  const char *nearest = NULL;
  int least = (int)strlen(given) / 2 + 2;
  for (; *names; names++) {
    int distance = name_distance(given, *names);
    if (distance >= least) continue;
    least = distance;
    nearest = *names;
  }
  if (nearest)
    lua_pushfstring(L, "; did you mean \"%s\"?", nearest);
  else
    lua_pushliteral(L, "");
}
