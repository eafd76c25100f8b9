/* Least squares: see least_squares.h. */
#include "least_squares.h"

#include <math.h>
#include <stdlib.h>

#include "check.h"

struct tensor *check_normal(uint64_t seed, int rank, int64_t a, int64_t b) {
  struct shape shape = {.rank = rank, .size = {a, b}};
  struct tensor *t = tensor_new(TYPE_REAL, &shape);
  random_fill_normal((struct random_stream){seed, 7}, tensor_real(t), tensor_count(t));
  return t;
}

struct tensor *check_leaf(uint64_t seed, int rank, int64_t a, int64_t b) {
  struct tensor *t = check_normal(seed, rank, a, b);
  t->requires_gradient = true;
  return t;
}

static void problem_run(struct problem *p) {
  struct tensor *z = tape_run(op_find("linear"), 3, (struct tensor *[]){p->x, p->parameter[0], p->parameter[1]}, NULL);
  p->loss = tape_run(op_find("mse"), 2, (struct tensor *[]){z, p->y}, (struct op_value[OP_MAX_PARAMETERS]){0});
  tensor_release(z);
  CHECK(p->loss && tape_backward(p->loss, NULL) == STATUS_OK, "%s", status_message());
}

struct problem problem_new(int64_t n, int64_t d, int64_t m, bool has_bias) {
  struct problem p = {.n = n, .d = d, .m = m, .has_bias = has_bias};
  p.x = check_normal(1, 2, n, d);
  p.y = check_normal(2, 2, n, m);
  p.parameter[0] = check_leaf(3, 2, d, m);
  p.parameter[1] = has_bias ? check_leaf(4, 1, m, 0) : NULL;
  problem_run(&p);
  return p;
}

int parameter_count(const struct problem *p) { return p->has_bias ? 2 : 1; }

void problem_delete(struct problem *p) {
  tape_release(true);
  tensor_release(p->x);
  tensor_release(p->y);
  tensor_release(p->parameter[0]);
  tensor_release(p->parameter[1]);
  tensor_release(p->loss);
}

void problem_again(struct problem *p) {
  for (int i = 0; i < parameter_count(p); i++) gradient_clear(p->parameter[i]);
  tape_release(true);
  tensor_release(p->loss);
  problem_run(p);
}

/* ∂L/∂Z of the mean squared error, from the parameters as they are, in double. */
double *reference_output_gradient(const struct problem *p) {
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
void solve_by_elimination(double *a, double *b, int64_t n, int64_t m) {
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
double *reference_direction(const struct problem *p, double damping) {
  int64_t e = p->d + (p->has_bias ? 1 : 0);
  double *g = reference_output_gradient(p), *s = calloc((size_t)(e * e), sizeof *s),
         *u = calloc((size_t)(e * p->m), sizeof *u), trace = 0;
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
  solve_by_elimination(s, u, e, p->m);
  free(g);
  free(s);
  return u;
}

/* The parameters as one (d + bias) × m array of doubles. */
double *problem_weights(const struct problem *p) {
  int64_t e = p->d + (p->has_bias ? 1 : 0);
  double *w = calloc((size_t)(e * p->m), sizeof *w);
  for (int64_t i = 0; i < e * p->m; i++)
    w[i] = (double)(i < p->d * p->m ? tensor_real(p->parameter[0])[i] : tensor_real(p->parameter[1])[i - p->d * p->m]);
  return w;
}

int64_t problem_size(const struct problem *p) { return (p->d + (p->has_bias ? 1 : 0)) * p->m; }

/* max |a − b| / max |b| */
double relative_error(const double *a, const double *b, int64_t count) {
  double difference = 0, size = 1e-300;
  for (int64_t i = 0; i < count; i++) {
    difference = fmax(difference, fabs(a[i] - b[i]));
    size = fmax(size, fabs(b[i]));
    if (isnan(a[i])) return INFINITY;
  }
  return difference / size;
}

double norm_of(const double *a, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; i++) sum += a[i] * a[i];
  return sqrt(sum);
}

/* before − after: what a step subtracted. */
static double *moved(const struct problem *p, double *before) {
  double *after = problem_weights(p);
  for (int64_t i = 0; i < problem_size(p); i++) before[i] -= after[i];
  free(after);
  return before;
}

double *problem_step(struct problem *p, struct gls *gls, const struct gls_options *options) {
  double *before = problem_weights(p);
  CHECK(gls_step(gls, p->parameter, options) == STATUS_OK, "%s", status_message());
  return moved(p, before);
}
