/* Number: the elements of files, in all widths that formats have, to and from tensors. What a tensor cannot hold is an
   error that names the element.
   Half precision: IEEE 754-2008, binary16; bfloat16 is the upper half of a float32. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "../base/memory.h"
#include "io.h"

const struct number numbers[NUMBER_KINDS] = {
    [NUMBER_UINT8] = {"u1", "U8", 0x08, TYPE_UINT8, 1},   [NUMBER_BOOL] = {"b1", "BOOL", 0, TYPE_UINT8, 1},
    [NUMBER_INT8] = {"i1", "I8", 0x09, TYPE_INT32, 1},    [NUMBER_INT16] = {"i2", "I16", 0x0B, TYPE_INT32, 2},
    [NUMBER_UINT16] = {"u2", "U16", 0, TYPE_INT32, 2},    [NUMBER_INT32] = {"i4", "I32", 0x0C, TYPE_INT32, 4},
    [NUMBER_UINT32] = {"u4", "U32", 0, TYPE_INT32, 4},    [NUMBER_INT64] = {"i8", "I64", 0, TYPE_INT32, 8},
    [NUMBER_UINT64] = {"u8", "U64", 0, TYPE_INT32, 8},    [NUMBER_FLOAT16] = {"f2", "F16", 0, TYPE_REAL, 2},
    [NUMBER_BFLOAT16] = {"", "BF16", 0, TYPE_REAL, 2},    [NUMBER_FLOAT32] = {"f4", "F32", 0x0D, TYPE_REAL, 4},
    [NUMBER_FLOAT64] = {"f8", "F64", 0x0E, TYPE_REAL, 8},
};

enum number_kind number_of(enum element_type type) {
  if (type == TYPE_UINT8) return NUMBER_UINT8;
  if (type == TYPE_INT32) return NUMBER_INT32;
  return sizeof(real) == 8 ? NUMBER_FLOAT64 : NUMBER_FLOAT32;
}

static void swap_bytes(unsigned char *data, size_t count, size_t bytes) {
  for (size_t i = 0; i < count; i++, data += bytes)
    for (size_t low = 0, high = bytes - 1; low < high; low++, high--) {
      unsigned char byte = data[low];
      data[low] = data[high];
      data[high] = byte;
    }
}

static double half_value(uint16_t bits) {
  int exponent = bits >> 10 & 31, fraction = bits & 1023;
  double size = exponent == 31  ? (fraction ? NAN : INFINITY)
                : exponent == 0 ? ldexp(fraction, -24)
                                : ldexp(1024 + fraction, exponent - 25);
  return bits >> 15 ? -size : size;
}

static double bfloat_value(uint16_t bits) {
  uint32_t wide = (uint32_t)bits << 16;
  float value;
  memcpy(&value, &wide, sizeof value);
  return value;
}

static double real_at(const unsigned char *raw, enum number_kind kind) {
  uint16_t half;
  float single;
  double wide;
  if (kind == NUMBER_FLOAT64) {
    memcpy(&wide, raw, sizeof wide);
    return wide;
  }
  if (kind == NUMBER_FLOAT32) {
    memcpy(&single, raw, sizeof single);
    return single;
  }
  memcpy(&half, raw, sizeof half);
  return kind == NUMBER_FLOAT16 ? half_value(half) : bfloat_value(half);
}

/* Of the upper bits of a uint64 there is nothing that int32 holds: its largest become negative, and are refused too. */
static int64_t integer_at(const unsigned char *raw, enum number_kind kind) {
  uint64_t bits = 0;
  int width = 8 * (int)numbers[kind].bytes;
  memcpy(&bits, raw, numbers[kind].bytes);
  bool is_signed = kind == NUMBER_INT8 || kind == NUMBER_INT16 || kind == NUMBER_INT32;
  if (is_signed && bits >> (width - 1)) bits |= ~(uint64_t)0 << width;
  return (int64_t)bits;
}

static int convert_integers(struct tensor *tensor, const unsigned char *raw, enum number_kind kind, const char *path) {
  for (int64_t i = 0; i < tensor_count(tensor); i++) {
    int64_t value = integer_at(raw + (size_t)i * numbers[kind].bytes, kind);
    bool huge = kind == NUMBER_UINT64 && value < 0;
    if (!huge && value >= INT32_MIN && value <= INT32_MAX)
      tensor_int32(tensor)[i] = (int32_t)value;
    else if (huge)
      return status_error("%s: element %" PRId64 " is %" PRIu64 ", which int32 does not hold", path, i + 1,
                          (uint64_t)value);
    else
      return status_error("%s: element %" PRId64 " is %" PRId64 ", which int32 does not hold", path, i + 1, value);
  }
  return STATUS_OK;
}

static int convert_reals(struct tensor *tensor, const unsigned char *raw, enum number_kind kind, const char *path) {
  for (int64_t i = 0; i < tensor_count(tensor); i++) {
    double value = real_at(raw + (size_t)i * numbers[kind].bytes, kind);
    real *result = &tensor_real(tensor)[i];
    *result = (real)value;
    if (!isfinite((double)*result) && isfinite(value))
      return status_error("%s: element %" PRId64 " is %g, which float32 does not hold", path, i + 1, value);
  }
  return STATUS_OK;
}

int number_convert(struct tensor *tensor, unsigned char *raw, enum number_kind kind, bool swapped, const char *path) {
  if (swapped) swap_bytes(raw, (size_t)tensor_count(tensor), numbers[kind].bytes);
  if (raw == tensor->storage->data) return STATUS_OK;
  return tensor->type == TYPE_INT32 ? convert_integers(tensor, raw, kind, path)
                                    : convert_reals(tensor, raw, kind, path);
}

bool number_is_held(enum number_kind kind) {
  return numbers[kind].type == TYPE_UINT8 || kind == number_of(numbers[kind].type);
}

int number_bytes(size_t *bytes, const char *path, enum number_kind kind, const struct shape *shape) {
  *bytes = numbers[kind].bytes;
  for (int i = 0; i < shape->rank; i++)
    if (!memory_multiply(*bytes, (size_t)shape->size[i], bytes))
      return status_error("%s: the shape %s does not fit in memory", path, shape_text(shape));
  return STATUS_OK;
}

struct tensor *number_read(struct file_reader *reader, enum number_kind kind, bool swapped, const struct shape *shape) {
  size_t bytes;
  if (number_bytes(&bytes, reader->path, kind, shape) != STATUS_OK) return NULL;
  struct tensor *tensor = tensor_new(numbers[kind].type, shape);
  bool held = number_is_held(kind);
  unsigned char *raw = !tensor ? NULL : held ? tensor->storage->data : memory_acquire(bytes);
  int status = raw ? file_read(reader, raw, bytes) : status_prefix("%s", reader->path);
  if (status == STATUS_OK) status = number_convert(tensor, raw, kind, swapped, reader->path);
  if (raw && !held) memory_release(raw);
  if (status == STATUS_OK) return tensor;
  tensor_release(tensor);
  return NULL;
}

/* ---- out ---- */

struct tensor *number_contiguous(const struct tensor *tensor, const void **data, size_t *bytes) {
  struct tensor *contiguous = tensor_is_contiguous(tensor) ? tensor_alias(tensor) : tensor_copy(tensor);
  if (!contiguous) return NULL;
  size_t element = type_size(contiguous->type);
  *data = (const char *)contiguous->storage->data + (size_t)contiguous->offset * element;
  *bytes = (size_t)tensor_count(contiguous) * element;
  return contiguous;
}
