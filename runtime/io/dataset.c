/* Dataset: what a set of rows is asked: some of its rows, its mean, its checksum, whether its values are sound. */
#include <math.h>
#include <string.h>

#include "../base/parallel.h"
#include "io.h"

struct tensor *dataset_take(const struct tensor *source, const int32_t *index, int64_t count) {
  if (source->shape.rank == 0) {
    status_error("rows of a scalar: expected a tensor with a first dimension");
    return NULL;
  }
  int64_t rows = source->shape.size[0];
  for (int64_t i = 0; i < count; i++)
    if (index[i] < 0 || index[i] >= rows) {
      status_error("row %lld of %lld", (long long)index[i] + 1, (long long)rows);
      return NULL;
    }
  struct tensor *contiguous = tensor_is_contiguous(source) ? tensor_alias(source) : tensor_copy(source);
  if (!contiguous) return NULL;
  struct shape shape = source->shape;
  shape.size[0] = count;
  struct tensor *result = tensor_new(source->type, &shape);
  if (result && rows > 0) {
    size_t row = (size_t)(tensor_count(contiguous) / rows) * type_size(source->type);
    const char *from = (const char *)contiguous->storage->data + (size_t)contiguous->offset * type_size(source->type);
    char *to = result->storage->data;
    bool large = (size_t)count * row > PARALLEL_THRESHOLD;
#pragma omp parallel for if (large)
    for (int64_t i = 0; i < count; i++) memcpy(to + (size_t)i * row, from + (size_t)index[i] * row, row);
  }
  tensor_release(contiguous);
  return result;
}

int dataset_mean(double *mean, const struct tensor *images) {
  if (images->type != TYPE_UINT8 || images->shape.rank < 2)
    return status_error("mean of images: expected uint8 (N, C, ...), got %s %s", type_name(images->type),
                        shape_text(&images->shape));
  int64_t rows = images->shape.size[0], channels = images->shape.size[1], count = tensor_count(images);
  if (count == 0) return status_error("mean of images: the set is empty");
  struct tensor *contiguous = tensor_is_contiguous(images) ? tensor_alias(images) : tensor_copy(images);
  if (!contiguous) return STATUS_ERROR;
  int64_t plane = count / rows / channels;
  const uint8_t *pixel = tensor_uint8(contiguous);
  for (int64_t c = 0; c < channels; c++) {
    uint64_t sum = 0; /* of integers: exact in any order */
#pragma omp parallel for reduction(+ : sum) if (rows * plane > PARALLEL_THRESHOLD)
    for (int64_t i = 0; i < rows; i++) {
      const uint8_t *at = pixel + (i * channels + c) * plane;
      uint64_t here = 0;
      for (int64_t j = 0; j < plane; j++) here += at[j];
      sum += here;
    }
    mean[c] = (double)sum / ((double)rows * (double)plane) / 255;
  }
  tensor_release(contiguous);
  return STATUS_OK;
}

int dataset_checksum(uint32_t *checksum, const struct tensor *tensor) {
  struct tensor *contiguous = tensor_is_contiguous(tensor) ? tensor_alias(tensor) : tensor_copy(tensor);
  if (!contiguous) return STATUS_ERROR;
  size_t element = type_size(tensor->type);
  const char *data = (const char *)contiguous->storage->data + (size_t)contiguous->offset * element;
  *checksum = file_checksum(*checksum, data, (size_t)tensor_count(contiguous) * element);
  tensor_release(contiguous);
  return STATUS_OK;
}

int dataset_find_nonfinite(int64_t *row, double *value, const struct tensor *source) {
  *row = -1;
  int64_t count = tensor_count(source);
  if (count == 0) return STATUS_OK;
  struct tensor *contiguous = tensor_is_contiguous(source) ? tensor_alias(source) : tensor_copy(source);
  if (!contiguous) return STATUS_ERROR;
  const real *number = tensor_real(contiguous);
  int64_t first = count;
#pragma omp parallel for reduction(min : first) if (count > PARALLEL_THRESHOLD)
  for (int64_t i = 0; i < count; i++)
    if (!isfinite(number[i]) && i < first) first = i;
  if (first < count) {
    int64_t rows = source->shape.rank > 0 ? source->shape.size[0] : 1;
    *value = (double)number[first];
    *row = first / (count / rows);
  }
  tensor_release(contiguous);
  return STATUS_OK;
}

int dataset_find_outside(int64_t *row, int32_t *value, const struct tensor *labels, int32_t low, int32_t high) {
  *row = -1;
  int64_t count = tensor_count(labels);
  if (count == 0) return STATUS_OK;
  struct tensor *contiguous = tensor_is_contiguous(labels) ? tensor_alias(labels) : tensor_copy(labels);
  if (!contiguous) return STATUS_ERROR;
  const int32_t *label = tensor_int32(contiguous);
  int64_t first = 0;
  while (first < count && label[first] >= low && label[first] <= high) first++;
  if (first < count) {
    *value = label[first];
    *row = labels->shape.rank > 0 ? first / (count / labels->shape.size[0]) : 0;
  }
  tensor_release(contiguous);
  return STATUS_OK;
}
