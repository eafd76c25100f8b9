/* GEMM: the public products, and the table of back ends that make them. */
#include "gemm.h"

#include <string.h>

#include "../../base/parallel.h"
#include "../../base/profile.h"
#include "gemm_kernel.h"

static bool is_forbidden[GEMM_UNITS];

bool gemm_allow(enum gemm_unit unit, bool allowed) {
  bool before = !is_forbidden[unit];
  is_forbidden[unit] = !allowed;
  return before;
}

static bool is_available(enum gemm_unit unit) {
  return unit == GEMM_MATRIX_UNIT ? gemm_matrix_unit_available() : VECTOR_BYTES == 64;
}

bool gemm_usable(enum gemm_unit unit) { return !is_forbidden[unit] && is_available(unit); }

/* ---- which back end serves which product ---- */

static double multiplications(const struct gemm_product *p) { return (double)p->m * (double)p->n * (double)p->k; }

/* Packing its three parts costs more than it gains below some 96 rows or columns (to be
   seen with GLS_MATRIX_UNIT=0); what is visited needs all of k packed at once. */
static bool serves_matrix_unit(const struct gemm_product *p) {
  return gemm_usable(GEMM_MATRIX_UNIT) && min(p->m, p->n) >= 96 && p->k >= 16 && multiplications(p) >= 1 << 19 &&
         p->alpha != 0 && (!p->visitor || p->k <= 1024);
}

/* Matrix times vector, and what BLAS's call is cheaper for, are BLAS's. */
static bool serves_vector(const struct gemm_product *p) {
  return gemm_usable(GEMM_VECTOR_UNIT) && min(p->m, p->n) >= 4 && p->k >= 1 && multiplications(p) >= 1 << 12;
}

/* One vector wide; two where k is summed in parts. */
static bool serves_thin(const struct gemm_product *p) {
  return serves_vector(p) && p->n <= GEMM_COLUMNS && !p->visitor && !p->lower &&
         (p->n <= VECTOR_LANES || gemm_thin_parts(p) > 1);
}

static bool serves_all(const struct gemm_product *p) {
  (void)p;
  return true;
}

/* The first that serves a product makes it. */
static const struct back_end {
  bool (*serves)(const struct gemm_product *product);
  bool (*make)(const struct gemm_product *product);
  bool knows_bias;
} back_ends[] = {
    {serves_matrix_unit, gemm_matrix_unit, false},
    {serves_thin, gemm_thin, true},
    {serves_vector, gemm_vector, true},
    {serves_all, gemm_blas, false},
};

static void fill_with_bias(struct gemm_product *p) {
#pragma omp parallel for schedule(static) if (!omp_in_parallel() && p->m * p->n > PARALLEL_THRESHOLD)
  for (int64_t i = 0; i < p->m; i++) memcpy(p->c + i * p->ldc, p->bias, (size_t)p->n * sizeof(real));
  p->bias = NULL, p->beta = 1;
}

static void count(const struct gemm_product *p) {
  double touched = (double)(p->m * p->k) + (double)(p->k * p->n) + (double)(p->m * p->n);
  profile_count(multiplications(p) * (p->lower ? 1 : 2), touched * (double)sizeof(real));
}

static bool make(struct gemm_product product) {
  if (product.m == 0 || product.n == 0) return true;
  count(&product);
  for (size_t i = 0; i < sizeof back_ends / sizeof *back_ends; i++) {
    if (!back_ends[i].serves(&product)) continue;
    if (product.bias && !back_ends[i].knows_bias) fill_with_bias(&product);
    if (back_ends[i].make(&product)) return true;
  }
  return false;
}

/* ---- the products ---- */

void gemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, real alpha, const real *a, int64_t lda,
          const real *b, int64_t ldb, real beta, real *c, int64_t ldc) {
  make((struct gemm_product){transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, .ldc = ldc});
}

void gemm_bias(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, const real *a, int64_t lda,
               const real *b, int64_t ldb, const real *bias, real *c) {
  make((struct gemm_product){transpose_a, transpose_b, m, n, k, 1, a, lda, b, ldb, 0, c, n, .bias = bias});
}

int gemm_visit(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, real alpha, const real *a,
               int64_t lda, const real *b, int64_t ldb, const struct gemm_visitor *visitor) {
  const struct gemm_product product = {transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, .visitor = visitor};
  return make(product) ? STATUS_OK : STATUS_ERROR;
}

void syrk(bool transpose, int64_t n, int64_t k, real alpha, const real *a, int64_t lda, real beta, real *c,
          int64_t ldc) {
  make((struct gemm_product){transpose, !transpose, n, n, k, alpha, a, lda, a, lda, beta, c, ldc, .lower = true});
}
