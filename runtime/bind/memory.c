/* Memory: seeds, threads, bytes, and when Lua's collector has to look for dead tensors, whose bytes it cannot see. */
#include "bind.h"

#include <errno.h>
#include <stdlib.h>

#include "../base/memory.h"
#include "../base/parallel.h"
#include "../base/profile.h"
#include "../base/random.h"
#include "../grad/tape.h"

#ifdef __SSE__
#include <xmmintrin.h>
#endif

/* ---- the collector ----
   A minor cycle of the generational mode frees what died young: nearly every tensor of a step. One that was
   alive at two cycles in a row counts as old and waits for a full cycle; so when the bytes in use have grown
   well past what the last full cycle left, the next cycle is a full one. */

enum {
  COLLECT_MINIMUM = 1 << 20,
  COLLECT_URGENT = 64 << 20,
  COLLECT_UNRECORDED = 4 << 20, /* before an op, while the tape is empty: its result takes memory that is in cache */
  COLLECT_SLACK = 32 << 20
};

static size_t bytes_made;      /* by tensors since the last cycle */
static size_t live_after_full; /* bytes in use that the last full cycle left */
static bool after_step;        /* the last cycle was at the end of an optimizer's step, or in tape_release */

static void collect(lua_State *L) {
  bytes_made = 0;
  after_step = false;
  if (!lua_gc(L, LUA_GCISRUNNING)) return; /* the script has stopped it */
  lua_gc(L, LUA_GCSTEP, 0);
  size_t live = memory_live();
  if (live <= live_after_full + live_after_full / 2 + COLLECT_SLACK) {
    if (live < live_after_full) live_after_full = live;
    return;
  }
  lua_gc(L, LUA_GCCOLLECT);
  live_after_full = memory_live();
}

void bind_collect(lua_State *L) {
  if (bytes_made < COLLECT_MINIMUM) return;
  profile_begin("memory", "collector");
  collect(L);
  after_step = true;
  profile_end();
}

void bind_made(lua_State *L, const struct tensor *tensor) {
  if (!tensor || !tensor->storage) return;
  bytes_made += sizeof *tensor;
  if (tensor->storage->references == 1) bytes_made += tensor->storage->bytes;
  if (bytes_made > COLLECT_URGENT && bytes_made > memory_live() / 2) collect(L);
}

/* A training loop is left to its steps: with one more cycle in each, all tensors of a step would grow old. */
void bind_before_op(lua_State *L) {
  if (bytes_made > COLLECT_UNRECORDED && !after_step && tape_node_count() == 0) collect(L);
}

/* ---- functions ---- */

static int memory_profile_start(lua_State *L) {
  (void)L;
  profile_start();
  return 0;
}

/* profile_stop() -> list of { phase =, name =, calls =, seconds = }, seconds in all */
static int memory_profile_stop(lua_State *L) {
  int count;
  double seconds;
  const struct profile_entry *entry = profile_stop(&count, &seconds);
  lua_createtable(L, count, 0);
  for (int i = 0; i < count; i++) {
    lua_createtable(L, 0, 4);
    lua_pushstring(L, entry[i].phase);
    lua_setfield(L, -2, "phase");
    lua_pushstring(L, entry[i].name);
    lua_setfield(L, -2, "name");
    lua_pushinteger(L, (lua_Integer)entry[i].calls);
    lua_setfield(L, -2, "calls");
    lua_pushnumber(L, entry[i].seconds);
    lua_setfield(L, -2, "seconds");
    lua_rawseti(L, -2, i + 1);
  }
  lua_pushnumber(L, seconds);
  return 2;
}

static int memory_seed(lua_State *L) {
  random_seed((uint64_t)luaL_checkinteger(L, 1));
  return 0;
}

static int memory_random_state(lua_State *L) {
  uint64_t seed, next_stream;
  if (!lua_isnoneornil(L, 1)) {
    luaL_checktype(L, 1, LUA_TTABLE);
    bool whole = lua_getfield(L, 1, "seed") == LUA_TNUMBER && lua_isinteger(L, -1);
    whole = lua_getfield(L, 1, "next_stream") == LUA_TNUMBER && lua_isinteger(L, -1) && whole;
    luaL_argcheck(L, whole, 1, "a state is { seed = integer, next_stream = integer }, as random_state() gives it");
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

/* Denormal numbers cost GEMM a hundred times their worth, and mean nothing in training: every thread of the
   pool flushes them to zero. */
static void flush_denormals(void) {
#ifdef __SSE__
#pragma omp parallel
  _mm_setcsr(_mm_getcsr() | 0x8040); /* flush to zero, denormals are zero */
#elif defined(__aarch64__)
#pragma omp parallel
  {
    uint64_t control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    __asm__ volatile("msr fpcr, %0" : : "r"(control | (uint64_t)1 << 24));
  }
#endif
}

enum { THREADS_MAXIMUM = 1024 };

static int memory_threads(lua_State *L) {
  if (!lua_isnoneornil(L, 1)) {
    lua_Integer threads = luaL_checkinteger(L, 1);
    luaL_argcheck(L, threads >= 1 && threads <= THREADS_MAXIMUM, 1, "a number of threads from 1 to 1024 expected");
    parallel_set_threads((int)threads);
    flush_denormals();
  }
  lua_pushinteger(L, parallel_threads());
  return 1;
}

static void set_bytes(lua_State *L, const char *name, size_t bytes) {
  lua_pushinteger(L, (lua_Integer)bytes);
  lua_setfield(L, -2, name);
}

static int memory_memory(lua_State *L) {
  lua_createtable(L, 0, 3);
  set_bytes(L, "live", memory_live());
  set_bytes(L, "peak", memory_peak());
  set_bytes(L, "cached", memory_cached());
  return 1;
}

static int memory_reset(lua_State *L) {
  (void)L;
  memory_reset_peak();
  return 0;
}

static int memory_trim_cache(lua_State *L) {
  (void)L;
  memory_trim();
  return 0;
}

static int memory_collect(lua_State *L) {
  bytes_made = 0;
  lua_gc(L, LUA_GCCOLLECT);
  lua_gc(L, LUA_GCCOLLECT); /* tensors held by objects with finalizers of their own go at the second */
  live_after_full = memory_live();
  return 0;
}

static const struct bind_function functions[] = {
    {"profile_start", memory_profile_start, "profile_start()\nWhat gls.profile begins with."},
    {"profile_stop", memory_profile_stop,
     "profile_stop() -> list, seconds\nWhat gls.profile ends with: { phase =, name =, calls =, seconds = } in the "
     "order of "
     "the first calls, and the time since profile_start."},
    {"seed", memory_seed,
     "seed(n)\nStarts the random numbers anew from the integer n: the same seed gives the same numbers, for\n"
     "any number of threads (Philox4x32-10; Salmon et al., SC 2011)."},
    {"random_state", memory_random_state,
     "random_state([state])\nThe generator's whole state, { seed =, next_stream = }, to be kept with a checkpoint; "
     "with an argument,\n"
     "sets it."},
    {"threads", memory_threads,
     "threads([n]) -> number\nThe number of threads that tensor functions use; with an argument, sets it. At the start "
     "it is the\n"
     "environment's GLS_THREADS, else OMP_NUM_THREADS, else the number of cores. In all of these threads denormal\n"
     "numbers (below 1.2e-38) count as zero."},
    {"memory", memory_memory,
     "memory() -> { live =, peak =, cached = }\nBytes of tensors in use, their highest value since reset_peak(), and "
     "bytes kept for reuse."},
    {"reset_peak", memory_reset, "reset_peak()\nStarts memory().peak anew from what is in use."},
    {"trim", memory_trim_cache, "trim()\nGives buffers that are kept for reuse back to the system."},
    {"collect", memory_collect,
     "collect()\nReleases every tensor that nothing refers to, at once (a full cycle of Lua's collector). Training has "
     "no\n"
     "need of it: optimizers collect what a step left."},
    {NULL, NULL, NULL}};

void bind_open_memory(lua_State *L) {
  const char *threads = getenv("GLS_THREADS");
  if (threads && *threads) {
    char *end;
    errno = 0;
    long count = strtol(threads, &end, 10);
    if (errno || *end || count < 1 || count > THREADS_MAXIMUM)
      luaL_error(L, "environment variable GLS_THREADS is \"%s\": a number from 1 to 1024 expected", threads);
    parallel_set_threads((int)count);
  }
  flush_denormals();
  bind_functions(L, functions);
}
