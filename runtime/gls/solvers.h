/* Solvers: from A and G to the direction U, one file each; layer.c chooses among them. */
#ifndef GLS_GLS_SOLVERS_H
#define GLS_GLS_SOLVERS_H

#include "system.h"

/* ---- dual.c ---- */
/* matrix = K = (A Aᵀ + 1 1ᵀ) / n, the ones where there is a bias; of parts one below the other. */
int dual_matrix(struct gls_system *system);
/* α, A U and their products. */
int dual_solve(struct gls_system *system, const struct gls_options *options);

/* ---- primal.c ---- */
/* matrix = S, averaged over steps where the statistics move: a plain mean at first, so that it needs no correction. A
   batch whose inputs are not finite leaves the average as it is. */
int primal_statistics(struct gls_system *system, const struct gls_options *options);
/* U and its products. */
int primal_solve(struct gls_system *system, const struct gls_options *options);

/* ---- rows.c ---- */
/* Whether Y is less work than what else would be done with these factors. */
bool rows_are_less(const struct gls_system *system, const struct gls_options *options);
/* Y, A U and its products. */
int rows_solve(struct gls_system *system, const struct gls_options *options);

/* ---- window.c ---- */
/* The window takes in this batch's rows, the oldest go; a, rows and samples become the window's. *whole: the batch is
   in it undivided, its rows the last. A batch whose inputs are not finite is not taken in, and stands alone. */
int window_extend(struct gls_system *system, int64_t most, bool *whole);
/* G in its rows' places, zeros above. */
int window_spread(struct gls_system *system);
/* u (extended × m) := (S + λI)⁻¹ u by Woodbury's identity, S from a, given the factor of K + λI. */
int window_solve(struct gls_system *system);

#endif
