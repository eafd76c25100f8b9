/* Journal: a file that grows by whole lines, each on disk before the next is written; one's own folders, and locks. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../base/memory.h"
#include "io.h"

static int open_at(struct journal *journal, const char *path, int flags) {
  memset(journal, 0, sizeof *journal);
  size_t length = strlen(path);
  journal->path = memory_new(length + 1, 1);
  if (!journal->path) return STATUS_ERROR;
  memcpy(journal->path, path, length + 1);
  journal->descriptor = open(path, flags | O_CLOEXEC, 0666);
  if (journal->descriptor >= 0) return STATUS_OK;
  int failure = errno;
  memory_delete(journal->path);
  journal->path = NULL;
  return status_error("%s: cannot be opened: %s", path, strerror(failure));
}

int journal_open(struct journal *journal, const char *path) {
  return open_at(journal, path, O_WRONLY | O_APPEND | O_CREAT);
}

int journal_append(struct journal *journal, const void *data, size_t bytes) {
  off_t start = lseek(journal->descriptor, 0, SEEK_END);
  const char *next = data;
  int failure = 0;
  for (size_t left = bytes; left > 0 && failure == 0;) {
    ssize_t written = write(journal->descriptor, next, left);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      failure = written < 0 ? errno : ENOSPC;
      break;
    }
    next += written;
    left -= (size_t)written;
  }
  if (failure == 0 && fsync(journal->descriptor) != 0) failure = errno;
  if (failure == 0) return STATUS_OK;
  /* No part of a line stays; a reader leaves one out in any case. */
  if (start >= 0 && ftruncate(journal->descriptor, start) != 0) errno = failure;
  return status_error("%s: cannot be written: %s", journal->path, strerror(failure));
}

int journal_lock_folder(struct journal *lock, bool *free, const char *path) {
  STATUS_TRY(open_at(lock, path, O_RDONLY | O_DIRECTORY));
  *free = flock(lock->descriptor, LOCK_EX | LOCK_NB) == 0;
  if (*free) return STATUS_OK;
  int failure = errno;
  journal_close(lock);
  return failure == EWOULDBLOCK ? STATUS_OK : status_error("%s: cannot be locked: %s", path, strerror(failure));
}

void journal_close(struct journal *journal) {
  if (!journal->path) return;
  close(journal->descriptor);
  memory_delete(journal->path);
  journal->path = NULL;
}

int file_make_folder(bool *made, const char *path) {
  *made = mkdir(path, 0777) == 0;
  return *made || errno == EEXIST ? STATUS_OK
                                  : status_error("%s: the folder cannot be made: %s", path, strerror(errno));
}
