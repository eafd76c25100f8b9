/* Adam and AdamW. */
#include <tgmath.h>

#include "optim.h"

struct adam_context {
  real *w, *m, *v;
  real beta1, beta2, epsilon;
  real rate;       /* learning_rate / (1 − β1^t) */
  real correction; /* 1 / (1 − β2^t) */
  real keep;       /* decoupled decay */
  real penalty;    /* decay that joins the gradient */
};

static void adam_tile(void *context, const struct gradient_tile *tile) {
  const struct adam_context *c = context;
  real beta1 = c->beta1, beta2 = c->beta2, epsilon = c->epsilon, rate = c->rate, correction = c->correction;
  real keep = c->keep, penalty = c->penalty;
  for (int64_t row = 0; row < tile->rows; row++) {
    int64_t offset = tile->offset + row * tile->pitch;
    const real *restrict g = tile->gradient + row * tile->gradient_pitch;
    real *restrict w = c->w + offset, *restrict m = c->m + offset, *restrict v = c->v + offset;
#pragma omp simd
    for (int64_t i = 0; i < tile->columns; i++) {
      real gradient = g[i] + penalty * w[i];
      m[i] = beta1 * m[i] + (1 - beta1) * gradient;
      v[i] = beta2 * v[i] + (1 - beta2) * gradient * gradient;
      w[i] = keep * w[i] - rate * m[i] / (sqrt(v[i] * correction) + epsilon);
    }
  }
}

static int make_state(struct tensor **state, const struct tensor *like) {
  if (!*state) *state = tensor_zeros(TYPE_REAL, &like->shape);
  return *state ? STATUS_OK : STATUS_ERROR;
}

int adam_step(struct tensor *const *parameter, struct tensor **first, struct tensor **second, int count,
              const struct adam_options *options) {
  for (int i = 0; i < count; i++) {
    struct tensor *w = parameter[i];
    if (!w->gradient) continue;
    STATUS_TRY(make_state(&first[i], w));
    STATUS_TRY(make_state(&second[i], w));
    double t = (double)options->step, decay = options->weight_decay;
    struct adam_context context = {
        .w = tensor_real(w),
        .m = tensor_real(first[i]),
        .v = tensor_real(second[i]),
        .beta1 = (real)options->beta1,
        .beta2 = (real)options->beta2,
        .epsilon = (real)options->epsilon,
        .rate = (real)(options->learning_rate / (1 - pow(options->beta1, t))),
        .correction = (real)(1 / (1 - pow(options->beta2, t))),
        .keep = (real)(options->decoupled ? 1 - options->learning_rate * decay : 1),
        .penalty = (real)(options->decoupled ? 0 : decay),
    };
    bool any;
    struct tile_update update = {adam_tile, &context, {context.w, context.m, context.v}};
    STATUS_TRY(gradient_tiles(w, &update, &any));
    if (any) tensor_modified(w);
  }
  return STATUS_OK;
}
