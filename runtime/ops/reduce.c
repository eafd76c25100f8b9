/* Reduce: sums, means, extremes, variances and norms over any dimensions; positions of extremes.
   The work is done by fold.c. */
#include <math.h>

#include "../base/memory.h"
#include "../base/parallel.h"
#include "compose.h"
#include "elementwise.h"
#include "fold.h"

enum { SPAN = 4096 }; /* elements searched at once for an extreme */

/* ---- which dimensions ---- */

/* Every reduction has dims as its first value and keep as its second. */
static int make_plan(const struct op_call *call, struct fold_plan *plan) {
  const struct shape *shape = &call->input[0]->shape;
  const struct op_value *dims = &call->value[0];
  *plan = (struct fold_plan){.count = 1, .kept = *shape};
  for (int i = 0; i < dims->count; i++) {
    int dimension;
    STATUS_TRY(op_resolve_dimension(dims->list[i], shape->rank, &dimension));
    if (plan->reduced[dimension]) return status_error("dimension %d is given twice", dimension + 1);
    plan->reduced[dimension] = true;
  }
  for (int i = 0; i < shape->rank; i++) {
    if (dims->count == 0) plan->reduced[i] = true;
    if (!plan->reduced[i]) continue;
    plan->count *= shape->size[i];
    plan->kept.size[i] = 1;
  }
  return STATUS_OK;
}

static int reduce_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  (void)type;
  struct fold_plan plan;
  STATUS_TRY(make_plan(call, &plan));
  *shape = plan.kept;
  if (call->value[1].list[0]) return STATUS_OK;
  shape->rank = 0;
  for (int i = 0; i < plan.kept.rank; i++)
    if (!plan.reduced[i]) shape->size[shape->rank++] = plan.kept.size[i];
  return STATUS_OK;
}

/* The elements that make each result, as rows of a contiguous tensor of the type: results × plan.count. */
static struct tensor *rows_of(const struct tensor *x, const struct fold_plan *plan, enum element_type type) {
  int order[TENSOR_MAX_RANK], rank = 0;
  for (int reduced = 0; reduced < 2; reduced++)
    for (int i = 0; i < x->shape.rank; i++)
      if (plan->reduced[i] == (reduced == 1)) order[rank++] = i;
  struct tensor *view = tensor_permute(x, order), *rows = NULL;
  if (view) rows = type == x->type ? tensor_contiguous(view) : tensor_convert(view, type);
  tensor_release(view);
  return rows;
}

/* An empty set has no largest element. */
static int extreme_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  STATUS_TRY(reduce_shape(call, shape, type));
  const struct shape *given = &call->input[0]->shape;
  struct fold_plan plan;
  STATUS_TRY(make_plan(call, &plan));
  for (int i = 0; i < given->rank; i++)
    if (plan.reduced[i] && given->size[i] == 0 && shape_count(shape) > 0)
      return status_error("dimension %d of %s is empty: there is no extreme of no elements", i + 1, shape_text(given));
  return STATUS_OK;
}

/* Rows stay apart when the first dimension is kept. */
static bool reduce_rowwise(const struct op_call *call) {
  struct fold_plan plan;
  return call->input[0]->shape.rank > 0 && make_plan(call, &plan) == STATUS_OK && !plan.reduced[0];
}

/* ---- derivatives ---- */

/* t (shape of the results) as a contiguous tensor of the plan's kept shape. */
static struct tensor *as_kept(struct tensor *t, const struct fold_plan *plan) {
  struct tensor *flat = tensor_contiguous(t);
  struct tensor *view = flat ? tensor_view_shape(flat, &plan->kept) : NULL;
  tensor_release(flat);
  return view;
}

/* factor · t spread over the reduced dimensions of shape: a view of one number for each result. */
static struct tensor *spread(struct tensor *t, const struct fold_plan *plan, const struct shape *shape, double factor) {
  struct tensor *from = as_kept(t, plan), *kept = from ? tensor_new(TYPE_REAL, &plan->kept) : NULL;
  for (int64_t i = 0; kept && i < tensor_count(kept); i++) tensor_real(kept)[i] = (real)factor * tensor_real(from)[i];
  struct tensor *view = kept ? tensor_expand(kept, shape) : NULL;
  tensor_release(from);
  tensor_release(kept);
  return view;
}

/* x, y = shift, z = scale, output = the rest of shift or NULL; gradient, when it is there, multiplies. */
static void distance_slope(const struct elements *e) {
  if (e->output)
    foreach (i, e) e->result[i] = unless_zero(e->z[i], e->z[i] * (e->x[i] - e->y[i] - e->output[i]));
  else
    foreach (i, e) e->result[i] = unless_zero(e->z[i], e->z[i] * (e->x[i] - e->y[i]));
  if (!e->gradient) return;
  foreach (i, e) e->result[i] = unless_zero(e->gradient[i], e->result[i] * e->gradient[i]);
}

static void ties_slope(const struct elements *e) {
  foreach (i, e) e->result[i] = fold_same(e->x[i], e->y[i]) ? e->z[i] : 0;
  if (!e->gradient) return;
  foreach (i, e) e->result[i] = unless_zero(e->gradient[i], e->result[i] * e->gradient[i]);
}

/* new tensor = scale · (x − shift), or for extremes scale where x = shift, else 0; times multiplier when it is given.
   scale and shift: one for each result, in the kept shape. What a scale of 0 multiplies is 0. */
static struct tensor *slope(const struct op_call *call, struct tensor *shift, struct tensor *scale,
                            struct tensor *multiplier) {
  const bool ties = call->op->shape == extreme_shape;
  struct tensor *x = call->input[0], *out = tensor_new(TYPE_REAL, &x->shape);
  struct tensor *operand[ELEMENTWISE_OPERANDS] = {x, shift, scale, multiplier, call->saved[1]};
  if (out && elementwise_run(ties ? ties_slope : distance_slope, NULL, operand, out) != STATUS_OK) {
    tensor_release(out);
    return NULL;
  }
  return out;
}

/* What slope needs for a call: shift and scale, times gradient when it is given. */
static int slope_parts(const struct op_call *call, const struct fold_plan *plan, struct tensor *gradient,
                       struct tensor **shift, struct tensor **scale);

static int slope_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result) {
  if (!needed[0]) return STATUS_OK;
  struct fold_plan plan;
  STATUS_TRY(make_plan(call, &plan));
  struct tensor *shift = NULL, *scale = NULL;
  if (slope_parts(call, &plan, gradient, &shift, &scale) == STATUS_OK) result[0] = slope(call, shift, scale, NULL);
  tensor_release(shift);
  tensor_release(scale);
  return result[0] ? STATUS_OK : STATUS_ERROR;
}

/* Every element is in one result: the change is the sum of slopes times the tangent. */
static int slope_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  struct fold_plan plan;
  STATUS_TRY(make_plan(call, &plan));
  struct tensor *shift = NULL, *scale = NULL, *change = NULL;
  if (slope_parts(call, &plan, NULL, &shift, &scale) == STATUS_OK) change = slope(call, shift, scale, tangent[0]);
  tensor_release(shift);
  tensor_release(scale);
  if (!change) return STATUS_ERROR;
  struct tensor *output = tensor_new(TYPE_REAL, &call->output->shape);
  int status = output ? fold(FOLD_SUM, change, &plan, NULL, 1, tensor_real(output)) : STATUS_ERROR;
  tensor_release(change);
  return op_give_if(status, output, result);
}

/* ---- sum, mean ---- */

static int sum_forward(struct op_call *call) {
  struct fold_plan plan;
  STATUS_TRY(make_plan(call, &plan));
  return fold(FOLD_SUM, call->input[0], &plan, NULL, 1, tensor_real(call->output));
}

static int sum_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result) {
  if (!needed[0]) return STATUS_OK;
  struct fold_plan plan;
  STATUS_TRY(make_plan(call, &plan));
  return op_give(spread(gradient, &plan, &call->input[0]->shape, 1), result);
}

static int linear_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  return op_give(op_run(call->op, 1, tangent, call->value), result);
}

static int mean_forward(struct op_call *call) {
  struct fold_plan plan;
  STATUS_TRY(make_plan(call, &plan));
  double factor = plan.count > 0 ? 1 / (double)plan.count : NAN;
  return fold(FOLD_SUM, call->input[0], &plan, NULL, factor, tensor_real(call->output));
}

static int mean_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result) {
  if (!needed[0]) return STATUS_OK;
  struct fold_plan plan;
  STATUS_TRY(make_plan(call, &plan));
  return op_give(spread(gradient, &plan, &call->input[0]->shape, 1 / (double)plan.count), result);
}

/* ---- integers ---- */

/* The sum of n integers, or their greatest or least. */
static int64_t row_of_integers(enum fold_kind kind, const int32_t *x, int64_t n) {
  int64_t result = kind == FOLD_SUM || n == 0 ? 0 : x[0];
  for (int64_t i = 0; i < n; i++)
    result = kind == FOLD_SUM ? result + x[i] : kind == FOLD_HIGHEST ? max(result, x[i]) : min(result, x[i]);
  return result;
}

/* In 64 bits; an error where the output's type does not hold a sum. scale: what reals are multiplied by. */
static int fold_integers(struct op_call *call, enum fold_kind kind) {
  struct fold_plan plan;
  STATUS_TRY(make_plan(call, &plan));
  struct tensor *rows = rows_of(call->input[0], &plan, TYPE_INT32), *out = call->output;
  if (!rows) return STATUS_ERROR;
  int status = STATUS_OK;
  for (int64_t i = 0; i < tensor_count(out) && status == STATUS_OK; i++) {
    int64_t value = row_of_integers(kind, tensor_int32(rows) + i * plan.count, plan.count);
    if (out->type == TYPE_REAL)
      tensor_real(out)[i] = (real)((double)value / (double)plan.count);
    else if (out->type == TYPE_UINT8)
      tensor_uint8(out)[i] = (uint8_t)value;
    else if (value < INT32_MIN || value > INT32_MAX)
      status = integer_error(value, TYPE_INT32);
    else
      tensor_int32(out)[i] = (int32_t)value;
  }
  tensor_release(rows);
  return status;
}

/* In 64 bits too. */
static int prod_integers(struct op_call *call) {
  struct fold_plan plan;
  STATUS_TRY(make_plan(call, &plan));
  struct tensor *rows = rows_of(call->input[0], &plan, TYPE_INT32);
  int status = rows ? STATUS_OK : STATUS_ERROR;
  for (int64_t i = 0; status == STATUS_OK && i < tensor_count(call->output); i++) {
    const int32_t *x = tensor_int32(rows) + i * plan.count;
    int64_t product = 1;
    bool zero = false, beyond = false;
    for (int64_t k = 0; k < plan.count; k++) {
      zero = zero || x[k] == 0;
      beyond = beyond || __builtin_mul_overflow(product, x[k], &product);
    }
    if (zero) product = 0;
    if (!zero && (beyond || product < INT32_MIN || product > INT32_MAX))
      status = beyond ? status_error("a product is larger than int32 holds: convert first (x:to(\"float32\"))")
                      : integer_error(product, TYPE_INT32);
    else
      tensor_int32(call->output)[i] = (int32_t)product;
  }
  tensor_release(rows);
  return status;
}

static int sum_integers(struct op_call *call) { return fold_integers(call, FOLD_SUM); }
static int max_integers(struct op_call *call) { return fold_integers(call, FOLD_HIGHEST); }
static int min_integers(struct op_call *call) { return fold_integers(call, FOLD_LOWEST); }

/* The sum of bytes is int32, and their product. */
static int sum_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  if (*type == TYPE_UINT8) *type = TYPE_INT32;
  return reduce_shape(call, shape, type);
}

/* The mean of integers is real. */
static int mean_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  *type = TYPE_REAL;
  return reduce_shape(call, shape, type);
}

/* ---- any, all ---- */

/* 1 where, of the elements that make a result, one is 0 (all: none is). */
static int any_or_all(struct op_call *call, bool all) {
  struct fold_plan plan;
  STATUS_TRY(make_plan(call, &plan));
  struct tensor *zero = tensor_scalar(0);
  struct tensor *found = zero ? op_run2(all ? "eq" : "ne", call->input[0], zero) : NULL;
  real *out = tensor_real(call->output);
  int status = found ? fold(FOLD_SUM, found, &plan, NULL, 1, out) : STATUS_ERROR;
  for (int64_t i = 0; status == STATUS_OK && i < tensor_count(call->output); i++) out[i] = (out[i] > 0) != all ? 1 : 0;
  tensor_release(zero);
  tensor_release(found);
  return status;
}

static int any_forward(struct op_call *call) { return any_or_all(call, false); }
static int all_forward(struct op_call *call) { return any_or_all(call, true); }

/* ---- max, min, variance, norm ---- */

static int max_forward(struct op_call *call) {
  struct fold_plan plan;
  STATUS_TRY(make_plan(call, &plan));
  return fold(FOLD_HIGHEST, call->input[0], &plan, NULL, 1, tensor_real(call->output));
}

static int min_forward(struct op_call *call) {
  struct fold_plan plan;
  STATUS_TRY(make_plan(call, &plan));
  return fold(FOLD_LOWEST, call->input[0], &plan, NULL, 1, tensor_real(call->output));
}

/* What the sum of squared distances is divided by; NaN results when there are too few elements. */
static double variance_factor(const struct op_call *call, const struct fold_plan *plan) {
  int64_t divisor = plan->count - call->value[2].list[0];
  return divisor > 0 ? 1 / (double)divisor : NAN;
}

/* The first of the elements that make each result, in the kept shape. */
static struct tensor *first_of(const struct tensor *x, const struct fold_plan *plan) {
  struct tensor *view = tensor_alias(x), *first = NULL;
  for (int i = 0; view && i < x->shape.rank; i++) view->shape.size[i] = plan->kept.size[i];
  if (view) first = tensor_copy(view);
  tensor_release(view);
  return first;
}

/* Two passes: the mean, and the squared distances to it. Far from zero a real does not hold the mean, nor a sum what
   the elements differ in: the first pass adds distances to one of the elements, and the mean is saved as a real and a
   rest. */
static int variance_forward(struct op_call *call) {
  struct fold_plan plan;
  STATUS_TRY(make_plan(call, &plan));
  struct tensor *x = call->input[0];
  call->saved[0] = plan.count > 0 ? first_of(x, &plan) : tensor_zeros(TYPE_REAL, &plan.kept);
  call->saved[1] = tensor_new(TYPE_REAL, &plan.kept);
  if (!call->saved[0] || !call->saved[1]) return STATUS_ERROR;
  real *mean = tensor_real(call->saved[0]), *rest = tensor_real(call->saved[1]), *out = tensor_real(call->output);
  STATUS_TRY(fold(FOLD_DISTANCES, x, &plan, mean, 1 / (double)plan.count, rest));
  for (int64_t i = 0; i < tensor_count(call->saved[0]); i++) {
    double first = (double)mean[i], distance = (double)rest[i];
    mean[i] = (real)(first + distance);
    rest[i] = (real)(first - (double)mean[i] + distance);
  }
  STATUS_TRY(fold(FOLD_SQUARES, x, &plan, mean, 1, out));
  for (int64_t i = 0; i < tensor_count(call->output); i++) {
    double squares = (double)out[i] - (double)plan.count * (double)rest[i] * (double)rest[i];
    out[i] = (real)(variance_factor(call, &plan) * (squares < 0 ? 0 : squares));
  }
  return STATUS_OK;
}

/* The root is taken of a double where a real does not hold the variance. */
static int std_forward(struct op_call *call) {
  struct fold_plan plan;
  STATUS_TRY(make_plan(call, &plan));
  STATUS_TRY(variance_forward(call));
  real *out = tensor_real(call->output);
  struct tensor *rows = NULL;
  for (int64_t i = 0; i < tensor_count(call->output); i++) {
    double variance = (double)out[i];
    if (isinf(variance)) {
      if (!rows) rows = rows_of(call->input[0], &plan, TYPE_REAL);
      if (!rows) return STATUS_ERROR;
      double mean = (double)tensor_real(call->saved[0])[i] + (double)tensor_real(call->saved[1])[i], squares = 0;
      for (int64_t k = i * plan.count; k < (i + 1) * plan.count; k++)
        squares += ((double)tensor_real(rows)[k] - mean) * ((double)tensor_real(rows)[k] - mean);
      variance = squares * variance_factor(call, &plan);
    }
    out[i] = (real)sqrt(variance);
  }
  tensor_release(rows);
  return STATUS_OK;
}

/* Where squares are infinite, or too small to be exact, they are added in a type that holds them. */
static int norm_forward(struct op_call *call) {
  struct fold_plan plan;
  STATUS_TRY(make_plan(call, &plan));
  real *out = tensor_real(call->output);
  struct tensor *rows = NULL;
  STATUS_TRY(fold(FOLD_SQUARES, call->input[0], &plan, NULL, 1, out));
  for (int64_t i = 0; i < tensor_count(call->output); i++) {
    long double sum = (long double)out[i];
    if (!(out[i] > (real)1e-30 && out[i] < INFINITY) && plan.count > 0) {
      if (!rows) rows = rows_of(call->input[0], &plan, TYPE_REAL);
      if (!rows) return STATUS_ERROR;
      const real *x = tensor_real(rows) + i * plan.count;
      sum = 0;
      for (int64_t k = 0; k < plan.count; k++) sum += (long double)x[k] * (long double)x[k];
    }
    out[i] = (real)sqrtl(sum);
  }
  tensor_release(rows);
  return STATUS_OK;
}

/* max, min: shift is the extreme, scale one over the number of ties.
   variance: d/dx = 2 (x − mean) / divisor (the mean's own change cancels); its root std: (x − mean) / (divisor · std),
   0 at 0.  norm: d/dx = x / norm, 0 at 0. */
static int slope_parts(const struct op_call *call, const struct fold_plan *plan, struct tensor *gradient,
                       struct tensor **shift, struct tensor **scale) {
  bool ties = call->op->shape == extreme_shape, variance = call->op->forward == variance_forward;
  bool deviation = call->op->forward == std_forward;
  *scale = tensor_new(TYPE_REAL, &plan->kept);
  *shift = ties                    ? as_kept(call->output, plan)
           : variance || deviation ? tensor_contiguous(call->saved[0])
                                   : tensor_zeros(TYPE_REAL, &plan->kept);
  struct tensor *output = as_kept(call->output, plan), *kept = gradient ? as_kept(gradient, plan) : NULL;
  int status = *scale && *shift && output && (kept || !gradient) ? STATUS_OK : STATUS_ERROR;
  if (status == STATUS_OK && ties)
    status = fold(FOLD_EQUAL, call->input[0], plan, tensor_real(*shift), 1, tensor_real(*scale));
  for (int64_t i = 0; status == STATUS_OK && i < shape_count(&plan->kept); i++) {
    real *at = tensor_real(*scale) + i, value = tensor_real(output)[i];
    if (ties)
      *at = 1 / *at;
    else if (variance)
      *at = (real)(2 * variance_factor(call, plan));
    else
      *at = value == 0 ? 0 : isinf(value) ? NAN : (real)(deviation ? variance_factor(call, plan) : 1) / value;
    if (kept) *at = unless_zero(tensor_real(kept)[i], *at * tensor_real(kept)[i]);
  }
  tensor_release(output);
  tensor_release(kept);
  return status;
}

/* ---- prod ---- */

/* What rows_of cut x into, put back: a tensor of x's shape, a view of rows. */
static struct tensor *from_rows(struct tensor *rows, const struct tensor *x, const struct fold_plan *plan) {
  int back[TENSOR_MAX_RANK] = {0}, rank = 0;
  for (int reduced = 0; reduced < 2; reduced++)
    for (int i = 0; i < x->shape.rank; i++)
      if (plan->reduced[i] == (reduced == 1)) back[i] = rank++;
  return tensor_permute(rows, back);
}

static int prod_forward(struct op_call *call) {
  struct fold_plan plan;
  STATUS_TRY(make_plan(call, &plan));
  struct tensor *rows = rows_of(call->input[0], &plan, TYPE_REAL);
  for (int64_t i = 0; rows && i < tensor_count(call->output); i++) {
    double product = 1;
    for (int64_t k = 0; k < plan.count; k++) product *= (double)tensor_real(rows)[i * plan.count + k];
    tensor_real(call->output)[i] = (real)product;
  }
  tensor_release(rows);
  return rows ? STATUS_OK : STATUS_ERROR;
}

/* In place: of every row, each element becomes the product of the others, so that zeros need no division. */
static struct tensor *products_of_others(const struct op_call *call, const struct fold_plan *plan) {
  struct tensor *cut = rows_of(call->input[0], plan, TYPE_REAL), *rows = cut ? tensor_copy(cut) : NULL;
  double *after = rows ? memory_new((size_t)plan->count + 1, sizeof *after) : NULL;
  for (int64_t start = 0; after && plan->count > 0 && start < tensor_count(rows); start += plan->count) {
    real *x = tensor_real(rows) + start;
    double before = 1;
    after[plan->count] = 1;
    for (int64_t k = plan->count - 1; k > 0; k--) after[k] = after[k + 1] * (double)x[k];
    for (int64_t k = 0; k < plan->count; k++) {
      double element = (double)x[k];
      x[k] = (real)(before * after[k + 1]);
      before *= element;
    }
  }
  tensor_release(cut);
  if (after) {
    memory_delete(after);
    return rows;
  }
  tensor_release(rows);
  return NULL;
}

static int prod_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result) {
  if (!needed[0]) return STATUS_OK;
  struct fold_plan plan;
  STATUS_TRY(make_plan(call, &plan));
  struct tensor *others = products_of_others(call, &plan), *g = others ? tensor_contiguous(gradient) : NULL;
  for (int64_t i = 0; g && i < tensor_count(g); i++)
    for (int64_t k = i * plan.count; k < (i + 1) * plan.count; k++)
      tensor_real(others)[k] = unless_zero(tensor_real(g)[i], tensor_real(g)[i] * tensor_real(others)[k]);
  int status = op_give(g ? from_rows(others, call->input[0], &plan) : NULL, result);
  tensor_release(others);
  tensor_release(g);
  return status;
}

static int prod_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  struct fold_plan plan;
  STATUS_TRY(make_plan(call, &plan));
  struct tensor *others = products_of_others(call, &plan), *out = NULL;
  struct tensor *rows = others ? rows_of(tangent[0], &plan, TYPE_REAL) : NULL;
  struct shape shape;
  enum element_type type = TYPE_REAL;
  if (rows && reduce_shape(call, &shape, &type) == STATUS_OK) out = tensor_zeros(TYPE_REAL, &shape);
  for (int64_t i = 0; out && i < tensor_count(out); i++)
    for (int64_t k = i * plan.count; k < (i + 1) * plan.count; k++)
      tensor_real(out)[i] += unless_zero(tensor_real(rows)[k], tensor_real(rows)[k] * tensor_real(others)[k]);
  tensor_release(others);
  tensor_release(rows);
  return op_give(out, result);
}

/* ---- argmax, argmin ---- */

static int arg_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  if (call->value[0].count > 1) return status_error("takes one dimension, or none for all of them");
  STATUS_TRY(extreme_shape(call, shape, type));
  *type = TYPE_INT32;
  if (tensor_count(call->input[0]) > INT32_MAX) return status_error("too many elements to number them with int32");
  return STATUS_OK;
}

/* Position from 0 of the first extreme of n neighbours: the first best block, then the place in it. */
static int64_t span_position(enum fold_kind kind, const real *x, int64_t n) {
  int64_t best = 0;
  double extreme = 0;
  for (int64_t start = 0; start < n; start += SPAN) {
    double here = fold_span(kind, x + start, min(SPAN, n - start), 0);
    if (start == 0 ||
        (extreme == extreme && (here != here || (kind == FOLD_HIGHEST ? here > extreme : here < extreme)))) {
      extreme = here;
      best = start;
    }
  }
  while (!fold_same(x[best], (real)extreme)) best++;
  return best;
}

static int arg_forward(struct op_call *call, enum fold_kind kind) {
  struct fold_plan plan;
  STATUS_TRY(make_plan(call, &plan));
  struct tensor *rows = rows_of(call->input[0], &plan, TYPE_REAL);
  if (!rows) return STATUS_ERROR;
  const int64_t n = plan.count;
  int64_t results = tensor_count(call->output);
  int32_t *out = tensor_int32(call->output);
  const real *from = tensor_real(rows);
#pragma omp parallel for schedule(static) if (results * n > PARALLEL_THRESHOLD)
  for (int64_t o = 0; o < results; o++) out[o] = (int32_t)(span_position(kind, from + o * n, n) + 1);
  tensor_release(rows);
  return STATUS_OK;
}

/* The same of integers. */
static int arg_integers(struct op_call *call, enum fold_kind kind) {
  struct fold_plan plan;
  STATUS_TRY(make_plan(call, &plan));
  struct tensor *rows = rows_of(call->input[0], &plan, TYPE_INT32);
  for (int64_t i = 0; rows && i < tensor_count(call->output); i++) {
    const int32_t *x = tensor_int32(rows) + i * plan.count;
    int64_t extreme = row_of_integers(kind, x, plan.count), place = 0;
    while (x[place] != extreme) place++;
    tensor_int32(call->output)[i] = (int32_t)(place + 1);
  }
  tensor_release(rows);
  return rows ? STATUS_OK : STATUS_ERROR;
}

static int argmax_integers(struct op_call *call) { return arg_integers(call, FOLD_HIGHEST); }
static int argmin_integers(struct op_call *call) { return arg_integers(call, FOLD_LOWEST); }

static int argmax_forward(struct op_call *call) { return arg_forward(call, FOLD_HIGHEST); }
static int argmin_forward(struct op_call *call) { return arg_forward(call, FOLD_LOWEST); }

/* ---- rows ---- */

static const char *const sum_samples[] = {"4x5",
                                          "4x5 dims=1",
                                          "4x5 dims=2 keep=1",
                                          "2x3x4 dims=2",
                                          "scalar",
                                          "2x3x4 dims=1,3",
                                          "1x5 dims=1",
                                          "0x3 dims=1",
                                          "0x3 dims=2",
                                          "2x3x4x2 dims=2,4 keep=1",
                                          NULL};
static const char *const mean_samples[] = {"4x5",    "4x5 dims=1", "4x5 dims=2 keep=1", "2x3x4 dims=1,3",
                                           "scalar", "1x5 dims=1", "0x3 dims=2",        NULL};
static const char *const extreme_samples[] = {"distinct:4x5",
                                              "distinct:4x5 dims=1",
                                              "distinct:4x5 dims=2 keep=1",
                                              "distinct:2x3x4 dims=2",
                                              "distinct:2x3x4 dims=1,3",
                                              "scalar",
                                              "distinct:1x5 dims=1",
                                              "0x3 dims=2",
                                              NULL};
static const char *const variance_samples[] = {"4x5",
                                               "4x5 dims=1 unbiased=1",
                                               "4x5 dims=2 keep=1",
                                               "2x3x4 dims=2",
                                               "2x3x4 dims=1,3 unbiased=1",
                                               "1x5 dims=1",
                                               "0x3 dims=2",
                                               NULL};
static const char *const std_samples[] = {"4x5",
                                          "4x5 dims=1 unbiased=1",
                                          "4x5 dims=2 keep=1",
                                          "2x3x4 dims=2",
                                          "2x3x4 dims=1,3 unbiased=1",
                                          "without size 1: not differentiable at 0",
                                          "0x3 dims=2",
                                          NULL};
static const char *const arg_samples[] = {"4x5",        "4x5 dims=1", "4x5 dims=2 keep=1", "2x3x4 dims=-2", "scalar",
                                          "0x3 dims=2", NULL};

/* A form for reductions: over dims, which may be kept; further parameters after these. */
#define REDUCTION(word, text, tried, bits, shape_run, forward_run, vjp_run, jvp_run, on_integers, graph_run, ...) \
  OP(word, text, tried,                                                                                           \
     PARAMETERS(TENSOR("x"), DEFAULT("dims", OP_DIMENSIONS, 0), DEFAULT("keep", OP_FLAG, 0), __VA_ARGS__), bits,  \
     shape_run, forward_run, vjp_run, jvp_run, .integers = on_integers, .graph = graph_run, .batch_inputs = 1,    \
     .rowwise = reduce_rowwise)

const struct op reduce_ops[] = {
    REDUCTION("sum", "sum over dims (all when none are given); 0 over no elements; of integers int32, an error beyond",
              sum_samples, OP_LINEAR, sum_shape, sum_forward, sum_vjp, linear_jvp, sum_integers, NULL),
    REDUCTION("mean", "mean over dims (all when none are given), of integers in reals; NaN over no elements",
              mean_samples, OP_LINEAR, mean_shape, mean_forward, mean_vjp, linear_jvp, sum_integers, NULL),
    REDUCTION("max", "largest over dims (all when none are given); NaN wins; the gradient is shared equally among ties",
              extreme_samples, OP_SAVES_INPUTS | OP_SAVES_OUTPUT | OP_LINEAR, extreme_shape, max_forward, slope_vjp,
              slope_jvp, max_integers, NULL),
    REDUCTION("min",
              "smallest over dims (all when none are given); NaN wins; the gradient is shared equally among ties",
              extreme_samples, OP_SAVES_INPUTS | OP_SAVES_OUTPUT | OP_LINEAR, extreme_shape, min_forward, slope_vjp,
              slope_jvp, min_integers, NULL),
    REDUCTION(
        "variance",
        "mean squared distance to the mean over dims (all when none are given); unbiased divides by the count less "
        "one",
        variance_samples, OP_SAVES_INPUTS | OP_SAVES_OUTPUT, reduce_shape, variance_forward, slope_vjp, slope_jvp, NULL,
        variance_graph, DEFAULT("unbiased", OP_FLAG, 0)),
    REDUCTION("norm", "square root of the sum of squares over dims (all when none are given); its gradient at 0 is 0",
              sum_samples, OP_SAVES_INPUTS | OP_SAVES_OUTPUT, reduce_shape, norm_forward, slope_vjp, slope_jvp, NULL,
              norm_graph),
    REDUCTION("std", "square root of the variance over dims (all when none are given); its gradient at 0 is 0",
              std_samples, OP_SAVES_INPUTS | OP_SAVES_OUTPUT, reduce_shape, std_forward, slope_vjp, slope_jvp, NULL,
              std_graph, DEFAULT("unbiased", OP_FLAG, 0)),
    OP("prod", "product over dims (all when none are given); 1 over no elements; of integers int32", sum_samples,
       PARAMETERS(TENSOR("x"), DEFAULT("dims", OP_DIMENSIONS, 0), DEFAULT("keep", OP_FLAG, 0)), OP_SAVES_INPUTS,
       sum_shape, prod_forward, prod_vjp, prod_jvp, .integers = prod_integers, .composed = prod_composed,
       .batch_inputs = 1, .rowwise = reduce_rowwise),
    REDUCTION("argmax",
              "int32 position (from 1) of the largest along one dimension, or of all in row-major order; the first of "
              "ties, NaN wins",
              arg_samples, OP_NO_GRADIENT, arg_shape, argmax_forward, NULL, NULL, argmax_integers, NULL),
    REDUCTION("argmin",
              "int32 position (from 1) of the smallest along one dimension, or of all in row-major order; the first of "
              "ties, NaN wins",
              arg_samples, OP_NO_GRADIENT, arg_shape, argmin_forward, NULL, NULL, argmin_integers, NULL),
    REDUCTION("any", "1 where any element over dims (all when none are given) is not 0, else 0", arg_samples,
              OP_NO_GRADIENT, mean_shape, any_forward, NULL, NULL, any_forward, NULL),
    REDUCTION("all", "1 where no element over dims (all when none are given) is 0, else 0", arg_samples, OP_NO_GRADIENT,
              mean_shape, all_forward, NULL, NULL, all_forward, NULL),
    {.name = NULL}};
