/* Rows: Y = A (S + λI)⁻¹ of the batch's rows, from S or from K, and U = Yᵀ G. */
#include <math.h>
#include <string.h>

#include "../base/parallel.h"
#include "solvers.h"

bool rows_are_less(const struct gls_system *system, const struct gls_options *options) {
  if (system->solver == SOLVER_DUAL && system->rows == system->batch_rows)
    return !system_products_are_used(options) && system->extended < system->outputs;
  double n = (double)system->batch_rows, r = (double)system->rows, d = (double)system->inputs;
  double m = (double)system->outputs;
  if (system->solver != SOLVER_DUAL) return n < m;
  return n * (r * r + 2 * r * d + 2 * n * m + 2 * d * m) < m * (2 * r * r + 2 * r * d);
}

/* Of A, the batch's. */
static const real *rows_of_batch(const struct gls_system *system) {
  return tensor_real(system->a) + (system->a->shape.size[0] - system->batch_rows) * system->inputs;
}

/* Y begins as [A 1]. */
static int copy_rows(struct gls_system *system) {
  int64_t n = system->batch_rows, d = system->inputs, e = system->extended;
  const real *a = rows_of_batch(system);
  system->y = system_matrix(n, e);
  if (!system->y) return STATUS_ERROR;
  real *y = tensor_real(system->y);
#pragma omp parallel for schedule(static) if (n * d > PARALLEL_THRESHOLD)
  for (int64_t i = 0; i < n; i++) {
    memcpy(y + i * e, a + i * d, (size_t)d * sizeof(real));
    if (e > d) y[i * e + d] = 1;
  }
  return STATUS_OK;
}

/* Y from the batch's own K, where nobody asks for A U. */
static int solve_own_rows(struct gls_system *system) {
  STATUS_TRY(copy_rows(system));
  STATUS_TRY(system_solve_parts(system, tensor_real(system->y), system->extended));
  system->u_square = system_dot(system->y, system->y) + system_dot(system->g, system->g); /* finite, and that is all */
  system->failed = !isfinite(system->u_square);
  return STATUS_OK;
}

/* Y, and effect (n × n) = [A 1] Yᵀ, which G is multiplied with to give A U. */
static int rows_from_primal(struct gls_system *system, real *effect) {
  int64_t n = system->batch_rows, d = system->inputs, e = system->extended;
  STATUS_TRY(copy_rows(system));
  const real *a = rows_of_batch(system);
  real *y = tensor_real(system->y);
  cholesky_solve_rows(tensor_real(system->factor), e, y, e, n, 0);
  gemm(false, true, n, n, d, 1, a, d, y, e, 0, effect, n);
  for (int64_t i = 0; i < n && e > d; i++)
    for (int64_t j = 0; j < n; j++) effect[i * n + j] += y[j * e + d];
  return STATUS_OK;
}

/* The same from K of a window: Z, then Y = Zᵀ W; A Yᵀ = n (1 − λ Z) in the batch's rows. */
static int rows_from_window(struct gls_system *system, real *effect) {
  int64_t n = system->batch_rows, r = system->rows, d = system->inputs, e = system->extended;
  struct tensor *solved = tensor_zeros(TYPE_REAL, &(struct shape){2, {n, r}});
  system->y = solved ? system_matrix(n, e) : NULL;
  if (!system->y) {
    tensor_release(solved);
    return STATUS_ERROR;
  }
  real *z = tensor_real(solved), *y = tensor_real(system->y);
  for (int64_t i = 0; i < n; i++) z[i * r + r - n + i] = 1;
  cholesky_solve_rows(tensor_real(system->factor), r, z, r, n, r - n);
  gemm(false, false, n, d, r, 1, z, r, tensor_real(system->a), d, 0, y, e);
  for (int64_t i = 0; i < n && e > d; i++) {
    real sum = 0;
    for (int64_t k = 0; k < r; k++) sum += z[i * r + k];
    y[i * e + d] = sum;
  }
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < n; j++)
      effect[i * n + j] = (real)(system->samples * ((i == j) - system->lambda * (double)z[i * r + r - n + j]));
  tensor_release(solved);
  return STATUS_OK;
}

/* ‖Xᵀ G‖² = ⟨G, X Xᵀ G⟩ for rows X (n × columns), ones beside them or not. */
static int product_square(const struct gls_system *system, const real *x, int64_t columns, bool ones, double *square) {
  int64_t n = system->batch_rows;
  struct tensor *gram = system_matrix(n, n);
  if (!gram) return STATUS_ERROR;
  syrk(false, n, columns, 1, x, columns, 0, tensor_real(gram), n);
  if (ones) system_copy_lower(tensor_real(gram), tensor_real(gram), n, 1, 1);
  int status = system_quadratic_form(gram, system->g, square);
  tensor_release(gram);
  return status;
}

int rows_solve(struct gls_system *system, const struct gls_options *options) {
  int64_t n = system->batch_rows, m = system->outputs;
  if (system->solver == SOLVER_DUAL && system->rows == n) return solve_own_rows(system);
  struct tensor *effect = system_matrix(n, n);
  system->product = system_matrix(n, m);
  int status = effect && system->product ? STATUS_OK : STATUS_ERROR;
  if (status == STATUS_OK)
    status = (system->solver == SOLVER_DUAL ? rows_from_window : rows_from_primal)(system, tensor_real(effect));
  if (status == STATUS_OK)
    gemm(false, false, n, m, n, 1, tensor_real(effect), n, tensor_real(system->g), m, 0, tensor_real(system->product),
         m);
  tensor_release(effect);
  STATUS_TRY(status);
  system->gradient_dot_u = system_dot(system->g, system->product);
  if (options->graft != GRAFT_NONE) { /* the lengths are of no use else */
    STATUS_TRY(product_square(system, tensor_real(system->y), system->extended, false, &system->u_square));
    STATUS_TRY(product_square(system, rows_of_batch(system), system->inputs, system->bias, &system->gradient_square));
  }
  system->failed = !isfinite(system->gradient_dot_u) || !isfinite(system->u_square);
  return STATUS_OK;
}
