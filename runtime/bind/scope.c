/* Scope: gls.scope, which releases the tensors made while it was open, by the coroutine that opened it and those that
   this one resumes.
   A scope is a userdata with three values: a list of the tensor userdata made in it, by weak references, the set of
   those to keep, and its coroutine. A weak table in the registry finds the userdata of an open scope. */
#include "bind.h"

#define BIND_SCOPE "gls.scope"

enum { LIST = 1, KEPT = 2, OWNER = 3, VALUES = 3 };

struct scope {
  bool open;
  lua_State *owner;
  lua_Integer count; /* entries of its list */
  struct scope *outer;
};

static struct scope *innermost; /* of the open ones */

static const char scopes_key; /* its address names the table of scopes in the registry */

bool bind_in_scope(void) { return innermost != NULL; }

void bind_note_in_scope(lua_State *L) {
  struct scope *scope = innermost;
  while (scope && !bind_is_active(scope->owner)) scope = scope->outer;
  if (!scope) return;
  luaL_checkstack(L, 4, "too many values");
  lua_rawgetp(L, LUA_REGISTRYINDEX, &scopes_key);
  if (lua_rawgetp(L, -1, scope) == LUA_TUSERDATA) {
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
  struct scope *scope = lua_newuserdatauv(L, sizeof *scope, VALUES);
  *scope = (struct scope){.owner = L};
  luaL_setmetatable(L, BIND_SCOPE);
  push_weak_table(L, "v");
  lua_setiuservalue(L, -2, LIST);
  push_weak_table(L, "k");
  lua_setiuservalue(L, -2, KEPT);
  lua_pushthread(L);
  lua_setiuservalue(L, -2, OWNER);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &scopes_key);
  lua_pushvalue(L, -2);
  lua_rawsetp(L, -2, scope);
  lua_pop(L, 1);
  scope->open = true;
  scope->outer = innermost;
  innermost = scope;
  return 1;
}

static void take_out(struct scope *scope) {
  struct scope **place = &innermost;
  while (*place != scope) place = &(*place)->outer;
  *place = scope->outer;
  scope->open = false;
}

/* Releases what the scope at the top of the stack, an open one, does not keep; the kept go to the scope around it. */
static void close_scope(lua_State *L) {
  struct scope *scope = lua_touserdata(L, -1);
  take_out(scope);
  lua_getiuservalue(L, -1, LIST);
  lua_getiuservalue(L, -2, KEPT);
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
      } else {
        bind_note_in_scope(L);
      }
    }
    lua_pop(L, 1);
  }
  lua_pop(L, 2);
  scope->count = 0;
}

/* Those that its coroutine opened after it, and did not close, are closed first. */
static int scope_close(lua_State *L) {
  struct scope *scope = luaL_checkudata(L, 1, BIND_SCOPE);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &scopes_key);
  while (scope->open) {
    struct scope *inside = innermost;
    while (inside->owner != scope->owner) inside = inside->outer;
    if (lua_rawgetp(L, -1, inside) == LUA_TUSERDATA)
      close_scope(L);
    else
      take_out(inside); /* it is being collected */
    lua_pop(L, 1);
  }
  return 0;
}

/* Of a coroutine that was dropped: its tensors are the collector's. */
static int scope_lost(lua_State *L) {
  struct scope *scope = luaL_checkudata(L, 1, BIND_SCOPE);
  if (scope->open) take_out(scope);
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
  lua_rawgetp(L, LUA_REGISTRYINDEX, &scopes_key);
  for (struct scope *scope = innermost; scope; scope = scope->outer) {
    if (lua_rawgetp(L, -1, scope) == LUA_TUSERDATA) {
      lua_getiuservalue(L, -1, KEPT);
      for (int i = 1; i <= top; i++) {
        lua_pushvalue(L, i);
        lua_pushboolean(L, true);
        lua_rawset(L, -3);
      }
      lua_pop(L, 1);
    }
    lua_pop(L, 1);
  }
  lua_settop(L, top);
  return top;
}

static const struct bind_function methods[] = {{"__close", scope_close, BIND_ANY, NULL},
                                               {"__gc", scope_lost, BIND_ANY, NULL},
                                               {"keep", scope_keep, BIND_ANY,
                                                "scope:keep(x…) -> x…\n"
                                                "The tensors given outlive the scope."},
                                               {"close", scope_close, 1,
                                                "scope:close()\n"
                                                "Ends the scope before its block ends."},
                                               {NULL, NULL, 0, NULL}};

static const struct bind_function functions[] = {
    {"scope", scope_open, 0,
     "local scope <close> = scope()\n"
     "At the end of the block releases every tensor made in it, but those given to scope:keep(…). Using a\n"
     "released one is an error."},
    {"keep", keep, BIND_ANY,
     "keep(x…) -> x…\n"
     "The tensors given outlive all scopes that are open, as the state of an optimizer or a recurrent layer does\n"
     "that is made within a step of train.fit."},
    {NULL, NULL, 0, NULL}};

void bind_open_scope(lua_State *L) {
  push_weak_table(L, "v");
  lua_rawsetp(L, LUA_REGISTRYINDEX, &scopes_key);
  bind_class(L, BIND_SCOPE, methods);
  bind_functions(L, functions);
}
