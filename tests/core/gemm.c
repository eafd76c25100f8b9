/* Matrix products: gemm, gemm_visit and syrk against three loops in double, factors and solutions
   against what they solve, on every path that
   this processor has; accuracy, infinities and NaN, leading dimensions, reruns to the last bit. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../runtime/base/memory.h"
#include "../../runtime/base/parallel.h"
#include "../../runtime/base/random.h"
#include "../../runtime/kernels/linalg/gemm.h"
#include "check.h"
#include "reference.h"

struct matrices {
  int64_t lda, ldb, ldc;
  size_t count_a, count_b, count_c;
  real *a, *b, *c, *reference;
};

static real *filled(size_t count) {
  real *values = memory_acquire(count * sizeof(real));
  random_fill_normal(random_next_stream(), values, (int64_t)count);
  return values;
}

/* Leading dimensions are pad longer than needed. */
static struct matrices matrices_new(bool ta, bool tb, int64_t m, int64_t n, int64_t k, int64_t pad) {
  struct matrices x;
  x.lda = (ta ? m : k) + pad, x.ldb = (tb ? k : n) + pad, x.ldc = n + pad;
  x.count_a = (size_t)(x.lda * (ta ? k : m)), x.count_b = (size_t)(x.ldb * (tb ? n : k));
  x.count_c = (size_t)(x.ldc * m);
  x.a = filled(x.count_a), x.b = filled(x.count_b), x.c = filled(x.count_c);
  x.reference = memory_acquire(x.count_c * sizeof(real));
  memcpy(x.reference, x.c, x.count_c * sizeof(real));
  return x;
}

static void matrices_delete(struct matrices *x) {
  memory_release(x->a);
  memory_release(x->b);
  memory_release(x->c);
  memory_release(x->reference);
}

/* The largest difference over all of c and its padding, in units of what k additions, one after the other, may do to
   sums of products of normal numbers; infinite when c has a NaN. */
static double difference(const struct matrices *x, int64_t k) {
  double worst = 0, rounding = CHECK_IS_DOUBLE ? 0x1p-53 : 0x1p-24;
  for (size_t i = 0; i < x->count_c; i++) {
    double here = fabs((double)x->c[i] - (double)x->reference[i]);
    if (!(here <= worst)) worst = isnan(here) ? INFINITY : here;
  }
  return worst / (rounding * (128 + 4 * (double)k));
}

static void shapes(void) {
  static const int64_t sizes[][3] = {{0, 5, 3},      {5, 0, 3},       {4, 3, 0},      {1, 1, 1},       {1, 300, 64},
                                     {300, 1, 64},   {7, 9, 11},      {24, 24, 1000}, {100, 77, 333},  {33, 257, 129},
                                     {257, 33, 700}, {129, 130, 31},  {49, 700, 97},  {250, 10, 256},  {31, 1100, 40},
                                     {1100, 47, 45}, {64, 64, 1300},  {1003, 16, 64}, {37, 10, 900},   {250, 29, 70},
                                     {16, 16, 5000}, {31, 23, 2050},  {64, 5, 20000}, {130, 32, 4100}, {2, 300, 64},
                                     {300, 3, 90},   {1, 1100, 1000}, {3, 70, 1},     {1000, 1, 700},  {2, 2, 3000}};
  static const real scales[][2] = {{1, 0}, {1, 1}, {(real)-0.5, (real)0.25}, {0, 2}};
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
    for (int choice = 0; choice < 4; choice++) {
      bool ta = choice & 1, tb = choice & 2;
      int64_t m = sizes[s][0], n = sizes[s][1], k = sizes[s][2];
      real alpha = scales[(s + (size_t)choice) % 4][0], beta = scales[(s + (size_t)choice) % 4][1];
      struct matrices x = matrices_new(ta, tb, m, n, k, choice == 3 ? 5 : 1);
      gemm(ta, tb, m, n, k, alpha, x.a, x.lda, x.b, x.ldb, beta, x.c, x.ldc);
      gemm_naive(ta, tb, m, n, k, alpha, x.a, x.lda, x.b, x.ldb, beta, x.reference, x.ldc);
      CHECK(difference(&x, k) <= 1, "%d%d %dx%dx%d alpha %g beta %g: off by %g times the bound", ta, tb, (int)m, (int)n,
            (int)k, (double)alpha, (double)beta, difference(&x, k));
      matrices_delete(&x);
    }
  }
}

/* Every row of the product begins as the bias. */
static void biased(void) {
  static const int64_t sizes[][3] = {{0, 5, 3}, {1, 1, 1}, {5, 3, 0}, {250, 40, 700}, {33, 257, 129}, {50, 10, 256}};
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
    int64_t m = sizes[s][0], n = sizes[s][1], k = sizes[s][2];
    struct matrices x = matrices_new(false, true, m, n, k, 0);
    real *bias = filled((size_t)n);
    for (int64_t i = 0; i < m; i++) memcpy(x.reference + i * n, bias, (size_t)n * sizeof(real));
    gemm_bias(false, true, m, n, k, x.a, x.lda, x.b, x.ldb, bias, x.c);
    gemm_naive(false, true, m, n, k, 1, x.a, x.lda, x.b, x.ldb, 1, x.reference, x.ldc);
    CHECK(difference(&x, k) <= 1, "%dx%dx%d: off by %g times the bound", (int)m, (int)n, (int)k, difference(&x, k));
    memory_release(bias);
    matrices_delete(&x);
  }
}

/* With beta = 0 whatever is in c is gone. */
static void unread(void) {
  static const int64_t sizes[][2] = {{70, 80}, {1, 80}, {70, 1}, {2, 3}};
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
    int64_t m = sizes[s][0], n = sizes[s][1];
    struct matrices x = matrices_new(false, false, m, n, 300, 0);
    for (size_t i = 0; i < x.count_c; i++) x.c[i] = (real)NAN;
    gemm(false, false, m, n, 300, 1, x.a, x.lda, x.b, x.ldb, 0, x.c, x.ldc);
    gemm_naive(false, false, m, n, 300, 1, x.a, x.lda, x.b, x.ldb, 0, x.reference, x.ldc);
    CHECK(difference(&x, 300) <= 1, "%dx%d: NaN in c came through beta = 0", (int)m, (int)n);
    matrices_delete(&x);
  }
}

/* Numbers of very different size, and sums that nearly cancel: every element is good to float32 relative to the sum
   of the sizes of its products. */
static void accuracy(void) {
  enum { M = 65, N = 50, K = 513 };
  struct matrices x = matrices_new(false, false, M, N, K, 0);
  for (size_t i = 0; i < x.count_a; i++) x.a[i] = ldexp(x.a[i], (int)(i * 7 % 41) - 20);
  for (size_t i = 0; i < x.count_b; i++) x.b[i] = ldexp(x.b[i], (int)(i * 11 % 41) - 20);
  gemm(false, false, M, N, K, 1, x.a, x.lda, x.b, x.ldb, 0, x.c, x.ldc);
  double worst = 0;
  for (int i = 0; i < M; i++) {
    for (int j = 0; j < N; j++) {
      long double sum = 0, size = 0; /* finer than either real */
      for (int l = 0; l < K; l++) {
        long double product = (long double)x.a[i * K + l] * x.b[l * N + j];
        sum += product;
        size += fabsl(product);
      }
      worst = fmax(worst, (double)(fabsl(x.c[i * N + j] - sum) / size));
    }
  }
  double rounding = CHECK_IS_DOUBLE ? 0x1p-53 : 0x1p-24;
  /* The matrix unit sums in short pieces. The others may add K numbers in a row, which err like a random walk: √K
     roundings, twice that for the worst of thousands of elements. A product that lost eight bits on its way errs by
     256. */
  double roundings = gemm_usable(GEMM_MATRIX_UNIT) ? 16 : 2 * sqrt(K);
  CHECK(worst <= roundings * rounding, "relative to the sum of sizes off by %g roundings", worst / rounding);
  matrices_delete(&x);
}

/* Infinities, NaN and the largest numbers come out as three loops of real have them. */
static void not_finite(void) {
  enum { M = 70, N = 90, K = 100 };
  struct matrices x = matrices_new(false, false, M, N, K, 0);
  real huge = CHECK_IS_DOUBLE ? (real)1e308 : (real)3.4e38;
  x.a[3 * K + 5] = (real)INFINITY;
  x.a[10 * K + 7] = (real)NAN;
  x.a[20 * K + 1] = (real)INFINITY, x.a[20 * K + 2] = (real)-INFINITY;
  x.b[5 * N + 0] = 1, x.b[5 * N + 1] = 0, x.b[5 * N + 2] = -1; /* ∞ · 1, ∞ · 0, ∞ · -1 */
  x.b[99 * N + 60] = (real)-INFINITY;
  for (int l = 0; l < K; l++) x.a[40 * K + l] = 0;
  x.a[40 * K + 9] = huge; /* rounds up to infinity in eight bits */
  gemm(false, false, M, N, K, 1, x.a, x.lda, x.b, x.ldb, 0, x.c, x.ldc);
  int wrong = 0;
  for (int i = 0; i < M; i++) {
    for (int j = 0; j < N; j++) {
      real sum = 0;
      for (int l = 0; l < K; l++) sum += x.a[i * K + l] * x.b[l * N + j];
      real got = x.c[i * N + j];
      bool same = isnan(sum) ? isnan(got) : isinf(sum) ? got == sum : isfinite(got);
      if (!same) wrong++;
    }
  }
  CHECK(wrong == 0, "%d elements", wrong);
  matrices_delete(&x);
}

/* The same to the last bit again, and on any number of threads. */
static void repeatable(void) {
  static const int64_t sizes[][3] = {{250, 500, 700}, {600, 130, 300}, {50, 1000, 64}, {16, 16, 20000},
                                     {1000, 10, 64},  {100, 30, 5000}, {1, 3001, 700}, {3001, 1, 700},
                                     {2, 1500, 300},  {1201, 350, 40}};
  int threads = parallel_threads();
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
    int64_t m = sizes[s][0], n = sizes[s][1], k = sizes[s][2];
    struct matrices x = matrices_new(true, false, m, n, k, 0);
    gemm(true, false, m, n, k, 1, x.a, x.lda, x.b, x.ldb, 0, x.reference, x.ldc);
    for (int again = 0; again < 4; again++) {
      memset(x.c, 0, x.count_c * sizeof(real));
      gemm(true, false, m, n, k, 1, x.a, x.lda, x.b, x.ldb, 0, x.c, x.ldc);
      CHECK(memcmp(x.c, x.reference, x.count_c * sizeof(real)) == 0, "%dx%dx%d differs in a rerun", (int)m, (int)n,
            (int)k);
    }
    for (int other = 1; other <= 5; other++) {
      parallel_set_threads(other);
      gemm(true, false, m, n, k, 1, x.a, x.lda, x.b, x.ldb, 0, x.c, x.ldc);
      CHECK(memcmp(x.c, x.reference, x.count_c * sizeof(real)) == 0, "%dx%dx%d differs on %d threads", (int)m, (int)n,
            (int)k, other);
    }
    parallel_set_threads(threads);
    matrices_delete(&x);
  }
}

struct visited {
  real *values;
  unsigned char *times;
  int64_t n;
};

static void visit_block(void *context, const struct gemm_block *block) {
  struct visited *visited = context;
  for (int64_t i = 0; i < block->rows; i++) {
    for (int64_t j = 0; j < block->columns; j++) {
      int64_t at = (block->row + i) * visited->n + block->column + j;
      visited->values[at] = block->values[i * block->stride + j];
      visited->times[at]++;
    }
  }
}

/* Every element is handed out once, and is right. */
static void visited_in_blocks(void) {
  static const int64_t sizes[][3] = {{300, 130, 250}, {130, 300, 250}, {1000, 70, 50},
                                     {40, 50, 1500},  {5, 3, 2},       {0, 3, 2}};
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
    int64_t m = sizes[s][0], n = sizes[s][1], k = sizes[s][2];
    struct matrices x = matrices_new(true, false, m, n, k, 0);
    struct visited visited = {x.c, memory_new((size_t)(m * n + 1), 1), n};
    struct gemm_visitor visitor = {.visit = visit_block, .context = &visited, .touched = {x.c, x.reference}};
    int status = gemm_visit(true, false, m, n, k, (real)0.5, x.a, x.lda, x.b, x.ldb, &visitor);
    gemm_naive(true, false, m, n, k, (real)0.5, x.a, x.lda, x.b, x.ldb, 0, x.reference, x.ldc);
    int64_t wrong = 0;
    for (int64_t i = 0; i < m * n; i++) wrong += visited.times[i] != 1;
    CHECK(status == STATUS_OK && wrong == 0, "%dx%dx%d: %d elements not handed out once", (int)m, (int)n, (int)k,
          (int)wrong);
    CHECK(difference(&x, k) <= 1, "%dx%dx%d: off by %g times the bound", (int)m, (int)n, (int)k, difference(&x, k));
    memory_delete(visited.times);
    matrices_delete(&x);
  }
}

static void gram(void) {
  static const int64_t sizes[][2] = {{250, 700}, {65, 3000}, {600, 100}, {10, 5}};
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
    for (int transpose = 0; transpose < 2; transpose++) {
      int64_t n = sizes[s][0], k = sizes[s][1];
      struct matrices x = matrices_new(transpose, !transpose, n, n, k, 0);
      real beta = s % 2 ? (real)0.75 : 0;
      memcpy(x.reference, x.c, x.count_c * sizeof(real));
      syrk(transpose, n, k, (real)0.25, x.a, x.lda, beta, x.c, x.ldc);
      gemm_naive(transpose, !transpose, n, n, k, (real)0.25, x.a, x.lda, x.a, x.lda, beta, x.reference, x.ldc);
      for (int64_t i = 0; i < n; i++)
        for (int64_t j = i + 1; j < n; j++) x.c[i * n + j] = x.reference[i * n + j] = 0;
      /* The diagonal sums squares, which do not cancel. */
      CHECK(difference(&x, k) <= 8, "%dx%d, transpose %d: off by %g times the bound", (int)n, (int)k, transpose,
            difference(&x, k));
      matrices_delete(&x);
    }
  }
}

/* (L Lᵀ)⁻¹ b, held against b: L Lᵀ x is b again, to as many roundings as L has rows. */
static void solved(void) {
  static const int64_t sizes[][2] = {{250, 100}, {33, 40}, {600, 17}, {40, 300}, {5, 40}, {64, 3}, {1100, 70}};
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
    int64_t n = sizes[s][0], m = sizes[s][1];
    struct matrices x = matrices_new(false, false, n, m, n, 0); /* a: L, b: x, c: the right-hand side */
    for (int64_t i = 0; i < n; i++)
      for (int64_t j = 0; j <= i; j++) x.a[i * n + j] = i == j ? 2 : x.a[i * n + j] / (real)n;
    memcpy(x.b, x.c, x.count_c * sizeof(real));
    int status = cholesky_solve(x.a, n, x.b, m);
    int64_t threads = parallel_threads();
    real *again = memory_acquire(x.count_c * sizeof(real));
    memcpy(again, x.c, x.count_c * sizeof(real));
    parallel_set_threads(3);
    bool same = cholesky_solve(x.a, n, again, m) == STATUS_OK;
    parallel_set_threads((int)threads);
    same = same && memcmp(again, x.b, x.count_c * sizeof(real)) == 0;
    for (int64_t i = 0; i < n; i++)
      for (int64_t j = i + 1; j < n; j++) x.a[i * n + j] = 0;
    gemm_naive(true, false, n, m, n, 1, x.a, n, x.b, m, 0, again, m);
    gemm_naive(false, false, n, m, n, 1, x.a, n, again, m, 0, x.reference, m);
    CHECK(status == STATUS_OK && difference(&x, n) <= 1 && same, "%dx%d: off by %g times the bound, same %d", (int)n,
          (int)m, difference(&x, n), same);
    memory_release(again);
    matrices_delete(&x);
  }
}

/* Right-hand sides as rows, whose first entries may be zero: the same as columns. */
static void solved_rows(void) {
  static const int64_t sizes[][3] = {{250, 100, 0}, {33, 40, 20},  {600, 17, 583},
                                     {5, 3, 1},     {1100, 70, 0}, {64, 1, 63}};
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
    int64_t n = sizes[s][0], m = sizes[s][1], zeros = sizes[s][2];
    struct matrices x = matrices_new(false, false, m, n, n, 3); /* c: the sides */
    real *factor = filled((size_t)(n * n)), *columns = memory_acquire((size_t)(n * m) * sizeof(real));
    for (int64_t i = 0; i < n; i++)
      for (int64_t j = 0; j < n; j++) factor[i * n + j] = i == j ? 2 : factor[i * n + j] / (real)n;
    for (int64_t i = 0; i < m; i++)
      for (int64_t j = 0; j < zeros; j++) x.c[i * x.ldc + j] = 0;
    memcpy(x.reference, x.c, x.count_c * sizeof(real));
    for (int64_t i = 0; i < n; i++)
      for (int64_t j = 0; j < m; j++) columns[i * m + j] = x.c[j * x.ldc + i];
    cholesky_solve_rows(factor, n, x.c, x.ldc, m, zeros);
    CHECK(cholesky_solve(factor, n, columns, m) == STATUS_OK, "%s", status_message());
    for (int64_t i = 0; i < n; i++)
      for (int64_t j = 0; j < m; j++) x.reference[j * x.ldc + i] = columns[i * m + j];
    CHECK(difference(&x, n) <= 1, "%dx%d, %d zeros: off by %g times the bound", (int)n, (int)m, (int)zeros,
          difference(&x, n));
    memory_release(factor);
    memory_release(columns);
    matrices_delete(&x);
  }
  real one = 1;
  CHECK(cholesky_solve(&one, 1, &one, 3000000000) == STATUS_ERROR, "more columns than an int counts");
}

/* The factor times its transpose is the matrix again; the same factor from other numbers of threads; a matrix that has
   no factor is known as such. */
static void factorised(void) {
  static const int64_t sizes[] = {1, 40, 300, 385, 450, 700, 1100};
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
    int64_t n = sizes[s], k = 2 * n;
    struct matrices x = matrices_new(false, true, n, n, k, 0);
    syrk(false, n, k, 1 / (real)k, x.a, k, 0, x.c, n);
    for (int64_t i = 0; i < n; i++) x.c[i * n + i] += (real)0.1;
    real *again = memory_acquire(x.count_c * sizeof(real)), *matrix = memory_acquire(x.count_c * sizeof(real));
    memcpy(again, x.c, x.count_c * sizeof(real));
    memcpy(matrix, x.c, x.count_c * sizeof(real));
    CHECK(cholesky(x.c, n), "%d: no factor", (int)n);
    int threads = parallel_threads();
    parallel_set_threads(3);
    CHECK(cholesky(again, n), "%d: no factor from three threads", (int)n);
    parallel_set_threads(threads);
    bool same = true;
    for (int64_t i = 0; i < n; i++) {
      same = same && memcmp(again + i * n, x.c + i * n, (size_t)(i + 1) * sizeof(real)) == 0;
      for (int64_t j = i + 1; j < n; j++) x.c[i * n + j] = 0;
    }
    memcpy(again, x.c, x.count_c * sizeof(real));
    gemm_naive(false, true, n, n, n, 1, again, n, again, n, 0, x.c, n);
    memcpy(x.reference, matrix, x.count_c * sizeof(real));
    for (int64_t i = 0; i < n; i++)
      for (int64_t j = i + 1; j < n; j++) x.reference[i * n + j] = matrix[j * n + i];
    CHECK(difference(&x, n) <= 1 && same, "%d: off by %g times the bound, same %d", (int)n, difference(&x, n), same);
    for (int bad = 0; bad < 2; bad++) {
      memcpy(again, matrix, x.count_c * sizeof(real));
      again[n * n - 1] = bad ? NAN : -1;
      CHECK(!cholesky(again, n), "%d: a matrix without factor got one", (int)n);
    }
    memory_release(again);
    memory_release(matrix);
    matrices_delete(&x);
  }
}

/* x (m × n, m ≤ n) after `iterations` of Newton and Schulz, in double. */
static void newton_schulz_naive(double *x, int m, int n, int iterations) {
  double *gram = calloc((size_t)(m * m), sizeof *gram), *square = calloc((size_t)(m * m), sizeof *square);
  double *next = calloc((size_t)(m * n), sizeof *next), norm = 0;
  for (int i = 0; i < m * n; i++) norm += x[i] * x[i];
  for (int i = 0; i < m * n; i++) x[i] /= sqrt(norm);
  for (; iterations > 0; iterations--) {
    for (int i = 0; i < m * m; i++) {
      gram[i] = 0;
      for (int k = 0; k < n; k++) gram[i] += x[i / m * n + k] * x[i % m * n + k];
    }
    for (int i = 0; i < m * m; i++) {
      square[i] = -4.7750 * gram[i];
      for (int k = 0; k < m; k++) square[i] += 2.0315 * gram[i / m * m + k] * gram[k * m + i % m];
    }
    for (int i = 0; i < m * n; i++) {
      next[i] = 3.4445 * x[i];
      for (int k = 0; k < m; k++) next[i] += square[i / n * m + k] * x[k * n + i % n];
    }
    memcpy(x, next, (size_t)(m * n) * sizeof *x);
  }
  free(gram);
  free(square);
  free(next);
}

/* Wide and tall, with any number of threads. With the matrix unit, which rounds to bfloat16, the norm of the error is
   no more than that of the authors' own iteration in bfloat16 by PyTorch 2.15, relative to the result's. It hangs on
   the numbers (theirs is 0.029 to 0.052 for 120 random ones of 33 × 601), so these are always the same. */
static void orthogonal(void) {
  random_seed(1);
  static const struct {
    int m, n;
    double authors;
  } sizes[] = {{128, 384, 0.029}, {100, 130, 0.029}, {128, 128, 0.024}, {33, 601, 0.042}, {5, 9, 1e-5}};
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
    int m = sizes[s].m, n = sizes[s].n;
    size_t bytes = (size_t)(m * n) * sizeof(real);
    real *wide = filled((size_t)(m * n)), *tall = filled((size_t)(m * n)), *again = memory_acquire(bytes);
    double *expected = calloc((size_t)(m * n), sizeof *expected), error[2] = {0}, norm = 0;
    for (int i = 0; i < m * n; i++) {
      expected[i] = (double)wide[i];
      tall[i % n * m + i / n] = wide[i];
    }
    newton_schulz_naive(expected, m, n, 5);
    memcpy(again, wide, bytes);
    CHECK(newton_schulz(wide, m, n, 5) == STATUS_OK && newton_schulz(tall, n, m, 5) == STATUS_OK, "no memory");
    int threads = parallel_threads();
    parallel_set_threads(3);
    CHECK(newton_schulz(again, m, n, 5) == STATUS_OK && memcmp(again, wide, bytes) == 0, "another from three threads");
    parallel_set_threads(threads);
    memset(again + m * n / 2, 0xff, sizeof(real)); /* NaN */
    CHECK(newton_schulz(again, m, n, 5) == STATUS_OK && isnan(again[0]) && isnan(again[m * n - 1]), "NaN is gone");
    for (int i = 0; i < m * n; i++) {
      norm += expected[i] * expected[i];
      error[0] += pow((double)wide[i] - expected[i], 2);
      error[1] += pow((double)tall[i % n * m + i / n] - expected[i], 2);
    }
    double most = gemm_usable(GEMM_MATRIX_UNIT) ? sizes[s].authors : CHECK_IS_DOUBLE ? 1e-7 : 1e-5;
    for (int i = 0; i < 2; i++)
      CHECK(sqrt(error[i] / norm) < most, "%dx%d: off by %g, tall %d", m, n, sqrt(error[i] / norm), i);
    memory_release(wide);
    memory_release(tall);
    memory_release(again);
    free(expected);
  }
}

void test_gemm(void) {
  bool before[GEMM_UNITS];
  for (int unit = 0; unit < GEMM_UNITS; unit++) before[unit] = gemm_allow(unit, false);
  for (int path = 0; path <= GEMM_UNITS; path++) { /* each unit alone, then none: BLAS */
    for (int unit = 0; unit < GEMM_UNITS; unit++) gemm_allow(unit, unit == path);
    shapes();
    biased();
    unread();
    accuracy();
    not_finite();
    repeatable();
    visited_in_blocks();
    gram();
    solved();
    solved_rows();
    factorised();
    orthogonal();
  }
  for (int unit = 0; unit < GEMM_UNITS; unit++) gemm_allow(unit, before[unit]);
}
