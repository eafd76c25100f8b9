/* Loader: batches of a data set, for lua/gls/data. A loader is a userdata, and an epoch of it another. */
#include "bind.h"

#include <string.h>

#include "../io/io.h"

#define LOADER "gls.io.loader"
#define EPOCH "gls.io.epoch"

/* A field of the table at argument 3 that is a list of numbers, or absent; *count of them, on the stack of Lua. */
static const double *list_field(lua_State *L, const char *name, int64_t *count) {
  *count = 0;
  if (lua_getfield(L, 3, name) != LUA_TTABLE) return NULL;
  *count = (int64_t)lua_rawlen(L, -1);
  double *list = lua_newuserdatauv(L, (size_t)(*count + 1) * sizeof *list, 0);
  for (int64_t i = 0; i < *count; i++) {
    int number;
    lua_rawgeti(L, -2, i + 1);
    list[i] = lua_tonumberx(L, -1, &number);
    if (!number) bind_fail(L, "%s: a list of numbers expected", name);
    lua_pop(L, 1);
  }
  return list;
}

static double number_field(lua_State *L, const char *name) {
  lua_getfield(L, 3, name);
  double number = lua_tonumber(L, -1);
  lua_pop(L, 1);
  return number;
}

static int loader_make(lua_State *L) {
  lua_settop(L, 3);
  struct tensor *x = bind_tensor(L, 1), *y = bind_optional_tensor(L, 2);
  bind_check_type(L, 3, LUA_TTABLE);
  struct loader **slot = lua_newuserdatauv(L, sizeof *slot, 0);
  *slot = NULL;
  luaL_setmetatable(L, LOADER);
  struct loader_settings settings = {
      .batch = bind_integer_field(L, 3, "batch", 1),
      .shuffle = bind_flag_field(L, 3, "shuffle"),
      .drop_last = bind_flag_field(L, 3, "drop_last"),
      .flatten = bind_flag_field(L, 3, "flatten"),
      .flip = bind_flag_field(L, 3, "flip"),
      .prefetch = bind_flag_field(L, 3, "prefetch"),
      .crop = bind_integer_field(L, 3, "crop", 0),
      .rotate = number_field(L, "rotate"),
      .erase = number_field(L, "erase"),
  };
  settings.mean = list_field(L, "mean", &settings.mean_count);
  settings.scale = list_field(L, "scale", &settings.scale_count);
  settings.weight = list_field(L, "weights", &settings.weight_count);
  *slot = loader_new(x, y, &settings);
  if (!*slot) return bind_error(L);
  lua_pushvalue(L, 4);
  return 1;
}

/* order(rows, seed, epoch, weights): int32, from 1; weights: a list, or nil for a permutation */
static int loader_rows(lua_State *L) {
  lua_Integer rows = bind_whole(L, 1);
  uint64_t seed = (uint64_t)bind_whole(L, 2), epoch = (uint64_t)bind_whole(L, 3);
  bind_check_argument(L, rows >= 1 && rows <= INT32_MAX, 1, "from 1 to 2147483647");
  double *sums = NULL;
  if (!lua_isnoneornil(L, 4)) {
    bind_check_type(L, 4, LUA_TTABLE);
    if ((lua_Integer)lua_rawlen(L, 4) != rows)
      return bind_fail(L, "%I weights, the set has %I rows", (lua_Integer)lua_rawlen(L, 4), rows);
    sums = lua_newuserdatauv(L, (size_t)rows * sizeof *sums, 0);
    for (lua_Integer i = 0; i < rows; i++) {
      lua_rawgeti(L, 4, i + 1);
      sums[i] = lua_tonumber(L, -1);
      lua_pop(L, 1);
    }
    bind_check(L, loader_sums(sums, sums, rows));
  }
  struct shape shape = shape_of(1, (int64_t)rows);
  bind_push_tensor(L, tensor_new(TYPE_INT32, &shape));
  int32_t *order = tensor_int32(bind_tensor(L, -1));
  loader_order(order, rows, seed, epoch, sums);
  for (lua_Integer i = 0; i < rows; i++) order[i]++;
  return 1;
}

static struct loader *check_loader(lua_State *L) {
  struct loader **slot = luaL_checkudata(L, 1, LOADER);
  bind_check_argument(L, *slot, 1, "this loader has been released");
  return *slot;
}

static int loader_release_slot(lua_State *L) {
  struct loader **slot = luaL_checkudata(L, 1, LOADER);
  struct loader *loader = *slot;
  *slot = NULL;
  loader_release(loader);
  return 0;
}

static int loader_count(lua_State *L) {
  lua_pushinteger(L, loader_batches(check_loader(L)));
  return 1;
}

struct epoch {
  struct loader_epoch *epoch;
  struct batch batch; /* on its way to Lua */
};

/* loader:start(seed, epoch, batches to leave out) */
static int loader_start_epoch(lua_State *L) {
  struct loader *loader = check_loader(L);
  lua_Integer seed = bind_whole(L, 2), number = bind_whole(L, 3), first = bind_whole(L, 4);
  bind_check_argument(L, first >= 0 && first <= loader_batches(loader), 4, "0 to the number of batches");
  struct epoch *epoch = lua_newuserdatauv(L, sizeof *epoch, 0);
  memset(epoch, 0, sizeof *epoch);
  luaL_setmetatable(L, EPOCH);
  epoch->epoch = loader_start(loader, (uint64_t)seed, (uint64_t)number, first);
  return epoch->epoch ? 1 : bind_error(L);
}

static int epoch_stop(lua_State *L) {
  struct epoch *epoch = luaL_checkudata(L, 1, EPOCH);
  struct loader_epoch *running = epoch->epoch;
  epoch->epoch = NULL;
  loader_stop(running);
  batch_clear(&epoch->batch);
  return 0;
}

/* x, y, index of the next batch; nothing after the last one, or after a stop. */
static int epoch_next(lua_State *L) {
  struct epoch *epoch = luaL_checkudata(L, 1, EPOCH);
  if (!epoch->epoch) return 0;
  batch_clear(&epoch->batch);
  bind_before_op(L); /* batches that the script has dropped give this one their place in cache */
  bind_check(L, loader_next(epoch->epoch, &epoch->batch));
  if (!epoch->batch.x) return 0;
  bind_push_taken(L, &epoch->batch.x);
  if (epoch->batch.y)
    bind_push_taken(L, &epoch->batch.y);
  else
    lua_pushnil(L);
  bind_push_taken(L, &epoch->batch.index);
  return 3;
}

static const struct bind_function loader_methods[] = {
    {"__gc", loader_release_slot, BIND_ANY, NULL},    {"__close", loader_release_slot, BIND_ANY, NULL},
    {"release", loader_release_slot, BIND_ANY, NULL}, {"batches", loader_count, BIND_ANY, NULL},
    {"start", loader_start_epoch, BIND_ANY, NULL},    {NULL, NULL, 0, NULL}};

static const struct bind_function epoch_methods[] = {{"__gc", epoch_stop, BIND_ANY, NULL},
                                                     {"__close", epoch_stop, BIND_ANY, NULL},
                                                     {"stop", epoch_stop, BIND_ANY, NULL},
                                                     {"next", epoch_next, BIND_ANY, NULL},
                                                     {NULL, NULL, 0, NULL}};

static const struct bind_function functions[] = {
    {"loader", loader_make, BIND_ANY, NULL}, {"order", loader_rows, BIND_ANY, NULL}, {NULL, NULL, 0, NULL}};

void bind_open_loader(lua_State *L) {
  bind_class(L, LOADER, loader_methods);
  bind_class(L, EPOCH, epoch_methods);
  bind_functions(L, functions);
}
