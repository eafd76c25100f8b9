/* Npy: NumPy's array files (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html).
   6 bytes    "\x93NUMPY"
   2 bytes    version: 1, 2 or 3, and 0
   uint16 (version 1) or uint32   length of the header
   header     {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), } and blanks
   then the elements, row-major, or column-major when fortran_order is True. */
#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "../base/memory.h"
#include "io.h"

enum { HEADER_LIMIT = 1 << 16, HEADER_ALIGNMENT = 64 };

static const char npy_magic[6] = "\x93NUMPY";

struct npy_header {
  char descr[16];
  bool fortran, has_descr, has_fortran, has_shape;
  struct shape shape;
};

/* ---- header ---- */

struct cursor {
  const char *at, *end;
};

static void skip_blanks(struct cursor *cursor) {
  while (cursor->at < cursor->end && isspace((unsigned char)*cursor->at)) cursor->at++;
}

static bool take(struct cursor *cursor, const char *text) {
  skip_blanks(cursor);
  size_t length = strlen(text);
  if ((size_t)(cursor->end - cursor->at) < length || memcmp(cursor->at, text, length) != 0) return false;
  cursor->at += length;
  return true;
}

static bool take_string(struct cursor *cursor, char *out, size_t size) {
  skip_blanks(cursor);
  if (cursor->at >= cursor->end || (*cursor->at != '\'' && *cursor->at != '"')) return false;
  char quote = *cursor->at++;
  size_t length = 0;
  while (cursor->at < cursor->end && *cursor->at != quote) {
    if (length + 1 >= size) return false;
    out[length++] = *cursor->at++;
  }
  if (cursor->at >= cursor->end) return false;
  cursor->at++;
  out[length] = '\0';
  return true;
}

static bool take_size(struct cursor *cursor, int64_t *size) {
  skip_blanks(cursor);
  if (cursor->at >= cursor->end || !isdigit((unsigned char)*cursor->at)) return false;
  *size = 0;
  while (cursor->at < cursor->end && isdigit((unsigned char)*cursor->at)) {
    if (*size > (INT64_MAX - 9) / 10) return false;
    *size = *size * 10 + (*cursor->at++ - '0');
  }
  if (cursor->at < cursor->end && *cursor->at == 'L') cursor->at++; /* Python 2 */
  return true;
}

static bool take_shape(struct cursor *cursor, struct shape *shape) {
  shape->rank = 0;
  if (!take(cursor, "(")) return false;
  while (!take(cursor, ")")) {
    if (shape->rank == TENSOR_MAX_RANK || !take_size(cursor, &shape->size[shape->rank])) return false;
    shape->rank++;
    if (!take(cursor, ",")) return take(cursor, ")");
  }
  return true;
}

static int npy_parse(struct npy_header *header, const char *path, const char *text, size_t length) {
  struct cursor cursor = {text, text + length};
  bool good = take(&cursor, "{");
  while (good && !take(&cursor, "}")) {
    char key[32];
    good = take_string(&cursor, key, sizeof key) && take(&cursor, ":");
    if (!good) break;
    if (strcmp(key, "descr") == 0) {
      if (take(&cursor, "[")) return status_error("%s: an array of records; expected plain numbers", path);
      good = header->has_descr = take_string(&cursor, header->descr, sizeof header->descr);
    } else if (strcmp(key, "fortran_order") == 0) {
      header->fortran = take(&cursor, "True");
      good = header->has_fortran = header->fortran || take(&cursor, "False");
    } else if (strcmp(key, "shape") == 0) {
      good = header->has_shape = take_shape(&cursor, &header->shape);
      if (!good)
        return status_error("%s: the shape in the header is not one of at most %d sizes", path, TENSOR_MAX_RANK);
    } else {
      good = false;
    }
    if (good && !take(&cursor, ",")) {
      good = take(&cursor, "}");
      break;
    }
  }
  skip_blanks(&cursor);
  if (!good || cursor.at != cursor.end || !header->has_descr || !header->has_fortran || !header->has_shape)
    return status_error("%s: the header is not that of an npy file", path);
  return STATUS_OK;
}

/* ---- elements ---- */

enum npy_kind { NPY_UINT8, NPY_INT32, NPY_INT64, NPY_FLOAT32, NPY_FLOAT64 };

static const struct npy_type {
  const char *descr; /* after the byte order */
  enum npy_kind kind;
  enum element_type type;
  size_t bytes;
} npy_types[] = {
    {"u1", NPY_UINT8, TYPE_UINT8, 1}, {"b1", NPY_UINT8, TYPE_UINT8, 1},  {"i4", NPY_INT32, TYPE_INT32, 4},
    {"i8", NPY_INT64, TYPE_INT32, 8}, {"f4", NPY_FLOAT32, TYPE_REAL, 4}, {"f8", NPY_FLOAT64, TYPE_REAL, 8},
    {NULL, NPY_UINT8, TYPE_UINT8, 0},
};

static int npy_find_type(const struct npy_type **type, bool *swapped, const char *path, const char *descr) {
  *swapped = descr[0] == '>';
  if (strchr("<>|=", descr[0]) && descr[0] != '\0')
    for (const struct npy_type *row = npy_types; row->descr; row++)
      if (strcmp(descr + 1, row->descr) == 0) {
        *type = row;
        return STATUS_OK;
      }
  return status_error("%s: elements of type '%s'; expected f4, f8, i4, i8, u1 or b1", path, descr);
}

static void swap_bytes(unsigned char *data, size_t count, size_t bytes) {
  for (size_t i = 0; i < count; i++, data += bytes)
    for (size_t low = 0, high = bytes - 1; low < high; low++, high--) {
      unsigned char byte = data[low];
      data[low] = data[high];
      data[high] = byte;
    }
}

/* raw (count elements as in the file) into the contiguous tensor. */
static int npy_convert(struct tensor *tensor, const unsigned char *raw, enum npy_kind kind,
                       const struct file_reader *reader) {
  int64_t count = tensor_count(tensor);
  switch (kind) {
    case NPY_UINT8:
      memcpy(tensor_uint8(tensor), raw, (size_t)count);
      break;
    case NPY_INT32:
      memcpy(tensor_int32(tensor), raw, (size_t)count * sizeof(int32_t));
      break;
    case NPY_INT64:
      for (int64_t i = 0; i < count; i++) {
        int64_t value;
        memcpy(&value, raw + i * 8, sizeof value);
        if (value < INT32_MIN || value > INT32_MAX)
          return status_error("%s: element %" PRId64 " is %" PRId64 ", which int32 does not hold", reader->path, i + 1,
                              value);
        tensor_int32(tensor)[i] = (int32_t)value;
      }
      break;
    case NPY_FLOAT32:
      for (int64_t i = 0; i < count; i++) {
        float value;
        memcpy(&value, raw + i * 4, sizeof value);
        tensor_real(tensor)[i] = value;
      }
      break;
    case NPY_FLOAT64:
      for (int64_t i = 0; i < count; i++) {
        double value;
        memcpy(&value, raw + i * 8, sizeof value);
        STATUS_TRY(file_real(reader->path, value, i, &tensor_real(tensor)[i]));
      }
      break;
  }
  return STATUS_OK;
}

/* Column-major elements are row-major ones of the reversed shape. */
static struct tensor *reverse_dimensions(struct tensor *tensor) {
  int order[TENSOR_MAX_RANK];
  for (int i = 0; i < tensor->shape.rank; i++) order[i] = tensor->shape.rank - 1 - i;
  struct tensor *view = tensor_permute(tensor, order);
  struct tensor *result = view ? tensor_copy(view) : NULL;
  tensor_release(view);
  tensor_release(tensor);
  return result;
}

static int npy_read_header(struct file_reader *reader, struct npy_header *header) {
  unsigned char start[8], length[4] = {0};
  STATUS_TRY(file_read(reader, start, sizeof start));
  if (memcmp(start, npy_magic, sizeof npy_magic) != 0)
    return status_error("%s: not an npy file (it does not begin with \\x93NUMPY)", reader->path);
  if (start[6] < 1 || start[6] > 3)
    return status_error("%s: npy version %d.%d, expected 1 to 3", reader->path, start[6], start[7]);
  STATUS_TRY(file_read(reader, length, start[6] == 1 ? 2 : 4));
  uint32_t bytes = length[0] | (uint32_t)length[1] << 8 | (uint32_t)length[2] << 16 | (uint32_t)length[3] << 24;
  if (bytes > HEADER_LIMIT)
    return status_error("%s: a header of %u bytes, expected at most %d", reader->path, bytes, HEADER_LIMIT);
  char *text = memory_new(bytes + 1, 1);
  if (!text) return STATUS_ERROR;
  int status = file_read(reader, text, bytes);
  if (status == STATUS_OK) status = npy_parse(header, reader->path, text, bytes);
  memory_delete(text);
  return status;
}

static int npy_read_body(struct file_reader *reader, struct tensor **result) {
  struct npy_header header = {0};
  STATUS_TRY(npy_read_header(reader, &header));
  const struct npy_type *type = NULL;
  bool swapped = false;
  STATUS_TRY(npy_find_type(&type, &swapped, reader->path, header.descr));
  size_t bytes = type->bytes;
  for (int i = 0; i < header.shape.rank; i++)
    if (!memory_multiply(bytes, (size_t)header.shape.size[i], &bytes))
      return status_error("%s: the shape %s does not fit in memory", reader->path, shape_text(&header.shape));
  if (bytes != reader->remaining)
    return status_error("%s: %s of '%s' takes %zu bytes, but %" PRIu64 " follow the header", reader->path,
                        shape_text(&header.shape), header.descr, bytes, reader->remaining);
  struct shape shape = header.shape;
  if (header.fortran)
    for (int i = 0; i < shape.rank; i++) shape.size[i] = header.shape.size[shape.rank - 1 - i];
  struct tensor *tensor = tensor_new(type->type, &shape);
  unsigned char *raw = tensor ? memory_acquire(bytes) : NULL;
  int status = raw ? file_read(reader, raw, bytes) : status_prefix("%s", reader->path);
  if (status == STATUS_OK && swapped) swap_bytes(raw, bytes / type->bytes, type->bytes);
  if (status == STATUS_OK) status = npy_convert(tensor, raw, type->kind, reader);
  if (raw) memory_release(raw);
  if (status != STATUS_OK) {
    tensor_release(tensor);
    return STATUS_ERROR;
  }
  *result = header.fortran ? reverse_dimensions(tensor) : tensor;
  return *result ? STATUS_OK : STATUS_ERROR;
}

struct tensor *npy_read(const char *path) {
  struct file_reader reader;
  if (file_open(&reader, path) != STATUS_OK) return NULL;
  struct tensor *tensor = NULL;
  npy_read_body(&reader, &tensor);
  file_close(&reader);
  return tensor;
}

int npy_write(const char *path, const struct tensor *tensor) {
  const char *descr = tensor->type == TYPE_UINT8   ? "|u1"
                      : tensor->type == TYPE_INT32 ? "<i4"
                      : sizeof(real) == 8          ? "<f8"
                                                   : "<f4";
  char header[512];
  int length = snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': False, 'shape': (", descr);
  for (int i = 0; i < tensor->shape.rank; i++)
    length += snprintf(header + length, sizeof header - (size_t)length, "%" PRId64 "%s", tensor->shape.size[i],
                       i + 1 < tensor->shape.rank ? ", "
                       : tensor->shape.rank == 1  ? ","
                                                  : "");
  length += snprintf(header + length, sizeof header - (size_t)length, "), }");
  /* The elements start at a multiple of 64; the header ends in a line's end. */
  while ((10 + length + 1) % HEADER_ALIGNMENT != 0) header[length++] = ' ';
  header[length++] = '\n';
  unsigned char start[10];
  memcpy(start, npy_magic, sizeof npy_magic);
  start[6] = 1;
  start[7] = 0;
  start[8] = (unsigned char)(length & 255);
  start[9] = (unsigned char)(length >> 8);

  struct tensor *contiguous = tensor_is_contiguous(tensor) ? tensor_alias(tensor) : tensor_copy(tensor);
  if (!contiguous) return STATUS_ERROR;
  struct file_writer writer;
  int status = file_create(&writer, path);
  if (status == STATUS_OK) {
    size_t element = type_size(contiguous->type);
    const char *data = (const char *)contiguous->storage->data + (size_t)contiguous->offset * element;
    status = file_write(&writer, start, sizeof start);
    if (status == STATUS_OK) status = file_write(&writer, header, (size_t)length);
    if (status == STATUS_OK) status = file_write(&writer, data, (size_t)tensor_count(contiguous) * element);
    if (status == STATUS_OK)
      status = file_commit(&writer);
    else
      file_abandon(&writer);
  }
  tensor_release(contiguous);
  return status;
}
