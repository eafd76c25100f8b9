/* Options of GLS against dense references in double: the window of rows, moving statistics, parts, few patches for all;
   allocations that fail; threads that are not made. */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../../runtime/base/memory.h"
#include "../../runtime/base/parallel.h"
#include "../../runtime/base/vector.h"
#include "check.h"
#include "least_squares.h"

static const double TOLERANCE = sizeof(real) == 8 ? 1e-9 : 1e-3;

static const struct gls_options plain = {.damping = 0.1, .learning_rate = 1, .rows = 1, .decay = 0.95, .refresh = 5};

/* Other inputs for the next step. */
static void redraw(struct problem *p, uint64_t seed) {
  random_fill_normal((struct random_stream){seed, 11}, tensor_real(p->x), p->n * p->d);
  problem_again(p);
}

/* a (rows × d) with a column of ones when there is a bias, in double. */
static double *extended_rows(const struct problem *p) {
  int64_t e = p->d + (p->has_bias ? 1 : 0);
  double *a = calloc((size_t)(p->n * e), sizeof *a);
  for (int64_t i = 0; i < p->n; i++)
    for (int64_t k = 0; k < e; k++) a[i * e + k] = k < p->d ? (double)tensor_real(p->x)[i * p->d + k] : 1;
  return a;
}

/* AᵀG, e × m. */
static double *reference_gradient(const struct problem *p) {
  int64_t e = p->d + (p->has_bias ? 1 : 0);
  double *a = extended_rows(p), *g = reference_output_gradient(p), *product = calloc((size_t)(e * p->m), sizeof *g);
  for (int64_t i = 0; i < p->n; i++)
    for (int64_t k = 0; k < e; k++)
      for (int64_t j = 0; j < p->m; j++) product[k * p->m + j] += a[i * e + k] * g[i * p->m + j];
  free(a);
  free(g);
  return product;
}

/* (WᵀW/w + λI)⁻¹ AᵀG, W the last w of all rows seen, λ = ρ tr(WᵀW/w)/min(w, e). */
static double *reference_window(const struct problem *p, const double *rows, int64_t w, double damping) {
  int64_t e = p->d + (p->has_bias ? 1 : 0);
  double *s = calloc((size_t)(e * e), sizeof *s), *u = reference_gradient(p), trace = 0;
  for (int64_t i = 0; i < w; i++)
    for (int64_t a = 0; a < e; a++)
      for (int64_t b = 0; b < e; b++) s[a * e + b] += rows[i * e + a] * rows[i * e + b] / (double)w;
  for (int64_t a = 0; a < e; a++) trace += s[a * e + a];
  for (int64_t a = 0; a < e; a++) s[a * e + a] += damping * trace / (double)(w < e ? w : e);
  solve_by_elimination(s, u, e, p->m);
  free(s);
  return u;
}

/* The automatic step along u for the mean of squares: ⟨g,U⟩ / (2/(nm) ‖A U‖²). */
static double reference_rate(const struct problem *p, const double *u) {
  int64_t e = p->d + (p->has_bias ? 1 : 0), m = p->m;
  double *a = extended_rows(p), *g = reference_gradient(p), slope = 0, curvature = 0;
  for (int64_t i = 0; i < e * m; i++) slope += g[i] * u[i];
  for (int64_t i = 0; i < p->n; i++)
    for (int64_t j = 0; j < m; j++) {
      double change = 0;
      for (int64_t k = 0; k < e; k++) change += a[i * e + k] * u[k * m + j];
      curvature += 2 * change * change / (double)(p->n * m);
    }
  free(a);
  free(g);
  return slope / curvature;
}

/* Six steps with fresh inputs: the window fills, then the oldest rows go. */
static void check_window(const int64_t *lengths, bool bias, bool other_gradient, bool automatic) {
  int64_t n = lengths[0], d = lengths[1], m = lengths[2], window = lengths[3];
  struct problem p = problem_new(n, d, m, bias);
  int64_t e = d + bias, known = 0, size = problem_size(&p);
  double *rows = calloc((size_t)((6 * n + window) * e), sizeof *rows);
  struct gls_options options = plain;
  options.statistics = STATISTICS_WINDOW;
  options.window = window;
  options.automatic = automatic;
  struct gls *gls = gls_new(parameter_count(&p));
  for (int step = 0; step < 6; step++) {
    redraw(&p, (uint64_t)step + 20);
    if (other_gradient) { /* here zero: the factors are then not all there is */
      struct tensor *zero = tensor_zeros(TYPE_REAL, &p.parameter[0]->shape);
      CHECK(gradient_add(p.parameter[0], zero) == STATUS_OK, "%s", status_message());
    }
    double *now = extended_rows(&p);
    int64_t take = n < window ? n : window, keep = known < window - take ? known : window - take;
    memmove(rows, rows + (known - keep) * e, (size_t)(keep * e) * sizeof *rows);
    for (int64_t i = 0; i < take; i++) memcpy(rows + (keep + i) * e, now + i * n / take * e, (size_t)e * sizeof *rows);
    known = keep + take;
    double *expected = reference_window(&p, rows, known, options.damping);
    double rate = automatic ? reference_rate(&p, expected) : 1;
    double *moved = problem_step(&p, gls, &options);
    for (int64_t i = 0; i < size; i++) expected[i] *= rate;
    double error = relative_error(moved, expected, size);
    CHECK(error < TOLERANCE, "window %lld, %lld×%lld×%lld bias %d other %d auto %d, step %d: off by %g",
          (long long)window, (long long)n, (long long)d, (long long)m, bias, other_gradient, automatic, step + 1,
          error);
    free(now);
    free(moved);
    free(expected);
  }
  free(rows);
  gls_delete(gls);
  problem_delete(&p);
}

static void test_window(void) {
  static const int64_t sizes[][4] = {/* n, d, m, window; m above n: by rows */
                                     {5, 30, 3, 12},  {5, 30, 3, 5},  {5, 30, 3, 3},   {5, 4, 3, 12}, {9, 6, 3, 7},
                                     {5, 30, 17, 12}, {5, 30, 17, 5}, {5, 30, 17, 14}, {5, 4, 17, 12}};
  for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++)
    for (int bias = 0; bias < 2; bias++)
      for (int other = 0; other < 2; other++)
        for (int automatic = 0; automatic < 2; automatic++) check_window(sizes[k], bias, other, automatic);
}

enum moving_form { GIVEN_RATE, AUTOMATIC_RATE, ORTHOGONAL, MOMENTUM, NESTEROV, MOVING_FORMS };

/* The matched step along the orthogonal matrix next to u (e × m). */
static void make_matched(double *u, int64_t e, int64_t m) {
  real *x = calloc((size_t)(e * m), sizeof *x);
  double square = 0;
  for (int64_t i = 0; i < e * m; i++) x[i] = (real)u[i];
  CHECK(newton_schulz(x, e, m, 5) == STATUS_OK, "no memory");
  for (int64_t i = 0; i < e * m; i++) square += (double)x[i] * (double)x[i];
  for (int64_t i = 0; i < e * m; i++) u[i] = (double)x[i] * 0.2 * sqrt((double)(e * m) / square);
  free(x);
}

/* The moving average of AᵀA, m above n (by rows) and below, the factor made anew at every second step; for an
   orthogonal direction batches with as many rows as inputs are taken in at those steps alone. */
static void check_moving(int64_t n, int64_t m, bool bias, enum moving_form form, bool other_gradient) {
  enum { STEPS = 7, REFRESH = 2 };
  struct problem p = problem_new(n, 8, m, bias);
  int64_t e = p.d + bias, size = problem_size(&p), between = form == ORTHOGONAL && n >= e ? REFRESH : 1;
  double *s = calloc((size_t)(e * e), sizeof *s), *damped = calloc((size_t)(e * e), sizeof *s);
  double *factored = calloc((size_t)(e * e), sizeof *s), *velocity = calloc((size_t)size, sizeof *s);
  struct gls_options options = plain;
  options.statistics = STATISTICS_MOVING;
  options.decay = 0.7;
  options.refresh = REFRESH;
  options.automatic = form == AUTOMATIC_RATE;
  options.orthogonal = form == ORTHOGONAL;
  options.momentum = form == MOMENTUM || form == NESTEROV ? 0.8 : 0;
  options.nesterov = form == NESTEROV;
  options.graft = form == ORTHOGONAL ? GRAFT_RMS : GRAFT_NONE;
  struct gls *gls = gls_new(parameter_count(&p));
  for (int t = 1; t <= STEPS; t++) {
    redraw(&p, (uint64_t)t + 40);
    if (other_gradient) {
      struct tensor *zero = tensor_zeros(TYPE_REAL, &p.parameter[0]->shape);
      CHECK(gradient_add(p.parameter[0], zero) == STATUS_OK, "%s", status_message());
    }
    double *a = extended_rows(&p), *expected = reference_gradient(&p), trace = 0;
    double keep = t == 1 ? 0 : fmin((double)(t - between) / t, pow(0.7, (double)between));
    for (int64_t i = 0; i < e && (t - 1) % between == 0; i++)
      for (int64_t j = 0; j < e; j++) {
        double sum = 0;
        for (int64_t k = 0; k < p.n; k++) sum += a[k * e + i] * a[k * e + j] / (double)p.n;
        s[i * e + j] = keep * s[i * e + j] + (1 - keep) * sum;
      }
    for (int64_t i = 0; i < e; i++) trace += s[i * e + i];
    if ((t - 1) % REFRESH == 0) memcpy(factored, s, (size_t)(e * e) * sizeof *s);
    for (int64_t i = 0; i < e && (t - 1) % REFRESH == 0; i++)
      factored[i * e + i] += options.damping * trace / (double)e;
    memcpy(damped, factored, (size_t)(e * e) * sizeof *s);
    for (int64_t i = 0; i < size && options.momentum > 0; i++) {
      velocity[i] = 0.8 * velocity[i] + 0.2 * expected[i];
      expected[i] = form == NESTEROV ? 0.8 * velocity[i] + 0.2 * expected[i] : velocity[i];
    }
    solve_by_elimination(damped, expected, e, m);
    if (form == ORTHOGONAL) make_matched(expected, e, m);
    double rate = form == AUTOMATIC_RATE ? reference_rate(&p, expected) : 1, *moved = problem_step(&p, gls, &options);
    for (int64_t i = 0; i < size; i++) expected[i] *= rate;
    double error = relative_error(moved, expected, size);
    CHECK(error < TOLERANCE, "moving, n %lld m %lld bias %d form %d other %d, step %d: off by %g", (long long)n,
          (long long)m, bias, (int)form, other_gradient, t, error);
    free(a);
    free(expected);
    free(moved);
  }
  free(s);
  free(damped);
  free(factored);
  free(velocity);
  gls_delete(gls);
  problem_delete(&p);
}

static void test_moving_average(void) {
  for (int bias = 0; bias < 2; bias++)
    for (int form = 0; form < MOVING_FORMS; form++)
      for (int other = 0; other < 2; other++) {
        check_moving(5, 3, bias, (enum moving_form)form, other);
        check_moving(5, 17, bias, (enum moving_form)form, other);
        check_moving(9, 3, bias, (enum moving_form)form, other);
        check_moving(12, 17, bias, (enum moving_form)form, other);
      }
}

/* Σ over parts of (AₚᵀAₚ/nₚ + λI)⁻¹ AₚᵀGₚ, λ = ρ · mean of tr(AₚᵀAₚ/nₚ) / min(longest part, e). */
static double *reference_parts(const struct problem *p, int64_t parts, double damping) {
  int64_t e = p->d + (p->has_bias ? 1 : 0), m = p->m, longest = (p->n + parts - 1) / parts;
  double *a = extended_rows(p), *g = reference_output_gradient(p), trace = 0;
  double *u = calloc((size_t)(e * m), sizeof *u), *s = calloc((size_t)(e * e), sizeof *s);
  double *x = calloc((size_t)(e * m), sizeof *x);
  for (int64_t k = 0; k < parts; k++) {
    int64_t start = p->n * k / parts, end = p->n * (k + 1) / parts;
    for (int64_t i = start * e; i < end * e; i++) trace += a[i] * a[i] / (double)((end - start) * parts);
  }
  for (int64_t k = 0; k < parts; k++) {
    int64_t start = p->n * k / parts, end = p->n * (k + 1) / parts;
    memset(s, 0, (size_t)(e * e) * sizeof *s);
    memset(x, 0, (size_t)(e * m) * sizeof *x);
    for (int64_t i = start; i < end; i++)
      for (int64_t r = 0; r < e; r++) {
        for (int64_t c = 0; c < e; c++) s[r * e + c] += a[i * e + r] * a[i * e + c] / (double)(end - start);
        for (int64_t j = 0; j < m; j++) x[r * m + j] += a[i * e + r] * g[i * m + j];
      }
    for (int64_t r = 0; r < e; r++) s[r * e + r] += damping * trace / (double)(longest < e ? longest : e);
    solve_by_elimination(s, x, e, m);
    for (int64_t i = 0; i < e * m; i++) u[i] += x[i];
  }
  free(a);
  free(g);
  free(s);
  free(x);
  return u;
}

/* V ← V/2 + U/2, U from the batch in parts: of unequal length, of rows above d, and where the layer widens. */
static void test_parts(void) {
  static const int64_t sizes[][5] = {/* n, d, m, part, and how many parts that makes */
                                     {11, 9, 4, 4, 3},
                                     {40, 9, 4, 2, 20},
                                     {11, 9, 25, 4, 3},
                                     {12, 9, 4, 12, 1},
                                     {3, 9, 4, 1, 3}};
  for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++)
    for (int bias = 0; bias < 2; bias++) {
      struct problem p = problem_new(sizes[k][0], sizes[k][1], sizes[k][2], bias);
      int64_t size = problem_size(&p);
      double *v = calloc((size_t)size, sizeof *v);
      struct gls_options options = plain;
      options.part = sizes[k][3];
      options.momentum = 0.5;
      struct gls *gls = gls_new(parameter_count(&p));
      for (int t = 0; t < 3; t++) {
        redraw(&p, (uint64_t)t + 80);
        double *u = reference_parts(&p, sizes[k][4], options.damping), *moved = problem_step(&p, gls, &options);
        for (int64_t i = 0; i < size; i++) v[i] = v[i] / 2 + u[i] / 2;
        double error = relative_error(moved, v, size);
        CHECK(error < TOLERANCE, "%lld×%lld×%lld bias %d, parts of %lld, step %d: off by %g", (long long)p.n,
              (long long)p.d, (long long)p.m, bias, (long long)options.part, t + 1, error);
        free(u);
        free(moved);
      }
      free(v);
      gls_delete(gls);
      problem_delete(&p);
    }
}

static void *thread_number(void *number) {
  *(long *)number = syscall(SYS_gettid);
  return NULL;
}

/* The system's number of a thread that is made here: they go up by one. */
static long next_thread(void) {
  pthread_t thread;
  long number = 0;
  if (pthread_create(&thread, NULL, thread_number, &number) == 0) pthread_join(thread, NULL);
  return number;
}

/* Steps in parts, more of them than threads or fewer, make no threads: a parallel region of one thread around products
   would have OpenMP make new ones for each. Other programs may start threads meanwhile: the best of some tries. */
static void test_no_new_threads(void) {
  enum { STEPS = 20, TRIES = 10 };
  static const int64_t parts[] = {16, 40, 80};
  int threads = parallel_threads();
  parallel_set_threads(3);
  for (size_t k = 0; k < sizeof parts / sizeof parts[0]; k++) {
    struct problem p = problem_new(80, 300, 64, true);
    struct gls_options options = plain;
    options.part = parts[k];
    options.momentum = 0.5;
    struct gls *gls = gls_new(parameter_count(&p));
    free(problem_step(&p, gls, &options)); /* makes those of the pool */
    long least = STEPS;
    for (int try = 0; try < TRIES && least > 0; try++) {
      long before = next_thread();
      for (int t = 0; t < STEPS; t++) {
        problem_again(&p);
        free(problem_step(&p, gls, &options));
      }
      long made = next_thread() - before - 1;
      if (made >= 0 && made < least) least = made;
    }
    CHECK(least < STEPS, "parts of %lld of 80 rows: a thread or more was made in each of %d steps", (long long)parts[k],
          STEPS);
    gls_delete(gls);
    problem_delete(&p);
  }
  parallel_set_threads(threads);
}

/* Every form of the direction has the same lengths: its own, SGD's, and the slope, through the grafts and the trust
   region, whose steps are those of U and g in full. */
static void check_lengths(const int64_t *size, enum gls_statistics statistics, bool bias) {
  double *step[2];
  for (int graft = 0; graft < 3; graft++) {
    for (int other = 0; other < 2; other++) { /* a gradient from elsewhere, here zero: U and g in full */
      struct problem p = problem_new(size[0], size[1], size[2], bias);
      struct gls_options options = plain;
      options.statistics = statistics;
      options.window = 12;
      options.graft = graft == 0 ? GRAFT_SGD : graft == 1 ? GRAFT_RMS : GRAFT_NONE;
      options.trust = graft == 2 ? 1e-3 : 0;
      options.momentum = graft == 1 && statistics != STATISTICS_MOVING ? 0.5 : 0;
      struct gls *gls = gls_new(parameter_count(&p));
      for (int t = 0; t < 3; t++) {
        redraw(&p, (uint64_t)t + 60);
        struct tensor *zero = other ? tensor_zeros(TYPE_REAL, &p.parameter[0]->shape) : NULL;
        if (other) CHECK(gradient_add(p.parameter[0], zero) == STATUS_OK, "%s", status_message());
        if (t > 0) free(step[other]);
        step[other] = problem_step(&p, gls, &options);
      }
      gls_delete(gls);
      problem_delete(&p);
    }
    double error = relative_error(step[0], step[1], (size[1] + bias) * size[2]);
    CHECK(error < TOLERANCE && norm_of(step[0], size[1] * size[2]) > 0,
          "statistics %d, %lld×%lld×%lld bias %d, graft %d: the forms are apart by %g", statistics, (long long)size[0],
          (long long)size[1], (long long)size[2], bias, graft, error);
    free(step[0]);
    free(step[1]);
  }
}

static void test_lengths(void) {
  static const int64_t sizes[][3] = {{5, 30, 17}, {5, 4, 17}, {5, 9, 3}};
  for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++)
    for (int bias = 0; bias < 2; bias++) {
      check_lengths(sizes[k], STATISTICS_BATCH, bias);
      check_lengths(sizes[k], STATISTICS_MOVING, bias);
      check_lengths(sizes[k], STATISTICS_WINDOW, bias);
    }
}

/* Where all patches are equal a few of them stand for all: the step is the same from 4 rows (fewer than d), 20 (more)
   and all 27. */
static void test_few_patches(void) {
  struct shape image = shape_of(4, (int64_t)3, (int64_t)2, (int64_t)5, (int64_t)5);
  struct shape filter = shape_of(4, (int64_t)4, (int64_t)2, (int64_t)3, (int64_t)3);
  const int64_t rows[] = {0, 4, 20};
  double step[3][72];
  for (int k = 0; k < 3; k++) {
    struct tensor *x = tensor_new(TYPE_REAL, &image), *w = tensor_new(TYPE_REAL, &filter), *b = check_leaf(4, 1, 4, 0);
    CHECK(tensor_fill(x, 0.7) == STATUS_OK, "%s", status_message());
    random_fill_normal((struct random_stream){2, 1}, tensor_real(w), 72);
    w->requires_gradient = true;
    struct op_value values[OP_MAX_PARAMETERS] = {
        {.count = 2, .list = {1, 1}}, {.count = 2}, {.count = 2, .list = {1, 1}}, {.count = 1, .list = {1}}};
    struct tensor *z = tape_run(op_find("conv2d"), 3, (struct tensor *[]){x, w, b}, values);
    struct tensor *y = z ? tensor_zeros(TYPE_REAL, &z->shape) : NULL;
    struct tensor *loss =
        y ? tape_run(op_find("mse"), 2, (struct tensor *[]){z, y}, (struct op_value[OP_MAX_PARAMETERS]){0}) : NULL;
    CHECK(loss && tape_backward(loss, NULL) == STATUS_OK, "%s", status_message());
    struct gls_options options = plain;
    options.statistics_rows = rows[k];
    struct gls *gls = gls_new(2);
    for (int i = 0; i < 72; i++) step[k][i] = (double)tensor_real(w)[i];
    CHECK(gls_step(gls, (struct tensor *[]){w, b}, &options) == STATUS_OK, "%s", status_message());
    for (int i = 0; i < 72; i++) step[k][i] -= (double)tensor_real(w)[i];
    double error = relative_error(step[k], step[0], 72);
    CHECK(error < TOLERANCE && norm_of(step[k], 72) > 0, "from %lld rows: off by %g", (long long)rows[k], error);
    gls_delete(gls);
    tape_release(true);
    struct tensor *all[] = {x, w, b, z, y, loss};
    for (int i = 0; i < 6; i++) tensor_release(all[i]);
  }
}

/* A batch with NaN leaves what is kept between steps as it was: the next good batch moves as if it had not been. */
static void test_bad_batch(enum gls_statistics statistics) {
  double *step[2];
  for (int bad = 0; bad < 2; bad++) {
    struct problem p = problem_new(5, 9, 4, true);
    struct gls_options options = plain;
    options.statistics = statistics;
    options.window = 8;
    options.momentum = 0.9;
    options.graft = GRAFT_RMS;
    options.learning_rate = 0.1;
    struct gls *gls = gls_new(2);
    free(problem_step(&p, gls, &options));
    problem_again(&p);
    if (bad) {
      real kept = tensor_real(p.x)[3];
      tensor_real(p.x)[3] = NAN;
      problem_again(&p);
      double *none = problem_step(&p, gls, &options);
      CHECK(norm_of(none, problem_size(&p)) == 0, "%s", "a batch with NaN moved the weights");
      CHECK(gls->report.skipped_steps == 1, "skipped %lld", (long long)gls->report.skipped_steps);
      free(none);
      tensor_real(p.x)[3] = kept;
      problem_again(&p);
    }
    step[bad] = problem_step(&p, gls, &options);
    gls_delete(gls);
    problem_delete(&p);
  }
  CHECK(relative_error(step[1], step[0], 40) < (statistics == STATISTICS_MOVING ? 1e-6 : 1e-12),
        "statistics %d: the step after a batch with NaN differs", statistics);
  free(step[0]);
  free(step[1]);
}

/* A network of an embedding, a convolution, a norm and a linear layer, recorded and taken backward; the affine layers
   are GLS's. */
enum { NET_PARAMETERS = 7 };
static const bool net_is_affine[NET_PARAMETERS] = {false, true, true, false, false, true, true};

struct net {
  struct tensor *parameter[NET_PARAMETERS], *index, *labels, *loss;
};

static struct net net_new(void) {
  static const struct shape shapes[NET_PARAMETERS] = {{2, {5, 32}}, {4, {3, 2, 3, 3}}, {1, {3}}, {1, {3}},
                                                      {1, {3}},     {2, {48, 17}},     {1, {17}}};
  struct net net = {0};
  for (int i = 0; i < NET_PARAMETERS; i++) {
    net.parameter[i] = tensor_new(TYPE_REAL, &shapes[i]);
    random_fill_normal((struct random_stream){(uint64_t)i, 3}, tensor_real(net.parameter[i]),
                       tensor_count(net.parameter[i]));
    net.parameter[i]->requires_gradient = true;
  }
  struct shape list = shape_of(1, (int64_t)6);
  net.index = tensor_new(TYPE_INT32, &list);
  net.labels = tensor_new(TYPE_INT32, &list);
  for (int i = 0; i < 6; i++) tensor_int32(net.index)[i] = i % 5 + 1, tensor_int32(net.labels)[i] = i % 4 + 1;
  return net;
}

static struct tensor *then(const char *op, struct tensor *x, struct tensor *const *more, int count,
                           const struct op_value *values) {
  struct tensor *input[5] = {x};
  for (int i = 0; i < count; i++) input[i + 1] = more[i];
  struct tensor *y = tape_run(op_find(op), count + 1, input, values);
  CHECK(y != NULL, "%s", status_message());
  tensor_release(x);
  return y;
}

static void net_run(struct net *net) {
  const struct op_value none[OP_MAX_PARAMETERS] = {0}, first[OP_MAX_PARAMETERS] = {{.count = 1, .list = {0}}},
                        images[OP_MAX_PARAMETERS] = {{.count = 4, .list = {6, 2, 4, 4}}},
                        flat[OP_MAX_PARAMETERS] = {{.count = 2, .list = {6, 48}}},
                        plane[OP_MAX_PARAMETERS] = {{.count = 2, .list = {1, 1}},
                                                    {.count = 2, .list = {1, 1}},
                                                    {.count = 2, .list = {1, 1}},
                                                    {.count = 1, .list = {1}}},
                        training[OP_MAX_PARAMETERS] = {{.count = 1, .list = {1}}, {.number = 0.1}, {.number = 1e-5}};
  struct tensor *const *p = net->parameter, *const norm[] = {p[3], p[4], NULL, NULL};
  for (int i = 0; i < NET_PARAMETERS; i++) gradient_clear(p[i]);
  struct tensor *x = tape_run(op_find("index_select"), 2, (struct tensor *[]){p[0], net->index}, first);
  x = then("reshape", x, NULL, 0, images);
  x = then("conv2d", x, p + 1, 2, plane);
  x = then("batch_norm", x, norm, 4, training);
  x = then("reshape", x, NULL, 0, flat);
  x = then("linear", x, p + 5, 2, NULL);
  x = then("cross_entropy", x, &net->labels, 1, none);
  CHECK(tape_backward(x, NULL) == STATUS_OK, "%s", status_message());
  tensor_release(net->loss);
  net->loss = x;
}

static void net_delete(struct net *net) {
  tape_release(true);
  for (int i = 0; i < NET_PARAMETERS; i++) tensor_release(net->parameter[i]);
  tensor_release(net->index);
  tensor_release(net->labels);
  tensor_release(net->loss);
}

/* The nth allocation of a second step fails, for every n: an error with a message, or a step by another way (fewer rows
   at a time); the weights stay finite, the step can be taken again, nothing is left behind. */
static void check_failures(const char *name, const struct gls_options *options) {
  enum { LIMIT = 3000 };
  size_t live = memory_live();
  long n = 1, failures = 0;
  for (bool done = false; !done && n < LIMIT; n++) {
    struct net net = net_new();
    struct gls *gls = gls_new(NET_PARAMETERS);
    net_run(&net);
    CHECK(gls_step(gls, net.parameter, options) == STATUS_OK, "%s: %s", name, status_message());
    for (int i = 0; i < NET_PARAMETERS; i++)
      CHECK(gls->handled[i] == net_is_affine[i], "%s: parameter %d is stepped or not", name, i);
    tape_release(true);
    net_run(&net);
    status_error("nothing was said");
    memory_fail_at(n);
    int status = gls_step(gls, net.parameter, options);
    memory_fail_at(0);
    done = status == STATUS_OK && !check_message_has("out of memory");
    if (!done) {
      failures += status != STATUS_OK;
      CHECK(check_message_has("out of memory"), "%s: allocation %ld fails, message: %s", name, n, status_message());
      CHECK(gls_step(gls, net.parameter, options) == STATUS_OK, "%s: the step after failure %ld: %s", name, n,
            status_message());
    }
    for (int i = 0; i < NET_PARAMETERS; i++)
      CHECK(isfinite(vector_dot(tensor_real(net.parameter[i]), tensor_real(net.parameter[i]),
                                tensor_count(net.parameter[i]))),
            "%s: parameter %d is not finite after failure %ld", name, i, n);
    gls_delete(gls);
    net_delete(&net);
  }
  CHECK(n < LIMIT && failures > 20 && 10 * failures > 9 * (n - 2), "%s: %ld errors from %ld allocations that failed",
        name, failures, n - 2);
  CHECK(memory_live() == live, "%s: %zu bytes live after failures, %zu before", name, memory_live(), live);
}

static void test_memory_failures(void) {
  struct gls_options base = plain;
  base.learning_rate = 0.1;
  base.statistics_rows = 10;
  base.window = 12;
  base.refresh = 1;
  struct gls_options automatic = base, momentum = base, moving = base, window = base, grafted = base;
  struct gls_options lengths = base;
  automatic.automatic = automatic.automatic_momentum = true;
  automatic.rows = -1;
  momentum.momentum = 0.9, momentum.graft = GRAFT_RMS;
  moving.statistics = STATISTICS_MOVING, moving.momentum = 0.9, moving.nesterov = true;
  window.statistics = STATISTICS_WINDOW, window.automatic = true;
  grafted.graft = GRAFT_SGD, grafted.statistics_rows = 0;
  lengths.statistics = STATISTICS_MOVING, lengths.graft = GRAFT_RMS;
  momentum.part = 4;
  check_failures("lengths", &lengths);
  check_failures("automatic", &automatic);
  check_failures("momentum", &momentum);
  check_failures("moving", &moving);
  check_failures("window", &window);
  check_failures("graft", &grafted);
}

void test_gls_options(void) {
  test_memory_failures();
  test_window();
  test_moving_average();
  test_lengths();
  test_parts();
  test_no_new_threads();
  test_few_patches();
  test_bad_batch(STATISTICS_BATCH);
  test_bad_batch(STATISTICS_MOVING);
  test_bad_batch(STATISTICS_WINDOW);
}
