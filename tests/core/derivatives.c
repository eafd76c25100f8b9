/* Derivatives of any order: for every row of the op table, over its samples, the second and third derivatives that
   gls.grad{ create_graph } gives against central differences of the first and second, and forward mode over the
   recorded gradient against reverse mode.

   f1 = Σ g · row(x) is differentiated along one direction after the other: f(k+1) is the derivative of f(k) by x and g
   along the k-th, so that every f is a number, and every derivative of a row has a part in one of them. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../../runtime/grad/tape.h"
#include "check.h"
#include "samples.h"

enum { VARIABLES = SAMPLE_MAX_INPUTS + 1, ORDERS = 3, MOST_ELEMENTS = 30000, FEW_ELEMENTS = 100 };

static char place[512]; /* of the failure: op, sample, seed */

#define CHECK_HERE(condition, format, ...) CHECK(condition, "%s: " format, place, __VA_ARGS__)

/* The inputs of a sample, leaves where it promises a derivative, and the gradient g, the last of the variables. */
struct point {
  struct tensor *input[SAMPLE_MAX_INPUTS];
  int count;
  struct tensor *variable[VARIABLES], *direction[ORDERS][VARIABLES];
};

static double dot(struct tensor *a, struct tensor *b) {
  struct tensor *x = tensor_contiguous(a), *y = tensor_contiguous(b);
  double sum = 0;
  for (int64_t i = 0; i < tensor_count(x); i++) sum += (double)tensor_real(x)[i] * (double)tensor_real(y)[i];
  tensor_release(x);
  tensor_release(y);
  return sum;
}

static void release_all(struct tensor **tensor, int count) {
  for (int i = 0; i < count; i++) {
    tensor_release(tensor[i]);
    tensor[i] = NULL;
  }
}

/* t + step · direction, a leaf. */
static struct tensor *moved(const struct tensor *t, const struct tensor *direction, double step) {
  struct tensor *copy = tensor_copy(t);
  for (int64_t i = 0; direction && i < tensor_count(copy); i++)
    tensor_real(copy)[i] += (real)(step * (double)tensor_real(direction)[i]);
  copy->requires_gradient = true;
  return copy;
}

/* The shape of what the sample gives; false when the row does not run. */
static bool output_shape(const struct sample *sample, struct shape *shape) {
  struct tensor *input[SAMPLE_MAX_INPUTS] = {0};
  for (int i = 0; i < sample->input_count; i++)
    if (sample->input[i]) input[i] = tensor_copy(sample->input[i]);
  struct tensor *output = op_run(sample->op, sample->input_count, input, sample->value);
  if (output) *shape = output->shape;
  tensor_release(output);
  release_all(input, sample->input_count);
  return output;
}

/* The point moved along its direction of order `along` (none: -1). */
static void point_make(struct point *point, const struct sample *sample, const struct shape *output, int along,
                       double step) {
  *point = (struct point){0};
  for (int i = 0; i <= sample->input_count; i++) {
    bool last = i == sample->input_count;
    if (!last && !sample->input[i]) continue;
    if (!last && !sample->differentiable[i]) {
      point->input[i] = tensor_copy(sample->input[i]);
      continue;
    }
    int k = point->count++;
    struct tensor *from = last ? sample_normal(output, sample->seed + 1) : tensor_retain(sample->input[i]);
    for (int order = 0; order < ORDERS; order++)
      point->direction[order][k] = sample_normal(&from->shape, sample->seed + (uint64_t)(100 * order + 10 + i));
    point->variable[k] = moved(from, along < 0 ? NULL : point->direction[along][k], step);
    if (!last) point->input[i] = tensor_retain(point->variable[k]);
    tensor_release(from);
  }
}

static void point_release(struct point *point) {
  release_all(point->input, SAMPLE_MAX_INPUTS);
  release_all(point->variable, VARIABLES);
  for (int order = 0; order < ORDERS; order++) release_all(point->direction[order], VARIABLES);
}

/* f2 to f(orders + 1) at the point (f1 is the row's own); *forward: f3 by forward mode over the recorded gradient of
   f1. False, with a message, where one fails. */
static bool evaluate(const struct sample *sample, struct point *point, int orders, double *f, double *forward) {
  struct tensor *result = tape_run(sample->op, sample->input_count, point->input, sample->value);
  struct tensor *gradient[VARIABLES] = {0}, *next[VARIABLES] = {0};
  const int count = point->count;
  if (!result) return false;
  int status = STATUS_OK;
  for (int order = 0; order < orders && status == STATUS_OK; order++) {
    struct tensor *output[VARIABLES], *seed[VARIABLES];
    int outputs = 0;
    if (order == 0) output[outputs] = result, seed[outputs++] = point->variable[count - 1];
    for (int i = 0; i < count && order > 0; i++)
      if (tape_tracks(gradient[i])) output[outputs] = gradient[i], seed[outputs++] = point->direction[order - 1][i];
    if (order == 1 && forward && outputs > 0) {
      struct tensor *change[VARIABLES] = {0};
      status = tape_jvp(outputs, output, count, point->variable, point->direction[1], change);
      for (int i = 0; i < outputs && status == STATUS_OK; i++) *forward += dot(change[i], seed[i]);
      release_all(change, outputs);
    }
    if (status == STATUS_OK)
      status = tape_gradients(outputs, output, seed, count, point->variable, order + 1 < orders, true, next);
    f[order] = 0;
    for (int i = 0; i < count && status == STATUS_OK; i++) {
      tensor_release(gradient[i]);
      gradient[i] = next[i];
      if (next[i]) f[order] += dot(next[i], point->direction[order][i]);
    }
  }
  release_all(gradient, count);
  tensor_release(result);
  return status == STATUS_OK;
}

/* f[order] at the point moved along its direction of that order, differentiated. */
static bool difference(const struct sample *sample, const struct shape *output, int order, double *result) {
  const double step = 1e-4, weight[4] = {1, -8, 8, -1}, at[4] = {-2, -1, 1, 2};
  *result = 0;
  for (int k = 0; k < 4; k++) {
    struct point point;
    double f[ORDERS];
    point_make(&point, sample, output, order, at[k] * step);
    bool good = evaluate(sample, &point, order, f, NULL);
    point_release(&point);
    if (!good) return false;
    *result += weight[k] * f[order - 1] / (12 * step);
  }
  return true;
}

static void check_sample(const struct op *op, const char *text, uint64_t seed) {
  struct sample sample;
  struct shape output;
  snprintf(place, sizeof place, "%s \"%s\" (seed %llu)", op->name, text, (unsigned long long)seed);
  if (!CHECK_HERE(sample_make(&sample, op, text, seed), "sample: %s", status_message())) return;
  int64_t elements = 0;
  for (int i = 0; i < sample.input_count; i++)
    if (sample.input[i]) elements += tensor_count(sample.input[i]);
  int orders = elements <= FEW_ELEMENTS ? 3 : 2;
  if (elements <= MOST_ELEMENTS && CHECK_HERE(output_shape(&sample, &output), "does not run: %s", status_message())) {
    struct point point;
    double f[ORDERS], forward = 0;
    point_make(&point, &sample, &output, -1, 0);
    if (CHECK_HERE(evaluate(&sample, &point, orders, f, &forward), "%s", status_message())) {
      double scale = 1e-2 + fabs(f[0]) + fabs(f[1]);
      CHECK_HERE(fabs(forward - f[1]) <= CHECK_ROUNDING * 10 * scale, "forward over reverse gives %.12g, reverse %.12g",
                 forward, f[1]);
      for (int order = 1; order < orders && CHECK_IS_DOUBLE; order++) {
        double measured = NAN;
        CHECK_HERE(difference(&sample, &output, order, &measured), "%s", status_message());
        scale += fabs(f[order]);
        CHECK_HERE(fabs(f[order] - measured) <= 1e-7 * scale, "derivative %d is %.12g, by differences %.12g", order + 1,
                   f[order], measured);
      }
    }
    point_release(&point);
  }
  sample_release(&sample);
}

/* Of a row that says nothing the second derivative is an error that names it. */
static void check_refused(const struct op *op, const char *text) {
  struct sample sample;
  struct shape output;
  snprintf(place, sizeof place, "%s \"%s\"", op->name, text);
  if (!sample_make(&sample, op, text, 1)) return;
  if (output_shape(&sample, &output)) {
    struct point point;
    double f[ORDERS];
    point_make(&point, &sample, &output, -1, 0);
    bool refused = !evaluate(&sample, &point, 2, f, NULL);
    CHECK_HERE(refused && check_message_has("has no second derivative") && check_message_has(op->name), "%s",
               status_message());
    point_release(&point);
  }
  sample_release(&sample);
}

/* The gradient is the same whether it is recorded or not. */
static void check_recorded(const struct op *op, const char *text, uint64_t seed) {
  struct sample sample;
  struct shape output;
  if (!sample_make(&sample, op, text, seed)) return;
  if (output_shape(&sample, &output)) {
    struct point point;
    double plain[ORDERS] = {0}, recorded[ORDERS] = {0};
    point_make(&point, &sample, &output, -1, 0);
    if (evaluate(&sample, &point, 1, plain, NULL) && evaluate(&sample, &point, 2, recorded, NULL))
      CHECK_HERE(fabs(plain[0] - recorded[0]) <= CHECK_ROUNDING * (1 + fabs(plain[0])),
                 "the first derivative is %.12g, recorded %.12g", plain[0], recorded[0]);
    point_release(&point);
  }
  sample_release(&sample);
}

void test_derivatives(void) {
  for (int k = 0; k < op_count(); k++) {
    const struct op *op = op_at(k);
    if (!op->vjp) continue;
    int ways = (op->flags & OP_LINEAR ? 1 : 0) + (op->second ? 1 : 0) + (op->graph ? 1 : 0) + (op->composed ? 1 : 0);
    CHECK(ways <= 1, "%s says %d ways in which it has a second derivative: one is right", op->name, ways);
    CHECK(!op->composed || op->flags & OP_SAVES_INPUTS, "%s is composed of inputs that it does not save", op->name);
    for (int s = 0; op->samples[s]; s++) {
      if (sample_is_remark(op->samples[s])) continue;
      if (ways == 0) {
        check_refused(op, op->samples[s]);
        continue;
      }
      check_sample(op, op->samples[s], (uint64_t)(1000 + s));
      check_recorded(op, op->samples[s], (uint64_t)(1000 + s));
    }
  }
  CHECK(node_count() == 0, "%d nodes are left", node_count());
}
