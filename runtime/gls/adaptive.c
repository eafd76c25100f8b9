/* Adaptive: Adam's moments in the eigenbasis of a moving average of AᵀA, the inputs' side of SOAP (Vyas, Morwani, Zhao,
   Kwun, Shapira, Brandfonbrener, Janson and Kakade, "SOAP: improving and stabilizing Shampoo using Adam", ICLR 2025,
   algorithm 3, one-sided). With the rows of Q the eigenvectors, G the gradient (d × m):

     G' = Q G,   M ← β₁ M + (1 − β₁) G,   V ← β₂ V + (1 − β₂) G'²
     U = Qᵀ (Q M / (1 − β₁ᵗ)) / (√(V / (1 − β₂ᵗ)) + ε)

   Q is made anew every so many steps; V goes over to the new basis as the diagonal of a rotated diagonal matrix would,
   by the squares of the rotation. A layer of more inputs than the limit keeps its own basis: there it is Adam. */
#include <math.h>
#include <string.h>

#include "../base/parallel.h"
#include "../base/vector.h"
#include "solvers.h"

static const double EPSILON = 1e-8;

static inline real root(real x) { return sizeof(real) == 8 ? (real)sqrt((double)x) : (real)sqrtf((float)x); }

static struct tensor *zeros(int64_t rows, int64_t columns) {
  struct shape shape = shape_of(2, rows, columns);
  return tensor_zeros(TYPE_REAL, &shape);
}

/* result = q x, or qᵀ x. */
static struct tensor *rotate(const struct tensor *q, bool back, const struct tensor *x) {
  int64_t e = x->shape.size[0], m = x->shape.size[1];
  struct tensor *result = zeros(e, m);
  if (result) gemm(back, false, e, m, e, 1, tensor_real(q), e, tensor_real(x), m, 0, tensor_real(result), m);
  return result;
}

/* second := (R ∘ R) second, R = new oldᵀ. */
static int carry_over(struct tensor **second, const struct tensor *newer, const struct tensor *older) {
  int64_t e = newer->shape.size[0];
  struct tensor *r = zeros(e, e);
  if (!r) return STATUS_ERROR;
  real *value = tensor_real(r);
  gemm(false, true, e, e, e, 1, tensor_real(newer), e, tensor_real(older), e, 0, value, e);
  for (int64_t i = 0; i < e * e; i++) value[i] *= value[i];
  struct tensor *moved = rotate(r, false, *second);
  tensor_release(r);
  if (!moved) return STATUS_ERROR;
  tensor_release(*second);
  *second = moved;
  return STATUS_OK;
}

int adaptive_basis(struct gls_system *system) {
  int64_t e = system->extended;
  struct tensor *values = zeros(1, e);
  if (!values) return STATUS_ERROR;
  memcpy(tensor_real(system->factor), tensor_real(system->layer->covariance), (size_t)(e * e) * sizeof(real));
  int status = symmetric_eigen(tensor_real(system->factor), e, tensor_real(values));
  tensor_release(values);
  return status;
}

int adaptive_turn(struct gls_system *system) {
  struct gls_layer *layer = system->layer;
  if (layer->basis && layer->second) STATUS_TRY(carry_over(&layer->second, system->factor, layer->basis));
  tensor_release(layer->basis);
  layer->basis = tensor_retain(system->factor);
  return STATUS_OK;
}

static bool has_shape(const struct tensor *t, int64_t rows, int64_t columns) {
  return t->shape.rank == 2 && t->shape.size[0] == rows && t->shape.size[1] == columns;
}

static int check_state(const struct gls_system *system) {
  const struct gls_layer *layer = system->layer;
  int64_t e = system->extended, m = system->outputs;
  const struct tensor *const square[] = {layer->basis, layer->covariance}, *const wide[] = {layer->velocity,
                                                                                            layer->second};
  for (int i = 0; i < 2; i++)
    if ((square[i] && !has_shape(square[i], e, e)) || (wide[i] && !has_shape(wide[i], e, m)))
      return status_error("gls: the saved state of adaptive = true has shape %s in a layer of %lld × %lld",
                          shape_text(&(square[i] && !has_shape(square[i], e, e) ? square : wide)[i]->shape),
                          (long long)e, (long long)m);
  return STATUS_OK;
}

/* y (e × m): M' over the root of V; first and rotated: M' and G'. */
static void divide(struct gls_system *system, const struct gls_options *options, const real *rotated, const real *first,
                   real *y) {
  real *second = tensor_real(system->layer->second);
  double t = (double)system->layer->updates, beta1 = options->momentum, beta2 = options->beta2;
  const real keep = (real)beta2, take = (real)(1 - beta2), epsilon = (real)EPSILON;
  const real scale = (real)(1 / (1 - pow(beta1, t))), widen = (real)(1 / (1 - pow(beta2, t)));
  int64_t count = system->extended * system->outputs;
#pragma omp parallel for simd schedule(static) if (count > PARALLEL_THRESHOLD)
  for (int64_t i = 0; i < count; i++) {
    second[i] = keep * second[i] + take * rotated[i] * rotated[i];
    y[i] = scale * first[i] / (root(second[i] * widen) + epsilon);
  }
}

int adaptive_solve(struct gls_system *system, const struct gls_options *options) {
  struct gls_layer *layer = system->layer;
  int64_t e = system->extended, m = system->outputs, count = e * m;
  STATUS_TRY(check_state(system));
  STATUS_TRY(system_form_gradient(system));
  system->gradient_square = system_dot(system->gradient, system->gradient);
  double square;
  STATUS_TRY(shared_input_square(system, &square));
  system->failed = !isfinite(system->gradient_square) || !isfinite((real)square);
  if (system->failed) return STATUS_OK;
  if (!layer->velocity && !(layer->velocity = zeros(e, m))) return STATUS_ERROR;
  if (!layer->second && !(layer->second = zeros(e, m))) return STATUS_ERROR;
  struct tensor *rotated =
      layer->basis ? rotate(layer->basis, false, system->gradient) : tensor_retain(system->gradient);
  /* M is kept in the weights' own basis, so that it survives another Q. */
  vector_combine(tensor_real(layer->velocity), (real)options->momentum, tensor_real(system->gradient),
                 (real)(1 - options->momentum), count);
  struct tensor *first = layer->basis ? rotate(layer->basis, false, layer->velocity) : tensor_copy(layer->velocity);
  if (rotated && first) {
    layer->updates++;
    divide(system, options, tensor_real(rotated), tensor_real(first), tensor_real(first));
    system->u = layer->basis ? rotate(layer->basis, true, first) : tensor_retain(first);
  }
  tensor_release(rotated);
  tensor_release(first);
  if (!system->u) return STATUS_ERROR;
  system->gradient_dot_u = vector_dot(tensor_real(system->gradient), tensor_real(system->u), count);
  system->u_square = vector_dot(tensor_real(system->u), tensor_real(system->u), count);
  system->failed = !isfinite(system->gradient_dot_u) || !isfinite(system->u_square);
  return STATUS_OK;
}
