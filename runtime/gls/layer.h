/* One layer's part of a GLS step: the linear system of its direction U. Equations: see gls.c.
   layer.c            the choice of the way that costs least, and what all ways share
   layer_factors.c    A and G, as backward left them
   layer_dual.c, layer_primal.c, layer_rows.c   the three ways to U
   layer_direction.c  U into the weights
   window.c           A of several batches         adaptive.c, scales.c   other directions */
#ifndef GLS_GLS_LAYER_H
#define GLS_GLS_LAYER_H

#include "../base/vector.h"
#include "../kernels/linalg/linalg.h"
#include "gls.h"

enum gls_system_kind { SYSTEM_LAYER, SYSTEM_NORM, SYSTEM_TABLE };

struct gls_system {
  enum gls_system_kind kind;
  struct tensor *weight, *bias; /* borrowed leaves; bias NULL when there is none to step */
  struct gls_layer *layer;      /* borrowed state */
  int64_t inputs, extended;     /* d, and d + 1 with a bias */
  int64_t outputs;              /* m */
  int64_t batch_rows;           /* of this batch, all uses stacked */
  int64_t rows;                 /* of A below: those of the batch, or of the window */
  int64_t parts;                /* of the batch that are solved each by itself, or 1 */
  double samples;               /* n; with a window what n would be for as many rows */
  double lambda;
  bool dual;
  bool by_rows;                   /* U = Yᵀ G, G the batch's alone */
  bool woodbury;                  /* matrix is K of the window, the direction comes from the gradient */
  struct tensor *matrix, *factor; /* K (of every part) or S, and the Cholesky factor of it + λI */
  bool stale;                     /* factor has still to be made from matrix */
  bool failed;                    /* no damping made it positive definite, or the solution is not finite */
  int64_t retries;
  struct tensor *a, *g;    /* dual: A (rows × d), G (rows × m); of a window the batch's rows come last */
  struct tensor *alpha;    /* dual: (K + λI)⁻¹ G */
  struct tensor *y;        /* by rows: [A 1] (S + λI)⁻¹, A of the batch; batch_rows × extended */
  struct tensor *product;  /* dual, by rows: A U */
  struct tensor *gradient; /* [AᵀG; 1ᵀG], extended × m, where it was needed */
  struct tensor *u;        /* the direction, extended × m; NULL while it is a product and not asked for */
  double gradient_dot_u, u_square, gradient_square; /* ⟨g, U⟩, ‖U‖², ‖g‖² */
  double step;                                      /* this layer's η, set by gls.c */
};

/* ---- layer_factors.c ---- */
/* Finds the factors that backward left at a weight. *is_layer is false when there are none. A bias that is among the
   parameters and serves this weight's uses alone is stepped with it. */
int layer_open(struct gls_system *system, struct tensor *weight, struct tensor *const *parameter, int count,
               bool *is_layer);
/* Whether the factors of all uses cost nothing. */
bool layer_is_direct(const struct gls_system *system);
/* All uses stacked: A and G, and by how much AᵀA has to be multiplied to stand for all rows. */
int layer_gather(struct gls_system *system, const struct gls_options *options, double *scale);

/* ---- layer.c ---- */
/* The direction in three steps, so that the factorisations of all layers, most too small for several threads, run side
   by side: the matrix K or S; its factor where it is stale (safe to call for several layers at once); U and its
   products. damping is ρ with all that guards have put on it. */
int layer_prepare(struct gls_system *system, const struct gls_options *options, double damping, double samples);
void layer_factorise(struct gls_system *system);
int layer_solve(struct gls_system *system, const struct gls_options *options, struct gls_report *report);
void layer_close(struct gls_system *system);
/* Whether A U and the lengths of U are of use: with momentum its own count. */
bool layer_products_are_used(const struct gls_options *options);
/* Rows of the batch that are solved together; their matrix and factor begin at `at` of the layer's. */
struct layer_part {
  int64_t start, count, at;
};
struct layer_part layer_part_of(const struct gls_system *system, int64_t p);
/* Whether there are enough of them for every thread to have its own, which costs less than to share them. (Where not,
   no parallel region may be around the loop: inside one of a single thread OpenMP makes new threads for every product.) */
bool layer_parts_in_parallel(const struct gls_system *system);
/* b (rows × columns) := (K + λI)⁻¹ b, part by part. */
int layer_solve_parts(const struct gls_system *system, real *b, int64_t columns);
/* Lower triangle of to = scale · (from + more), n × n. */
void layer_copy_lower(real *to, const real *from, int64_t n, real scale, real more);

static inline struct tensor *layer_matrix(int64_t rows, int64_t columns) {
  return tensor_new(TYPE_REAL, &(struct shape){2, {rows, columns}});
}

static inline double layer_dot(const struct tensor *a, const struct tensor *b) {
  return vector_dot(tensor_real(a), tensor_real(b), tensor_count(a));
}

/* ---- layer_dual.c ---- */
/* matrix = K = (A Aᵀ + 1 1ᵀ) / n, the ones where there is a bias; of parts one below the other. */
int layer_dual_matrix(struct gls_system *system);
/* α, A U and their products. */
int layer_dual_solve(struct gls_system *system, const struct gls_options *options);
/* ⟨G, K G⟩ for K (n × n) of which the lower triangle is there; the upper one is filled in. */
int layer_quadratic_form(struct tensor *k, const struct tensor *g, double *form);

/* ---- layer_primal.c ---- */
/* matrix = S, averaged over steps where the statistics move: a plain mean at first, so that it needs no correction. A
   batch whose inputs are not finite leaves the average as it is. */
int layer_primal_statistics(struct gls_system *system, const struct gls_options *options, double scale);
/* U and its products. */
int layer_primal_solve(struct gls_system *system, const struct gls_options *options);
/* Makes gradient. */
int layer_form_gradient(struct gls_system *system);

/* ---- layer_rows.c ---- */
/* Whether Y is less work than what else would be done with these factors. */
bool layer_rows_are_less(const struct gls_system *system, const struct gls_options *options);
/* Y, A U and its products. */
int layer_rows_solve(struct gls_system *system, const struct gls_options *options);

/* ---- layer_direction.c ---- */
/* Makes u from its factors. */
int layer_form_direction(struct gls_system *system);
/* w = keep · w − step · U, bias too (without decay). */
void layer_apply(struct gls_system *system, double step, double keep);
/* The same from U's factors (while u is NULL) into weight (d × m) and bias (m, or NULL): keep · itself + scale · U. */
void layer_add_direction(const struct gls_system *system, double scale, double keep, real *weight, real *bias);
/* to (m) += scale · Σ of x's rows (rows × m), with weights stride apart, or 1. */
void layer_add_rows(real *to, double scale, const struct tensor *x, const real *weight, int64_t stride);

/* ---- adaptive.c ---- */
/* Another eigenbasis from the moving average of AᵀA. */
int adaptive_refresh(struct gls_system *system);
/* The moments, and u with its products; failed when the gradient is not finite. */
int adaptive_solve(struct gls_system *system, const struct gls_options *options);

/* ---- scales.c ---- */
/* A norm's scale (and shift) or a table of rows, if the options want them stepped; the rest is set up by the caller. */
bool scales_open(struct gls_system *system, struct tensor *weight, struct tensor *const *parameter, int count,
                 const struct gls_options *options);
/* The whole of its direction and products. */
int scales_solve(struct gls_system *system, double damping, double samples);

/* ---- window.c ---- */
/* The window takes in this batch's rows, the oldest go; a, rows and samples become the window's. *whole: the batch is in
   it undivided, its rows the last. A batch whose inputs are not finite is not taken in, and stands alone. */
int window_extend(struct gls_system *system, int64_t most, bool *whole);
/* G in its rows' places, zeros above. */
int window_spread(struct gls_system *system);
/* u (extended × m) := (S + λI)⁻¹ u by Woodbury's identity, S from a, given the factor of K + λI. */
int window_solve(struct gls_system *system);

#endif
