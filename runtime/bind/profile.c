/* Profile: where the time of a piece of a script goes, for gls.profile (lua/gls/profile.lua). */
#include "bind.h"

#include "../base/profile.h"

static int start_profile(lua_State *L) {
  (void)L;
  profile_start();
  return 0;
}

/* profile_stop() -> list of { phase =, name =, calls =, seconds = }, seconds in all */
static int stop_profile(lua_State *L) {
  int count;
  double seconds;
  const struct profile_entry *entry = profile_stop(&count, &seconds);
  lua_createtable(L, count, 0);
  for (int i = 0; i < count; i++) {
    lua_createtable(L, 0, 4);
    lua_pushstring(L, entry[i].phase);
    lua_setfield(L, -2, "phase");
    lua_pushstring(L, entry[i].name);
    lua_setfield(L, -2, "name");
    lua_pushinteger(L, (lua_Integer)entry[i].calls);
    lua_setfield(L, -2, "calls");
    lua_pushnumber(L, entry[i].seconds);
    lua_setfield(L, -2, "seconds");
    lua_rawseti(L, -2, i + 1);
  }
  lua_pushnumber(L, seconds);
  return 2;
}

static const struct bind_function functions[] = {
    {"profile_start", start_profile, 0,
     "profile_start()\n"
     "What gls.profile begins with."},
    {"profile_stop", stop_profile, 0,
     "profile_stop() -> list, seconds\n"
     "What gls.profile ends with: { phase =, name =, calls =, seconds = } in the order of the first calls, and\n"
     "the time since profile_start."},
    {NULL, NULL, 0, NULL}};

void bind_open_profile(lua_State *L) { bind_functions(L, functions); }
