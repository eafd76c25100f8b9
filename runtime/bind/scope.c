/* Scope: gls.scope, which releases the tensors made while it was open.
   A scope is a userdata with two tables: a list of the tensor userdata made in it, by weak references, and the set
   of those to keep. Open scopes are on a list in the registry, the innermost last. */
#include "bind.h"

#define BIND_SCOPE "gls.scope"

enum { LIST = 1, KEPT = 2 };

struct scope {
  lua_Integer count; /* entries of its list */
  int level;         /* its place among the open scopes, from 1; 0: closed */
};

int bind_open_scopes;

static const char stack_key; /* its address names the list of open scopes in the registry */

void bind_note_in_scope(lua_State *L) {
  luaL_checkstack(L, 4, "too many values");
  lua_rawgetp(L, LUA_REGISTRYINDEX, &stack_key);
  if (lua_rawgeti(L, -1, bind_open_scopes) == LUA_TUSERDATA) {
    struct scope *scope = lua_touserdata(L, -1);
    lua_getiuservalue(L, -1, LIST);
    lua_pushvalue(L, -4);
    lua_rawseti(L, -2, ++scope->count);
    lua_pop(L, 1);
  }
  lua_pop(L, 2);
}

static void push_weak_table(lua_State *L, const char *mode) {
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushstring(L, mode);
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
}

static int scope_open(lua_State *L) {
  struct scope *scope = lua_newuserdatauv(L, sizeof *scope, 2);
  *scope = (struct scope){0};
  luaL_setmetatable(L, BIND_SCOPE);
  push_weak_table(L, "v");
  lua_setiuservalue(L, -2, LIST);
  push_weak_table(L, "k");
  lua_setiuservalue(L, -2, KEPT);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &stack_key);
  lua_pushvalue(L, -2);
  lua_rawseti(L, -2, bind_open_scopes + 1);
  lua_pop(L, 1);
  scope->level = ++bind_open_scopes;
  return 1;
}

/* Releases what the scope at the top of the stack, the innermost open one, does not keep; the kept go to the scope
   around it. */
static void close_innermost(lua_State *L) {
  struct scope *scope = lua_touserdata(L, -1);
  lua_getiuservalue(L, -1, LIST);
  lua_getiuservalue(L, -2, KEPT);
  bind_open_scopes--;
  for (lua_Integer i = 1; i <= scope->count; i++) {
    if (lua_rawgeti(L, -2, i) == LUA_TUSERDATA) {
      struct tensor **slot = lua_touserdata(L, -1);
      lua_pushvalue(L, -1);
      bool kept = lua_rawget(L, -3) != LUA_TNIL;
      lua_pop(L, 1);
      if (!kept) {
        struct tensor *tensor = *slot;
        *slot = NULL;
        tensor_release(tensor);
      } else if (bind_open_scopes > 0) {
        bind_note_in_scope(L);
      }
    }
    lua_pop(L, 1);
  }
  lua_pop(L, 2);
  scope->level = 0;
  scope->count = 0;
}

static int scope_close(lua_State *L) {
  struct scope *scope = luaL_checkudata(L, 1, BIND_SCOPE);
  if (scope->level == 0) return 0;
  int level = scope->level;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &stack_key);
  while (bind_open_scopes >= level) { /* those inside it first */
    int innermost = bind_open_scopes;
    lua_rawgeti(L, -1, innermost);
    close_innermost(L);
    lua_pop(L, 1);
    lua_pushnil(L);
    lua_rawseti(L, -2, innermost);
  }
  return 0;
}

static int scope_keep(lua_State *L) {
  luaL_checkudata(L, 1, BIND_SCOPE);
  int top = lua_gettop(L);
  lua_getiuservalue(L, 1, KEPT);
  for (int i = 2; i <= top; i++) {
    bind_tensor(L, i);
    lua_pushvalue(L, i);
    lua_pushboolean(L, true);
    lua_rawset(L, -3);
  }
  lua_settop(L, top);
  return top - 1;
}

/* In each open scope's set, for a tensor that a scope keeps goes to the one around it. */
static int keep(lua_State *L) {
  int top = lua_gettop(L);
  for (int i = 1; i <= top; i++) bind_tensor(L, i);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &stack_key);
  for (int level = 1; level <= bind_open_scopes; level++) {
    lua_rawgeti(L, -1, level);
    lua_getiuservalue(L, -1, KEPT);
    for (int i = 1; i <= top; i++) {
      lua_pushvalue(L, i);
      lua_pushboolean(L, true);
      lua_rawset(L, -3);
    }
    lua_pop(L, 2);
  }
  lua_settop(L, top);
  return top;
}

static const struct bind_function methods[] = {{"__close", scope_close, NULL},
                                               {"keep", scope_keep,
                                                "scope:keep(x…) -> x…\n"
                                                "The tensors given outlive the scope."},
                                               {"close", scope_close,
                                                "scope:close()\n"
                                                "Ends the scope before its block ends."},
                                               {NULL, NULL, NULL}};

static const struct bind_function functions[] = {
    {"scope", scope_open,
     "local scope <close> = scope()\n"
     "At the end of the block releases every tensor made in it, but those given to scope:keep(…). Using a\n"
     "released one is an error."},
    {"keep", keep,
     "keep(x…) -> x…\n"
     "The tensors given outlive all scopes that are open, as the state of an optimizer or a recurrent layer does that "
     "is\n"
     "made within a step of train.fit."},
    {NULL, NULL, NULL}};

void bind_open_scope(lua_State *L) {
  bind_open_scopes = 0;
  lua_newtable(L);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &stack_key);
  bind_class(L, BIND_SCOPE, methods);
  bind_functions(L, functions);
}
