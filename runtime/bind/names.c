/* Names: the nearest of the known names to one that is not. */
#include "bind.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

static int minimum(int a, int b) { return a < b ? a : b; }

enum { LONGEST = 48 };

/* Edit distance of short names, where letters are equal whatever their case and two neighbours that are swapped count
   as one (optimal string alignment). */
static int name_distance(const char *a, const char *b) {
  int rows[3][LONGEST + 1], length = (int)strlen(b);
  int *row = rows[0], *before = rows[1], *before_that = rows[2];
  if (length > LONGEST) return LONGEST;
  for (int j = 0; j <= length; j++) row[j] = j;
  for (int i = 1; a[i - 1]; i++) {
    int *oldest = before_that;
    before_that = before;
    before = row;
    row = oldest;
    row[0] = i;
    for (int j = 1; j <= length; j++) {
      int x = tolower((unsigned char)a[i - 1]), y = tolower((unsigned char)b[j - 1]);
      row[j] = minimum(minimum(before[j], row[j - 1]) + 1, before[j - 1] + (x != y));
      if (i > 1 && j > 1 && x == tolower((unsigned char)b[j - 2]) && y == tolower((unsigned char)a[i - 2]))
        row[j] = minimum(row[j], before_that[j - 2] + 1);
    }
  }
  return row[length];
}

struct search {
  const char *given, *nearest;
  int least;
};

static struct search search_for(const char *given) { return (struct search){given, NULL, 0}; }

static void consider(struct search *search, const char *name) {
  int given_length = (int)strlen(search->given), length = (int)strlen(name), shorter = minimum(given_length, length);
  int distance = name_distance(search->given, name), most = shorter / 2 > 1 ? shorter / 2 : 1;
  /* A name that is begun or continued is near. */
  if (given_length >= 3 && shorter > 0 && strncasecmp(search->given, name, (size_t)shorter) == 0)
    distance = minimum(distance, 1);
  if (distance > most) return;
  if (search->nearest && (distance > search->least || (distance == search->least && strcmp(name, search->nearest) > 0)))
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

/* nearest(given, list) -> the nearest of the names in a list, or nil */
static int nearest(lua_State *L) {
  struct search search = search_for(luaL_checkstring(L, 1));
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_Integer count = luaL_len(L, 2);
  for (lua_Integer i = 1; i <= count; i++) {
    if (lua_rawgeti(L, 2, i) == LUA_TSTRING) consider(&search, lua_tostring(L, -1));
    lua_pop(L, 1); /* the list keeps the string */
  }
  lua_pushstring(L, search.nearest);
  return 1;
}

static const struct bind_function functions[] = {{"nearest", nearest, 2, NULL}, {NULL, NULL, 0, NULL}};

void bind_open_names(lua_State *L) { bind_functions(L, functions); }
