/* GEMM, inside: one matrix product, and the back ends that can make it. gemm.c holds their table. */
#ifndef GLS_KERNELS_GEMM_H
#define GLS_KERNELS_GEMM_H

#include "linalg.h"

/* As gemm, in the order of its arguments. */
struct gemm_product {
  bool transpose_a, transpose_b;
  int64_t m, n, k;
  real alpha;
  const real *a;
  int64_t lda;
  const real *b;
  int64_t ldb;
  real beta;
  real *c; /* not read where beta is 0; not there with a visitor */
  int64_t ldc;
  bool lower;       /* what lies above the diagonal need not be filled */
  const real *bias; /* n numbers as which every row of c begins, instead of beta · c; or NULL */
  const struct gemm_visitor *visitor;
};

/* The back ends: true when the product is made; false, with nothing done, when there is no memory for panels. */
bool gemm_matrix_unit(const struct gemm_product *product);
bool gemm_thin(const struct gemm_product *product);
bool gemm_vector(const struct gemm_product *product);
bool gemm_blas(const struct gemm_product *product);

/* Parts of k that gemm_thin sums apart, by the shape alone; 1 for all of it. */
int64_t gemm_thin_parts(const struct gemm_product *product);

enum gemm_unit { GEMM_MATRIX_UNIT, GEMM_VECTOR_UNIT, GEMM_UNITS };

/* Whether this build and processor have it, and the environment does not say GLS_MATRIX_UNIT=0. */
bool gemm_matrix_unit_available(void);
/* Whether a unit is there and may be used: at first all may. gemm_allow returns what was. */
bool gemm_usable(enum gemm_unit unit);
bool gemm_allow(enum gemm_unit unit, bool allowed);

#endif
