/* GLS against an independent reference: the damped least-squares problem solved densely in double by Gaussian
   elimination on its normal equations, which shares no code with the runtime. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../runtime/base/memory.h"
#include "../../runtime/optim/optim.h"
#include "check.h"

static const double TOLERANCE = sizeof(real) == 8 ? 1e-9 : 1e-4;

static const struct gls_options plain = {
    .damping = 1e-2, .learning_rate = 1, .rows = 1, .decay = 0.95, .refresh = 5, .statistics_rows = 4096};

static struct tensor *filled(uint64_t seed, int rank, int64_t a, int64_t b) {
  struct shape shape = {.rank = rank, .size = {a, b}};
  struct tensor *t = tensor_new(TYPE_REAL, &shape);
  random_fill_normal((struct random_stream){seed, 7}, tensor_real(t), tensor_count(t));
  return t;
}

static struct tensor *leaf(uint64_t seed, int rank, int64_t a, int64_t b) {
  struct tensor *t = filled(seed, rank, a, b);
  t->requires_gradient = true;
  return t;
}

/* One linear layer with mean squared error, recorded and taken backward. */
struct problem {
  int64_t n, d, m;
  bool has_bias;
  struct tensor *x, *y, *parameter[2], *loss;
};

static void problem_run(struct problem *p) {
  struct tensor *z = tape_run(op_find("linear"), 3, (struct tensor *[]){p->x, p->parameter[0], p->parameter[1]}, NULL);
  p->loss = tape_run(op_find("mse"), 2, (struct tensor *[]){z, p->y}, (struct op_value[OP_MAX_PARAMETERS]){0});
  tensor_release(z);
  CHECK(p->loss && tape_backward(p->loss, NULL) == STATUS_OK, "%s", status_message());
}

static struct problem problem_new(int64_t n, int64_t d, int64_t m, bool has_bias) {
  struct problem p = {.n = n, .d = d, .m = m, .has_bias = has_bias};
  p.x = filled(1, 2, n, d);
  p.y = filled(2, 2, n, m);
  p.parameter[0] = leaf(3, 2, d, m);
  p.parameter[1] = has_bias ? leaf(4, 1, m, 0) : NULL;
  problem_run(&p);
  return p;
}

static int parameter_count(const struct problem *p) { return p->has_bias ? 2 : 1; }

static void problem_delete(struct problem *p) {
  tape_release();
  tensor_release(p->x);
  tensor_release(p->y);
  tensor_release(p->parameter[0]);
  tensor_release(p->parameter[1]);
  tensor_release(p->loss);
}

static void again(struct problem *p) {
  for (int i = 0; i < parameter_count(p); i++) gradient_clear(p->parameter[i]);
  tape_release();
  tensor_release(p->loss);
  problem_run(p);
}

/* ∂L/∂Z of the mean squared error, from the parameters as they are, in double. */
static double *reference_g(const struct problem *p) {
  double *g = calloc((size_t)(p->n * p->m), sizeof *g);
  for (int64_t i = 0; i < p->n; i++)
    for (int64_t j = 0; j < p->m; j++) {
      double z = p->has_bias ? (double)tensor_real(p->parameter[1])[j] : 0;
      for (int64_t k = 0; k < p->d; k++)
        z += (double)tensor_real(p->x)[i * p->d + k] * (double)tensor_real(p->parameter[0])[k * p->m + j];
      g[i * p->m + j] = 2 * (z - (double)tensor_real(p->y)[i * p->m + j]) / (double)(p->n * p->m);
    }
  return g;
}

/* Solves a x = b in place by Gaussian elimination with partial pivoting: a is n×n, b n×m. */
static void eliminate(double *a, double *b, int64_t n, int64_t m) {
  for (int64_t c = 0; c < n; c++) {
    int64_t pivot = c;
    for (int64_t r = c; r < n; r++)
      if (fabs(a[r * n + c]) > fabs(a[pivot * n + c])) pivot = r;
    for (int64_t k = 0; k < n; k++) {
      double t = a[c * n + k];
      a[c * n + k] = a[pivot * n + k];
      a[pivot * n + k] = t;
    }
    for (int64_t k = 0; k < m; k++) {
      double t = b[c * m + k];
      b[c * m + k] = b[pivot * m + k];
      b[pivot * m + k] = t;
    }
    for (int64_t r = 0; r < n; r++) {
      if (r == c) continue;
      double f = a[r * n + c] / a[c * n + c];
      for (int64_t k = c; k < n; k++) a[r * n + k] -= f * a[c * n + k];
      for (int64_t k = 0; k < m; k++) b[r * m + k] -= f * b[c * m + k];
    }
  }
  for (int64_t r = 0; r < n; r++)
    for (int64_t k = 0; k < m; k++) b[r * m + k] /= a[r * n + r];
}

/* argmin_X ‖A X − n G‖²/n + λ‖X‖², (d + bias) × m, λ = ρ tr(AᵀA/n)/min(rows, d + bias). */
static double *reference_direction(const struct problem *p, double damping) {
  int64_t e = p->d + (p->has_bias ? 1 : 0);
  double *g = reference_g(p), *s = calloc((size_t)(e * e), sizeof *s), *u = calloc((size_t)(e * p->m), sizeof *u),
         trace = 0;
  for (int64_t i = 0; i < p->n; i++)
    for (int64_t a = 0; a < e; a++) {
      double xa = a < p->d ? (double)tensor_real(p->x)[i * p->d + a] : 1;
      for (int64_t b = 0; b < e; b++)
        s[a * e + b] += xa * (b < p->d ? (double)tensor_real(p->x)[i * p->d + b] : 1) / (double)p->n;
      for (int64_t j = 0; j < p->m; j++) u[a * p->m + j] += xa * g[i * p->m + j];
    }
  for (int64_t a = 0; a < e; a++) trace += s[a * e + a];
  double lambda = damping * trace / (double)(p->n < e ? p->n : e);
  for (int64_t a = 0; a < e; a++) s[a * e + a] += lambda;
  eliminate(s, u, e, p->m);
  free(g);
  free(s);
  return u;
}

/* The parameters as one (d + bias) × m array of doubles. */
static double *snapshot(const struct problem *p) {
  int64_t e = p->d + (p->has_bias ? 1 : 0);
  double *w = calloc((size_t)(e * p->m), sizeof *w);
  for (int64_t i = 0; i < e * p->m; i++)
    w[i] = (double)(i < p->d * p->m ? tensor_real(p->parameter[0])[i] : tensor_real(p->parameter[1])[i - p->d * p->m]);
  return w;
}

static int64_t size_of(const struct problem *p) { return (p->d + (p->has_bias ? 1 : 0)) * p->m; }

/* max |a − b| / max |b| */
static double relative(const double *a, const double *b, int64_t count) {
  double difference = 0, size = 1e-300;
  for (int64_t i = 0; i < count; i++) {
    difference = fmax(difference, fabs(a[i] - b[i]));
    size = fmax(size, fabs(b[i]));
    if (isnan(a[i])) return INFINITY;
  }
  return difference / size;
}

static double norm_of(const double *a, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; i++) sum += a[i] * a[i];
  return sqrt(sum);
}

/* before − after: what a step subtracted. */
static double *moved(const struct problem *p, double *before) {
  double *after = snapshot(p);
  for (int64_t i = 0; i < size_of(p); i++) before[i] -= after[i];
  free(after);
  return before;
}

static double *step_of(struct problem *p, struct gls *gls, const struct gls_options *options) {
  double *before = snapshot(p);
  CHECK(gls_step(gls, p->parameter, options) == STATUS_OK, "%s", status_message());
  return moved(p, before);
}

/* Both forms, over and under the diagonal, with and without bias. */
static void test_directions(void) {
  static const int64_t sizes[][3] = {{6, 11, 4}, {20, 7, 3}, {1, 5, 2}, {5, 1, 1}, {8, 8, 8}, {40, 90, 17}};
  for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++)
    for (int bias = 0; bias < 2; bias++)
      for (int force_primal = 0; force_primal < 2; force_primal++) {
        struct problem p = problem_new(sizes[k][0], sizes[k][1], sizes[k][2], bias);
        if (force_primal) { /* a gradient from elsewhere, here zero, asks for the primal form */
          struct tensor *zero = tensor_zeros(TYPE_REAL, &p.parameter[0]->shape);
          CHECK(gradient_add(p.parameter[0], zero) == STATUS_OK, "%s", status_message());
        }
        struct gls *gls = gls_new(parameter_count(&p));
        double *expected = reference_direction(&p, plain.damping), *step = step_of(&p, gls, &plain);
        double error = relative(step, expected, size_of(&p));
        CHECK(error < TOLERANCE, "%lld×%lld×%lld bias %d primal %d: direction off by %g", (long long)p.n,
              (long long)p.d, (long long)p.m, bias, force_primal, error);
        CHECK(gls->handled[0] && (!bias || gls->handled[1]), "weight and bias are stepped by GLS");
        free(expected);
        free(step);
        gls_delete(gls);
        problem_delete(&p);
      }
}

static double value_of(struct tensor *loss) { return (double)*tensor_real(loss); }

/* On linear least squares the undamped direction is Newton's up to its length, and the automatic step has that length:
   one step reaches the minimum, where the gradient vanishes. */
static void test_newton(void) {
  static const int64_t sizes[][3] = {{30, 6, 3}, {6, 20, 3}};
  for (int k = 0; k < 2; k++) {
    struct problem p = problem_new(sizes[k][0], sizes[k][1], sizes[k][2], true);
    struct gls_options options = plain;
    options.automatic = true;
    options.damping = sizeof(real) == 8 ? 1e-8 : 1e-6;
    struct gls *gls = gls_new(2);
    double *g = reference_g(&p), before = norm_of(g, p.n * p.m), loss = value_of(p.loss);
    free(g);
    double *expected = reference_direction(&p, options.damping), *step = step_of(&p, gls, &options);
    /* Newton: H = 2/(nm) AᵀA for each output, so the step is (n m / 2) / n · S⁻¹AᵀG = (m/2) U. */
    for (int64_t i = 0; i < size_of(&p); i++) expected[i] *= (double)p.m / 2;
    double error = relative(step, expected, size_of(&p));
    CHECK(error < (sizeof(real) == 8 ? 1e-6 : 1e-2), "automatic step against Newton's: %g", error);
    again(&p);
    struct tensor *gradient;
    gradient_dense(p.parameter[0], &gradient);
    double largest = 0;
    for (int64_t i = 0; i < p.d * p.m; i++) largest = fmax(largest, fabs((double)tensor_real(gradient)[i]));
    CHECK(largest < 1e-4 * before, "gradient after one step %g, residual gradient before %g", largest, before);
    CHECK(value_of(p.loss) < loss, "loss %g after, %g before", value_of(p.loss), loss);
    free(expected);
    free(step);
    gls_delete(gls);
    problem_delete(&p);
  }
}

/* graft = "sgd": the step is as long as SGD's; graft = "rms": root mean square 0.2 · learning_rate. */
static void test_grafts(void) {
  for (int per_layer = 0; per_layer < 2; per_layer++)
    for (int tall = 0; tall < 2; tall++) {
      struct problem p = problem_new(tall ? 20 : 5, 9, 4, true);
      struct gls_options options = plain;
      options.graft = GRAFT_SGD;
      options.per_layer = per_layer;
      options.learning_rate = 0.3;
      struct tensor *gw, *gb;
      gradient_dense(p.parameter[0], &gw);
      gradient_dense(p.parameter[1], &gb);
      double square = 0;
      for (int64_t i = 0; i < p.d * p.m; i++) square += pow((double)tensor_real(gw)[i], 2);
      for (int64_t i = 0; i < p.m; i++) square += pow((double)tensor_real(gb)[i], 2);
      gradient_release(NULL);
      struct gls *gls = gls_new(2);
      double *step = step_of(&p, gls, &options), *u = reference_direction(&p, options.damping);
      double length = norm_of(step, size_of(&p)), wanted = 0.3 * sqrt(square);
      CHECK(fabs(length - wanted) < 1e-3 * wanted, "grafted step %g, SGD's %g", length, wanted);
      free(step);
      free(u);
      again(&p);
      options.graft = GRAFT_RMS;
      options.learning_rate = 0.05;
      step = step_of(&p, gls, &options);
      double rms = norm_of(step, size_of(&p)) / sqrt((double)size_of(&p));
      CHECK(fabs(rms - 0.2 * 0.05) < 1e-4 * 0.01, "matched step's root mean square %g", rms);
      free(step);
      gls_delete(gls);
      problem_delete(&p);
    }
}

/* V ← βV + (1 − β)U over three steps, in both forms. */
static void test_momentum(void) {
  for (int tall = 0; tall < 2; tall++) {
    struct problem p = problem_new(tall ? 20 : 5, 9, 4, true);
    struct gls_options options = plain;
    options.momentum = 0.9;
    options.learning_rate = 0.1;
    struct gls *gls = gls_new(2);
    double *v = calloc((size_t)size_of(&p), sizeof *v);
    for (int k = 0; k < 3; k++) {
      if (k > 0) again(&p);
      double *u = reference_direction(&p, options.damping);
      for (int64_t i = 0; i < size_of(&p); i++) v[i] = 0.9 * v[i] + 0.1 * u[i];
      double *step = step_of(&p, gls, &options);
      for (int64_t i = 0; i < size_of(&p); i++) step[i] /= options.learning_rate;
      double error = relative(step, v, size_of(&p));
      CHECK(error < 20 * TOLERANCE, "momentum, step %d: off by %g", k + 1, error);
      free(u);
      free(step);
    }
    free(v);
    gls_delete(gls);
    problem_delete(&p);
  }
}

/* Momentum chosen with the step never does worse on a quadratic than the step alone, and helps after a damped one. */
static void test_automatic_momentum(void) {
  double loss[2];
  for (int with = 0; with < 2; with++) {
    struct problem p = problem_new(60, 12, 3, true);
    for (int64_t i = 0; i < 60; i++) /* badly conditioned inputs, so that strong damping needs several steps */
      for (int64_t k = 0; k < 12; k++) tensor_real(p.x)[i * 12 + k] *= (real)pow(0.6, (double)k);
    again(&p);
    struct gls_options options = plain;
    options.automatic = true;
    options.damping = 3;
    options.automatic_momentum = with;
    struct gls *gls = gls_new(2);
    for (int k = 0; k < 12; k++) {
      CHECK(gls_step(gls, p.parameter, &options) == STATUS_OK, "%s", status_message());
      again(&p);
    }
    loss[with] = value_of(p.loss);
    if (with) CHECK(gls->report.momentum > 0 && gls->report.momentum <= 0.9, "momentum %g", gls->report.momentum);
    gls_delete(gls);
    problem_delete(&p);
  }
  CHECK(loss[1] < loss[0], "after twelve steps %g with momentum, %g without", loss[1], loss[0]);
}

/* Moving statistics: a plain mean over the first steps; one batch repeated gives the batch's own direction. */
static void test_moving(void) {
  struct problem p = problem_new(20, 6, 3, true);
  struct gls_options options = plain;
  options.statistics = STATISTICS_MOVING;
  options.learning_rate = 0.01;
  struct gls *gls = gls_new(2);
  for (int k = 0; k < 7; k++) {
    if (k > 0) again(&p);
    double *u = reference_direction(&p, options.damping), *step = step_of(&p, gls, &options);
    for (int64_t i = 0; i < size_of(&p); i++) step[i] /= options.learning_rate;
    double error = relative(step, u, size_of(&p));
    CHECK(error < 100 * TOLERANCE, "moving statistics, step %d: off by %g", k + 1, error);
    free(u);
    free(step);
  }
  gls_delete(gls);
  problem_delete(&p);
}

/* A weight used twice: both uses' rows are stacked. */
static void test_shared_weight(void) {
  struct problem p = problem_new(6, 9, 4, false);
  struct tensor *other = filled(9, 2, 5, 9), *target = filled(10, 2, 5, 4);
  const struct op *linear = op_find("linear"), *mse = op_find("mse");
  struct op_value none[OP_MAX_PARAMETERS] = {0};
  struct tensor *z = tape_run(linear, 3, (struct tensor *[]){other, p.parameter[0], NULL}, NULL);
  struct tensor *loss = tape_run(mse, 2, (struct tensor *[]){z, target}, none);
  CHECK(tape_backward(loss, NULL) == STATUS_OK, "%s", status_message());
  CHECK(p.parameter[0]->gradient->factor_count == 2, "two uses leave two factors");
  struct gls *gls = gls_new(1);
  struct gls_options options = plain;
  options.automatic = true;
  options.damping = 1e-6;
  double before = value_of(p.loss) + value_of(loss);
  CHECK(gls_step(gls, p.parameter, &options) == STATUS_OK, "%s", status_message());
  again(&p);
  tensor_release(z);
  tensor_release(loss);
  z = tape_run(linear, 3, (struct tensor *[]){other, p.parameter[0], NULL}, NULL);
  loss = tape_run(mse, 2, (struct tensor *[]){z, target}, none);
  CHECK(value_of(p.loss) + value_of(loss) < 0.9 * before, "both losses together fall: %g from %g",
        value_of(p.loss) + value_of(loss), before);
  tensor_release(z);
  tensor_release(loss);
  tensor_release(other);
  tensor_release(target);
  gls_delete(gls);
  problem_delete(&p);
}

/* A batch with NaN moves nothing and is counted; the next good batch is stepped. */
static void test_guards(void) {
  struct problem p = problem_new(5, 9, 4, true);
  struct gls_options options = plain;
  options.automatic = true;
  struct gls *gls = gls_new(2);
  real kept = tensor_real(p.x)[3];
  tensor_real(p.x)[3] = NAN;
  again(&p);
  double *step = step_of(&p, gls, &options);
  CHECK(norm_of(step, size_of(&p)) == 0, "a batch with NaN moved the weights");
  CHECK(gls->report.skipped_steps == 1, "skipped %lld", (long long)gls->report.skipped_steps);
  free(step);
  tensor_real(p.x)[3] = kept;
  again(&p);
  double before = value_of(p.loss);
  step = step_of(&p, gls, &options);
  free(step);
  again(&p);
  CHECK(value_of(p.loss) < before, "the next good batch lowers the loss: %g from %g", value_of(p.loss), before);

  /* inputs all equal and nearly no damping: the matrix is singular in floating point */
  for (int64_t i = 0; i < tensor_count(p.x); i++) tensor_real(p.x)[i] = 1;
  again(&p);
  options.damping = 1e-30;
  step = step_of(&p, gls, &options);
  CHECK(isfinite(norm_of(step, size_of(&p))), "a singular system gave a step that is not finite");
  free(step);
  CHECK(gls->report.cholesky_retries + gls->report.direction_fallbacks > 0, "no guard saw the singular system");

  /* inputs all zero: only the bias can move */
  for (int64_t i = 0; i < tensor_count(p.x); i++) tensor_real(p.x)[i] = 0;
  again(&p);
  options.damping = 1e-2;
  step = step_of(&p, gls, &options);
  CHECK(isfinite(norm_of(step, size_of(&p))) && norm_of(step, p.d * p.m) == 0, "zero inputs moved the weight");
  free(step);
  gls_delete(gls);
  problem_delete(&p);
}

/* κ bounds η²⟨U, g⟩. */
static void test_trust(void) {
  struct problem p = problem_new(5, 9, 4, true);
  struct gls_options options = plain;
  options.learning_rate = 5;
  options.trust = 1e-3;
  struct gls *gls = gls_new(2);
  struct tensor *gw, *gb;
  gradient_dense(p.parameter[0], &gw);
  gradient_dense(p.parameter[1], &gb);
  double *g = calloc((size_t)size_of(&p), sizeof *g);
  for (int64_t i = 0; i < size_of(&p); i++)
    g[i] = (double)(i < p.d * p.m ? tensor_real(gw)[i] : tensor_real(gb)[i - p.d * p.m]);
  double *u = reference_direction(&p, options.damping), *step = step_of(&p, gls, &options), ug = 0, uu = 0, su = 0;
  for (int64_t i = 0; i < size_of(&p); i++) {
    ug += u[i] * g[i];
    uu += u[i] * u[i];
    su += step[i] * u[i];
  }
  double eta = su / uu;
  CHECK(fabs(eta * eta * ug - options.trust) < 1e-2 * options.trust, "η²⟨U,g⟩ = %g, bound %g", eta * eta * ug,
        options.trust);
  CHECK(gls->report.trust_limits == 1, "counted %lld", (long long)gls->report.trust_limits);
  free(g);
  free(u);
  free(step);
  gls_delete(gls);
  problem_delete(&p);
}

/* The curvature from all rows is the same when every row is equal, whatever rows the block takes. */
static void test_row_block(void) {
  double eta[2];
  for (int block = 0; block < 2; block++) {
    struct problem p = problem_new(200, 5, 3, true);
    for (int64_t i = 1; i < p.n; i++) {
      memcpy(tensor_real(p.x) + i * p.d, tensor_real(p.x), (size_t)p.d * sizeof(real));
      memcpy(tensor_real(p.y) + i * p.m, tensor_real(p.y), (size_t)p.m * sizeof(real));
    }
    again(&p);
    struct gls_options options = plain;
    options.automatic = true;
    options.rows = block ? 0.25 : 1;
    struct gls *gls = gls_new(2);
    double *step = step_of(&p, gls, &options);
    eta[block] = gls->report.learning_rate;
    free(step);
    gls_delete(gls);
    problem_delete(&p);
  }
  CHECK(fabs(eta[0] - eta[1]) < 1e-3 * eta[0], "η %g from all rows, %g from a quarter", eta[0], eta[1]);
}

/* A convolution's direction is that of a linear layer on its patches. */
static void test_convolution(void) {
  struct shape image = shape_of(4, (int64_t)3, (int64_t)2, (int64_t)5, (int64_t)5);
  struct shape filter = shape_of(4, (int64_t)4, (int64_t)2, (int64_t)3, (int64_t)3);
  struct tensor *x = tensor_new(TYPE_REAL, &image), *w = tensor_new(TYPE_REAL, &filter), *b = leaf(4, 1, 4, 0);
  random_fill_normal((struct random_stream){1, 1}, tensor_real(x), tensor_count(x));
  random_fill_normal((struct random_stream){2, 1}, tensor_real(w), tensor_count(w));
  w->requires_gradient = true;
  struct op_value values[OP_MAX_PARAMETERS] = {{.count = 2, .list = {1, 1}},
                                               {.count = 2, .list = {1, 1}},
                                               {.count = 2, .list = {1, 1}},
                                               {.count = 1, .list = {1}}};
  struct tensor *z = tape_run(op_find("conv2d"), 3, (struct tensor *[]){x, w, b}, values);
  CHECK(z != NULL, "%s", status_message());
  struct tensor *y = tensor_zeros(TYPE_REAL, &z->shape);
  struct tensor *loss = tape_run(op_find("mse"), 2, (struct tensor *[]){z, y}, (struct op_value[OP_MAX_PARAMETERS]){0});
  CHECK(tape_backward(loss, NULL) == STATUS_OK, "%s", status_message());
  struct tensor *gradient;
  gradient_dense(w, &gradient);
  CHECK(gradient != NULL, "%s", status_message());
  double before = value_of(loss);
  struct gls *gls = gls_new(2);
  struct gls_options options = plain;
  options.automatic = true;
  options.damping = 1e-9;
  struct tensor *parameter[2] = {w, b};
  CHECK(gls_step(gls, parameter, &options) == STATUS_OK, "%s", status_message());
  CHECK(gls->handled[0] && gls->handled[1], "a convolution is stepped by GLS");
  tape_release();
  tensor_release(z);
  tensor_release(loss);
  z = tape_run(op_find("conv2d"), 3, (struct tensor *[]){x, w, b}, values);
  loss = tape_run(op_find("mse"), 2, (struct tensor *[]){z, y}, (struct op_value[OP_MAX_PARAMETERS]){0});
  /* target zero is reached by zero weights: a linear least-squares problem, solved in one step */
  CHECK(value_of(loss) < 1e-3 * before, "loss %g from %g in one step", value_of(loss), before);
  tape_release();
  gradient_clear(w);
  gradient_clear(b);
  gls_delete(gls);
  tensor_release(x);
  tensor_release(w);
  tensor_release(b);
  tensor_release(y);
  tensor_release(z);
  tensor_release(loss);
}

/* Allocation failure at every place of a step: an error with a message, no leak, weights finite. */
static void test_memory(void) {
  size_t live = memory_live();
  for (long n = 1, done = 0; !done && n < 2000; n++) {
    struct problem p = problem_new(5, 9, 4, true);
    struct gls *gls = gls_new(2);
    struct gls_options options = plain;
    options.automatic = true;
    options.automatic_momentum = true;
    memory_fail_at(n);
    int status = gls_step(gls, p.parameter, &options);
    memory_fail_at(0);
    if (status == STATUS_OK)
      done = 1;
    else
      CHECK(strstr(status_message(), "memory") != NULL, "message: %s", status_message());
    gls_delete(gls);
    problem_delete(&p);
  }
  CHECK(memory_live() == live, "%zu bytes live after failures, %zu before", memory_live(), live);
}

/* Adam and SGD against their papers' formulas, element by element in double. */
static void test_classics(void) {
  for (int decoupled = 0; decoupled < 2; decoupled++) {
    struct problem p = problem_new(5, 9, 4, true);
    struct tensor *first[2] = {0}, *second[2] = {0};
    int64_t count = size_of(&p);
    double *w = snapshot(&p), *m = calloc((size_t)count, sizeof *m), *v = calloc((size_t)count, sizeof *v);
    for (int t = 1; t <= 3; t++) {
      if (t > 1) again(&p);
      struct tensor *gw, *gb;
      gradient_dense(p.parameter[1], &gb);
      gradient_dense(p.parameter[0], &gw);
      double *g = calloc((size_t)count, sizeof *g);
      for (int64_t i = 0; i < count; i++)
        g[i] = (double)(i < p.d * p.m ? tensor_real(gw)[i] : tensor_real(gb)[i - p.d * p.m]);
      again(&p); /* so that the step forms the gradient by itself, tile by tile */
      struct adam_options options = {1e-2, 0.9, 0.999, 1e-8, 0.1, decoupled, t};
      CHECK(adam_step(p.parameter, first, second, 2, &options) == STATUS_OK, "%s", status_message());
      for (int64_t i = 0; i < count; i++) {
        double gi = g[i] + (decoupled ? 0 : 0.1 * w[i]);
        m[i] = 0.9 * m[i] + 0.1 * gi;
        v[i] = 0.999 * v[i] + 0.001 * gi * gi;
        double update = 1e-2 * (m[i] / (1 - pow(0.9, t))) / (sqrt(v[i] / (1 - pow(0.999, t))) + 1e-8);
        w[i] = w[i] - update - (decoupled ? 1e-2 * 0.1 * w[i] : 0);
      }
      free(g);
    }
    double *got = snapshot(&p);
    CHECK(relative(got, w, count) < TOLERANCE, "Adam, decoupled %d: off by %g", decoupled, relative(got, w, count));
    free(w);
    free(m);
    free(v);
    free(got);
    for (int i = 0; i < 2; i++) {
      tensor_release(first[i]);
      tensor_release(second[i]);
    }
    problem_delete(&p);
  }
  for (int nesterov = 0; nesterov < 2; nesterov++) {
    struct problem p = problem_new(5, 9, 4, false);
    struct tensor *velocity[1] = {0};
    int64_t count = size_of(&p);
    double *w = snapshot(&p), *v = calloc((size_t)count, sizeof *v);
    for (int t = 0; t < 3; t++) {
      if (t > 0) again(&p);
      struct tensor *gradient;
      gradient_dense(p.parameter[0], &gradient);
      for (int64_t i = 0; i < count; i++) {
        double g = (double)tensor_real(gradient)[i];
        v[i] = 0.9 * v[i] + g;
        w[i] -= 0.1 * (nesterov ? g + 0.9 * v[i] : v[i]) + 0.1 * 0.01 * w[i];
      }
      again(&p);
      struct sgd_options options = {0.1, 0.9, 0.01, nesterov};
      CHECK(sgd_step(p.parameter, velocity, 1, &options) == STATUS_OK, "%s", status_message());
    }
    double *got = snapshot(&p);
    CHECK(relative(got, w, count) < TOLERANCE, "SGD, nesterov %d: off by %g", nesterov, relative(got, w, count));
    free(w);
    free(v);
    free(got);
    tensor_release(velocity[0]);
    problem_delete(&p);
  }
}

static void test_clip(void) {
  struct problem p = problem_new(5, 9, 4, true);
  double norm, after;
  CHECK(clip_gradients(p.parameter, 2, 0, &norm) == STATUS_OK, "%s", status_message());
  CHECK(clip_gradients(p.parameter, 2, norm / 4, &after) == STATUS_OK && fabs(after - norm) < 1e-6 * norm,
        "gives the norm before: %g, %g", after, norm);
  clip_gradients(p.parameter, 2, 0, &after);
  CHECK(fabs(after - norm / 4) < 1e-5 * norm, "clipped to %g, wanted %g", after, norm / 4);
  problem_delete(&p);
}

void test_gls(void) {
  test_directions();
  test_newton();
  test_grafts();
  test_momentum();
  test_automatic_momentum();
  test_moving();
  test_shared_weight();
  test_guards();
  test_trust();
  test_row_block();
  test_convolution();
  test_memory();
  test_classics();
  test_clip();
}
