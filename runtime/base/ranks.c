/* Ranks: the calls that pass their numbers between them, with statuses. */
#include "ranks.h"

#include <string.h>

#include "memory.h"
#include "status.h"

static int told(const char *call, const char *problem) {
  return problem ? status_error("%s over ranks: %s", call, problem) : STATUS_OK;
}

int ranks_sum(const struct ranks *ranks, real *values, int64_t count) {
  return ranks ? told("sum", ranks->sum(values, count)) : STATUS_OK;
}

int ranks_broadcast(const struct ranks *ranks, void *data, int64_t bytes, int root) {
  return ranks ? told("broadcast", ranks->broadcast(data, bytes, root)) : STATUS_OK;
}

int ranks_gather_unequal(const struct ranks *ranks, void *all, const void *own, const int64_t *bytes) {
  if (ranks) return told("gather", ranks->gather(all, own, bytes));
  memcpy(all, own, (size_t)bytes[0]);
  return STATUS_OK;
}

int ranks_gather(const struct ranks *ranks, void *all, const void *own, int64_t bytes) {
  int size = ranks ? ranks->size : 1;
  int64_t *each = memory_new((size_t)size, sizeof *each);
  if (!each) return STATUS_ERROR;
  for (int r = 0; r < size; r++) each[r] = bytes;
  int status = ranks_gather_unequal(ranks, all, own, each);
  memory_delete(each);
  return status;
}

int ranks_add(const struct ranks *ranks, double *values, int count) {
  if (!ranks) return STATUS_OK;
  double *all = memory_new((size_t)(ranks->size * count), sizeof *all);
  int status = all ? ranks_gather(ranks, all, values, count * (int64_t)sizeof *all) : STATUS_ERROR;
  for (int i = 0; i < count && status == STATUS_OK; i++) {
    values[i] = 0;
    for (int r = 0; r < ranks->size; r++) values[i] += all[r * count + i];
  }
  memory_delete(all);
  return status;
}

int ranks_next_stream(const struct ranks *ranks, struct random_stream *stream) {
  *stream = random_next_stream();
  return ranks_broadcast(ranks, stream, sizeof *stream, 0);
}
