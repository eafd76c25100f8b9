/* Tensor: making, viewing, copying and converting strided arrays. */
#include "tensor.h"

#include <math.h>
#include <string.h>

#include "../base/memory.h"
#include "../base/parallel.h"

void (*tensor_release_history)(struct tensor *tensor);

static void set_contiguous_strides(struct tensor *tensor) {
  int64_t stride = 1;
  for (int i = tensor->shape.rank - 1; i >= 0; i--) {
    tensor->stride[i] = stride;
    stride *= tensor->shape.size[i] > 0 ? tensor->shape.size[i] : 1;
  }
}

struct tensor *tensor_new(enum element_type type, const struct shape *shape) {
  if (shape_check(shape) != STATUS_OK) return NULL;
  struct tensor *tensor = memory_new(1, sizeof *tensor);
  if (!tensor) return NULL;
  tensor->references = 1;
  tensor->type = type;
  tensor->shape = *shape;
  set_contiguous_strides(tensor);
  tensor->storage = storage_new((size_t)shape_count(shape) * type_size(type));
  if (!tensor->storage) {
    memory_delete(tensor);
    return NULL;
  }
  return tensor;
}

struct tensor *tensor_zeros(enum element_type type, const struct shape *shape) {
  struct tensor *tensor = tensor_new(type, shape);
  if (tensor) memset(tensor->storage->data, 0, tensor->storage->bytes);
  return tensor;
}

struct tensor *tensor_scalar(real value) {
  struct tensor *tensor = tensor_new(TYPE_REAL, &(struct shape){.rank = 0});
  if (tensor) *tensor_real(tensor) = value;
  return tensor;
}

struct tensor *tensor_retain(struct tensor *tensor) {
  __atomic_add_fetch(&tensor->references, 1, __ATOMIC_RELAXED);
  return tensor;
}

void tensor_release(struct tensor *tensor) {
  if (!tensor || __atomic_sub_fetch(&tensor->references, 1, __ATOMIC_ACQ_REL) > 0) return;
  if (tensor->node || tensor->gradient) tensor_release_history(tensor);
  storage_release(tensor->storage);
  memory_delete(tensor);
}

/* ---- views ---- */

struct tensor *tensor_alias(const struct tensor *source) {
  struct tensor *view = memory_new(1, sizeof *view);
  if (!view) return NULL;
  *view = *source;
  view->references = 1;
  view->requires_gradient = false;
  view->node = NULL;
  view->gradient = NULL;
  if (view->storage) storage_retain(view->storage);
  return view;
}

/* Strides that lay shape over source's elements in row-major order, when they exist. */
static bool strides_for(const struct tensor *source, const struct shape *shape, int64_t *stride) {
  if (shape_count(shape) == 0 || tensor_is_contiguous(source)) {
    int64_t next = 1;
    for (int i = shape->rank - 1; i >= 0; i--) {
      stride[i] = next;
      next *= shape->size[i] > 0 ? shape->size[i] : 1;
    }
    return true;
  }
  /* Walk both from the last dimension: a run of source dimensions that is contiguous in itself may be cut
     anew. */
  int from = source->shape.rank - 1, to = shape->rank - 1;
  while (from >= 0) {
    int64_t run = source->shape.size[from], run_stride = source->stride[from];
    int64_t reach = run_stride * run;
    from--;
    while (from >= 0 && (source->shape.size[from] == 1 || source->stride[from] == reach)) {
      run *= source->shape.size[from];
      reach *= source->shape.size[from];
      from--;
    }
    int64_t cut = 1, next = run_stride;
    while (to >= 0 && (cut < run || shape->size[to] == 1)) {
      stride[to] = next;
      next *= shape->size[to];
      cut *= shape->size[to];
      to--;
    }
    if (cut != run) return false;
  }
  while (to >= 0) stride[to--] = 1; /* what is left has size 1 */
  return true;
}

struct tensor *tensor_view_shape(const struct tensor *source, const struct shape *shape) {
  if (shape_check(shape) != STATUS_OK) return NULL;
  if (shape_count(shape) != tensor_count(source)) {
    status_error("a tensor of shape %s cannot be seen as %s: %lld elements against %lld", shape_text(&source->shape),
                 shape_text(shape), (long long)tensor_count(source), (long long)shape_count(shape));
    return NULL;
  }
  int64_t stride[TENSOR_MAX_RANK] = {0};
  if (!strides_for(source, shape, stride)) {
    status_error("a strided tensor of shape %s has no view as %s: use reshape, which copies",
                 shape_text(&source->shape), shape_text(shape));
    return NULL;
  }
  struct tensor *view = tensor_alias(source);
  if (!view) return NULL;
  view->shape = *shape;
  memcpy(view->stride, stride, sizeof stride);
  return view;
}

struct tensor *tensor_permute(const struct tensor *source, const int *order) {
  struct tensor *view = tensor_alias(source);
  if (!view) return NULL;
  for (int i = 0; i < source->shape.rank; i++) {
    view->shape.size[i] = source->shape.size[order[i]];
    view->stride[i] = source->stride[order[i]];
  }
  return view;
}

struct tensor *tensor_transpose(const struct tensor *source, int a, int b) {
  int order[TENSOR_MAX_RANK];
  for (int i = 0; i < source->shape.rank; i++) order[i] = i;
  order[a] = b;
  order[b] = a;
  return tensor_permute(source, order);
}

struct tensor *tensor_narrow(const struct tensor *source, int dimension, int64_t start, int64_t count, int64_t step) {
  struct tensor *view = tensor_alias(source);
  if (!view) return NULL;
  view->shape.size[dimension] = count;
  view->offset += count > 0 ? start * source->stride[dimension] : 0;
  view->stride[dimension] *= step;
  return view;
}

struct tensor *tensor_select(const struct tensor *source, int dimension, int64_t index) {
  struct tensor *view = tensor_alias(source);
  if (!view) return NULL;
  view->offset += index * source->stride[dimension];
  view->shape.rank--;
  for (int i = dimension; i < view->shape.rank; i++) {
    view->shape.size[i] = source->shape.size[i + 1];
    view->stride[i] = source->stride[i + 1];
  }
  return view;
}

struct tensor *tensor_expand(const struct tensor *source, const struct shape *shape) {
  struct shape both;
  if (!shape_broadcast(&source->shape, shape, &both) || !shape_equal(&both, shape)) {
    status_error("a tensor of shape %s does not broadcast to %s", shape_text(&source->shape), shape_text(shape));
    return NULL;
  }
  struct tensor *view = tensor_alias(source);
  if (!view) return NULL;
  int extra = shape->rank - source->shape.rank;
  view->shape = *shape;
  for (int i = 0; i < shape->rank; i++) {
    bool repeated = i < extra || (source->shape.size[i - extra] == 1 && shape->size[i] != 1);
    view->stride[i] = repeated ? 0 : source->stride[i - extra];
  }
  return view;
}

struct tensor *tensor_flatten_rows(const struct tensor *source) {
  int rank = source->shape.rank;
  int64_t columns = rank ? source->shape.size[rank - 1] : 1;
  int64_t rows = 1;
  for (int i = 0; i < rank - 1; i++) rows *= source->shape.size[i];
  struct shape flat = shape_of(2, rows, columns);
  int64_t stride[TENSOR_MAX_RANK];
  if (strides_for(source, &flat, stride)) return tensor_view_shape(source, &flat);
  struct tensor *copy = tensor_copy(source);
  if (!copy) return NULL;
  struct tensor *view = tensor_view_shape(copy, &flat);
  tensor_release(copy);
  return view;
}

/* ---- elements ---- */

int64_t tensor_count(const struct tensor *tensor) { return shape_count(&tensor->shape); }

bool tensor_is_contiguous(const struct tensor *tensor) {
  int64_t stride = 1;
  if (tensor_count(tensor) == 0) return true;
  for (int i = tensor->shape.rank - 1; i >= 0; i--) {
    if (tensor->shape.size[i] == 1) continue;
    if (tensor->stride[i] != stride) return false;
    stride *= tensor->shape.size[i];
  }
  return true;
}

struct tensor *tensor_contiguous(struct tensor *source) {
  return tensor_is_contiguous(source) ? tensor_retain(source) : tensor_copy(source);
}

struct tensor *tensor_copy(const struct tensor *source) {
  return tensor_convert(source, source->type);
}

struct tensor *tensor_convert(const struct tensor *source, enum element_type type) {
  struct tensor *copy = tensor_new(type, &source->shape);
  if (copy && tensor_assign(copy, source) != STATUS_OK) {
    tensor_release(copy);
    return NULL;
  }
  return copy;
}

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

/* A large transpose goes tile by tile, so that both sides stay in cache. */
static bool assign_transposed(struct tensor *destination, const struct tensor *source) {
  int rank = destination->shape.rank;
  if (rank < 2 || destination->type != TYPE_REAL || source->type != TYPE_REAL) return false;
  int64_t rows = destination->shape.size[rank - 2], columns = destination->shape.size[rank - 1];
  if (destination->stride[rank - 1] != 1 || source->stride[rank - 2] != 1 || rows < 8 || columns < 8) return false;
  enum { TILE = 32 };
  int64_t outer = 1;
  for (int i = 0; i < rank - 2; i++) outer *= destination->shape.size[i];
  int64_t row_tiles = (rows + TILE - 1) / TILE;
  int64_t to_row = destination->stride[rank - 2], from_column = source->stride[rank - 1];
#pragma omp parallel for schedule(static) if (outer * rows * columns > PARALLEL_THRESHOLD)
  for (int64_t job = 0; job < outer * row_tiles; job++) {
    int64_t rest = job / row_tiles, to = destination->offset, from = source->offset;
    for (int i = rank - 3; i >= 0; i--) {
      int64_t index = rest % destination->shape.size[i];
      rest /= destination->shape.size[i];
      to += index * destination->stride[i];
      from += index * source->stride[i];
    }
    real *out = (real *)destination->storage->data + to;
    const real *in = (const real *)source->storage->data + from;
    int64_t first = job % row_tiles * TILE, last = parallel_minimum(rows, first + TILE);
    for (int64_t c = 0; c < columns; c += TILE) {
      int64_t end = parallel_minimum(columns, c + TILE);
      for (int64_t i = first; i < last; i++)
        for (int64_t j = c; j < end; j++) out[i * to_row + j] = in[i + j * from_column];
    }
  }
  return true;
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
  if (count > 0 && !assign_transposed(destination, source)) {
    struct assignment all = assignment_of(destination, source);
    int last = all.rank - 1;
    int64_t inner = all.size[last], pieces = (inner + PIECE - 1) / PIECE;
#pragma omp parallel for schedule(static) if (count > PARALLEL_THRESHOLD)
    for (int64_t job = 0; job < count / inner * pieces; job++) {
      int64_t rest = job / pieces, start = job % pieces * PIECE;
      int64_t to = destination->offset + start * all.to[last], from = source->offset + start * all.from[last];
      for (int i = last - 1; i >= 0; i--) {
        int64_t index = rest % all.size[i];
        rest /= all.size[i];
        to += index * all.to[i];
        from += index * all.from[i];
      }
      assign_run(destination, to, all.to[last], source, from, all.from[last], parallel_minimum(PIECE, inner - start));
    }
  }
  tensor_release(source);
  return STATUS_OK;
}

int tensor_fill(struct tensor *destination, double value) {
  struct tensor *scalar = tensor_new(TYPE_REAL, &(struct shape){.rank = 0});
  if (!scalar) return STATUS_ERROR;
  *tensor_real(scalar) = (real)value;
  int status = tensor_assign(destination, scalar);
  tensor_release(scalar);
  return status;
}
