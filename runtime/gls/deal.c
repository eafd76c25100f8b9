/* Deal: work that all ranks need alike is dealt out to them, where that takes less than if each does all of it.
   Factorisations, the costliest first, each to the rank that has least to do, the results broadcast: KAISA (Pauloski,
   Huang, Huang, Venkataraman, Chard, Foster and Zhang, "KAISA: an adaptive second-order optimizer framework for deep
   neural networks", SC 2021). Of the right-hand sides of a system each rank solves some, of the products AAᵀ and U of
   gathered rows it makes some rows, and they are gathered. Factors and solutions are the same to the last bit, products
   to rounding. Measured by tests/bench/deal.lua. */
#include <math.h>
#include <string.h>

#include "../base/integer.h"
#include "../base/memory.h"
#include "system.h"

static const double CHOLESKY_RATE = 1e11; /* n³ a second, measured on one core at n = 1024: 8.6 ms */
static const double SOLVE_RATE = 8e10;    /* floating-point operations a second */
static const double LATENCY = 5e-5;       /* seconds a message */

/* ---- factorisations ---- */

/* Of the factor's lower triangle. */
static int64_t length_of(const struct gls_system *system) {
  int64_t n = system->matrix->shape.size[1];
  return n * (n + 1) / 2;
}

static double seconds_to_make(const struct gls_system *system) {
  double n = (double)system->matrix->shape.size[1];
  return n * n * n / CHOLESKY_RATE;
}

static double seconds_to_send(const struct gls_system *system, const struct ranks *ranks) {
  return LATENCY + (double)length_of(system) * sizeof(real) / ranks->bytes_per_second;
}

/* The costliest that has no owner yet; NULL: there is none that is less work to receive. */
static struct gls_system *costliest(struct gls_system *system, int count, const struct ranks *ranks) {
  struct gls_system *found = NULL;
  for (int i = 0; i < count; i++) {
    if (!system[i].stale || system[i].share.dealt || system[i].share.owner >= 0) continue;
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
  for (struct gls_system *next; (next = costliest(system, count, ranks));) {
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

/* The factor's lower triangle to (pack) or from what is sent. */
static void move(const struct gls_system *system, real *packed, bool pack) {
  int64_t n = system->matrix->shape.size[1];
  real *factor = tensor_real(system->factor);
  for (int64_t i = 0; i < n; i++) {
    memcpy(pack ? packed : factor + i * n, pack ? factor + i * n : packed, (size_t)(i + 1) * sizeof(real));
    packed += i + 1;
  }
}

int deal_result(struct gls_system *system) {
  struct factorised told = {system->lambda, system->failed, system->retries};
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

/* Whether a rank that does its part of so many operations gains more than it takes to gather so many numbers. */
static bool is_worth(const struct ranks *ranks, double operations, double numbers) {
  double saved = operations / SOLVE_RATE * (1 - 1 / (double)ranks->size);
  return saved > LATENCY + numbers * sizeof(real) / ranks->bytes_per_second;
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
  double count = (double)n * (double)columns;
  if (!ranks || !is_worth(ranks, 2 * (double)n * count, count)) return cholesky_solve(factor, n, b, columns);
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

/* ---- products ---- */

/* Rows at[r] to at[r + 1] of whole (so many columns), of which this rank has made its own, become all ranks'. */
static int gather_rows(const struct ranks *ranks, real *whole, const int64_t *at, int64_t columns) {
  int64_t *bytes = memory_new((size_t)ranks->size, sizeof *bytes), own = at[ranks->rank];
  struct tensor *copy = system_matrix(at[ranks->rank + 1] - own, columns);
  int status = bytes && copy ? STATUS_OK : STATUS_ERROR;
  for (int r = 0; r < ranks->size && status == STATUS_OK; r++)
    bytes[r] = (at[r + 1] - at[r]) * columns * (int64_t)sizeof(real);
  if (status == STATUS_OK) memcpy(tensor_real(copy), whole + own * columns, (size_t)bytes[ranks->rank]);
  if (status == STATUS_OK) status = ranks_gather_unequal(ranks, whole, tensor_real(copy), bytes);
  memory_delete(bytes);
  tensor_release(copy);
  return status;
}

bool deal_divides_direction(const struct gls_system *system) {
  const struct ranks *ranks = system->share.ranks;
  if (!ranks || !system->share.gathered || system->u) return false;
  double rows = (double)(system->y ? system->g : system->alpha)->shape.size[0];
  double count = (double)system->inputs * (double)system->outputs;
  return is_worth(ranks, 2 * rows * count, count);
}

int deal_direction(const struct gls_system *system, const struct tensor *left, int64_t step, const struct tensor *right,
                   real *u) {
  const struct ranks *ranks = system->share.ranks;
  int64_t d = system->inputs, m = system->outputs, *at = memory_new((size_t)ranks->size + 1, sizeof *at);
  if (!at) return STATUS_ERROR;
  for (int r = 0; r <= ranks->size; r++) at[r] = first_column(d, r, ranks->size);
  int64_t start = at[ranks->rank], count = at[ranks->rank + 1] - start;
  gemm(true, false, count, m, right->shape.size[0], 1, tensor_real(left) + start, step, tensor_real(right), m, 0,
       u + start * m, m);
  int status = gather_rows(ranks, u, at, m);
  memory_delete(at);
  return status;
}

bool deal_divides_gram(const struct gls_system *system) {
  double rows = (double)system->rows;
  return system->share.ranks && system->share.gathered &&
         is_worth(system->share.ranks, rows * rows * (double)system->inputs, rows * rows);
}

int deal_gram(const struct gls_system *system, real scale, real *k) {
  const struct ranks *ranks = system->share.ranks;
  int64_t n = system->rows, d = system->inputs, *at = memory_new((size_t)ranks->size + 1, sizeof *at);
  const real *a = tensor_real(system->a);
  if (!at) return STATUS_ERROR;
  for (int r = 0; r <= ranks->size; r++) /* equal areas of the triangle */
    at[r] = min(n, round_up((int64_t)((double)n * sqrt((double)r / (double)ranks->size)), COLUMNS));
  at[ranks->size] = n;
  int64_t start = at[ranks->rank], count = at[ranks->rank + 1] - start;
  gemm(false, true, count, start, d, scale, a + start * d, d, a, d, 0, k + start * n, n);
  syrk(false, count, d, scale, a + start * d, d, 0, k + start * n + start, n);
  int status = gather_rows(ranks, k, at, n);
  memory_delete(at);
  return status;
}
