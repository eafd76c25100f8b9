/* GLS: gradient least squares. For every affine layer Z = A W (A: rows × d, a column of ones for the bias), with
   G = ∂L/∂Z for the mean loss over n samples, the step moves W so that Z moves along −G, in least squares:

     ΔW = −η U,   U = argmin_X ‖A X − n G‖²/n + λ ‖X‖²

   dual    (rows ≤ d)   K = A Aᵀ/n,   α = (K + λI)⁻¹ G,   U = Aᵀ α
   primal  (rows > d)   S = Aᵀ A/n,   U = (S + λI)⁻¹ Aᵀ G        (the same U: push-through identity)
   damping              λ = ρ · tr(AᵀA/n) / min(rows, d)

   Relatives: FOOF (Benzing, ICML 2022), ISAAC (Petersen et al., ICLR 2023), LocoProp (Amid et al., AISTATS 2022),
   K-FAC (Martens and Grosse, ICML 2015). The layers' systems are in layer.h, the choice of the step size is here. */
#include <math.h>

#include "../base/memory.h"
#include "../base/profile.h"
#include "../base/vector.h"
#include "layer.h"

/* Fewest rows that the curvature is measured on. */
enum { CURVATURE_ROWS_LEAST = 16 };
static const double CURVATURE_ROWS = 0.25; /* of the batch, where the caller leaves it to us */
static const double MATCHED_RMS = 0.2;     /* Liu et al. 2025, "Muon is scalable for LLM training" */
static const double MOMENTUM_RIDGE = 1e-2, MOMENTUM_MOST = 0.9;
static const double DAMPING_RAISE = 10, DAMPING_FALL = 0.95;

struct gls *gls_new(int count) {
  struct gls *gls = memory_new(1, sizeof *gls);
  if (!gls) return NULL;
  gls->count = count;
  gls->layer = memory_new((size_t)count, sizeof *gls->layer);
  gls->handled = memory_new((size_t)count, sizeof *gls->handled);
  gls->report.damping_scale = 1;
  if (gls->layer && gls->handled) return gls;
  gls_delete(gls);
  return NULL;
}

void gls_delete(struct gls *gls) {
  if (!gls) return;
  for (int i = 0; i < gls->count && gls->layer; i++) {
    tensor_release(gls->layer[i].velocity);
    tensor_release(gls->layer[i].covariance);
    tensor_release(gls->layer[i].cholesky);
    tensor_release(gls->layer[i].window);
    tensor_release(gls->layer[i].gram);
    tensor_release(gls->layer[i].gram_window);
    tensor_release(gls->layer[i].basis);
    tensor_release(gls->layer[i].second);
  }
  memory_delete(gls->layer);
  memory_delete(gls->handled);
  memory_delete(gls);
}

void gls_undone(struct gls *gls) {
  gls->report.undone_steps++;
  gls->report.damping_scale *= DAMPING_RAISE;
}

/* All layers of one step. */
struct step {
  struct gls_system *system;
  int count;
  bool momentum_pass;      /* the tangents asked for are those of the last step, not of U */
  struct tensor **tangent; /* scratch: 2 × count views made for leaf tangents */
};

static double dot(const struct tensor *a, const struct tensor *b) {
  return vector_dot(tensor_real(a), tensor_real(b), tensor_count(a));
}

/* ---- tangents for forward mode ---- */

/* Rows of an (extended × m) matrix as the weight's (or the bias's) tangent: a view. */
static struct tensor *leaf_view(const struct gls_system *system, const struct tensor *stacked, bool bias) {
  if (bias) return tensor_select(stacked, 0, system->inputs);
  if (system->kind == SYSTEM_NORM) return tensor_select(stacked, 0, 0);
  struct tensor *top = tensor_narrow(stacked, 0, 0, system->inputs, 1);
  if (!top || system->weight->shape.rank == 2) return top;
  struct tensor *turned = tensor_transpose(top, 0, 1); /* a convolution's weight is outputs × inputs */
  struct tensor *view = turned ? tensor_view_shape(turned, &system->weight->shape) : NULL;
  tensor_release(top);
  tensor_release(turned);
  return view;
}

static void release_tangents(struct step *step) {
  for (int i = 0; i < 2 * step->count; i++) {
    tensor_release(step->tangent[i]);
    step->tangent[i] = NULL;
  }
}

static int make_tangents(struct step *step) {
  release_tangents(step);
  for (int i = 0; i < step->count; i++) {
    const struct gls_system *system = &step->system[i];
    const struct tensor *stacked = step->momentum_pass ? system->layer->velocity : system->u;
    if (!stacked) continue;
    step->tangent[2 * i] = leaf_view(system, stacked, false);
    if (!step->tangent[2 * i]) return STATUS_ERROR;
    if (!system->bias) continue;
    step->tangent[2 * i + 1] = leaf_view(system, stacked, true);
    if (!step->tangent[2 * i + 1]) return STATUS_ERROR;
  }
  return STATUS_OK;
}

static struct tensor *leaf_tangent(void *context, const struct tensor *leaf) {
  const struct step *step = context;
  for (int i = 0; i < step->count; i++) {
    if (step->system[i].weight == leaf) return step->tangent[2 * i];
    if (step->system[i].bias == leaf) return step->tangent[2 * i + 1];
  }
  return NULL;
}

/* A U of a layer that one node used, where it is known, in the output's shape; kept in the layer's tangent slot. */
static struct tensor *affine_tangent(void *context, const struct node *node) {
  struct step *step = context;
  if (step->momentum_pass) return NULL;
  for (int i = 0; i < step->count; i++) {
    struct gls_system *system = &step->system[i];
    if (system->u || !system->product || node->call.input[1] != system->weight) continue;
    if (system->batch_rows != tensor_count(node->call.output) / (system->outputs ? system->outputs : 1)) continue;
    tensor_release(step->tangent[2 * i]);
    int64_t before = system->product->shape.size[0] - system->batch_rows; /* of a window: the batch's are the last */
    struct tensor *batch = tensor_narrow(system->product, 0, before, system->batch_rows, 1);
    step->tangent[2 * i] = batch ? tensor_view_shape(batch, &node->call.output->shape) : NULL;
    tensor_release(batch);
    return step->tangent[2 * i];
  }
  return NULL;
}

/* A dual layer whose weight several nodes share has its product stacked: it gets U itself as the tangent. */
static int form_shared_directions(struct step *step) {
  for (int i = 0; i < step->count; i++) {
    int uses = 0;
    const struct gradient *gradient = step->system[i].weight->gradient;
    for (int k = 0; k < gradient->factor_count; k++) uses += gradient->factor[k].input == 1;
    if (uses > 1) STATUS_TRY(layer_form_direction(&step->system[i]));
  }
  return STATUS_OK;
}

static int tangents(struct step *step, bool momentum_pass, struct row_block block, bool *fits,
                    struct loss_tangent **losses, int *count) {
  step->momentum_pass = momentum_pass;
  int status = make_tangents(step);
  struct tangent_source source = {.context = step, .leaf = leaf_tangent, .affine = affine_tangent};
  if (status == STATUS_OK) status = tape_tangents(&source, block, fits, losses, count);
  release_tangents(step);
  return status;
}

/* ---- the automatic step ---- */

/* uᵀHu (and with last steps uᵀHp, pᵀHp) on a block of rows, or on all where the block cannot be followed. */
static int curvatures(struct step *step, struct row_block block, bool with_momentum, bool *fits, double value[3]) {
  struct loss_tangent *u = NULL, *p = NULL;
  int count = 0;
  STATUS_TRY(tangents(step, false, block, fits, &u, &count));
  if (!*fits) return STATUS_OK;
  int status = STATUS_OK, same = count;
  if (count == 0)
    status = status_error(
        "gls: learning_rate = \"auto\" needs a loss whose curvature is known (mse, cross_entropy, "
        "binary_cross_entropy, "
        "huber); give learning_rate a number for another loss");
  if (status == STATUS_OK) status = tape_curvature(u, u, count, block, &value[0]);
  if (status == STATUS_OK && with_momentum) status = tangents(step, true, block, fits, &p, &same);
  if (status == STATUS_OK && with_momentum && *fits) status = tape_curvature(u, p, count, block, &value[1]);
  if (status == STATUS_OK && with_momentum && *fits) status = tape_curvature(p, p, count, block, &value[2]);
  loss_tangents_release(u, count);
  loss_tangents_release(p, same);
  return status;
}

static bool losses_are_quadratic(void) {
  for (const struct node *node = tape_first(); node; node = node->next)
    if (node->call.op->loss && node->loss_weight != 0 && !node->call.op->loss->quadratic) return false;
  return true;
}

/* ---- which rows the curvature is measured on ---- */

/* Late in the training of a classifier a few samples carry nearly all the curvature, and a part of the batch that is
   drawn blindly misses them: the step is then far too long. So samples are drawn in proportion to the trace of the
   loss's Hessian in their outputs (mixed with a blind draw, for that is not all that decides), and weighted by the
   inverse: sampling by size, with systematic draws (Madow, Annals of Mathematical Statistics 1949). */
static const double BLIND_SHARE = 0.2;

/* chance[i], at most 1, in proportion to share, so that they add up to count. */
static void chances(double *chance, const double *share, int64_t batch, int64_t count) {
  double total = 0, scale = (double)count;
  for (int64_t i = 0; i < batch; i++) total += share[i];
  bool known = isfinite(total) && total > 0;
  for (int round = 0; round < 20; round++) { /* what is cut off at 1 goes to the others */
    double sum = 0;
    for (int64_t i = 0; i < batch; i++) {
      double part = (known ? (1 - BLIND_SHARE) * share[i] / total : 1 - BLIND_SHARE) + BLIND_SHARE / (double)batch;
      if (!known) part = 1 / (double)batch;
      chance[i] = fmin(1, scale * part);
      sum += chance[i];
    }
    scale *= (double)count / sum;
  }
}

struct drawn {
  struct row_block block;
  int64_t *row;
  double *weight, *chance; /* chance: scratch, twice batch long */
};

static void drawn_release(struct drawn *drawn) {
  memory_delete(drawn->row);
  memory_delete(drawn->weight);
  memory_delete(drawn->chance);
}

/* start is uniform in 0 to 1. */
static int draw_by_size(struct drawn *drawn, double start) {
  int64_t batch = drawn->block.batch, count = drawn->block.count, found = 0;
  drawn->row = memory_new((size_t)count, sizeof *drawn->row);
  drawn->weight = memory_new((size_t)count, sizeof *drawn->weight);
  drawn->chance = memory_new(2 * (size_t)batch, sizeof *drawn->chance);
  if (!drawn->row || !drawn->weight || !drawn->chance) return STATUS_ERROR;
  double *share = drawn->chance + batch, sum = 0;
  bool fits;
  STATUS_TRY(tape_curvature_shares(batch, share, &fits));
  if (!fits) {
    drawn->block.count = 0;
    return STATUS_OK;
  }
  chances(drawn->chance, share, batch, count);
  for (int64_t i = 0; i < batch && found < count; i++) {
    sum += drawn->chance[i];
    if (!(sum > start + (double)found)) continue;
    drawn->row[found] = i;
    drawn->weight[found++] = (double)count / ((double)batch * drawn->chance[i]);
  }
  for (int64_t i = 0; i < found; i++)
    drawn->weight[i] *= (double)found / (double)count; /* rounding may cost the last */
  drawn->block = (struct row_block){batch, 0, found, drawn->row, drawn->weight};
  return STATUS_OK;
}

static int draw_rows(struct drawn *drawn, int64_t batch, double fraction) {
  *drawn = (struct drawn){.block = {.batch = batch}};
  bool quadratic = losses_are_quadratic();
  if (fraction < 0) fraction = CURVATURE_ROWS;
  int64_t rows = (int64_t)ceil(fraction * (double)batch);
  if (rows < CURVATURE_ROWS_LEAST) rows = CURVATURE_ROWS_LEAST;
  if (rows >= batch) return STATUS_OK;
  uint32_t word[4];
  random_block(random_next_stream(), 0, word);
  drawn->block.count = rows;
  if (!quadratic) return draw_by_size(drawn, (double)word[0] / 4294967296.0);
  drawn->block.start = (int64_t)(word[0] % (uint64_t)(batch - rows + 1));
  return STATUS_OK;
}

/* Minimises the Gauss-Newton model of the loss along U, or in the plane of U and the last step P:
   −η ⟨g,U⟩ + μ ⟨g,P⟩ + (1 + δ)/2 · ‖−η u + μ p‖²_H */
static int automatic_step(struct step *step, const struct gls_options *options, int64_t batch, double *eta,
                          double *mu) {
  double gu = 0, gp = 0, value[3] = {0};
  bool with_momentum = options->automatic_momentum;
  for (int i = 0; i < step->count; i++) {
    struct gls_system *system = &step->system[i];
    gu += system->gradient_dot_u;
    if (!with_momentum) continue;
    if (!system->layer->velocity) {
      with_momentum = false; /* the first step has none before it */
      continue;
    }
    STATUS_TRY(layer_form_gradient(system));
    gp += dot(system->gradient, system->layer->velocity);
  }
  bool fits = true;
  struct drawn drawn;
  int status = draw_rows(&drawn, batch, options->rows);
  if (status == STATUS_OK) status = curvatures(step, drawn.block, with_momentum, &fits, value);
  drawn_release(&drawn);
  STATUS_TRY(status);
  if (!fits) STATUS_TRY(curvatures(step, (struct row_block){0}, with_momentum, &fits, value));
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

/* ---- momentum ---- */

/* velocity := keep · velocity + scale · U */
static int blend(struct gls_system *system, double keep, double scale) {
  struct tensor **velocity = &system->layer->velocity;
  if (!*velocity)
    *velocity = tensor_zeros(TYPE_REAL, &(struct shape){.rank = 2, .size = {system->extended, system->outputs}});
  if (!*velocity) return STATUS_ERROR;
  if ((*velocity)->shape.size[0] != system->extended || (*velocity)->shape.size[1] != system->outputs)
    return status_error("gls: the saved momentum has shape %s for a layer of %lld × %lld",
                        shape_text(&(*velocity)->shape), (long long)system->extended, (long long)system->outputs);
  real *v = tensor_real(*velocity);
  int64_t d = system->inputs, m = system->outputs;
  if (system->u)
    vector_combine(v, (real)keep, tensor_real(system->u), (real)scale, system->extended * m);
  else
    layer_add_direction(system, scale, keep, v, system->bias ? v + d * m : NULL);
  return STATUS_OK;
}

/* The direction becomes V := β V + (1 − β) U. */
static int take_momentum(struct gls_system *system, const struct gls_options *options) {
  if (!isfinite(system->u_square)) return STATUS_OK; /* the step will be skipped, V stays as it is */
  STATUS_TRY(blend(system, options->momentum, 1 - options->momentum));
  tensor_release(system->u);
  system->u = tensor_retain(system->layer->velocity);
  system->u_square = dot(system->u, system->u);
  if (!options->automatic) return STATUS_OK;
  STATUS_TRY(layer_form_gradient(system));
  system->gradient_dot_u = dot(system->gradient, system->u);
  return STATUS_OK;
}

/* ---- the step ---- */

static int choose_steps(struct gls *gls, struct step *step, const struct gls_options *options, int64_t batch) {
  double eta = options->learning_rate, mu = 0, u_square = 0, g_square = 0;
  if (options->automatic && options->graft == GRAFT_NONE) {
    STATUS_TRY(form_shared_directions(step));
    STATUS_TRY(automatic_step(step, options, batch, &eta, &mu));
    eta *= options->learning_rate;
  }
  for (int i = 0; i < step->count; i++) {
    u_square += step->system[i].u_square;
    g_square += step->system[i].gradient_square;
  }
  if (options->graft == GRAFT_SGD && !options->per_layer) eta *= u_square > 0 ? sqrt(g_square / u_square) : 0;
  for (int i = 0; i < step->count; i++) {
    struct gls_system *system = &step->system[i];
    double norm = sqrt(system->u_square);
    system->step = eta;
    if (options->graft == GRAFT_SGD && options->per_layer)
      system->step = norm > 0 ? eta * sqrt(system->gradient_square) / norm : 0;
    if (options->graft == GRAFT_RMS)
      system->step = norm > 0 ? eta * MATCHED_RMS * sqrt((double)(system->extended * system->outputs)) / norm : 0;
    double reach = system->step * system->step * system->gradient_dot_u;
    if (options->trust > 0 && reach > options->trust) {
      system->step *= sqrt(options->trust / reach);
      gls->report.trust_limits++;
    }
  }
  gls->report.learning_rate = eta;
  gls->report.momentum = mu;
  return STATUS_OK;
}

static int apply(struct gls *gls, struct step *step, const struct gls_options *options) {
  double keep = 1 - options->learning_rate * options->weight_decay;
  for (int i = 0; i < step->count; i++) {
    struct gls_system *system = &step->system[i];
    if (options->automatic_momentum) { /* P := μ P − η U, then W := W + P */
      STATUS_TRY(blend(system, gls->report.momentum, -system->step));
      tensor_release(system->u);
      system->u = tensor_retain(system->layer->velocity);
      layer_apply(system, -1, keep);
    } else {
      layer_apply(system, system->step, keep);
    }
  }
  return STATUS_OK;
}

/* Large factorisations in turn, with all threads; small ones side by side, a thread each. */
static void factorise_all(struct step *step) {
  enum { ALONE_LEAST = 384 };
  int small = 0;
  for (int i = 0; i < step->count; i++) {
    struct gls_system *system = &step->system[i];
    if (!system->stale) continue;
    bool alone = system->matrix->shape.size[1] >= ALONE_LEAST;
    if (alone) layer_factorise(system);
    small += !alone;
  }
  if (small == 0) return;
#pragma omp parallel for schedule(dynamic)
  for (int i = 0; i < step->count; i++) {
    struct gls_system *system = &step->system[i];
    if (system->stale && system->matrix->shape.size[1] < ALONE_LEAST) layer_factorise(system);
  }
}

static int solve_all(struct gls *gls, struct step *step, struct tensor *const *parameter,
                     const struct gls_options *options, double samples, bool *finite) {
  double damping = options->damping * gls->report.damping_scale;
  for (int i = 0; i < gls->count; i++) {
    struct gls_system *system = &step->system[step->count];
    bool is_layer;
    STATUS_TRY(layer_open(system, parameter[i], parameter, gls->count, &is_layer));
    if (!is_layer && !scales_open(system, parameter[i], parameter, gls->count, options)) continue;
    step->count++; /* from here on closed by the caller */
    system->layer = &gls->layer[i];
    profile_begin("optimizer", is_layer ? "statistics" : "scales and embeddings");
    STATUS_TRY(profile_ended(is_layer ? layer_prepare(system, options, damping, samples)
                                      : scales_solve(system, damping, samples)));
  }
  profile_begin("optimizer", "factorisations");
  factorise_all(step);
  profile_end();
  for (int i = 0; i < step->count; i++) {
    struct gls_system *system = &step->system[i];
    bool layer = system->kind == SYSTEM_LAYER;
    profile_begin("optimizer", "directions");
    STATUS_TRY(profile_ended(layer ? layer_solve(system, options, &gls->report) : STATUS_OK));
    bool momentum_is_in = layer && (options->statistics == STATISTICS_MOVING || options->adaptive);
    profile_begin("optimizer", "momentum");
    STATUS_TRY(profile_ended(options->momentum > 0 && !momentum_is_in ? take_momentum(system, options) : STATUS_OK));
    for (int k = 0; k < gls->count; k++)
      if (parameter[k] == system->weight || parameter[k] == system->bias) gls->handled[k] = true;
    if (!isfinite(system->gradient_dot_u) || !isfinite(system->u_square)) *finite = false;
  }
  return STATUS_OK;
}

int gls_step(struct gls *gls, struct tensor *const *parameter, const struct gls_options *options) {
  struct step step = {.system = memory_new((size_t)gls->count, sizeof *step.system),
                      .tangent = memory_new(2 * (size_t)gls->count, sizeof *step.tangent)};
  for (int i = 0; i < gls->count; i++) gls->handled[i] = false;
  int64_t batch, terms;
  bool finite = true;
  tape_loss_rows(&batch, &terms);
  int status = step.system && step.tangent ? STATUS_OK : STATUS_ERROR;
  if (status == STATUS_OK) status = solve_all(gls, &step, parameter, options, (double)terms, &finite);
  profile_begin("optimizer", "step size");
  if (status == STATUS_OK && finite && step.count > 0) status = choose_steps(gls, &step, options, batch);
  profile_end();
  profile_begin("optimizer", "weights");
  if (status == STATUS_OK && finite) status = apply(gls, &step, options);
  profile_end();
  if (status == STATUS_OK && !finite) { /* nothing moves, fallback parameters neither */
    gls->report.skipped_steps++;
    for (int i = 0; i < gls->count; i++) gls->handled[i] = true;
  }
  if (status == STATUS_OK) {
    gls->report.steps++;
    gls->report.damping_scale = fmax(1, gls->report.damping_scale * DAMPING_FALL);
  }
  for (int i = 0; i < step.count && step.system; i++) layer_close(&step.system[i]);
  memory_delete(step.system);
  memory_delete(step.tangent);
  return status;
}
