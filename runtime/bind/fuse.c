/* Fuse: gls.fuse, which makes a Lua function of elementwise ops one op. The function is called once for each number and
   types of arguments, with symbols: userdata that stand for its values and have the operators and methods of tensors.
   Ops on them run nothing and add a step to the program being written. */
#include "bind.h"

#include "../fuse/fuse.h"

#define BIND_PROGRAM "gls.fused_program"
#define BIND_SYMBOL "value of a function being fused" /* its name in messages too */

int bind_fusing;

/* The function that is being called with symbols, and those around it. */
struct trace {
  struct fuse *fuse;
  int64_t serial;
  struct trace *outer;
};
static struct trace *tracing;
static int64_t last_serial;

/* ---- symbols: tensors of rank 0 without storage, whose offset is the value's place in the program and whose stride[0]
   the trace's serial ---- */

static struct tensor *push_symbol(lua_State *L, enum element_type type, int value) {
  struct tensor *symbol = lua_newuserdatauv(L, sizeof *symbol, 0);
  *symbol = (struct tensor){.references = 1, .type = type, .offset = value, .stride = {tracing->serial}};
  luaL_setmetatable(L, BIND_SYMBOL);
  return symbol;
}

struct tensor *bind_test_operand(lua_State *L, int i) {
  struct tensor *tensor = bind_test_tensor(L, i);
  return tensor || bind_fusing == 0 ? tensor : luaL_testudata(L, i, BIND_SYMBOL);
}

static bool is_symbol(const struct tensor *tensor) { return tensor && !tensor->storage; }

struct tensor *bind_push_number(lua_State *L, double number) {
  if (bind_fusing == 0) {
    bind_push_tensor(L, tensor_scalar((real)number));
    return bind_tensor(L, -1);
  }
  int value = 0;
  if (fuse_number(tracing->fuse, number, &value) != STATUS_OK)
    bind_raise(L, lua_pushfstring(L, "fuse: %s", status_message()));
  return push_symbol(L, TYPE_REAL, value);
}

struct tensor *bind_push_integer(lua_State *L, int64_t number) {
  if (number < INT32_MIN || number > INT32_MAX)
    bind_fail(L, "%I is more than int32 holds: x:to(\"float32\") converts the tensor beside it", (LUAI_UACINT)number);
  struct shape scalar = {0};
  bind_push_tensor(L, tensor_new(TYPE_INT32, &scalar));
  tensor_int32(bind_tensor(L, -1))[0] = (int32_t)number;
  return bind_tensor(L, -1);
}

bool bind_trace(lua_State *L, const struct op *op, int input_count, struct tensor *const *input,
                const struct op_value *values) {
  bool any = false;
  int argument[3] = {0}, value = 0;
  for (int i = 0; i < input_count; i++) any = any || is_symbol(input[i]);
  if (!any) return false;
  for (int i = 0; i < input_count && i < 3; i++) {
    if (!input[i]) continue;
    if (!is_symbol(input[i]))
      bind_raise(
          L, lua_pushfstring(L, "fuse: %s takes a tensor that is not an argument of the function: hand it over as one",
                             op->name));
    if (input[i]->stride[0] != tracing->serial)
      bind_raise(L, lua_pushfstring(L, "fuse: a value in %s belongs to another call of a fused function", op->name));
    argument[i] = (int)input[i]->offset;
  }
  if (fuse_step(tracing->fuse, op, input_count, argument, values, &value) != STATUS_OK)
    bind_raise(L, lua_pushfstring(L, "fuse: %s", status_message()));
  push_symbol(L, TYPE_REAL, value);
  return true;
}

/* __index: the methods that are ops; upvalue 1: all methods of tensors. */
static int symbol_index(lua_State *L) {
  const char *name = luaL_tolstring(L, 2, NULL);
  if (lua_type(L, 2) == LUA_TSTRING && op_find(name)) {
    lua_pushvalue(L, 2);
    lua_rawget(L, lua_upvalueindex(1));
    if (!lua_isnil(L, -1)) return 1;
  }
  return bind_raise(L, lua_pushfstring(L, "fuse: %s is not an elementwise op: " FUSE_ADVICE, name));
}

static int symbol_without_values(lua_State *L) {
  return bind_raise(L,
                    "fuse: there are no values yet to compare, write or measure (element by element: x:lt(y), where)");
}

static int symbol_tostring(lua_State *L) {
  lua_pushliteral(L, "a value of a function that is being fused");
  return 1;
}

/* ---- programs ---- */

static int program_release(lua_State *L) {
  struct fuse **slot = luaL_checkudata(L, 1, BIND_PROGRAM);
  if (*slot) fuse_use(*slot, -1);
  *slot = NULL;
  return 0;
}

/* The program of the function (upvalue 1) for arguments of these types, as a userdata; its row. */
static const struct op *push_program(lua_State *L, int count, const enum element_type *type) {
  struct fuse **slot = lua_newuserdatauv(L, sizeof *slot, 0);
  *slot = NULL;
  luaL_setmetatable(L, BIND_PROGRAM);
  int bottom = lua_gettop(L);
  luaL_checkstack(L, count + 8, "too many arguments");
  *slot = fuse_new(count, type);
  if (!*slot) bind_raise(L, lua_pushfstring(L, "fuse: %s", status_message()));
  struct trace trace = {.fuse = *slot, .serial = ++last_serial, .outer = tracing};
  lua_pushvalue(L, lua_upvalueindex(1));
  tracing = &trace;
  for (int i = 0; i < count; i++) push_symbol(L, type[i], i);
  bind_fusing++;
  int status = lua_pcall(L, count, LUA_MULTRET, 0);
  bind_fusing--;
  tracing = trace.outer;
  if (status != LUA_OK) lua_error(L);
  const struct tensor *result = lua_gettop(L) == bottom + 1 ? luaL_testudata(L, -1, BIND_SYMBOL) : NULL;
  const struct op *row = NULL;
  if (result && result->stride[0] == trace.serial)
    row = fuse_finish(*slot, (int)result->offset);
  else
    status_error("the function must return one value computed from its arguments, got %s",
                 lua_gettop(L) == bottom + 1 ? luaL_typename(L, -1) : "none or several");
  if (!row) bind_raise(L, lua_pushfstring(L, "fuse: %s", status_message()));
  lua_settop(L, bottom);
  return row;
}

/* Upvalues: the function, and its programs by the types of the arguments. */
static int call_fused(lua_State *L) {
  struct tensor *input[FUSE_INPUTS] = {0};
  enum element_type type[FUSE_INPUTS];
  int count = lua_gettop(L);
  if (count > FUSE_INPUTS) return bind_fail(L, "fuse: %d arguments given: 1 to %d are possible", count, FUSE_INPUTS);
  bool symbols = false;
  for (int i = 1; i <= count && bind_fusing > 0; i++) symbols = symbols || is_symbol(bind_test_operand(L, i));
  if (symbols) { /* called by a function that is being fused: becomes part of it */
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, count, 1);
    return 1;
  }
  lua_Integer key = 1;
  for (int i = 0; i < count; i++) {
    if (lua_type(L, i + 1) == LUA_TNUMBER) {
      bind_push_tensor(L, tensor_scalar((real)lua_tonumber(L, i + 1)));
      lua_replace(L, i + 1);
    }
    input[i] = bind_test_tensor(L, i + 1);
    if (!input[i])
      return bind_fail(L, "fuse: argument %d must be a tensor or a number, got %s", i + 1,
                       luaL_testudata(L, i + 1, BIND_TENSOR) ? "a released tensor" : luaL_typename(L, i + 1));
    type[i] = input[i]->type;
    key = 4 * key + (lua_Integer)type[i];
  }
  const struct op *row = NULL;
  if (lua_rawgeti(L, lua_upvalueindex(2), key) == LUA_TNIL) {
    row = push_program(L, count, type);
    lua_pushvalue(L, -1);
    lua_rawseti(L, lua_upvalueindex(2), key);
  } else {
    struct fuse **slot = lua_touserdata(L, -1);
    row = &(*slot)->row;
  }
  for (int i = 0; i < count; i++)
    if (bind_test_tensor(L, i + 1) != input[i])
      return bind_fail(L, "fuse: the function has released argument %d", i + 1);
  bind_run(L, row, count, input, NULL);
  return 1;
}

static int fuse_function(lua_State *L) {
  bind_check_type(L, 1, LUA_TFUNCTION);
  lua_settop(L, 1);
  lua_newtable(L);
  lua_pushcclosure(L, call_fused, 2);
  return 1;
}

static const struct bind_function functions[] = {
    {"fuse", fuse_function, 1,
     "fuse(f) -> function\n"
     "The function f, of elementwise ops and numbers alone, as one op that passes over its arguments once:\n"
     "local g = gls.fuse(function(x, y) return ((x * y + x):tanh() / 2 - y):relu() end); g(x, y). Arguments\n"
     "are tensors, which broadcast, or numbers; f is called once for each number and types of arguments,\n"
     "without their values, and returns one tensor. What is no argument (a number in a variable outside,\n"
     "math.random) is read in that call and stays as it was: hand over what changes. Differentiable in both\n"
     "modes; the tape keeps the arguments alone. Other ops (reductions, x:item()) are an error."},
    {NULL, NULL, 0, NULL}};

void bind_open_fuse(lua_State *L) {
  static const char *const shared[] = {"__add", "__sub", "__mul", "__div", "__pow", "__unm"};
  static const char *const without_values[] = {"__lt", "__le", "__len", "__newindex", "__concat", "__call"};
  luaL_newmetatable(L, BIND_PROGRAM);
  lua_pushcfunction(L, program_release);
  lua_setfield(L, -2, "__gc");
  luaL_newmetatable(L, BIND_SYMBOL);
  luaL_getmetatable(L, BIND_TENSOR);
  for (size_t i = 0; i < sizeof shared / sizeof shared[0]; i++) {
    lua_getfield(L, -1, shared[i]);
    lua_setfield(L, -3, shared[i]);
  }
  lua_getfield(L, -1, "methods");
  lua_pushcclosure(L, symbol_index, 1);
  lua_setfield(L, -3, "__index");
  lua_pop(L, 1);
  for (size_t i = 0; i < sizeof without_values / sizeof without_values[0]; i++) {
    lua_pushcfunction(L, symbol_without_values);
    lua_setfield(L, -2, without_values[i]);
  }
  lua_pushcfunction(L, symbol_tostring);
  lua_setfield(L, -2, "__tostring");
  lua_pop(L, 2);
  bind_functions(L, functions);
}
