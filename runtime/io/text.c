/* Text: windows of a sequence of tokens, and where random ones begin. */
#include "../base/random.h"
#include "io.h"

int text_windows(struct tensor **x, struct tensor **y, const struct tensor *tokens, const int32_t *start, int64_t count,
                 int64_t length) {
  *x = *y = NULL;
  if (tokens->type != TYPE_INT32 || tokens->shape.rank != 1)
    return status_error("windows: tokens are int32 (N), got %s %s", type_name(tokens->type),
                        shape_text(&tokens->shape));
  int64_t total = tokens->shape.size[0];
  if (length < 1 || length >= total)
    return status_error("windows of %lld tokens and the next one, but the text has %lld", (long long)length,
                        (long long)total);
  for (int64_t i = 0; i < count; i++)
    if (start[i] < 0 || start[i] > total - 1 - length)
      return status_error("a window of %lld tokens begins at %lld of %lld", (long long)length, (long long)start[i] + 1,
                          (long long)total);
  struct tensor *contiguous = tensor_is_contiguous(tokens) ? tensor_alias(tokens) : tensor_copy(tokens);
  if (!contiguous) return STATUS_ERROR;
  struct shape shape = shape_of(2, count, length);
  *x = tensor_new(TYPE_INT32, &shape);
  *y = *x ? tensor_new(TYPE_INT32, &shape) : NULL;
  const int32_t *token = tensor_int32(contiguous);
  for (int64_t i = 0; i < count && *y; i++)
    for (int64_t k = 0; k < length; k++) {
      tensor_int32(*x)[i * length + k] = token[start[i] + k];
      tensor_int32(*y)[i * length + k] = token[start[i] + k + 1];
    }
  tensor_release(contiguous);
  if (*y) return STATUS_OK;
  tensor_release(*x);
  *x = NULL;
  return STATUS_ERROR;
}

void text_random_starts(int32_t *start, int64_t count, int32_t choices, uint64_t seed, uint64_t epoch, uint64_t batch) {
  uint32_t word[4];
  for (int64_t i = 0; i < count; i++) {
    random_block((struct random_stream){seed, epoch}, batch << 32 | (uint64_t)i, word);
    /* 64 random bits times the number of choices, the upper half: even to one part in 2³³. */
    uint64_t bits = (uint64_t)word[0] << 32 | word[1];
    start[i] = (int32_t)((unsigned __int128)bits * (uint64_t)choices >> 64);
  }
}
