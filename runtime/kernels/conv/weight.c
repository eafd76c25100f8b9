/* Convolution: gradient of the weight, Σ over images and places of gradient × input.

   One vector holds VECTOR_LANES output channels of the gradient at one place (so the gradient is transposed, image
   by image, to places × outputs). A micro-tile keeps in registers the sums of some vectors of outputs for some
   taps (a tap: a channel and a position of the kernel) and walks over the places. The images are cut into blocks whose
   number depends on the shapes alone; every block has its own sums, added up in order.
   The row that keeps it beside patches and gemm: conv2d 50×3×32×32, 32 of 5×5, whose weight gradient is made in 0.5 of
   their time. */
#include <string.h>

#include "../../base/memory.h"
#include "../../base/parallel.h"
#include "../../base/simd.h"
#include "back_end.h"

enum {
  MOST_TAPS = 8,       /* of a micro-tile: each takes an address register */
  WHOLE_TAPS = 24,     /* a multiple of the taps of each kind of micro-tile */
  CHUNK_VECTORS = 256, /* of the gradient that micro-tiles pass over again and again, in the L1 cache */
  MOST_BLOCKS = 16,    /* of images */
  MOST_SUMS = 4 << 20  /* bytes of all blocks' sums; beyond there are fewer blocks */
};

struct weight_plan {
  const struct conv_geometry *geometry;
  struct conv_padded padded;
  int64_t taps, padded_taps; /* of a group: channels × kernel; and in whole micro-tiles */
  int64_t outputs;           /* of a group, in whole vectors */
  int64_t places;
  const int64_t *offset; /* of each tap in a padded image */
};

struct micro_tile {
  vector *sums;           /* taps × outputs */
  int64_t sums_row;       /* in vectors from tap to tap */
  const vector *gradient; /* of the first place */
  int64_t gradient_place; /* in vectors from place to place */
  const real *source;     /* the padded image at the first place */
  int64_t row, step;      /* in reals from row to row of places, place to place */
  int64_t rows, columns;  /* of places */
  const int64_t *offset;
};

VECTOR_INLINE void micro_tile_sum(const struct micro_tile *tile, const int vectors, const int taps,
                                  const int64_t step) {
  const vector *gradient = tile->gradient;
  const int64_t place = tile->gradient_place;
  vector sum[VECTOR_MOST_SUMS];
  int64_t offset[MOST_TAPS];
#pragma GCC unroll 8
  for (int t = 0; t < taps; t++) {
    offset[t] = tile->offset[t];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) sum[t * vectors + v] = tile->sums[t * tile->sums_row + v];
  }
  for (int64_t y = 0; y < tile->rows; y++) {
    const real *at = tile->source + y * tile->row;
    for (int64_t x = tile->columns; x > 0; x--, at += step, gradient += place) {
#pragma GCC unroll 8
      for (int t = 0; t < taps; t++) {
        real value = at[offset[t]];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) sum[t * vectors + v] += value * gradient[v];
      }
    }
  }
#pragma GCC unroll 8
  for (int t = 0; t < taps; t++)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) tile->sums[t * tile->sums_row + v] = sum[t * vectors + v];
}

static void micro_tile_one(const struct micro_tile *tile) { micro_tile_sum(tile, 1, MOST_TAPS, tile->step); }
static void micro_tile_two(const struct micro_tile *tile) { micro_tile_sum(tile, 2, VECTOR_SUMS / 2, tile->step); }
static void micro_tile_four(const struct micro_tile *tile) {
  micro_tile_sum(tile, 4, VECTOR_MOST_SUMS / 4, tile->step);
}

/* Rows of places that micro-tiles pass over, and the taps of one. */
static int64_t weight_rows(const struct weight_plan *plan, int vectors) {
  int64_t rows = CHUNK_VECTORS / (vectors * plan->geometry->x.places);
  return max(rows, 1);
}

static int weight_taps(int vectors) {
  return vectors == 4 ? VECTOR_MOST_SUMS / 4 : vectors == 2 ? VECTOR_SUMS / 2 : MOST_TAPS;
}

/* Micro-tiles of one image, about. */
static int64_t weight_micro_tiles(const struct weight_plan *plan) {
  int64_t width = plan->outputs / VECTOR_LANES;
  int vectors = width >= 4 ? 4 : width >= 2 ? 2 : 1;
  return width / vectors * (plan->taps / weight_taps(vectors)) *
         (plan->geometry->y.places / weight_rows(plan, vectors));
}

/* sums (padded_taps × outputs) += what one image of one group gives.
   gradient: places × outputs, transposed. */
static void weight_image(vector *sums, const vector *gradient, const real *padded, const struct weight_plan *plan,
                         struct conv_prefetch *prefetch) {
  const struct conv_axis *y = &plan->geometry->y, *x = &plan->geometry->x;
  int64_t width = plan->outputs / VECTOR_LANES;
  for (int64_t first = 0; first < width;) {
    int vectors = width - first >= 4 ? 4 : width - first >= 2 ? 2 : 1;
    int64_t taps = weight_taps(vectors), rows = weight_rows(plan, vectors);
    for (int64_t row = 0; row < y->places; row += rows)
      for (int64_t tap = 0; tap < plan->taps; tap += taps) {
        struct micro_tile tile = {.sums = sums + tap * width + first,
                                  .sums_row = width,
                                  .gradient = gradient + row * x->places * width + first,
                                  .gradient_place = width,
                                  .source = padded + row * y->stride * plan->padded.pitch,
                                  .row = y->stride * plan->padded.pitch,
                                  .step = x->stride,
                                  .rows = min(rows, y->places - row),
                                  .columns = x->places,
                                  .offset = plan->offset + tap};
        conv_prefetch_step(prefetch);
        if (vectors == 4)
          micro_tile_four(&tile);
        else if (vectors == 2)
          micro_tile_two(&tile);
        else
          micro_tile_one(&tile);
      }
    first += vectors;
  }
}

/* Adds the blocks' sums of taps first to last − 1 of a group in order, and writes them to dweight. */
static void weight_reduce(real *dweight, real *sums, int64_t block_size, int64_t blocks, const struct weight_plan *plan,
                          int64_t first, int64_t last) {
  int64_t width = plan->outputs;
  for (int64_t b = 1; b < blocks; b++) {
    const real *from = sums + b * block_size;
#pragma omp simd
    for (int64_t i = first * width; i < last * width; i++) sums[i] += from[i];
  }
  vector_transpose_matrix(dweight + first, plan->taps, sums + first * width, width, last - first,
                          plan->geometry->outputs);
}

static void weight_plan_offsets(int64_t *offset, const struct weight_plan *plan) {
  const struct conv_axis *y = &plan->geometry->y, *x = &plan->geometry->x;
  for (int64_t tap = 0; tap < plan->padded_taps; tap++) {
    int64_t position = tap % (y->kernel * x->kernel), channel = tap / (y->kernel * x->kernel);
    offset[tap] = tap < plan->taps
                      ? channel * plan->padded.plane + position / x->kernel * y->dilation * plan->padded.pitch +
                            position % x->kernel * x->dilation
                      : 0;
  }
}

int conv_direct_weight_gradient(real *dweight, const real *gradient, const real *x,
                                const struct conv_geometry *geometry) {
  const struct conv_axis *vertical = &geometry->y, *horizontal = &geometry->x;
  int64_t groups = geometry->groups, channels = geometry->channels, images = geometry->images;
  struct weight_plan plan = {.geometry = geometry,
                             .padded = conv_padded_of(geometry),
                             .taps = channels * vertical->kernel * horizontal->kernel,
                             .outputs = round_up(geometry->outputs, VECTOR_LANES),
                             .places = vertical->places * horizontal->places};
  plan.padded_taps = round_up(plan.taps, WHOLE_TAPS);

  int64_t group_size = plan.padded_taps * plan.outputs, block_size = groups * group_size;
  int64_t blocks = min(MOST_BLOCKS, MOST_SUMS / (block_size * (int64_t)sizeof(real)));
  blocks = min(max(blocks, 2), max(images, 1));
  int threads = parallel_threads();
  int64_t padded_size = round_up(channels * plan.padded.plane, VECTOR_LANES);
  int64_t scratch_size = padded_size + plan.places * plan.outputs;
  int64_t *offset = memory_acquire((size_t)plan.padded_taps * sizeof *offset);
  real *sums = offset ? memory_acquire((size_t)(blocks * block_size) * sizeof(real)) : NULL;
  real *scratch = sums ? memory_acquire((size_t)(threads * scratch_size) * sizeof(real)) : NULL;
  if (!scratch) {
    memory_release(sums);
    memory_release(offset);
    return STATUS_ERROR;
  }
  weight_plan_offsets(offset, &plan);
  plan.offset = offset;
  int64_t input_size = channels * vertical->size * horizontal->size, gradient_size = geometry->outputs * plan.places;
  bool large = images * groups * gradient_size * plan.taps > PARALLEL_THRESHOLD;

#pragma omp parallel for schedule(dynamic) num_threads(threads) if (large)
  for (int64_t block = 0; block < blocks; block++) {
    real *padded = scratch + omp_get_thread_num() * scratch_size, *transposed = padded + padded_size;
    memset(sums + block * block_size, 0, (size_t)block_size * sizeof(real));
    memset(padded, 0, (size_t)padded_size * sizeof(real));
    memset(transposed, 0, (size_t)(plan.places * plan.outputs) * sizeof(real)); /* the lanes beyond the outputs */
    for (int64_t n = block * images / blocks; n < (block + 1) * images / blocks; n++)
      for (int64_t group = 0; group < groups; group++) {
        conv_pad(padded, &plan.padded, x + (n * groups + group) * input_size, channels, vertical->size,
                 horizontal->size, 0, plan.padded.rows);
        vector_transpose_matrix(transposed, plan.outputs, gradient + (n * groups + group) * gradient_size, plan.places,
                                geometry->outputs, plan.places);
        const real *next = x + (n * groups + group + 1) * input_size;
        struct conv_prefetch prefetch = {0};
        if (n + 1 < images) {
          conv_prefetch_set(&prefetch, 0, next, input_size, weight_micro_tiles(&plan), false);
          conv_prefetch_set(&prefetch, 1, gradient + (n * groups + group + 1) * gradient_size, gradient_size,
                            weight_micro_tiles(&plan), false);
        }
        weight_image((vector *)(sums + block * block_size + group * group_size), (const vector *)transposed, padded,
                     &plan, &prefetch);
      }
  }

  int64_t panels = ceil_div(plan.taps, VECTOR_LANES);
#pragma omp parallel for schedule(static) num_threads(threads) if (blocks * block_size > PARALLEL_THRESHOLD)
  for (int64_t panel = 0; panel < groups * panels; panel++) {
    int64_t group = panel / panels, first = panel % panels * VECTOR_LANES;
    weight_reduce(dweight + group * geometry->outputs * plan.taps, sums + group * group_size, block_size, blocks, &plan,
                  first, min(first + VECTOR_LANES, plan.taps));
  }
  memory_release(scratch);
  memory_release(sums);
  memory_release(offset);
  return STATUS_OK;
}
