/* Solve: many right-hand sides for one Cholesky factor. A large triangle is cut in two, again and again: what the first
   half has solved is taken off the second by one product. A small one, on the vector unit, is gone through by threads
   with a few panels of right-hand sides each (gemm_kernel.h), which stay in the second cache: of every panel of rows
   what is solved already is taken off by the kernel of the products, and the rest is a triangle in registers. Elsewhere
   LAPACK's way (cholesky_solve_blas) or plain loops. A side's solution depends on nothing but itself. */
#include "../../base/memory.h"
#include "../../base/parallel.h"
#include "gemm.h"
#include "gemm_kernel.h"

/* The right-hand sides: entry i of side j is at b + i · inner + j · outer; one of the strides is 1. */
struct sides {
  real *b;
  int64_t count, outer, inner;
};

static struct sides sides_from(const struct sides *s, int64_t first) {
  return (struct sides){s->b + first * s->inner, s->count, s->outer, s->inner};
}

/* Which substitutions: x := L⁻¹ x, x := L⁻ᵀ x. */
enum { FORWARD = 1, BACK = 2 };

#if VECTOR_BYTES == 64

enum {
  TRIANGLE_MOST = 512, /* rows that are not cut in two */
  ROWS_LEAST = 32,
  COLUMNS_LEAST = 16,  /* fewer: LAPACK */
  HELD_BYTES = 1 << 18 /* of right-hand sides at a time */
};

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

/* Back from panels (of which x is the first) to where sides lie apart and entries together. */
static void unpack_rows(const struct sides *s, int64_t first, int64_t columns, int64_t n, const real *x) {
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

/* Sides first … of b, in panels, into x. */
static void solve_columns(const struct factor_panels *f, int directions, const struct sides *s, int64_t first,
                          int64_t columns, real *x) {
  int64_t n = f->n, panel = n * GEMM_COLUMNS, panels = (columns + GEMM_COLUMNS - 1) / GEMM_COLUMNS;
  gemm_pack_right(x, &(struct gemm_operand){s->b, s->count, s->outer, s->inner}, first, columns, 0, n);
  for (int64_t i = 0; i < f->count && directions & FORWARD; i++)
    for (int64_t p = 0; p < panels; p++) solve_rows(f, i, false, x + p * panel);
  for (int64_t i = f->count - 1; i >= 0 && directions & BACK; i--)
    for (int64_t p = 0; p < panels; p++) solve_rows(f, i, true, x + p * panel);
  if (s->inner == 1) {
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

static bool solve_vector(const real *factor, int64_t n, int64_t stride, int directions, const struct sides *s) {
  if (!gemm_allowed(GEMM_VECTOR)) return false;
  struct factor_panels f = {.factor = factor, .n = n, .stride = stride, .count = (n + GEMM_ROWS - 1) / GEMM_ROWS};
  int64_t m = s->count, all = (m + GEMM_COLUMNS - 1) / GEMM_COLUMNS;
  int threads = omp_in_parallel() ? 1 : parallel_threads();
  int64_t held = HELD_BYTES / (n * GEMM_COLUMNS * (int64_t)sizeof(real));
  held = held < 1 ? 1 : held > 4 ? 4 : held;
  held = min(held, (all + threads - 1) / threads);
  size_t factor_reals = (panels_reals(f.count) + 15) / 16 * 16, columns_reals = (size_t)(held * n * GEMM_COLUMNS);
  size_t triangle_reals = (size_t)(f.count * GEMM_ROWS * GEMM_ROWS);
  triangle_reals = (triangle_reals + 15) / 16 * 16;
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

static bool vector_serves(int64_t n, int64_t m) {
  return gemm_allowed(GEMM_VECTOR) && n >= ROWS_LEAST && m >= COLUMNS_LEAST;
}

#else

enum { TRIANGLE_MOST = 64 };

static bool solve_vector(const real *factor, int64_t n, int64_t stride, int directions, const struct sides *s) {
  (void)factor, (void)n, (void)stride, (void)directions, (void)s;
  return false;
}

static bool vector_serves(int64_t n, int64_t m) {
  (void)n, (void)m;
  return false;
}

#endif

/* The substitutions as they are written down, for one side. */
static inline void substitute(const real *factor, int64_t n, int64_t stride, int directions, real *x, int64_t inner) {
  for (int64_t i = 0; i < n && directions & FORWARD; i++) {
    const real *row = factor + i * stride;
    real sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t k = 0; k < i; k++) sum += row[k] * x[k * inner];
    x[i * inner] = (x[i * inner] - sum) / row[i];
  }
  for (int64_t i = n - 1; i >= 0 && directions & BACK; i--) {
    const real *row = factor + i * stride;
    real value = x[i * inner] /= row[i];
#pragma omp simd
    for (int64_t k = 0; k < i; k++) x[k * inner] -= row[k] * value;
  }
}

static void solve_naive(const real *factor, int64_t n, int64_t stride, int directions, const struct sides *s) {
#pragma omp parallel for schedule(static) if (!omp_in_parallel() && n * n * s->count > 65536)
  for (int64_t j = 0; j < s->count; j++) {
    if (s->inner == 1)
      substitute(factor, n, stride, directions, s->b + j * s->outer, 1);
    else
      substitute(factor, n, stride, directions, s->b + j * s->outer, s->inner);
  }
}

/* Entries to … (count of them) −= those from …, times the block of L below the diagonal (or its transpose, on the way
   back); block is where that block begins. */
static void take_off(const struct sides *s, int64_t to, int64_t to_count, int64_t from, int64_t from_count,
                     const real *block, int64_t stride, bool back) {
  real *c = s->b + to * s->inner;
  const real *x = s->b + from * s->inner;
  if (s->inner == 1)
    gemm(false, !back, s->count, to_count, from_count, -1, x, s->outer, block, stride, 1, c, s->outer);
  else
    gemm(back, false, to_count, s->count, from_count, -1, block, stride, x, s->inner, 1, c, s->inner);
}

static void solve(const real *factor, int64_t n, int64_t stride, int direction, const struct sides *s) {
  if (n <= TRIANGLE_MOST) {
    if (!solve_vector(factor, n, stride, direction, s)) solve_naive(factor, n, stride, direction, s);
    return;
  }
  int64_t half = (n / 2 + 31) / 32 * 32;
  const real *below = factor + half * stride;
  struct sides rest = sides_from(s, half);
  if (direction == FORWARD) {
    solve(factor, half, stride, direction, s);
    take_off(s, half, n - half, 0, half, below, stride, false);
    solve(below + half, n - half, stride, direction, &rest);
  } else {
    solve(below + half, n - half, stride, direction, &rest);
    take_off(s, 0, half, half, n - half, below, stride, true);
    solve(factor, half, stride, direction, s);
  }
}

int cholesky_solve(const real *factor, int64_t n, real *b, int64_t m) {
  const struct sides s = {b, m, 1, m};
  if (!vector_serves(n, m)) return cholesky_solve_blas(factor, n, b, m);
  if (n <= TRIANGLE_MOST)
    return solve_vector(factor, n, n, FORWARD | BACK, &s) ? STATUS_OK : cholesky_solve_blas(factor, n, b, m);
  solve(factor, n, n, FORWARD, &s);
  solve(factor, n, n, BACK, &s);
  return STATUS_OK;
}

void cholesky_solve_rows(const real *factor, int64_t n, real *b, int64_t ldb, int64_t rows, int64_t zeros) {
  const struct sides s = {b, rows, ldb, 1}, rest = sides_from(&s, zeros);
  if (rows == 0) return;
  solve(factor + zeros * n + zeros, n - zeros, n, FORWARD, &rest);
  solve(factor, n, n, BACK, &s);
}

void lower_solve_rows(const real *factor, int64_t n, int64_t stride, real *b, int64_t ldb, int64_t rows) {
  const struct sides s = {b, rows, ldb, 1};
  if (n > 0 && rows > 0) solve(factor, n, stride, FORWARD, &s);
}
