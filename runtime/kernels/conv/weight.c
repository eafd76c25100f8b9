/* Convolution: gradient of the weight, Σ over images and places of gradient × input.

   One vector holds VECTOR_LANES output channels of the gradient at one place (so the gradient is transposed, image
   by image, to places × outputs). A tile keeps in registers the sums of some vectors of outputs for some taps (a
   tap: a channel and a position of the kernel) and walks over the places. The images are cut into blocks whose
   number depends on the shapes alone; every block has its own sums, added up in order. */
#include <string.h>

#include "../../base/memory.h"
#include "../../base/parallel.h"
#include "conv.h"
#include "../../base/simd.h"

enum {
  TILE_TAPS = 8,       /* most taps of a tile: each takes an address register */
  WHOLE_TAPS = 24,     /* a multiple of the taps of each kind of tile */
  CHUNK_VECTORS = 256, /* of the gradient that tiles pass over again and again, in the first cache */
  MOST_BLOCKS = 16,    /* of images */
  MOST_SUMS = 4 << 20  /* bytes of all blocks' sums from which on there are fewer blocks */
};

struct weight_plan {
  const struct conv_geometry *geometry;
  struct conv_padded padded;
  int64_t taps, padded_taps; /* of a group: channels × kernel; and in whole tiles */
  int64_t outputs;           /* of a group, in whole vectors */
  int64_t places;
  const int64_t *offset; /* of each tap in a padded image */
};

struct weight_tile {
  vector *sums;           /* taps × outputs */
  int64_t sums_row;       /* in vectors from tap to tap */
  const vector *gradient; /* of the first place */
  int64_t gradient_place; /* in vectors from place to place */
  const real *source;     /* the padded image at the first place */
  int64_t row, step;      /* in reals from row to row of places, place to place */
  int64_t rows, columns;  /* of places */
  const int64_t *offset;
};

VECTOR_INLINE void weight_tile_sum(const struct weight_tile *tile, const int vectors, const int taps,
                                   const int64_t step) {
  const vector *gradient = tile->gradient;
  const int64_t place = tile->gradient_place;
  vector sum[VECTOR_MOST_SUMS];
  int64_t offset[TILE_TAPS];
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

static void weight_tile_one(const struct weight_tile *tile) { weight_tile_sum(tile, 1, TILE_TAPS, tile->step); }
static void weight_tile_two(const struct weight_tile *tile) { weight_tile_sum(tile, 2, VECTOR_SUMS / 2, tile->step); }
static void weight_tile_four(const struct weight_tile *tile) {
  weight_tile_sum(tile, 4, VECTOR_MOST_SUMS / 4, tile->step);
}

/* Rows of places that tiles pass over, and how many taps a tile has. */
static int64_t weight_rows(const struct weight_plan *plan, int vectors) {
  int64_t rows = CHUNK_VECTORS / (vectors * plan->geometry->x.places);
  return rows < 1 ? 1 : rows;
}

static int weight_taps(int vectors) {
  return vectors == 4 ? VECTOR_MOST_SUMS / 4 : vectors == 2 ? VECTOR_SUMS / 2 : TILE_TAPS;
}

/* Tiles of one image, about. */
static int64_t weight_tiles(const struct weight_plan *plan) {
  int64_t width = plan->outputs / VECTOR_LANES;
  int vectors = width >= 4 ? 4 : width >= 2 ? 2 : 1;
  return width / vectors * (plan->taps / weight_taps(vectors)) *
         (plan->geometry->y.places / weight_rows(plan, vectors));
}

/* sums (padded_taps × outputs) += what one image of one group gives.
   gradient: places × outputs, transposed. */
static void weight_image(vector *sums, const vector *gradient, const real *padded, const struct weight_plan *plan,
                         struct conv_ahead *ahead) {
  const struct conv_axis *y = &plan->geometry->y, *x = &plan->geometry->x;
  int64_t width = plan->outputs / VECTOR_LANES;
  for (int64_t first = 0; first < width;) {
    int vectors = width - first >= 4 ? 4 : width - first >= 2 ? 2 : 1;
    int64_t taps = weight_taps(vectors), rows = weight_rows(plan, vectors);
    for (int64_t row = 0; row < y->places; row += rows)
      for (int64_t tap = 0; tap < plan->taps; tap += taps) {
        struct weight_tile tile = {.sums = sums + tap * width + first,
                                   .sums_row = width,
                                   .gradient = gradient + row * x->places * width + first,
                                   .gradient_place = width,
                                   .source = padded + row * y->stride * plan->padded.pitch,
                                   .row = y->stride * plan->padded.pitch,
                                   .step = x->stride,
                                   .rows = min(rows, y->places - row),
                                   .columns = x->places,
                                   .offset = plan->offset + tap};
        conv_look_ahead(ahead);
        if (vectors == 4)
          weight_tile_four(&tile);
        else if (vectors == 2)
          weight_tile_two(&tile);
        else
          weight_tile_one(&tile);
      }
    first += vectors;
  }
}

/* Adds the blocks' sums of taps first to last − 1 of a group in order, and writes them to dweight. */
static void weight_collect(real *dweight, real *sums, int64_t block_size, int64_t blocks,
                           const struct weight_plan *plan, int64_t first, int64_t last) {
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
                             .padded = {.top = vertical->padding,
                                        .left = horizontal->padding,
                                        .rows = conv_axis_extent(vertical),
                                        .pitch = conv_axis_extent(horizontal)},
                             .taps = channels * vertical->kernel * horizontal->kernel,
                             .outputs = (geometry->outputs + VECTOR_LANES - 1) / VECTOR_LANES * VECTOR_LANES,
                             .places = vertical->places * horizontal->places};
  plan.padded.split = 1, plan.padded.part = plan.padded.pitch;
  plan.padded.plane = plan.padded.rows * plan.padded.pitch;
  plan.padded_taps = (plan.taps + WHOLE_TAPS - 1) / WHOLE_TAPS * WHOLE_TAPS;

  int64_t group_size = plan.padded_taps * plan.outputs, block_size = groups * group_size;
  int64_t blocks = min(MOST_BLOCKS, MOST_SUMS / (block_size * (int64_t)sizeof(real)));
  blocks = min(blocks < 2 ? 2 : blocks, images < 1 ? 1 : images);
  int threads = parallel_threads();
  int64_t padded_size = (channels * plan.padded.plane + VECTOR_LANES - 1) / VECTOR_LANES * VECTOR_LANES;
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
        struct conv_ahead ahead = {0};
        if (n + 1 < images) {
          conv_ahead_set(&ahead, 0, next, input_size, weight_tiles(&plan), false);
          conv_ahead_set(&ahead, 1, gradient + (n * groups + group + 1) * gradient_size, gradient_size,
                         weight_tiles(&plan), false);
        }
        weight_image((vector *)(sums + block * block_size + group * group_size), (const vector *)transposed, padded,
                     &plan, &ahead);
      }
  }

  int64_t pieces = (plan.taps + VECTOR_LANES - 1) / VECTOR_LANES;
#pragma omp parallel for schedule(static) num_threads(threads) if (blocks * block_size > PARALLEL_THRESHOLD)
  for (int64_t piece = 0; piece < groups * pieces; piece++) {
    int64_t group = piece / pieces, first = piece % pieces * VECTOR_LANES;
    weight_collect(dweight + group * geometry->outputs * plan.taps, sums + group * group_size, block_size, blocks,
                   &plan, first, min(first + VECTOR_LANES, plan.taps));
  }
  memory_release(scratch);
  memory_release(sums);
  memory_release(offset);
  return STATUS_OK;
}
