/* Function: gls.fn, differentiable functions written in Lua.
   The tape holds a context: the state to call in, and where the registry keeps the Lua side, a table
   { specification, the table given to forward }. A Lua error inside a callback becomes a status with its
   message, and so passes through the core as any failure does. */
#include "bind.h"

#include <string.h>

#include "../base/memory.h"
#include "../grad/tape.h"

struct script_function {
  lua_State *state; /* the main thread's, for when no call of the binding is under way */
  int reference;    /* in the registry */
  int input_count;
  struct shape output;
  struct shape shape[]; /* of the tensor arguments */
};

/* Its address names a table in the registry: a function's address → the userdata that forward gave, while the script
   keeps it. */
static const char outputs_key;

_Thread_local lua_State *bind_running;

struct callback {
  struct script_function *function;
  const char *name; /* "backward" or "jvp" */
  int input_count;
  struct tensor *const *input;
  const bool *needed;
  struct tensor **result;
  struct node *node; /* what it runs is recorded, as the derivative of this node; or NULL */
};

/* Raises what is wrong with what a function of the script's has returned, with the place where it begins. */
static int wrong_result(lua_State *L, const struct callback *call, const char *message) {
  lua_Debug place;
  lua_rawgeti(L, LUA_REGISTRYINDEX, call->function->reference);
  lua_rawgeti(L, -1, 1);
  lua_getfield(L, -1, call->name);
  lua_getinfo(L, ">S", &place);
  lua_pushfstring(L, "%s:%d: fn: %s", place.short_src, place.linedefined, message);
  return lua_error(L);
}

/* Refuses a result of another type or shape than those of what it belongs to. */
static void check_form(lua_State *L, const struct callback *call, const struct tensor *tensor, const char *result,
                       const char *of, const struct shape *shape) {
  if (shape_equal(&tensor->shape, shape) && tensor->type == TYPE_REAL) return;
  wrong_result(L, call,
               lua_pushfstring(L, "%s has type %s and shape %s, %s %s and %s", result, type_name(tensor->type),
                               shape_text(&tensor->shape), of, type_name(TYPE_REAL), shape_text(shape)));
}

/* Result i of backward, at the top of the stack. */
static struct tensor *checked_result(lua_State *L, const struct callback *call, int i) {
  const struct shape *shape = &call->function->shape[i];
  if (lua_isnil(L, -1)) return tensor_zeros(TYPE_REAL, shape);
  struct tensor *tensor = bind_test_tensor(L, -1);
  const char *result = lua_pushfstring(L, "result %d of backward", i + 1);
  lua_insert(L, -2);
  if (!tensor) {
    wrong_result(L, call, lua_pushfstring(L, "%s must be a tensor or nil, got %s", result, luaL_typename(L, -1)));
  } else if (call->node && tape_is_unrecorded(tensor)) {
    wrong_result(L, call,
                 lua_pushfstring(L,
                                 "%s was computed in forward, which is not recorded, and its second derivative "
                                 "would be lost; compute it in backward",
                                 result));
  } else {
    check_form(L, call, tensor, result, "its argument", shape);
  }
  lua_remove(L, -2);
  return call->node ? tensor_retain(tensor) : tensor_alias(tensor);
}

/* Calls specification[name](context, input…); protected by its caller. */
static int protected_callback(lua_State *L) {
  struct callback *call = lua_touserdata(L, 1);
  struct script_function *function = call->function;
  lua_rawgeti(L, LUA_REGISTRYINDEX, function->reference);
  lua_rawgeti(L, -1, 1);
  lua_getfield(L, -1, call->name);
  lua_rawgeti(L, -3, 2);
  luaL_checkstack(L, call->input_count + function->input_count + 4, "too many arguments");
  for (int i = 0; i < call->input_count; i++) {
    if (call->input[i])
      bind_push_tensor(L, tensor_retain(call->input[i]));
    else
      lua_pushnil(L);
  }
  if (strcmp(call->name, "jvp") == 0) {
    lua_call(L, call->input_count + 1, 1);
    struct tensor *tangent = bind_test_tensor(L, -1);
    if (!tangent)
      return wrong_result(L, call, lua_pushfstring(L, "jvp must return a tensor, got %s", luaL_typename(L, -1)));
    check_form(L, call, tangent, "the result of jvp", "that of forward", &function->output);
    call->result[0] = tensor_retain(tangent);
    return 0;
  }
  int base = lua_gettop(L) - call->input_count - 2;
  lua_call(L, call->input_count + 1, function->input_count);
  for (int i = 0; i < function->input_count; i++) {
    if (!call->needed[i]) continue;
    lua_pushvalue(L, base + i + 1);
    call->result[i] = checked_result(L, call, i);
    if (!call->result[i]) return bind_error(L);
    lua_pop(L, 1);
  }
  return 0;
}

/* Puts the node's output, on the tape, in the place of what forward gave and the script keeps, at the top of the stack;
   *plain: what was there. */
static int lend_output(lua_State *L, const struct callback *call, struct tensor ***slot, struct tensor **plain) {
  *slot = call->node ? bind_test_slot(L, -1) : NULL;
  if (!*slot || !**slot) return *slot = NULL, STATUS_OK;
  struct tensor *output = tensor_alias(**slot);
  if (!output) return *slot = NULL, STATUS_ERROR;
  output->node = node_retain(call->node);
  *plain = **slot;
  **slot = output;
  return STATUS_OK;
}

static void take_back(struct tensor **slot, struct tensor *plain) {
  if (!slot) return;
  bool released = !*slot; /* by the script, meanwhile */
  tensor_release(released ? plain : *slot);
  if (!released) *slot = plain;
}

static int run_callback(struct callback *call) {
  lua_State *L = bind_running ? bind_running : call->function->state;
  if (!call->node) bind_unrecorded(1);
  bool refused = tape_refuse_unrecorded(call->node);
  int top = lua_gettop(L), status = STATUS_OK;
  struct tensor **slot = NULL, *plain = NULL;
  if (!lua_checkstack(L, 8)) {
    status = status_error("fn: no room on Lua's stack");
  } else {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &outputs_key);
    lua_rawgetp(L, -1, call->function);
    status = lend_output(L, call, &slot, &plain);
  }
  if (status == STATUS_OK) {
    lua_pushcfunction(L, protected_callback);
    lua_pushlightuserdata(L, call);
    if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
      const char *message = lua_tostring(L, -1);
      status = status_error("%s", message ? message : "fn: an error whose value is not a message");
    }
  }
  take_back(slot, plain);
  lua_settop(L, top);
  tape_refuse_unrecorded(refused);
  if (!call->node) bind_unrecorded(-1);
  return status;
}

static int script_backward(void *context, struct tensor *gradient, const bool *needed, struct tensor **result) {
  struct callback call = {.function = context,
                          .name = "backward",
                          .input_count = 1,
                          .input = &gradient,
                          .needed = needed,
                          .result = result};
  return run_callback(&call);
}

static int script_graph(struct node *node, struct tensor *gradient, const bool *needed, struct tensor **result) {
  struct callback call = {.function = node->context,
                          .name = "backward",
                          .input_count = 1,
                          .input = &gradient,
                          .needed = needed,
                          .result = result,
                          .node = node};
  return run_callback(&call);
}

static int script_jvp(void *context, struct tensor *const *tangent, struct tensor **result) {
  struct script_function *function = context;
  struct callback call = {
      .function = function, .name = "jvp", .input_count = function->input_count, .input = tangent, .result = result};
  return run_callback(&call);
}

static void script_release(void *context) {
  struct script_function *function = context;
  luaL_unref(function->state, LUA_REGISTRYINDEX, function->reference);
  memory_delete(function);
}

static const struct tape_function script_with_jvp = {script_backward, script_graph, script_jvp, script_release};
static const struct tape_function script_without_jvp = {script_backward, script_graph, NULL, script_release};

/* A context for the call whose arguments, from stack index 2 on, are count tensors among others; the pair
   { specification, forward's table } is at the top of the stack and is taken off. */
static struct script_function *new_script_function(lua_State *L, int count, struct tensor *const *input,
                                                   const struct tensor *output) {
  struct script_function *function = memory_new(1, sizeof *function + (size_t)count * sizeof function->shape[0]);
  if (!function) {
    bind_error(L);
    return NULL;
  }
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  function->state = lua_tothread(L, -1);
  lua_pop(L, 1);
  function->input_count = count;
  function->output = output->shape;
  for (int i = 0; i < count; i++) function->shape[i] = input[i]->shape;
  function->reference = luaL_ref(L, LUA_REGISTRYINDEX);
  return function;
}

/* specification.forward(context, …), unrecorded, then recorded as one step. Upvalue 1: the specification. */
static int call_function(lua_State *L) {
  int top = lua_gettop(L), count = 0;
  luaL_checkstack(L, top + 12, "too many arguments");
  struct tensor **input = lua_newuserdatauv(L, (size_t)(top + 1) * sizeof *input, 0);
  for (int i = 1; i <= top; i++)
    if (bind_test_tensor(L, i)) input[count++] = bind_test_tensor(L, i);
  bool tracked = false, reached = false;
  for (int i = 0; i < count; i++) {
    tracked = tracked || tape_tracks(input[i]);
    reached = reached || tape_tracks(input[i]) || tape_is_unrecorded(input[i]);
  }
  lua_newtable(L);
  int context = lua_gettop(L);
  bind_push_guard(L, reached && bind_recording());
  int guard = lua_gettop(L);
  lua_toclose(L, guard);
  lua_getfield(L, lua_upvalueindex(1), "forward");
  lua_pushvalue(L, context);
  for (int i = 1; i <= top; i++) lua_pushvalue(L, i);
  lua_call(L, top + 1, LUA_MULTRET);
  if (lua_gettop(L) > guard + 1)
    return luaL_error(L, "fn: forward must return one tensor, got %d values; return them stacked or joined by cat",
                      lua_gettop(L) - guard);
  lua_settop(L, guard + 1);
  lua_closeslot(L, guard);
  int again = 0;
  for (int i = 1; i <= top; i++) {
    struct tensor *argument = bind_test_tensor(L, i);
    if (argument && again < count && input[again] == argument) again++;
  }
  if (again < count) return bind_fail(L, "fn: forward has released one of its arguments");
  struct tensor *made = bind_test_tensor(L, -1);
  if (!made) return bind_fail(L, "fn: forward must return a tensor, got %s", luaL_typename(L, -1));
  if (!tracked || !bind_recording()) return 1;
  if (made->type != TYPE_REAL)
    return bind_fail(L, "fn: forward must return a tensor of type %s to be differentiable, got %s",
                     type_name(TYPE_REAL), type_name(made->type));

  struct tensor **slot = bind_new_tensor(L);
  *slot = tensor_alias(made); /* an argument handed back must not become its own result */
  if (!*slot) return bind_error(L);
  tape_note_constant(*slot);
  lua_createtable(L, 2, 0);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_rawseti(L, -2, 1);
  lua_pushvalue(L, context);
  lua_rawseti(L, -2, 2);
  bool has_jvp = lua_getfield(L, lua_upvalueindex(1), "jvp") != LUA_TNIL;
  lua_pop(L, 1);
  struct script_function *function = new_script_function(L, count, input, made);
  bind_check(L, tape_record_function(has_jvp ? &script_with_jvp : &script_without_jvp, function, count, input, *slot));
  lua_rawgetp(L, LUA_REGISTRYINDEX, &outputs_key);
  for (int i = 0; i < count && made; i++)
    if (input[i] == made) made = NULL;
  if (made)
    lua_pushvalue(L, guard + 1);
  else
    lua_pushnil(L);
  lua_rawsetp(L, -2, function);
  lua_pop(L, 1);
  return 1;
}

static int new_function(lua_State *L) {
  static const char *const fields[] = {"forward", "backward", "jvp", NULL};
  bind_check_type(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  lua_newtable(L); /* a copy, so that the function stays what it was made as */
  lua_pushnil(L);
  while (lua_next(L, 1)) {
    const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : NULL;
    bool known = false;
    for (int i = 0; name && fields[i]; i++) known = known || strcmp(name, fields[i]) == 0;
    if (!known) {
      if (!name) return bind_fail(L, "fn: fields are forward, backward and jvp");
      bind_push_suggestion(L, name, fields);
      return bind_fail(L, "fn: unknown field \"%s\"%s", name, lua_tostring(L, -1));
    }
    if (lua_type(L, -1) != LUA_TFUNCTION)
      return bind_fail(L, "fn: %s must be a function, got %s", name, luaL_typename(L, -1));
    lua_pushvalue(L, -2);
    lua_insert(L, -2);
    lua_rawset(L, 2);
  }
  for (int i = 0; i < 2; i++) {
    if (lua_getfield(L, 2, fields[i]) == LUA_TNIL) return bind_fail(L, "fn: function %s is missing", fields[i]);
    lua_pop(L, 1);
  }
  lua_pushcclosure(L, call_function, 1);
  return 1;
}

static const struct bind_function functions[] = {
    {"fn", new_function, 1,
     "fn{ forward =, backward = [, jvp =] } -> function\n"
     "A differentiable function. forward(context, …) gets the call's arguments and returns a tensor;\n"
     "backward(context, gradient) returns one tensor (or nil, for zero) for each tensor among the arguments,\n"
     "of that one's shape; jvp(context, tangent…) gets a tangent or nil for each and returns the result's.\n"
     "context is a table of this call's own, for what forward wants to keep. For derivatives of the gradient\n"
     "backward is recorded: arguments that forward kept, and its result, lead on; what else it has computed of\n"
     "arguments does not, and using it then is an error: compute it in backward, or keep gls.tensor(x), a constant."},
    {NULL, NULL, 0, NULL}};

void bind_open_function(lua_State *L) {
  bind_functions(L, functions);
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "v");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &outputs_key);
}
