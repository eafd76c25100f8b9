/* GLS, gradient least squares: one step over a parameter list. From top to bottom:
   step.c             the step: all layers' directions, the lengths of their steps, momentum; the equations
   curvature.c        the automatic learning rate: the Gauss-Newton model of the loss along the direction
   curvature_rows.c   which of the batch's rows that is measured on
   layer.c, layer.h   one layer: the choice of the solver that costs least, and the fall back to SGD's direction
   dual.c primal.c rows.c window.c, solvers.h    the solvers
   direction.c        U, or the factors that it is the product of, into the weights
   state.c            what was kept of earlier steps, where a bias has left the step since or come into it
   factors.c          A and G, as backward left them
   ranks.c            the same of several processes that make the step together
   deal.c             which of them makes which factorisation, and solves for which right-hand sides
   system.c, system.h what all solvers share: the layer's linear system, its Cholesky factor, its right-hand sides */
#ifndef GLS_GLS_H
#define GLS_GLS_H

#include "../base/ranks.h"
#include "../grad/tape.h"

enum gls_graft { GRAFT_NONE, GRAFT_SGD, GRAFT_RMS, GRAFT_SPECTRAL };
enum gls_statistics { STATISTICS_BATCH, STATISTICS_MOVING, STATISTICS_WINDOW };

struct gls_options {
  double damping;       /* ρ: λ = ρ · tr(AᵀA/n) / min(rows, d) */
  bool automatic;       /* η by forward mode and Gauss-Newton; learning_rate is then a factor on it (schedule) */
  double learning_rate; /* η; with a graft that of the length it gives the step (step.c) */
  double delta;         /* caution of the automatic step: curvature × (1 + delta) */
  /* Fraction of the batch's rows for the curvature, 0 to 1; negative: a quarter, in recurrent nets all. Where the
     loss is not quadratic they are drawn by their share in its curvature. */
  double rows;
  double momentum; /* β */
  /* STATISTICS_MOVING: β V + (1 − β) g in place of V, which g has entered already. On ResNet-8 the validation loss ends
     0.03 lower in the median of three seeds, on ResNet-20 0.013 (experiments/README.md, section 10). */
  bool nesterov;
  bool automatic_momentum; /* η and μ together */
  enum gls_graft graft;    /* layer by layer */
  enum gls_statistics statistics;
  double decay;        /* of the moving statistics */
  int refresh;         /* steps between their factorisations */
  int64_t window;      /* STATISTICS_WINDOW: rows of A that are kept */
  double weight_decay; /* decoupled; times learning_rate (automatic: times its factor alone) */
  /* κ: η²⟨U, g⟩ ≤ κ per layer; 0 is off; negative: 0.1 where the rate is automatic and a weight of the step is used
     over and over on what it has made itself. */
  double trust;
  /* Patches of convolutions: how many rows the statistics are made from; 0: all; negative: 5 an image, 128 to 512. */
  int64_t statistics_rows;
  bool orthogonal; /* GRAFT_RMS, GRAFT_SPECTRAL: the direction is replaced by the nearest orthogonal matrix */
  int64_t part;    /* linear layers, momentum with a step of given length: most rows solved together; 0: all */
  const struct ranks *ranks; /* those that make the step together, each with its rows of the batch; NULL: none */
};

/* What the guards did, and the last step. */
struct gls_report {
  int64_t steps, cholesky_retries, direction_fallbacks, trust_limits, skipped_steps;
  double learning_rate, momentum; /* η and μ of the last step */
};

/* One layer in the last step. */
struct gls_watch {
  bool stepped;
  double damping;  /* λ */
  double fraction; /* of the change of the outputs that is wanted, −n G: what −U makes of it; NaN: not known */
  double step;     /* η */
  double change;   /* root mean square of the change of the weights */
  int64_t retries, fallbacks, limits; /* of the guards, in all steps */
};

/* One affine layer: a weight, maybe a bias, and the state. All tensors are NULL until needed. */
struct gls_layer {
  struct tensor *velocity;   /* (d or d + 1) × m: V, or the last step under automatic momentum */
  struct tensor *covariance; /* moving S, (d or d + 1)² */
  struct tensor *cholesky;   /* factor of S + λI */
  struct tensor *window;     /* the last rows of A, oldest first, without the column of ones */
  struct tensor *gram;       /* their products with each other, lower triangle: those of gram_window's rows */
  struct tensor *gram_window;
  int64_t updates; /* of the moving statistics */
};

struct gls {
  int count;               /* of parameters, and of the arrays below */
  struct gls_layer *layer; /* layer[i] belongs to parameter i when that is a weight with factors */
  bool *handled;           /* parameter i was stepped by GLS in the last step */
  struct gls_watch *watch; /* of each layer; NULL: nobody asks */
  struct gls_report report;
};

struct gls *gls_new(int count);
void gls_delete(struct gls *gls);
/* From the next step on watch is filled in: a reading more of every layer's gradient. */
int gls_watch_layers(struct gls *gls);
/* One step. Parameters that no affine op used (or that have no gradient) are left, handled[i] = false: theirs is the
   caller's fallback. */
int gls_step(struct gls *gls, struct tensor *const *parameter, const struct gls_options *options);

#endif
