/* Winograd's filtering of images (conv_winograd.c): what its files share.
   conv_winograd.c         forward, and the gradient of the data
   conv_winograd_weight.c  the gradient of the weight
   conv_winograd_plan.c    sizes, phases, where everything lies, and when it gains
   conv_winograd_spread.c  inputs and gradients to points */
#ifndef GLS_KERNELS_CONV_WINOGRAD_H
#define GLS_KERNELS_CONV_WINOGRAD_H

#include "../../base/parallel.h"
#include "conv.h"
#include "transform.h"

enum {
  TILE = TRANSFORM_OUTPUTS,
  LANES = VECTOR_LANES,
  PAIR = 2 * VECTOR_LANES,                                                       /* outputs of one product */
  PANEL_MOST = VECTOR_MOST_SUMS >= 24 ? 14 : 6,                                  /* tiles of one product */
  WEIGHT_ROWS = VECTOR_SUMS / 2 < VECTOR_LANES ? VECTOR_SUMS / 2 : VECTOR_LANES, /* channels of one product */
  APART = 3 * VECTOR_LANES, /* between points, so that they do not share the lines of a cache */
  SPREAD_BYTES = 384 << 10, /* of one thread: a good third of a second cache of 1 MB */
  TILES_LEAST = PANEL_MOST,
  TILES_MOST = 4 * PANEL_MOST, /* of a chunk */
  BLOCK_TILES = 128,           /* of which there is one sum at least */
  MOST_BLOCKS = 16,
  MOST_SUMS = 8 << 20 /* bytes of all blocks' sums from which on there are fewer blocks */
};

struct winograd {
  int points;            /* in each direction */
  int kernel;            /* in each direction */
  int step, result_step; /* the phases of the source and of the result, in each direction */
  int64_t images, groups;
  int64_t sources, parts;          /* of the sum; of one source each phase */
  int64_t channels, outputs;       /* of one group (and part) */
  int64_t height, width;           /* of the source */
  int64_t rows, columns;           /* of the result */
  int64_t top, left;               /* zeros before the source */
  int64_t above, before;           /* of the first tile, beyond the result */
  int64_t tiles, tile_rows;        /* tiles of a row, rows of an image */
  int64_t chunk;                   /* rows of tiles at a time */
  int64_t blocks, pairs;           /* of channels (of one part) in vectors; of vectors of outputs, every phase one */
  int64_t data_block, data_point;  /* reals from block to block and from point to point of the spread inputs: */
  int64_t right_point, sums_point; /* [point][block][tile][lane]; of what is multiplied with it, of the products */
  bool flipped;                    /* the kernel, and its channels and outputs changed places */
  int64_t weight_output, weight_channel, weight_group;
};

/* Whether a phase is that of the odd rows and columns of the kernel. In this order those with anything at a point lie
   side by side. */
struct phase {
  int row, column;
};

/* The parts of the sum at a point. */
struct parts {
  int64_t first, end;
};

/* A thread's memory. */
struct scratch {
  real *data;   /* spread inputs */
  real *right;  /* the spread gradient, or the products: [point][tile][pair] */
  real *planes; /* rows of an image, a vector of channels a place */
  real *zeros;  /* a row of such */
  vector *lines;
};

/* Rows of tiles of one image; tile is the first's number within the chunk. */
struct run {
  int64_t image, row, rows, tile;
};

/* ---- conv_winograd_plan.c ---- */
/* gradient: of the data; sources: terms of the sum. */
struct winograd winograd_plan(const struct conv_geometry *geometry, bool gradient, int64_t sources);
/* Decides the chunk for so many bytes a tile. */
void winograd_chunk(struct winograd *plan);
/* Reals of a thread's scratch, and (unless at is NULL) where its parts lie. */
int64_t winograd_scratch(struct scratch *scratch, real *at, const struct winograd *plan);
/* The rows of tiles of one image, of those from unit on, in a chunk of rows start to end − 1 of all images. */
struct run winograd_run(const struct winograd *plan, int64_t start, int64_t unit, int64_t end);
struct phase winograd_phase(int step, int64_t i);
struct phase winograd_part_phase(const struct winograd *plan, int64_t part);
struct parts winograd_parts(const struct winograd *plan, int64_t point);
/* The tap of the kernel that is a phase's t-th, or -1. */
int winograd_tap(const struct winograd *plan, struct phase phase, int t);
/* Vectors of outputs in a pair, 1 or 2. */
int winograd_pair_vectors(const struct winograd *plan, int64_t pair);

/* ---- conv_winograd_spread.c ---- */
/* A run of tiles of one source (from: its image) to points, all parts. */
void winograd_spread_data(const struct winograd *plan, const struct scratch *scratch, const struct run *run,
                          const real *from, int64_t source);
/* The gradient of one vector of outputs. */
void winograd_spread_gradient(real *to, const struct winograd *plan, const struct scratch *scratch,
                              const struct run *run, const real *gradient, int64_t outputs);

/* ---- products ---- */

/* sum (rows × vectors) += Σ over steps of left (a row left_row apart, a step left_step) · right (PAIR a step) */
VECTOR_INLINE void multiply(const int rows, const int vectors, vector (*sum)[2], const real *left, const int left_row,
                            const int left_step, const real *right, int64_t steps) {
  for (int64_t k = 0; k < steps; k++, left += left_step, right += PAIR) {
    vector line[2];
#pragma GCC unroll 2
    for (int j = 0; j < vectors; j++) line[j] = *(const vector *)(right + j * LANES);
#pragma GCC unroll 14
    for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
      for (int j = 0; j < vectors; j++) sum[i][j] += left[i * left_row] * line[j];
    }
  }
}

#endif
