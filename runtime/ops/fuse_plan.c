/* Plans of fused programs. Instructions are first emitted in their order with a place of its own for every result; then
   those that no result needs are dropped, and places are given buffers, each free again after its last reader. */
#include <string.h>

#include "fuse.h"

/* ---- emitting: place p is an operand, a number, or the result of instruction p - first(plan) ---- */

static int first(const struct fuse_plan *plan) { return plan->operands + plan->numbers; }

static int emit(struct fuse_plan *plan, struct fuse_instruction instruction) {
  instruction.result = first(plan) + plan->count;
  plan->instruction[plan->count++] = instruction;
  return instruction.result;
}

static const struct fuse_instruction nothing = {
    .result = FUSE_NONE, .x = FUSE_NONE, .y = FUSE_NONE, .z = FUSE_NONE, .gradient = FUSE_NONE, .output = FUSE_NONE};

static int place_of(const struct fuse_value *step, const int *at, int i) {
  return i < step->argument_count ? at[step->argument[i]] : FUSE_NONE;
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
  for (int v = fuse->input_count; v < fuse->value_count; v++) {
    const struct fuse_value *step = &fuse->value[v];
    if (!step->op) continue;
    struct fuse_instruction values = nothing;
    values.kernel = fuse_rule(step)->values;
    values.value = step->value;
    values.x = place_of(step, at, 0);
    values.y = place_of(step, at, 1);
    values.z = place_of(step, at, 2);
    at[v] = emit(plan, values);
  }
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
  product.gradient = direction;
  if (step->op->flags & OP_SAVES_INPUTS || rule->chooses) product.x = place_of(step, at, 0);
  if (step->op->flags & OP_SAVES_INPUTS) {
    product.y = place_of(step, at, 1);
    product.z = place_of(step, at, 2);
  }
  if (step->op->flags & OP_SAVES_OUTPUT) product.output = at[v];
  return emit(plan, product);
}

static int emit_sum(struct fuse_plan *plan, int a, int b) {
  static const struct elementwise_rule *sum;
  if (a == FUSE_NONE) return b;
  if (!sum) sum = op_find("add")->family;
  struct fuse_instruction both = nothing;
  both.kernel = sum->values;
  both.x = a;
  both.y = b;
  return emit(plan, both);
}

/* ---- finishing ---- */

static void reads_of(const struct fuse_instruction *instruction, int *read[5]) {
  struct fuse_instruction *i = (struct fuse_instruction *)instruction;
  read[0] = &i->x;
  read[1] = &i->y;
  read[2] = &i->z;
  read[3] = &i->gradient;
  read[4] = &i->output;
}

/* result[r] is the place of result r; afterwards, places are as fuse.h says. */
static void finish(struct fuse_plan *plan, int results, int *result) {
  const int begin = first(plan);
  int destination[FUSE_INSTRUCTIONS]; /* of each instruction: a result, or FUSE_NONE */
  int last_read[FUSE_INSTRUCTIONS];   /* the instruction that reads it last, or FUSE_NONE */
  for (int k = 0; k < FUSE_INSTRUCTIONS; k++) destination[k] = last_read[k] = FUSE_NONE;
  for (int r = 0; r < results; r++) {
    if (result[r] < begin || destination[result[r] - begin] != FUSE_NONE) {
      struct fuse_instruction copy = nothing;
      copy.kernel = elementwise_same;
      copy.gradient = result[r];
      result[r] = emit(plan, copy);
    }
    destination[result[r] - begin] = r;
  }
  int *read[5];
  for (int k = plan->count - 1; k >= 0; k--) {
    if (destination[k] == FUSE_NONE && last_read[k] == FUSE_NONE) continue; /* nobody needs it */
    reads_of(&plan->instruction[k], read);
    for (int i = 0; i < 5; i++)
      if (*read[i] >= begin && last_read[*read[i] - begin] == FUSE_NONE) last_read[*read[i] - begin] = k;
  }

  int place[FUSE_INSTRUCTIONS], kept = 0;
  bool busy[FUSE_INSTRUCTIONS] = {0};
  plan->results = results;
  plan->buffers = 0;
  for (int k = 0; k < plan->count; k++) {
    if (destination[k] == FUSE_NONE && last_read[k] == FUSE_NONE) continue;
    struct fuse_instruction *instruction = &plan->instruction[kept++];
    *instruction = plan->instruction[k];
    reads_of(instruction, read);
    for (int i = 0; i < 5; i++) {
      int made_by = *read[i] - begin;
      if (made_by < 0) continue;
      *read[i] = place[made_by];
      int buffer = place[made_by] - begin - results;
      if (last_read[made_by] == k && buffer >= 0) busy[buffer] = false;
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
      both.x = x;
      both.y = y;
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
