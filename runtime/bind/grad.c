/* Grad: the tape for scripts: backward, forward-mode derivatives, and which tensors are leaves. */
#include "bind.h"

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

/* A list of count tensors at argument i (any count when negative), as an array that the stack keeps. */
static struct tensor **tensor_list(lua_State *L, int i, const char *what, int *count) {
  bind_check_type(L, i, LUA_TTABLE);
  int length = (int)bind_length(L, i, "jvp");
  if (*count >= 0 && length != *count) bind_fail(L, "jvp: %d leaves, but %d tangents", *count, length);
  *count = length;
  struct tensor **list = lua_newuserdatauv(L, (size_t)(length + 1) * sizeof *list, 0);
  for (int k = 0; k < length; k++) {
    lua_rawgeti(L, i, k + 1);
    list[k] = bind_test_tensor(L, -1);
    if (!list[k])
      bind_fail(L, "jvp: entry %d of the list of %s must be a tensor, got %s", k + 1, what, luaL_typename(L, -1));
    lua_pop(L, 1);
  }
  return list;
}

static int grad_jvp(lua_State *L) {
  struct tensor *output = bind_tensor(L, 1), *result = NULL;
  int count = -1;
  struct tensor **leaf = tensor_list(L, 2, "leaves", &count);
  struct tensor **tangent = tensor_list(L, 3, "tangents", &count);
  for (int i = 0; i < count; i++)
    if (tangent[i]->type != TYPE_REAL || !shape_equal(&leaf[i]->shape, &tangent[i]->shape))
      return bind_fail(L, "jvp: tangent %d has type %s and shape %s, its leaf %s and %s", i + 1,
                       type_name(tangent[i]->type), shape_text(&tangent[i]->shape), type_name(leaf[i]->type),
                       shape_text(&leaf[i]->shape));
  lua_State *before = bind_running;
  bind_running = L;
  int status = tape_jvp(output, count, leaf, tangent, &result);
  bind_running = before;
  bind_check(L, status);
  bind_push_tensor(L, result);
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
    {"jvp", grad_jvp, 3,
     "jvp(output, leaves, tangents) -> tensor\n"
     "The change of output, a tensor on the tape, when each of the leaves changes by its tangent: forward-mode\n"
     "differentiation over the steps that made output."},
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
