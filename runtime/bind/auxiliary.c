/* Auxiliary: what every file here shares: raising errors, and registering functions with their docs. */
#include "bind.h"

#include <string.h>

#include "../base/status.h"

static const char docs_key; /* its address names the table of docs in the registry */

/* True for a function of the library's own Lua files. */
static bool is_library(const lua_Debug *frame) {
  return frame->source[0] == '@' && strstr(frame->source, "lua/gls/") != NULL;
}

int bind_raise(lua_State *L, const char *message) {
  lua_Debug frame;
  luaL_checkstack(L, 4, "no room for a message");
  for (int level = 1; lua_getstack(L, level, &frame); level++) {
    lua_getinfo(L, "Sl", &frame);
    if (frame.currentline <= 0 || is_library(&frame)) continue;
    lua_pushfstring(L, "%s:%d: %s", frame.short_src, frame.currentline, message);
    return lua_error(L);
  }
  lua_pushstring(L, message);
  return lua_error(L);
}

int bind_error(lua_State *L) { return bind_raise(L, status_message()); }

void bind_check(lua_State *L, int status) {
  if (status != STATUS_OK) bind_error(L);
}

void bind_push_docs(lua_State *L) {
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &docs_key) == LUA_TTABLE) return;
  lua_pop(L, 1);
  lua_newtable(L);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &docs_key);
}

void bind_functions(lua_State *L, const struct bind_function *functions) {
  bind_push_docs(L);
  for (const struct bind_function *f = functions; f->name; f++) {
    lua_pushcfunction(L, f->function);
    lua_setfield(L, -3, f->name);
    if (!f->doc) continue;
    lua_pushstring(L, f->doc);
    lua_setfield(L, -2, f->name);
  }
  lua_pop(L, 1);
}

void bind_class(lua_State *L, const char *name, const struct bind_function *methods) {
  luaL_newmetatable(L, name);
  bind_functions(L, methods);
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
}

int64_t bind_integer_field(lua_State *L, int i, const char *name, int64_t absent) {
  int whole = 1;
  int64_t value = absent;
  if (lua_getfield(L, i, name) != LUA_TNIL) value = lua_tointegerx(L, -1, &whole);
  if (!whole) luaL_error(L, "%s: a whole number expected", name);
  lua_pop(L, 1);
  return value;
}

bool bind_flag_field(lua_State *L, int i, const char *name) {
  lua_getfield(L, i, name);
  bool value = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return value;
}
