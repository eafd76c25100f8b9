/* Collector: when Lua's collector has to look for dead tensors, whose bytes it cannot see, and the bytes in use.
   A minor cycle of the generational mode frees what died young: nearly every tensor of a step. One that was
   alive at two cycles in a row counts as old and waits for a full cycle; so when the bytes in use have grown
   well past what the last full cycle left, the next cycle is a full one. */
#include "bind.h"

#include "../base/memory.h"
#include "../base/profile.h"
#include "../grad/tape.h"

enum {
  COLLECT_MINIMUM = 1 << 20,
  COLLECT_URGENT = 64 << 20,
  COLLECT_UNRECORDED = 4 << 20, /* before an op, while the tape is empty: its result takes memory that is in cache */
  COLLECT_SLACK = 32 << 20
};

static size_t bytes_made;      /* by tensors since the last cycle */
static size_t live_after_full; /* bytes in use that the last full cycle left */
static int backwards;          /* passes since the last step */
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

/* A pass whose gradients are accumulated: graphs of the passes before are dead, and no step collects them. */
void bind_after_backward(lua_State *L) {
  if (backwards++ > 0 && bytes_made > COLLECT_MINIMUM) collect(L);
}

void bind_collect(lua_State *L) {
  backwards = 0;
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
  if (bytes_made > COLLECT_UNRECORDED && !after_step && node_count() == 0) collect(L);
}

static void set_bytes(lua_State *L, const char *name, size_t bytes) {
  lua_pushinteger(L, (lua_Integer)bytes);
  lua_setfield(L, -2, name);
}

static int memory_use(lua_State *L) {
  lua_createtable(L, 0, 3);
  set_bytes(L, "live", memory_live());
  set_bytes(L, "peak", memory_peak());
  set_bytes(L, "cached", memory_cached());
  return 1;
}

static int reset_peak(lua_State *L) {
  (void)L;
  memory_reset_peak();
  return 0;
}

static int trim(lua_State *L) {
  (void)L;
  memory_trim();
  return 0;
}

static int collect_all(lua_State *L) {
  bytes_made = 0;
  lua_gc(L, LUA_GCCOLLECT);
  lua_gc(L, LUA_GCCOLLECT); /* tensors held by objects with finalizers of their own go at the second */
  live_after_full = memory_live();
  return 0;
}

static const struct bind_function functions[] = {
    {"memory", memory_use, 0,
     "memory() -> { live =, peak =, cached = }\n"
     "Bytes of tensors in use, their highest value since reset_peak(), and bytes kept for reuse."},
    {"reset_peak", reset_peak, 0,
     "reset_peak()\n"
     "Starts memory().peak anew from what is in use."},
    {"trim", trim, 0,
     "trim()\n"
     "Gives buffers that are kept for reuse back to the system."},
    {"collect", collect_all, 0,
     "collect()\n"
     "Releases every tensor that nothing refers to, at once (a full cycle of Lua's collector). Training has no\n"
     "need of it: optimizers collect what a step left."},
    {NULL, NULL, 0, NULL}};

void bind_open_collector(lua_State *L) { bind_functions(L, functions); }
