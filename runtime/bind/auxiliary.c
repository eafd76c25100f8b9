/* Auxiliary: what every file here shares: raising errors, and registering functions with their docs. */
#include "bind.h"

#include <stdarg.h>
#include <string.h>

#include "../base/status.h"

static const char docs_key; /* its address names the table of docs in the registry */

/* True for a function of the library's own Lua files. */
static bool is_library(const lua_Debug *frame) {
  return frame->source[0] == '@' && strstr(frame->source, "lua/gls/") != NULL;
}

void bind_push_position(lua_State *L) {
  lua_Debug frame;
  luaL_checkstack(L, 4, "no room for a message");
  for (int level = 1; lua_getstack(L, level, &frame); level++) {
    lua_getinfo(L, "Sl", &frame);
    if (frame.currentline <= 0 || is_library(&frame)) continue;
    lua_pushfstring(L, "%s:%d: ", frame.short_src, frame.currentline);
    return;
  }
  lua_pushliteral(L, "");
}

int bind_raise(lua_State *L, const char *message) {
  bind_push_position(L);
  lua_pushstring(L, message);
  lua_concat(L, 2);
  return lua_error(L);
}

bool bind_is_active(lua_State *thread) {
  lua_Debug frame;
  return lua_status(thread) == LUA_OK && lua_getstack(thread, 0, &frame);
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

int bind_fail(lua_State *L, const char *format, ...) {
  va_list values;
  va_start(values, format);
  const char *message = lua_pushvfstring(L, format, values);
  va_end(values);
  return bind_raise(L, message);
}

/* ---- arguments ---- */

static int checked_call(lua_State *L);

/* What the function under way was registered with; NULL: it was not. */
static const struct bind_function *called(lua_State *L) {
  lua_Debug frame;
  if (!lua_getstack(L, 0, &frame) || !lua_getinfo(L, "f", &frame)) return NULL;
  const struct bind_function *function = NULL;
  if (lua_tocfunction(L, -1) == checked_call && lua_getupvalue(L, -1, 1)) {
    function = lua_touserdata(L, -1);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  return function;
}

static int wrong_call(lua_State *L, const char *message) {
  const struct bind_function *function = called(L);
  if (!function) return bind_raise(L, message);
  size_t length = strcspn(function->doc, "\n");
  lua_pushlstring(L, function->doc, length);
  return bind_fail(L, "%s: %s; the call is %s", function->name, message, lua_tostring(L, -1));
}

int bind_wrong_argument(lua_State *L, int i, const char *expected) {
  const char *got = lua_type(L, i) == LUA_TNUMBER ? luaL_tolstring(L, i, NULL)
                    : bind_test_tensor(L, i)      ? "a tensor"
                    : lua_isnoneornil(L, i)       ? "nothing"
                                                  : luaL_typename(L, i);
  return wrong_call(L, lua_pushfstring(L, "argument %d must be %s, got %s", i, expected, got));
}

void bind_check_argument(lua_State *L, bool good, int i, const char *message) {
  if (!good) wrong_call(L, lua_pushfstring(L, "argument %d: %s", i, message));
}

void bind_check_type(lua_State *L, int i, int type) {
  if (lua_type(L, i) == type) return;
  bind_wrong_argument(L, i, type == LUA_TBOOLEAN ? "true or false" : type == LUA_TTABLE ? "a table" : "a function");
}

lua_Integer bind_whole(lua_State *L, int i) {
  int whole;
  lua_Integer value = lua_tointegerx(L, i, &whole);
  if (!whole) bind_wrong_argument(L, i, "a whole number");
  return value;
}

lua_Number bind_number(lua_State *L, int i) {
  int number;
  lua_Number value = lua_tonumberx(L, i, &number);
  if (!number) bind_wrong_argument(L, i, "a number");
  return value;
}

const char *bind_text(lua_State *L, int i, size_t *length) {
  if (lua_type(L, i) != LUA_TSTRING) bind_wrong_argument(L, i, "a string");
  return lua_tolstring(L, i, length);
}

void bind_check_count(lua_State *L, int most) {
  int top = lua_gettop(L);
  while (top > most && lua_isnil(L, top)) top--;
  if (top > most) wrong_call(L, "too many arguments");
  if (lua_gettop(L) > most) lua_settop(L, most);
}

/* Upvalue: what the function was registered with. */
static int checked_call(lua_State *L) {
  const struct bind_function *function = lua_touserdata(L, lua_upvalueindex(1));
  bind_check_count(L, function->most);
  return function->function(L);
}

/* ---- registering ---- */

void bind_functions(lua_State *L, const struct bind_function *functions) {
  bind_push_docs(L);
  for (const struct bind_function *f = functions; f->name; f++) {
    if (f->doc) {
      lua_pushlightuserdata(L, (void *)f);
      lua_pushcclosure(L, checked_call, 1);
    } else {
      lua_pushcfunction(L, f->function);
    }
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

lua_Integer bind_length(lua_State *L, int i, const char *where) {
  lua_Integer count = 0, last = 0;
  i = lua_absindex(L, i);
  luaL_checkstack(L, 4, "lists too deep");
  for (lua_pushnil(L); lua_next(L, i); lua_pop(L, 1)) {
    lua_Integer key = lua_isinteger(L, -2) ? lua_tointeger(L, -2) : 0;
    if (key < 1) continue;
    count++;
    if (key > last) last = key;
  }
  for (lua_Integer k = 1; count < last; k++)
    if (lua_rawgeti(L, i, k) == LUA_TNIL)
      bind_fail(L, "%s: entry %I of the list is nil (a misspelt variable?), entry %I is not", where, k, last);
    else
      lua_pop(L, 1);
  return last;
}

int64_t bind_integer_field(lua_State *L, int i, const char *name, int64_t absent) {
  int whole = 1;
  int64_t value = absent;
  if (lua_getfield(L, i, name) != LUA_TNIL) value = lua_tointegerx(L, -1, &whole);
  if (!whole) bind_fail(L, "%s: a whole number expected", name);
  lua_pop(L, 1);
  return value;
}

bool bind_flag_field(lua_State *L, int i, const char *name) {
  lua_getfield(L, i, name);
  bool value = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return value;
}
