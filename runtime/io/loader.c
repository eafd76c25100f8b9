/* Loader: batches of a set, in order or shuffled, converted to reals, and made ready ahead by a thread; who asks for
   one that is not ready yet makes the next meanwhile.
   The order and the augmentation of an epoch are functions of (seed, epoch) alone: stream 2·epoch of the seed permutes
   or draws the rows, stream 2·epoch + 1 moves, mirrors, turns and erases the image at each place of the order. */
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
  real *factor, *offset;                       /* x = value · factor[channel] − offset[channel] */
  bool plain;                                  /* reals that are taken as they are */
  double *sums;                                /* of weights: rows are drawn; NULL: they are not */
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
  if (loader->plain) {
    memcpy(out, tensor_real(loader->x) + start, (size_t)loader->row * sizeof(real));
  } else if (plane == 1) {
    const real *restrict offset = loader->offset, *restrict factor = loader->factor;
    const uint8_t *restrict in = bytes ? tensor_uint8(loader->x) + start : NULL;
    const real *restrict real_in = bytes ? NULL : tensor_real(loader->x) + start;
    if (bytes) {
#pragma omp simd
      for (int64_t c = 0; c < channels; c++) out[c] = (real)in[c] * factor[c] - offset[c];
    } else {
#pragma omp simd
      for (int64_t c = 0; c < channels; c++) out[c] = real_in[c] * factor[c] - offset[c];
    }
  } else {
    for (int64_t c = 0; c < channels; c++) {
      int64_t at = c * plane;
      if (bytes)
        convert(out + at, tensor_uint8(loader->x) + start + at, plane, loader->factor[c], loader->offset[c]);
      else
        convert_real(out + at, tensor_real(loader->x) + start + at, plane, loader->factor[c], loader->offset[c]);
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
          convert(line + left, tensor_uint8(loader->x) + at, end - left, loader->factor[c], loader->offset[c]);
        else
          convert_real(line + left, tensor_real(loader->x) + at, end - left, loader->factor[c], loader->offset[c]);
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

/* Words of the stream for a place: of moving, of turning and whether to erase, of the rectangle. */
static void draw(const struct loader_epoch *epoch, int64_t place, uint64_t what, uint32_t word[4]) {
  random_block(epoch->augmentation, (uint64_t)place | what << 40, word);
}

static void move(const struct loader_epoch *epoch, real *out, int64_t place, int64_t row) {
  const struct loader *loader = epoch->loader;
  int64_t crop = loader->settings.crop;
  if (crop == 0 && !loader->settings.flip) {
    fill_row(loader, out, row);
    return;
  }
  uint32_t word[4];
  draw(epoch, place, 0, word);
  /* A word times the number of choices, its upper half: even to one part in 2³² ÷ choices. */
  uint64_t choices = 2 * (uint64_t)crop + 1;
  int64_t down = (int64_t)(word[0] * choices >> 32) - crop, right = (int64_t)(word[1] * choices >> 32) - crop;
  bool mirror = loader->settings.flip && (word[2] & 1);
  if (down == 0 && right == 0 && !mirror)
    fill_row(loader, out, row);
  else
    fill_moved(loader, out, row, down, right, mirror);
}

/* scratch: room for an image that is to be turned. */
static void fill_place(const struct loader_epoch *epoch, real *out, int64_t place, int64_t row, real *scratch) {
  const struct loader *loader = epoch->loader;
  const struct loader_settings *settings = &loader->settings;
  move(epoch, settings->rotate > 0 ? scratch : out, place, row);
  if (settings->rotate == 0 && settings->erase == 0) return;
  int64_t height = loader->x->shape.size[2], width = loader->x->shape.size[3];
  uint32_t word[4], rectangle[4];
  draw(epoch, place, 1, word);
  if (settings->rotate > 0)
    augment_turn(out, scratch, loader->offset, loader->channels, height, width,
                 settings->rotate * (word[0] * 0x1p-31 - 1));
  if (word[1] * 0x1p-32 < settings->erase) {
    draw(epoch, place, 2, rectangle);
    augment_erase(out, loader->channels, height, width, rectangle);
  }
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
  real *scratch = NULL;
  bool good = batch->x && (!loader->y || batch->y);
  if (good && loader->settings.rotate > 0)
    good = (scratch = memory_acquire((size_t)loader->row * sizeof *scratch)) != NULL;
  if (!good) {
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
    fill_place(epoch, tensor_real(batch->x) + i * loader->row, first + i, row, scratch);
    if (y_from) memcpy((char *)batch->y->storage->data + (size_t)i * y_row, y_from + (size_t)row * y_row, y_row);
    tensor_int32(batch->index)[i] = (int32_t)row + 1;
  }
  if (scratch) memory_release(scratch);
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
  if (!loader->settings.prefetch || loader->batches - epoch->next < 2 ||
      loader->settings.batch * loader->row < WORTH_A_THREAD)
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

int loader_sums(double *sums, const double *weight, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; i++) {
    if (!isfinite(weight[i]) || weight[i] < 0)
      return status_error("weight %lld is %g, expected a finite number of at least 0", (long long)i + 1, weight[i]);
    sums[i] = sum += weight[i];
  }
  if (sum > 0 && isfinite(sum)) return STATUS_OK;
  return status_error("the weights add up to %g, expected a finite number above 0", sum);
}

/* The row whose part of the whole sum the point is in: the first with a running sum above it. */
static int32_t row_at(const double *sums, int64_t rows, double point) {
  int64_t low = 0, high = rows - 1;
  while (low < high) {
    int64_t middle = (low + high) / 2;
    if (sums[middle] > point)
      high = middle;
    else
      low = middle + 1;
  }
  return (int32_t)low;
}

void loader_order(int32_t *order, int64_t rows, uint64_t seed, uint64_t epoch, const double *sums) {
  struct random_stream stream = {seed, 2 * epoch};
  if (!sums) {
    random_permutation(stream, order, rows);
    return;
  }
  for (int64_t i = 0; i < rows; i++) {
    uint32_t word[4];
    random_block(stream, (uint64_t)i, word);
    double share = (double)((uint64_t)word[0] << 21 | word[1] >> 11) * 0x1p-53; /* from 0 to below 1 */
    order[i] = row_at(sums, rows, share * sums[rows - 1]);
  }
}

struct loader_epoch *loader_start(struct loader *loader, uint64_t seed, uint64_t number, int64_t first) {
  struct loader_epoch *epoch = memory_new(1, sizeof *epoch);
  if (!epoch) return NULL;
  epoch->loader = loader;
  loader->references++;
  epoch->next = epoch->given = first;
  epoch->augmentation = (struct random_stream){seed, 2 * number + 1};
  if (loader->settings.shuffle || loader->sums) {
    epoch->order = memory_acquire((size_t)loader->rows * sizeof *epoch->order);
    if (!epoch->order) {
      loader_stop(epoch);
      return NULL;
    }
    loader_order(epoch->order, loader->rows, seed, number, loader->sums);
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
  for (int64_t i = 0; i < settings->scale_count; i++)
    if (settings->scale[i] == 0 || !isfinite(settings->scale[i]))
      return status_error("scale is %g, expected a number other than 0", settings->scale[i]);
  if (!(settings->rotate >= 0 && settings->rotate <= 180))
    return status_error("rotate is %g, expected 0 to 180 degrees", settings->rotate);
  if (!(settings->erase >= 0 && settings->erase <= 1))
    return status_error("erase is %g, expected a probability, 0 to 1", settings->erase);
  if ((settings->crop != 0 || settings->flip || settings->rotate > 0 || settings->erase > 0) && x->shape.rank != 4)
    return status_error("crop, flip, rotate and erase want images (N, C, H, W), x has shape %s", shape_text(&x->shape));
  if (settings->weight_count > 0 && settings->weight_count != x->shape.size[0])
    return status_error("%lld weights, the set has %lld rows", (long long)settings->weight_count,
                        (long long)x->shape.size[0]);
  if (settings->crop < 0 ||
      (settings->crop > 0 && (settings->crop >= x->shape.size[2] || settings->crop >= x->shape.size[3])))
    return status_error("crop is %lld, expected 0 to less than the images' sides (%s)", (long long)settings->crop,
                        shape_text(&x->shape));
  return STATUS_OK;
}

static bool is_for_channels(const char *name, int64_t count, int64_t channels) {
  if (count <= 1 || count == channels) return true;
  status_error("%s has %lld values, expected 1 or one for each of %lld channels", name, (long long)count,
               (long long)channels);
  return false;
}

/* The value of a list for a channel. */
static double value_of(const double *list, int64_t count, int64_t channel, double absent) {
  return count == 0 ? absent : list[count == 1 ? 0 : channel];
}

/* unit: what the elements are divided by before anything else. */
static bool make_normalisation(struct loader *loader, const struct loader_settings *settings, double unit) {
  int64_t channels = loader->channels;
  if (!is_for_channels("mean", settings->mean_count, channels) ||
      !is_for_channels("scale", settings->scale_count, channels))
    return false;
  loader->factor = memory_new((size_t)channels, sizeof *loader->factor);
  loader->offset = memory_new((size_t)channels, sizeof *loader->offset);
  if (!loader->factor || !loader->offset) return false;
  for (int64_t c = 0; c < channels; c++) {
    double scale = value_of(settings->scale, settings->scale_count, c, 1);
    double mean = value_of(settings->mean, settings->mean_count, c, 0);
    real factor = (real)(1 / (unit * scale)), offset = (real)(mean / scale);
    loader->factor[c] = factor;
    loader->offset[c] = offset;
    if (!isfinite((double)factor) || factor == 0) {
      status_error("scale is %g, too %s for a float", scale, factor == 0 ? "large" : "small");
      return false;
    }
    if (!isfinite((double)offset)) {
      status_error("mean is %g for channel %lld: not a finite number after division by scale", mean, (long long)c + 1);
      return false;
    }
  }
  return true;
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
  loader->plain = x->type == TYPE_REAL && settings->mean_count == 0 && settings->scale_count == 0;
  bool good = make_normalisation(loader, settings, x->type == TYPE_UINT8 ? 255 : 1);
  if (good && settings->weight_count > 0)
    good = (loader->sums = memory_new((size_t)loader->rows, sizeof *loader->sums)) != NULL &&
           loader_sums(loader->sums, settings->weight, loader->rows) == STATUS_OK;
  loader->settings.mean = loader->settings.scale = loader->settings.weight = NULL;
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
  memory_delete(loader->factor);
  memory_delete(loader->offset);
  memory_delete(loader->sums);
  memory_delete(loader);
}

int64_t loader_batches(const struct loader *loader) { return loader->batches; }
