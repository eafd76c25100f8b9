/* Convolution by Winograd's minimal filtering (transform.h): what its files share.
   winograd.c         the method; forward, and the gradient of the data
   winograd_weight.c  the gradient of the weight
   winograd_input.c   input transforms, and those of the output's gradient
   winograd_plan.c    sizes, and where everything lies */
#ifndef GLS_KERNELS_CONV_WINOGRAD_H
#define GLS_KERNELS_CONV_WINOGRAD_H

#include "../../base/parallel.h"
#include "back_end.h"
#include "transform.h"

enum {
  WINOGRAD_TILE = TRANSFORM_OUTPUTS,                     /* outputs of a tile in each direction */
  WINOGRAD_MICRO_ROWS = VECTOR_MOST_SUMS >= 24 ? 14 : 6, /* most rows of a micro-tile: tiles */
  WINOGRAD_MICRO_COLUMNS = 2 * VECTOR_LANES,             /* columns of a micro-tile, a panel of outputs */
  WINOGRAD_GAP = 3 * VECTOR_LANES,                       /* between points: else they share the sets of a cache */
  WINOGRAD_CHUNK_BYTES = 384 << 10,                      /* of a thread's transforms: a good third of a 1 MB L2 cache */
  WINOGRAD_CHUNK_LEAST = WINOGRAD_MICRO_ROWS,            /* tiles of a chunk */
  WINOGRAD_CHUNK_MOST = 4 * WINOGRAD_MICRO_ROWS
};

struct winograd {
  int points; /* of an input tile in each direction: WINOGRAD_TILE + the filter's side − 1 */
  int64_t images, groups;
  int64_t channels, outputs; /* of one group */
  int64_t height, width;     /* of the source */
  int64_t rows, columns;     /* of the result */
  int64_t top, left;         /* zeros before the source */
  int64_t tiles, tile_rows;  /* tiles of a row, rows of tiles of an image */
  int64_t chunk;             /* rows of tiles at a time */
  int64_t blocks, panels;    /* channels in vectors, outputs in panels */
  /* Reals from block to block and point to point of transformed inputs, [point][block][tile][lane]; from point to point
     of transformed filters, [panel][point][channel][column], and of products, [point][tile][column]. */
  int64_t input_block, input_point, filter_point, product_point;
  bool rotated; /* by half a turn: the filter for the gradient of the data, whose channels are the outputs */
  int64_t weight_output, weight_channel, weight_group;
};

/* A thread's memory. */
struct winograd_scratch {
  real *inputs;   /* transformed */
  real *products; /* or the transformed gradient of the output */
  real *planes;   /* rows of an image, a vector of channels a place */
  real *zeros;    /* a row of such */
  vector *lines;
};

/* Consecutive rows of tiles of one image; tile is the first's number within the chunk. */
struct winograd_band {
  int64_t image, row, rows, tile;
};

/* ---- winograd_plan.c ---- */
/* gradient: of the data. */
struct winograd winograd_plan(const struct conv_geometry *geometry, bool gradient);
/* Reals of a thread's scratch, and (unless at is NULL) where its parts lie. */
int64_t winograd_scratch(struct winograd_scratch *scratch, real *at, const struct winograd *plan);
/* The band of one image that begins at `row`, in a chunk of rows start to end − 1 of all images. */
struct winograd_band winograd_band(const struct winograd *plan, int64_t start, int64_t row, int64_t end);
/* Vectors of outputs in a panel, 1 or 2. */
int winograd_panel_vectors(const struct winograd *plan, int64_t panel);
/* Where tap t of a filter lies in the weight. */
int64_t winograd_tap(const struct winograd *plan, int t);

/* ---- winograd_input.c ---- */
/* scratch->inputs = the input transform of a band; from: its image. */
void winograd_transform_input(const struct winograd_scratch *scratch, const struct winograd *plan,
                              const struct winograd_band *band, const real *from);
/* to = the adjoint output transform of a band of up to VECTOR_LANES outputs; gradient: the first's plane. */
void winograd_transform_gradient(real *to, const struct winograd *plan, const struct winograd_scratch *scratch,
                                 const struct winograd_band *band, const real *gradient, int64_t outputs);

/* ---- products ---- */

/* sum (rows × vectors) += Σ over steps of left (rows left_row apart, steps left_step) · right (a panel's row a step) */
VECTOR_INLINE void winograd_multiply(const int rows, const int vectors, vector (*sum)[2], const real *left,
                                     const int left_row, const int left_step, const real *right, int64_t steps) {
  for (int64_t k = 0; k < steps; k++, left += left_step, right += WINOGRAD_MICRO_COLUMNS) {
    vector line[2];
#pragma GCC unroll 2
    for (int j = 0; j < vectors; j++) line[j] = *(const vector *)(right + j * VECTOR_LANES);
#pragma GCC unroll 14
    for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
      for (int j = 0; j < vectors; j++) sum[i][j] += left[i * left_row] * line[j];
    }
  }
}

#endif
