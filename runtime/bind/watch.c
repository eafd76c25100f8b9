/* Watch: watch_gradients, a function of the script's that is told of each gradient as soon as backward has finished it.
   The userdata holds the leaves; its value is the function; a weak table in the registry finds it. */
#include "bind.h"

#include "../grad/tape.h"

#define WATCH "gls.watch"

struct entry {
  struct gradient_watch watch; /* first: the leaf points here */
  struct watches *all;
  struct tensor *leaf; /* owned */
};

struct watches {
  lua_State *main; /* for when no call of the binding is under way */
  int count;
  struct entry entry[];
};

static const char watches_key; /* its address names the weak table: address → userdata */

static int call_ready(lua_State *L) {
  const struct entry *entry = lua_touserdata(L, 1);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &watches_key);
  if (lua_rawgetp(L, -1, entry->all) == LUA_TNIL) return 0; /* being collected */
  lua_getiuservalue(L, -1, 1);
  lua_pushinteger(L, entry - entry->all->entry + 1);
  lua_call(L, 1, 0);
  return 0;
}

static int ready(struct gradient_watch *watch) {
  struct entry *entry = (struct entry *)watch;
  lua_State *L = bind_running ? bind_running : entry->all->main;
  int top = lua_gettop(L), status = STATUS_OK;
  if (!lua_checkstack(L, 8)) return status_error("watch_gradients: no room on Lua's stack");
  bind_unrecorded(1);
  lua_pushcfunction(L, call_ready);
  lua_pushlightuserdata(L, entry);
  if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
    const char *message = lua_tostring(L, -1);
    status = status_error("%s", message ? message : "watch_gradients: an error whose value is not a message");
  }
  lua_settop(L, top);
  bind_unrecorded(-1);
  return status;
}

/* watch_gradients(parameters, f) -> watch */
static int watch_gradients(lua_State *L) {
  bind_check_type(L, 1, LUA_TTABLE);
  bind_check_type(L, 2, LUA_TFUNCTION);
  int count = (int)bind_length(L, 1, "watch_gradients");
  struct watches *all = lua_newuserdatauv(L, sizeof *all + (size_t)count * sizeof all->entry[0], 1);
  all->count = 0;
  luaL_setmetatable(L, WATCH);
  lua_pushvalue(L, 2);
  lua_setiuservalue(L, -2, 1);
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  all->main = lua_tothread(L, -1);
  lua_pop(L, 1);
  for (int i = 0; i < count; i++) {
    lua_rawgeti(L, 1, i + 1);
    struct tensor *leaf = bind_tensor(L, -1);
    lua_pop(L, 1);
    all->entry[i] = (struct entry){.watch = {.ready = ready}, .all = all, .leaf = tensor_retain(leaf)};
    leaf->watch = &all->entry[i].watch;
    all->count++;
  }
  lua_rawgetp(L, LUA_REGISTRYINDEX, &watches_key);
  lua_pushvalue(L, -2);
  lua_rawsetp(L, -2, all);
  lua_pop(L, 1);
  return 1;
}

static int release(lua_State *L) {
  struct watches *all = luaL_checkudata(L, 1, WATCH);
  for (int i = 0; i < all->count; i++) {
    struct entry *entry = &all->entry[i];
    if (entry->leaf->watch == &entry->watch) entry->leaf->watch = NULL;
    tensor_release(entry->leaf);
  }
  all->count = 0;
  return 0;
}

static struct tensor *leaf_of(lua_State *L) {
  struct watches *all = luaL_checkudata(L, 1, WATCH);
  lua_Integer i = luaL_checkinteger(L, 2);
  luaL_argcheck(L, i >= 1 && i <= all->count, 2, "no number of a watched parameter");
  return all->entry[i - 1].leaf;
}

/* watch:has(i, gradient) -> whether the gradient of the i-th is this tensor, what its .grad gave, and nobody has added
   to it or written on it since; of nil: whether it has none */
static int has(lua_State *L) {
  const struct gradient *gradient = leaf_of(L)->gradient;
  const struct tensor *known = bind_optional_tensor(L, 3);
  const struct tensor *total = gradient ? gradient->total : NULL;
  bool none = !gradient || (!gradient->dense && gradient->factor_count == 0);
  lua_pushboolean(L, known ? total == known && total->storage->version == gradient->total_version : none);
  return 1;
}

/* watch:set(i, gradient): the gradient of the i-th is this tensor itself, not a copy */
static int set(lua_State *L) {
  static const char summed[] =
      "gradients alone are summed over ranks; of optimizers that read factors GLS and KFAC are known there";
  struct tensor *leaf = leaf_of(L), *gradient = bind_tensor(L, 3);
  bool factors = leaf->gradient && leaf->gradient->factor_count > 0;
  luaL_argcheck(L, gradient->type == TYPE_REAL && shape_equal(&gradient->shape, &leaf->shape), 3,
                "not of the parameter's shape");
  gradient_clear(leaf);
  bind_check(L, gradient_add(leaf, tensor_retain(gradient)));
  if (factors) leaf->gradient->lost = summed;
  return 0;
}

static const struct bind_function methods[] = {{"__gc", release, BIND_ANY, NULL},
                                               {"has", has, BIND_ANY, NULL},
                                               {"set", set, BIND_ANY, NULL},
                                               {NULL, NULL, 0, NULL}};

static const struct bind_function functions[] = {
    {"watch_gradients", watch_gradients, 2,
     "watch_gradients(parameters, f) -> watch\n"
     "Until the watch is collected, f(i) is called as soon as backward has the whole gradient of the i-th parameter,\n"
     "while others are still to come: what is sent to other processes then goes while backward runs."},
    {NULL, NULL, 0, NULL}};

void bind_open_watch(lua_State *L) {
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "v");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &watches_key);
  bind_class(L, WATCH, methods);
  bind_functions(L, functions);
}
