/* Direction: U, or the factors that it is the product of, into the weights. */
#include "../base/parallel.h"
#include "layer.h"

/* U = leftᵀ right, left's rows step apart. */
struct product {
  const struct tensor *left, *right;
  int64_t step;
};

static struct product product_of(const struct gls_system *system) {
  return system->y ? (struct product){system->y, system->g, system->extended}
                   : (struct product){system->a, system->alpha, system->inputs};
}

static void add_bias(const struct gls_system *system, double scale, double keep, real *bias) {
  struct product of = product_of(system);
  for (int64_t j = 0; j < system->outputs; j++) bias[j] = keep == 0 ? 0 : (real)keep * bias[j];
  system_add_rows(bias, scale, of.right, system->y ? tensor_real(of.left) + system->inputs : NULL, of.step);
}

void direction_add(const struct gls_system *system, double scale, double keep, real *weight, real *bias) {
  int64_t d = system->inputs, m = system->outputs;
  struct product of = product_of(system);
  gemm(true, false, d, m, of.right->shape.size[0], (real)scale, tensor_real(of.left), of.step, tensor_real(of.right), m,
       (real)keep, weight, m);
  if (bias) add_bias(system, scale, keep, bias);
}

int direction_form(struct gls_system *system) {
  if (system->u) return STATUS_OK;
  struct tensor *direction = system_matrix(system->extended, system->outputs);
  if (!direction) return STATUS_ERROR;
  real *u = tensor_real(direction), *bias = system->bias ? u + system->inputs * system->outputs : NULL;
  int status = STATUS_OK;
  if (deal_divides_direction(system)) {
    struct product product = product_of(system);
    status = deal_direction(system, product.left, product.step, product.right, u);
    if (bias) add_bias(system, 1, 0, bias);
  } else {
    direction_add(system, 1, 0, u, bias);
  }
  system->u = direction;
  return status;
}

/* w (m × d) −= step · uᵀ: some columns at a time, which stay in cache. */
static void subtract_turned(real *w, const real *u, int64_t d, int64_t m, real step) {
  enum { BLOCK = 16 };
#pragma omp parallel for schedule(static) if (d * m > PARALLEL_THRESHOLD)
  for (int64_t start = 0; start < d; start += BLOCK) {
    int64_t end = min(start + BLOCK, d);
    for (int64_t j = 0; j < m; j++)
      for (int64_t i = start; i < end; i++) w[j * d + i] -= step * u[i * m + j];
  }
}

void direction_apply(struct gls_system *system, double step, double keep) {
  struct tensor *weight = system->weight;
  int64_t d = system->inputs, m = system->outputs;
  real *w = tensor_real(weight), *b = system->bias ? tensor_real(system->bias) : NULL;
  bool together = system->u && weight->shape.rank <= 2;
  if (keep != 1 && !together) vector_combine(w, (real)keep, w, 0, d * m);
  if (!system->u) {
    direction_add(system, -step, 1, w, b);
  } else if (together) {
    vector_combine(w, (real)keep, tensor_real(system->u), (real)-step, d * m);
    if (b) vector_combine(b, 1, tensor_real(system->u) + d * m, (real)-step, m);
  } else { /* a convolution's weight: outputs × inputs */
    const real *u = tensor_real(system->u);
    subtract_turned(w, u, d, m, (real)step);
    if (b) vector_combine(b, 1, u + d * m, (real)-step, m);
  }
  tensor_modified(weight);
  if (b) tensor_modified(system->bias);
}
