/* Adam and AdamW. */
#include <string.h>
#include <tgmath.h>

#include "../base/simd.h"
#include "optim.h"

#ifdef GLS_DOUBLE
static const real LARGEST_GRADIENT = 1e153; /* its square fits */
#else
static const real LARGEST_GRADIENT = 1e19f;
#endif

struct adam_context {
  real *w, *m, *v;
  real beta1, beta2;
  real rate;    /* learning_rate √(1 − β2^t) / (1 − β1^t): the moments' corrections taken out of the fraction */
  real epsilon; /* ε √(1 − β2^t) */
  real keep;    /* decoupled decay */
  real penalty; /* decay that joins the gradient */
};

/* The context's numbers as broadcast constants, made once for a tile: its rows are short. */
struct adam_lanes {
  vector beta1, rest1, beta2, rest2, rate, epsilon, keep, penalty;
};

/* Finite gradients whose square would overflow count as the largest whose square does not; infinity becomes NaN. */
VECTOR_INLINE vector limited(vector gradient) {
  return vector_clamp(gradient, LARGEST_GRADIENT) + (gradient - gradient);
}

VECTOR_INLINE void adam_vector(const struct adam_lanes *c, vector gradient, vector *w, vector *m, vector *v) {
  gradient = limited(gradient + c->penalty * *w);
  *m = c->beta1 * *m + c->rest1 * gradient;
  *v = c->beta2 * *v + c->rest2 * gradient * gradient;
  *w = c->keep * *w - c->rate * *m / (vector_sqrt(*v) + c->epsilon);
}

static void adam_tile(void *context, const struct gradient_tile *tile) {
  const struct adam_context *c = context;
  const vector zero = {0};
  const struct adam_lanes lanes = {zero + c->beta1, zero + (1 - c->beta1), zero + c->beta2, zero + (1 - c->beta2),
                                   zero + c->rate,  zero + c->epsilon,     zero + c->keep,  zero + c->penalty};
  for (int64_t row = 0; row < tile->rows; row++) {
    int64_t offset = tile->offset + row * tile->pitch, i = 0;
    const real *g = tile->gradient + row * tile->gradient_pitch;
    real *w = c->w + offset, *m = c->m + offset, *v = c->v + offset;
    for (; i + VECTOR_LANES <= tile->columns; i += VECTOR_LANES) {
      vector weight = *(vector_unaligned *)(w + i), first = *(vector_unaligned *)(m + i);
      vector second = *(vector_unaligned *)(v + i);
      adam_vector(&lanes, *(const vector_unaligned *)(g + i), &weight, &first, &second);
      *(vector_unaligned *)(w + i) = weight;
      *(vector_unaligned *)(m + i) = first;
      *(vector_unaligned *)(v + i) = second;
    }
    size_t rest = (size_t)(tile->columns - i) * sizeof(real);
    if (rest == 0) continue;
    vector gradient = zero, weight = zero, first = zero, second = zero;
    memcpy(&gradient, g + i, rest), memcpy(&weight, w + i, rest), memcpy(&first, m + i, rest);
    memcpy(&second, v + i, rest);
    adam_vector(&lanes, gradient, &weight, &first, &second);
    memcpy(w + i, &weight, rest), memcpy(m + i, &first, rest), memcpy(v + i, &second, rest);
  }
}

static int make_state(struct tensor **state, const struct tensor *like) {
  if (!*state) *state = tensor_zeros(TYPE_REAL, &like->shape);
  return *state ? STATUS_OK : STATUS_ERROR;
}

int adam_step(struct tensor *const *parameter, struct tensor **first, struct tensor **second, int64_t *missed,
              int count, const struct adam_options *options) {
  for (int i = 0; i < count; i++) STATUS_TRY(gradient_before_write(parameter[i]));
  for (int i = 0; i < count; i++) {
    struct tensor *w = parameter[i];
    if (!w->gradient) {
      if (missed) missed[i]++;
      continue;
    }
    STATUS_TRY(make_state(&first[i], w));
    STATUS_TRY(make_state(&second[i], w));
    double t = fmax(1, (double)(options->step - (missed ? missed[i] : 0))), decay = options->weight_decay;
    double correction = sqrt(1 - pow(options->beta2, t));
    struct adam_context context = {
        .w = tensor_real(w),
        .m = tensor_real(first[i]),
        .v = tensor_real(second[i]),
        .beta1 = (real)options->beta1,
        .beta2 = (real)options->beta2,
        .rate = (real)(options->learning_rate * correction / (1 - pow(options->beta1, t))),
        .epsilon = (real)(options->epsilon * correction),
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
