/* LAPACK's factorisations of contiguous matrices: eigenproblems, the Q of a QR factorisation by Householder
   reflections, singular values, LU. LAPACK is column-major: it sees the transpose of what lies here by rows. It runs on
   the calling thread, so that results do not depend on the number of threads. */
#include "../../base/memory.h"
#include "../../base/parallel.h"
#include "../../base/profile.h"
#include "linalg.h"

#ifdef GLS_DOUBLE
#define SYEVD dsyevd_
#define GEQRF dgeqrf_
#define GELQF dgelqf_
#define ORGQR dorgqr_
#define ORGLQ dorglq_
#define GESDD dgesdd_
#define GETRF dgetrf_
#define GETRS dgetrs_
#else
#define SYEVD ssyevd_
#define GEQRF sgeqrf_
#define GELQF sgelqf_
#define ORGQR sorgqr_
#define ORGLQ sorglq_
#define GESDD sgesdd_
#define GETRF sgetrf_
#define GETRS sgetrs_
#endif

void SYEVD(const char *jobz, const char *uplo, const int *n, real *a, const int *lda, real *w, real *work,
           const int *lwork, int *iwork, const int *liwork, int *info);
typedef void factorise(const int *m, const int *n, real *a, const int *lda, real *tau, real *work, const int *lwork,
                       int *info);
typedef void generate(const int *m, const int *n, const int *k, real *a, const int *lda, real *tau, real *work,
                      const int *lwork, int *info);
factorise GEQRF, GELQF;
generate ORGQR, ORGLQ;
void GESDD(const char *jobz, const int *m, const int *n, real *a, const int *lda, real *s, real *u, const int *ldu,
           real *vt, const int *ldvt, real *work, const int *lwork, int *iwork, int *info);
void GETRF(const int *m, const int *n, real *a, const int *lda, int *pivot, int *info);
void GETRS(const char *trans, const int *n, const int *nrhs, const real *a, const int *lda, const int *pivot, real *b,
           const int *ldb, int *info);

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
    profile_count(9 * (double)n * (double)n * (double)n, 4 * (double)n * (double)n * (double)sizeof *a); /* about */
    SYEVD("V", "U", &size, a, &size, values, work, &length, integers, &integer_need, &info);
    status = info == 0 ? STATUS_OK
                       : status_error("eigen: no convergence (LAPACK info %d); is there a NaN in the matrix?", info);
  }
  parallel_set_threads(threads);
  memory_delete(work);
  memory_delete(integers);
  return status;
}

int orthogonalise(real *a, int64_t m, int64_t n) {
  if (m == 0 || n == 0) return STATUS_OK;
  if (m > INT32_MAX / 64 || n > INT32_MAX / 64)
    return status_error("orthogonal: a matrix of (%lld×%lld) is too large for LAPACK", (long long)m, (long long)n);
  /* By columns, LAPACK sees aᵀ, n×m: a tall a is a wide aᵀ = L Qᵀ. */
  bool wide = n <= m;
  int rows = (int)n, columns = (int)m, k = wide ? rows : columns, info = 0;
  int length = k * 64; /* its block size is at most 64 */
  real *tau = memory_new((size_t)k, sizeof *tau), *work = memory_new((size_t)length, sizeof *work);
  real *sign = memory_new((size_t)k, sizeof *sign);
  int status = STATUS_ERROR;
  int threads = parallel_alone();
  if (tau && work && sign) {
    profile_count(4 * (double)m * (double)n * (double)k, 4 * (double)m * (double)n * (double)sizeof *a); /* about */
    (wide ? GELQF : GEQRF)(&rows, &columns, a, &rows, tau, work, &length, &info);
    for (int i = 0; i < k; i++) sign[i] = a[(int64_t)i * rows + i] < 0 ? -1 : 1;
    if (info == 0) (wide ? ORGLQ : ORGQR)(&rows, &columns, &k, a, &rows, tau, work, &length, &info);
    for (int64_t j = 0; j < columns; j++)
      for (int64_t i = 0; i < rows; i++) a[j * rows + i] *= sign[wide ? i : j];
    status = info == 0 ? STATUS_OK : status_error("orthogonal: LAPACK refused argument %d", -info);
  }
  parallel_set_threads(threads);
  memory_delete(tau);
  memory_delete(work);
  memory_delete(sign);
  return status;
}

int singular_values(real *a, int64_t m, int64_t n, real *u, real *s, real *vt) {
  if (m == 0 || n == 0) return STATUS_OK;
  if (m > 20000 || n > 20000)
    return status_error("svd: a matrix of (%lld×%lld) is too large", (long long)m, (long long)n);
  for (int64_t i = 0; i < m * n; i++)
    if (!(a[i] - a[i] == 0)) return status_error("svd: the matrix has an infinity or a NaN");
  /* LAPACK sees aᵀ = v s uᵀ, by columns: its U is vᵀ by rows, its Vᵀ is u. */
  int rows = (int)n, columns = (int)m, k = rows < columns ? rows : columns, info = 0, ask = -1, none = 0;
  real need = 0;
  GESDD("S", &rows, &columns, a, &rows, s, vt, &rows, u, &k, &need, &ask, &none, &info);
  if (info != 0) return status_error("svd: LAPACK refused argument %d", -info);
  int length = (int)need + 1, threads = parallel_alone();
  real *work = memory_new((size_t)length, sizeof *work);
  int *integers = memory_new((size_t)k * 8, sizeof *integers);
  int status = STATUS_ERROR;
  if (work && integers) {
    GESDD("S", &rows, &columns, a, &rows, s, vt, &rows, u, &k, work, &length, integers, &info);
    status = info == 0 ? STATUS_OK : status_error("svd: no convergence (LAPACK info %d)", info);
  }
  parallel_set_threads(threads);
  memory_delete(work);
  memory_delete(integers);
  return status;
}

int lu_factorise(real *a, int64_t n, int *pivot, int *exact_zero) {
  *exact_zero = 0;
  if (n == 0) return STATUS_OK;
  if (n > 46340) return status_error("%lld rows are too many for LAPACK's 32-bit indices", (long long)n);
  int size = (int)n, info = 0, threads = parallel_alone();
  GETRF(&size, &size, a, &size, pivot, &info);
  parallel_set_threads(threads);
  if (info < 0) return status_error("LAPACK refused argument %d", -info);
  *exact_zero = info;
  return STATUS_OK;
}

/* LAPACK's factors are those of aᵀ, so that aᵀ's transpose is what is solved with. */
int lu_solve_rows(const real *lu, const int *pivot, int64_t n, real *b, int64_t m) {
  if (n == 0 || m == 0) return STATUS_OK;
  if (m > INT32_MAX) return status_error("%lld right-hand sides are too many for LAPACK", (long long)m);
  int size = (int)n, count = (int)m, info = 0, threads = parallel_alone();
  GETRS("T", &size, &count, lu, &size, pivot, b, &size, &info);
  parallel_set_threads(threads);
  return info == 0 ? STATUS_OK : status_error("LAPACK refused argument %d", -info);
}
