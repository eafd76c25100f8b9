/* Tensor: making, viewing, copying and converting strided arrays. */
#include "tensor.h"

#include <string.h>

#include "../base/memory.h"

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
  view->watch = NULL;
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
  if (count > 1) view->stride[dimension] *= step; /* else nobody takes it, and it may be too long for a number */
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

size_t tensor_bytes(const struct tensor *tensor) { return (size_t)tensor_count(tensor) * type_size(tensor->type); }

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
