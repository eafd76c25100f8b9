/* Losses: values against PyTorch (2.15, in double), extreme and invalid inputs, and that a large sum does not depend on
   the number of threads. */
#include <math.h>
#include <string.h>

#include "../../runtime/base/memory.h"
#include "../../runtime/base/parallel.h"
#include "../../runtime/ops/op.h"
#include "check.h"

static struct tensor *matrix(int64_t rows, int64_t columns, const double *value) {
  struct tensor *t = tensor_new(TYPE_REAL, &(struct shape){.rank = 2, .size = {rows, columns}});
  for (int64_t i = 0; i < rows * columns; i++) tensor_real(t)[i] = (real)value[i];
  return t;
}

static struct tensor *labels_of(int64_t count, const int32_t *label) {
  struct tensor *t = tensor_new(TYPE_INT32, &(struct shape){.rank = 1, .size = {count}});
  memcpy(tensor_int32(t), label, (size_t)count * sizeof *label);
  return t;
}

/* The loss, NaN with a failure noted when it does not run. */
static double loss(const char *name, struct tensor *x, struct tensor *y, double first, bool sum) {
  struct op_value values[OP_MAX_PARAMETERS] = {{.number = first}};
  bool has_number = strcmp(name, "huber") == 0 || strcmp(name, "cross_entropy") == 0;
  values[has_number ? 1 : 0].list[0] = sum;
  struct tensor *result = op_run(op_find(name), 2, (struct tensor *[]){x, y}, values);
  CHECK(result && result->shape.rank == 0, "%s: %s", name, status_message());
  double value = result ? (double)*tensor_real(result) : (double)NAN;
  tensor_release(result);
  return value;
}

static void expect(double expected, const char *name, struct tensor *x, struct tensor *y, double first, bool sum) {
  double got = loss(name, x, y, first, sum);
  CHECK(fabs(got - expected) <= (CHECK_IS_DOUBLE ? 1e-13 : 1e-6) * (1 + fabs(expected)),
        "%s (number %g, sum %d) is %.15g, should be %.15g", name, first, sum, got, expected);
}

static void check_values(void) {
  struct tensor *x = matrix(2, 3, (double[]){0.5, -1.2, 3, 2, 0.1, -0.7});
  struct tensor *y = matrix(2, 3, (double[]){0.2, -1, 0.5, 1, 0.9, 0.3});
  struct tensor *unit = matrix(2, 3, (double[]){0.2, 1, 0.5, 1, 0.9, 0.3});
  struct tensor *labels = labels_of(2, (int32_t[]){3, 1});
  expect(1.50333333333333, "mse", x, y, 0, false);
  expect(6 * 1.50333333333333, "mse", x, y, 0, true);
  expect(0.966666666666667, "l1", x, y, 0, false);
  expect(0.564166666666667, "huber", x, y, 1, false);
  expect(0.369166666666667, "huber", x, y, 0.5, false);
  expect(0.88007625384898, "binary_cross_entropy", x, unit, 0, false);
  expect(0.144427915992903, "cross_entropy", x, labels, 0, false);
  expect(0.332761249326237, "cross_entropy", x, labels, 0.1, false);
  expect(0.288855831985807, "cross_entropy", x, labels, 0, true);
  struct tensor *all[] = {x, y, unit, labels};
  for (size_t i = 0; i < 4; i++) tensor_release(all[i]);
}

static void check_extremes(void) {
  struct tensor *labels = labels_of(1, (int32_t[]){1});
  struct tensor *right = matrix(1, 2, (double[]){1e4, -1e4}), *wrong = matrix(1, 2, (double[]){-1e4, 1e4});
  struct tensor *unknown = matrix(1, 2, (double[]){NAN, 1}), *masked = matrix(1, 2, (double[]){2, -INFINITY});
  expect(0, "cross_entropy", right, labels, 0, false);
  expect(2e4, "cross_entropy", wrong, labels, 0, false);
  expect(0, "cross_entropy", masked, labels, 0, false);
  CHECK(isnan(loss("cross_entropy", unknown, labels, 0, false)), "a NaN among the logits gives a NaN loss");
  struct tensor *x = matrix(1, 2, (double[]){1e4, -1e4}), *target = matrix(1, 2, (double[]){0, 0});
  expect(5e3, "binary_cross_entropy", x, target, 0, false);
  CHECK(isnan(loss("mse", unknown, target, 0, false)) && isnan(loss("l1", unknown, target, 0, false)) &&
            isnan(loss("huber", unknown, target, 1, false)),
        "a NaN among the predictions gives a NaN loss");
  struct tensor *all[] = {labels, right, wrong, unknown, masked, x, target};
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) tensor_release(all[i]);
}

static void check_errors(void) {
  struct tensor *x = matrix(2, 3, (double[]){0.5, -1.2, 3, 2, 0.1, -0.7}), *turned = tensor_transpose(x, 0, 1);
  const struct op *cross_entropy = op_find("cross_entropy");
  const int32_t bad[][2] = {{1, 4}, {1, 0}, {1, -3}, {1, INT32_MAX}};
  struct op_value values[OP_MAX_PARAMETERS] = {0};
  for (size_t k = 0; k < 4; k++) {
    struct tensor *labels = labels_of(2, bad[k]);
    CHECK(!op_run(cross_entropy, 2, (struct tensor *[]){x, labels}, values) && check_message_has("in row 2") &&
              check_message_has("1 to 3"),
          "label %d: %s", bad[k][1], status_message());
    tensor_release(labels);
  }
  struct tensor *three = labels_of(3, (int32_t[]){1, 2, 3});
  CHECK(!op_run(cross_entropy, 2, (struct tensor *[]){x, three}, values) && check_message_has("(3)") &&
            check_message_has("(2×3)"),
        "%s", status_message());
  struct tensor *two = labels_of(2, (int32_t[]){1, 2});
  values[0].number = 1.5;
  CHECK(!op_run(cross_entropy, 2, (struct tensor *[]){x, two}, values) && check_message_has("label_smoothing"), "%s",
        status_message());
  values[0].number = 0;
  CHECK(!op_run(op_find("mse"), 2, (struct tensor *[]){x, turned}, values) && check_message_has("(2×3)") &&
            check_message_has("(3×2)"),
        "%s", status_message());
  CHECK(!op_run(op_find("huber"), 2, (struct tensor *[]){x, x}, values) && check_message_has("delta"), "%s",
        status_message());
  struct tensor *all[] = {x, turned, three, two};
  for (size_t i = 0; i < 4; i++) tensor_release(all[i]);
}

static void check_threads(void) {
  enum { ROWS = 1234, COLUMNS = 61 };
  struct tensor *x = tensor_new(TYPE_REAL, &(struct shape){.rank = 2, .size = {ROWS, COLUMNS}});
  struct tensor *y = tensor_new(TYPE_REAL, &x->shape);
  struct tensor *labels = tensor_new(TYPE_INT32, &(struct shape){.rank = 1, .size = {ROWS}});
  random_fill_normal((struct random_stream){3, 1}, tensor_real(x), ROWS * COLUMNS);
  random_fill_uniform((struct random_stream){3, 2}, tensor_real(y), ROWS * COLUMNS);
  for (int i = 0; i < ROWS; i++) tensor_int32(labels)[i] = 1 + i % COLUMNS;
  const char *const name[] = {"mse", "l1", "huber", "binary_cross_entropy", "cross_entropy"};
  int threads = parallel_threads();
  for (int k = 0; k < 5; k++) {
    struct tensor *target = k == 4 ? labels : y;
    parallel_set_threads(1);
    double one = loss(name[k], x, target, k == 2, false);
    parallel_set_threads(3);
    double three = loss(name[k], x, target, k == 2, false);
    CHECK(one == three, "%s: %.17g with one thread, %.17g with three", name[k], one, three);
  }
  parallel_set_threads(threads);
  tensor_release(x);
  tensor_release(y);
  tensor_release(labels);
}

void test_loss(void) {
  size_t live = memory_live();
  check_values();
  check_extremes();
  check_errors();
  check_threads();
  CHECK(memory_live() == live, "%zu bytes are not released", memory_live() - live);
}
