/* Attention: gradient and tangent, from the weights made again block by block: p = exp(score − logarithm). With
   s = scale · q kᵀ a change of the scores ds changes o by (p ∘ (ds − Σ p ds)) v; backwards ds = p ∘ (do vᵀ − Σ do ∘ o)
   (Dao et al., 2022, section 3 and appendix B). */
#include <math.h>
#include <string.h>

#include "../../base/vector_math.h"
#include "block.h"

int64_t attention_scratch(const struct attention_head *head) {
  int64_t size = head->size, values = head->values, keys = round_up(head->keys, BLOCK);
  int64_t wide = round_up(size, PANEL) + round_up(values, PANEL);                          /* of rows as they stand */
  return keys * (2 * size + 2 * wide) + panel_reals(2 * size + values + 3 * BLOCK + wide); /* the most of all three */
}

/* scores become weights: exp(score − logarithm), 0 in lanes without a query. */
static void weights(real *restrict scores, const real *restrict logarithm, int64_t keys) {
  for (int64_t j = 0; j < keys; j++)
#pragma omp simd
    for (int i = 0; i < PANEL; i++) scores[j * PANEL + i] = vector_exp(scores[j * PANEL + i] - logarithm[i]);
}

static void lanes_of(real lane[PANEL], const real *from, int64_t count, real fill) {
  for (int64_t i = 0; i < PANEL; i++) lane[i] = i < count ? from[i] : fill;
}

/* ---- gradient ---- */

/* What the gradient of a panel of queries reads and writes. */
struct backward {
  const struct attention_head *head;
  struct attention_matrix dq, dk, dv;
  const real *packed_keys, *packed_values, *key_rows;
  real *query_lanes, *query_rows, *gradient_lanes, *gradient_rows; /* of scale · q and do */
  real *weight, *change, *turned;                                  /* a block's p, ds; one of them transposed */
};

/* matrix (keys × columns) += block (keys × PANEL) · rows, which are packed */
static void add_to_keys(struct attention_matrix matrix, const struct backward *b, const real *block, int64_t key,
                        int64_t keys, int64_t queries, const real *rows, int64_t columns) {
  if (!matrix.data) return;
  vector_transpose_matrix(b->turned, BLOCK, block, PANEL, keys, queries);
  matrix.data += key * matrix.stride;
  attention_multiply(matrix, b->turned, BLOCK, keys, rows, queries, 0, columns, queries, 1);
}

static void backward_block(const struct backward *b, const real *logarithm, const real *mean, int64_t query,
                           int64_t queries, int64_t key, int64_t keys) {
  const struct attention_head *head = b->head;
  real *restrict p = b->weight, *restrict ds = b->change;
  attention_scores(p, head, b->packed_keys, b->query_lanes, query, queries, key, keys);
  weights(p, logarithm, keys);
  add_to_keys(b->dv, b, p, key, keys, queries, b->gradient_rows, head->values);
  gemm_panel(ds, PANEL, b->packed_values + key * head->values, BLOCK, keys, b->gradient_lanes, PANEL, head->values, 0);
  for (int64_t j = 0; j < keys; j++)
#pragma omp simd
    for (int i = 0; i < PANEL; i++) ds[j * PANEL + i] = p[j * PANEL + i] * (ds[j * PANEL + i] - mean[i]);
  add_to_keys(b->dk, b, ds, key, keys, queries, b->query_rows, head->size);
  if (!b->dq.data) return;
  struct attention_matrix dq = {b->dq.data + query * b->dq.stride, b->dq.stride};
  attention_multiply(dq, ds, PANEL, queries, b->key_rows, head->keys, key, head->size, keys, key > 0);
}

void attention_gradient(struct attention_matrix dq, struct attention_matrix dk, struct attention_matrix dv,
                        const struct attention_head *head, struct attention_matrix o, const real *logarithm,
                        struct attention_matrix gradient, real *scratch) {
  int64_t size = head->size, values = head->values, blocks = round_up(head->keys, BLOCK);
  real *keys_packed = attention_take(&scratch, blocks * size),
       *values_packed = attention_take(&scratch, blocks * values);
  attention_pack_keys(keys_packed, head->k, head->keys, size);
  attention_pack_keys(values_packed, head->v, head->keys, values);
  struct backward b = {
      .head = head, .dq = dq, .dk = dk, .dv = dv, .packed_keys = keys_packed, .packed_values = values_packed};
  real *key_rows = attention_take(&scratch, head->keys * round_up(size, PANEL));
  if (dq.data) attention_pack_rows(key_rows, head->k, head->keys, size, head->scale);
  b.key_rows = key_rows;
  b.query_lanes = attention_take(&scratch, panel_reals(size));
  b.gradient_lanes = attention_take(&scratch, panel_reals(values));
  b.query_rows = attention_take(&scratch, panel_reals(round_up(size, PANEL)));
  b.gradient_rows = attention_take(&scratch, panel_reals(round_up(values, PANEL)));
  b.weight = attention_take(&scratch, panel_reals(BLOCK));
  b.change = attention_take(&scratch, panel_reals(BLOCK));
  b.turned = attention_take(&scratch, panel_reals(BLOCK));
  attention_clear(dk, head->keys, size);
  attention_clear(dv, head->keys, values);
  for (int64_t query = 0; query < head->queries; query += PANEL) {
    int64_t queries = min(PANEL, head->queries - query), seen = attention_seen(head, query + queries - 1);
    struct attention_matrix q = {head->q.data + query * head->q.stride, head->q.stride};
    struct attention_matrix g = {gradient.data + query * gradient.stride, gradient.stride};
    real lane_logarithm[PANEL], mean[PANEL] = {0};
    lanes_of(lane_logarithm, logarithm + query, queries, (real)INFINITY);
    for (int64_t i = 0; i < queries; i++) {
      const real *a = g.data + i * g.stride, *c = o.data + (query + i) * o.stride;
      real dot = 0;
#pragma omp simd reduction(+ : dot)
      for (int64_t j = 0; j < values; j++) dot += a[j] * c[j];
      mean[i] = dot;
    }
    attention_pack_lanes(b.query_lanes, q.data, q.stride, queries, size, head->scale);
    attention_pack_lanes(b.gradient_lanes, g.data, g.stride, queries, values, 1);
    if (dk.data) attention_pack_rows(b.query_rows, q, queries, size, head->scale);
    if (dv.data) attention_pack_rows(b.gradient_rows, g, queries, values, 1);
    if (seen == 0 && dq.data)
      attention_clear((struct attention_matrix){dq.data + query * dq.stride, dq.stride}, queries, size);
    for (int64_t key = 0; key < seen; key += BLOCK)
      backward_block(&b, lane_logarithm, mean, query, queries, key, min(BLOCK, seen - key));
  }
}

/* ---- tangent ---- */

void attention_tangent(struct attention_matrix result, const struct attention_head *head, struct attention_matrix o,
                       const real *logarithm, struct attention_matrix tq, struct attention_matrix tk,
                       struct attention_matrix tv, real *scratch) {
  int64_t size = head->size, values = head->values, blocks = round_up(head->keys, BLOCK);
  real *packed_keys = attention_take(&scratch, blocks * size), *packed_change = attention_take(&scratch, blocks * size);
  attention_pack_keys(packed_keys, head->k, head->keys, size);
  if (tk.data) attention_pack_keys(packed_change, tk, head->keys, size);
  int64_t wide = round_up(values, PANEL);
  real *value_rows = attention_take(&scratch, head->keys * wide),
       *tv_rows = attention_take(&scratch, head->keys * wide);
  attention_pack_rows(value_rows, head->v, head->keys, values, 1);
  if (tv.data) attention_pack_rows(tv_rows, tv, head->keys, values, 1);
  real *lanes = attention_take(&scratch, panel_reals(size)), *change = attention_take(&scratch, panel_reals(size)),
       *p = attention_take(&scratch, panel_reals(BLOCK)), *ds = attention_take(&scratch, panel_reals(BLOCK));
  for (int64_t query = 0; query < head->queries; query += PANEL) {
    int64_t queries = min(PANEL, head->queries - query), seen = attention_seen(head, query + queries - 1);
    real lane_logarithm[PANEL], mean[PANEL] = {0};
    lanes_of(lane_logarithm, logarithm + query, queries, (real)INFINITY);
    attention_pack_lanes(lanes, head->q.data + query * head->q.stride, head->q.stride, queries, size, head->scale);
    if (tq.data) attention_pack_lanes(change, tq.data + query * tq.stride, tq.stride, queries, size, head->scale);
    struct attention_matrix here = {result.data + query * result.stride, result.stride};
    attention_clear(here, queries, values);
    for (int64_t key = 0; key < seen; key += BLOCK) {
      int64_t keys = min(BLOCK, seen - key);
      attention_scores(p, head, packed_keys, lanes, query, queries, key, keys);
      weights(p, lane_logarithm, keys);
      if (tv.data) attention_multiply(here, p, PANEL, queries, tv_rows, head->keys, key, values, keys, 1);
      if (!tq.data && !tk.data) continue;
      if (tq.data) gemm_panel(ds, PANEL, packed_keys + key * size, BLOCK, keys, change, PANEL, size, 0);
      if (tk.data) gemm_panel(ds, PANEL, packed_change + key * size, BLOCK, keys, lanes, PANEL, size, tq.data != NULL);
      for (int64_t j = 0; j < keys; j++)
#pragma omp simd
        for (int i = 0; i < PANEL; i++) {
          ds[j * PANEL + i] *= p[j * PANEL + i];
          mean[i] += ds[j * PANEL + i];
        }
      attention_multiply(here, ds, PANEL, queries, value_rows, head->keys, key, values, keys, 1);
    }
    for (int64_t i = 0; i < queries; i++) {
      real *to = here.data + i * here.stride;
      const real *from = o.data + (query + i) * o.stride;
#pragma omp simd
      for (int64_t j = 0; j < values; j++) to[j] -= mean[i] * from[j];
    }
  }
}
