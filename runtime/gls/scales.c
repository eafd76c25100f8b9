/* Scales: parameters whose entries each act alone, as layers of GLS. With n samples,

   a norm's scale and shift, channel c   z = γ x̂ + β: A is (x̂, 1), a 2 × 2 system of its own (1 × 1 without shift):
                                         S = [Σx̂² Σx̂; Σx̂ rows]/n,  λ = ρ tr S / 2
   a table of which rows are picked      A is one-hot, S = diag(how often each row was picked)/n, a division:
                                         λ = ρ tr S / min(picked, entries)

   The direction is (S + λI)⁻¹ times the gradient, which backward has left. */
#include <math.h>

#include "../base/memory.h"
#include "../base/vector.h"
#include "layer.h"

enum { OF_TABLE, OF_NORM }; /* op_moments.parameter */

/* Whether a node used the parameter in this way. */
static bool uses(const struct node *node, const struct tensor *parameter) {
  const struct op_moments *moments = node->call.op ? node->call.op->moments : NULL;
  return moments && node->call.input[moments->parameter] == parameter &&
         (!moments->serves || moments->serves(&node->call));
}

static bool listed(const struct tensor *t, struct tensor *const *parameter, int count) {
  for (int i = 0; i < count; i++)
    if (parameter[i] == t) return t->gradient != NULL;
  return false;
}

bool scales_open(struct gls_system *system, struct tensor *weight, struct tensor *const *parameter, int count,
                 const struct gls_options *options) {
  if (!weight->gradient) return false;
  for (const struct node *node = tape_first(); node; node = node->next) {
    if (!uses(node, weight)) continue;
    bool norm = node->call.op->moments->parameter == OF_NORM;
    if (!(norm ? options->norms : options->embeddings)) return false;
    system->weight = weight;
    system->kind = norm ? SYSTEM_NORM : SYSTEM_TABLE;
    system->inputs = norm ? 1 : weight->shape.size[0];
    system->outputs = norm ? tensor_count(weight) : weight->shape.size[1];
    struct tensor *shift = norm && node->call.input_count > 2 ? node->call.input[2] : NULL;
    if (shift && listed(shift, parameter, count)) system->bias = shift;
    system->extended = system->inputs + (system->bias ? 1 : 0);
    return true;
  }
  return false;
}

/* Columns of u (2 × m, or 1 × m) by each channel's own system. */
static void solve_norm(struct gls_system *system, const double *square, const double *sum, double damping) {
  double n = system->samples, count = (double)system->rows / n;
  int64_t m = system->outputs;
  real *scale = tensor_real(system->u), *shift = system->bias ? scale + m : NULL;
  for (int64_t c = 0; c < m; c++) {
    double s = square[c] / n, t = sum[c] / n;
    double lambda = damping * (shift ? (s + count) / 2 : s), a = s + lambda, b = count + lambda;
    if (!shift) {
      scale[c] = a > 0 ? (real)((double)scale[c] / a) : 0;
      continue;
    }
    double determinant = a * b - t * t, g = (double)scale[c], h = (double)shift[c];
    scale[c] = (real)((b * g - t * h) / determinant);
    shift[c] = (real)((a * h - t * g) / determinant);
  }
}

static void solve_table(struct gls_system *system, const double *picked, double damping) {
  int64_t entries = system->inputs, width = system->outputs;
  double n = system->samples, rows = (double)system->rows;
  double lambda = damping * rows / n / fmin(fmax(rows, 1), (double)entries);
  real *u = tensor_real(system->u);
  for (int64_t i = 0; i < entries; i++)
    for (int64_t j = 0; j < width && picked[i] > 0; j++)
      u[i * width + j] = (real)((double)u[i * width + j] / (picked[i] / n + lambda));
}

int scales_solve(struct gls_system *system, double damping, double samples) {
  bool norm = system->kind == SYSTEM_NORM;
  int64_t size = norm ? system->outputs : system->inputs;
  double *square = memory_new(2 * (size_t)size, sizeof *square);
  if (!square) return STATUS_ERROR;
  int status = STATUS_OK;
  for (const struct node *node = tape_first(); node && status == STATUS_OK; node = node->next)
    if (uses(node, system->weight))
      status = node->call.op->moments->add(&node->call, square, square + size, &system->rows);
  system->batch_rows = system->rows;
  system->samples = samples > 0 ? samples : fmax(1, (double)system->rows);
  if (status == STATUS_OK) status = layer_form_gradient(system);
  if (status == STATUS_OK && !(system->u = tensor_copy(system->gradient))) status = STATUS_ERROR;
  if (status == STATUS_OK && norm) solve_norm(system, square, square + size, damping);
  if (status == STATUS_OK && !norm) solve_table(system, square, damping);
  memory_delete(square);
  STATUS_TRY(status);
  const real *g = tensor_real(system->gradient), *u = tensor_real(system->u);
  int64_t count = tensor_count(system->u);
  system->gradient_dot_u = vector_dot(g, u, count);
  system->u_square = vector_dot(u, u, count);
  system->gradient_square = vector_dot(g, g, count);
  return STATUS_OK;
}
