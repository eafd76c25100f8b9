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

#include "../base/integer.h"
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

/* The rows whose products the matrix is of: the batch's, the window's, or few that stand for all of a convolution's
   patches. *whole: the batch is among them undivided. */
static int take_rows(struct gls_system *system, const struct gls_options *options, bool *whole) {
  *whole = true;
  if (options->statistics == STATISTICS_WINDOW) {
    STATUS_TRY(shared_gather(system));
    system->scale = 1;
    return window_extend(system, options->window, whole);
  }
  bool few = system->scale > 1 && system->share.held < system->extended && options->damping >= WOODBURY_DAMPING;
  if (options->statistics == STATISTICS_MOVING || !few) return STATUS_OK;
  STATUS_TRY(shared_gather(system));
  *whole = false;
  system->rows = system->share.held;
  system->samples /= system->scale;
  return STATUS_OK;
}

/* Which of the solvers above. */
static void choose_solver(struct gls_system *system, const struct gls_options *options, bool whole) {
  bool moving = options->statistics == STATISTICS_MOVING, window = options->statistics == STATISTICS_WINDOW;
  bool factors_serve = whole && !system->weight->gradient->dense && factors_are_direct(system);
  system->parts = factors_serve ? count_parts(system, options) : 1;
  bool kernel_is_smaller = !moving && (system->rows <= system->extended || system->parts > 1);
  system->solver = kernel_is_smaller && factors_serve        ? SOLVER_DUAL
                   : kernel_is_smaller && (window || !whole) ? SOLVER_WOODBURY
                                                             : SOLVER_PRIMAL;
  bool momentum_on_gradient = moving && options->momentum > 0;
  bool all_rows_here = system->solver == SOLVER_DUAL || system->share.gathered || !system->share.ranks;
  system->by_rows = factors_serve && !momentum_on_gradient && rows_are_less(system, options) && all_rows_here;
}

/* K or S, of all ranks. */
static int make_matrix(struct gls_system *system, const struct gls_options *options) {
  system->share.rows = system->rows, system->share.parts = system->parts;
  if (system->solver == SOLVER_PRIMAL) return primal_statistics(system, options);
  if (system->solver == SOLVER_DUAL) {
    STATUS_TRY(system->parts > 1 ? shared_deal(system) : shared_gather(system));
    if (!system->by_rows && system->rows > system->batch_rows) STATUS_TRY(window_spread(system));
  }
  return dual_matrix(system);
}

/* λ = ρ times the mean of the matrix's eigenvalues, of as many as its rank can be. */
static int set_lambda(struct gls_system *system, const struct gls_options *options) {
  int64_t rows = options->statistics == STATISTICS_WINDOW ? system->rows : system->batch_rows;
  if (system->share.parts > 1) rows = system->matrix->shape.size[1];
  int64_t rank = options->statistics == STATISTICS_MOVING ? system->extended : min(rows, system->extended);
  double trace;
  STATUS_TRY(system_trace(system, &trace));
  system->lambda = options->damping * trace / (double)max(rank, 1);
  return STATUS_OK;
}

int layer_prepare(struct gls_system *system, const struct gls_options *options, double samples) {
  struct gls_layer *layer = system->layer;
  bool whole, due = layer->updates % max(options->refresh, 1) == 0;
  system->samples = samples;
  STATUS_TRY(take_rows(system, options, &whole));
  choose_solver(system, options, whole);
  STATUS_TRY(make_matrix(system, options));
  STATUS_TRY(set_lambda(system, options));
  system->stale = options->statistics != STATISTICS_MOVING || !layer->cholesky || due;
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
    STATUS_TRY(system->by_rows                 ? rows_solve(system, options)
               : system->solver == SOLVER_DUAL ? dual_solve(system, options)
                                               : primal_solve(system, options));
    STATUS_TRY(shared_direction(system));
  }
  return system->failed ? fall_back(system, report) : STATUS_OK;
}
