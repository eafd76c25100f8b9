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

struct search {
  const char *given, *nearest;
  int least;
};

static struct search search_for(const char *given) { return (struct search){given, NULL, (int)strlen(given) / 2 + 2}; }

static void consider(struct search *search, const char *name) {
  int distance = name_distance(search->given, name);
  if (distance > search->least ||
      (distance == search->least && (!search->nearest || strcmp(name, search->nearest) > 0)))
    return; /* of several as near the first in order, whatever the order of a table */
  search->least = distance;
  search->nearest = name;
}

static void push_found(lua_State *L, const struct search *search) {
  if (search->nearest)
    lua_pushfstring(L, "; did you mean \"%s\"?", search->nearest);
  else
    lua_pushliteral(L, "");
}

void bind_push_suggestion(lua_State *L, const char *given, const char *const *names) {
  struct search search = search_for(given);
  for (; *names; names++) consider(&search, *names);
  push_found(L, &search);
}

void bind_push_suggestion_of_keys(lua_State *L, const char *given, int table) {
  struct search search = search_for(given);
  table = lua_absindex(L, table);
  for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1))
    if (lua_type(L, -2) == LUA_TSTRING) consider(&search, lua_tostring(L, -2));
  push_found(L, &search);
}
