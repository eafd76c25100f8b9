/* Grad: the tape for scripts: backward, forward-mode derivatives, and which tensors are leaves. */
#include "bind.h"

#include <string.h>

#include "../grad/tape.h"

static int passes; /* of backward, since the last step */

void bind_step_ended(void) { passes = 0; }

static int backward_passes(lua_State *L) {
  lua_pushinteger(L, passes);
  return 1;
}

static int grad_backward(lua_State *L) {
  struct tensor *loss = bind_tensor(L, 1), *seed = bind_optional_tensor(L, 2);
  if (seed && seed->type != TYPE_REAL)
    return bind_fail(L, "backward: a seed of type %s expected, got %s", type_name(TYPE_REAL), type_name(seed->type));
  lua_State *before = bind_running;
  bind_running = L;
  int status = tape_backward(loss, seed);
  bind_running = before;
  bind_check(L, status);
  passes++;
  bind_after_backward(L);
  return 0;
}

/* ---- lists of tensors ---- */

struct list {
  int count;
  struct tensor **tensor; /* borrowed; the stack keeps the array */
};

static struct list new_list(lua_State *L, int count) {
  struct list list = {count, lua_newuserdatauv(L, (size_t)(count + 1) * sizeof *list.tensor, 0)};
  for (int i = 0; i < count; i++) list.tensor[i] = NULL;
  return list;
}

/* The tensor at stack index i, or the list of them that stands there. */
static struct list read_list(lua_State *L, int i, const char *function, const char *what) {
  if (bind_test_tensor(L, i)) {
    struct list list = new_list(L, 1);
    list.tensor[0] = bind_tensor(L, i);
    return list;
  }
  if (!lua_istable(L, i))
    bind_fail(L, "%s: the %s are a tensor or a list of tensors, not %s", function, what, luaL_typename(L, i));
  struct list list = new_list(L, (int)bind_length(L, i, function));
  for (int k = 0; k < list.count; k++) {
    lua_rawgeti(L, i, k + 1);
    list.tensor[k] = bind_test_tensor(L, -1);
    if (!list.tensor[k])
      bind_fail(L, "%s: entry %d of the %s must be a tensor, got %s", function, k + 1, what, luaL_typename(L, -1));
    lua_pop(L, 1);
  }
  return list;
}

/* Pushes count tensors that are still to come, one or a list of them: where each belongs. The array is below them. */
static struct tensor ***new_results(lua_State *L, int count, bool one) {
  struct tensor ***slot = lua_newuserdatauv(L, (size_t)(count + 1) * sizeof *slot, 0);
  if (!one) lua_createtable(L, count, 0);
  for (int k = 0; k < count; k++) {
    slot[k] = bind_new_tensor(L);
    if (!one) lua_rawseti(L, -2, k + 1);
  }
  return slot;
}

/* Puts the tensors, taken over, there. */
static void give_results(lua_State *L, struct tensor ***slot, struct list list) {
  for (int k = 0; k < list.count; k++) {
    *slot[k] = list.tensor[k];
    bind_made(L, *slot[k]);
  }
}

static void check_same_form(lua_State *L, const char *function, const char *what, int k, const struct tensor *given,
                            const struct tensor *of) {
  if (given->type != TYPE_REAL || !shape_equal(&given->shape, &of->shape))
    bind_fail(L, "%s: %s %d has type %s and shape %s, its tensor %s and %s", function, what, k + 1,
              type_name(given->type), shape_text(&given->shape), type_name(of->type), shape_text(&of->shape));
}

/* ---- jvp ---- */

static int grad_jvp(lua_State *L) {
  bool one = bind_test_tensor(L, 1);
  struct list output = read_list(L, 1, "jvp", "outputs"), input = read_list(L, 2, "jvp", "inputs");
  struct list tangent = read_list(L, 3, "jvp", "tangents"), result = new_list(L, output.count);
  if (input.count != tangent.count) return bind_fail(L, "jvp: %d inputs, but %d tangents", input.count, tangent.count);
  for (int i = 0; i < input.count; i++) check_same_form(L, "jvp", "tangent", i, tangent.tensor[i], input.tensor[i]);
  struct tensor ***slot = new_results(L, result.count, one);
  lua_State *before = bind_running;
  bind_running = L;
  int status = tape_jvp(output.count, output.tensor, input.count, input.tensor, tangent.tensor, result.tensor);
  bind_running = before;
  bind_check(L, status);
  give_results(L, slot, result);
  return 1;
}

/* ---- grad ---- */

struct grad_options {
  bool create_graph, unused, values;
  struct list seeds;
};

/* Seeds that are made are kept by the table at index `kept`. */
static struct grad_options read_grad_options(lua_State *L, int i, struct list output, int kept) {
  static const char *const fields[] = {"create_graph", "unused", "values", "seeds", NULL};
  struct grad_options options = {false, false, true, {0, NULL}};
  if (!lua_isnoneornil(L, i)) {
    bind_check_type(L, i, LUA_TTABLE);
    for (lua_pushnil(L); lua_next(L, i); lua_pop(L, 1)) {
      const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
      bool known = false;
      for (int k = 0; fields[k]; k++) known = known || strcmp(name, fields[k]) == 0;
      if (known) continue;
      bind_push_suggestion(L, name, fields);
      bind_fail(L, "grad: unknown option \"%s\"%s", name, lua_tostring(L, -1));
    }
    options.create_graph = bind_flag_field(L, i, "create_graph");
    options.unused = bind_flag_field(L, i, "unused");
    options.values = lua_getfield(L, i, "values") == LUA_TNIL || bind_flag_field(L, i, "values");
    lua_pop(L, 1);
    if (lua_getfield(L, i, "seeds") != LUA_TNIL) {
      options.seeds = read_list(L, lua_gettop(L), "grad", "seeds");
      if (options.seeds.count != output.count)
        bind_fail(L, "grad: %d outputs, but %d seeds", output.count, options.seeds.count);
      for (int k = 0; k < output.count; k++)
        check_same_form(L, "grad", "seed", k, options.seeds.tensor[k], output.tensor[k]);
      return options;
    }
  }
  options.seeds = new_list(L, output.count);
  for (int k = 0; k < output.count; k++) {
    if (tensor_count(output.tensor[k]) != 1)
      bind_fail(L, "grad: output %d has shape %s: of more than one element a seed says what is summed", k + 1,
                shape_text(&output.tensor[k]->shape));
    struct tensor *one = tensor_new(TYPE_REAL, &output.tensor[k]->shape);
    if (one) *tensor_real(one) = 1;
    bind_push_tensor(L, one);
    options.seeds.tensor[k] = one;
    lua_rawseti(L, kept, k + 1);
  }
  return options;
}

static int grad_grad(lua_State *L) {
  lua_settop(L, 3);
  bool one = bind_test_tensor(L, 2);
  struct list output = read_list(L, 1, "grad", "outputs"), input = read_list(L, 2, "grad", "inputs");
  struct list result = new_list(L, input.count);
  lua_newtable(L); /* keeps seeds that are made */
  int kept = lua_gettop(L);
  struct grad_options options = read_grad_options(L, 3, output, kept);
  if (options.create_graph && !bind_recording())
    return bind_fail(L, "grad: create_graph records, and nothing is recorded inside no_grad");
  for (int i = 0; i < output.count; i++)
    if (!tape_tracks(output.tensor[i]))
      return bind_fail(L,
                       "grad: output %d is not on the tape: no tensor that requires a gradient leads to it, or its "
                       "step has ended",
                       i + 1);
  for (int i = 0; i < input.count; i++)
    if (!tape_tracks(input.tensor[i]))
      return bind_fail(L, "grad: input %d, shape %s, neither requires a gradient nor is on the tape", i + 1,
                       shape_text(&input.tensor[i]->shape));
  struct tensor ***slot = new_results(L, result.count, one);
  lua_State *before = bind_running;
  bind_running = L;
  int status = tape_gradients(output.count, output.tensor, options.seeds.tensor, input.count, input.tensor,
                              options.create_graph, options.values || !options.create_graph, result.tensor);
  bind_running = before;
  bind_recording();
  bind_check(L, status);
  int absent = -1;
  for (int i = input.count - 1; i >= 0; i--) {
    if (result.tensor[i]) continue;
    absent = i;
    if (options.unused) result.tensor[i] = tensor_zeros(TYPE_REAL, &input.tensor[i]->shape);
  }
  if (absent >= 0 && !options.unused) {
    for (int i = 0; i < input.count; i++) tensor_release(result.tensor[i]);
    return bind_fail(L, "grad: the outputs do not depend on input %d, shape %s; { unused = true } gives zeros for it",
                     absent + 1, shape_text(&input.tensor[absent]->shape));
  }
  give_results(L, slot, result);
  return 1;
}

static int grad_requires_grad(lua_State *L) {
  struct tensor *tensor = bind_tensor(L, 1);
  if (lua_isnoneornil(L, 2)) {
    lua_pushboolean(L, tape_tracks(tensor));
    return 1;
  }
  bind_check_type(L, 2, LUA_TBOOLEAN);
  bool wanted = lua_toboolean(L, 2);
  if (wanted && tensor->type != TYPE_REAL)
    return bind_fail(L, "requires_grad: only a tensor of type %s has a gradient, this one is %s", type_name(TYPE_REAL),
                     type_name(tensor->type));
  if (tensor->node && tape_tracks(tensor))
    return bind_fail(L,
                     "requires_grad: this tensor was computed from others that require gradient; only a leaf can be "
                     "set (x:detach() gives one)");
  tensor->requires_gradient = wanted;
  if (!wanted) gradient_clear(tensor);
  lua_settop(L, 1);
  return 1;
}

static int grad_detach(lua_State *L) {
  bind_push_tensor(L, tensor_alias(bind_tensor(L, 1)));
  tape_note_constant(bind_test_tensor(L, -1));
  return 1;
}

static int grad_zero_grad(lua_State *L) {
  gradient_clear(bind_tensor(L, 1));
  bind_step_ended();
  return 0;
}

static int grad_is_leaf(lua_State *L) {
  lua_pushboolean(L, bind_tensor(L, 1)->node == NULL);
  return 1;
}

static int grad_tape_release(lua_State *L) {
  luaL_argexpected(L, lua_isnoneornil(L, 1) || lua_isboolean(L, 1), 1, "boolean");
  tape_release(!lua_toboolean(L, 1));
  bind_step_ended();
  bind_collect(L);
  return 0;
}

static int grad_tape_size(lua_State *L) {
  lua_pushinteger(L, node_count());
  return 1;
}

static const struct bind_function functions[] = {
    {"backward_passes", backward_passes, 0,
     "backward_passes() -> number\n"
     "Passes of backward whose gradients no step has used or forgotten."},
    {"grad", grad_grad, 3,
     "grad(outputs, inputs [, { create_graph =, seeds =, unused =, values = }]) -> tensors\n"
     "The gradients of outputs, numbers (or tensors, each times its seed of the same shape, summed), by inputs: "
     "leaves\n"
     "that require a gradient, or tensors on the tape. Each is a tensor or a list, and the result is as inputs is.\n"
     "With create_graph the gradients are on the tape, and can be differentiated again. An input on which no output\n"
     "depends is an error, or has zeros with unused. Leaves' own gradients, x.grad, stay as they are. values = false,\n"
     "beside create_graph, is for who wants derivatives of the gradients alone: those of weights are NaN."},
    {"jvp", grad_jvp, 3,
     "jvp(outputs, inputs, tangents) -> tensors\n"
     "The changes of outputs, on the tape, when each of the inputs (leaves, or tensors on the tape) changes by its\n"
     "tangent: forward-mode differentiation. Each is a tensor or a list, and the result is as outputs is."},
    {"tape_release", grad_tape_release, 1,
     "tape_release([reached])\n"
     "Ends a training step: drops everything the tape has saved. With true what backward has reached and what was\n"
     "computed from that alone, as optimizers do in step()."},
    {"tape_size", grad_tape_size, 0,
     "tape_size() -> number\n"
     "Recorded steps that the tape holds."},
    {NULL, NULL, 0, NULL}};

static const struct bind_function methods[] = {
    {"backward", grad_backward, 2,
     "x:backward([seed])\n"
     "Adds to every leaf's gradient the derivative of x, of one element (or of the sum of seed x, seed of x's\n"
     "shape) by that leaf."},
    {"requires_grad", grad_requires_grad, 2,
     "x:requires_grad() -> boolean; x:requires_grad(flag) -> x\n"
     "Whether derivatives reach x; sets whether the leaf x gets one."},
    {"detach", grad_detach, 1,
     "x:detach() -> tensor\n"
     "The same elements as a constant: derivatives stop here. Shares memory with x."},
    {"zero_grad", grad_zero_grad, 1,
     "x:zero_grad()\n"
     "Forgets the gradient of x."},
    {"is_leaf", grad_is_leaf, 1,
     "x:is_leaf() -> boolean\n"
     "True when x was not computed by recorded steps."},
    {NULL, NULL, 0, NULL}};

void bind_open_grad(lua_State *L) {
  bind_functions(L, functions);
  luaL_getmetatable(L, BIND_TENSOR);
  lua_getfield(L, -1, "methods");
  bind_functions(L, methods);
  lua_pop(L, 2);
}
