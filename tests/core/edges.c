/* Edges: every elementwise op, reduction, norm and loss at 0, the smallest subnormals, 1, ±1e20, ±max, ±∞ and NaN,
   values and derivatives against PyTorch's (edges/table.h, which edges/make.py writes). Where we differ, `values` and
   `slopes` say why. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "samples.h"

enum { COUNT = 12 };
enum edge_kind { EDGE_ELEMENTS, EDGE_ROWS, EDGE_LOSS, EDGE_PAIRS };
struct edge {
  enum edge_kind kind;
  const char *op, *sample;
  double value[COUNT], slope[COUNT];
};
#include "edges/table.h"

static double edge(int i) {
  const double tiny = 1.40129846432481707e-45, large = 100000002004087734272.0;
  return (double[]){0, -0.0, tiny, -tiny, 1, large, -large, FLT_MAX, -FLT_MAX, INFINITY, -INFINITY, NAN}[i];
}

/* Places in `edge`. */
enum {
  ZERO,
  MINUS_ZERO,
  TINY,
  MINUS_TINY,
  ONE,
  LARGE,
  MINUS_LARGE,
  MOST,
  MINUS_MOST,
  INFINITE,
  MINUS_INFINITE,
  NO_NUMBER
};

/* The op, its sample, the edge, what it is here, and why. */
struct difference {
  const char *op, *sample;
  int place;
  double here;
  const char *why;
};
static const struct difference values[] = {
    {"sign", "12", NO_NUMBER, NAN, "NaN stays, as in NumPy"},
    {"power", "12 exponent=0.5", MINUS_INFINITE, INFINITY, "C's pow, not its square root"},
    {"gelu", "12", MINUS_INFINITE, 0, "the limit"},
    {"gelu", "12 tanh=1", MINUS_INFINITE, 0, "the limit"},
    {"silu", "12", MINUS_INFINITE, 0, "the limit"},
    {"binary_cross_entropy", "1 1", MINUS_INFINITE, INFINITY, "the limit"},
};
static const struct difference slopes[] = {
    {"power", "12 exponent=0.5", MINUS_ZERO, INFINITY, "C's pow, not its square root"},
    {"power", "12 exponent=0.5", MINUS_INFINITE, 0, "C's pow, not its square root"},
    {"clamp", "12 min=0 max=1", ZERO, 1, "what rests on a bound can leave it"},
    {"clamp", "12 min=0 max=1", MINUS_ZERO, 1, "what rests on a bound can leave it"},
    {"clamp", "12 min=0 max=1", ONE, 1, "what rests on a bound can leave it"},
    {"clamp", "12 min=0 max=1", NO_NUMBER, 1, "a NaN passes, as in relu"},
    {"acosh", "12", MINUS_LARGE, NAN, "there is no value here"},
    {"acosh", "12", MINUS_MOST, NAN, "there is no value here"},
    {"acosh", "12", MINUS_INFINITE, NAN, "there is no value here"},
    {"leaky_relu", "12", NO_NUMBER, 1, "a NaN passes, as in relu"},
    {"elu", "12", NO_NUMBER, NAN, "NaN stays"},
    {"gelu", "12", INFINITE, 1, "the limit"},
    {"gelu", "12", MINUS_INFINITE, 0, "the limit"},
    {"gelu", "12 tanh=1", INFINITE, 1, "the limit"},
    {"gelu", "12 tanh=1", MINUS_INFINITE, 0, "the limit"},
    {"silu", "12", INFINITE, 1, "the limit"},
    {"silu", "12", MINUS_INFINITE, 0, "the limit"},
    {"max", "12x3 dims=2", NO_NUMBER, 1, "the NaN that wins has the gradient"},
    {"min", "12x3 dims=2", NO_NUMBER, 1, "the NaN that wins has the gradient"},
    {"l1", "1 1", NO_NUMBER, NAN, "NaN stays"},
};

/* Within a few roundings, and what a float32 keeps of subnormals and of terms of 1e20 that cancel. */
static bool is_close(double got, double wanted, double least) {
  double expected = (double)(real)wanted;
  if (isnan(expected)) return isnan(got);
  if (isinf(expected) || isinf(got)) return got == expected;
  return fabs(got - expected) <= 2e-5 * fabs(expected) + least;
}

static void compare(const struct edge *row, int i, bool slope, double got) {
  double expected = slope ? row->slope[i] : row->value[i];
  const struct difference *list = slope ? slopes : values;
  size_t count = slope ? sizeof slopes / sizeof slopes[0] : sizeof values / sizeof values[0];
  for (size_t k = 0; k < count; k++)
    if (strcmp(list[k].op, row->op) == 0 && strcmp(list[k].sample, row->sample) == 0 && list[k].place == i)
      expected = list[k].here;
  CHECK(is_close(got, expected, row->kind == EDGE_ROWS && slope ? 1e-25 : 1e-37),
        "%s (%s) at %g: %s is %.9g instead of %.9g", row->op, row->sample, edge(i), slope ? "derivative" : "value", got,
        expected);
}

/* The op's value over the sample, and, when slope is not NULL, the derivative of the first of every row of the
   output. */
static bool run(struct sample *sample, double weight, struct tensor **value, struct tensor **slope) {
  struct op_call call = {.op = sample->op, .input_count = sample->input_count, .input = sample->input};
  memcpy(call.value, sample->value, sizeof call.value);
  call.differentiable = true;
  struct tensor *result[SAMPLE_MAX_INPUTS] = {NULL};
  const bool needed[SAMPLE_MAX_INPUTS] = {true};
  *value = *slope = NULL;
  if (!CHECK(op_call_forward(&call) == STATUS_OK, "%s", status_message())) return false;
  *value = call.output;
  if (call.op->vjp) {
    struct tensor *gradient = tensor_zeros(TYPE_REAL, &call.output->shape);
    int64_t width = call.output->shape.rank > 1 ? call.output->shape.size[1] : 1;
    for (int64_t i = 0; i < tensor_count(gradient); i += width) tensor_real(gradient)[i] = (real)weight;
    CHECK(call.op->vjp(&call, gradient, needed, result) == STATUS_OK, "%s", status_message());
    tensor_release(gradient);
    *slope = result[0] ? tensor_contiguous(result[0]) : NULL;
    tensor_release(result[0]);
  }
  for (int i = 0; i < OP_MAX_SAVED; i++) tensor_release(call.saved[i]);
  return true;
}

/* Elements, or rows (e, 1, 2): all edges in one call. */
static void check_flat(const struct edge *row) {
  struct sample sample;
  struct tensor *value, *slope;
  if (!CHECK(sample_make(&sample, op_find(row->op), row->sample, 1), "%s: %s", row->op, status_message())) return;
  const int width = row->kind == EDGE_ROWS ? 3 : 1;
  for (int i = 0; i < COUNT * width; i++)
    tensor_real(sample.input[0])[i] = (real)(i % width ? (double)(i % width) : edge(i / width));
  if (run(&sample, 1, &value, &slope)) {
    const int64_t step = tensor_count(value) / COUNT;
    for (int i = 0; i < COUNT; i++) {
      compare(row, i, false, (double)tensor_real(value)[i * step]);
      if (slope) compare(row, i, true, (double)tensor_real(slope)[i * width]);
    }
    tensor_release(value);
    tensor_release(slope);
  }
  /* What has no part in the loss has none in the gradient: of rows, where the op is a reduction. */
  if (run(&sample, 0, &value, &slope)) {
    for (int i = 0; slope && value->shape.rank == 1 && i < COUNT * width; i++)
      CHECK(tensor_real(slope)[i] == 0, "%s at %g: %g from a gradient of 0", row->op, edge(i / width),
            (double)tensor_real(slope)[i]);
    tensor_release(value);
    tensor_release(slope);
  }
  sample_release(&sample);
}

static void check_loss(const struct edge *row) {
  for (int i = 0; i < COUNT; i++) {
    struct sample sample;
    struct tensor *value, *slope;
    if (!CHECK(sample_make(&sample, op_find(row->op), row->sample, 1), "%s: %s", row->op, status_message())) return;
    for (int k = 0; k < tensor_count(sample.input[0]); k++)
      tensor_real(sample.input[0])[k] = (real)(k ? (double)k : edge(i));
    if (sample.input[1]->type == TYPE_REAL) tensor_real(sample.input[1])[0] = 1;
    if (run(&sample, 1, &value, &slope)) {
      compare(row, i, false, (double)tensor_real(value)[0]);
      compare(row, i, true, (double)tensor_real(slope)[0]);
      tensor_release(value);
      tensor_release(slope);
    }
    sample_release(&sample);
  }
}

/* The edge that the row's sample names, beside every edge. */
static void check_pairs(const struct edge *row) {
  struct shape shape = shape_of(1, (int64_t)COUNT);
  struct tensor *x = tensor_scalar((real)edge(atoi(row->sample))), *y = tensor_new(TYPE_REAL, &shape);
  for (int i = 0; i < COUNT; i++) tensor_real(y)[i] = (real)edge(i);
  struct tensor *value = op_run2(row->op, x, y);
  for (int i = 0; CHECK(value, "%s", status_message()) && i < COUNT; i++)
    compare(row, i, false, (double)tensor_real(value)[i]);
  tensor_release(x);
  tensor_release(y);
  tensor_release(value);
}

void test_edges(void) {
  for (size_t i = 0; i < sizeof edges / sizeof edges[0]; i++)
    (edges[i].kind == EDGE_PAIRS ? check_pairs : edges[i].kind == EDGE_LOSS ? check_loss : check_flat)(&edges[i]);
}
