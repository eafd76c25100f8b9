/* No_grad: gls.no_grad, a guard while which nothing is recorded. */
#include "bind.h"

#include "../grad/tape.h"

#define BIND_GUARD "gls.no_grad"

struct guard {
  bool closed, before;
};

static int guard_close(lua_State *L) {
  struct guard *guard = luaL_checkudata(L, 1, BIND_GUARD);
  if (!guard->closed) tape_set_enabled(guard->before);
  guard->closed = true;
  return 0;
}

void bind_push_guard(lua_State *L) {
  struct guard *guard = lua_newuserdatauv(L, sizeof *guard, 0);
  guard->closed = true;
  luaL_setmetatable(L, BIND_GUARD);
  guard->before = tape_set_enabled(false);
  guard->closed = false;
}

static int after_call(lua_State *L, int status, lua_KContext guard) {
  (void)status;
  int results = lua_gettop(L) - (int)guard;
  lua_closeslot(L, (int)guard);
  return results;
}

static int no_grad(lua_State *L) {
  if (lua_isnoneornil(L, 1)) {
    bind_push_guard(L);
    return 1;
  }
  luaL_checktype(L, 1, LUA_TFUNCTION);
  int arguments = lua_gettop(L) - 1;
  bind_push_guard(L);
  lua_insert(L, 1);
  lua_toclose(L, 1);
  lua_callk(L, arguments, LUA_MULTRET, 1, after_call);
  return after_call(L, LUA_OK, 1);
}

static int enabled(lua_State *L) {
  lua_pushboolean(L, tape_enabled());
  return 1;
}

static const struct bind_function metamethods[] = {{"__close", guard_close, NULL}, {NULL, NULL, NULL}};

static const struct bind_function functions[] = {{"no_grad", no_grad,
                                                  "no_grad(f, …) -> f(…); local _ <close> = no_grad()\n"
                                                  "Nothing is recorded while f runs, or until the end of the block."},
                                                 {"grad_enabled", enabled,
                                                  "grad_enabled() -> boolean\n"
                                                  "False inside no_grad."},
                                                 {NULL, NULL, NULL}};

void bind_open_no_grad(lua_State *L) {
  bind_class(L, BIND_GUARD, metamethods);
  bind_functions(L, functions);
}
