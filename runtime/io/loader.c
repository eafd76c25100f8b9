/* Loader: batches of a set, in order or shuffled, converted to reals, and made ready ahead by a thread; who asks for
   one that is not ready yet makes the next meanwhile.
   The order and the augmentation of an epoch are functions of (seed, epoch) alone: stream 2·epoch of the seed permutes
   the rows, stream 2·epoch + 1 moves and mirrors the image at each place of the order. */
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "../base/memory.h"
#include "../base/parallel.h"
#include "../base/random.h"
#include "io.h"

enum {
  AHEAD = 3,
  /* Below this many elements a batch is made sooner than another thread is woken. */
  WORTH_A_THREAD = 1 << 16,
  MESSAGE_SIZE = 512
};

struct loader {
  int references; /* of the thread that iterates: its own, and one for each epoch */
  struct tensor *x, *y;
  struct loader_settings settings;
  int64_t rows, row, channels, plane, batches; /* row = channels × plane elements */
  real factor, *offset;                        /* x = value · factor − offset[channel] */
};

struct ready {
  struct batch batch;
  bool made;
  int status;
  char message[MESSAGE_SIZE];
};

struct loader_epoch {
  struct loader *loader;
  int32_t *order; /* NULL: as they lie */
  struct random_stream augmentation;
  int64_t next;  /* batch that is made next */
  int64_t given; /* batches that were handed out: those from it up to next are made, or being made */
  /* With a worker: a ring, a batch's place is its number's remainder. */
  bool threaded;
  pthread_t worker;
  pthread_mutex_t lock;
  pthread_cond_t filled, taken;
  struct ready ready[AHEAD];
  bool stop;
};

/* ---- rows ---- */

/* out = in · factor − offset: count elements of one channel. */
static void convert(real *restrict out, const uint8_t *restrict in, int64_t count, real factor, real offset) {
#pragma omp simd
  for (int64_t i = 0; i < count; i++) out[i] = (real)in[i] * factor - offset;
}

static void convert_real(real *restrict out, const real *restrict in, int64_t count, real factor, real offset) {
#pragma omp simd
  for (int64_t i = 0; i < count; i++) out[i] = in[i] * factor - offset;
}

static void fill_row(const struct loader *loader, real *out, int64_t row) {
  int64_t channels = loader->channels, plane = loader->plane, start = row * loader->row;
  bool bytes = loader->x->type == TYPE_UINT8;
  if (!bytes && loader->settings.mean_count == 0 && loader->factor == 1) {
    memcpy(out, tensor_real(loader->x) + start, (size_t)loader->row * sizeof(real));
  } else if (plane == 1) {
    const real *restrict offset = loader->offset;
    real factor = loader->factor;
    const uint8_t *restrict in = bytes ? tensor_uint8(loader->x) + start : NULL;
    const real *restrict real_in = bytes ? NULL : tensor_real(loader->x) + start;
    if (bytes) {
#pragma omp simd
      for (int64_t c = 0; c < channels; c++) out[c] = (real)in[c] * factor - offset[c];
    } else {
#pragma omp simd
      for (int64_t c = 0; c < channels; c++) out[c] = real_in[c] * factor - offset[c];
    }
  } else {
    for (int64_t c = 0; c < channels; c++) {
      int64_t at = c * plane;
      if (bytes)
        convert(out + at, tensor_uint8(loader->x) + start + at, plane, loader->factor, loader->offset[c]);
      else
        convert_real(out + at, tensor_real(loader->x) + start + at, plane, loader->factor, loader->offset[c]);
    }
  }
}

/* The image moved by (down, right) pixels, what comes in from outside being 0 before normalisation, and mirrored. */
static void fill_moved(const struct loader *loader, real *out, int64_t row, int64_t down, int64_t right, bool mirror) {
  int64_t height = loader->x->shape.size[2], width = loader->x->shape.size[3];
  int64_t left = right > 0 ? right : 0, end = right < 0 ? width + right : width;
  for (int64_t c = 0; c < loader->channels; c++) {
    real blank = -loader->offset[c];
    for (int64_t y = 0; y < height; y++) {
      real *line = out + (c * height + y) * width;
      int64_t from = y - down;
      bool inside = from >= 0 && from < height && left < end;
      if (!inside || left > 0 || end < width)
        for (int64_t x = 0; x < width; x++) line[x] = blank;
      if (inside) {
        int64_t at = row * loader->row + (c * height + from) * width + left - right;
        if (loader->x->type == TYPE_UINT8)
          convert(line + left, tensor_uint8(loader->x) + at, end - left, loader->factor, loader->offset[c]);
        else
          convert_real(line + left, tensor_real(loader->x) + at, end - left, loader->factor, loader->offset[c]);
      }
      if (mirror)
        for (int64_t a = 0, b = width - 1; a < b; a++, b--) {
          real value = line[a];
          line[a] = line[b];
          line[b] = value;
        }
    }
  }
}

static void fill_place(const struct loader_epoch *epoch, real *out, int64_t place, int64_t row) {
  const struct loader *loader = epoch->loader;
  int64_t crop = loader->settings.crop;
  if (crop == 0 && !loader->settings.flip) {
    fill_row(loader, out, row);
    return;
  }
  uint32_t word[4];
  random_block(epoch->augmentation, (uint64_t)place, word);
  /* A word times the number of choices, its upper half: even to one part in 2³² ÷ choices. */
  uint64_t choices = 2 * (uint64_t)crop + 1;
  int64_t down = (int64_t)(word[0] * choices >> 32) - crop, right = (int64_t)(word[1] * choices >> 32) - crop;
  bool mirror = loader->settings.flip && (word[2] & 1);
  if (down == 0 && right == 0 && !mirror)
    fill_row(loader, out, row);
  else
    fill_moved(loader, out, row, down, right, mirror);
}

/* ---- batches ---- */

void batch_clear(struct batch *batch) {
  tensor_release(batch->x);
  tensor_release(batch->y);
  tensor_release(batch->index);
  *batch = (struct batch){0};
}

static int make_batch(const struct loader_epoch *epoch, struct batch *batch, int64_t number) {
  const struct loader *loader = epoch->loader;
  int64_t first = number * loader->settings.batch;
  int64_t count = loader->rows - first < loader->settings.batch ? loader->rows - first : loader->settings.batch;
  struct shape x_shape = loader->x->shape, index_shape = shape_of(1, count);
  if (loader->settings.flatten) x_shape = shape_of(2, count, loader->row);
  x_shape.size[0] = count;
  *batch = (struct batch){0};
  batch->index = tensor_new(TYPE_INT32, &index_shape);
  batch->x = batch->index ? tensor_new(TYPE_REAL, &x_shape) : NULL;
  if (batch->x && loader->y) {
    struct shape y_shape = loader->y->shape;
    y_shape.size[0] = count;
    batch->y = tensor_new(loader->y->type, &y_shape);
  }
  if (!batch->x || (loader->y && !batch->y)) {
    batch_clear(batch);
    return STATUS_ERROR;
  }
  size_t y_row = 0;
  const char *y_from = NULL;
  if (loader->y) {
    size_t element = type_size(loader->y->type);
    y_row = (size_t)(tensor_count(loader->y) / loader->rows) * element;
    y_from = (const char *)loader->y->storage->data + (size_t)loader->y->offset * element;
  }
  for (int64_t i = 0; i < count; i++) {
    int64_t row = epoch->order ? epoch->order[first + i] : first + i;
    fill_place(epoch, tensor_real(batch->x) + i * loader->row, first + i, row);
    if (y_from) memcpy((char *)batch->y->storage->data + (size_t)i * y_row, y_from + (size_t)row * y_row, y_row);
    tensor_int32(batch->index)[i] = (int32_t)row + 1;
  }
  return STATUS_OK;
}

/* ---- the worker ---- */

static bool may_begin(const struct loader_epoch *epoch) {
  return !epoch->stop && epoch->next < epoch->loader->batches && epoch->next < epoch->given + AHEAD;
}

/* The next batch into its place: called with the lock, which is let go meanwhile. */
static void make_next(struct loader_epoch *epoch) {
  int64_t number = epoch->next++;
  struct ready *ready = &epoch->ready[number % AHEAD];
  pthread_mutex_unlock(&epoch->lock);
  ready->status = make_batch(epoch, &ready->batch, number);
  if (ready->status != STATUS_OK) snprintf(ready->message, sizeof ready->message, "%s", status_message());
  pthread_mutex_lock(&epoch->lock);
  ready->made = true;
  if (ready->status != STATUS_OK) epoch->stop = true;
}

static void *work(void *argument) {
  struct loader_epoch *epoch = argument;
  parallel_start();
  pthread_mutex_lock(&epoch->lock);
  while (!epoch->stop && epoch->next < epoch->loader->batches) {
    if (may_begin(epoch)) {
      make_next(epoch);
      pthread_cond_signal(&epoch->filled);
    } else {
      pthread_cond_wait(&epoch->taken, &epoch->lock);
    }
  }
  pthread_mutex_unlock(&epoch->lock);
  return NULL;
}

/* Without a thread to be had, batches are made when they are asked for. */
static void start_worker(struct loader_epoch *epoch) {
  const struct loader *loader = epoch->loader;
  if (!loader->settings.prefetch || loader->batches < 2 || loader->settings.batch * loader->row < WORTH_A_THREAD)
    return;
  pthread_mutex_init(&epoch->lock, NULL);
  pthread_cond_init(&epoch->filled, NULL);
  pthread_cond_init(&epoch->taken, NULL);
  /* Interrupts are the main thread's. */
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  epoch->threaded = pthread_create(&epoch->worker, NULL, work, epoch) == 0;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (!epoch->threaded) {
    pthread_mutex_destroy(&epoch->lock);
    pthread_cond_destroy(&epoch->filled);
    pthread_cond_destroy(&epoch->taken);
  }
}

struct loader_epoch *loader_start(struct loader *loader, uint64_t number) {
  struct loader_epoch *epoch = memory_new(1, sizeof *epoch);
  if (!epoch) return NULL;
  epoch->loader = loader;
  loader->references++;
  epoch->augmentation = (struct random_stream){loader->settings.seed, 2 * number + 1};
  if (loader->settings.shuffle) {
    epoch->order = memory_acquire((size_t)loader->rows * sizeof *epoch->order);
    if (!epoch->order) {
      loader_stop(epoch);
      return NULL;
    }
    random_permutation((struct random_stream){loader->settings.seed, 2 * number}, epoch->order, loader->rows);
  }
  start_worker(epoch);
  return epoch;
}

int loader_next(struct loader_epoch *epoch, struct batch *batch) {
  *batch = (struct batch){0};
  if (!epoch->threaded) {
    if (epoch->next >= epoch->loader->batches) return STATUS_OK;
    return make_batch(epoch, batch, epoch->next++);
  }
  int status = STATUS_OK;
  pthread_mutex_lock(&epoch->lock);
  struct ready *ready = &epoch->ready[epoch->given % AHEAD];
  while (!ready->made && (epoch->given < epoch->next || may_begin(epoch))) {
    if (may_begin(epoch))
      make_next(epoch);
    else
      pthread_cond_wait(&epoch->filled, &epoch->lock);
  }
  if (ready->made) {
    *batch = ready->batch;
    ready->batch = (struct batch){0};
    ready->made = false;
    status = ready->status == STATUS_OK ? STATUS_OK : status_error("%s", ready->message);
    epoch->given++;
    pthread_cond_signal(&epoch->taken);
  }
  pthread_mutex_unlock(&epoch->lock);
  return status;
}

void loader_stop(struct loader_epoch *epoch) {
  if (!epoch) return;
  if (epoch->threaded) {
    pthread_mutex_lock(&epoch->lock);
    epoch->stop = true;
    pthread_cond_signal(&epoch->taken);
    pthread_mutex_unlock(&epoch->lock);
    pthread_join(epoch->worker, NULL);
    pthread_mutex_destroy(&epoch->lock);
    pthread_cond_destroy(&epoch->filled);
    pthread_cond_destroy(&epoch->taken);
  }
  for (int i = 0; i < AHEAD; i++) batch_clear(&epoch->ready[i].batch);
  if (epoch->order) memory_release(epoch->order);
  loader_release(epoch->loader);
  memory_delete(epoch);
}

/* ---- the loader ---- */

static int check_settings(const struct tensor *x, const struct tensor *y, const struct loader_settings *settings) {
  if (x->type == TYPE_INT32) return status_error("x is int32, expected uint8 or real");
  if (x->shape.rank < 1) return status_error("x has no rows: its shape is %s", shape_text(&x->shape));
  if (tensor_count(x) == 0) return status_error("the set is empty: x has shape %s", shape_text(&x->shape));
  if (x->shape.size[0] > INT32_MAX) return status_error("more rows than %d", INT32_MAX);
  if (y && (y->shape.rank < 1 || y->shape.size[0] != x->shape.size[0]))
    return status_error("x %s and y %s differ in rows", shape_text(&x->shape), shape_text(&y->shape));
  if (settings->batch < 1) return status_error("batch is %lld, expected 1 or more", (long long)settings->batch);
  if (settings->drop_last && settings->batch > x->shape.size[0])
    return status_error("no batch: %lld rows are less than one batch of %lld, and drop_last is set",
                        (long long)x->shape.size[0], (long long)settings->batch);
  if (!(settings->scale != 0) || settings->scale - settings->scale != 0)
    return status_error("scale is %g, expected a number other than 0", settings->scale);
  if ((settings->crop != 0 || settings->flip) && x->shape.rank != 4)
    return status_error("crop and flip want images (N, C, H, W), x has shape %s", shape_text(&x->shape));
  if (settings->crop < 0 ||
      (settings->crop > 0 && (settings->crop >= x->shape.size[2] || settings->crop >= x->shape.size[3])))
    return status_error("crop is %lld, expected 0 to less than the images' sides (%s)", (long long)settings->crop,
                        shape_text(&x->shape));
  return STATUS_OK;
}

struct loader *loader_new(struct tensor *x, struct tensor *y, const struct loader_settings *settings) {
  if (check_settings(x, y, settings) != STATUS_OK) return NULL;
  struct loader *loader = memory_new(1, sizeof *loader);
  if (!loader) return NULL;
  loader->references = 1;
  loader->settings = *settings;
  loader->rows = x->shape.size[0];
  loader->row = tensor_count(x) / loader->rows;
  loader->channels = x->shape.rank >= 2 ? x->shape.size[1] : 1;
  loader->plane = loader->row / loader->channels;
  loader->batches = settings->drop_last ? loader->rows / settings->batch : (loader->rows - 1) / settings->batch + 1;
  loader->settings.mean = NULL;
  double unit = x->type == TYPE_UINT8 ? 255 : 1;
  loader->factor = (real)(1 / (unit * settings->scale));
  bool good = settings->mean_count <= 1 || settings->mean_count == loader->channels;
  if (!good)
    status_error("mean has %lld values, expected 1 or one for each of %lld channels", (long long)settings->mean_count,
                 (long long)loader->channels);
  if (good && !(isfinite((double)loader->factor) && loader->factor != 0)) {
    status_error("scale is %g, too %s for a float", settings->scale, loader->factor == 0 ? "large" : "small");
    good = false;
  }
  if (good) good = (loader->offset = memory_new((size_t)loader->channels, sizeof *loader->offset)) != NULL;
  for (int64_t c = 0; good && settings->mean_count > 0 && c < loader->channels; c++)
    loader->offset[c] = (real)(settings->mean[settings->mean_count == 1 ? 0 : c] / settings->scale);
  for (int64_t c = 0; good && c < loader->channels; c++)
    if (!isfinite((double)loader->offset[c])) {
      status_error("mean is %g for channel %lld: not a finite number after division by scale",
                   settings->mean[settings->mean_count == 1 ? 0 : c], (long long)c + 1);
      good = false;
    }
  if (good) good = (loader->x = tensor_contiguous(x)) != NULL;
  if (good && y) good = (loader->y = tensor_contiguous(y)) != NULL;
  if (!good) {
    loader_release(loader);
    return NULL;
  }
  return loader;
}

void loader_release(struct loader *loader) {
  if (!loader || --loader->references > 0) return;
  tensor_release(loader->x);
  tensor_release(loader->y);
  memory_delete(loader->offset);
  memory_delete(loader);
}

int64_t loader_batches(const struct loader *loader) { return loader->batches; }
