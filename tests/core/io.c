/* Io: no failing allocation of a reader, a writer or a loader crashes, leaks, or leaves a file behind; the worker of a
   loader can be stopped at any moment; numbers of every width are read. */
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../runtime/base/memory.h"
#include "../../runtime/io/io.h"
#include "check.h"

/* More than any of the calls below makes. */
enum { ALLOCATIONS = 120 };

static char folder[64];

static const char *in_folder(const char *name) {
  static char path[4][256];
  static int turn;
  char *here = path[turn++ % 4];
  snprintf(here, sizeof path[0], "%s/%s", folder, name);
  return here;
}

static void write_bytes(const char *name, const void *data, size_t bytes) {
  FILE *file = fopen(in_folder(name), "wb");
  bool good = file && fwrite(data, 1, bytes, file) == bytes;
  good = file && fclose(file) == 0 && good;
  CHECK(good, "%s cannot be written", name);
}

static int files_in(const char *path) {
  int count = 0;
  DIR *stream = opendir(path);
  if (!stream) return -1;
  for (struct dirent *entry; (entry = readdir(stream));) count += entry->d_name[0] != '.';
  closedir(stream);
  return count;
}

static struct tensor *counting(enum element_type type, int64_t rows, int64_t channels, int64_t height, int64_t width) {
  struct shape shape = shape_of(4, rows, channels, height, width);
  struct tensor *tensor = tensor_new(type, &shape);
  if (!tensor) return NULL;
  for (int64_t i = 0; i < tensor_count(tensor); i++) {
    if (type == TYPE_UINT8)
      tensor_uint8(tensor)[i] = (uint8_t)(i % 251);
    else if (type == TYPE_INT32)
      tensor_int32(tensor)[i] = (int32_t)i;
    else
      tensor_real(tensor)[i] = (real)i / 8;
  }
  return tensor;
}

/* ---- calls, each from start to end ---- */

static struct tensor *images, *reals;

static int keep_tensor(struct tensor *tensor) {
  tensor_release(tensor);
  return tensor ? STATUS_OK : STATUS_ERROR;
}

static int call_idx(void) { return keep_tensor(idx_read(in_folder("a.idx"))); }
static int call_labels(void) { return keep_tensor(idx_read_labels(in_folder("labels.idx"), 10)); }
static int call_npy_read(void) { return keep_tensor(npy_read(in_folder("fortran.npy"))); }
static int call_npy_write(void) {
  struct tensor *turned = tensor_transpose(reals, 0, 3);
  int status = turned ? npy_write(in_folder("written.npy"), turned) : STATUS_ERROR;
  tensor_release(turned);
  return status;
}
static int call_image_read(void) { return keep_tensor(image_read(in_folder("tree/a/1.png"))); }
static int call_image_write(void) { return image_write(in_folder("written.png"), images, 0, 2); }

static int call_cifar(void) {
  struct tensor *x, *y;
  const char *path = in_folder("cifar.bin");
  int status = cifar_read(&x, &y, &path, 1);
  tensor_release(x);
  tensor_release(y);
  return status;
}

static int call_folder(void) {
  struct folder read;
  const char *cache[] = {in_folder("cache"), NULL};
  int status = folder_read(&read, in_folder("tree"), cache, "tree");
  folder_clear(&read);
  return status;
}

static int call_folder_uncached(void) {
  struct folder read;
  const char *cache[] = {NULL};
  int status = folder_read(&read, in_folder("tree"), cache, "tree");
  folder_clear(&read);
  return status;
}

static int write_npz(bool deflated) {
  struct tensor *turned = tensor_transpose(reals, 1, 2);
  struct tensor *list[] = {images, turned};
  const char *const names[] = {"images", "numbers"};
  int status = turned ? npz_write(in_folder("written.npz"), 2, names, list, deflated) : STATUS_ERROR;
  tensor_release(turned);
  return status;
}
static int call_npz_write(void) { return write_npz(false); }
static int call_npz_deflated(void) { return write_npz(true); }

static int call_npz_read(void) {
  struct bundle bundle;
  int status = npz_read(&bundle, in_folder("kept.npz"));
  bundle_clear(&bundle);
  return status;
}

static int call_safetensors_write(void) {
  struct tensor *turned = tensor_transpose(reals, 1, 2);
  struct tensor *list[] = {turned};
  int status = turned ? safetensors_write(in_folder("written.st"), "{}", 2, 1, list) : STATUS_ERROR;
  tensor_release(turned);
  return status;
}

static int call_safetensors_read(void) {
  struct file_reader reader;
  char *header;
  size_t bytes;
  STATUS_TRY(safetensors_open(&reader, &header, &bytes, in_folder("kept.st")));
  struct shape shape = shape_of(1, (int64_t)reader.remaining);
  struct tensor *read = safetensors_read(&reader, "U8", &shape, reader.remaining);
  memory_release(header);
  file_close(&reader);
  return keep_tensor(read);
}

static int iterate(bool prefetch) {
  const double mean[] = {0.5, 0.25, 0.125}, scale[] = {0.5, 1, 2};
  struct loader_settings settings = {.batch = 24,
                                     .shuffle = true,
                                     .flip = true,
                                     .crop = 2,
                                     .prefetch = prefetch,
                                     .rotate = 20,
                                     .erase = 0.5,
                                     .mean_count = 3,
                                     .mean = mean,
                                     .scale_count = 3,
                                     .scale = scale};
  struct loader *loader = loader_new(images, NULL, &settings);
  if (!loader) return STATUS_ERROR;
  struct loader_epoch *epoch = loader_start(loader, 3, 1, 0);
  int status = epoch ? STATUS_OK : STATUS_ERROR, count = 0;
  struct batch batch = {0};
  while (status == STATUS_OK && (status = loader_next(epoch, &batch)) == STATUS_OK && batch.x) {
    batch_clear(&batch);
    count++;
  }
  if (status == STATUS_OK) CHECK(count == 4, "%d batches of 96 rows by 24", count);
  loader_stop(epoch);
  loader_release(loader);
  return status;
}
static int call_loader(void) { return iterate(false); }
static int call_loader_ahead(void) { return iterate(true); }

/* ---- */

static void fails_cleanly(const char *name, int (*call)(void)) {
  int whole = call();
  CHECK(whole == STATUS_OK, "%s: %s", name, status_message());
  int files = files_in(folder), failures = 0;
  size_t before = memory_live();
  for (int n = 1; n <= ALLOCATIONS; n++) {
    memory_fail_at(n);
    int status = call();
    memory_fail_at(0);
    failures += status != STATUS_OK;
    if (status != STATUS_OK) CHECK(status_message()[0] != '\0', "%s: no message when allocation %d fails", name, n);
    if (!CHECK(memory_live() == before, "%s: %zu bytes leak when allocation %d fails", name, memory_live() - before, n))
      return;
  }
  CHECK(failures > 0, "%s: no allocation failed", name);
  CHECK(files_in(folder) == files, "%s leaves %d files behind", name, files_in(folder) - files);
}

static void check_stops(void) {
  struct loader_settings settings = {.batch = 24, .prefetch = true};
  size_t before = memory_live();
  for (int taken = 0; taken <= 6; taken++)
    for (int pause = 0; pause < 8; pause++) {
      struct loader *loader = loader_new(images, NULL, &settings);
      struct loader_epoch *epoch = loader ? loader_start(loader, 3, 1, 0) : NULL;
      if (!CHECK(epoch != NULL, "%s", status_message())) return;
      for (int i = 0; i < taken; i++) {
        struct batch batch;
        CHECK(loader_next(epoch, &batch) == STATUS_OK, "%s", status_message());
        CHECK((batch.x != NULL) == (i < 4), "batch %d of 4", i + 1);
        batch_clear(&batch);
        usleep((useconds_t)(pause * 40));
      }
      loader_release(loader); /* the epoch keeps what it needs */
      loader_stop(epoch);
    }
  CHECK(memory_live() == before, "%zu bytes leak", memory_live() - before);
}

/* One number in every width, little-endian; bits as NumPy and PyTorch give them. */
static void check_widths(void) {
  static const struct {
    const char *type;
    uint64_t bits;
    double value;
    const char *refused;
  } cases[] = {
      {"U8", 200, 200, NULL},
      {"BOOL", 1, 1, NULL},
      {"I8", 0xfd, -3, NULL},
      {"I16", 0x8000, -32768, NULL},
      {"U16", 0x8000, 32768, NULL},
      {"I32", 0xfffffff9, -7, NULL},
      {"U32", 0x7fffffff, 2147483647, NULL},
      {"U32", 0x80000000, 0, "element 1 is 2147483648"},
      {"I64", 0xffffffff80000000, -2147483648.0, NULL},
      {"I64", 0x80000000, 0, "element 1 is 2147483648"},
      {"U64", 7, 7, NULL},
      {"U64", 0xffffffffffffffff, 0, "element 1 is 18446744073709551615"},
      {"F16", 0x3555, 0.333251953125, NULL},
      {"F16", 0xfbff, -65504, NULL},
      {"F16", 0x0001, 5.9604644775390625e-08, NULL},
      {"F16", 0x7c00, INFINITY, NULL},
      {"BF16", 0x4049, 3.140625, NULL},
      {"F32", 0xc0000000, -2, NULL},
      {"F64", 0x3ff8000000000000, 1.5, NULL},
      {"F64", 0x7e37e43c8800759c, 1e300, sizeof(real) == 4 ? "element 1 is 1e+300" : NULL},
      {"F8_E4M3", 0, 0, "elements of type F8_E4M3; expected F16"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    size_t bytes = 8;
    for (int k = 0; k < NUMBER_KINDS; k++)
      if (strcmp(numbers[k].safetensors, cases[i].type) == 0) bytes = numbers[k].bytes;
    unsigned char file[18] = {2, 0, 0, 0, 0, 0, 0, 0, '{', '}'};
    memcpy(file + 10, &cases[i].bits, 8);
    write_bytes("width.st", file, 10 + bytes);
    struct file_reader reader;
    char *header;
    size_t length;
    if (!CHECK(safetensors_open(&reader, &header, &length, in_folder("width.st")) == STATUS_OK, "%s", status_message()))
      return;
    struct shape shape = shape_of(0);
    struct tensor *read = safetensors_read(&reader, cases[i].type, &shape, bytes);
    if (cases[i].refused)
      CHECK(!read && check_message_has(cases[i].refused), "%s: %s", cases[i].type, status_message());
    else if (CHECK(read != NULL, "%s: %s", cases[i].type, status_message()))
      CHECK(tensor_get(read, NULL) == cases[i].value, "%s: %g, expected %g", cases[i].type, tensor_get(read, NULL),
            cases[i].value);
    tensor_release(read);
    memory_release(header);
    file_close(&reader);
  }
}

/* One checksum, however the bytes are cut. */
static void check_checksum(void) {
  size_t bytes = (5 << 20) + 12345;
  uint8_t *data = memory_acquire(bytes);
  if (!CHECK(data != NULL, "no memory")) return;
  for (size_t i = 0; i < bytes; i++) data[i] = (uint8_t)(i * i >> 3);
  uint32_t whole = file_checksum(0, data, bytes), parts = 0;
  for (size_t at = 0; at < bytes; at += 99991)
    parts = file_checksum(parts, data + at, bytes - at < 99991 ? bytes - at : 99991);
  CHECK(whole == parts, "%08x in one piece, %08x in many", whole, parts);
  CHECK(file_checksum(0, "123456789", 9) == 0xcbf43926, "not CRC-32"); /* its published check value */
  memory_release(data);
}

static void write_files(void) {
  static const uint8_t idx[] = {0, 0, 0x0B, 2, 0, 0, 0, 2, 0, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8};
  static const uint8_t labels[] = {0, 0, 8, 1, 0, 0, 0, 3, 0, 9, 5};
  static const char npy[] =
      "\x93NUMPY\x01\0\x36\0{'descr': '<f8', 'fortran_order': True, 'shape': (2,)}"
      "\0\0\0\0\0\0\xf0\x3f\0\0\0\0\0\0\0\x40";
  static uint8_t records[2 * 3073];
  records[3073] = 9;
  write_bytes("a.idx", idx, sizeof idx);
  write_bytes("labels.idx", labels, sizeof labels);
  write_bytes("fortran.npy", npy, sizeof npy - 1);
  write_bytes("cifar.bin", records, sizeof records);
  struct tensor *one = tensor_select(images, 0, 0), *grey = one ? tensor_narrow(one, 0, 0, 1, 1) : NULL;
  bool good = grey && file_make_folders(in_folder("tree/a")) == STATUS_OK &&
              file_make_folders(in_folder("tree/b")) == STATUS_OK &&
              image_write(in_folder("tree/a/1.png"), grey, 0, 0) == STATUS_OK &&
              image_write(in_folder("tree/b/1.png"), one, 0, 0) == STATUS_OK && call_npz_deflated() == STATUS_OK &&
              rename(in_folder("written.npz"), in_folder("kept.npz")) == 0 && call_safetensors_write() == STATUS_OK &&
              rename(in_folder("written.st"), in_folder("kept.st")) == 0;
  CHECK(good, "%s", status_message());
  tensor_release(grey);
  tensor_release(one);
}

/* Rows are drawn in proportion to their weights, the same for the same epoch; a quarter turn and back again is an image
   as it was, and a turn of 90° takes the top to the side. */
static void check_draws(void) {
  enum { ROWS = 4, SIDE = 5 };
  const double weight[ROWS] = {0, 3, 0, 1}, none[ROWS] = {0}, negative[ROWS] = {1, -1, 1, 1};
  double sums[ROWS];
  CHECK(loader_sums(sums, none, ROWS) != STATUS_OK && loader_sums(sums, negative, ROWS) != STATUS_OK,
        "weights without a sum, or below 0, are taken");
  CHECK(loader_sums(sums, weight, ROWS) == STATUS_OK && sums[3] == 4, "%s", status_message());
  int32_t order[ROWS], again[ROWS], count[ROWS] = {0};
  for (uint64_t epoch = 0; epoch < 1000; epoch++) {
    loader_order(order, ROWS, 7, epoch, sums);
    loader_order(again, ROWS, 7, epoch, sums);
    CHECK(memcmp(order, again, sizeof order) == 0, "epoch %d is drawn in two ways", (int)epoch);
    for (int i = 0; i < ROWS; i++) count[order[i]]++;
  }
  CHECK(count[0] == 0 && count[2] == 0 && abs(count[1] - 3000) < 110, "%d of 4000 draws, 3000 expected", count[1]);
  real image[SIDE * SIDE], turned[SIDE * SIDE], back[SIDE * SIDE], offset = 0;
  for (int i = 0; i < SIDE * SIDE; i++) image[i] = (real)(i * i % 17);
  augment_turn(turned, image, &offset, 1, SIDE, SIDE, 90);
  augment_turn(back, turned, &offset, 1, SIDE, SIDE, -90);
  for (int i = 0; i < SIDE * SIDE; i++) {
    int y = i / SIDE, x = i % SIDE;
    double side = (double)fmin(fabs((double)(turned[i] - image[x * SIDE + SIDE - 1 - y])),
                               fabs((double)(turned[i] - image[(SIDE - 1 - x) * SIDE + y])));
    CHECK(side < 1e-4 && fabs((double)(back[i] - image[i])) < 1e-4, "pixel %d: %g, back %g, was %g", i,
          (double)turned[i], (double)back[i], (double)image[i]);
  }
}

void test_io(void) {
  snprintf(folder, sizeof folder, "/tmp/gls-io-XXXXXX");
  if (!CHECK(mkdtemp(folder) != NULL, "no folder can be made in /tmp")) return;
  images = counting(TYPE_UINT8, 96, 3, 32, 32);
  reals = counting(TYPE_REAL, 2, 3, 4, 5);
  if (!CHECK(images && reals, "%s", status_message())) return;
  write_files();
  fails_cleanly("idx_read", call_idx);
  fails_cleanly("idx_read_labels", call_labels);
  fails_cleanly("npy_read", call_npy_read);
  fails_cleanly("npy_write", call_npy_write);
  fails_cleanly("image_read", call_image_read);
  fails_cleanly("image_write", call_image_write);
  fails_cleanly("cifar_read", call_cifar);
  fails_cleanly("folder_read", call_folder_uncached);
  fails_cleanly("folder_read, cached", call_folder);
  fails_cleanly("npz_write", call_npz_write);
  fails_cleanly("npz_write, deflated", call_npz_deflated);
  fails_cleanly("npz_read", call_npz_read);
  fails_cleanly("safetensors_write", call_safetensors_write);
  fails_cleanly("safetensors_read", call_safetensors_read);
  fails_cleanly("loader", call_loader);
  fails_cleanly("loader, ahead", call_loader_ahead);
  check_stops();
  check_draws();
  check_widths();
  check_checksum();
  tensor_release(images);
  tensor_release(reals);
  char command[128];
  snprintf(command, sizeof command, "rm -rf '%s'", folder);
  CHECK(system(command) == 0, "%s cannot be removed", folder);
}
