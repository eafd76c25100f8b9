/* Elements: reading, writing and assigning them, in any layout. */
#include <math.h>
#include <string.h>

#include "../base/parallel.h"
#include "../base/simd.h"
#include "tensor.h"

static double load(const void *data, enum element_type type, int64_t i) {
  if (type == TYPE_REAL) return (double)((const real *)data)[i];
  return type == TYPE_INT32 ? ((const int32_t *)data)[i] : ((const uint8_t *)data)[i];
}

/* Rounds toward zero and saturates, NaN to 0, so that no conversion is undefined. */
static void store(void *data, enum element_type type, int64_t i, double value) {
  if (type == TYPE_REAL) {
    ((real *)data)[i] = (real)value;
  } else if (type == TYPE_INT32) {
    ((int32_t *)data)[i] = isnan(value)                 ? 0
                           : value >= (double)INT32_MAX ? INT32_MAX
                           : value <= (double)INT32_MIN ? INT32_MIN
                                                        : (int32_t)value;
  } else {
    ((uint8_t *)data)[i] = isnan(value) || value <= 0 ? 0 : value >= 255 ? 255 : (uint8_t)value;
  }
}

double tensor_get(const struct tensor *tensor, const int64_t *index) {
  int64_t at = tensor->offset;
  for (int i = 0; i < tensor->shape.rank; i++) at += index[i] * tensor->stride[i];
  return load(tensor->storage->data, tensor->type, at);
}

void tensor_set(struct tensor *tensor, const int64_t *index, double value) {
  int64_t at = tensor->offset;
  for (int i = 0; i < tensor->shape.rank; i++) at += index[i] * tensor->stride[i];
  store(tensor->storage->data, tensor->type, at, value);
}

void tensor_modified(struct tensor *tensor) { tensor->storage->version++; }

/* One innermost run of an assignment. */
static void assign_run(struct tensor *destination, int64_t to, int64_t to_stride, const struct tensor *source,
                       int64_t from, int64_t from_stride, int64_t count) {
  void *out = destination->storage->data;
  const void *in = source->storage->data;
  if (destination->type == source->type) {
    size_t size = type_size(source->type);
    if (to_stride == 1 && from_stride == 1) {
      memmove((char *)out + (size_t)to * size, (const char *)in + (size_t)from * size, (size_t)count * size);
      return;
    }
    if (source->type == TYPE_REAL) {
      real *a = (real *)out + to;
      const real *b = (const real *)in + from, value = *b;
      if (to_stride == 1 && from_stride == 0)
        for (int64_t i = 0; i < count; i++) a[i] = value;
      else if (to_stride == 1 && from_stride == -1)
        for (int64_t i = 0; i < count; i++) a[i] = b[-i];
      else
        for (int64_t i = 0; i < count; i++) a[i * to_stride] = b[i * from_stride];
      return;
    }
  }
  if (destination->type == TYPE_REAL && source->type == TYPE_UINT8) {
    real *a = (real *)out + to;
    const uint8_t *b = (const uint8_t *)in + from;
    for (int64_t i = 0; i < count; i++) a[i * to_stride] = (real)b[i * from_stride];
    return;
  }
  for (int64_t i = 0; i < count; i++)
    store(out, destination->type, to + i * to_stride, load(in, source->type, from + i * from_stride));
}

/* The dimensions of an assignment, neighbours merged where both sides allow it: the last one fastest. */
struct assignment {
  int rank;
  int64_t size[TENSOR_MAX_RANK], to[TENSOR_MAX_RANK], from[TENSOR_MAX_RANK];
};

static struct assignment assignment_of(const struct tensor *destination, const struct tensor *source) {
  struct assignment all = {0};
  for (int i = 0; i < destination->shape.rank; i++) {
    int64_t size = destination->shape.size[i], to = destination->stride[i], from = source->stride[i];
    if (size == 1) continue;
    int last = all.rank - 1;
    bool joins = last >= 0 && all.to[last] == to * size && all.from[last] == from * size;
    if (joins) size *= all.size[last];
    if (!joins) last = all.rank++;
    all.size[last] = size, all.to[last] = to, all.from[last] = from;
  }
  if (all.rank == 0) all = (struct assignment){.rank = 1, .size = {1}, .to = {1}, .from = {1}};
  return all;
}

/* Where index (in units of its pieces) of the dimensions before `last` begins on both sides. */
static void assignment_at(const struct assignment *all, int last, int64_t index, int64_t *to, int64_t *from) {
  for (int i = last - 1; i >= 0; i--) {
    *to += index % all->size[i] * all->to[i];
    *from += index % all->size[i] * all->from[i];
    index /= all->size[i];
  }
}

/* A transpose of the last two dimensions goes square by square, so that both sides stay in cache. */
static bool assign_transposed(struct tensor *destination, const struct tensor *source, const struct assignment *all) {
  enum { SQUARE = 64 };
  if (all->rank < 2 || destination->type != TYPE_REAL || source->type != TYPE_REAL) return false;
  const int y = all->rank - 2, x = all->rank - 1;
  int64_t rows = all->size[y], columns = all->size[x];
  if (all->to[x] != 1 || all->from[y] != 1 || rows < 8 || columns < 8) return false;
  int64_t outer = 1;
  for (int i = 0; i < y; i++) outer *= all->size[i];
  int64_t pieces = ceil_div(rows, SQUARE);
  real *out = destination->storage->data;
  const real *in = source->storage->data;
#pragma omp parallel for schedule(static) if (outer * rows * columns > PARALLEL_THRESHOLD)
  for (int64_t job = 0; job < outer * pieces; job++) {
    int64_t first = job % pieces * SQUARE, height = min(SQUARE, rows - first);
    int64_t to = destination->offset + first * all->to[y], from = source->offset + first;
    assignment_at(all, y, job / pieces, &to, &from);
    for (int64_t c = 0; c < columns; c += SQUARE)
      vector_transpose_matrix(out + to + c, all->to[y], in + from + c * all->from[x], all->from[x],
                              min(SQUARE, columns - c), height);
  }
  return true;
}

int tensor_assign(struct tensor *destination, const struct tensor *given) {
  enum { PIECE = 1 << 14 }; /* of a run, so that threads can share it */
  /* What is read must not be written meanwhile. */
  struct tensor *own = destination->storage == given->storage ? tensor_copy(given) : NULL;
  if (destination->storage == given->storage && !own) return STATUS_ERROR;
  struct tensor *source = tensor_expand(own ? own : given, &destination->shape);
  tensor_release(own);
  if (!source) return STATUS_ERROR;
  tensor_modified(destination);
  int64_t count = tensor_count(destination);
  struct assignment all = assignment_of(destination, source);
  if (count > 0 && !assign_transposed(destination, source, &all)) {
    int last = all.rank - 1;
    int64_t inner = all.size[last], pieces = ceil_div(inner, PIECE);
#pragma omp parallel for schedule(static) if (count > PARALLEL_THRESHOLD)
    for (int64_t job = 0; job < count / inner * pieces; job++) {
      int64_t start = job % pieces * PIECE;
      int64_t to = destination->offset + start * all.to[last], from = source->offset + start * all.from[last];
      assignment_at(&all, last, job / pieces, &to, &from);
      assign_run(destination, to, all.to[last], source, from, all.from[last], min(PIECE, inner - start));
    }
  }
  tensor_release(source);
  return STATUS_OK;
}

int tensor_fill(struct tensor *destination, double value) {
  enum element_type type = destination->type;
  double low = type == TYPE_INT32 ? INT32_MIN : 0, high = type == TYPE_INT32 ? INT32_MAX : UINT8_MAX;
  if (type != TYPE_REAL && !(value == floor(value) && value >= low && value <= high))
    return status_error("%g does not fit %s: whole numbers from %.0f to %.0f", value, type_name(type), low, high);
  struct tensor *scalar = tensor_new(type, &(struct shape){.rank = 0});
  if (!scalar) return STATUS_ERROR;
  if (type == TYPE_REAL) *tensor_real(scalar) = (real)value;
  if (type == TYPE_INT32) *tensor_int32(scalar) = (int32_t)value;
  if (type == TYPE_UINT8) *tensor_uint8(scalar) = (uint8_t)value;
  int status = tensor_assign(destination, scalar);
  tensor_release(scalar);
  return status;
}
