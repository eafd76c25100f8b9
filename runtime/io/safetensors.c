/* Safetensors: tensors in a file that other programs read too (https://github.com/huggingface/safetensors, "Format").
   Little-endian:
   uint64    bytes of the header
   header    JSON: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [first, after the last]}, …} and a map of
             texts "__metadata__"; blanks fill it up
   elements  row-major, one tensor after another without a gap
   Lua writes and reads the JSON (lua/gls/checkpoint.lua), and asks for the elements in their order. */
#include <inttypes.h>
#include <string.h>

#include "../base/memory.h"
#include "io.h"

enum { HEADER_LIMIT = 100000000, HEADER_ALIGNMENT = 8 };

/* What checkpoints began with before. */
static const char old_magic[7] = "GLSCKPT";

int safetensors_open(struct file_reader *reader, char **header, size_t *bytes, const char *path) {
  union {
    uint64_t length;
    char text[8];
  } start;
  *header = NULL;
  STATUS_TRY(file_open(reader, path));
  int status = STATUS_OK;
  if (reader->size < sizeof start)
    status = status_error("%s: no safetensors file: %" PRIu64 " bytes", path, reader->size);
  if (status == STATUS_OK) status = file_read(reader, &start, sizeof start);
  if (status == STATUS_OK && memcmp(start.text, old_magic, sizeof old_magic) == 0)
    status = status_error("%s: a checkpoint of an older glsrun, from before safetensors; that version loads it", path);
  if (status == STATUS_OK && (start.length < 2 || start.length > HEADER_LIMIT))
    status = status_error("%s: no safetensors file: a header of %" PRIu64 " bytes, expected 2 to %d", path,
                          start.length, HEADER_LIMIT);
  if (status == STATUS_OK && start.length > reader->remaining)
    status = status_error("%s: truncated: a header of %" PRIu64 " bytes, %" PRIu64 " are there", path, start.length,
                          reader->remaining);
  if (status == STATUS_OK && !(*header = memory_acquire((size_t)start.length + 1))) status = STATUS_ERROR;
  if (status == STATUS_OK) status = file_read(reader, *header, (size_t)start.length);
  if (status == STATUS_OK && **header != '{') status = status_error("%s: no safetensors file: no JSON follows", path);
  reader->checksum = 0;
  if (status == STATUS_OK) {
    (*header)[start.length] = '\0';
    *bytes = (size_t)start.length;
    return STATUS_OK;
  }
  if (*header) memory_release(*header);
  *header = NULL;
  file_close(reader);
  return STATUS_ERROR;
}

struct tensor *safetensors_read(struct file_reader *reader, const char *type, const struct shape *shape,
                                uint64_t bytes) {
  for (int k = 0; k < NUMBER_KINDS; k++) {
    if (strcmp(type, numbers[k].safetensors) != 0) continue;
    size_t needed;
    if (number_bytes(&needed, reader->path, (enum number_kind)k, shape) != STATUS_OK) return NULL;
    if (needed == bytes) return number_read(reader, (enum number_kind)k, false, shape);
    status_error("%s: %s of type %s takes %zu bytes, its offsets say %" PRIu64, reader->path, shape_text(shape), type,
                 needed, bytes);
    return NULL;
  }
  status_error("%s: elements of type %s; expected F16, BF16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64 or BOOL",
               reader->path, type);
  return NULL;
}

int safetensors_write(const char *path, const char *header, size_t bytes, int count, struct tensor *const *tensor) {
  uint64_t length = (bytes + HEADER_ALIGNMENT - 1) / HEADER_ALIGNMENT * HEADER_ALIGNMENT;
  if (length > HEADER_LIMIT)
    return status_error("%s: %zu bytes beside the tensors, at most %d are allowed", path, bytes, HEADER_LIMIT);
  struct file_writer writer;
  STATUS_TRY(file_create(&writer, path));
  int status = file_write(&writer, &length, sizeof length);
  if (status == STATUS_OK) status = file_write(&writer, header, bytes);
  if (status == STATUS_OK) status = file_write(&writer, "        ", (size_t)length - bytes);
  for (int i = 0; i < count && status == STATUS_OK; i++) {
    const void *data;
    size_t size;
    struct tensor *contiguous = number_contiguous(tensor[i], &data, &size);
    status = contiguous ? file_write(&writer, data, size) : STATUS_ERROR;
    tensor_release(contiguous);
  }
  if (status == STATUS_OK) return file_commit(&writer);
  file_abandon(&writer);
  return STATUS_ERROR;
}
