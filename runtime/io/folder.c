/* Folder: a tree of class folders of PNG or JPEG images, decoded in parallel, and the cache of what was decoded.

   A cache file is named after the listing (names, sizes, times of change) and holds, little-endian:
   8 bytes    "glsrun\x02\n"
   uint64     checksum of the listing
   int64 × 4  N, C, H, W
   uint64     crc32 of the pixels
   uint8 × N C H W  pixels */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../base/memory.h"
#include "io.h"

enum { IMAGE_FILE_LIMIT = 1 << 28, DECODE_CHUNK = 64 };

static const char cache_magic[8] = "glsrun\x02\n";

/* ---- names ---- */

struct names {
  char **name;
  int count, capacity;
};

static int names_add(struct names *names, const char *name) {
  if (names->count == names->capacity) {
    int capacity = names->capacity > 0 ? 2 * names->capacity : 64;
    char **larger = memory_new((size_t)capacity, sizeof *larger);
    if (!larger) return STATUS_ERROR;
    if (names->count > 0) memcpy(larger, names->name, (size_t)names->count * sizeof *larger);
    memory_delete(names->name);
    names->name = larger;
    names->capacity = capacity;
  }
  size_t length = strlen(name);
  char *copy = memory_new(length + 1, 1);
  if (!copy) return STATUS_ERROR;
  memcpy(copy, name, length + 1);
  names->name[names->count++] = copy;
  return STATUS_OK;
}

static int compare_names(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static bool is_image_name(const char *name, bool *jpeg) {
  const char *dot = strrchr(name, '.');
  if (!dot) return false;
  *jpeg = strcasecmp(dot, ".jpg") == 0 || strcasecmp(dot, ".jpeg") == 0;
  return *jpeg || strcasecmp(dot, ".png") == 0;
}

void folder_delete_names(char **name, int count) {
  if (!name) return;
  for (int i = 0; i < count; i++) memory_delete(name[i]);
  memory_delete(name);
}

static bool entry_is_folder(int parent, const struct dirent *entry) {
  if (entry->d_type == DT_DIR) return true;
  if (entry->d_type != DT_LNK && entry->d_type != DT_UNKNOWN) return false;
  struct stat status;
  return fstatat(parent, entry->d_name, &status, 0) == 0 && S_ISDIR(status.st_mode);
}

/* Entries of a folder that are not hidden, sorted: folders, or image files. */
static int list_entries(struct names *names, const char *path, bool folders) {
  *names = (struct names){0};
  DIR *stream = opendir(path);
  if (!stream) return status_error("%s: %s", path, strerror(errno));
  int status = STATUS_OK;
  bool jpeg;
  for (struct dirent *entry; status == STATUS_OK && (errno = 0, entry = readdir(stream));) {
    if (entry->d_name[0] == '.') continue;
    if (folders ? entry_is_folder(dirfd(stream), entry) : is_image_name(entry->d_name, &jpeg))
      status = names_add(names, entry->d_name);
  }
  if (status == STATUS_OK && errno != 0) status = status_error("%s: %s", path, strerror(errno));
  closedir(stream);
  if (status != STATUS_OK) {
    folder_delete_names(names->name, names->count);
    *names = (struct names){0};
  } else if (names->count > 1) {
    qsort(names->name, (size_t)names->count, sizeof *names->name, compare_names);
  }
  return status;
}

int folder_list(char ***name, int *count, const char *root) {
  struct names names;
  STATUS_TRY(list_entries(&names, root, true));
  *name = names.name;
  *count = names.count;
  return STATUS_OK;
}

/* ---- listing ---- */

struct listing {
  const char *root;
  struct names classes, files;
  int *class_end; /* files of class c are class_end[c - 1] .. class_end[c] - 1 */
  uint64_t checksum;
  bool lossy;
};

/* FNV-1a, 64 bits. */
static uint64_t mix(uint64_t checksum, const void *data, size_t bytes) {
  const unsigned char *at = data;
  for (size_t i = 0; i < bytes; i++) checksum = (checksum ^ at[i]) * 0x100000001b3u;
  return checksum;
}
static const uint64_t mix_start = 0xcbf29ce484222325u;

static void listing_clear(struct listing *listing) {
  folder_delete_names(listing->classes.name, listing->classes.count);
  folder_delete_names(listing->files.name, listing->files.count);
  memory_delete(listing->class_end);
  memset(listing, 0, sizeof *listing);
}

static char *join(const char *a, const char *b, const char *c) {
  size_t length = strlen(a) + strlen(b) + (c ? strlen(c) + 1 : 0) + 2;
  char *path = memory_new(length, 1);
  if (path) snprintf(path, length, "%s/%s%s%s", a, b, c ? "/" : "", c ? c : "");
  return path;
}

static int class_of(const struct listing *listing, int file) {
  int low = 0, high = listing->classes.count - 1;
  while (low < high) {
    int middle = (low + high) / 2;
    if (file < listing->class_end[middle])
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

static int listing_add_class(struct listing *listing, int class) {
  const char *name = listing->classes.name[class];
  char *path = join(listing->root, name, NULL);
  if (!path) return STATUS_ERROR;
  struct names files = {0};
  int status = list_entries(&files, path, false), parent = -1;
  if (status == STATUS_OK && files.count == 0)
    status = status_error("%s: the class folder holds no PNG or JPEG file", path);
  if (status == STATUS_OK && (parent = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
    status = status_error("%s: %s", path, strerror(errno));
  listing->checksum = mix(listing->checksum, name, strlen(name) + 1);
  for (int i = 0; i < files.count && status == STATUS_OK; i++) {
    struct stat info;
    if (fstatat(parent, files.name[i], &info, 0) != 0) {
      status = status_error("%s/%s: %s", path, files.name[i], strerror(errno));
      break;
    }
    int64_t facts[3] = {(int64_t)info.st_size, (int64_t)info.st_mtim.tv_sec, (int64_t)info.st_mtim.tv_nsec};
    listing->checksum = mix(listing->checksum, files.name[i], strlen(files.name[i]) + 1);
    listing->checksum = mix(listing->checksum, facts, sizeof facts);
    bool jpeg = false;
    is_image_name(files.name[i], &jpeg);
    listing->lossy = listing->lossy || jpeg;
    status = names_add(&listing->files, files.name[i]);
  }
  listing->class_end[class] = listing->files.count;
  if (parent >= 0) close(parent);
  folder_delete_names(files.name, files.count);
  memory_delete(path);
  return status;
}

static int listing_make(struct listing *listing, const char *root) {
  *listing = (struct listing){.root = root, .checksum = mix_start};
  STATUS_TRY(list_entries(&listing->classes, root, true));
  int status = STATUS_OK;
  if (listing->classes.count == 0)
    status = status_error("%s: no class folders; expected %s/<class>/<image>.png or .jpg", root, root);
  if (status == STATUS_OK) {
    listing->class_end = memory_new((size_t)listing->classes.count, sizeof *listing->class_end);
    if (!listing->class_end) status = STATUS_ERROR;
  }
  for (int c = 0; c < listing->classes.count && status == STATUS_OK; c++) status = listing_add_class(listing, c);
  if (status != STATUS_OK) listing_clear(listing);
  return status;
}

/* ---- decoding ---- */

/* Images of a set agree in size; grey ones become colour when there are colour ones among them (*colour is set, and
   the set is decoded again). */
static int decode_file(uint8_t *pixels, const struct image_size *size, const struct listing *listing, int file,
                       bool *colour) {
  char *path = join(listing->root, listing->classes.name[class_of(listing, file)], listing->files.name[file]);
  if (!path) return STATUS_ERROR;
  void *data = NULL;
  size_t bytes = 0;
  struct image_size own;
  int status = file_read_all(&data, &bytes, path, IMAGE_FILE_LIMIT);
  if (status == STATUS_OK) status = image_measure(&own, path, data, bytes);
  if (status == STATUS_OK && (own.width != size->width || own.height != size->height))
    status = status_error("%s: image of %d×%d pixels, but %s/%s/%s has %d×%d; images of a set have one size", path,
                          own.width, own.height, listing->root, listing->classes.name[0], listing->files.name[0],
                          size->width, size->height);
  if (status == STATUS_OK && own.channels > size->channels)
    *colour = true;
  else if (status == STATUS_OK)
    status = image_decode(pixels, size, path, data, bytes);
  if (data) memory_release(data);
  memory_delete(path);
  return status;
}

static int measure_first(struct image_size *size, const struct listing *listing) {
  char *path = join(listing->root, listing->classes.name[0], listing->files.name[0]);
  if (!path) return STATUS_ERROR;
  void *data = NULL;
  size_t bytes = 0;
  int status = file_read_all(&data, &bytes, path, IMAGE_FILE_LIMIT);
  if (status == STATUS_OK) status = image_measure(size, path, data, bytes);
  if (data) memory_release(data);
  memory_delete(path);
  return status;
}

static int decode_all(struct tensor *images, const struct image_size *size, const struct listing *listing,
                      bool *colour) {
  int count = listing->files.count, first_failure = count;
  int64_t each = (int64_t)size->channels * size->height * size->width;
  char message[1024] = "";
  bool any_colour = false;
#pragma omp parallel for schedule(dynamic, DECODE_CHUNK)
  for (int i = 0; i < count; i++) {
    int limit;
    bool file_colour = false;
#pragma omp atomic read
    limit = first_failure;
    if (i > limit) continue;
    int status = decode_file(tensor_uint8(images) + i * each, size, listing, i, &file_colour);
    if (file_colour) {
#pragma omp atomic write
      any_colour = true;
    }
    /* The message of the first file in order, whichever thread met its own first. */
    if (status != STATUS_OK) {
#pragma omp critical(folder_failure)
      if (i < first_failure) {
#pragma omp atomic write
        first_failure = i;
        snprintf(message, sizeof message, "%s", status_message());
      }
    }
  }
  *colour = any_colour;
  return first_failure < count ? status_error("%s", message) : STATUS_OK;
}

static int folder_decode(struct folder *folder, const struct listing *listing) {
  struct image_size size;
  STATUS_TRY(measure_first(&size, listing));
  int64_t count = listing->files.count;
  for (;;) {
    struct shape shape = shape_of(4, count, (int64_t)size.channels, (int64_t)size.height, (int64_t)size.width);
    if (shape_check(&shape) != STATUS_OK) return status_prefix("%s", listing->root);
    folder->images = tensor_new(TYPE_UINT8, &shape);
    if (!folder->images) return status_prefix("%s", listing->root);
    bool colour = false;
    STATUS_TRY(decode_all(folder->images, &size, listing, &colour));
    if (!colour) return STATUS_OK;
    tensor_release(folder->images);
    folder->images = NULL;
    size.channels = 3;
  }
}

/* ---- cache ---- */

struct cache_header {
  char magic[8];
  uint64_t listing;
  int64_t count, channels, height, width;
  uint64_t checksum;
};

/* Label and place tell sets apart, the listing its versions: "<label>-<place>-<listing>.bin". */
static void cache_name(char *name, size_t bytes, size_t *family, const char *label, const struct listing *listing) {
  char *place = realpath(listing->root, NULL);
  const char *path = place ? place : listing->root;
  uint64_t where = mix(mix_start, path, strlen(path));
  free(place);
  int length = snprintf(name, bytes, "%.64s-%08x-", label, (unsigned)(where ^ where >> 32));
  *family = (size_t)length;
  snprintf(name + length, bytes - (size_t)length, "%016" PRIx64 ".bin", listing->checksum);
}

static int cache_read(struct folder *folder, const char *path, const struct listing *listing) {
  struct file_reader reader;
  STATUS_TRY(file_open(&reader, path));
  struct cache_header header;
  int status = file_read(&reader, &header, sizeof header);
  size_t pixels = 1;
  if (status == STATUS_OK &&
      (memcmp(header.magic, cache_magic, sizeof cache_magic) != 0 || header.listing != listing->checksum ||
       header.count != listing->files.count || (header.channels != 1 && header.channels != 3) || header.height < 1 ||
       header.height > IMAGE_MAX_SIDE || header.width < 1 || header.width > IMAGE_MAX_SIDE ||
       !memory_multiply((size_t)header.count, (size_t)header.channels, &pixels) ||
       !memory_multiply(pixels, (size_t)header.height, &pixels) ||
       !memory_multiply(pixels, (size_t)header.width, &pixels) || reader.remaining != pixels))
    status = status_error("%s: not this set's cache", path);
  if (status == STATUS_OK) {
    struct shape shape = shape_of(4, header.count, header.channels, header.height, header.width);
    folder->images = tensor_new(TYPE_UINT8, &shape);
    status = folder->images ? STATUS_OK : STATUS_ERROR;
  }
  reader.checksum = 0;
  if (status == STATUS_OK) status = file_read(&reader, tensor_uint8(folder->images), pixels);
  if (status == STATUS_OK && reader.checksum != header.checksum) status = status_error("%s: damaged", path);
  file_close(&reader);
  if (status != STATUS_OK) {
    tensor_release(folder->images);
    folder->images = NULL;
  }
  return status;
}

static int cache_write(const struct folder *folder, const char *path, const struct listing *listing) {
  const int64_t *size = folder->images->shape.size;
  size_t pixels = (size_t)tensor_count(folder->images);
  struct cache_header header = {
      .listing = listing->checksum,
      .count = size[0],
      .channels = size[1],
      .height = size[2],
      .width = size[3],
      .checksum = file_checksum(0, tensor_uint8(folder->images), pixels),
  };
  memcpy(header.magic, cache_magic, sizeof cache_magic);
  struct file_writer writer;
  STATUS_TRY(file_create(&writer, path));
  if (file_write(&writer, &header, sizeof header) == STATUS_OK &&
      file_write(&writer, tensor_uint8(folder->images), pixels) == STATUS_OK)
    return file_commit(&writer);
  file_abandon(&writer);
  return STATUS_ERROR;
}

/* Older versions of the same set's cache. */
static void cache_remove_others(const char *parent, const char *name, size_t family) {
  DIR *stream = opendir(parent);
  if (!stream) return;
  for (struct dirent *entry; (entry = readdir(stream));) {
    const char *found = entry->d_name;
    size_t length = strlen(found);
    if (length == strlen(name) && strncmp(found, name, family) == 0 && strcmp(found + length - 4, ".bin") == 0 &&
        strcmp(found, name) != 0)
      unlinkat(dirfd(stream), found, 0);
  }
  closedir(stream);
}

/* A cache that cannot be read or written is no failure: the images themselves are there. */
static bool cache_try(struct folder *folder, const char *const *cache_folder, const char *name, size_t family,
                      const struct listing *listing, bool reading) {
  for (int i = 0; cache_folder[i]; i++) {
    char *path = join(cache_folder[i], name, NULL);
    if (!path) return false;
    int status = reading                                           ? cache_read(folder, path, listing)
                 : file_make_folders(cache_folder[i]) == STATUS_OK ? cache_write(folder, path, listing)
                                                                   : STATUS_ERROR;
    memory_delete(path);
    if (status != STATUS_OK) continue;
    if (!reading) cache_remove_others(cache_folder[i], name, family);
    return true;
  }
  return false;
}

static int make_labels(struct folder *folder, const struct listing *listing) {
  struct shape shape = shape_of(1, (int64_t)listing->files.count);
  folder->labels = tensor_new(TYPE_INT32, &shape);
  if (!folder->labels) return STATUS_ERROR;
  for (int i = 0; i < listing->files.count; i++) tensor_int32(folder->labels)[i] = class_of(listing, i) + 1;
  return STATUS_OK;
}

int folder_read(struct folder *folder, const char *root, const char *const *cache_folder, const char *label) {
  memset(folder, 0, sizeof *folder);
  struct listing listing;
  STATUS_TRY(listing_make(&listing, root));
  char name[128];
  size_t family = 0;
  cache_name(name, sizeof name, &family, label, &listing);
  int status = make_labels(folder, &listing);
  folder->lossy = listing.lossy;
  folder->cached = status == STATUS_OK && cache_try(folder, cache_folder, name, family, &listing, true);
  if (status == STATUS_OK && !folder->cached) {
    status = folder_decode(folder, &listing);
    if (status == STATUS_OK) cache_try(folder, cache_folder, name, family, &listing, false);
  }
  folder->class_name = listing.classes.name;
  folder->class_count = listing.classes.count;
  listing.classes = (struct names){0};
  listing_clear(&listing);
  if (status != STATUS_OK) folder_clear(folder);
  return status;
}

void folder_clear(struct folder *folder) {
  tensor_release(folder->images);
  tensor_release(folder->labels);
  folder_delete_names(folder->class_name, folder->class_count);
  memset(folder, 0, sizeof *folder);
}
