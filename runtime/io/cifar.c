/* Cifar: the binary version of CIFAR-10 (https://www.cs.toronto.edu/~kriz/cifar.html).
   A file is records of 3073 bytes: the label (0 to 9), then 1024 red, 1024 green, 1024 blue, each row-major. */
#include <inttypes.h>
#include <string.h>

#include "../base/memory.h"
#include "io.h"

enum {
  SIDE = 32,
  CHANNELS = 3,
  PIXELS = CHANNELS * SIDE * SIDE,
  RECORD = 1 + PIXELS,
  CLASSES = 10,
  RECORDS_AT_ONCE = 256
};

static int cifar_count(const char *path, int64_t *records) {
  struct file_reader reader;
  STATUS_TRY(file_open(&reader, path));
  file_close(&reader);
  if (reader.size == 0) return status_error("%s: the file is empty", path);
  if (reader.size % RECORD != 0)
    return status_error("%s: not CIFAR-10, or truncated: %" PRIu64 " bytes are %" PRIu64
                        " records of %d bytes and %" PRIu64 " bytes",
                        path, reader.size, reader.size / RECORD, RECORD, reader.size % RECORD);
  *records = (int64_t)(reader.size / RECORD);
  return STATUS_OK;
}

static int cifar_read_file(uint8_t *pixels, int32_t *labels, uint8_t *records, const char *path, int64_t count) {
  struct file_reader reader;
  STATUS_TRY(file_open(&reader, path));
  int status = STATUS_OK;
  for (int64_t first = 0; first < count && status == STATUS_OK; first += RECORDS_AT_ONCE) {
    int64_t here = count - first < RECORDS_AT_ONCE ? count - first : RECORDS_AT_ONCE;
    status = file_read(&reader, records, (size_t)here * RECORD);
    for (int64_t i = 0; i < here && status == STATUS_OK; i++) {
      const uint8_t *record = records + i * RECORD;
      if (record[0] >= CLASSES)
        status = status_error("%s: record %" PRId64 ": label %d, expected 0 to %d", path, first + i + 1, record[0],
                              CLASSES - 1);
      labels[first + i] = record[0] + 1;
      memcpy(pixels + (first + i) * PIXELS, record + 1, PIXELS);
    }
  }
  file_close(&reader);
  return status;
}

int cifar_read(struct tensor **images, struct tensor **labels, const char *const *path, int count) {
  *images = *labels = NULL;
  int64_t total = 0, records = 0;
  for (int i = 0; i < count; i++) {
    STATUS_TRY(cifar_count(path[i], &records));
    total += records;
  }
  struct shape image_shape = shape_of(4, total, (int64_t)CHANNELS, (int64_t)SIDE, (int64_t)SIDE);
  struct shape label_shape = shape_of(1, total);
  *images = tensor_new(TYPE_UINT8, &image_shape);
  *labels = *images ? tensor_new(TYPE_INT32, &label_shape) : NULL;
  uint8_t *piece = *labels ? memory_acquire((size_t)RECORDS_AT_ONCE * RECORD) : NULL;
  int status = piece ? STATUS_OK : STATUS_ERROR;
  int64_t first = 0;
  for (int i = 0; i < count && status == STATUS_OK; i++) {
    status = cifar_count(path[i], &records);
    if (status == STATUS_OK && records > total - first)
      status = status_error("%s: the file grew while it was read", path[i]);
    if (status == STATUS_OK)
      status = cifar_read_file(tensor_uint8(*images) + first * PIXELS, tensor_int32(*labels) + first, piece, path[i],
                               records);
    first += records;
  }
  if (status == STATUS_OK && first != total) status = status_error("%s: the file changed while it was read", path[0]);
  if (piece) memory_release(piece);
  if (status != STATUS_OK) {
    tensor_release(*images);
    tensor_release(*labels);
    *images = *labels = NULL;
  }
  return status;
}
