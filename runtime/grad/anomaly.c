/* Anomaly: results looked through for what is not finite, and what the op was given, in words. */
#include "anomaly.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "../base/place.h"

bool anomaly_on;
static int64_t step;

void anomaly_set(bool on) {
  if (on && !anomaly_on) step = 1;
  anomaly_on = on;
}

void anomaly_step_ended(void) { step += anomaly_on; }

struct statistics {
  int64_t count, nan, infinite;
  double least, greatest, sum;    /* of the finite ones */
  int64_t first[TENSOR_MAX_RANK]; /* the first that is not */
};

/* Any strides; in the order of the elements. */
static struct statistics look_through(const struct tensor *t) {
  struct statistics s = {.count = tensor_count(t), .least = INFINITY, .greatest = -INFINITY};
  int64_t at[TENSOR_MAX_RANK] = {0};
  for (int64_t i = 0; i < s.count; i++) {
    double value = tensor_get(t, at);
    if (isfinite(value)) {
      s.sum += value;
      s.least = fmin(s.least, value);
      s.greatest = fmax(s.greatest, value);
    } else {
      if (s.nan + s.infinite == 0) memcpy(s.first, at, sizeof at);
      if (isnan(value))
        s.nan++;
      else
        s.infinite++;
    }
    for (int k = t->shape.rank - 1; k >= 0 && ++at[k] == t->shape.size[k]; k--) at[k] = 0;
  }
  return s;
}

/* The same answer quickly, for what is nearly always so: a sum of differences of finite numbers is 0. */
static bool is_finite(const struct tensor *t) {
  if (!t || t->type != TYPE_REAL) return true;
  struct tensor *copy = tensor_is_contiguous(t) ? NULL : tensor_copy(t);
  if (!copy && !tensor_is_contiguous(t)) { /* no memory */
    struct statistics s = look_through(t);
    return s.nan + s.infinite == 0;
  }
  const real *value = tensor_real(copy ? copy : t);
  int64_t count = tensor_count(t);
  real sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < count; i++) sum += value[i] - value[i];
  tensor_release(copy);
  return sum == 0;
}

static bool has_nan(const struct tensor *t) { return t && t->type == TYPE_REAL && look_through(t).nan > 0; }

enum { TEXT = 900 };

static void add(char text[TEXT], const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(char text[TEXT], const char *format, ...) {
  size_t used = strlen(text);
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text + used, TEXT - used, format, arguments);
  va_end(arguments);
}

static void describe(char text[TEXT], const char *what, int number, const struct tensor *t) {
  struct statistics s = look_through(t);
  int64_t finite = s.count - s.nan - s.infinite;
  add(text, "\n  %s", what);
  if (number > 0) add(text, " %d", number);
  add(text, " %s", shape_text(&t->shape));
  if (finite > 0)
    add(text, ": from %.4g to %.4g, mean %.4g", s.least, s.greatest, s.sum / (double)finite);
  else
    add(text, ": nothing finite");
  if (s.nan > 0) add(text, ", %lld NaN", (long long)s.nan);
  if (s.infinite > 0) add(text, ", %lld infinite", (long long)s.infinite);
}

/* "NaN at (2, 3) and in 4 elements more" */
static void name_first(char text[TEXT], const struct tensor *t) {
  struct statistics s = look_through(t);
  double value = tensor_get(t, s.first);
  add(text, "%s", isnan(value) ? "NaN" : value > 0 ? "infinity" : "-infinity");
  for (int k = 0; k < t->shape.rank; k++) add(text, "%s%lld", k ? ", " : " at (", (long long)s.first[k] + 1);
  add(text, "%s", t->shape.rank ? ")" : "");
  if (s.nan + s.infinite > 1) add(text, " and in %lld elements more", (long long)(s.nan + s.infinite - 1));
}

static void describe_inputs(char text[TEXT], int count, struct tensor *const *input) {
  for (int i = 0; i < count; i++)
    if (input[i] && input[i]->type == TYPE_REAL && input[i]->storage) describe(text, "input", i + 1, input[i]);
}

int anomaly_check_forward(const struct op *op, int input_count, struct tensor *const *input,
                          const struct op_value *values, const struct tensor *output) {
  if (op->flags & OP_VIEW || is_finite(output)) return STATUS_OK;
  if (!has_nan(output)) {
    for (int i = 0; i < input_count; i++)
      if (!is_finite(input[i])) return STATUS_OK;
    for (int i = 0; i < OP_MAX_PARAMETERS && values; i++)
      if (!isfinite(values[i].number)) return STATUS_OK;
  }
  char text[TEXT] = "";
  add(text, "anomaly: %s gives ", op->name);
  name_first(text, output);
  add(text, ", in step %lld", (long long)step);
  describe_inputs(text, input_count, input);
  return status_error("%s", text);
}

int anomaly_check_backward(const struct node *node, int input, const struct tensor *gradient,
                           const struct tensor *result) {
  if (is_finite(result)) return STATUS_OK;
  const struct op_call *call = &node->call;
  char text[TEXT] = "";
  add(text, "anomaly: the gradient of input %d of %s%s%s is ", input + 1, call->op->name, node->place ? " in " : "",
      node->place ? node->place : "");
  name_first(text, result);
  add(text, ", in step %lld", (long long)step);
  describe(text, "gradient of its result", 0, gradient);
  if (call->op->flags & OP_SAVES_INPUTS) describe_inputs(text, call->input_count, call->input);
  return status_error("%s", text);
}
