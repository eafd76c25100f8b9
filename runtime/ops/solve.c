/* Solve: many right-hand sides for one Cholesky factor. On the vector unit a thread takes a few panels of columns
   (gemm_kernel.h) through the forward and the backward substitution while they stay in its second cache: of every
   panel of rows what is solved already is taken off by the kernel of the products, and the rest is a triangle in
   registers. Elsewhere LAPACK's way (linalg_cholesky_solve). A column's solution depends on nothing but itself. */
#include "gemm.h"
#include "gemm_kernel.h"

#if VECTOR_BYTES == 64

#include "../base/memory.h"
#include "../base/parallel.h"

enum {
  ROWS_LEAST = 32,
  COLUMNS_LEAST = 16,  /* fewer: LAPACK */
  HELD_BYTES = 1 << 18 /* of columns at a time */
};

/* The factor L in panels of rows: what is left of the diagonal, for the way forward; what is below it, transposed, for
   the way back; the triangles between, whose diagonal is inverted. */
struct factor_panels {
  int64_t n, count;
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

static void pack_panel(const struct factor_panels *f, const real *factor, int64_t i) {
  int64_t n = f->n, row = panel_start(f, i), end = panel_start(f, i + 1);
  struct gemm_operand rows = {factor, n, n, 1}, columns = {factor, n, 1, n};
  if (row > 0) gemm_pack_left(left_panel(f, i), &rows, row, end - row, 0, row);
  if (end < n) gemm_pack_left(below_panel(f, i), &columns, row, end - row, end, n - end);
  real *triangle = f->triangle + i * GEMM_ROWS * GEMM_ROWS;
  for (int64_t a = 0; a < end - row; a++) {
    for (int64_t b = 0; b < a; b++) triangle[a * GEMM_ROWS + b] = factor[(row + a) * n + row + b];
    triangle[a * GEMM_ROWS + a] = 1 / factor[(row + a) * n + row + a];
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

/* Columns first … of b, in panels, into x. */
static void solve_columns(const struct factor_panels *f, real *b, int64_t m, int64_t first, int64_t columns, real *x) {
  int64_t n = f->n, panel = n * GEMM_COLUMNS, panels = (columns + GEMM_COLUMNS - 1) / GEMM_COLUMNS;
  gemm_pack_right(x, &(struct gemm_operand){b, m, 1, m}, first, columns, 0, n);
  for (int64_t i = 0; i < f->count; i++)
    for (int64_t p = 0; p < panels; p++) solve_rows(f, i, false, x + p * panel);
  for (int64_t i = f->count - 1; i >= 0; i--)
    for (int64_t p = 0; p < panels; p++) solve_rows(f, i, true, x + p * panel);
  for (int64_t row = 0; row < n; row++) {
    for (int64_t j = 0; j < columns; j += GEMM_COLUMNS) {
      const real *from = x + j / GEMM_COLUMNS * panel + row * GEMM_COLUMNS;
      int64_t count = parallel_minimum(GEMM_COLUMNS, columns - j);
      for (int64_t k = 0; k < count; k++) b[row * m + first + j + k] = from[k];
    }
  }
}

static bool solve_vector(const real *factor, int64_t n, real *b, int64_t m) {
  if (!gemm_allowed(GEMM_VECTOR) || n < ROWS_LEAST || m < COLUMNS_LEAST) return false;
  struct factor_panels f = {.n = n, .count = (n + GEMM_ROWS - 1) / GEMM_ROWS};
  int threads = omp_in_parallel() ? 1 : parallel_threads();
  int64_t all = (m + GEMM_COLUMNS - 1) / GEMM_COLUMNS, held = HELD_BYTES / (n * GEMM_COLUMNS * (int64_t)sizeof(real));
  held = held < 1 ? 1 : held > 4 ? 4 : held;
  held = parallel_minimum(held, (all + threads - 1) / threads);
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
    for (int64_t i = 0; i < f.count; i++) pack_panel(&f, factor, i);
#pragma omp for schedule(dynamic)
    for (int64_t p = 0; p < all; p += held)
      solve_columns(&f, b, m, p * GEMM_COLUMNS, parallel_minimum(held * GEMM_COLUMNS, m - p * GEMM_COLUMNS), x);
  }
  memory_release(buffer);
  return true;
}

#else

static bool solve_vector(const real *factor, int64_t n, real *b, int64_t m) {
  (void)factor, (void)n, (void)b, (void)m;
  return false;
}

#endif

int matmul_cholesky_solve(const real *factor, int64_t n, real *b, int64_t m) {
  return solve_vector(factor, n, b, m) ? STATUS_OK : linalg_cholesky_solve(factor, n, b, m);
}
