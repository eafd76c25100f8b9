/* Normalisation: y = x̂ w + b with x̂ = (x − μ) r, r = 1/√(variance + ε).
   norm.c        the rows; layer_norm, group_norm, rms_norm        norm_batch.c  batch_norm

   All share one derivative. For a change dx of the inputs, and means over the elements that μ and r are made from,
     dx̂ = r (dx − mean(dx) − x̂ mean(dx x̂)),
   which is symmetric, so that it is also the gradient. Without the centring (rms_norm) mean(dx) goes. */
#ifndef GLS_OPS_NORM_H
#define GLS_OPS_NORM_H

#include "op.h"

/* A parameter per channel, or its default. */
static inline real norm_value(const real *values, int64_t i, real otherwise) { return values ? values[i] : otherwise; }

/* input i as a contiguous tensor in *holder, its values, or NULL for an absent one; *failed when there is no memory. */
static inline const real *norm_open(struct tensor *tensor, struct tensor **holder, bool *failed) {
  *holder = NULL;
  if (!tensor) return NULL;
  *holder = tensor_contiguous(tensor);
  if (!*holder) *failed = true;
  return *holder ? tensor_real(*holder) : NULL;
}

/* One value for each of count what ("channels"), or absent. */
int norm_check_parameter(const struct tensor *parameter, const char *name, int64_t count, const char *what);

/* ---- norm_batch.c ---- */
int batch_norm_shape(const struct op_call *call, struct shape *shape, enum element_type *type);
bool batch_norm_rowwise(const struct op_call *call);
int batch_norm_forward(struct op_call *call);
int batch_norm_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result);
int batch_norm_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result);

#endif
