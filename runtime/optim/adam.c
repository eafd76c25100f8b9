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

static void adam_tile(void *context, int64_t offset, int64_t count, const real *g) {
  const struct adam_context *c = context;
  real *restrict w = c->w + offset, *restrict m = c->m + offset, *restrict v = c->v + offset;
  real beta1 = c->beta1, beta2 = c->beta2, epsilon = c->epsilon, rate = c->rate, correction = c->correction;
  real keep = c->keep, penalty = c->penalty;
#pragma omp simd
  for (int64_t i = 0; i < count; i++) {
    real gradient = g[i] + penalty * w[i];
    m[i] = beta1 * m[i] + (1 - beta1) * gradient;
    v[i] = beta2 * v[i] + (1 - beta2) * gradient * gradient;
    w[i] = keep * w[i] - rate * m[i] / (sqrt(v[i] * correction) + epsilon);
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
    STATUS_TRY(gradient_tiles(w, adam_tile, &context, &any));
    if (any) tensor_modified(w);
  }
  return STATUS_OK;
}
