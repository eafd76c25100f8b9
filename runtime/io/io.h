/* Io: bytes on disk to and from tensors, and the assembly of batches.
   file.c         reading with checks; files that replace others in one moment
   number.c       elements of files in all widths              safetensors.c  checkpoints
   npy.c npz.c    NumPy's arrays, and archives of them         idx.c          IDX (MNIST's format), gzipped or not
   image.c        one PNG or JPEG in, grids of images out      cifar.c        CIFAR-10's binary batches
   jpeg.c png.c   what must hold before stb_image decodes      folder.c       trees of class folders, and their cache
   text.c         windows of tokens                            dataset.c      rows, means and checksums of a set
   loader.c       batches, shuffled and prefetched             augment.c      an image turned, or erased in part
   journal.c      files that grow by lines; locks of folders   trace.c        the spans of a profile
   Messages begin with the path of the file they are about. Labels and tokens in tensors start at 1. */
#ifndef GLS_IO_IO_H
#define GLS_IO_IO_H

#include <stdio.h>

#include "../base/profile.h"
#include "../tensor/tensor.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the file formats are little-endian and written as they lie in memory"
#endif

/* ---- file.c ---- */
struct file_reader {
  const char *path; /* borrowed */
  FILE *stream;
  uint64_t size, remaining;
  uint32_t checksum; /* crc32 of what was read */
};
/* Opens a regular file; STATUS_ERROR with message, and nothing to close, otherwise. */
int file_open(struct file_reader *reader, const char *path);
/* Exactly bytes, or an error that says where the file ends. */
int file_read(struct file_reader *reader, void *data, size_t bytes);
void file_close(struct file_reader *reader);
/* Reads from memory instead, which must outlive the reader; path is what errors name. */
int file_open_memory(struct file_reader *reader, const char *path, void *data, size_t bytes);
/* The whole of a regular file of at most limit bytes: *data from memory_acquire. */
int file_read_all(void **data, size_t *bytes, const char *path, size_t limit);

/* A file that replaces another in one moment: it is written beside it, flushed to disk, and renamed. */
struct file_writer {
  char *path, *temporary;
  FILE *stream;
  uint64_t written;
  uint32_t checksum;
};
int file_create(struct file_writer *writer, const char *path);
int file_write(struct file_writer *writer, const void *data, size_t bytes);
int file_commit(struct file_writer *writer);   /* releases the writer in every case */
void file_abandon(struct file_writer *writer); /* removes what was written; harmless after a commit */
/* The file under a second name, in place of what stood there; neither is a copy of the other. */
int file_link(const char *path, const char *name);
/* Makes a folder and those above it that are missing. */
int file_make_folders(const char *path);
/* Makes one folder; *made is false when something stands there already. */
int file_make_folder(bool *made, const char *path);
/* crc32, continuing from checksum (0 at the start). */
uint32_t file_checksum(uint32_t checksum, const void *data, size_t bytes);

/* ---- journal.c ---- */
struct journal {
  char *path; /* NULL: closed */
  int descriptor;
};
int journal_open(struct journal *journal, const char *path); /* a file that is there is continued */
/* On disk when it returns; of what cannot be written no part stays. */
int journal_append(struct journal *journal, const void *data, size_t bytes);
/* The lock of a folder, held until it is closed or the process ends; *free is false while another process has it. */
int journal_lock_folder(struct journal *lock, bool *free, const char *path);
void journal_close(struct journal *journal); /* more than once is fine */

/* ---- trace.c ---- */
/* The spans of a profile as a file for Perfetto. */
int trace_write(const char *path, const struct profile_entry *entry, const struct profile_event *event, int count);

/* ---- number.c ---- */
/* Elements as files have them. A tensor holds them as uint8, int32 or real: 64-bit integers where int32 holds their
   values, float64 where its size is in float32's range. */
enum number_kind {
  NUMBER_UINT8,
  NUMBER_BOOL,
  NUMBER_INT8,
  NUMBER_INT16,
  NUMBER_UINT16,
  NUMBER_INT32,
  NUMBER_UINT32,
  NUMBER_INT64,
  NUMBER_UINT64,
  NUMBER_FLOAT16,
  NUMBER_BFLOAT16,
  NUMBER_FLOAT32,
  NUMBER_FLOAT64,
  NUMBER_KINDS
};
extern const struct number {
  const char *npy, *safetensors; /* the formats' names; npy: after the byte order; IDX's code; none: "" and 0 */
  unsigned char idx;
  enum element_type type;
  size_t bytes;
} numbers[NUMBER_KINDS];
enum number_kind number_of(enum element_type type); /* what a tensor's elements are in memory */
/* Whether a tensor has the elements in the same form: they are read where they stay, raw being its data. */
bool number_is_held(enum number_kind kind);
int number_bytes(size_t *bytes, const char *path, enum number_kind kind, const struct shape *shape);
/* raw: as many elements as the tensor has; swapped: big-endian, and turned in place. */
int number_convert(struct tensor *tensor, unsigned char *raw, enum number_kind kind, bool swapped, const char *path);
/* The next elements of a file. */
struct tensor *number_read(struct file_reader *reader, enum number_kind kind, bool swapped, const struct shape *shape);
/* The tensor, or its copy, in row order, and its bytes; to be released. */
struct tensor *number_contiguous(const struct tensor *tensor, const void **data, size_t *bytes);

/* ---- idx.c ---- */
/* uint8 stays, int8, int16 and int32 become int32, float32 and float64 become real. */
struct tensor *idx_read(const char *path);
/* Labels of an IDX file: uint8 or integers from 0 to classes - 1, as int32 (N) from 1. */
struct tensor *idx_read_labels(const char *path, int classes);

/* ---- cifar.c ---- */
/* All records of several files: images uint8 (N, 3, 32, 32), labels int32 (N) from 1 to 10. */
int cifar_read(struct tensor **images, struct tensor **labels, const char *const *path, int count);

/* ---- image.c ---- */
enum { IMAGE_MAX_SIDE = 8192 };
struct image_size {
  int channels, height, width; /* channels: 1 grey, 3 colour; transparency is dropped */
};
/* Size of an encoded image from its header. */
int image_measure(struct image_size *size, const char *path, const void *data, size_t bytes);
/* Decodes into pixels (channels, height, width), as size says; the image must be of that height and width. */
int image_decode(uint8_t *pixels, const struct image_size *size, const char *path, const void *data, size_t bytes);
/* Whether stb_image may see a JPEG file: it reads tables and coefficients that a damaged one does not define. */
int jpeg_check(const char *path, const uint8_t *data, size_t bytes);
struct png {
  int depth, colours;                  /* bits of a sample; colours of the palette */
  ptrdiff_t colour_type, transparency; /* where the header has the type, and a chunk tRNS its name (0: none) */
};
bool png_is(const uint8_t *data, size_t bytes);
int png_check(struct png *png, const char *path, const uint8_t *data, size_t bytes);
/* Whether pixels could have colours that the palette has not. */
bool png_palette_is_short(const struct png *png, const uint8_t *data);
/* One image file as uint8 (C, H, W). */
struct tensor *image_read(const char *path);
/* (H, W), (C, H, W) or (N, C, H, W), C 1 or 3, uint8 or real in [0, 1] (clamped), as one PNG: N images in a grid of
   columns (0: as square as it goes), gap white pixels apart. */
int image_write(const char *path, const struct tensor *images, int64_t columns, int64_t gap);

/* ---- folder.c ---- */
struct folder {
  struct tensor *images, *labels; /* uint8 (N, C, H, W), int32 (N) */
  int class_count;
  char **class_name; /* sorted; label i is class_name[i - 1] */
  bool lossy;        /* some image is a JPEG */
  bool cached;       /* came from a cache file */
};
/* Reads root/<class>/<image>, ordered by class and file name. cache_folder: NULL-ended list of folders where a cache
   file named after label may be; the first that can be written gets one. A cache that does not fit is rebuilt. */
int folder_read(struct folder *folder, const char *root, const char *const *cache_folder, const char *label);
void folder_clear(struct folder *folder);
/* Names of the folders in root that are not hidden, sorted: *name from memory_new, freed by folder_delete_names. */
int folder_list(char ***name, int *count, const char *root);
void folder_delete_names(char **name, int count);

/* ---- npy.c ---- */
/* Numbers of all kinds above but bfloat16, in either byte and index order. */
struct tensor *npy_read(const char *path);
int npy_write(const char *path, const struct tensor *tensor);
/* What npz.c has of them: the rest of an open file, and the bytes before the elements. */
enum { NPY_HEADER = 512 };
struct tensor *npy_read_from(struct file_reader *reader);
size_t npy_header(char text[NPY_HEADER], const struct tensor *tensor);

/* ---- npz.c ---- */
struct bundle {
  int count;
  char **name;
  struct tensor **tensor;
};
/* Arrays that are stored or deflated. */
int npz_read(struct bundle *bundle, const char *path);
int npz_write(const char *path, int count, const char *const *name, struct tensor *const *tensor, bool deflated);
void bundle_clear(struct bundle *bundle);

/* ---- safetensors.c ---- */
/* Opens a file and reads its header, JSON that ends in a zero byte: *header from memory_acquire. What remains is the
   elements, in order. */
int safetensors_open(struct file_reader *reader, char **header, size_t *bytes, const char *path);
/* The next elements, of a type by its name in the header; bytes: what the header says that they take. */
struct tensor *safetensors_read(struct file_reader *reader, const char *type, const struct shape *shape,
                                uint64_t bytes);
/* header: the JSON that describes the tensors in this order. */
int safetensors_write(const char *path, const char *header, size_t bytes, int count, struct tensor *const *tensor);

/* ---- dataset.c ---- */
/* Rows (first dimension) of a tensor of any type, by index from 0: contiguous copy. */
struct tensor *dataset_take(const struct tensor *source, const int32_t *index, int64_t count);
/* Mean of uint8 (N, C, …) per channel, in [0, 1]: mean[C]. Exact sums: the same for any number of threads. */
int dataset_mean(double *mean, const struct tensor *images);
/* crc32 of a tensor's contiguous bytes, continuing from checksum. */
int dataset_checksum(uint32_t *checksum, const struct tensor *tensor);
/* First row of a real tensor that holds NaN or an infinity, or -1; *value is what it holds. */
int dataset_find_nonfinite(int64_t *row, double *value, const struct tensor *source);
/* First row of an int32 tensor with a value outside low..high, or -1. */
int dataset_find_outside(int64_t *row, int32_t *value, const struct tensor *labels, int32_t low, int32_t high);

/* ---- text.c ---- */
/* Windows of tokens (int32, N), each from its start (from 0): x and, one token later, y, both int32 (count, length). */
int text_windows(struct tensor **x, struct tensor **y, const struct tensor *tokens, const int32_t *start, int64_t count,
                 int64_t length);
/* Where the windows of a batch begin, each among `choices`: a function of seed, epoch and batch alone. */
void text_random_starts(int32_t *start, int64_t count, int32_t choices, uint64_t seed, uint64_t epoch, uint64_t batch);

/* ---- augment.c ---- */
/* out = the image in (channels, height, width) turned about its middle, bilinear; what comes in from outside is 0
   before normalisation: -offset[channel]. */
void augment_turn(real *out, const real *in, const real *offset, int64_t channels, int64_t height, int64_t width,
                  double degrees);
/* A rectangle, drawn from the words, becomes 0 (Zhong, Zheng, Kang, Li and Yang, "Random erasing data augmentation",
   AAAI 2020). */
void augment_erase(real *image, int64_t channels, int64_t height, int64_t width, const uint32_t word[4]);

/* ---- loader.c ---- */
struct loader_settings {
  int64_t batch;
  bool shuffle, drop_last, flatten, flip, prefetch;
  int64_t crop;
  double rotate, erase; /* degrees to either side; probability that a rectangle is erased */
  /* Lists: none, one value, or one for each channel (second dimension). x = (value - mean) / scale. */
  int64_t mean_count, scale_count;
  const double *mean; /* of uint8: in [0, 1] */
  const double *scale;
  int64_t weight_count; /* none, or one for each row: rows are drawn by their weights, with replacement */
  const double *weight;
};
struct batch {
  struct tensor *x, *y, *index; /* real, as the set has it (or NULL), int32 from 1 */
};
struct loader;
struct loader_epoch;

/* x: uint8 or real, N first; y: any type, N first, or NULL. Both are kept, and must not change while epochs run. */
struct loader *loader_new(struct tensor *x, struct tensor *y, const struct loader_settings *settings);
void loader_release(struct loader *loader);
int64_t loader_batches(const struct loader *loader);
/* One pass, from the batch `first` (from 0) on: its order and augmentation depend on the seed and the number of the
   epoch alone. */
struct loader_epoch *loader_start(struct loader *loader, uint64_t seed, uint64_t epoch, int64_t first);
/* The rows of an epoch, from 0: order[rows]. sums: running sums of the rows' weights, by which they are drawn; NULL: a
   permutation. */
void loader_order(int32_t *order, int64_t rows, uint64_t seed, uint64_t epoch, const double *sums);
/* Running sums of weights, which are finite, at least 0, and not all 0. */
int loader_sums(double *sums, const double *weight, int64_t count);
/* The next batch, owned by the caller; all NULL after the last. */
int loader_next(struct loader_epoch *epoch, struct batch *batch);
/* Stops the worker, wherever it is, and releases what it had ready. */
void loader_stop(struct loader_epoch *epoch);
void batch_clear(struct batch *batch);

#endif
