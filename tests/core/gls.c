/* GLS against an independent reference (least_squares.h), its grafts, momentum and guards; the classics. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../runtime/base/simd.h"
#include "check.h"
#include "least_squares.h"

static const double TOLERANCE = sizeof(real) == 8 ? 1e-9 : 1e-4;
/* Dual, primal and dense solution agree to this, times 5 with ρ = 0.01, where a square system's condition number is in
   the hundreds. */
static const double FORMS = sizeof(real) == 8 ? 1e-11 : 1e-5;
static const double LONG_STEP = 1000;

static const struct gls_options plain = {
    .damping = 1e-2, .learning_rate = 1, .rows = 1, .decay = 0.95, .refresh = 5, .statistics_rows = 4096};

/* The direction of one problem, in the form its sizes ask for or in the primal, against the dense solution. *step: what
   was subtracted. */
static double direction_error(const int64_t *size, bool bias, bool force_primal, double damping, double *step) {
  struct problem p = problem_new(size[0], size[1], size[2], bias);
  if (force_primal) { /* a gradient from elsewhere, here zero, asks for the primal form */
    struct tensor *zero = tensor_zeros(TYPE_REAL, &p.parameter[0]->shape);
    CHECK(gradient_add(p.parameter[0], zero) == STATUS_OK, "%s", status_message());
  }
  struct gls *gls = gls_new(parameter_count(&p));
  struct gls_options options = plain;
  options.damping = damping;
  options.learning_rate = LONG_STEP; /* so that the rounding of the weights themselves is no part of the error */
  double *expected = reference_direction(&p, damping), *moved = problem_step(&p, gls, &options);
  int64_t count = problem_size(&p);
  for (int64_t i = 0; i < count; i++) expected[i] *= LONG_STEP;
  double error = relative_error(moved, expected, count);
  CHECK(gls->handled[0] && (!bias || gls->handled[1]), "weight and bias are stepped by GLS");
  memcpy(step, moved, (size_t)count * sizeof *step);
  free(expected);
  free(moved);
  gls_delete(gls);
  problem_delete(&p);
  return error;
}

/* Both forms, over and under the diagonal, with and without bias: each is the dense solution, and they agree. */
static void test_directions(void) {
  static const int64_t sizes[][3] = {{6, 11, 4}, {20, 7, 3},  {1, 5, 2},   {5, 1, 1},
                                     {8, 8, 8},  {10, 6, 25}, {40, 90, 17}};
  static const double dampings[] = {1e-2, 0.1, 1};
  for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++)
    for (int i = 0; i < 6; i++) {
      double step[2][91 * 17], error[2], damping = dampings[i / 2], allowed = damping < 0.1 ? 5 * FORMS : FORMS;
      for (int primal = 0; primal < 2; primal++)
        error[primal] = direction_error(sizes[k], i % 2, primal, damping, step[primal]);
      double apart = relative_error(step[0], step[1], (sizes[k][1] + i % 2) * sizes[k][2]);
      CHECK(fmax(error[0], error[1]) < allowed && apart < allowed,
            "%lld×%lld×%lld bias %d damping %g: off by %g (dual where it fits), %g (primal), apart by %g",
            (long long)sizes[k][0], (long long)sizes[k][1], (long long)sizes[k][2], i % 2, damping, error[0], error[1],
            apart);
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
    double *g = reference_output_gradient(&p), before = norm_of(g, p.n * p.m), loss = value_of(p.loss);
    free(g);
    double *expected = reference_direction(&p, options.damping), *step = problem_step(&p, gls, &options);
    /* Newton: H = 2/(nm) AᵀA for each output, so the step is (n m / 2) / n · S⁻¹AᵀG = (m/2) U. */
    for (int64_t i = 0; i < problem_size(&p); i++) expected[i] *= (double)p.m / 2;
    double error = relative_error(step, expected, problem_size(&p));
    CHECK(error < (sizeof(real) == 8 ? 1e-6 : 1e-2), "automatic step against Newton's: %g", error);
    problem_again(&p);
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
  for (int tall = 0; tall < 2; tall++) {
    struct problem p = problem_new(tall ? 20 : 5, 9, 4, true);
    struct gls_options options = plain;
    options.graft = GRAFT_SGD;
    options.learning_rate = 0.3;
    struct tensor *gw, *gb;
    gradient_dense(p.parameter[0], &gw);
    gradient_dense(p.parameter[1], &gb);
    double square = 0;
    for (int64_t i = 0; i < p.d * p.m; i++) square += pow((double)tensor_real(gw)[i], 2);
    for (int64_t i = 0; i < p.m; i++) square += pow((double)tensor_real(gb)[i], 2);
    struct gls *gls = gls_new(2);
    double *step = problem_step(&p, gls, &options), *u = reference_direction(&p, options.damping);
    double length = norm_of(step, problem_size(&p)), wanted = 0.3 * sqrt(square);
    CHECK(fabs(length - wanted) < 1e-3 * wanted, "grafted step %g, SGD's %g", length, wanted);
    free(step);
    free(u);
    problem_again(&p);
    options.graft = GRAFT_RMS;
    options.learning_rate = 0.05;
    step = problem_step(&p, gls, &options);
    double rms = norm_of(step, problem_size(&p)) / sqrt((double)problem_size(&p));
    CHECK(fabs(rms - 0.2 * 0.05) < 1e-4 * 0.01, "matched step's root mean square %g", rms);
    free(step);
    gls_delete(gls);
    problem_delete(&p);
  }
}

/* V ← βV + (1 − β)U over three steps, in both forms, by rows too. */
static void test_momentum(void) {
  static const int64_t sizes[][3] = {{5, 9, 4}, {20, 9, 4}, {5, 9, 25}, {10, 9, 25}};
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
    struct problem p = problem_new(sizes[s][0], sizes[s][1], sizes[s][2], true);
    struct gls_options options = plain;
    options.momentum = 0.9;
    options.learning_rate = 0.1;
    struct gls *gls = gls_new(2);
    double *v = calloc((size_t)problem_size(&p), sizeof *v);
    for (int k = 0; k < 3; k++) {
      if (k > 0) problem_again(&p);
      double *u = reference_direction(&p, options.damping);
      for (int64_t i = 0; i < problem_size(&p); i++) v[i] = 0.9 * v[i] + 0.1 * u[i];
      double *step = problem_step(&p, gls, &options);
      for (int64_t i = 0; i < problem_size(&p); i++) step[i] /= options.learning_rate;
      double error = relative_error(step, v, problem_size(&p));
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
    problem_again(&p);
    struct gls_options options = plain;
    options.automatic = true;
    options.damping = 3;
    options.automatic_momentum = with;
    struct gls *gls = gls_new(2);
    for (int k = 0; k < 12; k++) {
      CHECK(gls_step(gls, p.parameter, &options) == STATUS_OK, "%s", status_message());
      problem_again(&p);
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
    if (k > 0) problem_again(&p);
    double *u = reference_direction(&p, options.damping), *step = problem_step(&p, gls, &options);
    for (int64_t i = 0; i < problem_size(&p); i++) step[i] /= options.learning_rate;
    double error = relative_error(step, u, problem_size(&p));
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
  p.parameter[0]->factor_readers = 1; /* as an optimizer that lives sets it */
  struct tensor *other = check_normal(9, 2, 5, 9), *target = check_normal(10, 2, 5, 4);
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
  problem_again(&p);
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
  problem_again(&p);
  double *step = problem_step(&p, gls, &options);
  CHECK(norm_of(step, problem_size(&p)) == 0, "a batch with NaN moved the weights");
  CHECK(gls->report.skipped_steps == 1, "skipped %lld", (long long)gls->report.skipped_steps);
  free(step);
  tensor_real(p.x)[3] = kept;
  problem_again(&p);
  double before = value_of(p.loss);
  step = problem_step(&p, gls, &options);
  free(step);
  problem_again(&p);
  CHECK(value_of(p.loss) < before, "the next good batch lowers the loss: %g from %g", value_of(p.loss), before);

  /* inputs all equal and nearly no damping: the matrix is singular in floating point */
  for (int64_t i = 0; i < tensor_count(p.x); i++) tensor_real(p.x)[i] = 1;
  problem_again(&p);
  options.damping = 1e-30;
  step = problem_step(&p, gls, &options);
  CHECK(isfinite(norm_of(step, problem_size(&p))), "a singular system gave a step that is not finite");
  free(step);
  CHECK(gls->report.cholesky_retries + gls->report.direction_fallbacks > 0, "no guard saw the singular system");

  /* inputs all zero: only the bias can move */
  for (int64_t i = 0; i < tensor_count(p.x); i++) tensor_real(p.x)[i] = 0;
  problem_again(&p);
  options.damping = 1e-2;
  step = problem_step(&p, gls, &options);
  CHECK(isfinite(norm_of(step, problem_size(&p))) && norm_of(step, p.d * p.m) == 0, "zero inputs moved the weight");
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
  double *g = calloc((size_t)problem_size(&p), sizeof *g);
  for (int64_t i = 0; i < problem_size(&p); i++)
    g[i] = (double)(i < p.d * p.m ? tensor_real(gw)[i] : tensor_real(gb)[i - p.d * p.m]);
  double *u = reference_direction(&p, options.damping), *step = problem_step(&p, gls, &options), ug = 0, uu = 0, su = 0;
  for (int64_t i = 0; i < problem_size(&p); i++) {
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
    problem_again(&p);
    struct gls_options options = plain;
    options.automatic = true;
    options.rows = block ? 0.25 : 1;
    struct gls *gls = gls_new(2);
    double *step = problem_step(&p, gls, &options);
    eta[block] = gls->report.learning_rate;
    free(step);
    gls_delete(gls);
    problem_delete(&p);
  }
  CHECK(fabs(eta[0] - eta[1]) < 1e-3 * eta[0], "η %g from all rows, %g from a quarter", eta[0], eta[1]);
}

/* Where few samples carry the curvature of a cross-entropy, rows drawn by their share in it find the step that all rows
   give: on average, and nearly in every draw. */
static void test_drawn_rows(void) {
  enum { SAMPLES = 200, INPUTS = 6, CLASSES = 4, SURE = 190, DRAWS = 300 };
  struct tensor *x = check_normal(1, 2, SAMPLES, INPUTS), *w = check_leaf(2, 2, INPUTS, CLASSES);
  struct shape column = shape_of(1, (int64_t)SAMPLES);
  struct tensor *labels = tensor_new(TYPE_INT32, &column);
  for (int i = 0; i < SAMPLES; i++) {
    tensor_int32(labels)[i] = i % CLASSES + 1;
    for (int k = 0; k < INPUTS && i < SURE; k++) tensor_real(x)[i * INPUTS + k] *= 30; /* softmax is nearly 0 or 1 */
  }
  struct gls *gls = gls_new(1);
  struct gls_options options = plain;
  options.automatic = true;
  options.learning_rate = 1e-12; /* the weights stay as they are */
  double all = 0, mean = 0, worst = 0;
  for (int draw = 0; draw <= DRAWS; draw++) {
    struct tensor *z = tape_run(op_find("linear"), 3, (struct tensor *[]){x, w, NULL}, NULL);
    struct tensor *loss =
        tape_run(op_find("cross_entropy"), 2, (struct tensor *[]){z, labels}, (struct op_value[OP_MAX_PARAMETERS]){0});
    CHECK(loss && tape_backward(loss, NULL) == STATUS_OK, "%s", status_message());
    options.rows = draw ? 0.25 : 1;
    CHECK(gls_step(gls, &w, &options) == STATUS_OK, "%s", status_message());
    double curvature = 1 / gls->report.learning_rate; /* ⟨g, U⟩ is the same in all draws */
    if (draw == 0) all = curvature;
    if (draw > 0) mean += curvature / DRAWS;
    if (draw > 0) worst = fmax(worst, fabs(curvature / all - 1));
    gradient_clear(w);
    tape_release(true);
    tensor_release(z);
    tensor_release(loss);
  }
  CHECK(fabs(mean / all - 1) < 0.02, "mean of the drawn curvatures is %g of all rows'", mean / all);
  CHECK(worst < 0.25, "one draw is off by %g", worst);
  gls_delete(gls);
  tensor_release(x);
  tensor_release(w);
  tensor_release(labels);
}

/* A convolution's direction is that of a linear layer on its patches. */
static void test_convolution(void) {
  struct shape image = shape_of(4, (int64_t)3, (int64_t)2, (int64_t)5, (int64_t)5);
  struct shape filter = shape_of(4, (int64_t)4, (int64_t)2, (int64_t)3, (int64_t)3);
  struct tensor *x = tensor_new(TYPE_REAL, &image), *w = tensor_new(TYPE_REAL, &filter), *b = check_leaf(4, 1, 4, 0);
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
  struct tensor *gradient, *some = NULL;
  gradient_dense(w, &gradient);
  CHECK(gradient != NULL, "%s", status_message());
  const struct factor *use = &w->gradient->factor[0];
  struct factors factors = {0};
  const int64_t row[] = {0, 24, 25, 43, 74};
  CHECK(use->node->call.op->affine->factors(&use->node->call, use->gradient, &factors) == STATUS_OK &&
            use->node->call.op->affine->factor_rows(&use->node->call, row, 5, &some) == STATUS_OK,
        "%s", status_message());
  for (int i = 0; i < 5 && some; i++)
    CHECK(memcmp(tensor_real(some) + i * 18, tensor_real(factors.a) + row[i] * 18, 18 * sizeof(real)) == 0,
          "row %d of the patches differs where it is made alone", (int)row[i]);
  tensor_release(some);
  tensor_release(factors.a);
  tensor_release(factors.g);
  double before = value_of(loss);
  struct gls *gls = gls_new(2);
  struct gls_options options = plain;
  options.automatic = true;
  options.damping = 1e-9;
  struct tensor *parameter[2] = {w, b};
  CHECK(gls_step(gls, parameter, &options) == STATUS_OK, "%s", status_message());
  CHECK(gls->handled[0] && gls->handled[1], "a convolution is stepped by GLS");
  tape_release(true);
  tensor_release(z);
  tensor_release(loss);
  z = tape_run(op_find("conv2d"), 3, (struct tensor *[]){x, w, b}, values);
  loss = tape_run(op_find("mse"), 2, (struct tensor *[]){z, y}, (struct op_value[OP_MAX_PARAMETERS]){0});
  /* target zero is reached by zero weights: a linear least-squares problem, solved in one step */
  CHECK(value_of(loss) < 1e-3 * before, "loss %g from %g in one step", value_of(loss), before);
  tape_release(true);
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

/* A convolution in groups is not one affine map: it is left to the fallback. */
static void test_grouped_convolution(void) {
  struct shape image = shape_of(4, (int64_t)2, (int64_t)4, (int64_t)5, (int64_t)5);
  struct shape filter = shape_of(4, (int64_t)4, (int64_t)1, (int64_t)3, (int64_t)3);
  struct tensor *x = tensor_zeros(TYPE_REAL, &image), *w = tensor_zeros(TYPE_REAL, &filter),
                *b = check_leaf(4, 1, 4, 0);
  w->requires_gradient = true;
  struct op_value values[OP_MAX_PARAMETERS] = {
      {.count = 2, .list = {1, 1}}, {.count = 2}, {.count = 2, .list = {1, 1}}, {.count = 1, .list = {4}}};
  struct tensor *z = tape_run(op_find("conv2d"), 3, (struct tensor *[]){x, w, b}, values);
  struct tensor *loss = z ? tape_run(op_find("sum"), 1, &z, (struct op_value[OP_MAX_PARAMETERS]){0}) : NULL;
  CHECK(loss && tape_backward(loss, NULL) == STATUS_OK, "%s", status_message());
  struct gls *gls = gls_new(2);
  CHECK(gls_step(gls, (struct tensor *[]){w, b}, &plain) == STATUS_OK, "%s", status_message());
  CHECK(!gls->handled[0] && !gls->handled[1], "%s", "a convolution in groups is stepped by GLS");
  gls_delete(gls);
  tape_release(true);
  struct tensor *all[] = {x, w, b, z, loss};
  for (int i = 0; i < 5; i++) tensor_release(all[i]);
}

/* The roots that Adam divides by: all magnitudes, and what is no normal number. */
static void test_roots(void) {
  real least = CHECK_IS_DOUBLE ? 2e-308 : 2e-38f, most = CHECK_IS_DOUBLE ? 1e308 : 3e38f;
  double largest = 0;
  for (real x = least; x < most / 2; x *= (real)1.37) {
    vector root, all = (vector){0} + x;
    for (int i = 0; i < VECTOR_LANES; i++) all[i] *= (real)(1 + 0.05 * i);
    root = vector_sqrt(all);
    for (int i = 0; i < VECTOR_LANES; i++) largest = fmax(largest, fabs((double)root[i] / sqrt((double)all[i]) - 1));
  }
  CHECK(largest <= (CHECK_IS_DOUBLE ? 2.3e-16 : 1.2e-7), "a root is off by %g", largest);
  CHECK(vector_sqrt((vector){0})[0] < 1e-18, "the root of 0: %g", (double)vector_sqrt((vector){0})[0]);
  CHECK(vector_sqrt((vector){0} + (real)INFINITY)[0] > 1e19, "the root of infinity: %g",
        (double)vector_sqrt((vector){0} + (real)INFINITY)[0]);
  CHECK(isnan(vector_sqrt((vector){0} + (real)NAN)[0]), "%s", "the root of NaN is one");
}

/* Adam and SGD against their papers' formulas, element by element in double. */
static void test_classics(void) {
  for (int kind = 0; kind < 4; kind++) { /* fewer columns than a vector has, and more */
    bool decoupled = kind % 2;
    struct problem p = problem_new(5, 9, kind < 2 ? 4 : 37, true);
    struct tensor *first[2] = {0}, *second[2] = {0};
    int64_t count = problem_size(&p);
    double *w = problem_weights(&p), *m = calloc((size_t)count, sizeof *m), *v = calloc((size_t)count, sizeof *v);
    for (int t = 1; t <= 3; t++) {
      if (t > 1) problem_again(&p);
      struct tensor *gw, *gb;
      gradient_dense(p.parameter[1], &gb);
      gradient_dense(p.parameter[0], &gw);
      double *g = calloc((size_t)count, sizeof *g);
      for (int64_t i = 0; i < count; i++)
        g[i] = (double)(i < p.d * p.m ? tensor_real(gw)[i] : tensor_real(gb)[i - p.d * p.m]);
      problem_again(&p); /* so that the step forms the gradient by itself, tile by tile */
      struct adam_options options = {1e-2, 0.9, 0.999, 1e-8, 0.1, decoupled, t};
      CHECK(adam_step(p.parameter, first, second, NULL, 2, &options) == STATUS_OK, "%s", status_message());
      for (int64_t i = 0; i < count; i++) {
        double gi = g[i] + (decoupled ? 0 : 0.1 * w[i]);
        m[i] = 0.9 * m[i] + 0.1 * gi;
        v[i] = 0.999 * v[i] + 0.001 * gi * gi;
        double update = 1e-2 * (m[i] / (1 - pow(0.9, t))) / (sqrt(v[i] / (1 - pow(0.999, t))) + 1e-8);
        w[i] = w[i] - update - (decoupled ? 1e-2 * 0.1 * w[i] : 0);
      }
      free(g);
    }
    double *got = problem_weights(&p);
    CHECK(relative_error(got, w, count) < TOLERANCE, "Adam, decoupled %d: off by %g", decoupled,
          relative_error(got, w, count));
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
    int64_t count = problem_size(&p);
    double *w = problem_weights(&p), *v = calloc((size_t)count, sizeof *v);
    for (int t = 0; t < 3; t++) {
      if (t > 0) problem_again(&p);
      struct tensor *gradient;
      gradient_dense(p.parameter[0], &gradient);
      for (int64_t i = 0; i < count; i++) {
        double g = (double)tensor_real(gradient)[i];
        v[i] = 0.9 * v[i] + g;
        w[i] -= 0.1 * (nesterov ? g + 0.9 * v[i] : v[i]) + 0.1 * 0.01 * w[i];
      }
      problem_again(&p);
      struct sgd_options options = {0.1, 0.9, 0.01, nesterov};
      CHECK(sgd_step(p.parameter, velocity, 1, &options) == STATUS_OK, "%s", status_message());
    }
    double *got = problem_weights(&p);
    CHECK(relative_error(got, w, count) < TOLERANCE, "SGD, nesterov %d: off by %g", nesterov,
          relative_error(got, w, count));
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
  test_drawn_rows();
  test_convolution();
  test_grouped_convolution();
  test_roots();
  test_classics();
  test_clip();
}
