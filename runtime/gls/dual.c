/* Dual: K = AAᵀ/n, α = (K + λI)⁻¹ G, U = Aᵀα. */
#include <math.h>

#include "../base/parallel.h"
#include "solvers.h"

static void add_ones(real *k, int64_t rows, real scale) {
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j <= i; j++) k[i * rows + j] += scale;
}

static void part_matrix(const struct gls_system *system, int64_t p) {
  struct part part = system_part(system, p);
  int64_t rows = part.count, d = system->inputs;
  real *value = tensor_real(system->matrix) + part.at;
  real scale = (real)((double)system->share.rows / (double)rows / system->samples);
  syrk(false, rows, d, scale, tensor_real(system->a) + part.start * d, d, 0, value, rows);
  if (system->bias) add_ones(value, rows, scale);
}

int dual_matrix(struct gls_system *system) {
  int64_t size = ceil_div(system->share.rows, system->share.parts);
  system->matrix = system_matrix(system->parts * size, size);
  if (!system->matrix) return STATUS_ERROR;
  const struct gls_layer *layer = system->layer;
  if (layer->window && layer->window == system->a && layer->gram_window == system->a) {
    system_copy_lower(tensor_real(system->matrix), tensor_real(layer->gram), size, (real)(1 / system->samples),
                      system->bias ? 1 : 0);
    return STATUS_OK;
  }
  if (deal_divides_gram(system)) {
    real scale = (real)(1 / system->samples);
    STATUS_TRY(deal_gram(system, scale, tensor_real(system->matrix)));
    if (system->bias) add_ones(tensor_real(system->matrix), size, scale);
  } else if (system_parts_in_parallel(system)) {
#pragma omp parallel for schedule(dynamic)
    for (int64_t p = 0; p < system->parts; p++) part_matrix(system, p);
  } else {
    for (int64_t p = 0; p < system->parts; p++) part_matrix(system, p);
  }
  return STATUS_OK;
}

/* A U = n (G − λ α), ⟨g, U⟩ = ⟨G, A U⟩ and ‖U‖² = ⟨α, A U⟩ in one pass, in blocks that the length alone decides. */
static void dual_products(struct gls_system *system) {
  enum { BLOCKS = 64 };
  double gradient_dot_u[BLOCKS] = {0}, u_square[BLOCKS] = {0};
  int64_t count = tensor_count(system->alpha), length = ceil_div(count, BLOCKS);
  const real *g = tensor_real(system->g), *alpha = tensor_real(system->alpha);
  real *product = tensor_real(system->product), n = (real)system->samples, lambda = (real)system->lambda;
#pragma omp parallel for schedule(static) if (count > PARALLEL_THRESHOLD)
  for (int block = 0; block < BLOCKS; block++) {
    int64_t end = min(count, (block + 1) * length);
    double gu = 0, uu = 0;
#pragma omp simd reduction(+ : gu, uu)
    for (int64_t i = block * length; i < end; i++) {
      real value = n * (g[i] - lambda * alpha[i]);
      product[i] = value;
      gu += (double)g[i] * (double)value;
      uu += (double)alpha[i] * (double)value;
    }
    gradient_dot_u[block] = gu, u_square[block] = uu;
  }
  system->gradient_dot_u = system->u_square = 0;
  for (int block = 0; block < BLOCKS; block++) {
    system->gradient_dot_u += gradient_dot_u[block];
    system->u_square += u_square[block];
  }
}

int dual_solve(struct gls_system *system, const struct gls_options *options) {
  bool used = system_products_are_used(options);
  system->alpha = system_matrix(system->rows, system->outputs);
  if (system->alpha && used) system->product = system_matrix(system->rows, system->outputs);
  if (!system->alpha || (used && !system->product)) return STATUS_ERROR;
  vector_combine(tensor_real(system->alpha), 0, tensor_real(system->g), 1, tensor_count(system->g));
  STATUS_TRY(system_solve_parts(system, tensor_real(system->alpha), system->outputs));
  if (used)
    dual_products(system);
  else
    system->u_square = system_dot(system->alpha, system->alpha); /* finite, and that is all */
  system->failed = !isfinite(system->gradient_dot_u) || !isfinite(system->u_square);
  if (options->graft == GRAFT_SGD) { /* ‖AᵀG‖² = n ⟨G, K G⟩ */
    STATUS_TRY(system_quadratic_form(system->matrix, system->g, &system->gradient_square));
    system->gradient_square *= system->samples;
  }
  return STATUS_OK;
}
