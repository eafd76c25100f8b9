/* GEMM by AVX-512, inside: micro-kernels, which make one micro-tile of the result with its sums in registers, and the
   packing of operands into the panels that they read. Compiled where VECTOR_BYTES is 64.
   A left panel is depth × rows (at most GEMM_ROWS), a right one depth × GEMM_COLUMNS. */
#ifndef GLS_KERNELS_GEMM_KERNEL_H
#define GLS_KERNELS_GEMM_KERNEL_H

#include <stdint.h>
#include "../../base/simd.h"

enum {
  GEMM_ROWS = 14,                  /* of a micro-tile: 28 sums and what feeds them fill 32 registers */
  GEMM_COLUMNS = 2 * VECTOR_LANES, /* the same */
  GEMM_PREFETCHES = 12             /* places that a micro-kernel prefetches from */
};

/* One micro-tile: c = alpha · (left · right) + beta · base, and what happens on the way. */
struct gemm_tile {
  int64_t depth;
  const real *left;
  int64_t left_step; /* from one k to the next */
  const real *right; /* steps of GEMM_COLUMNS, unless it is unpacked */
  /* An unpacked operand is read where it lies, unpacked_step from one k to the next, and packed on the way. */
  int64_t unpacked_step;
  real *packed;
  real *c;
  int64_t ldc;
  real alpha, beta;
  const real *base; /* ldbase apart; not read when beta is 0 */
  int64_t ldbase;
  /* Prefetched meanwhile: GEMM_COLUMNS reals at each of these places, and in the rows below, prefetch_rows in all. */
  const real *prefetch[GEMM_PREFETCHES];
  int prefetch_count;
  int64_t prefetch_rows, prefetch_stride;
};

enum gemm_kind {
  GEMM_PLAIN,
  GEMM_PREFETCH_READ, /* what is prefetched will be read */
  GEMM_PREFETCH_WRITE,
  GEMM_UNPACKED_LEFT,  /* its rows contiguous: packed rows apart */
  GEMM_UNPACKED_RIGHT, /* its columns contiguous */
  GEMM_KINDS
};

typedef void gemm_kernel(const struct gemm_tile *tile);
/* By kind and rows: whole micro-tiles; and plain ones of VECTOR_LANES columns. */
extern gemm_kernel *const gemm_kernels[GEMM_KINDS][GEMM_ROWS + 1];
extern gemm_kernel *const gemm_half_kernels[GEMM_ROWS + 1];
/* A plain micro-tile of which only the first columns lie within c. */
void gemm_edge(int64_t rows, int64_t columns, const struct gemm_tile *tile);

/* outer: the rows of the left operand, the columns of the right one. One of the strides is 1. */
struct gemm_operand {
  const real *data;
  int64_t outer, outer_stride, inner_stride; /* inner is k */
};

static inline const real *gemm_operand_at(const struct gemm_operand *operand, int64_t outer, int64_t inner) {
  return operand->data + outer * operand->outer_stride + inner * operand->inner_stride;
}

/* A left panel from rows row…; a store may go VECTOR_LANES past its end. */
void gemm_pack_left(real *to, const struct gemm_operand *left, int64_t row, int64_t rows, int64_t inner, int64_t depth);
/* Right panels, depth · GEMM_COLUMNS apart, from columns column…; the last, if it is not full, gets zeros. */
void gemm_pack_right(real *to, const struct gemm_operand *right, int64_t column, int64_t columns, int64_t inner,
                     int64_t depth);

#endif
