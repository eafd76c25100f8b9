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

/* Rows far apart would fall on few sets of the L1 cache, and each on a page of its own. */
struct attention_matrix attention_close(real *to, struct attention_matrix from, int64_t rows, int64_t columns) {
  if (from.stride == columns || !from.data) return from;
  for (int64_t i = 0; i < rows; i++)
    memcpy(to + i * columns, from.data + i * from.stride, (size_t)columns * sizeof(real));
  return (struct attention_matrix){to, columns};
}

void attention_pack_lanes(real *to, const real *from, int64_t stride, int64_t count, int64_t size, real scale) {
  if (count < PANEL) memset(to, 0, (size_t)panel_reals(size) * sizeof(real));
  vector_transpose_matrix(to, PANEL, from, stride, count, size);
  if (scale == 1) return;
#pragma omp simd
  for (int64_t i = 0; i < panel_reals(size); i++) to[i] *= scale;
}

void attention_pack_rows(real *to, const real *from, int64_t stride, int64_t count, int64_t size, real scale) {
  for (int64_t column = 0; column < size; column += PANEL, to += panel_reals(PANEL)) {
    int64_t columns = min(PANEL, size - column);
    if (columns < PANEL) memset(to, 0, (size_t)panel_reals(count) * sizeof(real));
    for (int64_t i = 0; i < count; i++)
#pragma omp simd
      for (int64_t j = 0; j < columns; j++) to[i * PANEL + j] = scale * from[i * stride + column + j];
  }
}

void attention_unpack_lanes(real *to, int64_t stride, const real *panel, int64_t count, int64_t size,
                            const real *scale) {
  vector_transpose_matrix(to, stride, panel, PANEL, size, count);
  for (int64_t i = 0; i < count; i++)
#pragma omp simd
    for (int64_t j = 0; j < size; j++) to[i * stride + j] *= scale[i];
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

static void scale_lanes(real *restrict panel, int64_t rows, const real *restrict factor) {
  for (int64_t k = 0; k < rows; k++)
#pragma omp simd
    for (int i = 0; i < PANEL; i++) panel[k * PANEL + i] *= factor[i];
}

/* o and the logarithms of at most PANEL queries. */
static void forward_panel(struct attention_matrix o, real *logarithm, const struct attention_head *head, int64_t query,
                          int64_t queries, const real *packed_keys, struct attention_matrix v, real *scratch) {
  real *panel = attention_take(&scratch, panel_reals(head->size)),
       *scores = attention_take(&scratch, panel_reals(BLOCK)),
       *sum = attention_take(&scratch, panel_reals(head->values)), factor[PANEL];
  struct running running = {.sum = {0}};
  for (int i = 0; i < PANEL; i++) running.maximum[i] = -(real)INFINITY;
  attention_pack_lanes(panel, head->q.data + query * head->q.stride, head->q.stride, queries, head->size, head->scale);
  memset(sum, 0, (size_t)panel_reals(head->values) * sizeof(real));
  int64_t seen = attention_seen(head, query + queries - 1);
  for (int64_t key = 0; key < seen; key += BLOCK) {
    int64_t keys = min(BLOCK, seen - key);
    attention_scores(scores, head, packed_keys, panel, query, queries, key, keys);
    exponentials(&running, factor, scores, keys);
    if (key > 0) scale_lanes(sum, head->values, factor);
    gemm_panel(sum, PANEL, v.data + key * v.stride, v.stride, head->values, scores, PANEL, keys, key > 0);
  }
  for (int64_t i = 0; i < queries; i++) {
    bool none = running.sum[i] == 0;
    factor[i] = none ? 0 : 1 / running.sum[i];
    logarithm[query + i] = none ? (real)INFINITY : running.maximum[i] + log(running.sum[i]);
  }
  attention_unpack_lanes(o.data + query * o.stride, o.stride, sum, queries, head->values, factor);
}

void attention_forward(struct attention_matrix o, real *logarithm, const struct attention_head *head, int64_t first,
                       int64_t count, real *scratch) {
  int64_t seen = attention_seen(head, first + count - 1);
  real *packed_keys = attention_take(&scratch, round_up(head->keys, BLOCK) * head->size);
  attention_pack_keys(packed_keys, head->k, seen, head->size);
  real *closed = attention_take(&scratch, round_up(head->keys, BLOCK) * head->values);
  struct attention_matrix v = attention_close(closed, head->v, seen, head->values);
  for (int64_t i = 0; i < count; i += PANEL)
    forward_panel(o, logarithm, head, first + i, min(PANEL, count - i), packed_keys, v, scratch);
}
