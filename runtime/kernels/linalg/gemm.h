/* GEMM: one matrix product, and the units of the processor that can make it.
   gemm.c         the choice between them, and BLAS where none of ours serves
   gemm_tiles.c   the matrix unit of x86 processors (AMX, bf16), to float32's accuracy
   gemm_vector.c  the vector unit (AVX-512), gemm_kernel.c its tiles and panels; gemm_thin.c narrow results
   gram.c         A Aᵀ and Aᵀ A */
#ifndef GLS_KERNELS_GEMM_H
#define GLS_KERNELS_GEMM_H

#include "linalg.h"

/* Row-major; as gemm, in the order of its arguments. With a bias (n numbers) every row of c begins as it, and beta counts for nothing. With a
   taker the product is handed out in pieces, and c is not there. */
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
  const real *bias;
  const struct gemm_visitor *taker;
};

enum gemm_unit { GEMM_TILES, GEMM_VECTOR, GEMM_UNITS };

/* True when the product is done; false, with nothing done, when this processor has no such unit, when it may not be
   used, when the product is too small to gain by it, or when there is no memory for the panels.

   Tiles: every float is the exact sum of three bf16 numbers, x = high + middle + low. Of the nine products of two such
   sums the six largest are formed and added up in float32; the other three are below 2⁻²⁵ of the product, less than
   what rounding it to float32 costs. The result is as near to the exact one as sgemm's, or nearer, and infinities and
   NaN come out as sgemm has them. Numbers below 2⁻¹¹⁰ lose their low parts, those below 2⁻¹²⁶ count as zero.
   Source: Henry, Tang, Heinecke, "Leveraging the bfloat16 artificial intelligence datatype for higher-precision
   computations", ARITH 2019. */
bool gemm_tiles(const struct gemm_product *product);
bool gemm_vector(const struct gemm_product *product);
/* The part of gemm_vector that is for narrow results. */
bool gemm_thin(const struct gemm_product *product);
/* The first of them that does it. */
bool gemm_product(const struct gemm_product *product);

/* Whether this build and processor have the unit, and the environment does not say GLS_MATRIX_UNIT=0 (tiles). */
bool gemm_available(enum gemm_unit unit);
bool gemm_tiles_available(void);
bool gemm_vector_available(void);
/* Whether a unit may be used (at first all may); gemm_allow returns what was. */
bool gemm_allowed(enum gemm_unit unit);
bool gemm_allow(enum gemm_unit unit, bool allowed);

#endif
