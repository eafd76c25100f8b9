/* Readers: the readers of runtime/io, and of the prompt's history, under libFuzzer. The environment's READER names one
   of the table below; the input is the file, with checksums and such put right, so that what is behind them is reached.
   A reader answers with a tensor or with a message; whatever else it does, the sanitizers see. */
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "../../runtime/base/memory.h"
#include "../../runtime/cli/cli.h"
#include "../../runtime/io/io.h"

int LLVMFuzzerInitialize(int *count, char ***arguments);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* ---- files ---- */

static char folder[64] = "/dev/shm/gls-fuzz-XXXXXX", file[128], tree[80], caches[80];

static void write_file(const char *path, const void *data, size_t bytes) {
  int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (descriptor < 0 || write(descriptor, data, bytes) != (ssize_t)bytes) abort();
  close(descriptor);
}

static void remove_folder(void) {
  char command[128];
  snprintf(command, sizeof command, "rm -rf '%s'", folder);
  if (system(command) != 0) fprintf(stderr, "%s cannot be removed\n", folder);
}

/* ---- readers: each gives a checksum of what was read ---- */

static uint32_t sum(struct tensor *tensor) {
  uint32_t checksum = 0;
  if (tensor && dataset_checksum(&checksum, tensor) != STATUS_OK) abort();
  tensor_release(tensor);
  return checksum;
}

static uint32_t fuzz_npy(void) { return sum(npy_read(file)); }
static uint32_t fuzz_idx(void) { return sum(idx_read(file)) + sum(idx_read_labels(file, 10)); }
static uint32_t fuzz_image(void) { return sum(image_read(file)); }

static uint32_t fuzz_cifar(void) {
  struct tensor *images, *labels;
  const char *path = file;
  cifar_read(&images, &labels, &path, 1);
  return sum(images) + sum(labels);
}

static uint32_t fuzz_npz(void) {
  struct bundle bundle;
  uint32_t result = 0;
  if (npz_read(&bundle, file) != STATUS_OK) return 0;
  for (int i = 0; i < bundle.count; i++) {
    result += sum(bundle.tensor[i]);
    bundle.tensor[i] = NULL;
  }
  bundle_clear(&bundle);
  return result;
}

static uint32_t fuzz_folder(void) {
  struct folder read;
  const char *cache[] = {caches, NULL};
  uint32_t result = 0;
  if (folder_read(&read, tree, cache, "tree") != STATUS_OK) return 0;
  result = sum(read.images) + sum(read.labels);
  read.images = read.labels = NULL;
  folder_clear(&read);
  return result;
}

/* Read by libedit, once it is seen to be text with its mark; a line more is added, and all is written again. */
static uint32_t fuzz_history(void) {
  struct cli_history kept = {0};
  HistEvent event;
  cli_open_history(&kept);
  if (!kept.lines) abort();
  cli_remember(&kept, "x = 1");
  uint32_t lines = history(kept.lines, &event, H_GETSIZE) == 0 ? (uint32_t)event.num : 0;
  history_end(kept.lines);
  return lines;
}

/* ---- checksums put right ---- */

static void put_big32(uint8_t *at, uint32_t value) {
  for (int i = 0; i < 4; i++) at[i] = (uint8_t)(value >> (24 - 8 * i));
}

/* Of a PNG's chunks. */
static void mend_image(uint8_t *data, size_t bytes) {
  if (!png_is(data, bytes)) return;
  for (size_t at = 8; bytes - at >= 12;) {
    uint32_t length =
        (uint32_t)data[at] << 24 | (uint32_t)data[at + 1] << 16 | (uint32_t)data[at + 2] << 8 | data[at + 3];
    if (length > bytes - at - 12) return;
    put_big32(data + at + 8 + length, file_checksum(0, data + at + 4, length + 4));
    at += length + 12;
  }
}

/* Of an archive's stored members: "PK\1\2" begins an entry of the directory. */
static void mend_npz(uint8_t *data, size_t bytes) {
  for (size_t at = 0; at + 46 <= bytes; at++) {
    uint32_t packed, offset;
    uint16_t method, name, extra;
    if (memcmp(data + at, "PK\1\2", 4) != 0) continue;
    memcpy(&method, data + at + 10, 2);
    memcpy(&packed, data + at + 20, 4);
    memcpy(&offset, data + at + 42, 4);
    if (method != 0 || offset > bytes || bytes - offset < 30) continue;
    memcpy(&name, data + offset + 26, 2);
    memcpy(&extra, data + offset + 28, 2);
    size_t before = (size_t)offset + 30 + name + extra;
    if (before > bytes || packed > bytes - before) continue;
    uint32_t checksum = file_checksum(0, data + before, packed);
    memcpy(data + at + 16, &checksum, 4);
  }
}

/* Of a cache: what it is a cache of, and the checksum of the images. */
static uint8_t true_cache[16];
static void mend_folder(uint8_t *data, size_t bytes) {
  if (bytes < 56) return;
  memcpy(data, true_cache, sizeof true_cache);
  uint64_t checksum = file_checksum(0, data + 56, bytes - 56);
  memcpy(data + 48, &checksum, sizeof checksum);
}

/* Every other history has its mark and no zero byte. */
static void mend_history(uint8_t *data, size_t bytes) {
  static const char mark[] = "_HiStOrY_V2_\n";
  if (bytes < sizeof mark || data[bytes - 1] % 2) return;
  memcpy(data, mark, sizeof mark - 1);
  for (size_t i = 0; i < bytes; i++) data[i] = data[i] ? data[i] : ' ';
}

/* ---- the table ---- */

static const struct reader {
  const char *name;
  uint32_t (*read)(void);
  void (*mend)(uint8_t *data, size_t bytes);
  bool gzipped; /* the input is packed, so that gzip's own checks hold */
} readers[] = {
    {"npy", fuzz_npy, NULL, false},           {"idx", fuzz_idx, NULL, false},
    {"gzip", fuzz_idx, NULL, true},           {"cifar", fuzz_cifar, NULL, false},
    {"image", fuzz_image, mend_image, false}, {"folder", fuzz_folder, mend_folder, false},
    {"npz", fuzz_npz, mend_npz, false},       {"history", fuzz_history, mend_history, false},
};
static const struct reader *reader;

static void write_tree(void) {
  static const char *const classes[] = {"a", "b"};
  char path[128];
  struct shape shape = shape_of(3, (int64_t)1, (int64_t)2, (int64_t)3);
  struct tensor *image = tensor_new(TYPE_UINT8, &shape);
  if (!image) abort();
  memset(tensor_uint8(image), 100, 6);
  for (int i = 0; i < 2; i++) {
    snprintf(path, sizeof path, "%s/%s", tree, classes[i]);
    if (file_make_folders(path) != STATUS_OK) abort();
    snprintf(path, sizeof path, "%s/%s/1.png", tree, classes[i]);
    if (image_write(path, image, 0, 0) != STATUS_OK) abort();
  }
  tensor_release(image);
}

/* The cache that reading a tree leaves is the file to be fuzzed. */
static void make_cache(void) {
  glob_t found;
  char pattern[96];
  write_tree();
  fuzz_folder();
  snprintf(pattern, sizeof pattern, "%s/*.bin", caches);
  if (glob(pattern, 0, NULL, &found) != 0 || found.gl_pathc != 1) abort();
  snprintf(file, sizeof file, "%s", found.gl_pathv[0]);
  globfree(&found);
  FILE *stream = fopen(file, "rb");
  if (!stream || fread(true_cache, 1, sizeof true_cache, stream) != sizeof true_cache) abort();
  fclose(stream);
}

int LLVMFuzzerInitialize(int *count, char ***arguments) {
  (void)count, (void)arguments;
  const char *name = getenv("READER");
  for (size_t i = 0; name && i < sizeof readers / sizeof *readers; i++)
    if (strcmp(name, readers[i].name) == 0) reader = &readers[i];
  if (!reader) {
    fprintf(stderr, "READER is to be one of:");
    for (size_t i = 0; i < sizeof readers / sizeof *readers; i++) fprintf(stderr, " %s", readers[i].name);
    fprintf(stderr, "\n");
    exit(2);
  }
  /* In memory where that is possible: a disk is a hundred times slower. */
  if (!mkdtemp(folder) && !mkdtemp(strcpy(folder, "/tmp/gls-fuzz-XXXXXX"))) abort();
  atexit(remove_folder);
  snprintf(file, sizeof file, "%s/file", folder);
  snprintf(tree, sizeof tree, "%s/tree", folder);
  snprintf(caches, sizeof caches, "%s/caches", folder);
  if (reader->read == fuzz_folder) make_cache();
  if (reader->read == fuzz_history) {
    snprintf(file, sizeof file, "%s/glsrun/history", folder);
    snprintf(tree, sizeof tree, "%s/glsrun", folder);
    if (setenv("XDG_STATE_HOME", folder, 1) != 0 || file_make_folders(tree) != STATUS_OK) abort();
  }
  return 0;
}

static void write_gzipped(const uint8_t *data, size_t bytes) {
  gzFile stream = gzopen(file, "wb1");
  if (!stream || gzwrite(stream, data, (unsigned)bytes) != (int)bytes || gzclose(stream) != Z_OK) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  uint8_t *copy = malloc(bytes + 1);
  if (!copy) abort();
  if (bytes > 0) memcpy(copy, data, bytes);
  if (reader->mend) reader->mend(copy, bytes);
  if (reader->gzipped)
    write_gzipped(copy, bytes);
  else
    write_file(file, copy, bytes);
  free(copy);
  size_t live = memory_live();
  status_error("nothing was said");
  reader->read();
  if (memory_live() != live) {
    fprintf(stderr, "%zu bytes are not released; %s\n", memory_live() - live, status_message());
    abort();
  }
  memory_trim(); /* a buffer that is kept for reuse would hide from the sanitizer who goes past its end */
  return 0;
}
