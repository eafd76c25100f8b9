/* Newton-Schulz by the matrix unit (tiles.h), in bfloat16; sums are float32's. A matrix is in tiles from one product to
   the next: a block of results, 32 × 32, is rounded and becomes the tiles that the products to come read, so that
   nothing is packed twice. The tiles of a block's transpose are its own tiles turned, pairs as they are: X gives those
   of Xᵀ for the Gram matrix, and of the two symmetric products only the blocks on and below the diagonal are made. A
   tall matrix is turned on its way in and out. Edges are zeros.

   Kept by the bench's row "GPT 4×128, context 64, batch 12 step, GLS tokens": five iterations of 128×512 take 0.23 ms,
   by the products of gemm.c 1.1 (one thread of a shared Intel Xeon). */
#include "newton_schulz.h"
#include "tiles.h"

#ifdef HAS_TILES

#include "../../base/integer.h"
#include "../../base/memory.h"
#include "../../base/parallel.h"
#include "gemm.h"

/* Of k in the Gram matrix, so that X's tiles are still in the L2 cache for the next block: 16 · 32. */
enum { DEPTH_MOST = 16, BLOCK_FLOATS = BLOCK * BLOCK };

/* X (rows × columns, in blocks) and what is made of it. */
struct iteration {
  float *x; /* m × n; X is its transpose where tall */
  int64_t m, n, rows, columns;
  bool tall;
  float scale;                               /* of x, on its way in */
  float *gram;                               /* blocks on and below the diagonal, in their order */
  char *x_left, *x_turned, *x_right;         /* X as a left operand, Xᵀ and X as right ones */
  char *gram_left, *gram_right, *polynomial; /* A + B G + C G² as a left operand */
  char *scratch;                             /* of every thread: a panel of X, two tiles, a block */
  size_t scratch_bytes;
};

/* ---- tiles ---- */

/* Panel p (16 rows of a left operand, 16 columns of a right one) at step s of k. */
static char *tile(char *operand, int64_t steps, int64_t p, int64_t s) { return operand + (p * steps + s) * TILE_BYTES; }

/* The nearest bf16, in the upper half: half of what is cut off is added; a NaN stays one. */
TARGET static inline __m512i rounded(__m512 x) {
  enum { NAN_OF_BOTH_KINDS = 0x81 };
  __m512i bits = _mm512_castps_si512(x);
  __mmask16 is_number = _knot_mask16(_mm512_fpclass_ps_mask(x, NAN_OF_BOTH_KINDS));
  bits = _mm512_mask_add_epi32(bits, is_number, bits, _mm512_set1_epi32(0x8000));
  return _mm512_and_si512(bits, _mm512_set1_epi32((int)0xffff0000));
}

TARGET static inline void store_pairs(char *line, __m512 x0, __m512 x1) {
  _mm512_store_si512(line, _mm512_or_si512(rounded(x1), _mm512_srli_epi32(rounded(x0), 16)));
}

/* A block's upper and lower half as tiles of a left operand. */
TARGET static void left_tiles(char *upper, char *lower, const float *block) {
  for (int i = 0; i < BLOCK; i++)
    store_pairs((i < SIDE ? upper : lower) + i % SIDE * 64, _mm512_load_ps(block + i * BLOCK),
                _mm512_load_ps(block + i * BLOCK + SIDE));
}

/* Its left and right half as tiles of a right operand. */
TARGET static void right_tiles(char *left, char *right, const float *block) {
  for (int i = 0; i < SIDE; i++) {
    const float *first = block + i * BLOCK, *second = first + SIDE * BLOCK;
    store_pairs(left + i * 64, _mm512_load_ps(first), _mm512_load_ps(second));
    store_pairs(right + i * 64, _mm512_load_ps(first + SIDE), _mm512_load_ps(second + SIDE));
  }
}

/* The tile of the transpose on the other side: left for right. */
TARGET static void turn(char *to, const char *from) { transpose((void *)to, (const void *)from, SIDE, SIDE, SIDE); }

/* ---- blocks ---- */

/* block (32 × 32) = two panels times two, steps of k, from panels that are `left` and `right` steps long; added to what
   is in block when adds. */
TARGET static void multiply(float *block, bool adds, const char *left, int64_t left_steps, const char *right,
                            int64_t right_steps, int64_t steps) {
  const char *left1 = left + left_steps * TILE_BYTES, *right1 = right + right_steps * TILE_BYTES;
  enum { LINE = BLOCK * sizeof(float) };
  __asm__ volatile("" ::: "memory"); /* tiles are written before they are loaded */
  if (adds) {
    _tile_loadd(0, block, LINE);
    _tile_loadd(1, block + SIDE, LINE);
    _tile_loadd(2, block + SIDE * BLOCK, LINE);
    _tile_loadd(3, block + SIDE * BLOCK + SIDE, LINE);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int64_t at = 0; at < steps * TILE_BYTES; at += TILE_BYTES) {
    _tile_loadd(4, left + at, 64);
    _tile_loadd(6, right + at, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, right1 + at, 64);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, left1 + at, 64);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, block, LINE);
  _tile_stored(1, block + SIDE, LINE);
  _tile_stored(2, block + SIDE * BLOCK, LINE);
  _tile_stored(3, block + SIDE * BLOCK + SIDE, LINE);
  __asm__ volatile("" ::: "memory");
}

/* block = scale · X's at (i, j). */
TARGET static void load_block(float *block, const struct iteration *it, int64_t i, int64_t j) {
  float turned[SIDE][SIDE] __attribute__((aligned(64)));
  __m512 scale = _mm512_set1_ps(it->scale);
  for (int64_t quarter = 0; quarter < 4; quarter++) {
    int64_t row = i * BLOCK + quarter / 2 * SIDE, column = j * BLOCK + quarter % 2 * SIDE;
    float *to = block + quarter / 2 * SIDE * BLOCK + quarter % 2 * SIDE;
    if (it->tall) transpose(turned, it->x + column * it->n + row, it->n, it->m - column, it->n - row);
    for (int64_t k = 0; k < SIDE; k++) {
      __m512 line = _mm512_setzero_ps();
      if (it->tall)
        line = _mm512_load_ps(turned[k]);
      else if (row + k < it->m)
        line = _mm512_maskz_loadu_ps(lanes(it->n - column), it->x + (row + k) * it->n + column);
      _mm512_store_ps(to + k * BLOCK, _mm512_mul_ps(scale, line));
    }
  }
}

/* x's at (i, j) of X = block. */
TARGET static void store_block(const struct iteration *it, const float *block, int64_t i, int64_t j) {
  float turned[SIDE][SIDE] __attribute__((aligned(64)));
  for (int64_t quarter = 0; quarter < 4; quarter++) {
    int64_t row = i * BLOCK + quarter / 2 * SIDE, column = j * BLOCK + quarter % 2 * SIDE;
    const float *from = block + quarter / 2 * SIDE * BLOCK + quarter % 2 * SIDE;
    int64_t stride = BLOCK, first = it->tall ? column : row, second = it->tall ? row : column;
    if (it->tall) {
      transpose(turned, from, BLOCK, SIDE, SIDE);
      from = turned[0], stride = SIDE;
    }
    for (int64_t k = 0; k < min(SIDE, it->m - first); k++)
      _mm512_mask_storeu_ps(it->x + (first + k) * it->n + second, lanes(it->n - second),
                            _mm512_load_ps(from + k * stride));
  }
}

/* ---- the three products ---- */

/* The tiles of X's block (i, j). */
static void keep_x(const struct iteration *it, const float *block, int64_t i, int64_t j) {
  left_tiles(tile(it->x_left, it->columns, 2 * i, j), tile(it->x_left, it->columns, 2 * i + 1, j), block);
  right_tiles(tile(it->x_right, it->rows, 2 * j, i), tile(it->x_right, it->rows, 2 * j + 1, i), block);
  for (int64_t h = 0; h < 2; h++)
    turn(tile(it->x_turned, it->columns, 2 * i + h, j), tile(it->x_left, it->columns, 2 * i + h, j));
}

/* Block `at` on and below the diagonal. */
static void place(int64_t at, int64_t *i, int64_t *j) {
  for (*i = 0; at > *i; ++*i) at -= *i + 1;
  *j = at;
}

/* G += X Xᵀ over `steps` of k from `from` on; after the last its tiles. */
static void make_gram(const struct iteration *it, int64_t at, int64_t from, int64_t steps) {
  float *block = it->gram + at * BLOCK_FLOATS;
  int64_t i, j, rows = it->rows;
  place(at, &i, &j);
  multiply(block, from > 0, tile(it->x_left, it->columns, 2 * i, from), it->columns,
           tile(it->x_turned, it->columns, 2 * j, from), it->columns, steps);
  if (from + steps < it->columns) return;
  left_tiles(tile(it->gram_left, rows, 2 * i, j), tile(it->gram_left, rows, 2 * i + 1, j), block);
  right_tiles(tile(it->gram_right, rows, 2 * j, i), tile(it->gram_right, rows, 2 * j + 1, i), block);
  for (int64_t h = 0; h < 2 && i != j; h++) {
    turn(tile(it->gram_right, rows, 2 * i + h, j), tile(it->gram_left, rows, 2 * i + h, j));
    turn(tile(it->gram_left, rows, 2 * j + h, i), tile(it->gram_right, rows, 2 * j + h, i));
  }
}

/* A + B G + C G² */
TARGET static void make_polynomial(const struct iteration *it, int64_t at, char *scratch) {
  float *block = (float *)(void *)(scratch + 2 * TILE_BYTES);
  const float *gram = it->gram + at * BLOCK_FLOATS;
  int64_t i, j, rows = it->rows;
  place(at, &i, &j);
  multiply(block, false, tile(it->gram_left, rows, 2 * i, 0), rows, tile(it->gram_right, rows, 2 * j, 0), rows, rows);
  for (int k = 0; k < BLOCK_FLOATS; k += SIDE)
    _mm512_store_ps(block + k,
                    _mm512_fmadd_ps(_mm512_set1_ps(NEWTON_SCHULZ_C), _mm512_load_ps(block + k),
                                    _mm512_mul_ps(_mm512_set1_ps(NEWTON_SCHULZ_B), _mm512_load_ps(gram + k))));
  for (int k = 0; k < BLOCK && i == j; k++) block[k * BLOCK + k] += NEWTON_SCHULZ_A;
  left_tiles(tile(it->polynomial, rows, 2 * i, j), tile(it->polynomial, rows, 2 * i + 1, j), block);
  if (i == j) return;
  right_tiles(scratch, scratch + TILE_BYTES, block);
  for (int64_t h = 0; h < 2; h++) turn(tile(it->polynomial, rows, 2 * j + h, i), scratch + h * TILE_BYTES);
}

/* Column of blocks j of X := the polynomial times it. */
static void make_x(const struct iteration *it, int64_t j, bool is_last, char *scratch) {
  float *block = (float *)(void *)(scratch + 2 * TILE_BYTES);
  char *panel = scratch + 2 * TILE_BYTES + BLOCK_FLOATS * sizeof(float);
  int64_t rows = it->rows;
  memcpy(panel, tile(it->x_right, rows, 2 * j, 0), (size_t)(2 * rows * TILE_BYTES));
  for (int64_t i = 0; i < rows; i++) {
    multiply(block, false, tile(it->polynomial, rows, 2 * i, 0), rows, panel, rows, rows);
    if (is_last)
      store_block(it, block, i, j);
    else
      keep_x(it, block, i, j);
  }
}

/* What every thread of a team does. */
static void iterate(const struct iteration *it, int iterations) {
  char *scratch = it->scratch + (size_t)omp_get_thread_num() * it->scratch_bytes;
  int64_t rows = it->rows, columns = it->columns, lower = rows * (rows + 1) / 2;
  tiles_configure();
#pragma omp for schedule(static)
  for (int64_t j = 0; j < columns; j++) {
    float *block = (float *)(void *)scratch;
    for (int64_t i = 0; i < rows; i++) {
      load_block(block, it, i, j);
      keep_x(it, block, i, j);
    }
  }
  for (int k = 1; k <= iterations; k++) {
    for (int64_t from = 0; from < columns; from += DEPTH_MOST) {
#pragma omp for schedule(static)
      for (int64_t at = 0; at < lower; at++) make_gram(it, at, from, min(DEPTH_MOST, columns - from));
    }
#pragma omp for schedule(static)
    for (int64_t at = 0; at < lower; at++) make_polynomial(it, at, scratch);
#pragma omp for schedule(static)
    for (int64_t j = 0; j < columns; j++) make_x(it, j, k == iterations, scratch);
  }
  tiles_release();
}

bool newton_schulz_has_tiles(int64_t m, int64_t n) { return gemm_usable(GEMM_MATRIX_UNIT) && min(m, n) >= BLOCK; }

int newton_schulz_tiles(real *x, int64_t m, int64_t n, double scale, int iterations) {
  struct iteration it = {.x = x, .m = m, .n = n, .tall = m > n, .scale = (float)scale};
  it.rows = ceil_div(min(m, n), BLOCK), it.columns = ceil_div(max(m, n), BLOCK);
  int threads = omp_in_parallel() ? 1 : (int)min(parallel_threads(), it.columns);
  size_t pair = 2 * TILE_BYTES, square = (size_t)(it.rows * it.rows), all = (size_t)(it.rows * it.columns);
  size_t gram = (square + (size_t)it.rows) / 2 * BLOCK_FLOATS * sizeof(float);
  it.scratch_bytes = pair + BLOCK_FLOATS * sizeof(float) + (size_t)it.rows * pair;
  char *buffer = memory_acquire(gram + (3 * square + 3 * all) * pair + (size_t)threads * it.scratch_bytes);
  if (!buffer) return STATUS_ERROR;
  it.gram = (float *)(void *)buffer;
  it.x_left = buffer + gram, it.x_turned = it.x_left + all * pair, it.x_right = it.x_turned + all * pair;
  it.gram_left = it.x_right + all * pair, it.gram_right = it.gram_left + square * pair;
  it.polynomial = it.gram_right + square * pair, it.scratch = it.polynomial + square * pair;
#pragma omp parallel num_threads(threads) if (threads > 1)
  iterate(&it, iterations);
  memory_release(buffer);
  return STATUS_OK;
}

#else

bool newton_schulz_has_tiles(int64_t m, int64_t n) {
  (void)m, (void)n;
  return false;
}

int newton_schulz_tiles(real *x, int64_t m, int64_t n, double scale, int iterations) {
  (void)x, (void)m, (void)n, (void)scale, (void)iterations;
  return STATUS_ERROR;
}

#endif
