/* Profile: where the time of a piece of a script goes, for gls.profile (lua/gls/profile.lua). */
#include "bind.h"

#include "../base/profile.h"
#include "../io/io.h"

/* profile_start(events) */
static int start_profile(lua_State *L) {
  profile_start((int)luaL_optinteger(L, 1, 0));
  return 0;
}

static void set_text(lua_State *L, const char *name, const char *text) {
  lua_pushstring(L, text);
  lua_setfield(L, -2, name);
}

static void set_number(lua_State *L, const char *name, double number) {
  lua_pushnumber(L, number);
  lua_setfield(L, -2, name);
}

static int stop_profile(lua_State *L) {
  int count;
  double seconds;
  const struct profile_entry *entry = profile_stop(&count, &seconds);
  lua_createtable(L, count, 0);
  for (int i = 0; i < count; i++) {
    lua_createtable(L, 0, 7);
    set_text(L, "phase", entry[i].phase);
    set_text(L, "name", entry[i].name);
    if (entry[i].place) set_text(L, "module", entry[i].place);
    lua_pushinteger(L, (lua_Integer)entry[i].calls);
    lua_setfield(L, -2, "calls");
    set_number(L, "seconds", entry[i].seconds);
    set_number(L, "flops", entry[i].operations);
    set_number(L, "bytes", entry[i].bytes);
    lua_rawseti(L, -2, i + 1);
  }
  lua_pushnumber(L, seconds);
  return 2;
}

/* profile_trace(path) -> spans written, spans for which there was no room */
static int write_trace(lua_State *L) {
  const char *path = bind_path(L, 1);
  int count, entries;
  int64_t lost;
  double seconds;
  const struct profile_event *event = profile_events(&count, &lost);
  bind_check(L, trace_write(path, profile_stop(&entries, &seconds), event, count));
  lua_pushinteger(L, count);
  lua_pushinteger(L, (lua_Integer)lost);
  return 2;
}

static const struct bind_function functions[] = {
    {"profile_start", start_profile, 1,
     "profile_start(events=0)\n"
     "What gls.profile begins with; events: how many spans are kept for profile_trace."},
    {"profile_stop", stop_profile, 0,
     "profile_stop() -> list, seconds\n"
     "What gls.profile ends with: { phase =, name =, module =, calls =, seconds =, flops =, bytes = } in the order\n"
     "of the first calls, and the time since profile_start."},
    {"profile_trace", write_trace, 1,
     "profile_trace(path) -> count, lost\n"
     "Writes the spans of the last profile one by one, for ui.perfetto.dev or chrome://tracing; lost: those that\n"
     "found no room."},
    {NULL, NULL, 0, NULL}};

void bind_open_profile(lua_State *L) { bind_functions(L, functions); }
