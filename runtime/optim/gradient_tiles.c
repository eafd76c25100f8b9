/* Tiles: a leaf's gradient in pieces that fit the cache, each handed to the update while it is hot. */
#include <string.h>

#include "../base/parallel.h"
#include "../base/profile.h"
#include "optim.h"

static int dense_tiles(struct tensor *leaf, const struct tile_update *update, bool *any) {
  struct tensor *gradient;
  STATUS_TRY(gradient_dense(leaf, &gradient));
  *any = gradient != NULL;
  if (!gradient) return STATUS_OK;
  const real *value = tensor_real(gradient);
  int64_t count = tensor_count(gradient);
  int arrays = 2; /* the gradient; what is touched is read and written */
  for (int i = 0; i < GEMM_TOUCHED && update->touched[i]; i++) arrays += 2;
  profile_count((double)count, (double)arrays * (double)count * (double)sizeof(real));
  enum { PIECE = 1 << 14 };
#pragma omp parallel for schedule(static) if (count > PARALLEL_THRESHOLD)
  for (int64_t i = 0; i < count; i += PIECE)
    update->update(
        update->context,
        &(struct gradient_tile){.offset = i, .rows = 1, .columns = min(PIECE, count - i), .gradient = value + i});
  return STATUS_OK;
}

/* Above so many rows the product costs far more than a pass over the gradient, and one that is visited costs more than
   one that is stored: an eighth of the bench's row "LSTM 2×128, 50 time steps, batch 50". */
enum { VISITED_ROWS = 1024 };

/* The only thing that backward left is one use, of few rows, by an op whose factors cost nothing. */
static bool one_direct_factor(const struct tensor *leaf) {
  const struct gradient *gradient = leaf->gradient;
  if (!gradient || gradient->dense || gradient->total || gradient->factor_count != 1) return false;
  const struct factor *factor = &gradient->factor[0];
  if (factor->input != 1 || factor->node->released || !factor->node->call.op->affine->direct) return false;
  return tensor_count(factor->gradient) <= VISITED_ROWS * leaf->shape.size[1];
}

struct visited {
  const struct tile_update *update;
  int64_t columns;
};

static void visit(void *context, const struct gemm_block *block) {
  const struct visited *visited = context;
  const struct gradient_tile tile = {.offset = block->row * visited->columns + block->column,
                                     .rows = block->rows,
                                     .columns = block->columns,
                                     .pitch = visited->columns,
                                     .gradient = block->values,
                                     .gradient_pitch = block->stride};
  visited->update->update(visited->update->context, &tile);
}

static int factor_tiles(struct tensor *leaf, const struct tile_update *update, bool *any) {
  const struct factor *factor = &leaf->gradient->factor[0];
  struct factors f = {0};
  STATUS_TRY(factor->node->call.op->affine->factors(&factor->node->call, factor->gradient, &f));
  *any = true;
  struct visited visited = {update, f.outputs};
  struct gemm_visitor visitor = {.visit = visit, .context = &visited};
  memcpy(visitor.touched, update->touched, sizeof visitor.touched);
  int status = gemm_visit(true, false, f.inputs, f.outputs, f.rows, 1, tensor_real(f.a), f.inputs, tensor_real(f.g),
                          f.outputs, &visitor);
  tensor_release(f.a);
  tensor_release(f.g);
  return status;
}

int gradient_tiles(struct tensor *leaf, const struct tile_update *update, bool *any) {
  bool factor = one_direct_factor(leaf);
  profile_begin("optimizer", factor ? "weight gradient with update" : "update");
  int status = factor ? factor_tiles(leaf, update, any) : dense_tiles(leaf, update, any);
  profile_end();
  return status;
}
