/* Ranks: the factors of one layer in a step that several processes make together. Each scales its loss so that their
   sum is the whole batch's: so are the rows of G, and n is the batch's. Where S = AᵀA/n is wanted its triangle is
   summed; where rows meet each other (AAᵀ) they are gathered, and every rank solves the same system; the parts of a
   batch are solved where their rows are, and their directions are summed. */
#include <math.h>
#include <string.h>

#include "../base/memory.h"
#include "layer.h"

int shared_number(const struct gls_system *system, double *number) {
  return system->share.gathered ? STATUS_OK : ranks_add(system->share.ranks, number, 1);
}

int shared_input_square(const struct gls_system *system, double *square) {
  *square = system_dot(system->a, system->a);
  return shared_number(system, square);
}

int shared_lower(const struct gls_system *system, real *s, int64_t n) {
  if (!system->share.ranks || system->share.gathered) return STATUS_OK;
  struct tensor *packed = system_matrix(1, n * (n + 1) / 2);
  if (!packed) return STATUS_ERROR;
  real *value = tensor_real(packed);
  for (int64_t i = 0; i < n; i++) memcpy(value + i * (i + 1) / 2, s + i * n, (size_t)(i + 1) * sizeof(real));
  int status = ranks_sum(system->share.ranks, value, n * (n + 1) / 2);
  for (int64_t i = 0; i < n && status == STATUS_OK; i++)
    memcpy(s + i * n, value + i * (i + 1) / 2, (size_t)(i + 1) * sizeof(real));
  tensor_release(packed);
  return status;
}

int shared_counts(const struct gls_system *system, int64_t rows, int64_t *count, int64_t *all, int64_t *before) {
  const struct ranks *ranks = system->share.ranks;
  count[0] = rows;
  if (ranks) STATUS_TRY(ranks_gather(ranks, count, &rows, sizeof rows));
  *all = *before = 0;
  for (int r = 0; r < (ranks ? ranks->size : 1); r++) {
    *all += count[r];
    if (ranks && r < ranks->rank) *before += count[r];
  }
  return STATUS_OK;
}

static int gather_matrix(const struct gls_system *system, struct tensor **slot) {
  const struct ranks *ranks = system->share.ranks;
  int64_t width = (*slot)->shape.size[1], *bytes = memory_new((size_t)ranks->size, sizeof *bytes);
  struct tensor *all = bytes ? system_matrix(system->share.held, width) : NULL;
  int status = all ? STATUS_OK : STATUS_ERROR;
  const real *from = tensor_real(*slot);
  real *to = all ? tensor_real(all) : NULL;
  for (int use = 0, uses = factors_uses(system); use < uses && status == STATUS_OK; use++) {
    const int64_t *count = system->share.count + use * ranks->size;
    for (int r = 0; r < ranks->size; r++) bytes[r] = count[r] * width * (int64_t)sizeof(real);
    status = ranks_gather_unequal(ranks, to, from, bytes);
    for (int r = 0; r < ranks->size; r++) to += count[r] * width;
    from += count[ranks->rank] * width;
  }
  memory_delete(bytes);
  if (status != STATUS_OK) {
    tensor_release(all);
    return status;
  }
  tensor_release(*slot);
  *slot = all;
  return STATUS_OK;
}

int shared_gather(struct gls_system *system) {
  if (!system->share.ranks || system->share.gathered) return STATUS_OK;
  system->share.gathered = true;
  STATUS_TRY(gather_matrix(system, &system->a));
  return factors_are_direct(system) ? gather_matrix(system, &system->g) : STATUS_OK;
}

static int narrow(struct tensor **slot, int64_t start, int64_t end) {
  struct tensor *part = tensor_narrow(*slot, 0, start, end - start, 1);
  if (!part) return STATUS_ERROR;
  tensor_release(*slot);
  *slot = part;
  return STATUS_OK;
}

int shared_deal(struct gls_system *system) {
  struct shared_rows *share = &system->share;
  const struct ranks *ranks = share->ranks;
  if (!ranks || system->parts == 1) return STATUS_OK;
  int64_t parts = system->parts, rows = system->rows, before = 0;
  bool whole = factors_uses(system) == 1;
  for (int r = 0; r < ranks->size; before += share->count[r++])
    whole = whole && before == rows * (parts * r / ranks->size) / parts;
  int64_t first = parts * ranks->rank / ranks->size, next = parts * (ranks->rank + 1) / ranks->size;
  int64_t start = rows * first / parts, end = rows * next / parts;
  if (!whole) {
    STATUS_TRY(shared_gather(system));
    STATUS_TRY(narrow(&system->a, start, end));
    STATUS_TRY(narrow(&system->g, start, end));
  }
  share->gathered = false;
  share->dealt = true;
  share->first = first;
  system->parts = next - first;
  system->rows = system->batch_rows = end - start;
  return STATUS_OK;
}

int shared_direction(struct gls_system *system) {
  if (!system->share.dealt) return STATUS_OK;
  STATUS_TRY(direction_form(system));
  STATUS_TRY(ranks_sum(system->share.ranks, tensor_real(system->u), tensor_count(system->u)));
  system->u_square = system_dot(system->u, system->u);
  system->failed = !isfinite(system->u_square);
  return STATUS_OK;
}

int shared_damping(struct gls_system *system) {
  const struct ranks *ranks = system->share.ranks;
  if (!system->share.dealt) return STATUS_OK;
  struct factorised *all = memory_new((size_t)ranks->size, sizeof *all), own;
  int status = all ? STATUS_OK : STATUS_ERROR;
  for (bool equal = false; !equal && status == STATUS_OK;) {
    own = (struct factorised){system->lambda, system->failed, system->retries};
    status = ranks_gather(ranks, all, &own, sizeof own);
    equal = true;
    for (int r = 0; r < ranks->size && status == STATUS_OK; r++) {
      equal = equal && all[r].lambda == all[0].lambda;
      system->failed = system->failed || all[r].failed;
      if (all[r].lambda > system->lambda) system->lambda = all[r].lambda;
      if (all[r].retries > system->retries) system->retries = all[r].retries;
    }
    if (system->failed) break;
    if (own.lambda != system->lambda) system_factorise(system);
  }
  memory_delete(all);
  return status;
}
