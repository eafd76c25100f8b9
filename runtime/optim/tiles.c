/* Tiles: a leaf's gradient in pieces that fit the cache, each handed to the update while it is hot. */
#include <string.h>

#include "../base/memory.h"
#include "../base/parallel.h"
#include "optim.h"

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

struct taken {
  tile_update *update;
  void *context;
  int64_t columns;
};

static void take(void *context, int64_t row, int64_t column, int64_t count, const real *values) {
  const struct taken *taken = context;
  taken->update(taken->context, row * taken->columns + column, count, values);
}

int gradient_tiles(struct tensor *leaf, tile_update *update, void *context, bool *any) {
  if (!one_direct_factor(leaf->gradient)) return dense_tiles(leaf, update, context, any);
  const struct factor *factor = &leaf->gradient->factor[0];
  struct factors f = {0};
  STATUS_TRY(factor->node->call.op->factors(&factor->node->call, factor->gradient, &f));
  *any = true;
  struct taken taken = {update, context, f.outputs};
  int status = matmul_gemm_take(true, false, f.inputs, f.outputs, f.rows, 1, tensor_real(f.a), f.inputs,
                                tensor_real(f.g), f.outputs, take, &taken);
  tensor_release(f.a);
  tensor_release(f.g);
  return status;
}
