/* Idx: the format of MNIST and its kin (http://yann.lecun.com/exdb/mnist), gzipped or not.
   byte 0-1   zero
   byte 2     element type: 08 uint8, 09 int8, 0B int16, 0C int32, 0D float32, 0E float64
   byte 3     rank
   then       rank sizes, 32 bits each, then the elements, row-major; all big-endian. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <zlib.h>

#include "../base/memory.h"
#include "io.h"

/* deflate makes no more than 1032 bytes of one. */
enum { MAX_EXPANSION = 1032, READ_PIECE = 1 << 24, GZIP_WINDOW = 1 << 17 };

static uint32_t big32(const unsigned char *at) {
  return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* Up to bytes; *got says how many there were. */
static int idx_read_some(gzFile file, const char *path, void *data, size_t bytes, size_t *got) {
  unsigned char *at = data;
  *got = 0;
  while (*got < bytes) {
    size_t piece = bytes - *got < READ_PIECE ? bytes - *got : READ_PIECE;
    int count = gzread(file, at + *got, (unsigned)piece);
    int failure = Z_OK;
    const char *reason = gzerror(file, &failure);
    if (failure == Z_BUF_ERROR) return status_error("%s: truncated: the gzip stream has no end", path);
    if (count < 0 || (failure != Z_OK && failure != Z_STREAM_END))
      return status_error("%s: %s", path, failure == Z_ERRNO ? strerror(errno) : reason);
    if (count == 0) break;
    *got += (size_t)count;
  }
  return STATUS_OK;
}

static int idx_read_exactly(gzFile file, const char *path, void *data, size_t bytes, const char *what) {
  size_t got;
  STATUS_TRY(idx_read_some(file, path, data, bytes, &got));
  if (got != bytes) return status_error("%s: truncated: %zu of %zu bytes of the %s", path, got, bytes, what);
  return STATUS_OK;
}

static bool idx_find_kind(enum number_kind *kind, unsigned char code) {
  for (int k = 0; k < NUMBER_KINDS; k++)
    if (numbers[k].idx != 0 && numbers[k].idx == code) {
      *kind = (enum number_kind)k;
      return true;
    }
  return false;
}

static int idx_read_body(gzFile file, const char *path, uint64_t file_bytes, struct tensor **result) {
  unsigned char head[4], sizes[4 * TENSOR_MAX_RANK];
  STATUS_TRY(idx_read_exactly(file, path, head, sizeof head, "header"));
  enum number_kind kind;
  if (head[0] != 0 || head[1] != 0 || !idx_find_kind(&kind, head[2]))
    return status_error("%s: not an IDX file: it begins with %02x %02x %02x %02x", path, head[0], head[1], head[2],
                        head[3]);
  if (head[3] < 1 || head[3] > TENSOR_MAX_RANK)
    return status_error("%s: %d dimensions, expected 1 to %d", path, head[3], TENSOR_MAX_RANK);
  struct shape shape = {.rank = head[3]};
  STATUS_TRY(idx_read_exactly(file, path, sizes, 4 * (size_t)shape.rank, "header"));
  for (int i = 0; i < shape.rank; i++) shape.size[i] = big32(sizes + 4 * i);
  size_t bytes;
  STATUS_TRY(number_bytes(&bytes, path, kind, &shape));

  /* The size of the file bounds what may be asked for, before memory is. */
  size_t header = 4 + 4 * (size_t)shape.rank;
  if (gzdirect(file)) {
    if (bytes > file_bytes - header)
      return status_error("%s: truncated: %s needs %zu bytes after the header, the file has %" PRIu64, path,
                          shape_text(&shape), bytes, file_bytes - header);
    if (bytes < file_bytes - header)
      return status_error("%s: %" PRIu64 " bytes too many for %s", path, file_bytes - header - bytes,
                          shape_text(&shape));
  } else if (bytes / MAX_EXPANSION > file_bytes) {
    return status_error("%s: the header's sizes %s are more than the file can hold", path, shape_text(&shape));
  }

  struct tensor *tensor = tensor_new(numbers[kind].type, &shape);
  if (!tensor) return status_prefix("%s", path);
  bool held = number_is_held(kind);
  unsigned char *raw = held ? tensor->storage->data : memory_acquire(bytes);
  int status = raw ? idx_read_exactly(file, path, raw, bytes, "elements") : status_prefix("%s", path);
  if (status == STATUS_OK) status = number_convert(tensor, raw, kind, true, path);
  if (raw && !held) memory_release(raw);
  /* Reading on meets the gzip trailer, whose checksum and length zlib compares. */
  unsigned char extra;
  size_t got = 0;
  if (status == STATUS_OK) status = idx_read_some(file, path, &extra, 1, &got);
  bool more = got != 0 || (!gzdirect(file) && (uint64_t)gzoffset(file) != file_bytes);
  if (status == STATUS_OK && more)
    status = status_error("%s: bytes follow the elements of %s", path, shape_text(&shape));
  if (status != STATUS_OK) {
    tensor_release(tensor);
    return STATUS_ERROR;
  }
  *result = tensor;
  return STATUS_OK;
}

struct tensor *idx_read(const char *path) {
  struct file_reader reader;
  if (file_open(&reader, path) != STATUS_OK) return NULL;
  uint64_t bytes = reader.size;
  file_close(&reader);
  gzFile file = gzopen(path, "rbe");
  if (!file) {
    status_error("%s: %s", path, errno ? strerror(errno) : "no memory");
    return NULL;
  }
  gzbuffer(file, GZIP_WINDOW);
  struct tensor *tensor = NULL;
  idx_read_body(file, path, bytes, &tensor);
  gzclose_r(file);
  return tensor;
}

struct tensor *idx_read_labels(const char *path, int classes) {
  struct tensor *raw = idx_read(path);
  if (!raw) return NULL;
  struct tensor *labels = NULL;
  if (raw->type == TYPE_REAL || raw->shape.rank != 1)
    status_error("%s: %s of shape %s, expected a list of labels", path, type_name(raw->type), shape_text(&raw->shape));
  else
    labels = tensor_convert(raw, TYPE_INT32);
  for (int64_t i = 0; labels && i < raw->shape.size[0]; i++) {
    int32_t *label = &tensor_int32(labels)[i];
    if (*label < 0 || *label >= classes) {
      status_error("%s: record %" PRId64 ": label %d, expected 0 to %d", path, i + 1, *label, classes - 1);
      tensor_release(labels);
      labels = NULL;
    } else {
      *label += 1;
    }
  }
  tensor_release(raw);
  return labels;
}
