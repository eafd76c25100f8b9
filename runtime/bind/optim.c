/* Optim: optimizers as userdata. A userdata holds its parameters and their state tensors; settings come as a table
   of numbers at every step, so that schedules live in Lua. */
#include "bind.h"

#include <string.h>

#include "../base/memory.h"
#include "../gls/gls.h"
#include "../optim/optim.h"

#define BIND_OPTIMIZER "gls.optimizer"

enum optimizer_kind { KIND_SGD, KIND_ADAM, KIND_GLS };
enum { SLOT_COUNT = 4 };
static const char *const kind_name[] = {"sgd", "adam", "gls", NULL};
static const char *const slot_name[][SLOT_COUNT] = {
    {"velocity"}, {"first_moment", "second_moment"}, {"velocity", "covariance", "cholesky", "window"}};

struct optimizer {
  enum optimizer_kind kind;
  int count;
  struct tensor **parameter;
  struct tensor **state[SLOT_COUNT]; /* of SGD and Adam */
  int64_t *missed;                   /* of Adam: steps in which a parameter had no gradient */
  struct gls *gls;
};

static int optimizer_release(lua_State *L) {
  struct optimizer *o = luaL_checkudata(L, 1, BIND_OPTIMIZER);
  for (int i = 0; i < o->count; i++) {
    o->parameter[i]->factor_readers -= o->kind == KIND_GLS;
    tensor_release(o->parameter[i]);
    for (int k = 0; k < SLOT_COUNT; k++)
      if (o->state[k]) tensor_release(o->state[k][i]);
  }
  memory_delete(o->parameter);
  memory_delete(o->missed);
  for (int k = 0; k < SLOT_COUNT; k++) memory_delete(o->state[k]);
  gls_delete(o->gls);
  memset(o, 0, sizeof *o);
  return 0;
}

static struct optimizer *check_optimizer(lua_State *L) {
  struct optimizer *o = luaL_checkudata(L, 1, BIND_OPTIMIZER);
  if (!o->parameter) bind_fail(L, "this optimizer has been released");
  return o;
}

/* optimizer(kind, parameters) */
static int optimizer_new(lua_State *L) {
  int kind = luaL_checkoption(L, 1, NULL, kind_name);
  bind_check_type(L, 2, LUA_TTABLE);
  int count = (int)bind_length(L, 2, "optimizer");
  if (count == 0) return bind_fail(L, "an optimizer needs at least one parameter; the list given is empty");
  struct optimizer *o = lua_newuserdatauv(L, sizeof *o, 0);
  memset(o, 0, sizeof *o);
  luaL_setmetatable(L, BIND_OPTIMIZER);
  o->kind = (enum optimizer_kind)kind;
  o->parameter = memory_new((size_t)count, sizeof *o->parameter);
  if (!o->parameter) return bind_error(L);
  for (int i = 0; i < count; i++) {
    lua_rawgeti(L, 2, i + 1);
    struct tensor *t = bind_test_tensor(L, -1);
    if (!t) return bind_fail(L, "parameter %d is a %s, not a tensor", i + 1, luaL_typename(L, -1));
    if (!t->requires_gradient)
      return bind_fail(L, "parameter %d does not require a gradient; call x:requires_grad(true) on it first", i + 1);
    if (!tensor_is_contiguous(t))
      return bind_fail(L, "parameter %d is a strided view; make it with x:contiguous()", i + 1);
    for (int k = 0; k < i; k++)
      if (o->parameter[k] == t) return bind_fail(L, "parameters %d and %d are the same tensor", k + 1, i + 1);
    o->parameter[i] = tensor_retain(t);
    t->factor_readers += kind == KIND_GLS;
    o->count = i + 1;
    lua_pop(L, 1);
  }
  for (int k = 0; k < SLOT_COUNT && kind != KIND_GLS && slot_name[kind][k]; k++) {
    o->state[k] = memory_new((size_t)count, sizeof *o->state[k]);
    if (!o->state[k]) return bind_error(L);
  }
  if (kind == KIND_GLS && !(o->gls = gls_new(count))) return bind_error(L);
  if (kind == KIND_ADAM && !(o->missed = memory_new((size_t)count, sizeof *o->missed))) return bind_error(L);
  return 1;
}

static double number(lua_State *L, const char *name) {
  if (lua_getfield(L, 2, name) != LUA_TNUMBER)
    bind_fail(L, "%s: a number is expected, got %s", name, luaL_typename(L, -1));
  double value = lua_tonumber(L, -1);
  lua_pop(L, 1);
  return value;
}

static int choice(lua_State *L, const char *name, const char *const *choices) {
  lua_getfield(L, 2, name);
  int value = 0;
  if (!lua_isnil(L, -1)) {
    const char *text = lua_tostring(L, -1);
    for (value = 0; choices[value] && (!text || strcmp(text, choices[value]) != 0);) value++;
    if (!choices[value]) return bind_fail(L, "%s: there is no \"%s\"", name, text ? text : luaL_typename(L, -1));
  }
  lua_pop(L, 1);
  return value;
}

/* The processes that step together, where the settings say that there are some (mpi.c leaves them in the registry). */
static const struct ranks *ranks_of(lua_State *L) {
  if (!bind_flag_field(L, 2, "ranks")) return NULL;
  lua_getfield(L, LUA_REGISTRYINDEX, "gls.ranks");
  const struct ranks *ranks = lua_touserdata(L, -1);
  lua_pop(L, 1);
  if (!ranks) bind_fail(L, "ranks: gls.mpi has not been started");
  return ranks && ranks->size > 1 ? ranks : NULL;
}

static struct gls_options gls_options_of(lua_State *L) {
  static const char *const grafts[] = {"none", "sgd", "rms", "spectral", NULL};
  static const char *const statistics[] = {"batch", "moving", "window", NULL};
  return (struct gls_options){.ranks = ranks_of(L),
                              .damping = number(L, "damping"),
                              .automatic = bind_flag_field(L, 2, "automatic"),
                              .learning_rate = number(L, "learning_rate"),
                              .delta = number(L, "delta"),
                              .rows = number(L, "rows"),
                              .momentum = number(L, "momentum"),
                              .nesterov = bind_flag_field(L, 2, "nesterov"),
                              .automatic_momentum = bind_flag_field(L, 2, "automatic_momentum"),
                              .graft = (enum gls_graft)choice(L, "graft", grafts),
                              .statistics = (enum gls_statistics)choice(L, "statistics", statistics),
                              .decay = number(L, "decay"),
                              .refresh = (int)number(L, "refresh"),
                              .window = (int64_t)number(L, "window"),
                              .weight_decay = number(L, "weight_decay"),
                              .trust = number(L, "trust"),
                              .statistics_rows = (int64_t)number(L, "statistics_rows"),
                              .orthogonal = bind_flag_field(L, 2, "orthogonal"),
                              .part = (int64_t)number(L, "part")};
}

/* optimizer:step(settings): applies the gradients; keeps them and the tape. */
static int optimizer_step(lua_State *L) {
  struct optimizer *o = check_optimizer(L);
  bind_check_type(L, 2, LUA_TTABLE);
  if (o->kind == KIND_SGD) {
    struct sgd_options options = {number(L, "learning_rate"), number(L, "momentum"), number(L, "weight_decay"),
                                  bind_flag_field(L, 2, "nesterov")};
    bind_check(L, sgd_step(o->parameter, o->state[0], o->count, &options));
  } else if (o->kind == KIND_ADAM) {
    struct adam_options options = {.learning_rate = number(L, "learning_rate"),
                                   .beta1 = number(L, "beta1"),
                                   .beta2 = number(L, "beta2"),
                                   .epsilon = number(L, "epsilon"),
                                   .weight_decay = number(L, "weight_decay"),
                                   .decoupled = bind_flag_field(L, 2, "decoupled"),
                                   .step = (int64_t)number(L, "step")};
    bind_check(L, adam_step(o->parameter, o->state[0], o->state[1], o->missed, o->count, &options));
  } else {
    struct gls_options options = gls_options_of(L);
    bind_check(L, gls_step(o->gls, o->parameter, &options));
  }
  return 0;
}

/* optimizer:unhandled() -> list of the places of parameters that the last GLS step left alone */
static int optimizer_unhandled(lua_State *L) {
  struct optimizer *o = check_optimizer(L);
  lua_newtable(L);
  lua_Integer n = 0;
  for (int i = 0; i < o->count && o->gls; i++) {
    if (o->gls->handled[i]) continue;
    lua_pushinteger(L, i + 1);
    lua_rawseti(L, -2, ++n);
  }
  return 1;
}

/* optimizer:finish(): the end of a training step: gradients are forgotten, the tape is released, young garbage goes. */
static int optimizer_finish(lua_State *L) {
  struct optimizer *o = check_optimizer(L);
  for (int i = 0; i < o->count; i++) gradient_clear(o->parameter[i]);
  tape_release(false);
  bind_step_ended();
  bind_collect(L);
  return 0;
}

/* optimizer:clear() */
static int optimizer_clear(lua_State *L) {
  struct optimizer *o = check_optimizer(L);
  for (int i = 0; i < o->count; i++) gradient_clear(o->parameter[i]);
  bind_step_ended();
  return 0;
}

static struct tensor **slot(struct optimizer *o, int k, int i) {
  if (o->kind != KIND_GLS) return &o->state[k][i];
  struct gls_layer *layer = &o->gls->layer[i];
  struct tensor **const slots[SLOT_COUNT] = {&layer->velocity, &layer->covariance, &layer->cholesky, &layer->window};
  return slots[k];
}

/* Kept as tensors of one element: steps of moving statistics, and those that Adam's moments have not seen. */
static const char UPDATES[] = "updates", MISSED[] = "missed";

static void push_entry(lua_State *L, const char *name, int place, struct tensor *t, lua_Integer n) {
  lua_createtable(L, 3, 0);
  lua_pushstring(L, name);
  lua_rawseti(L, -2, 1);
  lua_pushinteger(L, place);
  lua_rawseti(L, -2, 2);
  bind_push_tensor(L, t);
  lua_rawseti(L, -2, 3);
  lua_rawseti(L, -2, n);
}

/* optimizer:state() -> list of { slot, place, tensor } */
static int optimizer_state(lua_State *L) {
  struct optimizer *o = check_optimizer(L);
  lua_newtable(L);
  lua_Integer n = 0;
  for (int k = 0; k < SLOT_COUNT && slot_name[o->kind][k]; k++) {
    for (int i = 0; i < o->count; i++) {
      struct tensor *t = *slot(o, k, i);
      if (!t) continue;
      push_entry(L, slot_name[o->kind][k], i + 1, tensor_copy(t), ++n);
    }
  }
  for (int i = 0; i < o->count && o->gls; i++)
    if (o->gls->layer[i].updates > 0) push_entry(L, UPDATES, i + 1, tensor_scalar((real)o->gls->layer[i].updates), ++n);
  for (int i = 0; i < o->count && o->missed; i++)
    if (o->missed[i] > 0) push_entry(L, MISSED, i + 1, tensor_scalar((real)o->missed[i]), ++n);
  return 1;
}

/* optimizer:set_state(slot, place, tensor) */
static int optimizer_set_state(lua_State *L) {
  struct optimizer *o = check_optimizer(L);
  const char *name = bind_text(L, 2, NULL);
  lua_Integer place = bind_whole(L, 3);
  struct tensor *t = bind_tensor(L, 4);
  bind_check_argument(L, place >= 1 && place <= o->count, 3, "no such parameter");
  if (o->gls && strcmp(name, UPDATES) == 0) {
    o->gls->layer[place - 1].updates = (int64_t)tensor_get(t, (int64_t[TENSOR_MAX_RANK]){0});
    return 0;
  }
  if (o->missed && strcmp(name, MISSED) == 0) {
    o->missed[place - 1] = (int64_t)tensor_get(t, (int64_t[TENSOR_MAX_RANK]){0});
    return 0;
  }
  for (int k = 0; k < SLOT_COUNT && slot_name[o->kind][k]; k++) {
    if (strcmp(name, slot_name[o->kind][k]) != 0) continue;
    if (t->type != TYPE_REAL) return bind_fail(L, "state \"%s\" is a tensor of %s", name, type_name(t->type));
    if (o->kind != KIND_GLS && !shape_equal(&t->shape, &o->parameter[place - 1]->shape))
      return bind_fail(L, "state \"%s\" of parameter %d has shape %s, the parameter %s", name, (int)place,
                       shape_text(&t->shape), shape_text(&o->parameter[place - 1]->shape));
    struct tensor *copy = tensor_copy(t);
    if (!copy) return bind_error(L);
    tensor_release(*slot(o, k, (int)place - 1));
    *slot(o, k, (int)place - 1) = copy;
    return 0;
  }
  return bind_fail(L, "an optimizer of kind %s has no state \"%s\"", kind_name[o->kind], name);
}

static void set_number(lua_State *L, const char *name, double value) {
  lua_pushnumber(L, value);
  lua_setfield(L, -2, name);
}

static void set_count(lua_State *L, const char *name, int64_t value) {
  lua_pushinteger(L, (lua_Integer)value);
  lua_setfield(L, -2, name);
}

/* optimizer:report() -> what the guards counted, the last η and μ */
static int optimizer_report(lua_State *L) {
  struct optimizer *o = check_optimizer(L);
  lua_newtable(L);
  if (!o->gls) return 1;
  const struct gls_report *report = &o->gls->report;
  set_count(L, "steps", report->steps);
  set_count(L, "cholesky_retries", report->cholesky_retries);
  set_count(L, "direction_fallbacks", report->direction_fallbacks);
  set_count(L, "trust_limits", report->trust_limits);
  set_count(L, "skipped_steps", report->skipped_steps);
  set_number(L, "learning_rate", report->learning_rate);
  set_number(L, "momentum", report->momentum);
  return 1;
}

/* optimizer:layers() -> list of { place =, damping =, … }: the last step's; from the first call on */
static int optimizer_layers(lua_State *L) {
  struct optimizer *o = check_optimizer(L);
  lua_newtable(L);
  if (!o->gls) return 1;
  bind_check(L, gls_watch_layers(o->gls));
  lua_Integer n = 0;
  for (int i = 0; i < o->count; i++) {
    const struct gls_watch *watch = &o->gls->watch[i];
    if (!watch->stepped) continue;
    lua_createtable(L, 0, 8);
    set_count(L, "place", i + 1);
    set_number(L, "damping", watch->damping);
    set_number(L, "fraction", watch->fraction);
    set_number(L, "step", watch->step);
    set_number(L, "change", watch->change);
    set_count(L, "retries", watch->retries);
    set_count(L, "fallbacks", watch->fallbacks);
    set_count(L, "limits", watch->limits);
    lua_rawseti(L, -2, ++n);
  }
  return 1;
}

/* clip_gradients(parameters, maximum) -> norm before */
static int bind_clip(lua_State *L) {
  bind_check_type(L, 1, LUA_TTABLE);
  double maximum = bind_number(L, 2), norm = 0;
  bind_check_argument(L, maximum >= 0, 2, "the maximum of a norm is a number of at least 0");
  int count = (int)bind_length(L, 1, "clip_gradients");
  struct tensor **parameter = lua_newuserdatauv(L, (size_t)(count ? count : 1) * sizeof *parameter, 0);
  for (int i = 0; i < count; i++) {
    lua_rawgeti(L, 1, i + 1);
    parameter[i] = bind_tensor(L, -1);
    lua_pop(L, 1); /* the list keeps it */
  }
  bind_check(L, clip_gradients(parameter, count, maximum, &norm));
  lua_pushnumber(L, norm);
  return 1;
}

/* factors(parameter) -> list of { a = A, g = G, batch = N } */
static int bind_factors(lua_State *L) {
  struct tensor *leaf = bind_tensor(L, 1);
  if (leaf->gradient && leaf->gradient->lost)
    return bind_fail(L, "factors: of the weight of shape %s they are gone: %s", shape_text(&leaf->shape),
                     leaf->gradient->lost);
  lua_newtable(L);
  lua_Integer n = 0;
  for (int i = 0; leaf->gradient && i < leaf->gradient->factor_count; i++) {
    const struct factor *factor = &leaf->gradient->factor[i];
    if (factor->input != 1 || factor->node->released) continue;
    lua_createtable(L, 0, 3);
    struct tensor **a = bind_new_tensor(L), **g = bind_new_tensor(L);
    struct factors f = {0};
    bind_check(L, factor->node->call.op->affine->factors(&factor->node->call, factor->gradient, &f));
    *a = f.a;
    *g = f.g;
    lua_setfield(L, -3, "g");
    lua_setfield(L, -2, "a");
    lua_pushinteger(L, factor->node->call.input[0]->shape.size[0]);
    lua_setfield(L, -2, "batch");
    lua_rawseti(L, -2, ++n);
  }
  return 1;
}

static const struct bind_function methods[] = {
    {"__gc", optimizer_release, BIND_ANY, NULL},        {"__close", optimizer_release, BIND_ANY, NULL},
    {"release", optimizer_release, BIND_ANY, NULL},     {"step", optimizer_step, BIND_ANY, NULL},
    {"unhandled", optimizer_unhandled, BIND_ANY, NULL}, {"finish", optimizer_finish, BIND_ANY, NULL},
    {"clear", optimizer_clear, BIND_ANY, NULL},         {"state", optimizer_state, BIND_ANY, NULL},
    {"set_state", optimizer_set_state, BIND_ANY, NULL}, {"report", optimizer_report, BIND_ANY, NULL},
    {"layers", optimizer_layers, BIND_ANY, NULL},       {NULL, NULL, 0, NULL}};

static const struct bind_function functions[] = {
    {"optimizer", optimizer_new, 2,
     "optimizer(kind, parameters) -> userdata\n"
     "The C side of gls.optim: kind is \"sgd\", \"adam\" or \"gls\"."},
    {"clip_gradients", bind_clip, 2,
     "clip_gradients(parameters, maximum) -> norm\n"
     "Scales all gradients so that their common Euclidean norm is at most maximum; gives the norm before\n"
     "(Pascanu et al., ICML 2013)."},
    {"factors", bind_factors, 1,
     "factors(parameter) -> list\n"
     "Of an affine layer's weight after backward: for each use { a = inputs (rows × d), g = ∂L/∂outputs (rows\n"
     "× m), batch = first size of its input }; the gradient is the sum of aᵀg. Empty for other tensors."},
    {NULL, NULL, 0, NULL}};

void bind_open_optim(lua_State *L) {
  bind_class(L, BIND_OPTIMIZER, methods);
  bind_functions(L, functions);
}
