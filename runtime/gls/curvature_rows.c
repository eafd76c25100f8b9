/* Curvature, its rows: which samples of the batch the curvature is measured on. Late in the training of a classifier a
   few samples carry nearly all of it, and a part of the batch that is drawn blindly misses them: the step is then far
   too long. So samples are drawn in proportion to the trace of the loss's Hessian in their outputs (mixed with a blind
   draw, for that is not all that decides), and weighted by the inverse: sampling by size, with systematic draws (Madow,
   Annals of Mathematical Statistics 1949). */
#include <math.h>

#include "../base/integer.h"
#include "../base/memory.h"
#include "curvature.h"

enum { ROWS_LEAST = 16 };
static const double ROWS_SHARE = 0.25, BLIND_SHARE = 0.2;

static bool losses_are_quadratic(void) {
  for (const struct node *node = node_first(); node; node = node->next)
    if (node->call.op->loss && node->loss_weight != 0 && !node->call.op->loss->quadratic) return false;
  return true;
}

/* chance[i], at most 1, in proportion to share, so that they add up to count. */
static void chances(double *chance, const double *share, int64_t batch, int64_t count) {
  double total = 0, scale = (double)count;
  for (int64_t i = 0; i < batch; i++) total += share[i];
  bool known = isfinite(total) && total > 0;
  for (int round = 0; round < 20; round++) { /* what is cut off at 1 goes to the others */
    double sum = 0;
    for (int64_t i = 0; i < batch; i++) {
      double part = (known ? (1 - BLIND_SHARE) * share[i] / total : 1 - BLIND_SHARE) + BLIND_SHARE / (double)batch;
      if (!known) part = 1 / (double)batch;
      chance[i] = fmin(1, scale * part);
      sum += chance[i];
    }
    scale *= (double)count / sum;
  }
}

void drawn_rows_release(struct drawn_rows *drawn) {
  memory_delete(drawn->row);
  memory_delete(drawn->weight);
}

/* share: that of all ranks' rows in the curvature; *fits is false where it is not known row by row. */
static int gather_shares(double *share, const struct loss_rows *batch, const struct ranks *ranks, bool *fits) {
  int size = ranks ? ranks->size : 1;
  double *own = memory_new((size_t)batch->own, sizeof *own);
  int64_t *bytes = memory_new((size_t)size, sizeof *bytes), here = 0;
  int status = own && bytes ? tape_curvature_shares(batch->own, own, fits) : STATUS_ERROR;
  if (status == STATUS_OK) here = *fits ? batch->own * (int64_t)sizeof *own : -1;
  if (status == STATUS_OK) status = ranks_gather(ranks, bytes, &here, sizeof here);
  for (int r = 0; r < size && status == STATUS_OK; r++) *fits = *fits && bytes[r] >= 0;
  if (status == STATUS_OK && *fits) status = ranks_gather_unequal(ranks, share, own, bytes);
  memory_delete(own);
  memory_delete(bytes);
  return status;
}

/* start is uniform in 0 to 1; chance is scratch, twice as long as the batch. */
static int draw_by_size(struct drawn_rows *drawn, const struct loss_rows *batch, int64_t count, double start,
                        double *chance, const struct ranks *ranks) {
  double *share = chance + batch->all, sum = 0;
  bool fits;
  STATUS_TRY(gather_shares(share, batch, ranks, &fits));
  if (!fits) return STATUS_OK;
  chances(chance, share, batch->all, count);
  int64_t found = 0, own = 0;
  for (int64_t i = 0; i < batch->all && found < count; i++) {
    sum += chance[i];
    if (!(sum > start + (double)found)) continue;
    found++;
    if (i < batch->before || i >= batch->before + batch->own) continue;
    drawn->row[own] = i - batch->before;
    drawn->weight[own++] = 1 / chance[i];
  }
  for (int64_t i = 0; i < own; i++) drawn->weight[i] *= (double)own / (double)batch->own;
  drawn->block = (struct row_block){batch->own, 0, own, drawn->row, drawn->weight};
  drawn->none = own == 0;
  return STATUS_OK;
}

/* Those of rows start to start + count that are this rank's. */
static void take_block(struct drawn_rows *drawn, const struct loss_rows *batch, int64_t start, int64_t count) {
  int64_t first = max(start - batch->before, 0), end = min(start + count - batch->before, batch->own);
  drawn->none = end <= first;
  if (drawn->none) return;
  drawn->block = (struct row_block){.batch = batch->own, .start = first, .count = end - first};
  drawn->times = (double)(end - first) / (double)batch->own * (double)batch->all / (double)count;
}

int drawn_rows_new(struct drawn_rows *drawn, const struct loss_rows *batch, double fraction,
                   const struct ranks *ranks) {
  *drawn = (struct drawn_rows){.block = {.batch = batch->own}, .times = 1};
  if (fraction < 0) fraction = ROWS_SHARE;
  int64_t rows = (int64_t)ceil(fraction * (double)batch->all);
  if (rows < ROWS_LEAST) rows = ROWS_LEAST;
  if (rows >= batch->all) return STATUS_OK;
  struct random_stream stream;
  uint32_t word[4];
  STATUS_TRY(ranks_next_stream(ranks, &stream));
  random_block(stream, 0, word);
  if (losses_are_quadratic()) {
    take_block(drawn, batch, (int64_t)(word[0] % (uint64_t)(batch->all - rows + 1)), rows);
    return STATUS_OK;
  }
  drawn->row = memory_new((size_t)rows, sizeof *drawn->row);
  drawn->weight = memory_new((size_t)rows, sizeof *drawn->weight);
  double *chance = memory_new(2 * (size_t)batch->all, sizeof *chance);
  int status = drawn->row && drawn->weight && chance
                   ? draw_by_size(drawn, batch, rows, (double)word[0] / 4294967296.0, chance, ranks)
                   : STATUS_ERROR;
  memory_delete(chance);
  return status;
}
