/* Curvature: the automatic learning rate, the exact minimiser of the Gauss-Newton model of the loss along the
   direction: η = ⟨g, U⟩ / ((1 + δ) uᵀH u), where u = J U is the change of the network's outputs, from one
   forward-mode pass over the recorded tape, and H the Hessian of the loss in the outputs. */
#include "curvature.h"

#include <math.h>

#include "../base/memory.h"
#include "layer.h"

static const double MOMENTUM_RIDGE = 1e-2, MOMENTUM_MOST = 0.9;

/* One forward-mode pass: all layers, and what is asked for. */
struct pass {
  struct gls_system *system;
  int count;
  bool momentum;           /* the tangents are those of the last step, not of U */
  struct tensor **tangent; /* scratch: 2 × count views made for leaf tangents */
};

/* ---- tangents for forward mode ---- */

/* Rows of an (extended × m) matrix as the weight's (or the bias's) tangent: a view. */
static struct tensor *leaf_view(const struct gls_system *system, const struct tensor *stacked, bool bias) {
  if (bias) return tensor_select(stacked, 0, system->inputs);
  struct tensor *top = tensor_narrow(stacked, 0, 0, system->inputs, 1);
  if (!top || system->weight->shape.rank == 2) return top;
  struct tensor *turned = tensor_transpose(top, 0, 1); /* a convolution's weight is outputs × inputs */
  struct tensor *view = turned ? tensor_view_shape(turned, &system->weight->shape) : NULL;
  tensor_release(top);
  tensor_release(turned);
  return view;
}

static void release_tangents(struct pass *pass) {
  for (int i = 0; i < 2 * pass->count; i++) {
    tensor_release(pass->tangent[i]);
    pass->tangent[i] = NULL;
  }
}

static int make_tangents(struct pass *pass) {
  release_tangents(pass);
  for (int i = 0; i < pass->count; i++) {
    const struct gls_system *system = &pass->system[i];
    const struct tensor *stacked = pass->momentum ? system->layer->velocity : system->u;
    if (!stacked) continue;
    pass->tangent[2 * i] = leaf_view(system, stacked, false);
    if (!pass->tangent[2 * i]) return STATUS_ERROR;
    if (!system->bias) continue;
    pass->tangent[2 * i + 1] = leaf_view(system, stacked, true);
    if (!pass->tangent[2 * i + 1]) return STATUS_ERROR;
  }
  return STATUS_OK;
}

static struct tensor *leaf_tangent(void *context, const struct tensor *leaf) {
  const struct pass *pass = context;
  for (int i = 0; i < pass->count; i++) {
    if (pass->system[i].weight == leaf) return pass->tangent[2 * i];
    if (pass->system[i].bias == leaf) return pass->tangent[2 * i + 1];
  }
  return NULL;
}

/* A U of a layer that one node used, where it is known, in the output's shape; kept in the layer's tangent slot. */
static struct tensor *affine_tangent(void *context, const struct node *node) {
  struct pass *pass = context;
  if (pass->momentum) return NULL;
  for (int i = 0; i < pass->count; i++) {
    struct gls_system *system = &pass->system[i];
    if (system->u || !system->product || node->call.input[1] != system->weight) continue;
    if (system->share.own != tensor_count(node->call.output) / (system->outputs ? system->outputs : 1)) continue;
    tensor_release(pass->tangent[2 * i]);
    int64_t before = system->product->shape.size[0] - system->batch_rows; /* of a window: the batch's are the last */
    struct tensor *batch = tensor_narrow(system->product, 0, before + system->share.before, system->share.own, 1);
    pass->tangent[2 * i] = batch ? tensor_view_shape(batch, &node->call.output->shape) : NULL;
    tensor_release(batch);
    return pass->tangent[2 * i];
  }
  return NULL;
}

/* A dual layer whose weight several nodes share, or one within a recurrence, has its product stacked: it gets U itself
   as the tangent. */
static int form_shared_directions(struct pass *pass) {
  for (int i = 0; i < pass->count; i++)
    if (factors_uses(&pass->system[i]) > 1 || factors_recur(&pass->system[i]))
      STATUS_TRY(direction_form(&pass->system[i]));
  return STATUS_OK;
}

static int tangents(struct pass *pass, bool momentum, struct row_block block, bool *fits, struct loss_tangent **losses,
                    int *count) {
  pass->momentum = momentum;
  int status = make_tangents(pass);
  struct tangent_source source = {.context = pass, .leaf = leaf_tangent, .affine = affine_tangent};
  if (status == STATUS_OK) status = tape_tangents(&source, block, fits, losses, count);
  release_tangents(pass);
  return status;
}

/* ---- the automatic step ---- */

/* uᵀHu (and with last steps uᵀHp, pᵀHp) on a block of rows; *fits is false, and they count for nothing, where the
   block cannot be followed. */
static int curvatures(struct pass *pass, struct row_block block, bool with_momentum, bool *fits, double value[3]) {
  struct loss_tangent *u = NULL, *p = NULL;
  int count = 0;
  STATUS_TRY(tangents(pass, false, block, fits, &u, &count));
  if (!*fits) return STATUS_OK;
  int status = tape_curvature(u, u, count, block, &value[0]), same = count;
  if (status == STATUS_OK && with_momentum) status = tangents(pass, true, block, fits, &p, &same);
  if (status == STATUS_OK && with_momentum && *fits) status = tape_curvature(u, p, count, block, &value[1]);
  if (status == STATUS_OK && with_momentum && *fits) status = tape_curvature(p, p, count, block, &value[2]);
  loss_tangents_release(u, count);
  loss_tangents_release(p, same);
  return status;
}

/* Whether a weight is used several times over the same samples, as in a recurrent net. The changes add up along the
   uses, in some samples far more than in others, so that a part of the rows says little of all. */
static bool is_recurrent(const struct pass *pass, int64_t samples) {
  for (int i = 0; i < pass->count; i++)
    if (pass->system[i].batch_rows > samples && (factors_uses(&pass->system[i]) > 1 || factors_recur(&pass->system[i])))
      return true;
  return false;
}

/* ⟨g, U⟩ and, while every layer has a last step P, ⟨g, P⟩. */
static int gradient_products(struct pass *pass, bool *with_momentum, double *gu, double *gp) {
  *gu = *gp = 0;
  for (int i = 0; i < pass->count; i++) {
    struct gls_system *system = &pass->system[i];
    *gu += system->gradient_dot_u;
    *with_momentum = *with_momentum && system->layer->velocity;
    if (!*with_momentum) continue;
    STATUS_TRY(system_form_gradient(system));
    *gp += system_dot(system->gradient, system->layer->velocity);
  }
  return STATUS_OK;
}

/* The same over all ranks, of rows that are drawn from those of all; of all rows where a rank cannot follow its own. */
static int shared_curvatures(struct pass *pass, const struct loss_rows *batch, double fraction,
                             const struct ranks *ranks, bool with_momentum, double value[3]) {
  struct drawn_rows drawn;
  double sum[4] = {0}; /* of value, and of the ranks whose rows cannot be followed */
  bool fits = true;
  int status = drawn_rows_new(&drawn, batch, fraction, ranks);
  if (status == STATUS_OK && !drawn.none) status = curvatures(pass, drawn.block, with_momentum, &fits, value);
  for (int i = 0; i < 3; i++) sum[i] = drawn.times * value[i];
  sum[3] = !fits;
  drawn_rows_release(&drawn);
  STATUS_TRY(status);
  STATUS_TRY(ranks_add(ranks, sum, 4));
  if (sum[3] > 0) {
    STATUS_TRY(curvatures(pass, (struct row_block){0}, with_momentum, &fits, sum));
    STATUS_TRY(ranks_add(ranks, sum, 3));
  }
  for (int i = 0; i < 3; i++) value[i] = sum[i];
  return STATUS_OK;
}

/* The minimum of the Gauss-Newton model along U, or in the plane of U and the last step P:
   −η ⟨g,U⟩ + μ ⟨g,P⟩ + (1 + δ)/2 · ‖−η u + μ p‖²_H */
static int minimise(struct pass *pass, const struct gls_options *options, const struct loss_rows *batch, double *eta,
                    double *mu) {
  double gu, gp, value[3] = {0};
  bool with_momentum = options->automatic_momentum;
  STATUS_TRY(gradient_products(pass, &with_momentum, &gu, &gp));
  STATUS_TRY(form_shared_directions(pass));
  bool all = options->rows < 0 && is_recurrent(pass, batch->terms);
  STATUS_TRY(shared_curvatures(pass, batch, all ? 1 : options->rows, options->ranks, with_momentum, value));
  double more = 1 + options->delta, uu = more * value[0], up = more * value[1], pp = more * value[2];
  *mu = 0;
  *eta = uu > 0 ? gu / uu : 0;
  if (with_momentum && uu > 0 && pp > 0) {
    double ruu = uu * (1 + MOMENTUM_RIDGE), rpp = pp * (1 + MOMENTUM_RIDGE), determinant = ruu * rpp - up * up;
    double best = determinant > 0 ? (up * gu - ruu * gp) / determinant : 0;
    *mu = best < 0 || !isfinite(best) ? 0 : best > MOMENTUM_MOST ? MOMENTUM_MOST : best;
    *eta = (gu + *mu * up) / ruu;
  }
  if (!isfinite(*eta) || *eta < 0) *eta = *mu = 0;
  return STATUS_OK;
}

int curvature_step(struct gls_system *system, int count, const struct gls_options *options,
                   const struct loss_rows *batch, double *eta, double *mu) {
  struct pass pass = {.system = system, .count = count};
  pass.tangent = memory_new(2 * (size_t)count, sizeof *pass.tangent);
  int status = pass.tangent ? minimise(&pass, options, batch, eta, mu) : STATUS_ERROR;
  memory_delete(pass.tangent);
  return status;
}
