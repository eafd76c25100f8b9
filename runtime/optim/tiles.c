/* Tiles: a leaf's gradient in pieces that fit the cache, each handed to the update while it is hot. */
#include <string.h>

#include "../base/memory.h"
#include "../base/parallel.h"
#include "optim.h"

/* Elements of a piece: half a megabyte of floats. */
enum { TILE = 1 << 17, TILE_ROWS_LEAST = 32 };

static int dense_tiles(struct tensor *leaf, tile_update *update, void *context, bool *any) {
  struct tensor *gradient;
  STATUS_TRY(gradient_dense(leaf, &gradient));
  *any = gradient != NULL;
  if (!gradient) return STATUS_OK;
  const real *value = tensor_real(gradient);
  int64_t count = tensor_count(gradient);
  enum { PIECE = 1 << 14 };
#pragma omp parallel for schedule(static) if (count > PARALLEL_THRESHOLD)
  for (int64_t i = 0; i < count; i += PIECE) update(context, i, parallel_minimum(PIECE, count - i), value + i);
  return STATUS_OK;
}

/* The only thing that backward left is one use by an op whose factors cost nothing. */
static bool one_direct_factor(const struct gradient *gradient) {
  if (!gradient || gradient->dense || gradient->total || gradient->factor_count != 1) return false;
  const struct factor *factor = &gradient->factor[0];
  return factor->input == 1 && !factor->node->released && factor->node->call.op->flags & OP_DIRECT_FACTORS;
}

int gradient_tiles(struct tensor *leaf, tile_update *update, void *context, bool *any) {
  if (!one_direct_factor(leaf->gradient)) return dense_tiles(leaf, update, context, any);
  const struct factor *factor = &leaf->gradient->factor[0];
  struct factors f = {0};
  STATUS_TRY(factor->node->call.op->factors(&factor->node->call, factor->gradient, &f));
  *any = true;
  const real *a = tensor_real(f.a), *g = tensor_real(f.g);
  int64_t rows = f.inputs, columns = f.outputs;
  int64_t tile_rows = columns ? TILE / columns : 1;
  if (tile_rows < TILE_ROWS_LEAST) tile_rows = TILE_ROWS_LEAST;
  int64_t tiles = (rows + tile_rows - 1) / tile_rows;
  int64_t threads = parallel_minimum(parallel_threads(), tiles > 0 ? tiles : 1);
  size_t piece = (size_t)(tile_rows * columns + 16);
  real *scratch = memory_acquire((size_t)threads * piece * sizeof(real));
  if (scratch) {
#pragma omp parallel for schedule(dynamic) num_threads((int)threads)
    for (int64_t t = 0; t < tiles; t++) {
      int64_t start = t * tile_rows, count = parallel_minimum(tile_rows, rows - start);
      real *tile = scratch + (size_t)omp_get_thread_num() * piece;
      matmul_gemm(true, false, count, columns, f.rows, 1, a + start, rows, g, columns, 0, tile, columns);
      update(context, start * columns, count * columns, tile);
    }
  }
  memory_release(scratch);
  tensor_release(f.a);
  tensor_release(f.g);
  return scratch ? STATUS_OK : STATUS_ERROR;
}
