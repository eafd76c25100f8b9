/* Npz: NumPy's archives, zip files whose members are "<name>.npy", stored or deflated (PKWARE, APPNOTE 6.3.10: 4.3.7
   local headers, 4.3.12 central directory, 4.3.16 its end; RFC 1951). Archives of more than 4 GB (zip64) are not read,
   nor written. */
#include <inttypes.h>
#include <string.h>
#include <zlib.h>

#include "../base/memory.h"
#include "io.h"

enum {
  LOCAL_HEADER = 30,
  CENTRAL_HEADER = 46,
  CENTRAL_END = 22,
  COMMENT_LIMIT = 1 << 16,
  NAME_LIMIT = 4096,
  STORED = 0,
  DEFLATED = 8,
  VERSION = 20,
  FLAG_ENCRYPTED = 1,
  FLAG_UTF8 = 1 << 11,
  DATE = 0x21, /* 1 January 1980: the same arrays give the same bytes */
  MAX_EXPANSION = 1032
};
static const uint32_t local_signature = 0x04034b50, central_signature = 0x02014b50, end_signature = 0x06054b50;

static unsigned get16(const uint8_t *at) { return at[0] | (unsigned)at[1] << 8; }
static uint32_t get32(const uint8_t *at) { return get16(at) | (uint32_t)get16(at + 2) << 16; }
static void put16(uint8_t *at, unsigned value) {
  at[0] = (uint8_t)value;
  at[1] = (uint8_t)(value >> 8);
}
static void put32(uint8_t *at, uint32_t value) {
  put16(at, value & 0xffff);
  put16(at + 2, value >> 16);
}

void bundle_clear(struct bundle *bundle) {
  for (int i = 0; i < bundle->count; i++) {
    memory_delete(bundle->name[i]);
    tensor_release(bundle->tensor[i]);
  }
  memory_delete(bundle->name);
  memory_delete(bundle->tensor);
  memset(bundle, 0, sizeof *bundle);
}

/* ---- in ---- */

struct archive {
  const char *path;
  const uint8_t *data;
  size_t bytes;
};

struct member {
  unsigned flags, method, name_length;
  uint32_t checksum, packed, bytes, offset;
  const uint8_t *name, *content;
};

static int damaged(const struct archive *archive) {
  return status_error("%s: not an npz archive, or damaged or cut short", archive->path);
}

static int find_directory(const struct archive *archive, const uint8_t **directory, unsigned *count) {
  size_t searched = archive->bytes < CENTRAL_END + COMMENT_LIMIT ? archive->bytes : CENTRAL_END + COMMENT_LIMIT;
  for (size_t back = CENTRAL_END; back <= searched; back++) {
    const uint8_t *end = archive->data + archive->bytes - back;
    if (get32(end) != end_signature || get16(end + 20) != back - CENTRAL_END) continue;
    uint32_t offset = get32(end + 16);
    *count = get16(end + 10);
    if (offset == UINT32_MAX || *count == UINT16_MAX)
      return status_error("%s: an archive of more than 4 GB or 65 534 arrays (zip64), which is not read",
                          archive->path);
    if (offset > archive->bytes - back) return damaged(archive);
    *directory = archive->data + offset;
    return STATUS_OK;
  }
  return damaged(archive);
}

/* The member at *at of the directory, which moves on; its content lies in the archive. */
static int next_member(const struct archive *archive, struct member *member, const uint8_t **at) {
  const uint8_t *end = archive->data + archive->bytes, *entry = *at;
  if (end - entry < CENTRAL_HEADER || get32(entry) != central_signature) return damaged(archive);
  *member = (struct member){.flags = get16(entry + 8),
                            .method = get16(entry + 10),
                            .checksum = get32(entry + 16),
                            .packed = get32(entry + 20),
                            .bytes = get32(entry + 24),
                            .name_length = get16(entry + 28),
                            .offset = get32(entry + 42),
                            .name = entry + CENTRAL_HEADER};
  size_t whole = (size_t)CENTRAL_HEADER + member->name_length + get16(entry + 30) + get16(entry + 32);
  if (whole > (size_t)(end - entry)) return damaged(archive);
  *at = entry + whole;
  if (member->offset > archive->bytes || archive->bytes - member->offset < LOCAL_HEADER) return damaged(archive);
  const uint8_t *local = archive->data + member->offset;
  size_t before = (size_t)LOCAL_HEADER + get16(local + 26) + get16(local + 28), left = (size_t)(end - local);
  if (get32(local) != local_signature || before > left || member->packed > left - before) return damaged(archive);
  member->content = local + before;
  return STATUS_OK;
}

static int inflate_member(uint8_t *out, const struct member *member) {
  z_stream stream = {
      .next_in = (Bytef *)member->content, .avail_in = member->packed, .next_out = out, .avail_out = member->bytes};
  if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) return status_error("out of memory: to inflate");
  int result = inflate(&stream, Z_FINISH);
  inflateEnd(&stream);
  if (result == Z_MEM_ERROR) return status_error("out of memory: to inflate");
  return result == Z_STREAM_END && stream.total_out == member->bytes ? STATUS_OK : status_error("damaged");
}

/* "path: name" for messages, and the name without ".npy". */
static int name_member(char **name, char where[], size_t size, const struct archive *archive,
                       const struct member *member) {
  static const char suffix[] = ".npy";
  size_t length = member->name_length, tail = sizeof suffix - 1;
  if (length > NAME_LIMIT || memchr(member->name, 0, length)) return damaged(archive);
  snprintf(where, size, "%s: %.*s", archive->path, (int)length, (const char *)member->name);
  if (length <= tail || memcmp(member->name + length - tail, suffix, tail) != 0)
    return status_error("%s: no array: its name does not end in .npy", where);
  *name = memory_new(length - tail + 1, 1);
  if (!*name) return STATUS_ERROR;
  memcpy(*name, member->name, length - tail);
  return STATUS_OK;
}

static int read_member(struct tensor **tensor, const char *where, const struct member *member) {
  if (member->flags & FLAG_ENCRYPTED) return status_error("%s: encrypted", where);
  if (member->method != STORED && member->method != DEFLATED)
    return status_error("%s: packed by method %u, expected stored (0) or deflated (8)", where, member->method);
  bool packed = member->method == DEFLATED;
  if (packed ? member->bytes / MAX_EXPANSION > member->packed : member->bytes != member->packed)
    return status_error("%s: damaged: %u bytes from %u", where, member->bytes, member->packed);
  /* A copy in either case: what is not row-major little-endian is turned in place. */
  uint8_t *content = memory_acquire(member->bytes);
  if (!content) return STATUS_ERROR;
  int status = STATUS_OK;
  if (packed)
    status = inflate_member(content, member);
  else
    memcpy(content, member->content, member->bytes);
  if (status != STATUS_OK) status_prefix("%s", where);
  if (status == STATUS_OK && file_checksum(0, content, member->bytes) != member->checksum)
    status = status_error("%s: damaged: its checksum does not fit", where);
  struct file_reader reader = {0};
  if (status == STATUS_OK) status = file_open_memory(&reader, where, content, member->bytes);
  if (status == STATUS_OK) status = (*tensor = npy_read_from(&reader)) ? STATUS_OK : STATUS_ERROR;
  file_close(&reader);
  memory_release(content);
  return status;
}

static int read_archive(struct bundle *bundle, const struct archive *archive) {
  const uint8_t *at = NULL;
  unsigned count = 0;
  STATUS_TRY(find_directory(archive, &at, &count));
  bundle->name = memory_new(count, sizeof *bundle->name);
  bundle->tensor = memory_new(count, sizeof(struct tensor *));
  if (!bundle->name || !bundle->tensor) return STATUS_ERROR;
  for (unsigned i = 0; i < count; i++) {
    struct member member = {0};
    char where[1024];
    STATUS_TRY(next_member(archive, &member, &at));
    STATUS_TRY(name_member(&bundle->name[i], where, sizeof where, archive, &member));
    bundle->count++;
    for (unsigned k = 0; k < i; k++)
      if (strcmp(bundle->name[k], bundle->name[i]) == 0) return status_error("%s: there twice", where);
    STATUS_TRY(read_member(&bundle->tensor[i], where, &member));
  }
  return STATUS_OK;
}

int npz_read(struct bundle *bundle, const char *path) {
  memset(bundle, 0, sizeof *bundle);
  void *data;
  struct archive archive = {.path = path};
  STATUS_TRY(file_read_all(&data, &archive.bytes, path, UINT32_MAX));
  archive.data = data;
  int status = read_archive(bundle, &archive);
  memory_release(data);
  if (status != STATUS_OK) bundle_clear(bundle);
  return status;
}

/* ---- out ---- */

/* The member's bytes, packed: *packed from memory_acquire. */
static int deflate_member(uint8_t **packed, struct member *member, const char *header, size_t header_bytes,
                          const void *data, size_t bytes) {
  z_stream stream = {0};
  if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK)
    return status_error("out of memory: to deflate");
  size_t limit = deflateBound(&stream, header_bytes + bytes) + 64;
  int status = STATUS_ERROR;
  if (limit > UINT32_MAX)
    status_error("an array of more than 4 GB");
  else if ((*packed = memory_acquire(limit)))
    status = STATUS_OK;
  if (status == STATUS_OK) {
    stream.next_out = *packed;
    stream.avail_out = (uInt)limit;
    stream.next_in = (Bytef *)header;
    stream.avail_in = (uInt)header_bytes;
    int result = deflate(&stream, Z_NO_FLUSH);
    stream.next_in = (Bytef *)data;
    stream.avail_in = (uInt)bytes;
    if (result == Z_OK) result = deflate(&stream, Z_FINISH);
    if (result != Z_STREAM_END) status = status_error("an array cannot be deflated");
    member->packed = (uint32_t)stream.total_out;
  }
  deflateEnd(&stream);
  return status;
}

/* What local header and directory entry have in common, from the version on. */
static void put_facts(uint8_t *at, const struct member *member) {
  put16(at, VERSION);
  put16(at + 2, member->flags);
  put16(at + 4, member->method);
  put16(at + 8, DATE);
  put32(at + 10, member->checksum);
  put32(at + 14, member->packed);
  put32(at + 18, member->bytes);
  put16(at + 22, member->name_length);
}

static int write_member(struct file_writer *writer, struct member *member, const char *name,
                        const struct tensor *tensor, bool deflated) {
  char header[NPY_HEADER];
  const void *data;
  size_t bytes, header_bytes = npy_header(header, tensor);
  struct tensor *contiguous = number_contiguous(tensor, &data, &bytes);
  if (!contiguous) return STATUS_ERROR;
  int status = STATUS_OK;
  uint8_t *packed = NULL, local[LOCAL_HEADER] = {0};
  size_t length = strlen(name) + 4;
  if (length > NAME_LIMIT) status = status_error("a name of more than %d bytes", NAME_LIMIT - 4);
  if (header_bytes + bytes + writer->written > UINT32_MAX - (1 << 20))
    status = status_error("an archive of more than 4 GB; gls.save has no such limit");
  *member = (struct member){.flags = FLAG_UTF8,
                            .method = deflated ? DEFLATED : STORED,
                            .name_length = (unsigned)length,
                            .offset = (uint32_t)writer->written};
  if (status == STATUS_OK) {
    member->checksum = file_checksum(file_checksum(0, header, header_bytes), data, bytes);
    member->bytes = member->packed = (uint32_t)(header_bytes + bytes);
    if (deflated) status = deflate_member(&packed, member, header, header_bytes, data, bytes);
  }
  if (status != STATUS_OK) status_prefix("%s: %s", writer->path, name);
  put32(local, local_signature);
  put_facts(local + 4, member);
  if (status == STATUS_OK) status = file_write(writer, local, sizeof local);
  if (status == STATUS_OK) status = file_write(writer, name, length - 4);
  if (status == STATUS_OK) status = file_write(writer, ".npy", 4);
  if (packed) {
    if (status == STATUS_OK) status = file_write(writer, packed, member->packed);
  } else {
    if (status == STATUS_OK) status = file_write(writer, header, header_bytes);
    if (status == STATUS_OK) status = file_write(writer, data, bytes);
  }
  if (packed) memory_release(packed);
  tensor_release(contiguous);
  return status;
}

static int write_directory(struct file_writer *writer, int count, const char *const *name,
                           const struct member *member) {
  uint64_t start = writer->written;
  for (int i = 0; i < count; i++) {
    uint8_t entry[CENTRAL_HEADER] = {0};
    put32(entry, central_signature);
    put16(entry + 4, VERSION);
    put_facts(entry + 6, &member[i]);
    put32(entry + 42, member[i].offset);
    STATUS_TRY(file_write(writer, entry, sizeof entry));
    STATUS_TRY(file_write(writer, name[i], strlen(name[i])));
    STATUS_TRY(file_write(writer, ".npy", 4));
  }
  uint8_t end[CENTRAL_END] = {0};
  put32(end, end_signature);
  put16(end + 8, (unsigned)count);
  put16(end + 10, (unsigned)count);
  put32(end + 12, (uint32_t)(writer->written - start));
  put32(end + 16, (uint32_t)start);
  return file_write(writer, end, sizeof end);
}

int npz_write(const char *path, int count, const char *const *name, struct tensor *const *tensor, bool deflated) {
  if (count >= UINT16_MAX) return status_error("%s: %d arrays, at most 65 534 are allowed", path, count);
  struct member *member = memory_new((size_t)count, sizeof *member);
  if (!member) return STATUS_ERROR;
  struct file_writer writer;
  int status = file_create(&writer, path);
  if (status == STATUS_OK) {
    for (int i = 0; i < count && status == STATUS_OK; i++)
      status = write_member(&writer, &member[i], name[i], tensor[i], deflated);
    if (status == STATUS_OK) status = write_directory(&writer, count, name, member);
    if (status == STATUS_OK)
      status = file_commit(&writer);
    else
      file_abandon(&writer);
  }
  memory_delete(member);
  return status;
}
