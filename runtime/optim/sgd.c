/* SGD with momentum. */
#include "optim.h"

struct sgd_context {
  real *w, *v; /* v NULL without momentum */
  real learning_rate, momentum, keep;
  bool nesterov;
};

static void sgd_row(const struct sgd_context *c, int64_t offset, int64_t count, const real *restrict g) {
  real *restrict w = c->w + offset;
  real learning_rate = c->learning_rate, momentum = c->momentum, keep = c->keep;
  if (!c->v) {
#pragma omp simd
    for (int64_t i = 0; i < count; i++) w[i] = keep * w[i] - learning_rate * g[i];
    return;
  }
  real *restrict v = c->v + offset;
  if (c->nesterov) {
#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
      v[i] = momentum * v[i] + g[i];
      w[i] = keep * w[i] - learning_rate * (g[i] + momentum * v[i]);
    }
  } else {
#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
      v[i] = momentum * v[i] + g[i];
      w[i] = keep * w[i] - learning_rate * v[i];
    }
  }
}

static void sgd_tile(void *context, const struct gradient_tile *tile) {
  for (int64_t row = 0; row < tile->rows; row++)
    sgd_row(context, tile->offset + row * tile->pitch, tile->columns, tile->gradient + row * tile->gradient_pitch);
}

int sgd_step(struct tensor *const *parameter, struct tensor **velocity, int count, const struct sgd_options *options) {
  for (int i = 0; i < count; i++) STATUS_TRY(gradient_before_write(parameter[i]));
  for (int i = 0; i < count; i++) {
    struct tensor *w = parameter[i];
    if (!w->gradient) continue;
    if (options->momentum != 0 && !velocity[i]) {
      velocity[i] = tensor_zeros(TYPE_REAL, &w->shape);
      if (!velocity[i]) return STATUS_ERROR;
    }
    struct sgd_context context = {.w = tensor_real(w),
                                  .v = options->momentum != 0 ? tensor_real(velocity[i]) : NULL,
                                  .learning_rate = (real)options->learning_rate,
                                  .momentum = (real)options->momentum,
                                  .keep = (real)(1 - options->learning_rate * options->weight_decay),
                                  .nesterov = options->nesterov};
    bool any;
    struct tile_update update = {sgd_tile, &context, {context.w, context.v}};
    STATUS_TRY(gradient_tiles(w, &update, &any));
    if (any) tensor_modified(w);
  }
  return STATUS_OK;
}
