/* Checkpoint: several named tensors, and bytes that say how they belong together, in one checksummed file.
   Little-endian:
   8 bytes    "GLSCKPT\x01"
   uint64     size of the whole file      uint32   number of tensors      uint32   bytes of the structure
   structure
   for each tensor
     uint32   bytes of the name           uint32   type: 1 float32, 2 float64, 3 int32, 4 uint8
     uint32   rank                        int64 × rank   sizes
     name, elements row-major
   uint32     crc32 of everything before it */
#include <inttypes.h>
#include <string.h>

#include "../base/memory.h"
#include "io.h"

enum { NAME_LIMIT = 4096, STRUCTURE_LIMIT = 1 << 30, TENSOR_LIMIT = 1 << 24, TENSOR_HEADER = 12 };

static const char checkpoint_magic[8] = "GLSCKPT\x01";

struct checkpoint_header {
  char magic[8];
  uint64_t bytes;
  uint32_t count, structure_bytes;
};

enum file_type { FILE_FLOAT32 = 1, FILE_FLOAT64, FILE_INT32, FILE_UINT8 };

static uint32_t file_type_of(enum element_type type) {
  if (type == TYPE_INT32) return FILE_INT32;
  if (type == TYPE_UINT8) return FILE_UINT8;
  return sizeof(real) == 8 ? FILE_FLOAT64 : FILE_FLOAT32;
}

/* ---- write ---- */

static int write_tensor(struct file_writer *writer, const char *name, struct tensor *tensor) {
  uint32_t head[3] = {(uint32_t)strlen(name), file_type_of(tensor->type), (uint32_t)tensor->shape.rank};
  STATUS_TRY(file_write(writer, head, sizeof head));
  STATUS_TRY(file_write(writer, tensor->shape.size, (size_t)tensor->shape.rank * sizeof(int64_t)));
  STATUS_TRY(file_write(writer, name, strlen(name)));
  struct tensor *contiguous = tensor_contiguous(tensor);
  if (!contiguous) return STATUS_ERROR;
  size_t element = type_size(contiguous->type);
  const char *data = (const char *)contiguous->storage->data + (size_t)contiguous->offset * element;
  int status = file_write(writer, data, (size_t)tensor_count(contiguous) * element);
  tensor_release(contiguous);
  return status;
}

int checkpoint_write(const char *path, int count, const char *const *name, struct tensor *const *tensor,
                     const char *structure, size_t structure_bytes) {
  if (structure_bytes > STRUCTURE_LIMIT) return status_error("%s: more than 1 GiB beside the tensors", path);
  struct checkpoint_header header = {.count = (uint32_t)count, .structure_bytes = (uint32_t)structure_bytes};
  memcpy(header.magic, checkpoint_magic, sizeof checkpoint_magic);
  header.bytes = sizeof header + structure_bytes + sizeof(uint32_t);
  for (int i = 0; i < count; i++) {
    if (strlen(name[i]) > NAME_LIMIT) return status_error("%s: a name of more than %d bytes", path, NAME_LIMIT);
    header.bytes += TENSOR_HEADER + (uint64_t)tensor[i]->shape.rank * sizeof(int64_t) + strlen(name[i]) +
                    (uint64_t)tensor_count(tensor[i]) * type_size(tensor[i]->type);
  }
  struct file_writer writer;
  STATUS_TRY(file_create(&writer, path));
  int status = file_write(&writer, &header, sizeof header);
  if (status == STATUS_OK) status = file_write(&writer, structure, structure_bytes);
  for (int i = 0; i < count && status == STATUS_OK; i++) status = write_tensor(&writer, name[i], tensor[i]);
  uint32_t checksum = writer.checksum;
  if (status == STATUS_OK) status = file_write(&writer, &checksum, sizeof checksum);
  if (status == STATUS_OK) return file_commit(&writer);
  file_abandon(&writer);
  return STATUS_ERROR;
}

/* ---- read ---- */

static int damaged(const struct file_reader *reader, int tensor) {
  return status_error("%s: damaged: the entry of tensor %d makes no sense", reader->path, tensor + 1);
}

/* Elements of the file's type into a tensor of the matching type of this build. */
static int read_elements(struct file_reader *reader, struct tensor *tensor, uint32_t type) {
  int64_t count = tensor_count(tensor);
  if (type == file_type_of(tensor->type))
    return file_read(reader, tensor->storage->data, (size_t)count * type_size(tensor->type));
  size_t element = type == FILE_FLOAT64 ? sizeof(double) : sizeof(float);
  char *raw = memory_acquire((size_t)count * element);
  if (!raw) return STATUS_ERROR;
  int status = file_read(reader, raw, (size_t)count * element);
  for (int64_t i = 0; i < count && status == STATUS_OK; i++) {
    float single = 0;
    double wide = 0;
    if (type == FILE_FLOAT64)
      memcpy(&wide, raw + (size_t)i * element, element);
    else
      memcpy(&single, raw + (size_t)i * element, element);
    status = file_real(reader->path, type == FILE_FLOAT64 ? wide : (double)single, i, &tensor_real(tensor)[i]);
  }
  memory_release(raw);
  return status;
}

static int read_tensor(struct file_reader *reader, struct checkpoint *checkpoint, int i) {
  static const struct {
    enum element_type type;
    size_t bytes;
  } types[] = {{TYPE_REAL, 0}, {TYPE_REAL, 4}, {TYPE_REAL, 8}, {TYPE_INT32, 4}, {TYPE_UINT8, 1}};
  uint32_t head[3];
  STATUS_TRY(file_read(reader, head, sizeof head));
  if (head[0] > NAME_LIMIT || head[1] < FILE_FLOAT32 || head[1] > FILE_UINT8 || head[2] > TENSOR_MAX_RANK)
    return damaged(reader, i);
  struct shape shape = {.rank = (int)head[2]};
  STATUS_TRY(file_read(reader, shape.size, (size_t)shape.rank * sizeof(int64_t)));
  size_t bytes = types[head[1]].bytes;
  for (int d = 0; d < shape.rank; d++)
    if (shape.size[d] < 0 || !memory_multiply(bytes, (size_t)shape.size[d], &bytes)) return damaged(reader, i);
  if (head[0] > reader->remaining || bytes > reader->remaining - head[0]) return damaged(reader, i);
  checkpoint->name[i] = memory_new(head[0] + 1, 1);
  if (!checkpoint->name[i]) return STATUS_ERROR;
  STATUS_TRY(file_read(reader, checkpoint->name[i], head[0]));
  checkpoint->tensor[i] = tensor_new(types[head[1]].type, &shape);
  if (!checkpoint->tensor[i]) return status_prefix("%s", reader->path);
  return read_elements(reader, checkpoint->tensor[i], head[1]);
}

static int read_body(struct file_reader *reader, struct checkpoint *checkpoint) {
  struct checkpoint_header header;
  if (reader->size < sizeof header.magic)
    return status_error("%s: not a checkpoint of glsrun: %" PRIu64 " bytes", reader->path, reader->size);
  STATUS_TRY(file_read(reader, header.magic, sizeof header.magic));
  if (memcmp(header.magic, checkpoint_magic, sizeof checkpoint_magic - 1) != 0)
    return status_error("%s: not a checkpoint of glsrun", reader->path);
  if (header.magic[7] != checkpoint_magic[7])
    return status_error("%s: a checkpoint of version %d, expected %d", reader->path, header.magic[7],
                        checkpoint_magic[7]);
  STATUS_TRY(file_read(reader, &header.bytes, sizeof header - sizeof header.magic));
  if (reader->size < header.bytes)
    return status_error("%s: truncated: %" PRIu64 " of %" PRIu64 " bytes", reader->path, reader->size, header.bytes);
  if (reader->size > header.bytes)
    return status_error("%s: %" PRIu64 " bytes follow the checkpoint's end", reader->path, reader->size - header.bytes);
  if (header.structure_bytes > reader->remaining || header.count > TENSOR_LIMIT ||
      header.count > reader->remaining / TENSOR_HEADER)
    return status_error("%s: damaged: the header makes no sense", reader->path);
  checkpoint->name = memory_new(header.count, sizeof *checkpoint->name);
  checkpoint->tensor = memory_new(header.count, sizeof(struct tensor *));
  checkpoint->structure = memory_new((size_t)header.structure_bytes + 1, 1);
  if (!checkpoint->name || !checkpoint->tensor || !checkpoint->structure) return STATUS_ERROR;
  checkpoint->count = (int)header.count;
  checkpoint->structure_bytes = header.structure_bytes;
  STATUS_TRY(file_read(reader, checkpoint->structure, header.structure_bytes));
  for (int i = 0; i < checkpoint->count; i++) STATUS_TRY(read_tensor(reader, checkpoint, i));
  uint32_t expected = reader->checksum, checksum;
  if (reader->remaining != sizeof checksum)
    return status_error("%s: damaged: the entries do not fill the file", reader->path);
  STATUS_TRY(file_read(reader, &checksum, sizeof checksum));
  if (checksum != expected)
    return status_error("%s: damaged: checksum %08x, expected %08x", reader->path, expected, checksum);
  return STATUS_OK;
}

int checkpoint_read(struct checkpoint *checkpoint, const char *path) {
  memset(checkpoint, 0, sizeof *checkpoint);
  struct file_reader reader;
  STATUS_TRY(file_open(&reader, path));
  int status = read_body(&reader, checkpoint);
  file_close(&reader);
  if (status != STATUS_OK) checkpoint_clear(checkpoint);
  return status;
}

void checkpoint_clear(struct checkpoint *checkpoint) {
  for (int i = 0; i < checkpoint->count; i++) {
    memory_delete(checkpoint->name[i]);
    tensor_release(checkpoint->tensor[i]);
  }
  memory_delete(checkpoint->name);
  memory_delete(checkpoint->tensor);
  memory_delete(checkpoint->structure);
  memset(checkpoint, 0, sizeof *checkpoint);
}
