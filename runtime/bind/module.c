/* Module: luaopen_gls_core joins the domains into one table. */
#include "bind.h"

#include "../base/version.h"

/* For the library's Lua files: an error at the user's line, and that line. */
static int raise_at_user(lua_State *L) { return bind_raise(L, luaL_tolstring(L, 1, NULL)); }

static int position(lua_State *L) {
  bind_push_position(L);
  return 1;
}

static const struct bind_function functions[] = {
    {"raise", raise_at_user, BIND_ANY, NULL}, {"position", position, BIND_ANY, NULL}, {NULL, NULL, 0, NULL}};

__attribute__((visibility("default"))) int luaopen_gls_core(lua_State *L) {
  lua_newtable(L);
  bind_push_docs(L);
  lua_setfield(L, -2, "docs");
  lua_pushliteral(L, GLSRUN_VERSION);
  lua_setfield(L, -2, "version");
  bind_functions(L, functions);
  bind_open_collector(L);
  bind_open_profile(L);
  bind_open_diagnose(L);
  bind_open_random(L);
  bind_open_signals(L);
  bind_open_threads(L);
  bind_open_tensor(L);
  bind_open_create(L);
  bind_open_ops(L);
  bind_open_operators(L);
  bind_open_names(L);
  bind_open_no_grad(L);
  bind_open_grad(L);
  bind_open_function(L);
  bind_open_fuse(L);
  bind_open_scope(L);
  bind_open_linalg(L);
  bind_open_optim(L);
  bind_open_io(L);
  lua_gc(L, LUA_GCGEN, 0, 0);
  return 1;
}
