/* Deal: work that all ranks need alike is dealt out to them, where that takes less than if each does all of it; the
   numbers are the same. Factorisations, the dearest first, each to the rank that has least to do, the results
   broadcast: KAISA (Pauloski, Huang, Huang, Venkataraman, Chard, Foster and Zhang, "KAISA: an adaptive second-order
   optimizer framework for deep neural networks", SC 2021). Of the right-hand sides of a system each rank solves some,
   and the solutions are gathered. Measured by tests/bench/deal.lua. */
#include <string.h>

#include "../base/integer.h"
#include "../base/memory.h"
#include "system.h"

/* Measured on one core at n = 1024: 8.6 ms, 123 ms. */
static const double CHOLESKY_RATE = 1e11, EIGEN_RATE = 8e9; /* n³ a second */
static const double SOLVE_RATE = 8e10;                      /* floating-point operations a second */
static const double LATENCY = 5e-5;                         /* seconds a message */

/* ---- factorisations ---- */

static bool is_wanted(const struct gls_system *system) {
  return system->turns || (system->stale && !system->share.dealt);
}

/* Of the factor: its lower triangle, or of eigenvectors all. */
static int64_t length_of(const struct gls_system *system) {
  int64_t n = system->matrix->shape.size[1];
  return system->turns ? n * n : n * (n + 1) / 2;
}

static double seconds_to_make(const struct gls_system *system) {
  double n = (double)system->matrix->shape.size[1];
  return n * n * n / (system->turns ? EIGEN_RATE : CHOLESKY_RATE);
}

static double seconds_to_send(const struct gls_system *system, const struct ranks *ranks) {
  return LATENCY + (double)length_of(system) * sizeof(real) / ranks->bytes_per_second;
}

/* The dearest that has no owner yet; NULL: there is none that is less work to receive. */
static struct gls_system *dearest(struct gls_system *system, int count, const struct ranks *ranks) {
  struct gls_system *found = NULL;
  for (int i = 0; i < count; i++) {
    if (!is_wanted(&system[i]) || system[i].share.owner >= 0) continue;
    if (seconds_to_make(&system[i]) <= seconds_to_send(&system[i], ranks)) continue;
    if (!found || seconds_to_make(&system[i]) > seconds_to_make(found)) found = &system[i];
  }
  return found;
}

int deal_factorisations(struct gls_system *system, int count, const struct ranks *ranks) {
  for (int i = 0; i < count; i++) system[i].share.owner = -1;
  if (!ranks) return STATUS_OK;
  double *load = memory_new((size_t)ranks->size, sizeof *load), everywhere = 0, sent = 0, most = 0;
  if (!load) return STATUS_ERROR;
  for (struct gls_system *next; (next = dearest(system, count, ranks));) {
    int least = 0;
    for (int r = 1; r < ranks->size; r++)
      if (load[r] < load[least]) least = r;
    next->share.owner = least;
    load[least] += seconds_to_make(next);
    everywhere += seconds_to_make(next);
    sent += seconds_to_send(next, ranks);
    if (load[least] > most) most = load[least];
  }
  memory_delete(load);
  for (int i = 0; i < count && most + sent >= everywhere; i++) system[i].share.owner = -1;
  return STATUS_OK;
}

bool deal_is_here(const struct gls_system *system) {
  return system->share.owner < 0 || system->share.owner == system->share.ranks->rank;
}

/* The factor's numbers to (pack) or from what is sent, the triangle's without what is above. */
static void move(const struct gls_system *system, real *packed, bool pack) {
  int64_t n = system->matrix->shape.size[1];
  real *factor = tensor_real(system->factor);
  for (int64_t i = 0; i < n; i++) {
    int64_t length = system->turns ? n : i + 1;
    memcpy(pack ? packed : factor + i * n, pack ? factor + i * n : packed, (size_t)length * sizeof(real));
    packed += length;
  }
}

int deal_result(struct gls_system *system) {
  struct {
    double lambda;
    int64_t failed, retries;
  } told = {system->lambda, system->failed, system->retries};
  if (system->share.owner < 0) return STATUS_OK;
  int64_t bytes = (int64_t)sizeof told + length_of(system) * (int64_t)sizeof(real);
  char *message = memory_acquire((size_t)bytes);
  if (!message) return STATUS_ERROR;
  real *packed = (real *)(message + sizeof told);
  if (deal_is_here(system)) {
    memcpy(message, &told, sizeof told);
    move(system, packed, true);
  }
  int status = ranks_broadcast(system->share.ranks, message, bytes, system->share.owner);
  if (status == STATUS_OK && !deal_is_here(system)) {
    memcpy(&told, message, sizeof told);
    system->lambda = told.lambda, system->failed = told.failed, system->retries = told.retries;
    move(system, packed, false);
  }
  memory_release(message);
  return status;
}

/* ---- right-hand sides ---- */

enum { COLUMNS = 16 }; /* dealt out together */

static int64_t first_column(int64_t columns, int rank, int size) {
  int64_t blocks = ceil_div(columns, COLUMNS);
  return min(columns, blocks * rank / size * COLUMNS);
}

/* Columns start to end of b (n × columns) to (pack) or from rows of their own. */
static void move_columns(real *b, int64_t n, int64_t columns, int64_t start, int64_t end, real *packed, bool pack) {
  for (int64_t i = 0; i < n; i++) {
    real *row = b + i * columns + start, *own = packed + i * (end - start);
    memcpy(pack ? own : row, pack ? row : own, (size_t)(end - start) * sizeof(real));
  }
}

int deal_solve(const struct gls_system *system, int64_t n, real *b, int64_t columns) {
  const struct ranks *ranks = system->share.ranks;
  const real *factor = tensor_real(system->factor);
  double size = ranks ? ranks->size : 1, count = (double)n * (double)columns;
  double saved = 2 * (double)n * count / SOLVE_RATE * (1 - 1 / size);
  if (!ranks || saved <= LATENCY + count * sizeof(real) / ranks->bytes_per_second)
    return cholesky_solve(factor, n, b, columns);
  int64_t start = first_column(columns, ranks->rank, ranks->size), at = 0;
  int64_t end = first_column(columns, ranks->rank + 1, ranks->size);
  int64_t *bytes = memory_new((size_t)ranks->size, sizeof *bytes);
  struct tensor *own = system_matrix(n, end - start), *all = system_matrix(n, columns);
  int status = bytes && own && all ? STATUS_OK : STATUS_ERROR;
  if (status == STATUS_OK) {
    move_columns(b, n, columns, start, end, tensor_real(own), true);
    status = end > start ? cholesky_solve(factor, n, tensor_real(own), end - start) : STATUS_OK;
  }
  for (int r = 0; r < ranks->size && status == STATUS_OK; r++)
    bytes[r] =
        n * (int64_t)sizeof(real) * (first_column(columns, r + 1, ranks->size) - first_column(columns, r, ranks->size));
  if (status == STATUS_OK) status = ranks_gather_unequal(ranks, tensor_real(all), tensor_real(own), bytes);
  for (int r = 0; r < ranks->size && status == STATUS_OK; at += bytes[r++] / (int64_t)sizeof(real))
    move_columns(b, n, columns, first_column(columns, r, ranks->size), first_column(columns, r + 1, ranks->size),
                 tensor_real(all) + at, false);
  memory_delete(bytes);
  tensor_release(own);
  tensor_release(all);
  return status;
}
