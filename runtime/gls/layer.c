/* Layer: the dual and the primal system of one affine layer, and the solvers that lead from it to the direction. With
   n rows in the batch, r in A (those of the batch or of a window), d inputs and m outputs; flops beyond the weights'
   gradient's own 2ndm, which the last product of each stands for, or costs:

   dual      K = AAᵀ/n, α = (K + λI)⁻¹ G, U = Aᵀα:            r²d for K, r³/3, 2r²m,              2rdm
     U = Yᵀ G,  Y = (K + λI)⁻¹ A, where A U is of no use:     r²d for K, r³/3, 2r²d,              2rdm
   primal    S = AᵀA/n, U = (S + λI)⁻¹ (AᵀG):                 rd² for S, d³/3, 2d²m,              2ndm
   by rows   Y = A (S + λI)⁻¹ of the batch's rows, U = Yᵀ G:  rd² for S, d³/3, 2d²n, 2n²(d + m),  2ndm
     from K of a window (window.c):                           2nrd for K, r³/3, r²n, 2nrd, 2n²m,  2ndm

   Dual and by rows U stays a product of factors, which is formed in the weights. A batch may be solved in parts: U is
   then the mean of what its parts, each a batch of its own, would give; r is the rows of one, α and Y go part by
   part. */
#include "layer.h"

#include <math.h>

#include "solvers.h"

/* Woodbury's identity takes the difference of two numbers of which the smaller is about ρ/d of the larger: with less
   damping than this it is left, where there is a choice. */
static const double WOODBURY_DAMPING = sizeof(real) == 8 ? 0 : 1e-3;

/* The number of parts, where solving in parts is asked for, U as a product is all that is needed, and the work falls by
   half. */
static int64_t count_parts(const struct gls_system *system, const struct gls_options *options) {
  double n = (double)system->rows, d = (double)system->extended, m = (double)system->outputs;
  if (options->part <= 0 || options->statistics != STATISTICS_BATCH || system_products_are_used(options)) return 1;
  int64_t parts = (system->rows + options->part - 1) / options->part;
  double size = ceil(n / (double)parts), columns = 2 * fmin(m, d);
  double whole = n <= d ? n * n * (d + n / 3 + columns) : d * d * (n + d / 3 + 2 * m);
  return size <= d && n * size * (d + size / 3 + columns) <= whole / 2 ? parts : 1;
}

int layer_gather(struct gls_system *system, const struct gls_options *options) {
  STATUS_TRY(factors_gather(system, options));
  if (system->rows == 0) return status_error("gls: a batch without rows has no direction");
  return state_fit(system);
}

int layer_prepare(struct gls_system *system, const struct gls_options *options, double damping, double samples) {
  double scale = system->scale;
  struct gls_layer *layer = system->layer;
  bool moving = options->statistics == STATISTICS_MOVING;
  system->samples = samples;
  bool whole = true;
  if (options->statistics == STATISTICS_WINDOW) {
    STATUS_TRY(shared_gather(system));
    STATUS_TRY(window_extend(system, options->window, &whole));
    scale = 1;
  }
  if (scale > 1 && !moving && system->share.held < system->extended && damping >= WOODBURY_DAMPING) {
    STATUS_TRY(shared_gather(system));
    system->rows = system->share.held; /* few of the rows stand for all */
    system->samples /= scale;
    whole = false;
  }
  bool factors_alone = whole && !system->weight->gradient->dense && factors_are_direct(system);
  system->parts = factors_alone ? count_parts(system, options) : 1;
  bool wide = !moving && (system->rows <= system->extended || system->parts > 1);
  system->dual = wide && factors_alone;
  system->woodbury = wide && !system->dual && (options->statistics == STATISTICS_WINDOW || !whole);
  /* the momentum of moving statistics is on the gradient; Y takes all rows */
  system->by_rows = factors_alone && !(moving && options->momentum > 0) && rows_are_less(system, options) &&
                    (system->dual || system->share.gathered || !system->share.ranks);
  system->share.rows = system->rows, system->share.parts = system->parts;
  if (system->dual) STATUS_TRY(system->parts > 1 ? shared_deal(system) : shared_gather(system));
  if (system->dual && !system->by_rows && system->rows > system->batch_rows) STATUS_TRY(window_spread(system));
  bool due = layer->updates % (options->refresh > 0 ? options->refresh : 1) == 0;
  STATUS_TRY(system->dual || system->woodbury ? dual_matrix(system) : primal_statistics(system, options, scale));
  int64_t rows = options->statistics == STATISTICS_WINDOW ? system->rows : system->batch_rows;
  if (system->share.parts > 1) rows = system->matrix->shape.size[1];
  int64_t least = !moving && rows < system->extended ? rows : system->extended;
  system->stale = !moving || !layer->cholesky || due;
  double trace;
  STATUS_TRY(system_trace(system, &trace));
  system->lambda = damping * trace / (double)(least > 0 ? least : 1);
  const int64_t *size = system->matrix->shape.size;
  system->factor = system->stale ? system_matrix(size[0], size[1]) : tensor_retain(layer->cholesky);
  return system->factor ? STATUS_OK : STATUS_ERROR;
}

/* SGD's direction on this layer, on the scale of a direction damped by the mean eigenvalue. */
static int fall_back(struct gls_system *system, struct gls_report *report) {
  report->direction_fallbacks++;
  struct tensor **parts[] = {&system->alpha, &system->product, &system->u, &system->y};
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
    tensor_release(*parts[i]);
    *parts[i] = NULL;
  }
  STATUS_TRY(system_form_gradient(system));
  double square;
  STATUS_TRY(shared_input_square(system, &square));
  double mean = square / system->samples / (double)(system->extended > 0 ? system->extended : 1);
  real scale = isfinite(mean) && mean > 0 ? (real)(1 / mean) : 1;
  system->u = tensor_copy(system->gradient);
  if (!system->u) return STATUS_ERROR;
  vector_combine(tensor_real(system->u), 0, tensor_real(system->gradient), scale, tensor_count(system->u));
  system->gradient_dot_u = system_dot(system->gradient, system->u);
  system->u_square = system_dot(system->u, system->u);
  system->gradient_square = system_dot(system->gradient, system->gradient);
  return STATUS_OK;
}

/* Where statistics move the factor serves the steps to come. */
static void keep_factor(struct gls_system *system, const struct gls_options *options) {
  struct gls_layer *layer = system->layer;
  if (options->statistics != STATISTICS_MOVING || !system->stale) return;
  tensor_release(layer->cholesky);
  layer->cholesky = tensor_retain(system->factor);
}

int layer_solve(struct gls_system *system, const struct gls_options *options, struct gls_report *report) {
  report->cholesky_retries += system->retries;
  if (!system->failed) {
    keep_factor(system, options);
    STATUS_TRY(system->by_rows ? rows_solve(system, options)
               : system->dual  ? dual_solve(system, options)
                               : primal_solve(system, options));
    STATUS_TRY(shared_direction(system));
  }
  return system->failed ? fall_back(system, report) : STATUS_OK;
}
