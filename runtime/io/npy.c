/* Npy: NumPy's array files (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html).
   6 bytes    "\x93NUMPY"
   2 bytes    version: 1, 2 or 3, and 0
   uint16 (version 1) or uint32   length of the header
   header     {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), } and blanks
   then the elements, row-major, or column-major when fortran_order is True. */
#include <ctype.h>
#include <inttypes.h>
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

static int npy_find_kind(enum number_kind *kind, bool *swapped, const char *path, const char *descr) {
  *swapped = descr[0] == '>';
  if (strchr("<>|=", descr[0]) && descr[0] != '\0' && descr[1] != '\0')
    for (int k = 0; k < NUMBER_KINDS; k++)
      if (strcmp(descr + 1, numbers[k].npy) == 0) {
        *kind = (enum number_kind)k;
        return STATUS_OK;
      }
  const char *what = strchr("<>|=", descr[0]) && descr[0] ? descr + 1 : descr;
  const char *name = *what == 'c'                   ? "complex numbers"
                     : *what == 'S' || *what == 'U' ? "texts"
                     : *what == 'O'                 ? "Python objects"
                     : *what == 'M' || *what == 'm' ? "times"
                     : *what == 'V'                 ? "records"
                                                    : "elements";
  return status_error("%s: %s of type '%s'; expected f2, f4, f8, i1, i2, i4, i8, u1, u2, u4, u8 or b1", path, name,
                      descr);
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

struct tensor *npy_read_from(struct file_reader *reader) {
  struct npy_header header = {0};
  enum number_kind kind = NUMBER_UINT8;
  bool swapped = false;
  size_t bytes;
  if (npy_read_header(reader, &header) != STATUS_OK ||
      npy_find_kind(&kind, &swapped, reader->path, header.descr) != STATUS_OK ||
      number_bytes(&bytes, reader->path, kind, &header.shape) != STATUS_OK)
    return NULL;
  if (bytes != reader->remaining) {
    status_error("%s: %s of '%s' takes %zu bytes, but %" PRIu64 " follow the header", reader->path,
                 shape_text(&header.shape), header.descr, bytes, reader->remaining);
    return NULL;
  }
  struct shape shape = header.shape;
  if (header.fortran)
    for (int i = 0; i < shape.rank; i++) shape.size[i] = header.shape.size[shape.rank - 1 - i];
  struct tensor *tensor = number_read(reader, kind, swapped, &shape);
  return tensor && header.fortran ? reverse_dimensions(tensor) : tensor;
}

struct tensor *npy_read(const char *path) {
  struct file_reader reader;
  if (file_open(&reader, path) != STATUS_OK) return NULL;
  struct tensor *tensor = npy_read_from(&reader);
  file_close(&reader);
  return tensor;
}

size_t npy_header(char text[NPY_HEADER], const struct tensor *tensor) {
  size_t length = 10;
  const char *name = numbers[number_of(tensor->type)].npy;
  length += (size_t)snprintf(text + length, NPY_HEADER - length, "{'descr': '%c%s', 'fortran_order': False, 'shape': (",
                             tensor->type == TYPE_UINT8 ? '|' : '<', name);
  for (int i = 0; i < tensor->shape.rank; i++)
    length += (size_t)snprintf(text + length, NPY_HEADER - length, "%" PRId64 "%s", tensor->shape.size[i],
                               i + 1 < tensor->shape.rank ? ", "
                               : tensor->shape.rank == 1  ? ","
                                                          : "");
  length += (size_t)snprintf(text + length, NPY_HEADER - length, "), }");
  /* The elements start at a multiple of 64; the header ends in a line's end. */
  while ((length + 1) % HEADER_ALIGNMENT != 0) text[length++] = ' ';
  text[length++] = '\n';
  memcpy(text, npy_magic, sizeof npy_magic);
  text[6] = 1;
  text[7] = 0;
  text[8] = (char)((length - 10) & 255);
  text[9] = (char)((length - 10) >> 8);
  return length;
}

int npy_write(const char *path, const struct tensor *tensor) {
  char header[NPY_HEADER];
  const void *data;
  size_t bytes, length = npy_header(header, tensor);
  struct tensor *contiguous = number_contiguous(tensor, &data, &bytes);
  if (!contiguous) return STATUS_ERROR;
  struct file_writer writer;
  int status = file_create(&writer, path);
  if (status == STATUS_OK) {
    status = file_write(&writer, header, length);
    if (status == STATUS_OK) status = file_write(&writer, data, bytes);
    if (status == STATUS_OK)
      status = file_commit(&writer);
    else
      file_abandon(&writer);
  }
  tensor_release(contiguous);
  return status;
}
