/* Fold: the engine of reductions. It splits the dimensions of x into kept and reduced ones, merges neighbours that lie
   in one stride, and works
     by rows     when the closest elements in memory fold into one result: spans of x, each one number,
     by columns  when they belong to different results: rows of x added to a row of accumulators.
   Spans and runs of rows are short sums of reals; these are added up in double, so that the error does not grow
   with the size. Pieces handed to threads depend on the shape alone. */
/* Accumulators are too few to be worth a call of memset, which goes by microcode: the compiler is not to make one of a
   loop. */
#pragma GCC optimize("no-tree-loop-distribute-patterns")

#include "fold.h"

#include <math.h>
#include <string.h>

#include "../base/memory.h"
#include "../base/parallel.h"

enum {
  SPAN = 4096,        /* reals summed as reals, a hundredth of them in each lane */
  CHUNK = FOLD_CHUNK, /* accumulators in a row of them */
  RUN = 32,           /* rows added as reals */
  COLLECTED = 128,    /* accumulators when the pieces' are added up */
  PIECE = 1 << 16,    /* elements of one piece of work, about */
  MOST_PIECES = 32    /* of rows: each leaves a row of sums in double, which push x out of the L2 cache */
};

/* ---- spans ---- */

enum { LANES = FOLD_LANES, WIDTH = 8 * LANES, FEW = 4 /* lanes that are added up as such */ };

static double combine(enum fold_kind kind, double a, double b) {
  if (kind == FOLD_HIGHEST) return b > a || b != b ? b : a;
  if (kind == FOLD_LOWEST) return b < a || b != b ? b : a;
  return a + b;
}

static double neutral(enum fold_kind kind) {
  return kind == FOLD_HIGHEST ? -INFINITY : kind == FOLD_LOWEST ? INFINITY : 0;
}

/* Leaves the last `rest` of LANES neighbours, zeros before them. */
static inline __attribute__((always_inline)) void keep_last(fold_lanes *part, int64_t rest) {
  for (int l = 0; l < LANES; l++) (*part)[l] = l >= LANES - rest ? (*part)[l] : 0;
}

/* The lanes' sum, in double, halves upon halves. */
static inline __attribute__((always_inline)) double lanes_sum(fold_lanes lanes) {
  enum { HALF = 8, QUARTER = 4 };
  typedef double half __attribute__((vector_size(HALF * sizeof(double))));
  typedef double quarter __attribute__((vector_size(QUARTER * sizeof(double))));
#ifdef GLS_DOUBLE
  half eight = (half)lanes;
#else
  half eight = __builtin_convertvector(__builtin_shufflevector(lanes, lanes, 0, 1, 2, 3, 4, 5, 6, 7), half) +
               __builtin_convertvector(__builtin_shufflevector(lanes, lanes, 8, 9, 10, 11, 12, 13, 14, 15), half);
#endif
  quarter four = __builtin_shufflevector(eight, eight, 0, 1, 2, 3) + __builtin_shufflevector(eight, eight, 4, 5, 6, 7);
  return (four[0] + four[2]) + (four[1] + four[3]);
}

static inline __attribute__((always_inline)) fold_lanes pair_at(enum fold_kind kind, const real *x, real shift) {
  return fold_lanes_at(kind, x, shift) + fold_lanes_at(kind, x + LANES, shift);
}

static inline __attribute__((always_inline)) double span_total(enum fold_kind kind, const real *x, int64_t n,
                                                               real shift) {
  fold_lanes a = {0}, b = {0}, c = {0}, d = {0};
  int64_t i = 0;
  for (; i + WIDTH <= n; i += WIDTH) {
    a += pair_at(kind, x + i, shift);
    b += pair_at(kind, x + i + 2 * LANES, shift);
    c += pair_at(kind, x + i + 4 * LANES, shift);
    d += pair_at(kind, x + i + 6 * LANES, shift);
  }
  for (; i + 2 * LANES <= n; i += 2 * LANES) a += pair_at(kind, x + i, shift);
  if (i + LANES <= n) {
    b += fold_lanes_at(kind, x + i, shift);
    i += LANES;
  }
  double scalars = 0;
  if (i < n && n >= LANES) {
    fold_lanes part = fold_lanes_at(kind, x + n - LANES, shift);
    keep_last(&part, n - i);
    c += part;
  } else {
    for (; i < n; i++)
      scalars += (double)(kind == FOLD_SUM         ? x[i]
                          : kind == FOLD_DISTANCES ? x[i] - shift
                                                   : (x[i] - shift) * (x[i] - shift));
  }
  return lanes_sum((a + b) + (c + d)) + scalars;
}

static double span_equal(const real *x, int64_t n, real shift) {
  int64_t count = 0;
#pragma omp simd reduction(+ : count)
  for (int64_t i = 0; i < n; i++) count += (x[i] == shift) | ((x[i] != x[i]) & (shift != shift));
  return (double)count;
}

typedef real few __attribute__((vector_size(FEW * sizeof(real)), aligned(sizeof(real)), may_alias));
typedef __typeof__((few){0} < (few){0}) few_places;

static inline __attribute__((always_inline)) few few_better(few a, few b, bool lowest) {
  few_places first = lowest ? a < b : a > b;
  return (few)((first & (few_places)a) | (~first & (few_places)b));
}

/* Comparisons drop NaN, so it is looked for apart: a sum over a NaN is one. (So is one over both infinities: then every
   element is asked.) lowest is a constant where this is inlined. */
static inline __attribute__((always_inline)) real span_extreme(const real *x, int64_t n, bool lowest) {
  enum { WIDE = 2 * LANES }; /* what the compiler keeps in registers */
  real extreme = lowest ? INFINITY : -INFINITY, sum = 0, best[WIDE], total[WIDE] = {0};
  int64_t i = 0;
  if (n >= WIDE) {
    memcpy(best, x, sizeof best);
    /* After the first step whole lines of the cache. */
    for (int64_t step = WIDE - (int64_t)((uintptr_t)x / sizeof(real) % LANES); i < n; i += step, step = WIDE) {
      const real *part = x + min(i, n - WIDE); /* what is seen twice does no harm */
      for (int l = 0; l < WIDE; l++) {
        best[l] = (lowest ? part[l] < best[l] : part[l] > best[l]) ? part[l] : best[l];
        total[l] += part[l];
      }
    }
#pragma GCC unroll 4
    for (int half = WIDE / 2; half > FEW; half /= 2) {
#pragma GCC unroll 1
      for (int l = 0; l < half; l++) {
        best[l] = (lowest ? best[l + half] < best[l] : best[l + half] > best[l]) ? best[l + half] : best[l];
        total[l] += total[l + half];
      }
    }
    few *first = (few *)best, *added = (few *)total;
    first[0] = few_better(first[1], first[0], lowest);
    added[0] += added[1];
#pragma GCC unroll 4
    for (int l = 0; l < FEW; l++) {
      extreme = (lowest ? best[l] < extreme : best[l] > extreme) ? best[l] : extreme;
      sum += total[l];
    }
  }
  for (; i < n; i++) {
    extreme = (lowest ? x[i] < extreme : x[i] > extreme) ? x[i] : extreme;
    sum += x[i];
  }
  if (sum == sum) return extreme;
  int unordered = 0;
  for (i = 0; i < n; i++) unordered |= x[i] != x[i];
  return unordered ? NAN : extreme;
}

double fold_span(enum fold_kind kind, const real *x, int64_t n, real shift) {
  switch (kind) {
    case FOLD_DISTANCES:
      return span_total(FOLD_DISTANCES, x, n, shift);
    case FOLD_SQUARES:
      return span_total(FOLD_SQUARES, x, n, shift);
    case FOLD_EQUAL:
      return span_equal(x, n, shift);
    case FOLD_HIGHEST:
      return span_extreme(x, n, false);
    case FOLD_LOWEST:
      return span_extreme(x, n, true);
    default:
      return span_total(FOLD_SUM, x, n, 0);
  }
}

/* total[j] takes in x[j]. */
static void fold_row(enum fold_kind kind, real *restrict total, const real *restrict x, const real *restrict shift,
                     int64_t n) {
  switch (kind) {
    case FOLD_DISTANCES:
#pragma omp simd
      for (int64_t j = 0; j < n; j++) total[j] += x[j] - shift[j];
      break;
    case FOLD_SQUARES:
#pragma omp simd
      for (int64_t j = 0; j < n; j++) total[j] += (x[j] - shift[j]) * (x[j] - shift[j]);
      break;
    case FOLD_EQUAL:
      for (int64_t j = 0; j < n; j++) total[j] += fold_same(x[j], shift[j]) ? 1 : 0;
      break;
    case FOLD_HIGHEST:
#pragma omp simd
      for (int64_t j = 0; j < n; j++) total[j] = (x[j] > total[j]) | (x[j] != x[j]) ? x[j] : total[j];
      break;
    case FOLD_LOWEST:
#pragma omp simd
      for (int64_t j = 0; j < n; j++) total[j] = (x[j] < total[j]) | (x[j] != x[j]) ? x[j] : total[j];
      break;
    default:
#pragma omp simd
      for (int64_t j = 0; j < n; j++) total[j] += x[j];
  }
}

enum { TOGETHER = 4 };

/* The same with TOGETHER rows, one after the other, while a piece of total stays in registers. Squares and counts are
   not so limited by memory. */
static void fold_rows(enum fold_kind kind, real *restrict total, const real *const *x, int64_t n) {
  const real *restrict a = x[0], *restrict b = x[1], *restrict c = x[2], *restrict d = x[3];
#define TAKE(better, row) value = (row[j] better value) | (row[j] != row[j]) ? row[j] : value
  switch (kind) {
    case FOLD_HIGHEST:
#pragma omp simd
      for (int64_t j = 0; j < n; j++) {
        real value = total[j];
        TAKE(>, a), TAKE(>, b), TAKE(>, c), TAKE(>, d);
        total[j] = value;
      }
      break;
    case FOLD_LOWEST:
#pragma omp simd
      for (int64_t j = 0; j < n; j++) {
        real value = total[j];
        TAKE(<, a), TAKE(<, b), TAKE(<, c), TAKE(<, d);
        total[j] = value;
      }
      break;
    default:
#pragma omp simd
      for (int64_t j = 0; j < n; j++) total[j] = (((total[j] + a[j]) + b[j]) + c[j]) + d[j];
  }
#undef TAKE
}

/* n elements as neighbours: x itself, or scratch filled. */
static const real *gather(real *scratch, const real *x, int64_t stride, int64_t n) {
  if (stride == 1 || n <= 1) return x;
  for (int64_t i = 0; i < n; i++) scratch[i] = x[i * stride];
  return scratch;
}

/* ---- the engine ---- */

/* Some dimensions of a tensor, merged where they lie in one stride. */
struct axes {
  int rank;
  int64_t size[TENSOR_MAX_RANK], stride[TENSOR_MAX_RANK];
};

static void axes_append(struct axes *axes, int64_t size, int64_t stride) {
  if (size == 1) return;
  if (axes->rank > 0 && axes->stride[axes->rank - 1] == size * stride) {
    axes->size[axes->rank - 1] *= size;
    axes->stride[axes->rank - 1] = stride;
    return;
  }
  axes->size[axes->rank] = size;
  axes->stride[axes->rank++] = stride;
}

static int64_t axes_count(const struct axes *axes) {
  int64_t count = 1;
  for (int i = 0; i < axes->rank; i++) count *= axes->size[i];
  return count;
}

static int64_t axes_offset(const struct axes *axes, int64_t index) {
  int64_t offset = 0;
  for (int i = axes->rank - 1; i > 0; i--) {
    offset += index % axes->size[i] * axes->stride[i];
    index /= axes->size[i];
  }
  return axes->rank > 0 ? offset + index * axes->stride[0] : 0;
}

/* The last of the axes by itself; size 1 when there is none. */
static void axes_split(struct axes *axes, int64_t *size, int64_t *stride) {
  *size = 1;
  *stride = 1;
  if (axes->rank == 0) return;
  *size = axes->size[--axes->rank];
  *stride = axes->stride[axes->rank];
}

/* One reduction under way. */
struct task {
  enum fold_kind kind;
  const real *x;
  const real *shift; /* one for each result; NULL is zeros */
  struct axes kept, reduced;
  int64_t inner_size, inner_stride; /* by rows: of the span; by columns: of the row of results */
  real *result;
  double factor; /* result = factor · total */
};

/* Result o over blocks first..last-1; a block is a span of at most SPAN. */
static double row_blocks(const struct task *task, int64_t o, int64_t first, int64_t last) {
  real scratch[SPAN];
  double total = neutral(task->kind);
  real shift = task->shift ? task->shift[o] : 0;
  int64_t blocks = ceil_div(task->inner_size, SPAN);
  const real *x = task->x + axes_offset(&task->kept, o);
  for (int64_t b = first; b < last; b++) {
    int64_t outer = blocks == 1 ? b : b / blocks, start = blocks == 1 ? 0 : b % blocks * SPAN;
    int64_t n = min(SPAN, task->inner_size - start);
    const real *span = x + axes_offset(&task->reduced, outer) + start * task->inner_stride;
    span = gather(scratch, span, task->inner_stride, n);
    total = combine(task->kind, total, fold_span(task->kind, span, n, shift));
  }
  return total;
}

/* Result o over all of its blocks, of which neighbours are but one. */
static double row_total(const struct task *task, int64_t o, int64_t blocks) {
  if (blocks > 1 || task->inner_stride != 1) return row_blocks(task, o, 0, blocks);
  return fold_span(task->kind, task->x + axes_offset(&task->kept, o), task->inner_size,
                   task->shift ? task->shift[o] : 0);
}

static int reduce_by_rows(struct task *task) {
  int64_t results = axes_count(&task->kept);
  axes_split(&task->reduced, &task->inner_size, &task->inner_stride);
  int64_t blocks = axes_count(&task->reduced) * ceil_div(task->inner_size, SPAN);
  int64_t span = min(task->inner_size, SPAN);
  int64_t group = ceil_div(PIECE, span); /* blocks in a piece */
  int64_t groups = ceil_div(blocks, group);
  if (groups == 1 || results >= 64) { /* a piece: some results */
    int64_t piece = min(results, PIECE / (blocks * span) + 1);
#pragma omp parallel for schedule(static) if (results * blocks * span > PARALLEL_THRESHOLD && results > piece)
    for (int64_t first = 0; first < results; first += piece) {
      int64_t last = min(results, first + piece);
      for (int64_t o = first; o < last; o++) task->result[o] = (real)(task->factor * row_total(task, o, blocks));
    }
    return STATUS_OK;
  }
  double *partial = memory_acquire((size_t)(results * groups) * sizeof *partial);
  if (!partial) return STATUS_ERROR;
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < results * groups; i++) {
    int64_t first = i % groups * group;
    partial[i] = row_blocks(task, i / groups, first, min(blocks, first + group));
  }
  for (int64_t o = 0; o < results; o++) {
    double total = neutral(task->kind);
    for (int64_t g = 0; g < groups; g++) total = combine(task->kind, total, partial[o * groups + g]);
    task->result[o] = (real)(task->factor * total);
  }
  memory_release(partial);
  return STATUS_OK;
}

/* total[0..width) over rows first..last-1 of columns start.. of x; row r is fold runs of the results one after
   another (fewer in the last). */
static void column_rows(const struct task *task, const real *x, const real *shift, int64_t row_width, int64_t run_width,
                        int64_t start, int64_t width, int64_t first, int64_t last, double *total) {
  _Alignas(64) real sum[CHUNK], scratch[CHUNK];  /* a store that crosses lines of the cache takes twice as long */
  int64_t rows = ceil_div(run_width, row_width); /* rows of one run */
  bool together = task->inner_stride == 1 && (task->kind == FOLD_SUM || task->kind >= FOLD_HIGHEST);
  for (int64_t j = 0; j < width; j++) total[j] = neutral(task->kind);
  for (int64_t r = first; r < last;) {
    int64_t end = min(last, r + RUN);
    for (int64_t j = 0; j < width; j++) sum[j] = (real)neutral(task->kind);
    while (r < end) {
      const real *row[TOGETHER];
      int64_t n[TOGETHER], most = together ? min(TOGETHER, end - r) : 1, count = 0;
      for (; count < most; count++, r++) {
        int64_t at = rows == 1 ? start : r % rows * row_width + start;
        n[count] = min(width, run_width - at);
        row[count] = x + axes_offset(&task->reduced, rows == 1 ? r : r / rows) + at * task->inner_stride;
      }
      if (count == TOGETHER && n[0] == n[1] && n[0] == n[2] && n[0] == n[3]) {
        fold_rows(task->kind, sum, row, n[0]);
        continue;
      }
      for (int64_t i = 0; i < count; i++)
        fold_row(task->kind, sum, gather(scratch, row[i], task->inner_stride, n[i]), shift, n[i]);
    }
    if (task->kind == FOLD_HIGHEST || task->kind == FOLD_LOWEST) {
      for (int64_t j = 0; j < width; j++) total[j] = combine(task->kind, total[j], sum[j]);
    } else {
#pragma omp simd
      for (int64_t j = 0; j < width; j++) total[j] += (double)sum[j];
    }
  }
}

/* result = what rows of partial results, columns apart, come to. */
static void column_collect(const struct task *task, real *result, const double *partial, int64_t columns, int64_t width,
                           int64_t rows) {
  double total[COLLECTED];
  for (int64_t j = 0; j < width; j++) total[j] = neutral(task->kind);
  for (int64_t r = 0; r < rows; r++, partial += columns) {
    if (task->kind == FOLD_HIGHEST || task->kind == FOLD_LOWEST) {
      for (int64_t j = 0; j < width; j++) total[j] = combine(task->kind, total[j], partial[j]);
    } else {
#pragma omp simd
      for (int64_t j = 0; j < width; j++) total[j] += partial[j];
    }
  }
  for (int64_t j = 0; j < width; j++) result[j] = (real)(task->factor * total[j]);
}

static int reduce_by_columns(struct task *task) {
  axes_split(&task->kept, &task->inner_size, &task->inner_stride);
  int64_t outer = axes_count(&task->kept), columns = task->inner_size;
  /* A narrow row is taken several at a time where one follows the other in memory. */
  int64_t row_width = columns, run_width = columns, fold = 1;
  struct axes *reduced = &task->reduced;
  if (columns <= CHUNK / 4 && reduced->stride[reduced->rank - 1] == columns * task->inner_stride) {
    int64_t size, stride;
    axes_split(reduced, &size, &stride);
    fold = min(CHUNK / columns, size);
    row_width = fold * columns;
    run_width = size * columns;
  }
  int64_t rows = axes_count(reduced) * ceil_div(run_width, row_width);
  int64_t chunks = ceil_div(row_width, CHUNK);
  int64_t piece = PIECE / min(row_width, CHUNK), least = ceil_div(rows, MOST_PIECES);
  int64_t group = outer * chunks >= 16 ? rows : piece > least ? piece : least;
  int64_t groups = ceil_div(rows, group);
  size_t kept_apart = groups > 1 || fold > 1 ? (size_t)(outer * groups * row_width) : 0;
  double *partial = memory_acquire(kept_apart * sizeof *partial);
  if (!partial) return STATUS_ERROR;
#pragma omp parallel for collapse(3) schedule(static) if (outer * rows * row_width > PARALLEL_THRESHOLD)
  for (int64_t o = 0; o < outer; o++) {
    for (int64_t g = 0; g < groups; g++) {
      for (int64_t c = 0; c < chunks; c++) {
        _Alignas(64) double local[CHUNK];
        _Alignas(64) real shift[CHUNK];
        int64_t start = c * CHUNK, width = min(CHUNK, row_width - start);
        for (int64_t j = 0; j < width; j++)
          shift[j] = task->shift ? task->shift[o * columns + (fold > 1 ? j % columns : start + j)] : 0;
        double *total = kept_apart ? partial + (o * groups + g) * row_width + start : local;
        column_rows(task, task->x + axes_offset(&task->kept, o), shift, row_width, run_width, start, width, g * group,
                    min(rows, (g + 1) * group), total);
        if (kept_apart) continue;
        for (int64_t j = 0; j < width; j++) task->result[o * columns + start + j] = (real)(task->factor * total[j]);
      }
    }
  }
  int64_t parts = ceil_div(columns, COLLECTED), terms = groups * fold;
#pragma omp parallel for schedule(static) if (outer * terms * columns > PARALLEL_THRESHOLD)
  for (int64_t i = 0; i < (kept_apart ? outer * parts : 0); i++) {
    int64_t o = i / parts, start = i % parts * COLLECTED, width = min(COLLECTED, columns - start);
    column_collect(task, task->result + o * columns + start, partial + o * terms * columns + start, columns, width,
                   terms);
  }
  memory_release(partial);
  return STATUS_OK;
}

int fold(enum fold_kind kind, const struct tensor *x, const struct fold_plan *plan, const real *shift, double factor,
         real *result) {
  struct task task = {.kind = kind, .x = tensor_real(x), .shift = shift, .result = result, .factor = factor};
  int64_t results = shape_count(&plan->kept);
  if (results == 0) return STATUS_OK;
  if (plan->count == 0) {
    for (int64_t o = 0; o < results; o++) result[o] = (real)(factor * neutral(kind));
    return STATUS_OK;
  }
  bool taken[TENSOR_MAX_RANK] = {false};
  for (int i = 0; i < x->shape.rank; i++) {
    if (!plan->reduced[i]) axes_append(&task.kept, x->shape.size[i], x->stride[i]);
  }
  for (;;) { /* reduced dimensions in the order of memory */
    int widest = -1;
    for (int i = 0; i < x->shape.rank; i++)
      if (plan->reduced[i] && !taken[i] && (widest < 0 || x->stride[i] > x->stride[widest])) widest = i;
    if (widest < 0) break;
    taken[widest] = true;
    axes_append(&task.reduced, x->shape.size[widest], x->stride[widest]);
  }
  const struct axes *kept = &task.kept, *reduced = &task.reduced;
  int64_t near_kept = kept->rank > 0 ? kept->stride[kept->rank - 1] : 0;
  int64_t near_reduced = reduced->rank > 0 ? reduced->stride[reduced->rank - 1] : 0;
  bool by_columns = reduced->rank > 0 && near_kept > 0 && (near_reduced > near_kept || near_reduced == 0);
  return by_columns ? reduce_by_columns(&task) : reduce_by_rows(&task);
}
