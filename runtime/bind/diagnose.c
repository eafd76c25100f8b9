/* Diagnose: the names of modules at work, for gls.anomaly and gls.profile; gls.anomaly. */
#include "bind.h"

#include "../base/place.h"
#include "../grad/anomaly.h"

/* place_name(text): a handle of it that lasts */
static int name_place(lua_State *L) {
  const char *name = place_name(bind_text(L, 1, NULL));
  if (!name) return bind_error(L);
  lua_pushlightuserdata(L, (void *)name);
  return 1;
}

static int enter_place(lua_State *L) {
  luaL_checktype(L, 1, LUA_TLIGHTUSERDATA);
  place_enter(lua_touserdata(L, 1));
  return 0;
}

static int leave_place(lua_State *L) {
  (void)L;
  place_leave();
  return 0;
}

static int depth_of_places(lua_State *L) {
  lua_pushinteger(L, place_depth());
  return 1;
}

static int unwind_places(lua_State *L) {
  place_unwind((int)bind_whole(L, 1));
  return 0;
}

/* set_anomaly(flag) -> what was */
static int set_anomaly(lua_State *L) {
  bind_check_type(L, 1, LUA_TBOOLEAN);
  lua_pushboolean(L, anomaly_on);
  anomaly_set(lua_toboolean(L, 1));
  return 1;
}

static const struct bind_function functions[] = {{"place_name", name_place, BIND_ANY, NULL},
                                                 {"enter_place", enter_place, BIND_ANY, NULL},
                                                 {"leave_place", leave_place, BIND_ANY, NULL},
                                                 {"place_depth", depth_of_places, BIND_ANY, NULL},
                                                 {"unwind_places", unwind_places, BIND_ANY, NULL},
                                                 {"set_anomaly", set_anomaly, BIND_ANY, NULL},
                                                 {NULL, NULL, 0, NULL}};

void bind_open_diagnose(lua_State *L) { bind_functions(L, functions); }
