/* Linear algebra on plain arrays, row-major, with leading dimensions. Nothing here knows a tensor or an op. Results do
   not depend on the number of threads.
   gemm.c              products and Gram matrices: the table of back ends (gemm.h), which are
     gemm_matrix_unit.c  AMX, to float32's accuracy
     gemm_vector.c       AVX-512; gemm_thin.c the same for narrow results; gemm_kernel.c their micro-kernels and packing
     gemm_blas.c         BLAS
   gemm_panel.c        many small products whose right operand is packed once
   trsm.c              triangular solves
   cholesky.c          the Cholesky factor
   lapack.c            eigenproblems, QR, singular values, LU
   newton_schulz.c     the nearest orthogonal matrix, by products alone; newton_schulz_tiles.c by AMX in bfloat16
   tiles.h             what the users of AMX share */
#ifndef GLS_KERNELS_LINALG_H
#define GLS_KERNELS_LINALG_H

#include <stdbool.h>
#include <stdint.h>

#include "../../base/real.h"
#include "../../base/status.h"

/* ---- gemm_blas.c ---- */
/* Before anything else, and before there are more threads: OpenBLAS gets its buffers, for so many callers at a time.
   Where there is no memory for one it would ask again for ever. */
int linalg_start(int threads);

/* ---- gemm.c ---- */
/* c (m×n) = alpha · op(a) op(b) + beta · c. With beta = 0 c is not read. */
void gemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, real alpha, const real *a, int64_t lda,
          const real *b, int64_t ldb, real beta, real *c, int64_t ldc);

/* c (m×n, contiguous) = op(a) op(b) + 1 biasᵀ */
void gemm_bias(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, const real *a, int64_t lda,
               const real *b, int64_t ldb, const real *bias, real *c);

/* alpha · op(a) op(b) (m×n) that is never stored: blocks that together cover it, rows × columns from (row, column) on,
   are handed to visit, from several threads, while they are in cache. */
struct gemm_block {
  int64_t row, rows, column, columns;
  const real *values; /* rows are stride apart */
  int64_t stride;
};
enum { GEMM_TOUCHED = 3 };
struct gemm_visitor {
  void (*visit)(void *context, const struct gemm_block *block);
  void *context;
  /* Arrays (m×n, contiguous) of which visit reads or writes its block's elements, so that these are prefetched; after
     the last NULL. */
  const real *touched[GEMM_TOUCHED];
};
int gemm_visit(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, real alpha, const real *a,
               int64_t lda, const real *b, int64_t ldb, const struct gemm_visitor *visitor);

/* Lower triangle of c (n×n) = alpha · A Aᵀ + beta · c, A n×k; with transpose alpha · Aᵀ A, A k×n. Blocks on the
   diagonal are written above it too. */
void syrk(bool transpose, int64_t n, int64_t k, real alpha, const real *a, int64_t lda, real beta, real *c,
          int64_t ldc);

/* ---- gemm_panel.c: right operands as panels, depth × GEMM_COLUMNS (gemm_kernel.h) one after the other ---- */
/* c (rows × columns, at most GEMM_COLUMNS) = leftᵀ · right + beta · c; left: depth × rows, left_step apart; right: one
   panel. */
void gemm_panel(real *c, int64_t ldc, const real *left, int64_t left_step, int64_t rows, const real *right,
                int64_t columns, int64_t depth, real beta);
/* Reals of op(b) (depth × columns) as panels, and packing it there. */
int64_t gemm_packed_reals(int64_t depth, int64_t columns);
void gemm_pack(real *to, bool transpose, const real *b, int64_t ldb, int64_t columns, int64_t depth);
/* c (rows × columns) = a · packed + beta · c; scratch: as many reals as gemm_packed_scratch says. */
int64_t gemm_packed_scratch(int64_t depth);
void gemm_packed(real *c, int64_t ldc, const real *a, int64_t lda, int64_t rows, const real *packed, int64_t columns,
                 int64_t depth, real beta, real *scratch);

/* ---- trsm.c ---- */
/* b (n×m) := (L Lᵀ)⁻¹ b, L the lower triangle of factor (n×n). */
int cholesky_solve(const real *factor, int64_t n, real *b, int64_t m);
/* The same where every row of b is a right-hand side (rows × n, ldb apart): b := b (L Lᵀ)⁻¹. The first `zeros` entries
   of all of them are known to be zero. */
void cholesky_solve_rows(const real *factor, int64_t n, real *b, int64_t ldb, int64_t rows, int64_t zeros);
/* b := b L⁻ᵀ, L the lower triangle of factor (n×n, its rows stride apart). */
void lower_solve_rows(const real *factor, int64_t n, int64_t stride, real *b, int64_t ldb, int64_t rows);

/* ---- cholesky.c ---- */
/* The lower triangle of a (n×n) becomes its Cholesky factor; false when it has none. What lies above the diagonal is
   overwritten. */
bool cholesky(real *a, int64_t n);

/* ---- lapack.c: contiguous matrices ---- */
/* a (n×n symmetric) becomes its eigenvectors, one a row; values ascend. */
int symmetric_eigen(real *a, int64_t n, real *values);

/* a (m×n, row-major) becomes the Q of its QR factorisation (m >= n: orthonormal columns; else of aᵀ's: orthonormal
   rows), signs such that R's diagonal is positive. */
int orthogonalise(real *a, int64_t m, int64_t n);

/* a = u · diag(s) · vt, k = min(m, n): u (m×k), s (k, descending), vt (k×n). a (m×n) is overwritten. */
int singular_values(real *a, int64_t m, int64_t n, real *u, real *s, real *vt);

/* a (n×n) becomes its LU factors, with exchanged rows: pivot (n). *exact_zero: the place from 1 of a pivot that is 0,
   or 0. */
int lu_factorise(real *a, int64_t n, int *pivot, int *exact_zero);
/* Every row of b (m×n) is a right-hand side: row := a⁻¹ row, of lu_factorise's results. */
int lu_solve_rows(const real *lu, const int *pivot, int64_t n, real *b, int64_t m);

/* ---- newton_schulz.c ---- */
/* x (m×n) becomes U Vᵀ, nearly, for x = U S Vᵀ, by products of bfloat16 where they are fast. Fails only when there is
   no memory; then x is overwritten. */
int newton_schulz(real *x, int64_t m, int64_t n, int iterations);

#endif
