/* No_grad: gls.no_grad, a guard while which nothing is recorded. A guard counts for the coroutine that opened it, and
   for those that this one resumes: while it is suspended, and once it is dropped, the others record. */
#include "bind.h"

#include "../grad/tape.h"

#define BIND_GUARD "gls.no_grad"

struct guard {
  bool open, marks;
  lua_State *owner; /* kept alive by the userdata's value */
  struct guard *next;
};

static struct guard *first; /* of the open ones */
static int unrecorded;      /* what C runs that is not recorded, and guards that were lost without being closed */

bool bind_recording(void) {
  bool off = unrecorded > 0, marks = false;
  for (const struct guard *guard = first; guard; guard = guard->next) {
    bool active = bind_is_active(guard->owner);
    off = off || active;
    marks = marks || (active && guard->marks);
  }
  tape_set_enabled(!off);
  tape_mark_unrecorded(marks);
  return !off;
}

void bind_unrecorded(int change) {
  unrecorded += change;
  bind_recording();
}

static bool take_out(struct guard *guard) {
  if (!guard->open) return false;
  struct guard **place = &first;
  while (*place != guard) place = &(*place)->next;
  *place = guard->next;
  guard->open = false;
  return true;
}

static int guard_close(lua_State *L) {
  take_out(luaL_checkudata(L, 1, BIND_GUARD));
  bind_recording();
  return 0;
}

/* A guard that its coroutine, dropped, can no longer close ends here. One that the script forgot to close stays open,
   as it would if the collector came later. */
static int guard_lost(lua_State *L) {
  struct guard *guard = luaL_checkudata(L, 1, BIND_GUARD);
  bool active = guard->open && bind_is_active(guard->owner);
  if (take_out(guard) && active) unrecorded++;
  bind_recording();
  return 0;
}

void bind_push_guard(lua_State *L, bool marks) {
  struct guard *guard = lua_newuserdatauv(L, sizeof *guard, 1);
  *guard = (struct guard){.owner = L, .marks = marks};
  luaL_setmetatable(L, BIND_GUARD);
  lua_pushthread(L);
  lua_setiuservalue(L, -2, 1);
  guard->open = true;
  guard->next = first;
  first = guard;
  bind_recording();
}

static int after_call(lua_State *L, int status, lua_KContext guard) {
  (void)status;
  int results = lua_gettop(L) - (int)guard;
  lua_closeslot(L, (int)guard);
  return results;
}

static int no_grad(lua_State *L) {
  if (lua_isnoneornil(L, 1)) {
    bind_push_guard(L, false);
    return 1;
  }
  bind_check_type(L, 1, LUA_TFUNCTION);
  int arguments = lua_gettop(L) - 1;
  bind_push_guard(L, false);
  lua_insert(L, 1);
  lua_toclose(L, 1);
  lua_callk(L, arguments, LUA_MULTRET, 1, after_call);
  return after_call(L, LUA_OK, 1);
}

static int enabled(lua_State *L) {
  lua_pushboolean(L, bind_recording());
  return 1;
}

static const struct bind_function metamethods[] = {
    {"__close", guard_close, BIND_ANY, NULL}, {"__gc", guard_lost, BIND_ANY, NULL}, {NULL, NULL, 0, NULL}};

static const struct bind_function functions[] = {{"no_grad", no_grad, BIND_ANY,
                                                  "no_grad(f, …) -> f(…); local _ <close> = no_grad()\n"
                                                  "Nothing is recorded while f runs, or until the end of the block."},
                                                 {"grad_enabled", enabled, 0,
                                                  "grad_enabled() -> boolean\n"
                                                  "False inside no_grad."},
                                                 {NULL, NULL, 0, NULL}};

void bind_open_no_grad(lua_State *L) {
  bind_class(L, BIND_GUARD, metamethods);
  bind_functions(L, functions);
}
