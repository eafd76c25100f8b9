/* Window: some rows W (w × d, a column of ones beside it) in place of the batch's own: the last rows of A of several
   batches, or few that stand for all. With w less than d the direction comes from the w × w dual,

     S = c WᵀW,   K = c W Wᵀ,   c = rows / (n w)      (rows and n: of the batch; S is an average over rows)
     U = (S + λI)⁻¹ AᵀG = Wᵀ (K + λI)⁻¹ Γ              where W holds all of the batch's rows: Γ = E G is G in their
                                                        places, 0 elsewhere, so that AᵀG = WᵀΓ
     U = Yᵀ G,   Y = Zᵀ W,   Z = (K + λI)⁻¹ E          the same, where that is less work (layer.c)
     U = (AᵀG − c Wᵀ (K + λI)⁻¹ W AᵀG) / λ             else (Woodbury's identity). */
#include <math.h>
#include <string.h>

#include "../base/vector.h"
#include "solvers.h"

static bool all_finite(const struct tensor *t) {
  return isfinite((real)vector_dot(tensor_real(t), tensor_real(t), tensor_count(t)));
}

/* to = count of the rows, evenly spread. */
static void take_rows(real *to, const struct tensor *rows, int64_t count) {
  int64_t all = rows->shape.size[0], width = rows->shape.size[1];
  for (int64_t i = 0; i < count; i++)
    memcpy(to + i * width, tensor_real(rows) + i * all / count * width, (size_t)width * sizeof(real));
}

int window_spread(struct gls_system *system) {
  int64_t count = system->rows, rows = system->g->shape.size[0], width = system->g->shape.size[1];
  struct shape shape = shape_of(2, count, width);
  struct tensor *tall = tensor_zeros(TYPE_REAL, &shape);
  if (!tall) return STATUS_ERROR;
  memcpy(tensor_real(tall) + (count - rows) * width, tensor_real(system->g), (size_t)(rows * width) * sizeof(real));
  tensor_release(system->g);
  system->g = tall;
  return STATUS_OK;
}

/* The products of the window's rows: keep of its former rows (before) are still there, first, and where theirs are
   known only those of the new rows are made. */
static int extend_gram(struct gls_layer *layer, bool known, int64_t before, int64_t keep) {
  int64_t rows = layer->window->shape.size[0], d = layer->window->shape.size[1], skip = before - keep;
  bool in_place = known && before == rows;
  struct tensor *gram = in_place ? tensor_retain(layer->gram) : system_matrix(rows, rows);
  if (!gram) return STATUS_ERROR;
  real *to = tensor_real(gram), *w = tensor_real(layer->window);
  int64_t first = known ? keep : 0;
  for (int64_t i = 0; i < first; i++)
    memmove(to + i * rows, tensor_real(layer->gram) + (i + skip) * before + skip, (size_t)(i + 1) * sizeof(real));
  real *below = to + first * rows, *more = w + first * d;
  gemm(false, true, rows - first, first, d, 1, more, d, w, d, 0, below, rows);
  syrk(false, rows - first, d, 1, more, d, 0, below + first, rows);
  tensor_release(layer->gram);
  layer->gram = gram;
  layer->gram_window = tensor_retain(layer->window);
  return STATUS_OK;
}

int window_extend(struct gls_system *system, int64_t most, bool *whole) {
  struct tensor **window = &system->layer->window;
  int64_t d = system->inputs, now = system->a->shape.size[0];
  *whole = true;
  if (!all_finite(system->a)) return STATUS_OK;
  int64_t take = now < most ? now : most, before = *window ? (*window)->shape.size[0] : 0;
  int64_t keep = before < most - take ? before : most - take, rows = keep + take;
  *whole = take == system->batch_rows;
  struct tensor *longer = system_matrix(rows, d);
  if (!longer) return STATUS_ERROR;
  if (keep > 0) vector_combine(tensor_real(longer), 0, tensor_real(*window) + (before - keep) * d, 1, keep * d);
  take_rows(tensor_real(longer) + keep * d, system->a, take);
  bool known = *window && system->layer->gram_window == *window;
  tensor_release(system->layer->gram_window);
  system->layer->gram_window = NULL;
  tensor_release(*window);
  *window = longer;
  tensor_release(system->a);
  system->a = tensor_retain(longer);
  system->samples *= (double)rows / (double)system->batch_rows;
  system->rows = rows;
  return rows <= system->extended ? extend_gram(system->layer, known, before, keep) : STATUS_OK;
}

int window_solve(struct gls_system *system) {
  int64_t w = system->rows, d = system->inputs, m = system->outputs;
  struct tensor *product = system_matrix(w, m);
  if (!product) return STATUS_ERROR;
  real *u = tensor_real(system->u), *p = tensor_real(product), *a = tensor_real(system->a);
  real *shift = system->bias ? u + d * m : NULL, inverse = (real)(1 / system->lambda);
  for (int64_t i = 0; i < w; i++) /* [W 1] u */
    for (int64_t j = 0; j < m; j++) p[i * m + j] = shift ? shift[j] : 0;
  gemm(false, false, w, m, d, 1, a, d, u, m, 1, p, m);
  int status = cholesky_solve(tensor_real(system->factor), w, p, m);
  const real scale = -inverse / (real)system->samples;
  if (status == STATUS_OK) gemm(true, false, d, m, w, scale, a, d, p, m, inverse, u, m);
  for (int64_t j = 0; j < m && shift; j++) {
    real sum = 0;
    for (int64_t i = 0; i < w; i++) sum += p[i * m + j];
    shift[j] = inverse * shift[j] + scale * sum;
  }
  tensor_release(product);
  return status;
}
