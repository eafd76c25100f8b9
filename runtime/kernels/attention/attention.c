/* Attention: blocks of scores, and the forward pass. The softmax of a row is made block by block: a running maximum and
   sum, by which what is there is scaled when a block brings a larger one (Milakov and Gimelshein, "Online normalizer
   calculation for softmax", 2018). */
#include <math.h>
#include <string.h>

#include "../../base/vector_math.h"
#include "block.h"

/* ---- packing ---- */

void attention_pack_keys(real *to, struct attention_matrix from, int64_t keys, int64_t size) {
  for (int64_t key = 0; key < keys; key += BLOCK)
    vector_transpose_matrix(to + key * size, BLOCK, from.data + key * from.stride, from.stride, min(BLOCK, keys - key),
                            size);
}

void attention_pack_lanes(real *to, const real *from, int64_t stride, int64_t count, int64_t size, real scale) {
  if (count < PANEL) memset(to, 0, (size_t)panel_reals(size) * sizeof(real));
  vector_transpose_matrix(to, PANEL, from, stride, count, size);
  if (scale == 1) return;
#pragma omp simd
  for (int64_t i = 0; i < panel_reals(size); i++) to[i] *= scale;
}

void attention_pack_rows(real *to, struct attention_matrix from, int64_t rows, int64_t columns, real scale) {
  for (int64_t column = 0; column < columns; column += PANEL, to += panel_reals(rows)) {
    int64_t width = min(PANEL, columns - column);
    if (width < PANEL) memset(to, 0, (size_t)panel_reals(rows) * sizeof(real));
    for (int64_t i = 0; i < rows; i++)
#pragma omp simd
      for (int64_t j = 0; j < width; j++) to[i * PANEL + j] = scale * from.data[i * from.stride + column + j];
  }
}

void attention_clear(struct attention_matrix matrix, int64_t rows, int64_t columns) {
  for (int64_t i = 0; matrix.data && i < rows; i++)
    memset(matrix.data + i * matrix.stride, 0, (size_t)columns * sizeof(real));
}

void attention_multiply(struct attention_matrix c, const real *left, int64_t left_step, int64_t rows,
                        const real *packed, int64_t packed_rows, int64_t first, int64_t columns, int64_t depth,
                        real beta) {
  for (int64_t column = 0; column < columns; column += PANEL)
    gemm_panel(c.data + column, c.stride, left, left_step, rows, packed + column * packed_rows + panel_reals(first),
               min(PANEL, columns - column), depth, beta);
}

/* ---- scores ---- */

static void hide(real *scores, const struct attention_head *head, int64_t query, int64_t queries, int64_t key,
                 int64_t keys) {
  for (int64_t j = 0; head->causal && j < keys; j++) /* query + i < key + j */
    for (int64_t i = 0, hidden = min(PANEL, key + j - query); i < hidden; i++) scores[j * PANEL + i] = -INFINITY;
  if (!head->mask) return;
  const real *mask = head->mask + query * head->mask_query + key * head->mask_key;
  for (int64_t j = 0; j < keys; j++)
    for (int64_t i = 0; i < queries; i++)
      if (mask[i * head->mask_query + j * head->mask_key] == 0) scores[j * PANEL + i] = -INFINITY;
}

void attention_scores(real *scores, const struct attention_head *head, const real *packed_keys, const real *panel,
                      int64_t query, int64_t queries, int64_t key, int64_t keys) {
  gemm_panel(scores, PANEL, packed_keys + key * head->size, BLOCK, keys, panel, PANEL, head->size, 0);
  hide(scores, head, query, queries, key, keys);
}

/* ---- forward ---- */

/* The lanes' running maxima and sums. */
struct running {
  real maximum[PANEL], sum[PANEL];
};

/* Scores become exp(score − maximum); factor: what everything before is scaled by. */
static void exponentials(struct running *running, real *restrict factor, real *restrict scores, int64_t keys) {
  real shift[PANEL], sum[PANEL] = {0}, *restrict maximum = running->maximum;
  for (int i = 0; i < PANEL; i++) shift[i] = maximum[i];
  for (int64_t j = 0; j < keys; j++)
#pragma omp simd
    for (int i = 0; i < PANEL; i++) shift[i] = scores[j * PANEL + i] > shift[i] ? scores[j * PANEL + i] : shift[i];
#pragma omp simd
  for (int i = 0; i < PANEL; i++) {
    real before = maximum[i];
    maximum[i] = shift[i];
    shift[i] = shift[i] == -(real)INFINITY ? 0 : shift[i]; /* nothing seen yet: exp(−∞ − 0) is 0 */
    factor[i] = vector_exp(before - shift[i]);
  }
  for (int64_t j = 0; j < keys; j++)
#pragma omp simd
    for (int i = 0; i < PANEL; i++) {
      real e = vector_exp(scores[j * PANEL + i] - shift[i]);
      scores[j * PANEL + i] = e;
      sum[i] += e;
    }
#pragma omp simd
  for (int i = 0; i < PANEL; i++) running->sum[i] = running->sum[i] * factor[i] + sum[i];
}

static void scale_rows(struct attention_matrix matrix, int64_t rows, int64_t columns, const real *factor) {
  for (int64_t i = 0; i < rows; i++)
#pragma omp simd
    for (int64_t j = 0; j < columns; j++) matrix.data[i * matrix.stride + j] *= factor[i];
}

/* o and the logarithms of at most PANEL queries; packed: rows of the packed values. */
static void forward_panel(struct attention_matrix o, real *logarithm, const struct attention_head *head, int64_t query,
                          int64_t queries, const real *packed_keys, const real *packed_values, int64_t packed,
                          real *scratch) {
  real *panel = attention_take(&scratch, panel_reals(head->size)),
       *scores = attention_take(&scratch, panel_reals(BLOCK)), factor[PANEL];
  struct running running = {.sum = {0}};
  for (int i = 0; i < PANEL; i++) running.maximum[i] = -(real)INFINITY;
  attention_pack_lanes(panel, head->q.data + query * head->q.stride, head->q.stride, queries, head->size, head->scale);
  o.data += query * o.stride;
  int64_t seen = attention_seen(head, query + queries - 1);
  for (int64_t key = 0; key < seen; key += BLOCK) {
    int64_t keys = min(BLOCK, seen - key);
    attention_scores(scores, head, packed_keys, panel, query, queries, key, keys);
    exponentials(&running, factor, scores, keys);
    if (key > 0) scale_rows(o, queries, head->values, factor);
    attention_multiply(o, scores, PANEL, queries, packed_values, packed, key, head->values, keys, key > 0);
  }
  for (int64_t i = 0; i < queries; i++) {
    bool none = running.sum[i] == 0;
    factor[i] = none ? 0 : 1 / running.sum[i];
    logarithm[query + i] = none ? (real)INFINITY : running.maximum[i] + log(running.sum[i]);
  }
  if (seen == 0) attention_clear(o, queries, head->values);
  scale_rows(o, queries, head->values, factor);
}

void attention_forward(struct attention_matrix o, real *logarithm, const struct attention_head *head, int64_t first,
                       int64_t count, real *scratch) {
  int64_t seen = attention_seen(head, first + count - 1);
  real *packed_keys = attention_take(&scratch, round_up(head->keys, BLOCK) * head->size);
  attention_pack_keys(packed_keys, head->k, seen, head->size);
  real *packed_values = attention_take(&scratch, head->keys * round_up(head->values, PANEL));
  attention_pack_rows(packed_values, head->v, seen, head->values, 1);
  for (int64_t i = 0; i < count; i += PANEL)
    forward_panel(o, logarithm, head, first + i, min(PANEL, count - i), packed_keys, packed_values, seen, scratch);
}
