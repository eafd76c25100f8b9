/* File: checked reading of files, and files that replace others atomically. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "../base/memory.h"
#include "io.h"

/* Blocks of a checksum: computed side by side, then joined. */
enum { CHECKSUM_BLOCK = 1 << 20, CHECKSUM_BLOCKS = 64 };

/* How the name of a file ends that is being written. */
#define PART ".part"

static size_t block_length(size_t bytes, int block) {
  size_t start = (size_t)block * CHECKSUM_BLOCK;
  return bytes - start < CHECKSUM_BLOCK ? bytes - start : CHECKSUM_BLOCK;
}

uint32_t file_checksum(uint32_t checksum, const void *data, size_t bytes) {
  const unsigned char *at = data;
  while (bytes > CHECKSUM_BLOCK) {
    size_t blocks = (bytes + CHECKSUM_BLOCK - 1) / CHECKSUM_BLOCK;
    int count = blocks < CHECKSUM_BLOCKS ? (int)blocks : CHECKSUM_BLOCKS;
    uint32_t part[CHECKSUM_BLOCKS];
#pragma omp parallel for
    for (int i = 0; i < count; i++)
      part[i] = (uint32_t)crc32(0, at + (size_t)i * CHECKSUM_BLOCK, (uInt)block_length(bytes, i));
    size_t done = 0;
    for (int i = 0; i < count; i++) {
      checksum = (uint32_t)crc32_combine(checksum, part[i], (z_off_t)block_length(bytes, i));
      done += block_length(bytes, i);
    }
    at += done;
    bytes -= done;
  }
  return (uint32_t)crc32(checksum, at, (uInt)bytes);
}

int file_open(struct file_reader *reader, const char *path) {
  memset(reader, 0, sizeof *reader);
  reader->path = path;
  struct stat status;
  /* Asked before opening: opening a pipe that nobody writes to would wait. */
  if (stat(path, &status) != 0) return status_error("%s: %s", path, strerror(errno));
  if (S_ISDIR(status.st_mode)) return status_error("%s: is a folder, expected a file", path);
  if (!S_ISREG(status.st_mode)) return status_error("%s: is not a regular file", path);
  reader->stream = fopen(path, "rbe");
  if (!reader->stream) return status_error("%s: %s", path, strerror(errno));
  reader->size = reader->remaining = (uint64_t)status.st_size;
  return STATUS_OK;
}

int file_open_memory(struct file_reader *reader, const char *path, void *data, size_t bytes) {
  *reader = (struct file_reader){.path = path, .size = bytes, .remaining = bytes};
  if (bytes == 0) return status_error("%s: the file is empty", path);
  reader->stream = fmemopen(data, bytes, "rb");
  return reader->stream ? STATUS_OK : status_error("%s: %s", path, strerror(errno));
}

int file_read(struct file_reader *reader, void *data, size_t bytes) {
  if (bytes > reader->remaining)
    return status_error("%s: truncated: %zu bytes expected at offset %" PRIu64 ", but the file ends %" PRIu64
                        " bytes after it",
                        reader->path, bytes, reader->size - reader->remaining, reader->remaining);
  if (bytes > 0 && fread(data, 1, bytes, reader->stream) != bytes) {
    if (ferror(reader->stream)) return status_error("%s: %s", reader->path, strerror(errno));
    return status_error("%s: the file became shorter while it was read", reader->path);
  }
  reader->remaining -= bytes;
  reader->checksum = file_checksum(reader->checksum, data, bytes);
  return STATUS_OK;
}

void file_close(struct file_reader *reader) {
  if (reader->stream) fclose(reader->stream);
  reader->stream = NULL;
}

int file_read_all(void **data, size_t *bytes, const char *path, size_t limit) {
  struct file_reader reader;
  STATUS_TRY(file_open(&reader, path));
  int status = STATUS_OK;
  *data = NULL;
  if (reader.size > limit)
    status = status_error("%s: %" PRIu64 " bytes, more than the %zu that are accepted", path, reader.size, limit);
  if (status == STATUS_OK) {
    *bytes = (size_t)reader.size;
    *data = memory_acquire(*bytes);
    if (!*data) status = STATUS_ERROR;
  }
  if (status == STATUS_OK) status = file_read(&reader, *data, *bytes);
  file_close(&reader);
  if (status != STATUS_OK && *data) {
    memory_release(*data);
    *data = NULL;
  }
  return status;
}

/* The part of a path after its last slash. */
static const char *file_name(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

static void file_writer_free(struct file_writer *writer) {
  memory_delete(writer->path);
  memory_delete(writer->temporary);
  memset(writer, 0, sizeof *writer);
}

/* The folder of the file, opened. No memory is wanted: the temporary name is not in use before or after writing. */
static int open_parent(struct file_writer *writer) {
  size_t parent = (size_t)(file_name(writer->path) - writer->path);
  memcpy(writer->temporary, writer->path, parent);
  memcpy(writer->temporary + parent, ".", 2);
  return open(writer->temporary, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static bool is_part_of(const char *found, const char *name) {
  size_t length = strlen(name), all = strlen(found), suffix = strlen(PART);
  return all > length + suffix && strncmp(found, name, length) == 0 && found[length] == '.' &&
         isdigit((unsigned char)found[length + 1]) && strcmp(found + all - suffix, PART) == 0;
}

/* Parts that killed writers of this file left behind: whoever writes one holds its lock. */
static void sweep_parts(struct file_writer *writer) {
  const char *name = file_name(writer->path);
  int parent = open_parent(writer);
  DIR *stream = parent >= 0 ? fdopendir(parent) : NULL;
  if (!stream) {
    if (parent >= 0) close(parent);
    return;
  }
  for (struct dirent *entry; (entry = readdir(stream));) {
    if (!is_part_of(entry->d_name, name)) continue;
    int part = openat(parent, entry->d_name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (part < 0) continue;
    if (flock(part, LOCK_EX | LOCK_NB) == 0) unlinkat(parent, entry->d_name, 0);
    close(part);
  }
  closedir(stream);
}

/* A new file beside path, locked; a sweeper may come between its making and its locking, and then it is made anew. */
static int open_part(char *part, size_t bytes, const char *path) {
  for (int attempt = 0; attempt < 1000; attempt++) {
    struct stat status;
    snprintf(part, bytes, "%s.%ld.%d" PART, path, (long)getpid(), attempt);
    int descriptor = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor < 0 && errno == EEXIST) continue;
    if (descriptor < 0) return -1;
    bool locked =
        flock(descriptor, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK; /* not every file system has locks */
    if (locked && fstat(descriptor, &status) == 0 && status.st_nlink > 0) return descriptor;
    close(descriptor);
  }
  return -1;
}

static int file_create_at(struct file_writer *writer, const char *path) {
  struct stat status;
  bool replaces = stat(path, &status) == 0;
  if (replaces && !S_ISREG(status.st_mode))
    return status_error("%s: %s, and is not replaced", path,
                        S_ISDIR(status.st_mode) ? "is a folder" : "is not a regular file");
  size_t length = strlen(path);
  writer->path = memory_new(length + 1, 1);
  writer->temporary = memory_new(length + 48, 1);
  if (!writer->path || !writer->temporary) {
    file_writer_free(writer);
    return STATUS_ERROR;
  }
  memcpy(writer->path, path, length + 1);
  sweep_parts(writer);
  int descriptor = open_part(writer->temporary, length + 48, path);
  /* The new file may be read and written by whom the old one might. */
  if (descriptor >= 0 && (!replaces || fchmod(descriptor, status.st_mode & 07777) == 0))
    writer->stream = fdopen(descriptor, "wb");
  if (!writer->stream) {
    int failure = errno;
    if (descriptor >= 0) {
      close(descriptor);
      unlink(writer->temporary);
    }
    file_writer_free(writer);
    return status_error("%s: cannot be written: %s", path, strerror(failure));
  }
  return STATUS_OK;
}

/* A symbolic link stays: what it leads to is replaced. */
int file_create(struct file_writer *writer, const char *path) {
  memset(writer, 0, sizeof *writer);
  struct stat status;
  if (lstat(path, &status) != 0 || !S_ISLNK(status.st_mode)) return file_create_at(writer, path);
  char *target = realpath(path, NULL);
  if (!target) return status_error("%s: cannot be written: where the link leads: %s", path, strerror(errno));
  int result = file_create_at(writer, target);
  free(target);
  return result;
}

int file_write(struct file_writer *writer, const void *data, size_t bytes) {
  if (bytes > 0 && fwrite(data, 1, bytes, writer->stream) != bytes)
    return status_error("%s: cannot be written: %s", writer->path, strerror(errno));
  writer->written += bytes;
  writer->checksum = file_checksum(writer->checksum, data, bytes);
  return STATUS_OK;
}

/* A new name is on disk when its folder is. */
static int sync_parent(struct file_writer *writer) {
  int parent = open_parent(writer), failure = 0;
  if (parent < 0 || fsync(parent) != 0) failure = errno;
  if (parent >= 0) close(parent);
  if (failure == 0 || failure == EINVAL || failure == EACCES) return STATUS_OK; /* not every folder can be synced */
  return status_error("%s: written, but its folder cannot be synced: %s", writer->path, strerror(failure));
}

int file_commit(struct file_writer *writer) {
  int status = STATUS_OK;
  if (fflush(writer->stream) != 0 || fsync(fileno(writer->stream)) != 0)
    status = status_error("%s: cannot be written: %s", writer->path, strerror(errno));
  if (fclose(writer->stream) != 0 && status == STATUS_OK)
    status = status_error("%s: cannot be written: %s", writer->path, strerror(errno));
  writer->stream = NULL;
  if (status == STATUS_OK && rename(writer->temporary, writer->path) != 0)
    status = status_error("%s: cannot be replaced: %s", writer->path, strerror(errno));
  if (status != STATUS_OK)
    unlink(writer->temporary);
  else
    status = sync_parent(writer);
  file_writer_free(writer);
  return status;
}

void file_abandon(struct file_writer *writer) {
  if (writer->stream) fclose(writer->stream);
  if (writer->temporary) unlink(writer->temporary);
  file_writer_free(writer);
}

int file_link(const char *path, const char *name) {
  unlink(name);
  if (link(path, name) == 0) return STATUS_OK;
  return status_error("%s: cannot be made another name of %s: %s", name, path, strerror(errno));
}

int file_make_folders(const char *path) {
  size_t length = strlen(path);
  char *partial = memory_new(length + 1, 1);
  if (!partial) return STATUS_ERROR;
  memcpy(partial, path, length + 1);
  int failure = 0;
  for (size_t i = 1; i <= length && failure == 0; i++) {
    if (partial[i] != '/' && partial[i] != '\0') continue;
    char separator = partial[i];
    partial[i] = '\0';
    if (mkdir(partial, 0777) != 0 && errno != EEXIST) failure = errno;
    partial[i] = separator;
  }
  struct stat status;
  if (failure == 0 && (stat(path, &status) != 0 || !S_ISDIR(status.st_mode))) failure = ENOTDIR;
  memory_delete(partial);
  return failure == 0 ? STATUS_OK : status_error("%s: the folder cannot be made: %s", path, strerror(failure));
}
