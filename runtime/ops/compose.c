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

/* x times weight plus bias, either of which may be absent. */
static term scaled_and_shifted(struct formula *f, term x, struct tensor *weight, struct tensor *bias, int dimension) {
  if (!x) return NULL;
  int rank = x->shape.rank;
  if (weight) x = term_mul(f, x, along_channels(f, weight, rank, dimension));
  if (bias) x = term_add(f, x, along_channels(f, bias, rank, dimension));
  return x;
}

/* (x − mean) / sqrt(mean square + epsilon) over the dimensions marked. */
static term normalised(struct formula *f, term x, const bool *dimension, bool centred, double epsilon) {
  term distance = centred ? term_sub(f, x, term_reduce(f, "mean", x, dimension)) : x;
  term variance = term_reduce(f, "mean", term_of(f, "square", distance), dimension);
  return term_mul(f, distance, term_of(f, "rsqrt", term_affine(f, variance, 1, epsilon)));
}

static term last_normalised(struct formula *f, const struct op_call *call, bool centred) {
  term x = call->input[0], bias = centred ? call->input[2] : NULL;
  int last = x->shape.rank - 1;
  bool marked[TENSOR_MAX_RANK] = {false};
  marked[last] = true;
  return scaled_and_shifted(f, normalised(f, x, marked, centred, call->value[0].number), call->input[1], bias, last);
}

term layer_norm_composed(struct formula *f, const struct op_call *call) { return last_normalised(f, call, true); }
term rms_norm_composed(struct formula *f, const struct op_call *call) { return last_normalised(f, call, false); }

term group_norm_composed(struct formula *f, const struct op_call *call) {
  term x = call->input[0];
  int64_t groups = call->value[0].list[0], batch = x->shape.size[0], rows = batch * groups;
  struct shape folded = shape_of(3, batch, groups, rows > 0 ? tensor_count(x) / rows : 0);
  term y = normalised(f, term_reshape(f, x, &folded), (bool[TENSOR_MAX_RANK]){[2] = true}, true, call->value[1].number);
  return scaled_and_shifted(f, term_reshape(f, y, &x->shape), call->input[1], call->input[2], 1);
}

/* In evaluation the statistics are constants: those that forward saved, for the running ones may have moved since. */
term batch_norm_composed(struct formula *f, const struct op_call *call) {
  term x = call->input[0], y = NULL;
  int rank = x->shape.rank;
  if (call->value[0].list[0]) {
    bool marked[TENSOR_MAX_RANK];
    for (int i = 0; i < TENSOR_MAX_RANK; i++) marked[i] = i != 1;
    y = normalised(f, x, marked, true, call->value[2].number);
  } else {
    term saved[3];
    struct shape channels = shape_of(1, x->shape.size[1]);
    for (int i = 0; i < 3; i++) saved[i] = along_channels(f, term_reshape(f, call->saved[i], &channels), rank, 1);
    y = term_sub(f, term_mul(f, term_sub(f, x, saved[0]), saved[1]), saved[2]);
  }
  return scaled_and_shifted(f, y, call->input[1], call->input[2], 1);
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

/* Places first … first + count − 1 of a dimension. */
static term part(struct formula *f, term x, int dimension, int64_t first, int64_t count) {
  const struct op_value values[OP_MAX_PARAMETERS] = {
      {.list = {dimension}}, {.list = {first + 1}}, {.list = {count}}, {.list = {1}}};
  return term_run(f, "narrow", 1, &x, values);
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
        term last = part(f, x, d, n - 1, 1);
        odd = odd ? term_mul(f, odd, last) : last;
      }
      x = term_mul(f, part(f, x, d, 0, n / 2), part(f, x, d, n / 2, n / 2));
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
