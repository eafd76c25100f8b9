/* Reductions and softmax: against plain loops over shapes that reach every path of the engine, the same to the last
   bit for any number of threads; the accuracy of long sums, NaN, infinities, ties, empty sets and the errors. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../../runtime/base/parallel.h"
#include "../../runtime/base/random.h"
#include "../../runtime/ops/op.h"
#include "check.h"

static struct tensor *vector(int count, const double *values) {
  struct shape shape = shape_of(1, (int64_t)count);
  struct tensor *t = tensor_new(TYPE_REAL, &shape);
  for (int i = 0; i < count; i++) tensor_real(t)[i] = (real)values[i];
  return t;
}

/* The op over the dimensions that mask names (0: all), kept in size 1. */
static struct tensor *over(const char *name, struct tensor *x, int mask) {
  struct op_value values[OP_MAX_PARAMETERS] = {0};
  for (int i = 0; i < x->shape.rank; i++)
    if (mask >> i & 1) values[0].list[values[0].count++] = i;
  values[1].list[0] = 1;
  return op_run(op_find(name), 1, &x, values);
}

static double first(struct tensor *t) {
  if (!t) return NAN;
  double value = t->type == TYPE_INT32 ? tensor_int32(t)[0] : (double)tensor_real(t)[0];
  tensor_release(t);
  return value;
}

/* ---- against plain loops ---- */

enum { SUM, MEAN, MAX, MIN, VARIANCE, NORM, OPS };
static const char *const names[OPS] = {"sum", "mean", "max", "min", "variance", "norm"};

struct naive {
  double sum, squares, highest, lowest, deviations;
  int64_t count;
};

static int64_t result_of(const struct tensor *x, int mask, int64_t element, int64_t *index) {
  int64_t result = 0, stride = 1;
  for (int i = x->shape.rank - 1; i >= 0; i--) {
    index[i] = element % x->shape.size[i];
    element /= x->shape.size[i];
    if (mask >> i & 1) continue;
    result += index[i] * stride;
    stride *= x->shape.size[i];
  }
  return result;
}

static double expected(const struct naive *n, int op) {
  switch (op) {
    case SUM:
      return n->sum;
    case MEAN:
      return n->sum / (double)n->count;
    case MAX:
      return n->highest;
    case MIN:
      return n->lowest;
    case VARIANCE:
      return n->deviations / (double)n->count;
    default:
      return sqrt(n->squares);
  }
}

static void check_against_loops(struct tensor *x, int mask) {
  enum { MOST = 40000 };
  static struct naive naive[MOST];
  int64_t index[TENSOR_MAX_RANK], count = tensor_count(x), results = 1;
  for (int i = 0; i < x->shape.rank; i++)
    if (!(mask >> i & 1)) results *= x->shape.size[i];
  if (!CHECK(results <= MOST, "%lld results are too many for the test", (long long)results)) return;
  for (int64_t r = 0; r < results; r++) naive[r] = (struct naive){.highest = -INFINITY, .lowest = INFINITY};
  for (int pass = 0; pass < 2; pass++) {
    for (int64_t i = 0; i < count; i++) {
      struct naive *n = &naive[result_of(x, mask, i, index)];
      double value = tensor_get(x, index);
      if (pass == 1) {
        double distance = value - n->sum / (double)n->count;
        n->deviations += distance * distance;
        continue;
      }
      n->count++;
      n->sum += value;
      n->squares += value * value;
      n->highest = fmax(n->highest, value);
      n->lowest = fmin(n->lowest, value);
    }
  }
  for (int op = 0; op < OPS; op++) {
    parallel_set_threads(1);
    struct tensor *one = over(names[op], x, mask);
    parallel_set_threads(3);
    struct tensor *three = over(names[op], x, mask);
    if (!CHECK(one && three, "%s: %s", names[op], status_message())) continue;
    CHECK(memcmp(tensor_real(one), tensor_real(three), (size_t)results * sizeof(real)) == 0,
          "%s of %s over %#x: another result with 3 threads", names[op], shape_text(&x->shape), mask);
    double worst = 0;
    for (int64_t r = 0; r < results; r++) {
      double scale = op == MAX || op == MIN ? 1e-30 : fabs(expected(&naive[r], op)) + sqrt(naive[r].squares);
      worst = fmax(worst, fabs((double)tensor_real(one)[r] - expected(&naive[r], op)) / (scale + 1e-30));
    }
    CHECK(worst <= 1e-6, "%s of %s over %#x is off by %g", names[op], shape_text(&x->shape), mask, worst);
    tensor_release(one);
    tensor_release(three);
  }
}

/* Spans longer than a block, rows wider than a chunk, narrow rows that fold, orders of dimensions, steps. */
static void check_engine(void) {
  static const struct {
    int rank;
    int64_t size[4];
    int mask; /* reduced */
  } cases[] = {
      {1, {200001}, 1},        {2, {70, 3001}, 2},      {2, {3001, 70}, 1},   {2, {30000, 10}, 1},
      {2, {10, 30000}, 2},     {2, {40, 5000}, 1},      {2, {5000, 3}, 2},    {3, {7, 64, 130}, 5},
      {3, {7, 64, 130}, 2},    {3, {64, 7, 130}, 3},    {3, {64, 7, 130}, 6}, {4, {5, 16, 12, 12}, 13},
      {4, {5, 16, 12, 12}, 2}, {4, {1, 33, 1, 700}, 9}, {2, {1, 1}, 3},
  };
  for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
    struct shape shape = {.rank = cases[k].rank};
    memcpy(shape.size, cases[k].size, sizeof cases[k].size);
    struct tensor *x = tensor_new(TYPE_REAL, &shape);
    random_fill_normal((struct random_stream){3, k}, tensor_real(x), tensor_count(x));
    check_against_loops(x, cases[k].mask);
    if (shape.rank > 1) {
      struct tensor *turned = tensor_transpose(x, 0, shape.rank - 1);
      check_against_loops(turned, cases[k].mask);
      tensor_release(turned);
    }
    struct tensor *stepped = tensor_narrow(x, shape.rank - 1, 0, (shape.size[shape.rank - 1] + 2) / 3, 3);
    check_against_loops(stepped, cases[k].mask);
    tensor_release(stepped);
    tensor_release(x);
  }
}

/* ---- what a user relies on ---- */

static void check_accuracy(void) {
  struct shape shape = shape_of(1, (int64_t)10000000);
  struct tensor *x = tensor_new(TYPE_REAL, &shape);
  tensor_fill(x, 0.1);
  double exact = 1e7 * (double)(real)0.1, sum = first(over("sum", x, 0));
  CHECK(fabs(sum - exact) <= 1e-6 * exact, "the sum of 10 million times 0.1 is %.9g", sum);
  shape = shape_of(2, (int64_t)1000000, (int64_t)10);
  struct tensor *rows = tensor_view_shape(x, &shape);
  sum = first(over("sum", rows, 1));
  CHECK(fabs(sum - exact / 10) <= 1e-7 * exact, "the sum of a column of 1 million times 0.1 is %.9g", sum);
  tensor_release(rows);
  tensor_release(x);
}

static void check_special(void) {
  static const double with_nan[] = {1, 5, NAN, 7, 7, -2};
  struct tensor *x = vector(6, with_nan);
  CHECK(isnan(first(over("max", x, 0))) && isnan(first(over("min", x, 0))), "%s", "NaN does not win in max and min");
  CHECK(first(over("argmax", x, 0)) == 3 && first(over("argmin", x, 0)) == 3, "%s", "argmax does not find the NaN");
  tensor_release(x);
  static const double ties[] = {1, 7, 3, 7, -2, -2};
  x = vector(6, ties);
  CHECK(first(over("argmax", x, 0)) == 2, "argmax of ties is %g, not the first", first(over("argmax", x, 0)));
  CHECK(first(over("argmin", x, 1)) == 5, "argmin of ties is %g, not the first", first(over("argmin", x, 1)));
  struct op_value values[OP_MAX_PARAMETERS] = {0};
  struct op_call call = {.op = op_find("max"), .input_count = 1, .input = &x};
  memcpy(call.value, values, sizeof values);
  struct tensor *gradient = tensor_scalar(1), *result = NULL;
  bool needed = true;
  if (CHECK(op_call_forward(&call) == STATUS_OK && call.op->vjp(&call, gradient, &needed, &result) == STATUS_OK,
            "max: %s", status_message()))
    CHECK(tensor_real(result)[1] == (real)0.5 && tensor_real(result)[3] == (real)0.5 && tensor_real(result)[0] == 0,
          "ties share the gradient of max as %g and %g", (double)tensor_real(result)[1],
          (double)tensor_real(result)[3]);
  tensor_release(call.output);
  tensor_release(gradient);
  tensor_release(result);
  tensor_release(x);
}

static void check_empty(void) {
  struct shape shape = shape_of(2, (int64_t)3, (int64_t)0);
  struct tensor *x = tensor_new(TYPE_REAL, &shape);
  CHECK(first(over("sum", x, 2)) == 0, "%s", "the sum of nothing is not 0");
  CHECK(isnan(first(over("mean", x, 2))), "%s", "the mean of nothing is not NaN");
  CHECK(!over("max", x, 2) && check_message_has("dimension 2 of (3×0) is empty"), "%s", status_message());
  CHECK(!over("argmin", x, 2) && check_message_has("dimension 2 of (3×0) is empty"), "%s", status_message());
  struct op_value values[OP_MAX_PARAMETERS] = {{.count = 2, .list = {1, -1}}};
  CHECK(!op_run(op_find("sum"), 1, &x, values) && check_message_has("dimension 2 is given twice"), "%s",
        status_message());
  values[0] = (struct op_value){.count = 1, .list = {2}};
  CHECK(!op_run(op_find("sum"), 1, &x, values) && check_message_has("1 to 2"), "%s", status_message());
  tensor_release(x);
}

static void check_softmax(void) {
  /* torch.softmax and logsumexp (PyTorch 2.15, in double) of (1, 2, 4). */
  static const double softmax[] = {0.042010066134, 0.114195199385, 0.843794734481};
  static const double shifts[] = {0, 1000, -1000};
  struct op_value values[OP_MAX_PARAMETERS] = {{.list = {-1}}};
  for (int k = 0; k < 3; k++) {
    double shift = shifts[k];
    struct tensor *x = vector(3, (double[]){1 + shift, 2 + shift, 4 + shift});
    struct tensor *y = op_run(op_find("softmax"), 1, &x, values), *z = op_run(op_find("log_softmax"), 1, &x, values);
    double total = first(op_run(op_find("logsumexp"), 1, &x, values));
    CHECK(fabs(total - (4.169846019556 + shift)) < (CHECK_IS_DOUBLE ? 1e-11 : 1e-6) * (1 + fabs(shift)),
          "logsumexp shifted by %g is %g", shift, total);
    for (int i = 0; y && z && i < 3; i++) {
      CHECK(fabs((double)tensor_real(y)[i] - softmax[i]) < (CHECK_IS_DOUBLE ? 1e-11 : 1e-6),
            "softmax shifted by %g is %g instead of %g", shift, (double)tensor_real(y)[i], softmax[i]);
      CHECK(fabs((double)tensor_real(z)[i] - log(softmax[i])) < (CHECK_IS_DOUBLE ? 1e-10 : 1e-5),
            "log_softmax shifted by %g is %g instead of %g", shift, (double)tensor_real(z)[i], log(softmax[i]));
    }
    tensor_release(x);
    tensor_release(y);
    tensor_release(z);
  }
  struct tensor *masked = vector(3, (double[]){-INFINITY, 2, 2}), *y = op_run(op_find("softmax"), 1, &masked, values);
  CHECK(y && tensor_real(y)[0] == 0 && fabs((double)tensor_real(y)[1] - 0.5) < 1e-6, "%s",
        "softmax of -inf, 2, 2 is not 0, 1/2, 1/2");
  tensor_fill(masked, -INFINITY);
  double nothing = first(op_run(op_find("logsumexp"), 1, &masked, values));
  CHECK(isinf(nothing) && nothing < 0, "logsumexp of -inf alone is %g", nothing);
  tensor_release(y);
  tensor_release(masked);
}

/* Numbers at the edge: sums whose squares no float holds, and data far from zero, whose mean none holds. */
static void check_edges(void) {
  struct op_value values[OP_MAX_PARAMETERS] = {0};
  struct tensor *x = vector(2, (double[]){3e30, 4e30}), *y = vector(2, (double[]){3e-30, 4e-30});
  double large = first(op_run(op_find("norm"), 1, &x, values)), small = first(op_run(op_find("norm"), 1, &y, values));
  CHECK(fabs(large / 5e30 - 1) < 1e-6, "the norm of 3e30, 4e30 is %g", large);
  CHECK(fabs(small / 5e-30 - 1) < 1e-6, "the norm of 3e-30, 4e-30 is %g", small);
  tensor_release(x);
  tensor_release(y);
  x = vector(4, (double[]){1e7, 1e7 + 1, 1e7 + 2, 1e7 + 3});
  struct op_call call = {.op = op_find("variance"), .input_count = 1, .input = &x, .differentiable = true};
  struct tensor *one = tensor_scalar(1), *slope = NULL;
  if (CHECK(op_call_forward(&call) == STATUS_OK, "%s", status_message())) {
    CHECK(tensor_real(call.output)[0] == (real)1.25, "the variance far from zero is %g",
          (double)tensor_real(call.output)[0]);
    CHECK(call.op->vjp(&call, one, (bool[]){true}, &slope) == STATUS_OK, "%s", status_message());
    for (int i = 0; slope && i < 4; i++) /* 2 (x - mean) / 4 */
      CHECK((double)tensor_real(slope)[i] == (i - 1.5) / 2, "its derivative %d is %g", i + 1,
            (double)tensor_real(slope)[i]);
    for (int i = 0; i < OP_MAX_SAVED; i++) tensor_release(call.saved[i]);
    tensor_release(call.output);
  }
  tensor_release(slope);
  tensor_release(one);
  /* (x - mean) / deviation, of deviation sqrt(1.25) */
  struct op_value layer[OP_MAX_PARAMETERS] = {{.number = 1e-5}};
  struct tensor *normal = op_run(op_find("layer_norm"), 3, (struct tensor *[]){x, NULL, NULL}, layer);
  for (int i = 0; CHECK(normal, "%s", status_message()) && i < 4; i++)
    CHECK(fabs((double)tensor_real(normal)[i] - (i - 1.5) / sqrt(1.25)) < 1e-4, "layer_norm far from zero: %g",
          (double)tensor_real(normal)[i]);
  tensor_release(normal);
  struct shape column = shape_of(2, (int64_t)4, (int64_t)1);
  struct tensor *images = tensor_view_shape(x, &column), *input[5] = {images};
  struct op_value batch[OP_MAX_PARAMETERS] = {{.list = {1}}, {.number = 0.1}, {.number = 1e-5}};
  normal = op_run(op_find("batch_norm"), 5, input, batch);
  for (int i = 0; CHECK(normal, "%s", status_message()) && i < 4; i++)
    CHECK(fabs((double)tensor_real(normal)[i] - (i - 1.5) / sqrt(1.25)) < 1e-4, "batch_norm far from zero: %g",
          (double)tensor_real(normal)[i]);
  tensor_release(normal);
  tensor_release(images);
  tensor_release(x);
}

void test_reduce(void) {
  int threads = parallel_threads();
  check_engine();
  parallel_set_threads(threads);
  check_accuracy();
  check_special();
  check_empty();
  check_softmax();
  check_edges();
}
