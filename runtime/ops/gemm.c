/* GEMM: one matrix product, cut over threads by ourselves; every piece is one single-threaded BLAS call. */
#include <cblas.h>

#include "../base/parallel.h"
#include "op.h"

#ifdef GLS_DOUBLE
#define GEMM cblas_dgemm
#else
#define GEMM cblas_sgemm
#endif

static void gemm_piece(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, real alpha, const real *a,
                       int64_t lda, const real *b, int64_t ldb, real beta, real *c, int64_t ldc) {
  GEMM(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans, transpose_b ? CblasTrans : CblasNoTrans, (int)m, (int)n,
       (int)k, alpha, a, (int)lda, b, (int)ldb, beta, c, (int)ldc);
}

void matmul_gemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, real alpha, const real *a,
                 int64_t lda, const real *b, int64_t ldb, real beta, real *c, int64_t ldc) {
  if (m == 0 || n == 0) return;
  int threads = omp_in_parallel() ? 1 : parallel_threads();
  if (threads == 1 || (double)m * (double)n * (double)k < 65536) {
    gemm_piece(transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    return;
  }
  /* The wider side is cut, in multiples of 16 so that pieces stay aligned to vectors. */
  bool by_columns = n > m;
  int64_t length = by_columns ? n : m;
  int64_t piece = ((length + threads - 1) / threads + 15) / 16 * 16;
  int64_t pieces = (length + piece - 1) / piece;
#pragma omp parallel for schedule(static) num_threads((int)pieces)
  for (int64_t i = 0; i < pieces; i++) {
    int64_t start = i * piece, size = parallel_minimum(piece, length - start);
    if (by_columns)
      gemm_piece(transpose_a, transpose_b, m, size, k, alpha, a, lda, b + (transpose_b ? start * ldb : start), ldb,
                 beta, c + start, ldc);
    else
      gemm_piece(transpose_a, transpose_b, size, n, k, alpha, a + (transpose_a ? start : start * lda), lda, b, ldb,
                 beta, c + start * ldc, ldc);
  }
}

void matmul_gemm_naive(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, real alpha, const real *a,
                       int64_t lda, const real *b, int64_t ldb, real beta, real *c, int64_t ldc) {
  for (int64_t i = 0; i < m; i++) {
    for (int64_t j = 0; j < n; j++) {
      double sum = 0;
      for (int64_t l = 0; l < k; l++)
        sum += (double)(transpose_a ? a[l * lda + i] : a[i * lda + l]) *
               (double)(transpose_b ? b[j * ldb + l] : b[l * ldb + j]);
      c[i * ldc + j] = (real)((double)alpha * sum + (beta == 0 ? 0 : (double)beta * (double)c[i * ldc + j]));
    }
  }
}
