/* Random: the seed and the state of the generator that every random number comes from. */
#include "bind.h"

#include "../base/random.h"

static int set_seed(lua_State *L) {
  random_seed((uint64_t)bind_whole(L, 1));
  return 0;
}

static int random_state(lua_State *L) {
  uint64_t seed, next_stream;
  if (!lua_isnoneornil(L, 1)) {
    bind_check_type(L, 1, LUA_TTABLE);
    bool whole = lua_getfield(L, 1, "seed") == LUA_TNUMBER && lua_isinteger(L, -1);
    whole = lua_getfield(L, 1, "next_stream") == LUA_TNUMBER && lua_isinteger(L, -1) && whole;
    bind_check_argument(L, whole, 1,
                        "a state is { seed = integer, next_stream = integer }, as random_state() gives it");
    random_set_state((uint64_t)lua_tointeger(L, -2), (uint64_t)lua_tointeger(L, -1));
    return 0;
  }
  random_get_state(&seed, &next_stream);
  lua_createtable(L, 0, 2);
  lua_pushinteger(L, (lua_Integer)seed);
  lua_setfield(L, -2, "seed");
  lua_pushinteger(L, (lua_Integer)next_stream);
  lua_setfield(L, -2, "next_stream");
  return 1;
}

static const struct bind_function functions[] = {
    {"seed", set_seed, 1,
     "seed(n)\n"
     "Starts the random numbers anew from the integer n: the same seed gives the same numbers, for any number\n"
     "of threads (Philox4x32-10; Salmon et al., SC 2011)."},
    {"random_state", random_state, 1,
     "random_state([state])\n"
     "The generator's whole state, { seed =, next_stream = }, to be kept with a checkpoint; with an argument,\n"
     "sets it."},
    {NULL, NULL, 0, NULL}};

void bind_open_random(lua_State *L) { bind_functions(L, functions); }
