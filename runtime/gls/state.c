/* State: what a layer has kept of earlier steps, with or without the row of a bias that has left the step since or come
   into it: frozen, penalised, without a gradient. Momentum and AᵀA without it are what they would be had it never been
   there. A bias that comes begins with a momentum of 0; its means with the inputs are not known, so AᵀA begins anew.
   (The state of a layer with one input less and a bias has the shape of one without, and is not told from it.) */
#include <string.h>

#include "../base/integer.h"
#include "system.h"

static bool is(const struct tensor *t, int64_t rows, int64_t columns) {
  return !t || (t->shape.rank == 2 && t->shape.size[0] == rows && t->shape.size[1] == columns);
}

static int refuse(const struct gls_system *system, const char *name, const struct tensor *t, int64_t columns) {
  return status_error(
      "gls: the saved %s of parameter %d, the weight of shape %s, has shape %s, not (%lld×%lld): it is another "
      "layer's",
      name, system->place + 1, shape_text(&system->weight->shape), shape_text(&t->shape), (long long)system->extended,
      (long long)columns);
}

static void put(struct tensor **slot, struct tensor *t) {
  tensor_release(*slot);
  *slot = t;
}

static int fit_momentum(struct gls_system *system) {
  struct tensor **slot = &system->layer->velocity;
  struct tensor *fitting = tensor_zeros(TYPE_REAL, &(struct shape){2, {system->extended, system->outputs}});
  if (!fitting) return STATUS_ERROR;
  int64_t kept = min(tensor_count(*slot), tensor_count(fitting));
  memcpy(tensor_real(fitting), tensor_real(*slot), (size_t)kept * sizeof(real));
  put(slot, fitting);
  return STATUS_OK;
}

static int fit_covariance(struct gls_system *system, bool gone) {
  struct gls_layer *layer = system->layer;
  int64_t size = system->extended;
  if (!gone) layer->updates = 0;
  struct tensor *fitting = gone ? system_matrix(size, size) : NULL;
  if (gone && !fitting) return STATUS_ERROR;
  if (gone) /* rows of size + 1 */
    for (int64_t i = 0; i < size; i++)
      memcpy(tensor_real(fitting) + i * size, tensor_real(layer->covariance) + i * (size + 1),
             (size_t)size * sizeof(real));
  put(&layer->covariance, fitting);
  return STATUS_OK;
}

int state_fit(struct gls_system *system) {
  struct gls_layer *layer = system->layer;
  int64_t d = system->inputs, m = system->outputs, now = system->extended;
  int64_t then = !system->has_bias ? now : system->bias ? d : d + 1; /* its other size */
  struct tensor *v = layer->velocity, *s = layer->covariance, *l = layer->cholesky, *w = layer->window;
  if (!is(v, now, m) && !is(v, then, m)) return refuse(system, "momentum", v, m);
  if (!is(s, now, now) && !is(s, then, then)) return refuse(system, "AᵀA", s, now);
  if (!is(l, now, now) && !is(l, then, then)) return refuse(system, "factor of AᵀA", l, now);
  if (w && (w->shape.rank != 2 || w->shape.size[1] != d))
    return status_error("gls: the saved window of parameter %d, the weight of shape %s, has shape %s, not (rows×%lld)",
                        system->place + 1, shape_text(&system->weight->shape), shape_text(&w->shape), (long long)d);
  if (!is(l, now, now) || !is(s, now, now)) put(&layer->cholesky, NULL); /* it is made anew */
  if (!is(s, now, now)) STATUS_TRY(fit_covariance(system, now < then));
  return is(v, now, m) ? STATUS_OK : fit_momentum(system);
}
