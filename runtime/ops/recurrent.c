/* Recurrences over sequences, lstm and gru: kernels/recurrent, and the rows. The weight's factors are those of
   u = h W + b stacked over all times: A the states before, G = ∂L/∂u, which backward makes on its way to ∂L/∂x. */
#include "../kernels/recurrent/recurrent.h"

#include <string.h>

#include "../kernels/linalg/linalg.h"
#include "compose.h"

enum { X, WEIGHT, BIAS, STATE, MASK, INPUTS };

static const struct recurrent_cell *cell_of(const struct op_call *call) { return call->op->family; }

static int64_t width_of(const struct op_call *call) { return call->input[WEIGHT]->shape.size[0]; }

static int check_input(const struct tensor *t, const char *name, struct shape expected) {
  if (!t || shape_equal(&t->shape, &expected)) return STATUS_OK;
  return status_error("%s has shape %s, expected %s", name, shape_text(&t->shape), shape_text(&expected));
}

static int recurrent_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  const struct tensor *x = call->input[X], *weight = call->input[WEIGHT];
  const struct recurrent_cell *cell = cell_of(call);
  (void)type;
  if (weight->shape.rank != 2 || weight->shape.size[1] != cell->gates * weight->shape.size[0])
    return status_error("the weight is width × %lld · width, given %s", (long long)cell->gates,
                        shape_text(&weight->shape));
  int64_t width = width_of(call), gates = cell->gates * width, states = cell->states * width;
  if (x->shape.rank != 3 || x->shape.size[2] != gates)
    return status_error("x is (batch, times, %lld · width) for a weight of %s, given %s", (long long)cell->gates,
                        shape_text(&weight->shape), shape_text(&x->shape));
  int64_t batch = x->shape.size[0], times = x->shape.size[1];
  STATUS_TRY(check_input(call->input[BIAS], "the bias", shape_of(1, gates)));
  STATUS_TRY(check_input(call->input[STATE], "the state", shape_of(2, batch, states)));
  STATUS_TRY(check_input(call->input[MASK], "the mask", shape_of(2, batch, times)));
  *shape = shape_of(3, batch, times, states);
  return STATUS_OK;
}

/* The call's tensors as the kernels take them; held: contiguous, released by sequence_close. */
struct sequence {
  struct recurrent_sequence of;
  struct tensor *held[INPUTS];
};

static const real *values(struct tensor *t) { return t ? tensor_real(t) : NULL; }

/* *held: a contiguous t, or NULL where there is none. */
static int hold(struct tensor *t, struct tensor **held) {
  *held = t ? tensor_contiguous(t) : NULL;
  return t && !*held ? STATUS_ERROR : STATUS_OK;
}

static void release_held(struct tensor *held[INPUTS]) {
  for (int i = 0; i < INPUTS; i++) tensor_release(held[i]);
}

static int sequence_open(const struct op_call *call, bool with_x, struct sequence *sequence) {
  *sequence = (struct sequence){.of.cell = cell_of(call)};
  int status = STATUS_OK;
  for (int i = with_x ? X : WEIGHT; i < INPUTS && status == STATUS_OK; i++)
    status = hold(call->input[i], &sequence->held[i]);
  if (status != STATUS_OK) return status;
  struct recurrent_sequence *s = &sequence->of;
  s->batch = call->input[X]->shape.size[0], s->times = call->input[X]->shape.size[1], s->width = width_of(call);
  s->weight = values(sequence->held[WEIGHT]), s->bias = values(sequence->held[BIAS]);
  s->start = values(sequence->held[STATE]), s->mask = values(sequence->held[MASK]);
  s->states = call->output ? tensor_real(call->output) : NULL;
  s->kept = call->saved[0] ? tensor_real(call->saved[0]) : NULL;
  return STATUS_OK;
}

static int recurrent_run(struct op_call *call) {
  const struct shape *x = &call->input[X]->shape;
  struct shape kept = shape_of(3, x->size[0], x->size[1], RECURRENT_KEPT * width_of(call));
  STATUS_TRY(op_give(tensor_new(TYPE_REAL, &kept), &call->saved[0]));
  struct sequence sequence;
  int status = sequence_open(call, true, &sequence);
  if (status == STATUS_OK) status = recurrent_forward(&sequence.of, tensor_real(sequence.held[X]));
  release_held(sequence.held);
  return status;
}

/* ---- factors ---- */

/* The states h before every time, (batch · times) × width. */
static struct tensor *states_before(const struct op_call *call) {
  int64_t batch = call->output->shape.size[0], times = call->output->shape.size[1], width = width_of(call);
  struct shape shape = shape_of(2, batch * times, width);
  struct tensor *a = tensor_new(TYPE_REAL, &shape), *start = NULL;
  if (!a || hold(call->input[STATE], &start) != STATUS_OK) {
    tensor_release(a);
    return NULL;
  }
  int64_t states = call->output->shape.size[2];
  size_t bytes = (size_t)width * sizeof(real);
  for (int64_t i = 0; i < batch * times; i++) {
    real *to = tensor_real(a) + i * width;
    if (i % times > 0)
      memcpy(to, tensor_real(call->output) + (i - 1) * states, bytes);
    else if (start)
      memcpy(to, tensor_real(start) + i / times * states, bytes);
    else
      memset(to, 0, bytes);
  }
  tensor_release(start);
  return a;
}

/* ∂L/∂u of ∂L/∂x, which is contiguous. */
static struct tensor *inner_gradient(const struct op_call *call, struct tensor *dx, const struct shape *shape) {
  const struct recurrent_cell *cell = cell_of(call);
  if (!cell->inner) return tensor_view_shape(dx, shape);
  int64_t width = width_of(call), gates = shape->size[1];
  const real *from = tensor_real(dx), *kept = tensor_real(call->saved[0]);
  struct tensor *g = tensor_new(TYPE_REAL, shape);
  for (int64_t i = 0; g && i < shape->size[0]; i++)
    cell->inner(tensor_real(g) + i * gates, from + i * gates, kept + i * RECURRENT_KEPT * width, width);
  return g;
}

static int recurrent_factors(const struct op_call *call, struct tensor *dx, struct factors *result) {
  int64_t width = width_of(call), gates = cell_of(call)->gates * width, rows = width ? tensor_count(dx) / gates : 0;
  struct shape shape = shape_of(2, rows, gates);
  struct tensor *from = tensor_contiguous(dx), *a = from ? states_before(call) : NULL,
                *g = a ? inner_gradient(call, from, &shape) : NULL;
  tensor_release(from);
  if (!g) {
    tensor_release(a);
    return STATUS_ERROR;
  }
  *result = (struct factors){.rows = rows, .inputs = width, .outputs = gates, .a = a, .g = g};
  return STATUS_OK;
}

/* Gradients of weight and bias from ∂L/∂x. */
static int recurrent_products(const struct op_call *call, struct tensor *dx, const bool *needed,
                              struct tensor **result) {
  struct factors f = {0};
  STATUS_TRY(recurrent_factors(call, dx, &f));
  int status = STATUS_OK;
  if (needed[WEIGHT]) {
    status = op_give(tensor_new(TYPE_REAL, &call->input[WEIGHT]->shape), &result[WEIGHT]);
    if (status == STATUS_OK)
      gemm(true, false, f.inputs, f.outputs, f.rows, 1, tensor_real(f.a), f.inputs, tensor_real(f.g), f.outputs, 0,
           tensor_real(result[WEIGHT]), f.outputs);
  }
  if (needed[BIAS] && status == STATUS_OK) {
    struct tensor *sum = op_sum_to_shape(f.g, &call->input[BIAS]->shape);
    status = op_give(sum ? tensor_copy(sum) : NULL, &result[BIAS]); /* of one row a view */
    tensor_release(sum);
  }
  tensor_release(f.a);
  tensor_release(f.g);
  return status;
}

static const struct op_affine recurrent_affine = {
    .outputs = 1, .factors = recurrent_factors, .products = recurrent_products, .direct = true};

/* ---- derivatives ---- */

static int recurrent_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed,
                         struct tensor **result) {
  struct sequence sequence = {0};
  struct tensor *dx = tensor_new(TYPE_REAL, &call->input[X]->shape), *dstart = NULL, *g = tensor_contiguous(gradient);
  int status = dx && g ? sequence_open(call, false, &sequence) : STATUS_ERROR;
  if (status == STATUS_OK && call->input[STATE] && needed[STATE])
    status = op_give(tensor_new(TYPE_REAL, &call->input[STATE]->shape), &dstart);
  if (status == STATUS_OK)
    status = recurrent_backward(tensor_real(dx), dstart ? tensor_real(dstart) : NULL, &sequence.of, tensor_real(g));
  release_held(sequence.held);
  tensor_release(g);
  result[STATE] = dstart;
  const bool products[INPUTS] = {[WEIGHT] = needed[WEIGHT], [BIAS] = call->input[BIAS] && needed[BIAS]};
  if (status == STATUS_OK && (products[WEIGHT] || products[BIAS]))
    status = recurrent_products(call, dx, products, result);
  if (status == STATUS_OK && call->input[MASK] && needed[MASK])
    status = op_give(tensor_zeros(TYPE_REAL, &call->input[MASK]->shape), &result[MASK]);
  if (needed[X])
    result[X] = dx;
  else
    tensor_release(dx);
  return status;
}

static int recurrent_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  struct sequence sequence = {0};
  struct tensor *change[INPUTS] = {0}, *out = tensor_new(TYPE_REAL, &call->output->shape);
  int status = out ? sequence_open(call, false, &sequence) : STATUS_ERROR;
  for (int i = 0; i < MASK && status == STATUS_OK; i++) status = hold(tangent[i], &change[i]);
  if (status == STATUS_OK)
    status = recurrent_tangent(tensor_real(out), &sequence.of, values(change[X]), values(change[WEIGHT]),
                               values(change[BIAS]), values(change[STATE]));
  release_held(change);
  release_held(sequence.held);
  return op_give_if(status, out, result);
}

static bool always(const struct op_call *call) {
  (void)call;
  return true;
}

#define RECURRENT(name, doc, samples, cell, formula)                                                                  \
  OP(name, doc, samples,                                                                                              \
     PARAMETERS(TENSOR("x"), TENSOR("weight"), GIVEN("bias", OP_OPTIONAL_TENSOR), GIVEN("state", OP_OPTIONAL_TENSOR), \
                GIVEN("mask", OP_OPTIONAL_TENSOR)),                                                                   \
     OP_SAVES_INPUTS | OP_SAVES_OUTPUT, recurrent_shape, recurrent_run, recurrent_vjp, recurrent_jvp,                 \
     .batch_inputs = 1 << X | 1 << STATE | 1 << MASK, .rowwise = always, .affine = &recurrent_affine,                 \
     .composed = formula, .family = cell)

const struct op recurrent_ops[] = {
    RECURRENT(
        "lstm",
        "long short-term memory over sequences: x (batch, times, 4 · width) is the input's part of the gates, "
        "weight (width × 4 · width) and bias the state's; gates input, forget, cell, output -> (batch, times, "
        "2 · width), h beside c. state (batch, 2 · width) is what comes before the first time (zeros); where mask "
        "(batch, times) is 0 the state stays (Hochreiter and Schmidhuber, 1997; Gers et al., 2000)",
        SAMPLES("2x3x8 2x8", "3x4x12 3x12 12 3x6", "2x5x8 2x8 8 2x4 mask:2x5", "30x2x68 17x68 - 30x34", "1x1x4 1x4 4",
                "0x3x8 2x8 8", "2x0x8 2x8 8"),
        &recurrent_lstm, lstm_composed),
    RECURRENT(
        "gru",
        "gated recurrent unit over sequences: x (batch, times, 3 · width) is the input's part of the gates, weight "
        "(width × 3 · width) and bias the state's; gates reset, update, new -> (batch, times, width). state (batch, "
        "width) is what comes before the first time (zeros); where mask (batch, times) is 0 the state stays (Cho "
        "et al., 2014, the reset gate after the product)",
        SAMPLES("2x3x6 2x6", "3x4x9 3x9 9 3x3", "2x5x6 2x6 6 2x2 mask:2x5", "30x2x51 17x51 - 30x17", "1x1x3 1x3 3",
                "0x3x6 2x6 6", "2x0x6 2x6 6"),
        &recurrent_gru, gru_composed),
    {.name = NULL}};
