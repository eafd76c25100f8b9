/* TRSM: many right-hand sides for one Cholesky factor. A large triangle is cut in two, again and again: what the first
   half has solved is subtracted from the second by one product. A small one is solved by AVX-512 kernels: threads take
   a few panels of right-hand sides each (gemm_kernel.h), which stay in the L2 cache; of every panel of rows what is
   solved already is subtracted by the micro-kernel of the products, and the rest is a triangle in registers. Few
   right-hand sides, tiny factors and other processors are BLAS's. A solution depends on its own right-hand side alone.
   Kept by the bench's row "MLP step, GLS, batch 250": 2.6 times as fast as strsm of OpenBLAS 0.3.21 with its AVX-512
   kernels for 512 right-hand sides of 250 rows, 1.4 for 1024 of 1000 (Intel Xeon, one thread, shared machine). */
#include <cblas.h>

#include "../../base/memory.h"
#include "../../base/parallel.h"
#include "../../base/profile.h"
#include "gemm.h"
#include "gemm_kernel.h"

#ifdef GLS_DOUBLE
#define TRSM cblas_dtrsm
#else
#define TRSM cblas_strsm
#endif

/* Rows of b, or its columns: entry i of right-hand side j is at b + i · inner + j · outer. */
struct right_hand_sides {
  bool rows;
  real *b;
  int64_t count, outer, inner;
};

static struct right_hand_sides entries_from(const struct right_hand_sides *s, int64_t first) {
  return (struct right_hand_sides){s->rows, s->b + first * s->inner, s->count, s->outer, s->inner};
}

/* Which substitutions: x := L⁻¹ x, x := L⁻ᵀ x. */
enum { FORWARD = 1, BACK = 2 };

enum {
  TRIANGLE_MOST = 512, /* rows that are not cut in two */
  ROWS_LEAST = 32,     /* fewer, and fewer columns: BLAS */
  COLUMNS_LEAST = 16
};

#if VECTOR_BYTES == 64

enum { HELD_BYTES = 1 << 18 /* of right-hand sides at a time */ };

/* The factor L in panels of rows: what is left of the diagonal, for the way forward; what is below it, transposed, for
   the way back; the triangles between, whose diagonal is inverted. */
struct factor_panels {
  const real *factor;
  int64_t n, stride, count;
  real *left, *below, *triangle;
};

static int64_t panel_start(const struct factor_panels *f, int64_t i) { return f->n * i / f->count; }

/* Where a panel begins, were all of them GEMM_ROWS high: none is longer. */
static real *left_panel(const struct factor_panels *f, int64_t i) {
  return f->left + GEMM_ROWS * (GEMM_ROWS * i * (i - 1) / 2 + i);
}
static real *below_panel(const struct factor_panels *f, int64_t i) {
  return f->below + GEMM_ROWS * (GEMM_ROWS * (f->count - 1 - i) * (f->count - 2 - i) / 2 + f->count - 1 - i);
}
static size_t panels_reals(int64_t count) {
  return (size_t)(GEMM_ROWS * (GEMM_ROWS * count * (count - 1) / 2 + count) + VECTOR_LANES);
}

static void pack_panel(const struct factor_panels *f, int directions, int64_t i) {
  int64_t n = f->n, stride = f->stride, row = panel_start(f, i), end = panel_start(f, i + 1);
  const real *factor = f->factor, *diagonal = factor + row * stride + row;
  struct gemm_operand rows = {factor, n, stride, 1}, columns = {factor, n, 1, stride};
  if (row > 0 && directions & FORWARD) gemm_pack_left(left_panel(f, i), &rows, row, end - row, 0, row);
  if (end < n && directions & BACK) gemm_pack_left(below_panel(f, i), &columns, row, end - row, end, n - end);
  real *triangle = f->triangle + i * GEMM_ROWS * GEMM_ROWS;
  for (int64_t a = 0; a < end - row; a++) {
    for (int64_t b = 0; b < a; b++) triangle[a * GEMM_ROWS + b] = diagonal[a * stride + b];
    triangle[a * GEMM_ROWS + a] = 1 / diagonal[a * stride + a];
  }
}

/* x (rows × GEMM_COLUMNS) = T⁻¹ x, or T⁻ᵀ x. */
VECTOR_INLINE void solve_triangle(int rows, bool back, real *x, const real *triangle) {
  vector value[GEMM_ROWS][2];
#pragma GCC unroll 14
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
    for (int j = 0; j < 2; j++) value[i][j] = *(vector *)(x + i * GEMM_COLUMNS + j * VECTOR_LANES);
#pragma GCC unroll 14
  for (int step = 0; step < rows; step++) {
    int i = back ? rows - 1 - step : step;
#pragma GCC unroll 2
    for (int j = 0; j < 2; j++) value[i][j] *= triangle[i * GEMM_ROWS + i];
#pragma GCC unroll 14
    for (int k = 0; k < rows; k++) { /* from those that are still to be solved */
      if (back ? k >= i : k <= i) continue;
      real weight = back ? triangle[i * GEMM_ROWS + k] : triangle[k * GEMM_ROWS + i];
#pragma GCC unroll 2
      for (int j = 0; j < 2; j++) value[k][j] -= weight * value[i][j];
    }
  }
#pragma GCC unroll 14
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
    for (int j = 0; j < 2; j++) *(vector *)(x + i * GEMM_COLUMNS + j * VECTOR_LANES) = value[i][j];
}

typedef void triangle_of_rows(real *x, const real *triangle);

#define EACH_ROWS(use) \
  use(1) use(2) use(3) use(4) use(5) use(6) use(7) use(8) use(9) use(10) use(11) use(12) use(13) use(14)
#define TRIANGLES(rows)                                                                                   \
  static void forward_##rows(real *x, const real *triangle) { solve_triangle(rows, false, x, triangle); } \
  static void back_##rows(real *x, const real *triangle) { solve_triangle(rows, true, x, triangle); }
EACH_ROWS(TRIANGLES)
#define FORWARD(rows) forward_##rows,
#define BACK(rows) back_##rows,
static triangle_of_rows *const forward_triangles[GEMM_ROWS + 1] = {NULL, EACH_ROWS(FORWARD)};
static triangle_of_rows *const back_triangles[GEMM_ROWS + 1] = {NULL, EACH_ROWS(BACK)};

/* One panel of rows of one panel of columns (x: n × GEMM_COLUMNS). */
static void solve_rows(const struct factor_panels *f, int64_t i, bool back, real *x) {
  int64_t row = panel_start(f, i), end = panel_start(f, i + 1), rows = end - row;
  real *here = x + row * GEMM_COLUMNS;
  struct gemm_tile tile = {.depth = back ? f->n - end : row,
                           .left = back ? below_panel(f, i) : left_panel(f, i),
                           .left_step = rows,
                           .right = back ? x + end * GEMM_COLUMNS : x,
                           .c = here,
                           .ldc = GEMM_COLUMNS,
                           .alpha = -1,
                           .beta = 1,
                           .base = here,
                           .ldbase = GEMM_COLUMNS};
  if (tile.depth > 0) gemm_kernels[GEMM_PLAIN][rows](&tile);
  (back ? back_triangles : forward_triangles)[rows](here, f->triangle + i * GEMM_ROWS * GEMM_ROWS);
}

/* From panels (of which x is the first) to right-hand sides whose entries are contiguous. */
static void unpack_rows(const struct right_hand_sides *s, int64_t first, int64_t columns, int64_t n, const real *x) {
  int64_t whole = n - n % VECTOR_LANES;
  for (int64_t j = 0; j < columns; j += VECTOR_LANES) {
    const real *from = x + j / GEMM_COLUMNS * n * GEMM_COLUMNS + j % GEMM_COLUMNS;
    int64_t count = min(VECTOR_LANES, columns - j);
    for (int64_t row = 0; row < whole; row += VECTOR_LANES) {
      vector square[VECTOR_LANES];
#pragma GCC unroll 16
      for (int64_t i = 0; i < VECTOR_LANES; i++) square[i] = *(const vector *)(from + (row + i) * GEMM_COLUMNS);
      vector_transpose(square);
      for (int64_t i = 0; i < count; i++) *(vector_unaligned *)(s->b + (first + j + i) * s->outer + row) = square[i];
    }
    for (int64_t i = 0; i < count; i++)
      for (int64_t row = whole; row < n; row++) s->b[(first + j + i) * s->outer + row] = from[row * GEMM_COLUMNS + i];
  }
}

/* Right-hand sides first …, packed into panels at x. */
static void solve_columns(const struct factor_panels *f, int directions, const struct right_hand_sides *s,
                          int64_t first, int64_t columns, real *x) {
  int64_t n = f->n, panel = n * GEMM_COLUMNS, panels = ceil_div(columns, GEMM_COLUMNS);
  gemm_pack_right(x, &(struct gemm_operand){s->b, s->count, s->outer, s->inner}, first, columns, 0, n);
  for (int64_t i = 0; i < f->count && directions & FORWARD; i++)
    for (int64_t p = 0; p < panels; p++) solve_rows(f, i, false, x + p * panel);
  for (int64_t i = f->count - 1; i >= 0 && directions & BACK; i--)
    for (int64_t p = 0; p < panels; p++) solve_rows(f, i, true, x + p * panel);
  if (s->rows) {
    unpack_rows(s, first, columns, n, x);
    return;
  }
  for (int64_t row = 0; row < n; row++) {
    for (int64_t j = 0; j < columns; j += GEMM_COLUMNS) {
      const real *from = x + j / GEMM_COLUMNS * panel + row * GEMM_COLUMNS;
      int64_t count = min(GEMM_COLUMNS, columns - j);
      for (int64_t k = 0; k < count; k++) s->b[row * s->inner + first + j + k] = from[k];
    }
  }
}

static bool solve_vector(const real *factor, int64_t n, int64_t stride, int directions,
                         const struct right_hand_sides *s) {
  struct factor_panels f = {.factor = factor, .n = n, .stride = stride, .count = ceil_div(n, GEMM_ROWS)};
  int64_t m = s->count, all = ceil_div(m, GEMM_COLUMNS);
  int threads = omp_in_parallel() ? 1 : parallel_threads();
  int64_t held = HELD_BYTES / (n * GEMM_COLUMNS * (int64_t)sizeof(real));
  held = min(min(max(held, 1), 4), ceil_div(all, threads));
  size_t factor_reals = (size_t)round_up((int64_t)panels_reals(f.count), 16),
         columns_reals = (size_t)(held * n * GEMM_COLUMNS);
  size_t triangle_reals = (size_t)round_up(f.count * GEMM_ROWS * GEMM_ROWS, 16);
  real *buffer = memory_acquire((2 * factor_reals + triangle_reals + (size_t)threads * columns_reals) * sizeof(real));
  if (!buffer) return false;
  f.left = buffer, f.below = buffer + factor_reals, f.triangle = buffer + 2 * factor_reals;
  real *columns = f.triangle + triangle_reals;
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    real *x = columns + (size_t)omp_get_thread_num() * columns_reals;
#pragma omp for schedule(static)
    for (int64_t i = 0; i < f.count; i++) pack_panel(&f, directions, i);
#pragma omp for schedule(dynamic)
    for (int64_t p = 0; p < all; p += held)
      solve_columns(&f, directions, s, p * GEMM_COLUMNS, min(held * GEMM_COLUMNS, m - p * GEMM_COLUMNS), x);
  }
  memory_release(buffer);
  return true;
}

#else

static bool solve_vector(const real *factor, int64_t n, int64_t stride, int directions,
                         const struct right_hand_sides *s) {
  (void)factor, (void)n, (void)stride, (void)directions, (void)s;
  return false;
}

#endif

/* Blocks of right-hand sides, cut by their number alone, as products are (gemm_blas.c). */
static void solve_blas(const real *factor, int64_t n, int64_t stride, int directions,
                       const struct right_hand_sides *s) {
  enum { BLOCK = 64 };
#pragma omp parallel for schedule(static) if (!omp_in_parallel() && n * n * s->count > 65536)
  for (int64_t first = 0; first < s->count; first += BLOCK) {
    int count = (int)min(BLOCK, s->count - first), size = (int)n, threads = parallel_alone();
    for (int way = FORWARD; way <= BACK; way++) {
      if (!(directions & way)) continue;
      bool transpose = s->rows == (way == FORWARD); /* b := b L⁻ᵀ is x := L⁻¹ x for every row */
      TRSM(CblasRowMajor, s->rows ? CblasRight : CblasLeft, CblasLower, transpose ? CblasTrans : CblasNoTrans,
           CblasNonUnit, s->rows ? count : size, s->rows ? size : count, 1, factor, (int)stride,
           s->b + first * s->outer, (int)(s->rows ? s->outer : s->inner));
    }
    parallel_set_threads(threads);
  }
}

/* Entries to … (to_count of them) −= the block of L below the diagonal (or its transpose, on the way back) times the
   entries from …. */
static void subtract(const struct right_hand_sides *s, int64_t to, int64_t to_count, int64_t from, int64_t from_count,
                     const real *block, int64_t stride, bool back) {
  real *c = s->b + to * s->inner;
  const real *x = s->b + from * s->inner;
  if (s->rows)
    gemm(false, !back, s->count, to_count, from_count, -1, x, s->outer, block, stride, 1, c, s->outer);
  else
    gemm(back, false, to_count, s->count, from_count, -1, block, stride, x, s->inner, 1, c, s->inner);
}

/* n² operations a right-hand side, each way. */
static void count(int64_t n, int directions, const struct right_hand_sides *s) {
  double ways = directions == (FORWARD | BACK) ? 2 : 1, square = (double)n * (double)n;
  profile_count(ways * square * (double)s->count,
                (square / 2 + 2 * (double)n * (double)s->count) * (double)sizeof(real));
}

static void solve_halves(const real *factor, int64_t n, int64_t stride, int direction,
                         const struct right_hand_sides *s) {
  if (n <= TRIANGLE_MOST) {
    count(n, direction, s);
    if (!solve_vector(factor, n, stride, direction, s)) solve_blas(factor, n, stride, direction, s);
    return;
  }
  int64_t half = round_up(n / 2, 32);
  const real *below = factor + half * stride;
  struct right_hand_sides rest = entries_from(s, half);
  if (direction == FORWARD) {
    solve_halves(factor, half, stride, direction, s);
    subtract(s, half, n - half, 0, half, below, stride, false);
    solve_halves(below + half, n - half, stride, direction, &rest);
  } else {
    solve_halves(below + half, n - half, stride, direction, &rest);
    subtract(s, 0, half, half, n - half, below, stride, true);
    solve_halves(factor, half, stride, direction, s);
  }
}

static void solve(const real *factor, int64_t n, int64_t stride, int directions, const struct right_hand_sides *s) {
  if (n == 0 || s->count == 0) return;
  bool few = !s->rows && (n < ROWS_LEAST || s->count < COLUMNS_LEAST);
  if (few || !gemm_usable(GEMM_VECTOR_UNIT)) {
    count(n, directions, s);
    solve_blas(factor, n, stride, directions, s);
  } else if (n <= TRIANGLE_MOST && solve_vector(factor, n, stride, directions, s)) {
    count(n, directions, s); /* both ways in one visit */
  } else {
    if (directions & FORWARD) solve_halves(factor, n, stride, FORWARD, s);
    if (directions & BACK) solve_halves(factor, n, stride, BACK, s);
  }
}

int cholesky_solve(const real *factor, int64_t n, real *b, int64_t m) {
  if (n > INT32_MAX || m > INT32_MAX)
    return status_error("cholesky_solve: a matrix of (%lld×%lld) is too large for BLAS's 32-bit indices", (long long)n,
                        (long long)m);
  solve(factor, n, n, FORWARD | BACK, &(struct right_hand_sides){false, b, m, 1, m});
  return STATUS_OK;
}

void cholesky_solve_rows(const real *factor, int64_t n, real *b, int64_t ldb, int64_t rows, int64_t zeros) {
  const struct right_hand_sides s = {true, b, rows, ldb, 1}, rest = entries_from(&s, zeros);
  solve(factor + zeros * n + zeros, n - zeros, n, FORWARD, &rest);
  solve(factor, n, n, BACK, &s);
}

void lower_solve_rows(const real *factor, int64_t n, int64_t stride, real *b, int64_t ldb, int64_t rows) {
  solve(factor, n, stride, FORWARD, &(struct right_hand_sides){true, b, rows, ldb, 1});
}
