/* Linear algebra on contiguous matrices, from LAPACK. LAPACK is column-major: a symmetric matrix reads the same
   either way, and our lower triangle is its upper one. */
#include <cblas.h>

#include "../../base/memory.h"
#include "../../base/parallel.h"
#include "linalg.h"

#ifdef GLS_DOUBLE
#define SYEVD dsyevd_
#define TRSM cblas_dtrsm
#else
#define SYEVD ssyevd_
#define TRSM cblas_strsm
#endif

void SYEVD(const char *jobz, const char *uplo, const int *n, real *a, const int *lda, real *w, real *work,
           const int *lwork, int *iwork, const int *liwork, int *info);

int cholesky_solve_blas(const real *factor, int64_t n, real *b, int64_t m) {
  if (n == 0 || m == 0) return STATUS_OK;
  if (n > INT32_MAX || m > INT32_MAX)
    return status_error("cholesky_solve: a matrix of (%lld×%lld) is too large for BLAS's 32-bit indices", (long long)n,
                        (long long)m);
  enum { PIECE = 64 }; /* columns of b, which are independent; cut by the shape alone, as in gemm */
#pragma omp parallel for schedule(static) if (!omp_in_parallel() && n * n * m > 65536)
  for (int64_t start = 0; start < m; start += PIECE) {
    int threads = parallel_alone(), columns = (int)min(PIECE, m - start), rows = (int)n, width = (int)m;
    real *part = b + start;
    TRSM(CblasRowMajor, CblasLeft, CblasLower, CblasNoTrans, CblasNonUnit, rows, columns, 1, factor, rows, part, width);
    TRSM(CblasRowMajor, CblasLeft, CblasLower, CblasTrans, CblasNonUnit, rows, columns, 1, factor, rows, part, width);
    parallel_set_threads(threads);
  }
  return STATUS_OK;
}

int symmetric_eigen(real *a, int64_t n, real *values) {
  if (n == 0) return STATUS_OK;
  if (n > 20000) return status_error("eigen: %lld rows are too many", (long long)n);
  int size = (int)n, info = 0, ask = -1, integer_need = 0;
  real need = 0;
  SYEVD("V", "U", &size, a, &size, values, &need, &ask, &integer_need, &ask, &info);
  if (info != 0) return status_error("eigen: LAPACK refused argument %d", -info);
  int length = (int)need + 1, threads = parallel_alone();
  real *work = memory_new((size_t)length, sizeof *work);
  int *integers = memory_new((size_t)integer_need, sizeof *integers);
  int status = STATUS_ERROR;
  if (work && integers) {
    SYEVD("V", "U", &size, a, &size, values, work, &length, integers, &integer_need, &info);
    status = info == 0 ? STATUS_OK
                       : status_error("eigen: no convergence (LAPACK info %d); is there a NaN in the matrix?", info);
  }
  parallel_set_threads(threads);
  memory_delete(work);
  memory_delete(integers);
  return status;
}
