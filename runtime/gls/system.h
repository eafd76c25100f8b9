/* System: the linear system of one layer's direction U in one step, and what its solvers share. Equations: step.c. */
#ifndef GLS_GLS_SYSTEM_H
#define GLS_GLS_SYSTEM_H

#include <math.h>

#include "../base/vector.h"
#include "../kernels/linalg/linalg.h"
#include "gls.h"

/* Rows of A and G on the ranks that make the step together (ranks.c). */
struct shared_rows {
  const struct ranks *ranks;  /* NULL: one process, whose are all rows */
  int64_t *count;             /* of A, use by use: uses × ranks */
  int64_t held;               /* of A on all ranks: those of the batch, or few that stand for them */
  int64_t own, before;        /* of the batch: this rank's, and those of the ranks before it */
  bool gathered;              /* a and g are those of all ranks */
  bool dealt;                 /* a and g are those of this rank's parts; U is summed */
  int64_t rows, parts, first; /* of all ranks, and this rank's first part */
  int owner;                  /* the rank that makes the factor for all; -1: every rank */
};

/* From A and G to U; chosen by layer.c, where their costs are. */
enum gls_solver {
  SOLVER_PRIMAL,   /* matrix is S, U comes from the gradient */
  SOLVER_DUAL,     /* matrix is K, U comes from the factors */
  SOLVER_WOODBURY, /* matrix is K of the window or of few rows, U comes from the gradient */
};

struct gls_system {
  struct tensor *weight, *bias; /* borrowed leaves; bias NULL when there is none to step */
  int place;                    /* of the weight among the parameters */
  bool has_bias;                /* there is one, to step or not */
  struct gls_layer *layer;      /* borrowed state */
  int64_t inputs, extended;     /* d, and d + 1 with a bias */
  int64_t outputs;              /* m */
  int64_t batch_rows;           /* of this batch on all ranks, all uses stacked; dealt: this rank's */
  int64_t rows;                 /* of A below: those of the batch, or of the window */
  int64_t parts;                /* of the batch that are solved each by itself, or 1; dealt: this rank's */
  double scale;                 /* by how much AᵀA has to be multiplied to stand for all rows */
  double samples;               /* n; with a window what n would be for as many rows */
  double lambda;
  enum gls_solver solver;
  bool by_rows;                   /* U = Yᵀ G, G the batch's alone */
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
  double step;                                      /* this layer's η, set by step.c */
  struct shared_rows share;
};

void system_close(struct gls_system *system);
/* Whether A U and the lengths of U are of use: with momentum its own count. */
bool system_products_are_used(const struct gls_options *options);

/* ---- parts of the batch ---- */
/* Rows of the batch that are solved together; their matrix and factor begin at `at` of the layer's. */
struct part {
  int64_t start, count, at;
};
struct part system_part(const struct gls_system *system, int64_t p);
/* Whether there are enough of them for every thread to have its own, which costs less than to share them. (Where not,
   no parallel region may be around the loop: inside one of a single thread OpenMP makes new threads for every
   product.) */
bool system_parts_in_parallel(const struct gls_system *system);
/* The trace of the matrix, averaged over the parts. */
int system_trace(const struct gls_system *system, double *trace);

/* ---- factor and right-hand sides ---- */
/* factor := Cholesky of (matrix + λ I); λ is raised tenfold while that fails. Safe to call for several systems at
   once. */
void system_factorise(struct gls_system *system);
/* b (rows × columns) := (K + λI)⁻¹ b, part by part. */
int system_solve_parts(const struct gls_system *system, real *b, int64_t columns);
/* Makes gradient. */
int system_form_gradient(struct gls_system *system);

/* ---- matrices ---- */
/* Lower triangle of to = scale · (from + more), n × n. */
void system_copy_lower(real *to, const real *from, int64_t n, real scale, real more);
/* ⟨G, K G⟩ for K (n × n) of which the lower triangle is there; the upper one is filled in. */
int system_quadratic_form(struct tensor *k, const struct tensor *g, double *form);
/* to (m) += scale · Σ of x's rows (rows × m), with weights stride apart, or 1. */
void system_add_rows(real *to, double scale, const struct tensor *x, const real *weight, int64_t stride);

static inline struct tensor *system_matrix(int64_t rows, int64_t columns) {
  return tensor_new(TYPE_REAL, &(struct shape){2, {rows, columns}});
}

static inline double system_dot(const struct tensor *a, const struct tensor *b) {
  return vector_dot(tensor_real(a), tensor_real(b), tensor_count(a));
}

/* ---- state.c ---- */
/* The layer's state from earlier steps becomes that of a layer with as many rows; an error where it is another's. */
int state_fit(struct gls_system *system);

/* ---- ranks.c: what ranks share, nothing in one process ---- */
/* A number of each rank's rows becomes that of all rows, where the rows at hand are not all. */
int shared_number(const struct gls_system *system, double *number);
/* ‖A‖² of all ranks. Of averages: what is not finite goes into none. */
int shared_input_square(const struct gls_system *system, double *square);
/* The sum of all ranks' lower triangles, n × n. */
int shared_lower(const struct gls_system *system, real *s, int64_t n);
/* count[r]: rows of one use on rank r (there are size); *all of them, *before those of lower ranks. */
int shared_counts(const struct gls_system *system, int64_t rows, int64_t *count, int64_t *all, int64_t *before);
/* A, and G where it is of use, become those of all ranks, in the order of one process. */
int shared_gather(struct gls_system *system);
/* Every rank gets the rows of whole parts. They stay where they are, where that is so already. */
int shared_deal(struct gls_system *system);
/* U of this rank's parts becomes the sum over all. */
int shared_direction(struct gls_system *system);
/* Dealt: λ becomes the greatest that any rank has needed. */
int shared_damping(struct gls_system *system);

/* What ranks tell each other of a factorisation. */
struct factorised {
  double lambda;
  int64_t failed, retries;
};

/* ---- deal.c ---- */
/* Who makes which factor. */
int deal_factorisations(struct gls_system *system, int count, const struct ranks *ranks);
bool deal_is_here(const struct gls_system *system);
/* The owner's factor, λ and failure become all ranks'. */
int deal_result(struct gls_system *system);
/* b (n × columns) := (K + λI)⁻¹ b or (S + λI)⁻¹ b of one system, the same on all ranks. */
int deal_solve(const struct gls_system *system, int64_t n, real *b, int64_t columns);
/* Whether U, a product of factors that all ranks have, is less work in blocks of its rows. */
bool deal_divides_direction(const struct gls_system *system);
/* u (d × m) := leftᵀ right, left's rows step apart. */
int deal_direction(const struct gls_system *system, const struct tensor *left, int64_t step, const struct tensor *right,
                   real *u);
/* The same of AAᵀ. */
bool deal_divides_gram(const struct gls_system *system);
/* k (lower triangle, rows × rows) := scale · AAᵀ. */
int deal_gram(const struct gls_system *system, real scale, real *k);

/* ---- factors.c ---- */
/* Finds the factors that backward left at a weight. *is_layer is false when there are none. A bias that is among the
   parameters and serves this weight's uses alone is stepped with it. */
int factors_open(struct gls_system *system, struct tensor *weight, struct tensor *const *parameter, int count,
                 bool *is_layer);
/* Rows of all uses of the weight that was used last of those that backward has passed, whoever steps it. */
int64_t factors_rows_of_last(void);
/* How often the weight was used. */
int factors_uses(const struct gls_system *system);
/* Whether a use is within a recurrence (op_affine's products). */
bool factors_recur(const struct gls_system *system);
/* Whether a script has looped over the weight: a use is given what at least three others have made. */
bool factors_loop(const struct gls_system *system);
/* Whether the factors of all uses cost nothing. */
bool factors_are_direct(const struct gls_system *system);
/* All uses stacked: A and G, and scale. */
int factors_gather(struct gls_system *system, const struct gls_options *options);

#endif
