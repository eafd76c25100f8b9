/* Create: tensors from numbers, lists and chance. */
#include "bind.h"

#include <math.h>
#include <string.h>

#include "../base/random.h"

struct options {
  enum element_type type;
  bool requires_gradient;
};

static bool has_names(lua_State *L, int i) {
  lua_pushnil(L);
  while (lua_next(L, i)) {
    lua_pop(L, 1);
    if (lua_type(L, -1) == LUA_TSTRING) {
      lua_pop(L, 1);
      return true;
    }
  }
  return false;
}

/* Options in the last argument: { type = "int32", requires_grad = true }, alone or beside the entries of a
   list. A table of options alone is taken off the stack. */
static struct options take_options(lua_State *L, const char *function, enum element_type type) {
  struct options options = {.type = type};
  int top = lua_gettop(L);
  if (top == 0 || !lua_istable(L, top) || !has_names(L, top)) return options;
  lua_pushnil(L);
  while (lua_next(L, top)) {
    if (lua_type(L, -2) == LUA_TSTRING) {
      const char *name = lua_tostring(L, -2);
      if (strcmp(name, "type") == 0) {
        options.type = bind_type(L, lua_gettop(L));
      } else if (strcmp(name, "requires_grad") == 0) {
        options.requires_gradient = lua_toboolean(L, -1);
      } else {
        bind_push_suggestion(L, name, (const char *const[]){"type", "requires_grad", NULL});
        bind_fail(L, "%s: unknown option \"%s\"%s", function, name, lua_tostring(L, -1));
      }
    }
    lua_pop(L, 1);
  }
  if (options.requires_gradient && options.type != TYPE_REAL)
    bind_fail(L, "%s: only a tensor of type %s can require gradient", function, type_name(TYPE_REAL));
  if (lua_rawlen(L, top) == 0) lua_settop(L, top - 1);
  return options;
}

/* Pushes a new tensor of undefined contents. */
static struct tensor *push_new(lua_State *L, const char *function, const struct options *options,
                               const struct shape *shape) {
  struct tensor *tensor = tensor_new(options->type, shape);
  if (!tensor) {
    bind_fail(L, "%s: %s", function, status_message());
    return NULL;
  }
  tensor->requires_gradient = options->requires_gradient;
  bind_push_tensor(L, tensor);
  return tensor;
}

static struct tensor *push_sized(lua_State *L, const char *function) {
  struct options options = take_options(L, function, TYPE_REAL);
  struct shape shape;
  bind_sizes(L, 1, &shape);
  return push_new(L, function, &options, &shape);
}

/* ---- tensor: from lists ---- */

static const char *position_text(const int64_t *index, int depth) {
  static _Thread_local char text[TENSOR_MAX_RANK * 24 + 8];
  size_t at = 0;
  text[0] = 0;
  for (int d = 0; d < depth; d++)
    at += (size_t)snprintf(text + at, sizeof text - at, "[%lld]", (long long)index[d] + 1);
  return text;
}

/* Sizes along the first entries of the list at the top of the stack. */
static void list_shape(lua_State *L, struct shape *shape) {
  int top = lua_gettop(L);
  shape->rank = 0;
  while (lua_istable(L, -1)) {
    if (shape->rank == TENSOR_MAX_RANK)
      bind_fail(L, "tensor: lists nested deeper than the %d dimensions a tensor can have", TENSOR_MAX_RANK);
    int64_t size = bind_length(L, -1, "tensor");
    shape->size[shape->rank++] = size;
    if (size == 0) break;
    luaL_checkstack(L, 4, "lists too deep");
    lua_rawgeti(L, -1, 1);
  }
  lua_settop(L, top);
}

static double number_for(lua_State *L, enum element_type type, const int64_t *index, int depth) {
  if (lua_type(L, -1) == LUA_TBOOLEAN) return lua_toboolean(L, -1);
  if (lua_type(L, -1) != LUA_TNUMBER)
    return bind_fail(L, "tensor: entry %s is a %s: numbers expected", position_text(index, depth),
                     luaL_typename(L, -1));
  double value = lua_tonumber(L, -1);
  double low = type == TYPE_INT32 ? INT32_MIN : 0, high = type == TYPE_INT32 ? INT32_MAX : 255;
  if (type != TYPE_REAL && !(value == floor(value) && value >= low && value <= high))
    return bind_fail(L, "tensor: entry %s is %f: %s takes whole numbers from %f to %f", position_text(index, depth),
                     value, type_name(type), low, high);
  return value;
}

/* Reads the list at the top of the stack, all of whose entries at this depth must have the shape's size. */
static void read_list(lua_State *L, struct tensor *tensor, int depth, int64_t *index) {
  int rank = tensor->shape.rank;
  if (depth == rank) {
    if (lua_istable(L, -1))
      bind_fail(L, "tensor: ragged lists: entry %s is a list where the first such entry is a number",
                position_text(index, depth));
    tensor_set(tensor, index, number_for(L, tensor->type, index, depth));
    return;
  }
  if (!lua_istable(L, -1))
    bind_fail(L, "tensor: ragged lists: entry %s is a %s where the first such entry is a list",
              position_text(index, depth), luaL_typename(L, -1));
  int64_t size = bind_length(L, -1, "tensor");
  if (size != tensor->shape.size[depth])
    bind_fail(L, "tensor: ragged lists: entry %s has %I entries where the first has %I", position_text(index, depth),
              (lua_Integer)size, (lua_Integer)tensor->shape.size[depth]);
  for (int64_t i = 0; i < size; i++) {
    index[depth] = i;
    lua_rawgeti(L, -1, i + 1);
    read_list(L, tensor, depth + 1, index);
    lua_pop(L, 1);
  }
}

static int create_tensor(lua_State *L) {
  bind_check_argument(L, !lua_isnone(L, 1), 1, "a value is missing");
  struct tensor *source = bind_test_tensor(L, 1);
  struct options options = take_options(L, "tensor", source ? source->type : TYPE_REAL);
  if (lua_gettop(L) == 0) lua_newtable(L); /* there were only options */
  if (lua_gettop(L) > 1) return bind_fail(L, "tensor: one value expected: a number, a list or a tensor");
  if (source) {
    if (!source->requires_gradient) bind_check_constant(L, source, "tensor"); /* of a leaf it is a copy of the values */
    bind_push_tensor(L, tensor_convert(source, options.type));
    bind_tensor(L, -1)->requires_gradient = options.requires_gradient;
    return 1;
  }
  if (lua_type(L, 1) != LUA_TNUMBER && !lua_istable(L, 1))
    return bind_fail(L, "tensor: a number, a list of numbers or a tensor expected, got %s", luaL_typename(L, 1));
  struct shape shape = {0};
  list_shape(L, &shape);
  struct tensor *tensor = push_new(L, "tensor", &options, &shape);
  lua_pushvalue(L, 1);
  read_list(L, tensor, 0, (int64_t[TENSOR_MAX_RANK]){0});
  lua_pop(L, 1);
  return 1;
}

/* ---- constants ---- */

static int create_zeros(lua_State *L) {
  struct tensor *tensor = push_sized(L, "zeros");
  memset(tensor->storage->data, 0, tensor->storage->bytes);
  return 1;
}

static int create_ones(lua_State *L) {
  bind_check(L, tensor_fill(push_sized(L, "ones"), 1));
  return 1;
}

static int create_empty(lua_State *L) {
  push_sized(L, "empty");
  return 1;
}

static int create_full(lua_State *L) {
  struct options options = take_options(L, "full", TYPE_REAL);
  int top = lua_gettop(L);
  if (top < 1 || lua_type(L, top) != LUA_TNUMBER)
    return bind_fail(L, "full: sizes and then the value expected: full(2, 3, value) or full({2, 3}, value)");
  double value = lua_tonumber(L, top);
  lua_settop(L, top - 1);
  struct shape shape;
  bind_sizes(L, 1, &shape);
  bind_check(L, tensor_fill(push_new(L, "full", &options, &shape), value));
  return 1;
}

static int create_eye(lua_State *L) {
  struct options options = take_options(L, "eye", TYPE_REAL);
  bind_check_count(L, 2);
  int64_t rows = bind_whole(L, 1), columns = (lua_isnoneornil(L, 2) ? rows : bind_whole(L, 2));
  struct shape shape = shape_of(2, rows, columns);
  struct tensor *tensor = push_new(L, "eye", &options, &shape);
  memset(tensor->storage->data, 0, tensor->storage->bytes);
  for (int64_t i = 0; i < rows && i < columns; i++) tensor_set(tensor, (int64_t[]){i, i}, 1);
  return 1;
}

/* ---- sequences ---- */

static int push_sequence(lua_State *L, const char *function, const struct options *options, double count, double start,
                         double step) {
  if (!(count >= 0)) count = 0;
  if (count > 1e15) return bind_fail(L, "%s: too many values", function);
  struct shape shape = shape_of(1, (int64_t)count);
  struct tensor *tensor = push_new(L, function, options, &shape);
  for (int64_t i = 0; i < shape.size[0]; i++) tensor_set(tensor, &i, start + (double)i * step);
  return 1;
}

static double checked_step(lua_State *L, int i, const char *function) {
  double step = (lua_isnoneornil(L, i) ? 1 : bind_number(L, i));
  if (step == 0 || isnan(step)) bind_fail(L, "%s: the step must not be 0", function);
  return step;
}

static int create_arange(lua_State *L) {
  struct options options = take_options(L, "arange", TYPE_REAL);
  bind_check_count(L, 3);
  double start = 0, stop = bind_number(L, 1);
  if (!lua_isnoneornil(L, 2)) {
    start = stop;
    stop = bind_number(L, 2);
  }
  double step = checked_step(L, 3, "arange");
  return push_sequence(L, "arange", &options, ceil((stop - start) / step), start, step);
}

static int create_range(lua_State *L) {
  struct options options = take_options(L, "range", TYPE_REAL);
  bind_check_count(L, 3);
  double start = bind_number(L, 1), stop = bind_number(L, 2), step = checked_step(L, 3, "range");
  return push_sequence(L, "range", &options, floor((stop - start) / step) + 1, start, step);
}

static int create_linspace(lua_State *L) {
  struct options options = take_options(L, "linspace", TYPE_REAL);
  bind_check_count(L, 3);
  double start = bind_number(L, 1), stop = bind_number(L, 2);
  lua_Integer count = bind_whole(L, 3);
  bind_check_argument(L, count >= 0, 3, "a number of values from 0 expected");
  push_sequence(L, "linspace", &options, (double)count, start, count > 1 ? (stop - start) / (double)(count - 1) : 0);
  int64_t last = count - 1;
  if (count > 1) tensor_set(bind_tensor(L, -1), &last, stop);
  return 1;
}

/* ---- chance ---- */

static void check_real(lua_State *L, const struct tensor *tensor, const char *function) {
  if (tensor->type != TYPE_REAL) bind_fail(L, "%s: only tensors of type %s are drawn", function, type_name(TYPE_REAL));
}

static int fill_uniform(lua_State *L, struct tensor *tensor) {
  check_real(L, tensor, "rand");
  random_fill_uniform(random_next_stream(), tensor_real(tensor), tensor_count(tensor));
  return 1;
}

static int fill_normal(lua_State *L, struct tensor *tensor) {
  check_real(L, tensor, "randn");
  random_fill_normal(random_next_stream(), tensor_real(tensor), tensor_count(tensor));
  return 1;
}

static int create_rand(lua_State *L) { return fill_uniform(L, push_sized(L, "rand")); }
static int create_randn(lua_State *L) { return fill_normal(L, push_sized(L, "randn")); }

static int create_randperm(lua_State *L) {
  struct options options = take_options(L, "randperm", TYPE_INT32);
  bind_check_count(L, 1);
  lua_Integer count = bind_whole(L, 1);
  bind_check_argument(L, count >= 0 && count < INT32_MAX, 1, "a number from 0 to 2147483646 expected");
  if (options.type != TYPE_INT32) return bind_fail(L, "randperm: gives int32; convert with :to(type)");
  struct shape shape = shape_of(1, (int64_t)count);
  struct tensor *tensor = push_new(L, "randperm", &options, &shape);
  random_permutation(random_next_stream(), tensor_int32(tensor), count);
  for (int64_t i = 0; i < count; i++) tensor_int32(tensor)[i]++;
  return 1;
}

static int create_randint(lua_State *L) {
  struct options options = take_options(L, "randint", TYPE_INT32);
  lua_Integer low = bind_whole(L, 1), high = bind_whole(L, 2);
  bind_check_argument(L, low <= high && low >= INT32_MIN && high <= INT32_MAX, 2,
                      "low <= high expected, both within int32");
  lua_remove(L, 1);
  lua_remove(L, 1);
  struct shape shape;
  bind_sizes(L, 1, &shape);
  struct tensor *tensor = push_new(L, "randint", &options, &shape);
  struct tensor *flat = tensor_view_shape(tensor, &(struct shape){.rank = 1, .size = {tensor_count(tensor)}});
  if (!flat) return bind_error(L);
  struct random_stream stream = random_next_stream();
  uint64_t choices = (uint64_t)(high - low) + 1;
  for (int64_t i = 0; i < tensor_count(flat); i++) {
    uint32_t word[4];
    random_block(stream, (uint64_t)i, word);
    uint64_t wide = (uint64_t)word[0] << 32 | word[1];
    tensor_set(flat, &i, (double)(low + (lua_Integer)(wide % choices)));
  }
  tensor_release(flat);
  return 1;
}

/* ---- like ---- */

static struct tensor *push_like(lua_State *L, const char *function, int arguments) {
  struct tensor *like = bind_tensor(L, 1);
  struct options options = take_options(L, function, like->type);
  bind_check_count(L, arguments);
  return push_new(L, function, &options, &like->shape);
}

static int zeros_like(lua_State *L) {
  struct tensor *tensor = push_like(L, "zeros_like", 1);
  memset(tensor->storage->data, 0, tensor->storage->bytes);
  return 1;
}

static int ones_like(lua_State *L) {
  bind_check(L, tensor_fill(push_like(L, "ones_like", 1), 1));
  return 1;
}

static int full_like(lua_State *L) {
  double value = bind_number(L, 2);
  bind_check(L, tensor_fill(push_like(L, "full_like", 2), value));
  return 1;
}

static int rand_like(lua_State *L) { return fill_uniform(L, push_like(L, "rand_like", 1)); }
static int randn_like(lua_State *L) { return fill_normal(L, push_like(L, "randn_like", 1)); }

static const struct bind_function functions[] = {
    {"tensor", create_tensor, 2,
     "tensor(value [, { type =, requires_grad = }]) -> tensor\n"
     "From a number, nested lists of one length a level, or a tensor (a copy). Type \"float32\" unless another\n"
     "is named. tensor{{1, 2}, {3, 4}} has shape (2×2)."},
    {"zeros", create_zeros, BIND_ANY,
     "zeros(sizes… [, { type =, requires_grad = }]) -> tensor\n"
     "All 0: zeros(2, 3), zeros{2, 3}, zeros(4, { type = \"int32\" })."},
    {"ones", create_ones, BIND_ANY,
     "ones(sizes… [, options]) -> tensor\n"
     "All 1; options as in zeros."},
    {"empty", create_empty, BIND_ANY,
     "empty(sizes… [, options]) -> tensor\n"
     "Of undefined contents; options as in zeros."},
    {"full", create_full, BIND_ANY,
     "full(sizes…, value [, options]) -> tensor\n"
     "All value: full(2, 3, 0.5), full({2, 3}, 0.5)."},
    {"eye", create_eye, 3,
     "eye(rows, columns=rows [, options]) -> tensor\n"
     "Ones on the diagonal."},
    {"arange", create_arange, 4,
     "arange(stop), arange(start, stop, step=1) -> tensor\n"
     "From start (0) in steps, stop excluded, as NumPy's; range includes it."},
    {"range", create_range, 4,
     "range(first, last, step=1) -> tensor\n"
     "From first to last in steps, both included, as Lua's for."},
    {"linspace", create_linspace, 4,
     "linspace(first, last, count) -> tensor\n"
     "count values at equal distances, both ends included."},
    {"rand", create_rand, BIND_ANY,
     "rand(sizes… [, options]) -> tensor\n"
     "Uniform on [0, 1)."},
    {"randn", create_randn, BIND_ANY,
     "randn(sizes… [, options]) -> tensor\n"
     "Normal with mean 0 and standard deviation 1."},
    {"randint", create_randint, BIND_ANY,
     "randint(low, high, sizes… [, options]) -> int32 tensor\n"
     "Whole numbers from low to high, both included, equally likely."},
    {"randperm", create_randperm, 2,
     "randperm(n) -> int32 tensor\n"
     "The numbers 1 to n in random order."},
    {"zeros_like", zeros_like, 2,
     "zeros_like(x [, options]) -> tensor\n"
     "All 0, of x's shape and type."},
    {"ones_like", ones_like, 2,
     "ones_like(x [, options]) -> tensor\n"
     "All 1, of x's shape and type."},
    {"full_like", full_like, 3,
     "full_like(x, value [, options]) -> tensor\n"
     "All value, of x's shape and type."},
    {"rand_like", rand_like, 2,
     "rand_like(x) -> tensor\n"
     "Uniform on [0, 1), of x's shape."},
    {"randn_like", randn_like, 2,
     "randn_like(x) -> tensor\n"
     "Standard normal, of x's shape."},
    {NULL, NULL, 0, NULL}};

void bind_open_create(lua_State *L) { bind_functions(L, functions); }
