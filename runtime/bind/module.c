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

/* The domains, and the group of the help that what each registers is listed under; rows say theirs. */
static const struct {
  void (*open)(lua_State *L);
  const char *group;
} domains[] = {{bind_open_collector, "storage"},    {bind_open_profile, "the runtime"},
               {bind_open_diagnose, "the runtime"}, {bind_open_random, "random numbers"},
               {bind_open_signals, "the runtime"},  {bind_open_threads, "the runtime"},
               {bind_open_tensor, "tensors"},       {bind_open_create, "creation"},
               {bind_open_ops, "the runtime"},      {bind_open_operators, "tensors"},
               {bind_open_names, "the runtime"},    {bind_open_no_grad, "derivatives"},
               {bind_open_grad, "derivatives"},     {bind_open_function, "derivatives"},
               {bind_open_watch, "derivatives"},    {bind_open_fuse, "derivatives"},
               {bind_open_scope, "storage"},        {bind_open_linalg, "linear algebra"},
               {bind_open_optim, "derivatives"},    {bind_open_io, "files"}};

/* Every name with a doc and without a group gets this one, or its row's. Module, docs and groups are on the stack. */
static void note_groups(lua_State *L, int docs, int groups, const char *group) {
  for (lua_pushnil(L); lua_next(L, docs);) {
    lua_pop(L, 1);
    lua_pushvalue(L, -1);
    bool known = lua_rawget(L, groups) != LUA_TNIL;
    lua_pop(L, 1);
    if (known) continue;
    const char *row = op_group(lua_tostring(L, -1));
    lua_pushvalue(L, -1);
    lua_pushstring(L, row ? row : group);
    lua_rawset(L, groups);
  }
}

__attribute__((visibility("default"))) int luaopen_gls_core(lua_State *L) {
  lua_newtable(L);
  bind_push_docs(L);
  lua_pushvalue(L, -1);
  lua_setfield(L, -3, "docs");
  lua_newtable(L);
  lua_pushvalue(L, -1);
  lua_setfield(L, -4, "groups");
  int groups = lua_gettop(L);
  lua_pushliteral(L, GLSRUN_VERSION);
  lua_setfield(L, groups - 2, "version");
  lua_pushvalue(L, groups - 2);
  bind_functions(L, functions);
  for (size_t i = 0; i < sizeof domains / sizeof domains[0]; i++) {
    domains[i].open(L);
    note_groups(L, groups - 1, groups, domains[i].group);
  }
  lua_gc(L, LUA_GCGEN, 0, 0);
  return 1;
}
