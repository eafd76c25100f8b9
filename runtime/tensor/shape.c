/* Shape: sizes, their products, broadcasting, and their text. */
#include <stdarg.h>
#include <stdio.h>

#include "../base/memory.h"
#include "tensor.h"

size_t type_size(enum element_type type) {
  return type == TYPE_REAL ? sizeof(real) : type == TYPE_INT32 ? sizeof(int32_t) : 1;
}

const char *type_name(enum element_type type) {
  if (type == TYPE_INT32) return "int32";
  if (type == TYPE_UINT8) return "uint8";
  return sizeof(real) == 8 ? "float64" : "float32";
}

struct shape shape_of(int rank, ...) {
  struct shape shape = {.rank = rank};
  va_list sizes;
  va_start(sizes, rank);
  for (int i = 0; i < rank; i++) shape.size[i] = va_arg(sizes, int64_t);
  va_end(sizes);
  return shape;
}

int64_t shape_count(const struct shape *shape) {
  int64_t count = 1;
  for (int i = 0; i < shape->rank; i++) count *= shape->size[i];
  return count;
}

bool shape_equal(const struct shape *a, const struct shape *b) {
  if (a->rank != b->rank) return false;
  for (int i = 0; i < a->rank; i++)
    if (a->size[i] != b->size[i]) return false;
  return true;
}

bool shape_broadcast(const struct shape *a, const struct shape *b, struct shape *result) {
  struct shape out = {.rank = a->rank > b->rank ? a->rank : b->rank};
  for (int i = 0; i < out.rank; i++) {
    int ia = i - (out.rank - a->rank), ib = i - (out.rank - b->rank);
    int64_t sa = ia < 0 ? 1 : a->size[ia], sb = ib < 0 ? 1 : b->size[ib];
    if (sa != sb && sa != 1 && sb != 1) return false;
    out.size[i] = sa == 1 ? sb : sa;
  }
  *result = out;
  return true;
}

int shape_check(const struct shape *shape) {
  size_t product = 8; /* bytes of the widest element */
  if (shape->rank < 0 || shape->rank > TENSOR_MAX_RANK)
    return status_error("%d dimensions: a tensor has at most %d", shape->rank, TENSOR_MAX_RANK);
  for (int i = 0; i < shape->rank; i++)
    if (shape->size[i] < 0)
      return status_error("size %lld of dimension %d is negative", (long long)shape->size[i], i + 1);
  for (int i = 0; i < shape->rank; i++)
    if (!memory_multiply(product, shape->size[i] ? (size_t)shape->size[i] : 1, &product) || product > (size_t)1 << 46)
      return status_error("a tensor of shape %s is too large", shape_text(shape));
  return STATUS_OK;
}

const char *shape_text(const struct shape *shape) {
  enum { TEXTS = 8, LENGTH = 192 };
  static _Thread_local char text[TEXTS][LENGTH];
  static _Thread_local int turn;
  char *out = text[turn = (turn + 1) % TEXTS];
  int at = snprintf(out, LENGTH, "(");
  for (int i = 0; i < shape->rank && i < TENSOR_MAX_RANK; i++)
    at += snprintf(out + at, (size_t)(LENGTH - at), "%s%lld", i ? "×" : "", (long long)shape->size[i]);
  snprintf(out + at, (size_t)(LENGTH - at), ")");
  return out;
}
