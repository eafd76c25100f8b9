/* Clip: the norm of all gradients together (Pascanu et al., ICML 2013). */
#include <math.h>

#include "../base/vector.h"
#include "optim.h"

int clip_gradients(struct tensor *const *parameter, int count, double maximum, double *norm) {
  double square = 0;
  for (int i = 0; i < count; i++) {
    struct tensor *gradient;
    STATUS_TRY(gradient_dense(parameter[i], &gradient));
    if (!gradient) continue;
    square += vector_dot(tensor_real(gradient), tensor_real(gradient), tensor_count(gradient));
  }
  *norm = sqrt(square);
  if (!(maximum > 0) || !(*norm > maximum)) return STATUS_OK;
  for (int i = 0; i < count; i++) STATUS_TRY(gradient_scale(parameter[i], (real)(maximum / *norm)));
  return STATUS_OK;
}
