/* Rows written in other rows, for derivatives of their derivatives: the output (composed) or the gradient (graph) as a
   formula. Norms, reductions, softmax and losses. */
#include <math.h>

#include "compose.h"

typedef struct tensor *term;

/* Ends the formula of the one gradient that there is. */
static int give_first(struct formula *f, term gradient, struct tensor **result) {
  int status = formula_give(gradient, &result[0]);
  formula_end(f, NULL);
  return status;
}

/* ---- norms ---- */

/* v, one value a channel, in a shape that broadcasts: channels at `dimension` of rank dimensions. NULL where absent. */
static term along_channels(struct formula *f, term v, int rank, int dimension) {
  struct shape shape = {.rank = rank};
  if (!v) return NULL;
  for (int i = 0; i < rank; i++) shape.size[i] = i == dimension ? v->shape.size[0] : 1;
  return term_reshape(f, v, &shape);
}

/* The mean over the dimensions marked, 0 of no elements, which have a part in no derivative. */
static term average(struct formula *f, term v, const bool *dimension) {
  return v ? term_reduce(f, tensor_count(v) > 0 ? "mean" : "sum", v, dimension) : NULL;
}

/* v summed to one value a channel. */
static term to_channels(struct formula *f, term v, const struct tensor *parameter, int dimension) {
  bool marked[TENSOR_MAX_RANK] = {false};
  if (!v) return NULL;
  for (int i = 0; i < v->shape.rank; i++) marked[i] = i != dimension;
  return term_reshape(f, term_reduce(f, "sum", v, marked), &parameter->shape);
}

/* What is divided by, inverse, and x̂ = (x − mean) · inverse over the dimensions marked. */
static term normalised(struct formula *f, term x, const bool *dimension, bool centred, double epsilon, term *inverse) {
  term distance = centred ? term_sub(f, x, average(f, x, dimension)) : x;
  term variance = average(f, term_of(f, "square", distance), dimension);
  *inverse = term_of(f, "rsqrt", term_affine(f, variance, 1, epsilon));
  return term_mul(f, distance, *inverse);
}

/* Ends the formula of a norm's gradients: inverse · (d − mean(d) − x̂ mean(d x̂)), d = g · weight, by x, Σ g x̂ by the
   weight, Σ g by the bias. The statistics go over the dimensions marked, NULL where they are constants; a weight that
   is the same all over these stands before the sums. */
static int norm_gradients(struct formula *f, const struct op_call *call, term g, term normal, term inverse,
                          const bool *dimension, bool centred, int channels, const bool *needed,
                          struct tensor **result) {
  const int inputs = call->input_count < 3 ? call->input_count : 3, rank = g->shape.rank;
  term weight = along_channels(f, call->input[1], rank, channels);
  term along = term_mul(f, g, normal), d = g, product = along, scale = inverse;
  int status = along ? STATUS_OK : STATUS_ERROR;
  if (weight && dimension && dimension[channels]) {
    d = term_mul(f, d, weight);
    product = term_mul(f, product, weight);
  } else if (weight) {
    scale = term_mul(f, inverse, weight);
  }
  if (needed[0] && status == STATUS_OK) {
    if (dimension) {
      term inner = term_sub(f, d, term_mul(f, normal, average(f, product, dimension)));
      d = centred ? term_sub(f, inner, average(f, d, dimension)) : inner;
    }
    status = formula_give(term_mul(f, d, scale), &result[0]);
  }
  for (int i = 1; i < inputs && status == STATUS_OK; i++)
    if (needed[i]) status = formula_give(to_channels(f, i == 1 ? along : g, call->input[i], channels), &result[i]);
  formula_end(f, NULL);
  return status;
}

static int last_norm_graph(const struct op_call *call, struct tensor *gradient, const bool *needed,
                           struct tensor **result, bool centred) {
  struct formula f = {0};
  const int last = gradient->shape.rank - 1;
  bool marked[TENSOR_MAX_RANK] = {false};
  marked[last] = true;
  term inverse, normal = normalised(&f, call->input[0], marked, centred, call->value[0].number, &inverse);
  return norm_gradients(&f, call, gradient, normal, inverse, marked, centred, last, needed, result);
}

int layer_norm_graph(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result) {
  return last_norm_graph(call, gradient, needed, result, true);
}

int rms_norm_graph(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result) {
  return last_norm_graph(call, gradient, needed, result, false);
}

/* In evaluation the statistics are constants: those that forward saved, for the running ones may have moved since. */
int batch_norm_graph(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result) {
  struct formula f = {0};
  const int rank = gradient->shape.rank;
  const bool training = call->value[0].list[0];
  bool marked[TENSOR_MAX_RANK];
  for (int i = 0; i < TENSOR_MAX_RANK; i++) marked[i] = i != 1;
  term x = call->input[0], inverse = NULL, normal = NULL;
  if (training) {
    normal = normalised(&f, x, marked, true, call->value[2].number, &inverse);
  } else {
    const struct shape channels = shape_of(1, x->shape.size[1]);
    term saved[3];
    for (int i = 0; i < 3; i++) saved[i] = along_channels(&f, term_reshape(&f, call->saved[i], &channels), rank, 1);
    inverse = saved[1];
    normal = term_sub(&f, term_mul(&f, term_sub(&f, x, saved[0]), inverse), saved[2]);
  }
  return norm_gradients(&f, call, gradient, normal, inverse, training ? marked : NULL, true, 1, needed, result);
}

term group_norm_composed(struct formula *f, const struct op_call *call) {
  term x = call->input[0], weight = call->input[1], bias = call->input[2], inverse;
  int64_t groups = call->value[0].list[0], batch = x->shape.size[0], rows = batch * groups;
  struct shape folded = shape_of(3, batch, groups, rows > 0 ? tensor_count(x) / rows : 0);
  const bool marked[TENSOR_MAX_RANK] = {[2] = true};
  term y = normalised(f, term_reshape(f, x, &folded), marked, true, call->value[1].number, &inverse);
  y = term_reshape(f, y, &x->shape);
  if (weight) y = term_mul(f, y, along_channels(f, weight, x->shape.rank, 1));
  return bias ? term_add(f, y, along_channels(f, bias, x->shape.rank, 1)) : y;
}

/* ---- softmax and its kin ---- */

/* y (g − Σ g y) */
int softmax_graph(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result) {
  struct formula f = {0};
  term y = call->output;
  int dimension;
  if (!needed[0]) return STATUS_OK;
  STATUS_TRY(op_dimension(call, &dimension));
  term sum = term_reduce_one(&f, "sum", term_mul(&f, gradient, y), dimension);
  return give_first(&f, term_mul(&f, term_sub(&f, gradient, sum), y), result);
}

/* g − exp(y) Σ g */
int log_softmax_graph(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result) {
  struct formula f = {0};
  int dimension;
  if (!needed[0]) return STATUS_OK;
  STATUS_TRY(op_dimension(call, &dimension));
  term sum = term_reduce_one(&f, "sum", gradient, dimension);
  return give_first(&f, term_sub(&f, gradient, term_chain(&f, sum, term_of(&f, "exp", call->output))), result);
}

/* g exp(x − y) */
int logsumexp_graph(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result) {
  struct formula f = {0};
  int dimension;
  if (!needed[0]) return STATUS_OK;
  STATUS_TRY(op_dimension(call, &dimension));
  struct shape kept = call->input[0]->shape;
  kept.size[dimension] = 1;
  term y = term_reshape(&f, call->output, &kept), g = term_reshape(&f, gradient, &kept);
  return give_first(&f, term_chain(&f, g, term_of(&f, "exp", term_sub(&f, call->input[0], y))), result);
}

/* ---- reductions ---- */

/* The dimensions that a call reduces; the shape of its results with those of size 1; how many elements make one. */
static int64_t reduced(const struct op_call *call, bool *dimension, struct shape *kept) {
  int64_t count = 1;
  *kept = call->input[0]->shape;
  for (int i = 0; i < kept->rank; i++) dimension[i] = call->value[0].count == 0;
  for (int k = 0; k < call->value[0].count; k++) {
    int64_t given = call->value[0].list[k];
    dimension[given < 0 ? given + kept->rank : given] = true;
  }
  for (int i = 0; i < kept->rank; i++)
    if (dimension[i]) {
      count *= kept->size[i];
      kept->size[i] = 1;
    }
  return count;
}

/* g (x − mean) · 2 / divisor, the mean only where centred; of a root y: g (x − mean) / (divisor y), 0 where y is 0. */
static int distance_graph(const struct op_call *call, struct tensor *gradient, const bool *needed,
                          struct tensor **result, bool centred, bool root) {
  struct formula f = {0};
  bool dimension[TENSOR_MAX_RANK];
  struct shape kept;
  if (!needed[0]) return STATUS_OK;
  int64_t count = reduced(call, dimension, &kept), divisor = centred ? count - call->value[2].list[0] : 1;
  term x = call->input[0], g = term_reshape(&f, gradient, &kept);
  if (centred) x = term_sub(&f, x, term_reduce(&f, "mean", x, dimension));
  if (root) {
    term y = term_reshape(&f, call->output, &kept), inverse = term_of(&f, "reciprocal", y);
    g = term_chain(&f, g, term_of_three(&f, "where", y, inverse, term_number(&f, 0)));
  }
  g = term_affine(&f, g, divisor > 0 ? (root ? 1 : 2) / (double)divisor : (double)NAN, 0);
  return give_first(&f, term_chain(&f, g, x), result);
}

int variance_graph(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result) {
  return distance_graph(call, gradient, needed, result, true, false);
}

int std_graph(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result) {
  return distance_graph(call, gradient, needed, result, true, true);
}

int norm_graph(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result) {
  return distance_graph(call, gradient, needed, result, false, true);
}

/* By halves, dimension after dimension, so that zeros need no division; what is odd is joined at the end. */
term prod_composed(struct formula *f, const struct op_call *call) {
  bool dimension[TENSOR_MAX_RANK];
  struct shape kept;
  reduced(call, dimension, &kept);
  term x = call->input[0];
  for (int d = 0; x && d < kept.rank; d++) {
    if (!dimension[d]) continue;
    term odd = NULL;
    for (int64_t n = x->shape.size[d]; x && n > 1; n /= 2) {
      if (n % 2) {
        term last = term_narrow(f, x, d, n - 1, 1);
        odd = odd ? term_mul(f, odd, last) : last;
      }
      x = term_mul(f, term_narrow(f, x, d, 0, n / 2), term_narrow(f, x, d, n / 2, n / 2));
    }
    if (x && odd) x = term_mul(f, x, odd);
    /* of no elements 1 */
    if (x && x->shape.size[d] == 0) x = term_affine(f, term_reduce_one(f, "sum", x, d), 1, 1);
  }
  return x ? term_reshape(f, x, &call->output->shape) : NULL;
}

/* ---- losses ---- */

/* The mean, or the sum when asked. */
static term total(struct formula *f, const struct op_call *call, term x) {
  const struct op_value all[OP_MAX_PARAMETERS] = {{.count = 0}};
  return term_run(f, call->value[call->op->loss->sum].list[0] ? "sum" : "mean", 1, &x, all);
}

term mse_composed(struct formula *f, const struct op_call *call) {
  return total(f, call, term_of(f, "square", term_sub(f, call->input[0], call->input[1])));
}

/* d c − c²/2, c the difference d clamped to ±delta. */
term huber_composed(struct formula *f, const struct op_call *call) {
  term d = term_sub(f, call->input[0], call->input[1]);
  term c = term_clamp(f, d, -call->value[0].number, call->value[0].number);
  return total(f, call, term_sub(f, term_mul(f, d, c), term_affine(f, term_of(f, "square", c), 0.5, 0)));
}

/* softplus(x) − t x */
term binary_cross_entropy_composed(struct formula *f, const struct op_call *call) {
  term x = call->input[0];
  return total(f, call, term_sub(f, term_of(f, "softplus", x), term_mul(f, call->input[1], x)));
}

/* g weight (softmax(x) − target), the target a constant. */
int cross_entropy_graph(const struct op_call *call, struct tensor *gradient, const bool *needed,
                        struct tensor **result) {
  struct formula f = {0};
  if (!needed[0]) return STATUS_OK;
  term x = call->input[0], labels = call->saved[1];
  const int64_t classes = x->shape.size[x->shape.rank - 1], rows = tensor_count(labels);
  const double smoothing = call->value[0].number, weight = call->value[1].list[0] ? 1 : 1 / (double)rows;
  const struct op_value last[OP_MAX_PARAMETERS] = {{.list = {-1}}}, width[OP_MAX_PARAMETERS] = {{.list = {classes}}};
  term softmax = term_run(&f, "softmax", 1, &x, last);
  term target = term_affine(&f, term_run(&f, "one_hot", 1, &labels, width), 1 - smoothing,
                            classes > 0 ? smoothing / (double)classes : 0);
  return give_first(&f, term_mul(&f, term_affine(&f, gradient, weight, 0), term_sub(&f, softmax, target)), result);
}
