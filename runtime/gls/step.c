/* GLS: gradient least squares. For every affine layer Z = A W (A: rows × d, a column of ones for the bias), with
   G = ∂L/∂Z for the mean loss over n samples, the step moves W so that Z moves along −G, in least squares:

     ΔW = −η U,   U = argmin_X ‖A X − n G‖²/n + λ ‖X‖²

   dual    (rows ≤ d)   K = A Aᵀ/n,   α = (K + λI)⁻¹ G,   U = Aᵀ α
   primal  (rows > d)   S = Aᵀ A/n,   U = (S + λI)⁻¹ Aᵀ G        (the same U: push-through identity)
   damping              λ = ρ · tr(AᵀA/n) / min(rows, d)

   Relatives: FOOF (Benzing, ICML 2022), ISAAC (Petersen et al., ICLR 2023), LocoProp (Amid et al., AISTATS 2022),
   K-FAC (Martens and Grosse, ICML 2015). gls.h maps the files. */
#include "../base/memory.h"
#include "../base/profile.h"
#include "curvature.h"
#include "layer.h"

#include <math.h>

static const double MATCHED_RMS = 0.2; /* Liu et al. 2025, "Muon is scalable for LLM training" */

struct gls *gls_new(int count) {
  struct gls *gls = memory_new(1, sizeof *gls);
  if (!gls) return NULL;
  gls->count = count;
  gls->layer = memory_new((size_t)count, sizeof *gls->layer);
  gls->handled = memory_new((size_t)count, sizeof *gls->handled);
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
  }
  memory_delete(gls->layer);
  memory_delete(gls->handled);
  memory_delete(gls->watch);
  memory_delete(gls);
}

int gls_watch_layers(struct gls *gls) {
  if (!gls->watch) gls->watch = memory_new((size_t)gls->count, sizeof *gls->watch);
  return gls->watch ? STATUS_OK : STATUS_ERROR;
}

/* All layers of one step. */
struct step {
  struct gls_system *system;
  int count;
};

/* ---- momentum ---- */

static int open_velocity(struct gls_system *system) {
  struct tensor **velocity = &system->layer->velocity;
  if (!*velocity)
    *velocity = tensor_zeros(TYPE_REAL, &(struct shape){.rank = 2, .size = {system->extended, system->outputs}});
  return *velocity ? STATUS_OK : STATUS_ERROR;
}

/* velocity := keep · velocity + scale · U */
static void blend(const struct gls_system *system, struct tensor *velocity, double keep, double scale) {
  real *v = tensor_real(velocity);
  int64_t d = system->inputs, m = system->outputs;
  if (system->u)
    vector_combine(v, (real)keep, tensor_real(system->u), (real)scale, system->extended * m);
  else
    direction_add(system, scale, keep, v, system->bias ? v + d * m : NULL);
}

/* The direction becomes V := β V + (1 − β) U. Under the automatic rate, which may still fail, V is a new tensor that
   apply puts in its place. */
static int take_momentum(struct gls_system *system, const struct gls_options *options) {
  if (deal_divides_direction(system)) STATUS_TRY(direction_form(system));
  struct tensor *old = system->layer->velocity;
  struct tensor *velocity = options->automatic ? tensor_copy(old) : tensor_retain(old);
  if (!velocity) return STATUS_ERROR;
  blend(system, velocity, options->momentum, 1 - options->momentum);
  tensor_release(system->u);
  system->u = velocity;
  system->u_square = system_dot(system->u, system->u);
  if (!options->automatic) return STATUS_OK;
  STATUS_TRY(system_form_gradient(system));
  system->gradient_dot_u = system_dot(system->gradient, system->u);
  return STATUS_OK;
}

/* U, or V, becomes the nearest orthogonal matrix, so that the step is even over outputs. */
static int orthogonalise_direction(struct gls_system *system) {
  enum { ITERATIONS = 5 };
  if (!isfinite(system->u_square)) return STATUS_OK;
  STATUS_TRY(direction_form(system));
  if (system->u == system->layer->velocity) { /* V is not to change */
    struct tensor *u = tensor_copy(system->u);
    if (!u) return STATUS_ERROR;
    tensor_release(system->u);
    system->u = u;
  }
  STATUS_TRY(newton_schulz(tensor_real(system->u), system->extended, system->outputs, ITERATIONS));
  system->u_square = system_dot(system->u, system->u);
  return STATUS_OK;
}

static void keep_velocity(struct gls_system *system) {
  struct tensor **slot = &system->layer->velocity, *old = *slot;
  *slot = tensor_retain(system->u);
  tensor_release(old);
}

/* ---- what is watched ---- */

static struct gls_watch *watch_of(const struct gls *gls, const struct gls_system *system) {
  return gls->watch ? &gls->watch[system->layer - gls->layer] : NULL;
}

/* ‖G‖² of all uses; NaN where backward has left something else. */
static double output_gradient_square(const struct gls_system *system) {
  const struct gradient *gradient = system->weight->gradient;
  double sum = gradient->dense || factors_recur(system) ? NAN : 0;
  for (int i = 0; i < gradient->factor_count && !isnan(sum); i++) {
    const struct tensor *g = gradient->factor[i].gradient;
    sum += tensor_is_contiguous(g) ? vector_dot(tensor_real(g), tensor_real(g), tensor_count(g)) : NAN;
  }
  return sum;
}

/* ⟨A U, n G⟩ / ‖n G‖². By the dual, where A U = n (G − λ α), of each part of the batch for itself. */
static int watch_direction(const struct gls *gls, const struct gls_system *system, double terms) {
  struct gls_watch *watch = watch_of(gls, system);
  if (!watch) return STATUS_OK;
  bool by_alpha = system->alpha && !system->failed;
  double square = by_alpha ? system_dot(system->g, system->g) : output_gradient_square(system);
  double by_lambda = by_alpha ? system_dot(system->g, system->alpha) : 0;
  if (by_alpha) STATUS_TRY(shared_number(system, &by_lambda));
  STATUS_TRY(by_alpha ? shared_number(system, &square) : ranks_add(system->share.ranks, &square, 1));
  watch->damping = system->lambda;
  watch->retries += system->retries;
  watch->fallbacks += system->failed;
  watch->fraction = by_alpha ? 1 - system->lambda * by_lambda / square : system->gradient_dot_u / (terms * square);
  return STATUS_OK;
}

static void watch_step(const struct gls *gls, const struct gls_system *system, bool limited) {
  struct gls_watch *watch = watch_of(gls, system);
  if (!watch) return;
  watch->stepped = true;
  watch->step = system->step;
  watch->change = fabs(system->step) * sqrt(system->u_square / (double)(system->extended * system->outputs));
  watch->limits += limited;
}

/* ---- the step ---- */

/* The norm of a layer's step at η = 1. Spectral: √outputs, that of an orthogonal matrix times √max(1, outputs/inputs)
   (Jordan et al. 2024, Muon). The norm of weights as He initialises them goes with √outputs too, so that all layers
   change by the same share; in a ResNet, whose batch norms make that share what counts, the validation loss ends 0.03
   lower than with the matched step (experiments/README.md, section 10). */
static double norm_of_step(const struct gls_system *system, enum gls_graft graft) {
  double outputs = (double)system->outputs;
  if (graft == GRAFT_SGD) return sqrt(system->gradient_square);
  return graft == GRAFT_RMS ? MATCHED_RMS * sqrt((double)system->extended * outputs) : sqrt(outputs);
}

static double length_of_step(const struct gls_system *system, double eta, enum gls_graft graft) {
  if (graft == GRAFT_NONE) return eta;
  double norm = sqrt(system->u_square);
  return norm > 0 ? eta * norm_of_step(system, graft) / norm : 0;
}

/* The Gauss-Newton model is linear in the weights. Along a recurrence their change multiplies with itself: without a
   bound an LSTM's loss went from 4.2 to 50 (experiments/README.md, section 5). The bound is on all layers: with the
   recurrent ones alone bound it is trained less well. */
static double trust_of(const struct step *step, const struct gls_options *options) {
  static const double RECURRENT_TRUST = 0.1;
  if (options->trust >= 0) return options->trust;
  for (int i = 0; i < step->count && options->automatic; i++)
    if (factors_recur(&step->system[i]) || factors_loop(&step->system[i])) return RECURRENT_TRUST;
  return 0;
}

static int choose_steps(struct gls *gls, struct step *step, const struct gls_options *options,
                        const struct loss_rows *batch) {
  double eta = options->learning_rate, mu = 0, trust = trust_of(step, options);
  if (options->automatic && options->graft == GRAFT_NONE) {
    STATUS_TRY(curvature_step(step->system, step->count, options, batch, &eta, &mu));
    eta *= options->learning_rate;
  }
  for (int i = 0; i < step->count; i++) {
    struct gls_system *system = &step->system[i];
    system->step = length_of_step(system, eta, options->graft);
    double reach = system->step * system->step * system->gradient_dot_u;
    bool limited = trust > 0 && reach > trust;
    if (limited) {
      system->step *= sqrt(trust / reach);
      gls->report.trust_limits++;
    }
    watch_step(gls, system, limited);
  }
  gls->report.learning_rate = eta;
  gls->report.momentum = options->automatic_momentum ? mu : options->momentum;
  return STATUS_OK;
}

static bool momentum_on_direction(const struct gls_options *options) {
  return options->momentum > 0 && options->statistics != STATISTICS_MOVING;
}

static int apply(struct gls *gls, struct step *step, const struct gls_options *options) {
  double keep = 1 - options->learning_rate * options->weight_decay;
  for (int i = 0; i < step->count && options->automatic_momentum; i++) STATUS_TRY(open_velocity(&step->system[i]));
  for (int i = 0; i < step->count; i++) {
    struct gls_system *system = &step->system[i];
    if (deal_divides_direction(system)) STATUS_TRY(direction_form(system));
    if (options->automatic_momentum) { /* P := μ P − η U, then W := W + P */
      blend(system, system->layer->velocity, gls->report.momentum, -system->step);
      tensor_release(system->u);
      system->u = tensor_retain(system->layer->velocity);
      direction_apply(system, -1, keep);
    } else {
      if (options->automatic && momentum_on_direction(options)) keep_velocity(system);
      direction_apply(system, system->step, keep);
    }
  }
  return STATUS_OK;
}

/* Large factorisations in turn, with all threads; small ones side by side, a thread each. */
static int factorise_all(struct step *step, const struct ranks *ranks) {
  enum { ALONE_LEAST = 384 };
  int small = 0;
  STATUS_TRY(deal_factorisations(step->system, step->count, ranks));
  for (int i = 0; i < step->count; i++) {
    struct gls_system *system = &step->system[i];
    if (!system->stale || !deal_is_here(system)) continue;
    bool alone = system->matrix->shape.size[1] >= ALONE_LEAST;
    if (alone) system_factorise(system);
    small += !alone;
  }
  if (small > 0) {
#pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < step->count; i++) {
      struct gls_system *system = &step->system[i];
      if (system->stale && deal_is_here(system) && system->matrix->shape.size[1] < ALONE_LEAST)
        system_factorise(system);
    }
  }
  for (int i = 0; i < step->count; i++) {
    struct gls_system *system = &step->system[i];
    STATUS_TRY(shared_damping(system));
    STATUS_TRY(deal_result(system));
  }
  return STATUS_OK;
}

static bool moves(void *context, const struct tensor *leaf) {
  const struct step *step = context;
  for (int i = 0; i < step->count; i++)
    if (step->system[i].weight == leaf || step->system[i].bias == leaf) return true;
  return false;
}

/* Finds the layers, and whatever forbids the step, before any state has changed. */
static int open_all(struct gls *gls, struct step *step, struct tensor *const *parameter,
                    const struct gls_options *options) {
  for (int i = 0; i < gls->count; i++) {
    struct gls_system *system = &step->system[step->count];
    bool is_layer;
    STATUS_TRY(factors_open(system, parameter[i], parameter, gls->count, &is_layer));
    if (!is_layer) continue;
    step->count++; /* from here on closed by the caller */
    system->layer = &gls->layer[i];
    system->place = i;
    for (int k = 0; k < gls->count; k++)
      if (parameter[k] == system->weight || parameter[k] == system->bias) gls->handled[k] = true;
  }
  return options->automatic && options->graft == GRAFT_NONE ? tape_curvature_known(moves, step) : STATUS_OK;
}

/* What has to be equal on all ranks, and what they have of the batch. */
struct agreement {
  int64_t failed, watched, layers, batch, terms;
};

/* The same layers, in number, place and use, as one number. */
static int64_t digest_of(const struct gls *gls, const struct step *step) {
  uint64_t digest = 14695981039346656037u; /* FNV-1a */
  for (int i = 0; i < step->count; i++) {
    const struct gls_system *system = &step->system[i];
    uint64_t word[] = {(uint64_t)(system->layer - gls->layer), system->bias != NULL, (uint64_t)factors_uses(system),
                       system->weight->gradient->dense != NULL};
    for (size_t k = 0; k < sizeof word / sizeof *word; k++) digest = (digest ^ word[k]) * 1099511628211u;
  }
  return (int64_t)digest;
}

/* All ranks step, or none does. */
static int agree(struct gls *gls, const struct step *step, const struct ranks *ranks, int status,
                 struct loss_rows *batch) {
  batch->own = batch->all;
  if (!ranks) return status;
  struct agreement own = {status != STATUS_OK, gls->watch != NULL, digest_of(gls, step), batch->all, batch->terms};
  struct agreement *all = memory_new((size_t)ranks->size, sizeof *all);
  if (!all) return STATUS_ERROR;
  int gathered = ranks_gather(ranks, all, &own, sizeof own);
  batch->all = batch->terms = 0;
  bool watched = false;
  for (int r = 0; r < ranks->size && status == STATUS_OK && gathered == STATUS_OK; r++) {
    if (all[r].failed)
      status = status_error("gls: rank %d failed in this step", r);
    else if (all[r].layers != all[0].layers)
      status = status_error("gls: rank %d has other layers in this step", r);
    watched = watched || all[r].watched;
    if (r < ranks->rank) batch->before += all[r].batch;
    batch->all += all[r].batch;
    batch->terms += all[r].terms;
  }
  memory_delete(all);
  if (watched && status == STATUS_OK) status = gls_watch_layers(gls);
  return status == STATUS_OK ? gathered : status;
}

/* n: the terms of the loss, or, where that is no loss op, the rows of the layer that was used last, on all ranks. A
   convolution's rows, one for every place of an image, are not those that a loss behind a linear layer is the mean
   over. */
static int count_samples(double *samples, int64_t terms, const struct ranks *ranks) {
  *samples = (double)(terms > 0 ? terms : factors_rows_of_last());
  if (terms <= 0) STATUS_TRY(ranks_add(ranks, samples, 1));
  if (*samples <= 0) *samples = 1;
  return STATUS_OK;
}

static int solve_all(struct gls *gls, struct step *step, const struct gls_options *options, int64_t terms,
                     bool *finite) {
  for (int i = 0; i < step->count; i++) {
    profile_begin("optimizer", "statistics");
    STATUS_TRY(profile_ended(layer_gather(&step->system[i], options)));
  }
  double samples;
  STATUS_TRY(count_samples(&samples, terms, options->ranks));
  for (int i = 0; i < step->count; i++) {
    profile_begin("optimizer", "statistics");
    STATUS_TRY(profile_ended(layer_prepare(&step->system[i], options, samples)));
  }
  profile_begin("optimizer", "factorisations");
  STATUS_TRY(profile_ended(factorise_all(step, options->ranks)));
  for (int i = 0; i < step->count; i++) {
    struct gls_system *system = &step->system[i];
    profile_begin("optimizer", "directions");
    STATUS_TRY(profile_ended(layer_solve(system, options, &gls->report)));
    STATUS_TRY(watch_direction(gls, system, samples));
    if (!isfinite(system->gradient_dot_u) || !isfinite(system->u_square)) *finite = false;
  }
  if (!*finite) return STATUS_OK;
  bool momentum = momentum_on_direction(options);
  for (int i = 0; i < step->count && momentum; i++) STATUS_TRY(open_velocity(&step->system[i]));
  for (int i = 0; i < step->count; i++) {
    profile_begin("optimizer", "momentum");
    STATUS_TRY(profile_ended(momentum ? take_momentum(&step->system[i], options) : STATUS_OK));
    profile_begin("optimizer", "orthogonal");
    STATUS_TRY(profile_ended(options->orthogonal ? orthogonalise_direction(&step->system[i]) : STATUS_OK));
    if (!isfinite(step->system[i].u_square)) *finite = false;
  }
  return STATUS_OK;
}

int gls_step(struct gls *gls, struct tensor *const *parameter, const struct gls_options *options) {
  struct step step = {.system = memory_new((size_t)gls->count, sizeof *step.system)};
  for (int i = 0; i < gls->count; i++) gls->handled[i] = false;
  struct loss_rows batch = {0};
  bool finite = true;
  tape_loss_rows(&batch.all, &batch.terms);
  int status = step.system ? open_all(gls, &step, parameter, options) : STATUS_ERROR;
  status = agree(gls, &step, options->ranks, status, &batch);
  if (status == STATUS_OK) status = solve_all(gls, &step, options, batch.terms, &finite);
  profile_begin("optimizer", "step size");
  if (status == STATUS_OK && finite && step.count > 0) status = choose_steps(gls, &step, options, &batch);
  profile_end();
  profile_begin("optimizer", "weights");
  if (status == STATUS_OK && finite) status = apply(gls, &step, options);
  profile_end();
  if (status == STATUS_OK && !finite) { /* nothing moves, fallback parameters neither */
    gls->report.skipped_steps++;
    for (int i = 0; i < gls->count; i++) gls->handled[i] = true;
  }
  if (status == STATUS_OK) gls->report.steps++;
  for (int i = 0; i < step.count && step.system; i++) system_close(&step.system[i]);
  memory_delete(step.system);
  return status;
}
