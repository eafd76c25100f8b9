/* Run: failing allocations. Every scenario of scenarios.lua is run with the nth allocation of the core failing, for all
   n until a run needs fewer, and then with Lua's allocator refusing from its nth on (Lua tries again after a
   collection, so one refusal would not be seen; so does Lua's own testes/memerr.lua). Each run ends well or with an
   error that says that memory is out; nothing stays allocated or on the tape; and afterwards the scenario gives what it
   gave at first. Closes with "N passed, N failed". */
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../runtime/base/memory.h"

int luaopen_gls_core(lua_State *L);

/* No scenario needs more; one that does has not noticed the end of the countdown. */
enum { LIMIT = 20000, RUNS_PER_COLLECTION = 64 };

static long passed, failed;
static long lua_left = -1; /* allocations that Lua may still make; below 0: any number */
static bool lua_refused;

static void *allocate(void *unused, void *block, size_t old, size_t bytes) {
  (void)unused;
  if (bytes == 0) {
    free(block);
    return NULL;
  }
  if (lua_left >= 0 && (!block || bytes > old)) {
    if (lua_left == 0) {
      lua_refused = true;
      return NULL;
    }
    lua_left--;
  }
  return realloc(block, bytes);
}

static void complain(const char *scenario, const char *kind, long n, const char *problem) {
  failed++;
  printf("%s: %s allocation %ld fails: %s\n", scenario, kind, n, problem);
}

/* Calls the function at the top, with the arguments below it; leaves the result or the message. */
static bool call(lua_State *L) { return lua_pcall(L, 0, 1, 0) == LUA_OK; }

static void clean(lua_State *L) {
  lua_getglobal(L, "clean");
  if (!call(L)) printf("clean: %s\n", lua_tostring(L, -1));
  lua_pop(L, 1);
}

/* One run of the function at index 1 with allocation n failing; false when the run did not come to it. */
static bool run_failing(lua_State *L, const char *scenario, bool of_lua, long n) {
  const char *kind = of_lua ? "Lua's" : "the core's";
  lua_pushvalue(L, 1);
  lua_refused = false;
  if (of_lua)
    lua_left = n - 1;
  else
    memory_fail_at(n);
  bool good = call(L);
  bool met = of_lua ? lua_refused : memory_fail_at(0) == 0;
  lua_left = -1;
  memory_fail_at(0);
  const char *message = good ? "" : lua_tostring(L, -1);
  if (!good && (!message || (!strstr(message, "out of memory") && !strstr(message, "not enough memory"))))
    complain(scenario, kind, n, message ? message : "the error is no text");
  lua_pop(L, 1);
  return met;
}

static void check_live(lua_State *L, const char *scenario, const char *kind, long n, size_t live) {
  clean(L);
  if (memory_live() == live) return;
  char problem[80];
  snprintf(problem, sizeof problem, "%ld bytes stay, of this run or of those since the last collection",
           (long)(memory_live() - live));
  complain(scenario, kind, n, problem);
}

/* The scenario's function is at index 1. */
static void run_scenario(lua_State *L, const char *scenario) {
  long counts[2] = {0, 0};
  double start = (double)clock();
  for (int i = 0; i < 2; i++) { /* the second time everything is loaded */
    lua_settop(L, 1);
    lua_pushvalue(L, 1);
    if (!call(L)) {
      complain(scenario, "no", 0, lua_tostring(L, -1));
      return;
    }
  }
  clean(L);
  size_t live = memory_live();
  for (int of_lua = 0; of_lua <= 1; of_lua++) {
    const char *kind = of_lua ? "Lua's" : "the core's";
    long before = failed, n = 1;
    while (n < LIMIT && failed < before + 10 && run_failing(L, scenario, of_lua, n)) {
      if (n++ % RUNS_PER_COLLECTION == 0) check_live(L, scenario, kind, n, live);
    }
    check_live(L, scenario, kind, n, live);
    if (n == LIMIT) complain(scenario, kind, n, "no end is in sight");
    counts[of_lua] = n - 1;
    lua_pushvalue(L, 1);
    if (!call(L))
      complain(scenario, kind, 0, lua_tostring(L, -1));
    else if (!lua_compare(L, 2, -1, LUA_OPEQ))
      complain(scenario, kind, 0, "afterwards the result is another");
    lua_pop(L, 1);
    passed += n - 1;
  }
  printf("%s: %ld allocations of the core, %ld of Lua, %.1f s\n", scenario, counts[0], counts[1],
         ((double)clock() - start) / CLOCKS_PER_SEC);
}

int main(int count, char **arguments) {
  setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
  lua_State *L = lua_newstate(allocate, NULL);
  if (!L) return EXIT_FAILURE;
  luaL_openlibs(L);
  luaL_requiref(L, "gls.core", luaopen_gls_core, 0);
  lua_settop(L, 0);
  if (luaL_dofile(L, "tests/memory/scenarios.lua") != LUA_OK) {
    printf("%s\n0 passed, 1 failed\n", lua_tostring(L, -1));
    return EXIT_FAILURE;
  }
  lua_setglobal(L, "scenarios");
  for (int i = 1;; i++) {
    lua_settop(L, 0);
    lua_getglobal(L, "scenarios");
    if (lua_rawgeti(L, 1, i) != LUA_TTABLE) break;
    lua_getfield(L, -1, "name");
    lua_getfield(L, -2, "run");
    char name[64];
    snprintf(name, sizeof name, "%s", lua_tostring(L, -2));
    lua_replace(L, 1);
    lua_settop(L, 1);
    if (count < 2 || strcmp(name, arguments[1]) == 0) run_scenario(L, name);
  }
  lua_close(L);
  printf("%ld passed, %ld failed\n", passed, failed);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
