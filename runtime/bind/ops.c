/* Ops: every row of the op table as a function and, when its first parameter is a tensor, a method. A row's closure
   carries the row; nothing is looked up by name in a call. */
#include "bind.h"

#include "../grad/tape.h"

void bind_run(lua_State *L, const struct op *op, int input_count, struct tensor *const *input,
              const struct op_value *values) {
  if (bind_fusing > 0 && bind_trace(L, op, input_count, input, values)) return;
  bind_before_op(L);
  bind_recording();
  struct tensor **slot = bind_new_tensor(L);
  *slot = tape_run(op, input_count, input, values);
  if (!*slot) bind_error(L);
  bind_made(L, *slot);
}

static int run_op(lua_State *L) {
  const struct op *op = lua_touserdata(L, lua_upvalueindex(1));
  struct bind_arguments read;
  bind_read_arguments(L, op, &read);
  bind_run(L, op, read.input_count, read.input, read.value);
  return 1;
}

static bool is_method(const struct op *op) {
  enum op_parameter_kind kind = op->parameter[0].kind;
  return op->parameter[0].name && (kind == OP_TENSOR || kind == OP_ANY_TENSOR || kind == OP_INDICES);
}

/* The names of all rows, for lists in tools. */
static int op_names(lua_State *L) {
  int count = op_count();
  lua_createtable(L, count, 0);
  for (int i = 0; i < count; i++) {
    lua_pushstring(L, op_at(i)->name);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

static const struct bind_function functions[] = {{"op_names", op_names, 0,
                                                  "op_names() -> list\n"
                                                  "The names of all rows of the op table."},
                                                 {NULL, NULL, 0, NULL}};

void bind_open_ops(lua_State *L) {
  bind_functions(L, functions);
  luaL_getmetatable(L, BIND_TENSOR);
  lua_getfield(L, -1, "methods");
  lua_getfield(L, -3, "docs"); /* module, metatable, methods, docs */
  for (int i = 0, count = op_count(); i < count; i++) {
    const struct op *op = op_at(i);
    lua_pushlightuserdata(L, (void *)op);
    lua_pushcclosure(L, run_op, 1);
    lua_pushvalue(L, -1);
    lua_setfield(L, -6, op->name);
    if (is_method(op))
      lua_setfield(L, -3, op->name);
    else
      lua_pop(L, 1);
    bind_push_op_doc(L, op);
    lua_setfield(L, -2, op->name);
  }
  lua_pop(L, 3);
}
