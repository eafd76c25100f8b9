/* Plans of fused programs. Instructions are first emitted in their order with a place of its own for every result; then
   those that no result needs are dropped, cheap ones made into pairs, and places are given buffers, each free again
   after its last reader. */
#include <string.h>

#include "fuse.h"

/* ---- emitting: place p is an operand, a number, or the result of instruction p - first(plan) ---- */

static int first(const struct fuse_plan *plan) { return plan->operands + plan->numbers; }

static int emit(struct fuse_plan *plan, struct fuse_instruction instruction) {
  instruction.result = first(plan) + plan->count;
  plan->instruction[plan->count++] = instruction;
  return instruction.result;
}

static const struct fuse_instruction nothing = {.result = FUSE_NONE,
                                                .read = {FUSE_NONE, FUSE_NONE, FUSE_NONE, FUSE_NONE, FUSE_NONE}};

static int place_of(const struct fuse_value *step, const int *at, int i) {
  return i < step->argument_count ? at[step->argument[i]] : FUSE_NONE;
}

static int emit_values(struct fuse_plan *plan, const struct fuse_value *step, const int *at) {
  struct fuse_instruction values = nothing;
  values.kernel = fuse_rule(step)->values;
  values.value = step->value;
  for (int i = 0; i < step->argument_count; i++) values.read[ELEMENTWISE_X + i] = place_of(step, at, i);
  return emit(plan, values);
}

/* The values of all steps, from operands that begin with the inputs; at[v]: the place of value v. */
static void begin(const struct fuse *fuse, struct fuse_plan *plan, int operands, int *at) {
  plan->operands = operands;
  plan->numbers = plan->count = 0;
  for (int v = 0; v < fuse->value_count; v++) {
    at[v] = v;
    if (v < fuse->input_count || fuse->value[v].op) continue;
    at[v] = operands + plan->numbers;
    plan->number[plan->numbers++] = fuse->value[v].number;
  }
  for (int v = fuse->input_count; v < fuse->value_count; v++)
    if (fuse->value[v].op) at[v] = emit_values(plan, &fuse->value[v], at);
}

/* direction · ∂value v/∂its argument i */
static int emit_derivative(const struct fuse *fuse, struct fuse_plan *plan, const int *at, int v, int i,
                           int direction) {
  const struct fuse_value *step = &fuse->value[v];
  const struct elementwise_rule *rule = fuse_rule(step);
  if (rule->derivative[i] == elementwise_same) return direction;
  struct fuse_instruction product = nothing;
  product.kernel = rule->derivative[i];
  product.value = step->value;
  product.read[ELEMENTWISE_GRADIENT] = direction;
  const struct elementwise_step *known = elementwise_step_of(product.kernel);
  int inputs = step->op->flags & OP_SAVES_INPUTS ? step->argument_count : rule->chooses ? 1 : 0;
  for (int k = 0; k < inputs; k++)
    if (!known || known->a == ELEMENTWISE_X + k || known->b == ELEMENTWISE_X + k)
      product.read[ELEMENTWISE_X + k] = place_of(step, at, k);
  if (step->op->flags & OP_SAVES_OUTPUT) product.read[ELEMENTWISE_OUTPUT] = at[v];
  return emit(plan, product);
}

/* a + b; where one of them is -g, the other less g. */
static int emit_sum(struct fuse_plan *plan, int a, int b) {
  static const struct elementwise_rule *sum, *difference;
  if (a == FUSE_NONE) return b;
  if (!sum) {
    sum = op_find("add")->family;
    difference = op_find("sub")->family;
  }
  struct fuse_instruction both = nothing;
  both.kernel = sum->values;
  for (int turn = 0; turn < 2 && both.kernel == sum->values; turn++) {
    int negative = turn ? b : a;
    both.read[ELEMENTWISE_X] = turn ? a : b;
    both.read[ELEMENTWISE_Y] = negative;
    if (negative < first(plan) || plan->instruction[negative - first(plan)].kernel != difference->derivative[1])
      continue;
    both.kernel = difference->values;
    both.read[ELEMENTWISE_Y] = plan->instruction[negative - first(plan)].read[ELEMENTWISE_GRADIENT];
  }
  return emit(plan, both);
}

/* ---- finishing ---- */

/* How often each instruction's result is read by those that are needed for the results; what a result itself needs
   counts as one more. */
static void count_reads(const struct fuse_plan *plan, const int *destination, int *reads) {
  const int begin = first(plan);
  for (int k = 0; k < plan->count; k++) reads[k] = destination[k] != FUSE_NONE;
  for (int k = plan->count - 1; k >= 0; k--)
    for (int i = 0; i < ELEMENTWISE_OPERANDS && reads[k] > 0; i++) {
      int made_by = plan->instruction[k].read[i] - begin;
      if (made_by >= 0) reads[made_by]++;
    }
}

/* Instruction k and the one that made its operand in place `through`, whose result only it reads, as a pair; the other
   operand is in place `other` (or none). */
static bool pair_up(struct fuse_plan *plan, int k, enum step_kind kind, int through, int other, int *reads,
                    const int *destination) {
  struct fuse_instruction *second = &plan->instruction[k];
  if (kind == STEP_NONE || through < 0 || second->read[through] < first(plan)) return false;
  int made_by = second->read[through] - first(plan);
  const struct fuse_instruction *before = &plan->instruction[made_by];
  const struct elementwise_step *step = elementwise_step_of(before->kernel);
  if (reads[made_by] != 1 || destination[made_by] != FUSE_NONE) return false;
  if (before->kernel == elementwise_pair_values && kind == STEP_RELU && !before->pair.relu &&
      step_takes_relu(before->pair.second)) {
    int result = second->result;
    *second = *before;
    second->result = result;
    second->pair.relu = true;
    reads[made_by] = 0;
    return true;
  }
  if (!step || !step_goes_first(step->kind)) return false;
  struct fuse_instruction both = nothing;
  int a = before->read[step->a];
  both.kernel = elementwise_pair_values;
  both.pair = (struct elementwise_pair){step->kind, kind, false, before->value, second->value};
  both.result = second->result;
  both.read[ELEMENTWISE_X] = a;
  both.read[ELEMENTWISE_Y] = step->b < 0 ? a : before->read[step->b];
  both.read[ELEMENTWISE_Z] = other < 0 ? a : second->read[other];
  reads[made_by] = 0;
  *second = both;
  return true;
}

static void make_pairs(struct fuse_plan *plan, int *reads, const int *destination) {
  for (int k = 0; k < plan->count; k++) {
    const struct elementwise_step *step = elementwise_step_of(plan->instruction[k].kernel);
    if (!step || reads[k] == 0 || pair_up(plan, k, step->kind, step->a, step->b, reads, destination)) continue;
    enum step_kind turned = step->kind == STEP_ADD || step->kind == STEP_MULTIPLY ? step->kind
                            : step->kind == STEP_SUBTRACT                         ? STEP_SUBTRACT_FROM
                                                                                  : STEP_NONE;
    pair_up(plan, k, turned, step->b, step->a, reads, destination);
  }
}

/* Drops what nobody reads and gives the others their places. */
static void give_places(struct fuse_plan *plan, int results, const int *reads, const int *destination) {
  const int begin = first(plan);
  int left[FUSE_INSTRUCTIONS], place[FUSE_INSTRUCTIONS], kept = 0; /* left: readers still to come */
  bool busy[FUSE_INSTRUCTIONS] = {0};
  for (int k = 0; k < plan->count; k++) left[k] = 0;
  for (int k = 0; k < plan->count; k++)
    for (int i = 0; i < ELEMENTWISE_OPERANDS && reads[k] > 0; i++)
      if (plan->instruction[k].read[i] >= begin) left[plan->instruction[k].read[i] - begin]++;
  plan->results = results;
  plan->buffers = 0;
  for (int k = 0; k < plan->count; k++) {
    if (reads[k] == 0) continue;
    struct fuse_instruction *instruction = &plan->instruction[kept++];
    *instruction = plan->instruction[k];
    for (int i = 0; i < ELEMENTWISE_OPERANDS; i++) {
      int made_by = instruction->read[i] - begin;
      if (made_by < 0) continue;
      instruction->read[i] = place[made_by];
      int buffer = place[made_by] - begin - results;
      if (--left[made_by] == 0 && buffer >= 0) busy[buffer] = false;
    }
    if (destination[k] != FUSE_NONE) {
      place[k] = begin + destination[k];
    } else { /* the result may take the place of an operand: kernels read an element before they write it */
      int buffer = 0;
      while (busy[buffer]) buffer++;
      busy[buffer] = true;
      if (buffer == plan->buffers) plan->buffers++;
      place[k] = begin + results + buffer;
    }
    instruction->result = place[k];
  }
  plan->count = kept;
}

/* result[r] is the place of result r; afterwards, places are as fuse.h says. */
static void finish(struct fuse_plan *plan, int results, int *result) {
  int destination[FUSE_INSTRUCTIONS], reads[FUSE_INSTRUCTIONS]; /* of each instruction: a result, or FUSE_NONE */
  for (int k = 0; k < FUSE_INSTRUCTIONS; k++) destination[k] = FUSE_NONE;
  for (int r = 0; r < results; r++) {
    if (result[r] < first(plan) || destination[result[r] - first(plan)] != FUSE_NONE) {
      struct fuse_instruction copy = nothing;
      copy.kernel = elementwise_same;
      copy.read[ELEMENTWISE_GRADIENT] = result[r];
      result[r] = emit(plan, copy);
    }
    destination[result[r] - first(plan)] = r;
  }
  count_reads(plan, destination, reads);
  make_pairs(plan, reads, destination);
  give_places(plan, results, reads, destination);
}

/* ---- the plans ---- */

void fuse_plan_forward(struct fuse *fuse, struct fuse_plan *plan) {
  int at[FUSE_VALUES];
  begin(fuse, plan, fuse->input_count, at);
  bool needed[FUSE_VALUES] = {0};
  needed[fuse->result] = true;
  for (int v = fuse->result; v >= 0; v--) {
    const struct fuse_value *step = &fuse->value[v];
    for (int i = 0; i < step->argument_count && needed[v]; i++) needed[step->argument[i]] = true;
    if (v < fuse->input_count) fuse->used[v] = needed[v];
  }
  finish(plan, 1, &at[fuse->result]);
}

void fuse_plan_backward(const struct fuse *fuse, const bool *needed, bool *reached, struct fuse_plan *plan) {
  int at[FUSE_VALUES], gradient[FUSE_VALUES], result[FUSE_INPUTS], results = 0;
  bool active[FUSE_VALUES]; /* a derivative leads on from here to a needed input */
  begin(fuse, plan, fuse->input_count + 1, at);
  for (int v = 0; v < fuse->value_count; v++) {
    const struct fuse_value *step = &fuse->value[v];
    gradient[v] = FUSE_NONE;
    active[v] = v < fuse->input_count && needed[v];
    for (int i = 0; i < step->argument_count; i++)
      active[v] = active[v] || (active[step->argument[i]] && fuse_rule(step)->derivative[i]);
  }
  gradient[fuse->result] = fuse->input_count;
  for (int v = fuse->result; v >= fuse->input_count; v--) {
    const struct fuse_value *step = &fuse->value[v];
    if (gradient[v] == FUSE_NONE) continue;
    for (int i = 0; i < step->argument_count; i++) {
      int from = step->argument[i];
      if (!active[from] || !fuse_rule(step)->derivative[i]) continue;
      gradient[from] = emit_sum(plan, gradient[from], emit_derivative(fuse, plan, at, v, i, gradient[v]));
    }
  }
  for (int i = 0; i < fuse->input_count; i++) {
    reached[i] = needed[i] && gradient[i] != FUSE_NONE;
    if (reached[i]) result[results++] = gradient[i];
  }
  finish(plan, results, result);
}

bool fuse_plan_tangent(const struct fuse *fuse, const bool *given, struct fuse_plan *plan) {
  int at[FUSE_VALUES], tangent[FUSE_VALUES];
  begin(fuse, plan, 2 * fuse->input_count, at);
  for (int v = 0; v < fuse->value_count; v++) {
    const struct fuse_value *step = &fuse->value[v];
    tangent[v] = v < fuse->input_count && given[v] ? fuse->input_count + v : FUSE_NONE;
    if (!step->op) continue;
    int x = place_of(step, tangent, 0), y = place_of(step, tangent, 1);
    if (fuse_rule(step)->linear && x != FUSE_NONE && y != FUSE_NONE) {
      struct fuse_instruction both = nothing;
      both.kernel = fuse_rule(step)->values;
      both.value = step->value;
      both.read[ELEMENTWISE_X] = x;
      both.read[ELEMENTWISE_Y] = y;
      tangent[v] = emit(plan, both);
      continue;
    }
    for (int i = 0; i < step->argument_count; i++)
      if (place_of(step, tangent, i) != FUSE_NONE && fuse_rule(step)->derivative[i])
        tangent[v] = emit_sum(plan, tangent[v], emit_derivative(fuse, plan, at, v, i, tangent[step->argument[i]]));
  }
  if (tangent[fuse->result] == FUSE_NONE) return false;
  finish(plan, 1, &tangent[fuse->result]);
  return true;
}
