/* Gemm tiles: matrix products on the matrix unit of x86 processors (AMX, bf16), to float32's accuracy.
   Every float is the exact sum of three bf16 numbers, x = high + middle + low. Of the nine products of two such sums
   the six largest are formed and added up in float32; the other three are below 2⁻²⁵ of the product, less than what
   rounding it to float32 costs. The result is as near to the exact one as sgemm's, or nearer, and infinities and NaN
   come out as sgemm has them. Numbers below 2⁻¹¹⁰ lose their low parts, those below 2⁻¹²⁶ count as zero.
   Source: Henry, Tang, Heinecke, "Leveraging the bfloat16 artificial intelligence datatype for higher-precision
   computations", ARITH 2019. */
#ifndef GLS_OPS_GEMM_TILES_H
#define GLS_OPS_GEMM_TILES_H

#include "op.h"

/* Row-major, as matmul_gemm. Where take is set the product is handed out in pieces of rows, and c is not there. */
struct gemm_product {
  bool transpose_a, transpose_b;
  int64_t m, n, k;
  real alpha;
  const real *a;
  int64_t lda;
  const real *b;
  int64_t ldb;
  real beta;
  real *c;
  int64_t ldc;
  bool lower; /* what lies above the diagonal need not be filled */
  matmul_take *take;
  void *context;
};

/* True when the product is done; false, with nothing done, when this processor has no such unit, when the product is
   too small to gain by it, when take is set and k is too long for it, or when there is no memory for the panels. */
bool gemm_tiles(const struct gemm_product *product);

/* Whether gemm_tiles may be used at all (at first it may); returns what was. */
bool gemm_tiles_allow(bool allowed);
/* Whether this processor has the unit, the system lets us use it, and the environment does not say GLS_MATRIX_UNIT=0. */
bool gemm_tiles_available(void);

#endif
