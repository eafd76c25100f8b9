/* Module: luaopen_gls_core joins the domains into one table, and the means they share: errors, registration, docs. */
#include "bind.h"

#include <string.h>

#include "../base/status.h"
#include "../base/version.h"

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

/* The table of docs, made at its first use. */
static void push_docs(lua_State *L) {
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &docs_key) == LUA_TTABLE) return;
  lua_pop(L, 1);
  lua_newtable(L);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &docs_key);
}

void bind_functions(lua_State *L, const struct bind_function *functions) {
  push_docs(L);
  for (const struct bind_function *f = functions; f->name; f++) {
    lua_pushcfunction(L, f->function);
    lua_setfield(L, -3, f->name);
    if (!f->doc) continue;
    lua_pushstring(L, f->doc);
    lua_setfield(L, -2, f->name);
  }
  lua_pop(L, 1);
}

__attribute__((visibility("default"))) int luaopen_gls_core(lua_State *L) {
  lua_newtable(L);
  push_docs(L);
  lua_setfield(L, -2, "docs");
  lua_pushliteral(L, GLSRUN_VERSION);
  lua_setfield(L, -2, "version");
  bind_open_memory(L);
  bind_open_tensor(L);
  bind_open_create(L);
  bind_open_ops(L);
  bind_open_grad(L);
  bind_open_fuse(L);
  bind_open_scope(L);
  bind_open_linalg(L);
  bind_open_optim(L);
  bind_open_io(L);
  lua_gc(L, LUA_GCGEN, 0, 0);
  return 1;
}
