/* Curvature, its rows: which samples of the batch the curvature is measured on. Late in the training of a classifier a
   few samples carry nearly all of it, and a part of the batch that is drawn blindly misses them: the step is then far
   too long. So samples are drawn in proportion to the trace of the loss's Hessian in their outputs (mixed with a blind
   draw, for that is not all that decides), and weighted by the inverse: sampling by size, with systematic draws (Madow,
   Annals of Mathematical Statistics 1949). */
#include <math.h>

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
  memory_delete(drawn->chance);
}

/* start is uniform in 0 to 1. */
static int draw_by_size(struct drawn_rows *drawn, double start) {
  int64_t batch = drawn->block.batch, count = drawn->block.count, found = 0;
  drawn->row = memory_new((size_t)count, sizeof *drawn->row);
  drawn->weight = memory_new((size_t)count, sizeof *drawn->weight);
  drawn->chance = memory_new(2 * (size_t)batch, sizeof *drawn->chance);
  if (!drawn->row || !drawn->weight || !drawn->chance) return STATUS_ERROR;
  double *share = drawn->chance + batch, sum = 0;
  bool fits;
  STATUS_TRY(tape_curvature_shares(batch, share, &fits));
  if (!fits) {
    drawn->block.count = 0;
    return STATUS_OK;
  }
  chances(drawn->chance, share, batch, count);
  for (int64_t i = 0; i < batch && found < count; i++) {
    sum += drawn->chance[i];
    if (!(sum > start + (double)found)) continue;
    drawn->row[found] = i;
    drawn->weight[found++] = (double)count / ((double)batch * drawn->chance[i]);
  }
  for (int64_t i = 0; i < found; i++)
    drawn->weight[i] *= (double)found / (double)count; /* rounding may cost the last */
  drawn->block = (struct row_block){batch, 0, found, drawn->row, drawn->weight};
  return STATUS_OK;
}

int drawn_rows_new(struct drawn_rows *drawn, int64_t batch, double fraction) {
  *drawn = (struct drawn_rows){.block = {.batch = batch}};
  bool quadratic = losses_are_quadratic();
  if (fraction < 0) fraction = ROWS_SHARE;
  int64_t rows = (int64_t)ceil(fraction * (double)batch);
  if (rows < ROWS_LEAST) rows = ROWS_LEAST;
  if (rows >= batch) return STATUS_OK;
  uint32_t word[4];
  random_block(random_next_stream(), 0, word);
  drawn->block.count = rows;
  if (!quadratic) return draw_by_size(drawn, (double)word[0] / 4294967296.0);
  drawn->block.start = (int64_t)(word[0] % (uint64_t)(batch - rows + 1));
  return STATUS_OK;
}
