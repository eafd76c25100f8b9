/* Convolution without patches: forward, and the gradient of the data, which is the same sum with other offsets.

   The images are padded with zeros into the core's cache first, so that a tap (a position of the kernel) is a
   constant offset, whatever stride, padding and dilation are. Sums stay in registers over all channels and taps:
   - strips: one vector holds VECTOR_LANES neighbouring places of one output channel; a strip sums several output
     channels at several rows. Nothing is rearranged after; for rows long enough to fill vectors.
   - micro-tiles: one vector holds VECTOR_LANES output channels at one place; a micro-tile sums one or two vectors at
     several places. Its sums are transposed after.

   The gradient of the data with a stride: the inputs fall into phases by their remainder (polyphase decomposition).
   Each phase is reached by taps of its own, and is a convolution of stride 1 with those taps.

   The rows that keep both beside patches and gemm, and strips beside micro-tiles: conv2d 128×3×32×32, 16 of 3×3, whose
   forward takes 0.35 of the time of patches, and 0.66 of that of micro-tiles; conv2d 128×32×16×16, 64 of 3×3, stride 2,
   which has no strips in its gradient, 0.4 of that of patches. */
#include <string.h>

#include "../../base/memory.h"
#include "../../base/parallel.h"
#include "../../base/simd.h"
#include "back_end.h"

/* Output places start, start + step, …, in both dimensions, and the taps that reach them. */
struct phase {
  int64_t start_y, start_x;
  int64_t rows, columns;
  int64_t first_tap, taps;
};

/* A sum over channels and taps: from source images to result images. */
struct direct {
  int64_t images, groups;
  int64_t channels, outputs;            /* of one group of the source, and of the result */
  int64_t height, width;                /* of the source */
  int64_t rows, columns;                /* of the result */
  int64_t step_y, step_x;               /* from place to place of a phase: in the padded source */
  int64_t result_step_y, result_step_x; /* the same in the result; as many phases there are in either dimension */
  bool strips;
  int64_t phase_count, tap_count;
  struct phase *phase;
  int64_t *offset; /* of each tap in the padded source */
  int64_t *row;    /* of the source, that it takes a phase's first row of places to: may lie outside */
  int64_t *tap;    /* its position in the kernel */
  struct conv_padded padded;
  int64_t reach;                         /* rows of the padded source that one row of places reads */
  int64_t padded_outputs;                /* outputs of a group, rounded up to whole blocks */
  int64_t weight_output, weight_channel; /* distance in the weights from output to output, channel to channel */
  int64_t weight_group;
};

/* ---- taps ---- */

/* Whether tap k reaches phase r of this axis, and from which place relative to the phase's first. */
static bool direct_tap(const struct conv_axis *axis, bool gradient, int64_t r, int64_t k, int64_t *offset) {
  if (!gradient) {
    *offset = k * axis->dilation - axis->padding;
    return true;
  }
  int64_t distance = r + axis->padding - k * axis->dilation;
  if (distance % axis->stride != 0) return false;
  *offset = distance / axis->stride;
  return true;
}

/* Phases of this axis; a stride beyond the last input makes no more of them. */
static int64_t direct_phases(const struct conv_axis *axis, bool gradient) {
  return gradient ? min(axis->stride, axis->size) : 1;
}

/* Places of phase r of this axis. */
static int64_t direct_places(const struct conv_axis *axis, bool gradient, int64_t r) {
  return gradient ? (axis->size - r - 1) / axis->stride + 1 : axis->places;
}

/* Zeros before the source, the extent that the taps reach with them, and the reach from one place. */
static void direct_extent(const struct conv_axis *axis, bool gradient, int64_t *before, int64_t *extent,
                          int64_t *reach) {
  int64_t step = gradient ? 1 : axis->stride, least = 0, most = 0, far = 0, offset;
  for (int64_t r = 0; r < direct_phases(axis, gradient); r++)
    for (int64_t k = 0; k < axis->kernel; k++) {
      int64_t places = direct_places(axis, gradient, r);
      if (!direct_tap(axis, gradient, r, k, &offset)) continue;
      least = min(least, offset), far = max(far, offset);
      most = max(most, offset + (places - 1) * step);
    }
  *before = -least;
  *extent = most - least + 1;
  *reach = far - least + 1;
}

/* Lists phases and taps; plan->phase is released by the caller. */
static int direct_list_taps(struct direct *plan, const struct conv_axis *y, const struct conv_axis *x, bool gradient) {
  int64_t phases = plan->result_step_y * plan->result_step_x, taps = y->kernel * x->kernel;
  plan->phase = memory_acquire((size_t)phases * sizeof *plan->phase + (size_t)taps * 3 * sizeof(int64_t));
  if (!plan->phase) return STATUS_ERROR;
  plan->offset = (int64_t *)(plan->phase + phases);
  plan->row = plan->offset + taps;
  plan->tap = plan->row + taps;
  plan->phase_count = plan->tap_count = 0;
  for (int64_t r = 0; r < plan->result_step_y; r++)
    for (int64_t s = 0; s < plan->result_step_x; s++) {
      struct phase *phase = &plan->phase[plan->phase_count++];
      *phase = (struct phase){.start_y = r,
                              .start_x = s,
                              .rows = direct_places(y, gradient, r),
                              .columns = direct_places(x, gradient, s),
                              .first_tap = plan->tap_count};
      int64_t offset_y, offset_x;
      for (int64_t i = 0; i < y->kernel; i++)
        for (int64_t j = 0; j < x->kernel; j++) {
          if (!direct_tap(y, gradient, r, i, &offset_y) || !direct_tap(x, gradient, s, j, &offset_x)) continue;
          plan->offset[plan->tap_count] = (offset_y + plan->padded.top) * plan->padded.pitch +
                                          conv_padded_column(&plan->padded, offset_x + plan->padded.left);
          plan->row[plan->tap_count] = offset_y;
          plan->tap[plan->tap_count++] = i * x->kernel + j;
          phase->taps++;
        }
    }
  return STATUS_OK;
}

/* Whether the tap brings rows y to y + rows − 1 of a phase anything but the zeros above and below. */
static bool direct_tap_counts(const struct direct *plan, int64_t tap, int64_t y, int64_t rows) {
  int64_t row = plan->row[tap] + y * plan->step_y;
  return row + (rows - 1) * plan->step_y >= 0 && row < plan->height;
}

enum { STRIP_OUTPUTS = 6, STRIP_FEW_OUTPUTS = 4 }; /* of one strip; a single one is the third case */

/* Outputs from `first` on whose sums are held at once: as many as a strip has, or two vectors of a micro-tile, or what
   is left. */
static int direct_block(const struct direct *plan, int64_t first) {
  int64_t left = plan->outputs - first;
  if (!plan->strips) return left > VECTOR_LANES ? 2 * VECTOR_LANES : VECTOR_LANES;
  if (left == 1) return 1;
  return left <= STRIP_FEW_OUTPUTS || left == 7 || left == 8 ? STRIP_FEW_OUTPUTS : STRIP_OUTPUTS;
}

static int64_t direct_padded_outputs(const struct direct *plan) {
  int64_t first = 0;
  while (first < plan->outputs) first += direct_block(plan, first);
  return first;
}

/* Which of the two fills its vectors better; strips write rows, so not with phases. */
static bool direct_prefers_strips(const struct direct *plan) {
  if (plan->result_step_x != 1 || plan->result_step_y != 1) return false;
  int64_t whole_columns = round_up(plan->columns, VECTOR_LANES);
  int64_t whole_outputs = round_up(plan->outputs, VECTOR_LANES);
  return 1.2 * (double)plan->columns * (double)whole_outputs >= (double)plan->outputs * (double)whole_columns;
}

static int direct_plan(struct direct *plan, const struct conv_geometry *geometry, bool gradient) {
  const struct conv_axis *y = &geometry->y, *x = &geometry->x;
  int64_t taps = y->kernel * x->kernel;
  *plan = (struct direct){.images = geometry->images, .groups = geometry->groups};
  plan->weight_group = geometry->outputs * geometry->channels * taps;
  if (gradient) {
    plan->channels = geometry->outputs, plan->outputs = geometry->channels;
    plan->height = y->places, plan->width = x->places, plan->rows = y->size, plan->columns = x->size;
    plan->step_y = plan->step_x = 1;
    plan->weight_output = taps, plan->weight_channel = geometry->channels * taps;
  } else {
    plan->channels = geometry->channels, plan->outputs = geometry->outputs;
    plan->height = y->size, plan->width = x->size, plan->rows = y->places, plan->columns = x->places;
    plan->step_y = y->stride, plan->step_x = x->stride;
    plan->weight_output = geometry->channels * taps, plan->weight_channel = taps;
  }
  plan->result_step_y = direct_phases(y, gradient), plan->result_step_x = direct_phases(x, gradient);
  plan->strips = direct_prefers_strips(plan);
  plan->padded_outputs = direct_padded_outputs(plan);
  int64_t reach;
  direct_extent(y, gradient, &plan->padded.top, &plan->padded.rows, &plan->reach);
  direct_extent(x, gradient, &plan->padded.left, &plan->padded.pitch, &reach);
  plan->padded.split = plan->strips ? plan->step_x : 1;
  plan->padded.part = ceil_div(plan->padded.pitch, plan->padded.split);
  plan->padded.pitch = plan->padded.part * plan->padded.split;
  if (plan->strips) plan->step_x = 1;
  plan->padded.plane = plan->padded.rows * plan->padded.pitch;
  return direct_list_taps(plan, y, x, gradient);
}

/* ---- weights, in the order in which micro-tiles read them ---- */

/* Where the weights of a block start: [group][phase][block][channel][tap][output]. */
static int64_t direct_weight_start(const struct direct *plan, int64_t group, const struct phase *phase, int64_t first) {
  return (group * plan->tap_count + phase->first_tap) * plan->channels * plan->padded_outputs +
         first * plan->channels * phase->taps;
}

static void direct_order_weights(real *ordered, const real *weight, const struct direct *plan) {
  int64_t all = plan->groups * plan->phase_count * plan->channels;
#pragma omp parallel for if (all * plan->tap_count > 128)
  for (int64_t item = 0; item < all; item++) {
    int64_t c = item % plan->channels, part = item / plan->channels % plan->phase_count;
    int64_t group = item / plan->channels / plan->phase_count;
    const struct phase *phase = &plan->phase[part];
    for (int64_t first = 0, lanes; first < plan->outputs; first += lanes) {
      lanes = direct_block(plan, first);
      int64_t valid = min(lanes, plan->outputs - first);
      const real *from = weight + group * plan->weight_group + first * plan->weight_output + c * plan->weight_channel;
      real *to = ordered + direct_weight_start(plan, group, phase, first) + c * phase->taps * lanes;
      for (int64_t t = 0; t < phase->taps; t++, to += lanes) {
        const real *tap = from + plan->tap[phase->first_tap + t];
        for (int64_t lane = 0; lane < lanes; lane++) to[lane] = lane < valid ? tap[lane * plan->weight_output] : 0;
      }
    }
  }
}

/* ---- micro-tiles ---- */

struct micro_tile {
  vector *sums; /* of its first place; in vectors from row to row and place to place: */
  int64_t sums_row, sums_column;
  const vector *bias;
  const real *source;
  int64_t row, step, plane; /* in reals from row to row, place to place, channel to channel */
  int64_t channels, taps;
  const int64_t *offset;
  const vector *weight;
  int64_t unused;  /* vectors of weight between a channel's last tap and the next one's first */
  int64_t columns; /* of its columns those to store */
};

VECTOR_INLINE void micro_tile_sum(const struct micro_tile *tile, const int vectors, const int rows, const int columns,
                                  const int64_t step) {
  const int64_t row = tile->row, plane = tile->plane, taps = tile->taps;
  const int64_t *offset = tile->offset;
  const vector *weight = tile->weight;
  const real *source = tile->source;
  vector sum[VECTOR_SUMS];
#pragma GCC unroll 16
  for (int i = 0; i < rows * columns; i++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) sum[i * vectors + v] = tile->bias[v];

  for (int64_t c = tile->channels; c > 0; c--, source += plane, weight += tile->unused)
    for (int64_t t = 0; t < taps; t++, weight += vectors) {
      const real *at = source + offset[t];
#pragma GCC unroll 16
      for (int i = 0; i < rows * columns; i++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
          sum[i * vectors + v] += at[i / columns * row + i % columns * step] * weight[v];
    }

#pragma GCC unroll 16
  for (int i = 0; i < rows * columns; i++)
    if (i % columns < tile->columns) {
#pragma GCC unroll 2
      for (int v = 0; v < vectors; v++)
        tile->sums[i / columns * tile->sums_row + i % columns * tile->sums_column + v] = sum[i * vectors + v];
    }
}

/* The usual steps as constants: then all places of a row are one address. */
VECTOR_INLINE void micro_tile_sum_step(const struct micro_tile *tile, const int vectors, const int rows,
                                       const int columns) {
  if (tile->step == 1)
    micro_tile_sum(tile, vectors, rows, columns, 1);
  else if (tile->step == 2)
    micro_tile_sum(tile, vectors, rows, columns, 2);
  else
    micro_tile_sum(tile, vectors, rows, columns, tile->step);
}

enum { WIDE = VECTOR_SUMS, HALF = VECTOR_SUMS / 2, QUARTER = VECTOR_SUMS / 4 };
static void micro_tile_one_wide(const struct micro_tile *tile) { micro_tile_sum_step(tile, 1, 1, WIDE); }
static void micro_tile_one_half(const struct micro_tile *tile) { micro_tile_sum_step(tile, 1, 1, HALF); }
static void micro_tile_one_half_twice(const struct micro_tile *tile) { micro_tile_sum_step(tile, 1, 2, HALF); }
static void micro_tile_one_quarter(const struct micro_tile *tile) { micro_tile_sum_step(tile, 1, 1, QUARTER); }
static void micro_tile_one_quarter_four_times(const struct micro_tile *tile) {
  micro_tile_sum_step(tile, 1, 4, QUARTER);
}
static void micro_tile_two_half(const struct micro_tile *tile) { micro_tile_sum_step(tile, 2, 1, HALF); }
static void micro_tile_two_quarter(const struct micro_tile *tile) { micro_tile_sum_step(tile, 2, 1, QUARTER); }
static void micro_tile_two_quarter_twice(const struct micro_tile *tile) { micro_tile_sum_step(tile, 2, 2, QUARTER); }

struct micro_tile_kind {
  int vectors, rows, columns;
  void (*sum)(const struct micro_tile *tile);
};

/* Widest first; of one width the highest first. The first whose rows fit and half of whose columns are used. */
static const struct micro_tile_kind micro_tile_kinds[] = {{1, 1, WIDE, micro_tile_one_wide},
                                                          {1, 2, HALF, micro_tile_one_half_twice},
                                                          {1, 1, HALF, micro_tile_one_half},
                                                          {1, 4, QUARTER, micro_tile_one_quarter_four_times},
                                                          {1, 1, QUARTER, micro_tile_one_quarter},
                                                          {2, 1, HALF, micro_tile_two_half},
                                                          {2, 2, QUARTER, micro_tile_two_quarter_twice},
                                                          {2, 1, QUARTER, micro_tile_two_quarter}};

static const struct micro_tile_kind *micro_tile_choose(int vectors, int64_t rows, int64_t columns) {
  const struct micro_tile_kind *kind = micro_tile_kinds;
  while (kind->vectors != vectors || kind->rows > rows || (kind->columns / 2 >= columns && kind->columns > QUARTER))
    kind++;
  return kind;
}

/* ---- strips ---- */

struct strip {
  real *result; /* of the first place of the first output; in reals from output to output, row to row: */
  int64_t result_output, result_row;
  const real *bias; /* of each output */
  const real *source;
  int64_t row, plane; /* in reals from row to row, channel to channel */
  int64_t channels, taps;
  const int64_t *offset;
  const real *weight;
  int64_t outputs, columns; /* those to store */
};

VECTOR_INLINE void strip_sum(const struct strip *strip, const int outputs, const int rows) {
  const int64_t row = strip->row, plane = strip->plane, taps = strip->taps;
  const int64_t *offset = strip->offset;
  const real *weight = strip->weight, *source = strip->source;
  vector sum[VECTOR_MOST_SUMS];
#pragma GCC unroll 24
  for (int i = 0; i < outputs * rows; i++) sum[i] = (vector){0} + strip->bias[i / rows];

  for (int64_t c = strip->channels; c > 0; c--, source += plane)
    for (int64_t t = 0; t < taps; t++, weight += outputs) {
      const real *at = source + offset[t];
      vector value[VECTOR_SUMS];
#pragma GCC unroll 24
      for (int r = 0; r < rows; r++) value[r] = *(const vector_unaligned *)(at + r * row);
#pragma GCC unroll 24
      for (int i = 0; i < outputs * rows; i++) sum[i] += weight[i / rows] * value[i % rows];
    }

#pragma GCC unroll 24
  for (int i = 0; i < outputs * rows; i++)
    if (i / rows < strip->outputs) {
      real *to = strip->result + i / rows * strip->result_output + i % rows * strip->result_row;
      if (strip->columns >= VECTOR_LANES) {
        *(vector_unaligned *)to = sum[i];
      } else {
        real lanes[VECTOR_LANES];
        memcpy(lanes, &sum[i], sizeof lanes);
        memcpy(to, lanes, (size_t)strip->columns * sizeof(real));
      }
    }
}

enum {
  STRIP_BAND = 8, /* rows at which all outputs are summed before the next ones: a multiple of each kind's */
  STRIP_ROWS = VECTOR_MOST_SUMS / STRIP_OUTPUTS,
  STRIP_FEW_ROWS = VECTOR_SUMS / STRIP_FEW_OUTPUTS
};

static void strip_many(const struct strip *strip) { strip_sum(strip, STRIP_OUTPUTS, STRIP_ROWS); }
static void strip_many_row(const struct strip *strip) { strip_sum(strip, STRIP_OUTPUTS, 1); }
static void strip_few(const struct strip *strip) { strip_sum(strip, STRIP_FEW_OUTPUTS, STRIP_FEW_ROWS); }
static void strip_few_row(const struct strip *strip) { strip_sum(strip, STRIP_FEW_OUTPUTS, 1); }
static void strip_one(const struct strip *strip) { strip_sum(strip, 1, STRIP_BAND); }
static void strip_one_row(const struct strip *strip) { strip_sum(strip, 1, 1); }

struct strip_kind {
  int outputs, rows;
  void (*sum)(const struct strip *strip);
};

static const struct strip_kind strip_kinds[] = {{STRIP_OUTPUTS, STRIP_ROWS, strip_many},
                                                {STRIP_OUTPUTS, 1, strip_many_row},
                                                {STRIP_FEW_OUTPUTS, STRIP_FEW_ROWS, strip_few},
                                                {STRIP_FEW_OUTPUTS, 1, strip_few_row},
                                                {1, STRIP_BAND, strip_one},
                                                {1, 1, strip_one_row}};

static const struct strip_kind *strip_choose(int outputs, int64_t rows) {
  const struct strip_kind *kind = strip_kinds;
  while (kind->outputs != outputs || kind->rows > rows) kind++;
  return kind;
}

/* ---- images ---- */

/* All outputs of one group of one image at rows first to last − 1, by strips. The last strip of a column or row
   overlaps the one before. padded: the image's channels from row first on. */
static void direct_strips(real *result, const real *padded, const struct direct *plan, int64_t group, int64_t first,
                          int64_t last, const real *ordered, const real *biases, struct conv_prefetch *prefetch) {
  int64_t area = plan->rows * plan->columns, count = last - first;
  const struct phase *phase = &plan->phase[0];
  struct strip strip = {.result_output = area,
                        .result_row = plan->columns,
                        .row = plan->step_y * plan->padded.pitch,
                        .plane = plan->padded.plane,
                        .channels = plan->channels,
                        .taps = phase->taps,
                        .offset = plan->offset,
                        .columns = plan->columns};
  for (int64_t x = 0; x < plan->columns; x += VECTOR_LANES) {
    int64_t column =
        x + VECTOR_LANES > plan->columns && plan->columns > VECTOR_LANES ? plan->columns - VECTOR_LANES : x;
    for (int64_t y = 0; y < count;) {
      int64_t rows = min(STRIP_BAND, count - y);
      for (int64_t output = 0, block; output < plan->outputs; output += block) {
        block = direct_block(plan, output);
        const struct strip_kind *kind = strip_choose((int)block, count);
        strip.bias = biases + output;
        strip.weight = ordered + direct_weight_start(plan, group, phase, output);
        strip.outputs = min(block, plan->outputs - output);
        for (int64_t i = 0; i < rows; i += kind->rows) {
          int64_t row = min(y + i, count - kind->rows);
          strip.result = result + output * area + (first + row) * plan->columns + column;
          strip.source = padded + row * strip.row + column;
          conv_prefetch_step(prefetch);
          kind->sum(&strip);
        }
      }
      y += rows;
    }
  }
}

/* Taps and weights of a micro-tile at rows y to y + rows − 1 of a phase. The taps that count follow each other. */
static void direct_aim(struct micro_tile *tile, const struct direct *plan, const struct phase *phase, int64_t y,
                       int64_t rows, int vectors, const vector *weight) {
  int64_t begin = phase->first_tap, end = begin + phase->taps;
  while (begin < end && !direct_tap_counts(plan, begin, y, rows)) begin++;
  while (begin < end && !direct_tap_counts(plan, end - 1, y, rows)) end--;
  tile->offset = plan->offset + begin;
  tile->taps = end - begin;
  tile->weight = weight + (begin - phase->first_tap) * vectors;
  tile->unused = (phase->taps - tile->taps) * vectors;
}

/* Sums of one block and phase over rows first to last − 1 of the phase, by micro-tiles. sums holds whole rows of the
   result, from row first · result_step_y on; source is the padded image from the row that the phase's row first starts
   at. */
static void direct_phase(vector *sums, const real *source, const struct direct *plan, const struct phase *phase,
                         int64_t first, int64_t last, int vectors, const real *weight, const vector *bias,
                         struct conv_prefetch *prefetch) {
  last = min(last, phase->rows);
  struct micro_tile tile = {.sums_row = plan->result_step_y * plan->columns * vectors,
                            .sums_column = plan->result_step_x * vectors,
                            .bias = bias,
                            .row = plan->step_y * plan->padded.pitch,
                            .step = plan->step_x,
                            .plane = plan->padded.plane,
                            .channels = plan->channels};
  for (int64_t x = 0; x < phase->columns;) {
    int64_t columns = phase->columns;
    tile.columns = phase->columns - x;
    for (int64_t y = first; y < last;) {
      const struct micro_tile_kind *kind = micro_tile_choose(vectors, last - y, tile.columns);
      columns = kind->columns;
      tile.sums = sums + (phase->start_y + (y - first) * plan->result_step_y) * plan->columns * vectors +
                  (phase->start_x + x * plan->result_step_x) * vectors;
      tile.source = source + (y - first) * tile.row + x * plan->step_x;
      direct_aim(&tile, plan, phase, y, kind->rows, vectors, (const vector *)weight);
      conv_prefetch_step(prefetch);
      kind->sum(&tile);
      y += kind->rows;
    }
    x += columns;
  }
}

enum { CHUNK_PLACES = 128 }; /* of the result, whose sums of one block stay in the L1 cache */

/* Rows of a chunk, counted in rows of a phase. */
static int64_t direct_chunk_rows(const struct direct *plan) {
  int64_t rows = CHUNK_PLACES / (plan->columns * plan->result_step_y);
  rows = rows > 4 ? rows / 4 * 4 : rows;
  return max(rows, 1);
}

/* All outputs of one group of one image at rows first to last − 1 of the phases, by micro-tiles; padded as above. */
static void direct_micro_tiles(real *result, vector *sums, const real *padded, const struct direct *plan, int64_t group,
                               int64_t first, int64_t last, const real *ordered, const real *biases,
                               struct conv_prefetch *prefetch) {
  int64_t area = plan->rows * plan->columns, start = first * plan->result_step_y * plan->columns;
  int64_t places = min(last * plan->result_step_y, plan->rows) * plan->columns - start;
  for (int64_t output = 0; output < plan->outputs; output += 2 * VECTOR_LANES) {
    int vectors = direct_block(plan, output) / VECTOR_LANES;
    int64_t valid = min(vectors * VECTOR_LANES, plan->outputs - output);
    for (int64_t p = 0; p < plan->phase_count; p++)
      direct_phase(sums, padded, plan, &plan->phase[p], first, last, vectors,
                   ordered + direct_weight_start(plan, group, &plan->phase[p], output),
                   (const vector *)(biases + output), prefetch);
    vector_transpose_matrix(result + output * area + start, area, (const real *)sums, vectors * VECTOR_LANES, places,
                            valid);
  }
}

static int direct_run(real *result, const real *source, const real *weight, const real *bias,
                      const struct direct *plan) {
  if (plan->images * plan->rows * plan->columns == 0) return STATUS_OK;
  int64_t chunk = direct_chunk_rows(plan), all_rows = ceil_div(plan->rows, plan->result_step_y);
  int64_t chunks = ceil_div(all_rows, chunk);
  /* Few images are shared out in parts of several chunks; every part pads the rows that it needs. */
  int64_t parts = plan->images < 4 * parallel_threads() ? chunks : 1;
  int64_t chunks_per_part = ceil_div(chunks, parts);
  int64_t channels = plan->channels, planes = plan->height * plan->width, area = plan->rows * plan->columns;
  /* micro-tiles may read (not use) beyond the last row */
  int64_t slack = VECTOR_SUMS * plan->step_x + VECTOR_LANES, padded_size = channels * plan->padded.plane + slack;
  padded_size = round_up(padded_size, VECTOR_LANES);
  int64_t sums_size = chunk * plan->result_step_y * plan->columns * 2 * VECTOR_LANES;
  int64_t weights = plan->groups * plan->tap_count * channels * plan->padded_outputs;
  weights = round_up(weights, VECTOR_LANES);
  int64_t bias_size = round_up(plan->padded_outputs, VECTOR_LANES);
  int threads = parallel_threads();
  real *ordered = memory_acquire((size_t)(weights + plan->groups * bias_size) * sizeof(real));
  real *scratch = ordered ? memory_acquire((size_t)(threads * (padded_size + sums_size)) * sizeof(real)) : NULL;
  if (!scratch) {
    memory_release(ordered);
    return STATUS_ERROR;
  }
  direct_order_weights(ordered, weight, plan);
  real *biases = ordered + weights; /* of each group, zeros up to whole blocks */
  for (int64_t i = 0; i < plan->groups * bias_size; i++)
    biases[i] = bias && i % bias_size < plan->outputs ? bias[i / bias_size * plan->outputs + i % bias_size] : 0;
  int64_t items = plan->images * plan->groups * parts;
  int64_t run = items / (4 * threads) + 1;
#pragma omp parallel num_threads(threads) if (items * area * plan->outputs > PARALLEL_THRESHOLD)
  {
    memset(scratch + omp_get_thread_num() * (padded_size + sums_size), 0, (size_t)padded_size * sizeof(real));
#pragma omp for schedule(dynamic, run)
    for (int64_t item = 0; item < items; item++) {
      int64_t part = item % parts, plane = item / parts, group = plane % plan->groups;
      int64_t begin = part * chunks_per_part * chunk;
      int64_t end = min(begin + chunks_per_part * chunk, all_rows);
      real *padded = scratch + omp_get_thread_num() * (padded_size + sums_size);
      vector *sums = (vector *)(padded + padded_size);
      struct direct local = *plan;
      int64_t top = begin * plan->step_y;
      local.padded.rows = min((end - begin - 1) * plan->step_y + plan->reach, plan->padded.rows - top);
      local.padded.plane = local.padded.rows * plan->padded.pitch;
      if (parts > 1) memset(padded, 0, (size_t)padded_size * sizeof(real)); /* else the same places stay zero */
      conv_pad(padded, &local.padded, source + plane * channels * planes, channels, plan->height, plan->width, top,
               local.padded.rows);
      real *images = result + plane * plan->outputs * area;
      struct conv_prefetch prefetch = {0};
      if (item + 1 < items && parts == 1) { /* while about so many micro-tiles or strips are summed */
        int64_t steps = plan->outputs * area / (VECTOR_LANES * (plan->strips ? VECTOR_MOST_SUMS : VECTOR_SUMS));
        conv_prefetch_set(&prefetch, 0, source + (plane + 1) * channels * planes, channels * planes, steps, false);
        conv_prefetch_set(&prefetch, 1, images + plan->outputs * area, plan->outputs * area, steps, true);
      }
      if (plan->strips)
        direct_strips(images, padded, &local, group, begin, end, ordered, biases + group * bias_size, &prefetch);
      for (int64_t first = begin; !plan->strips && first < end; first += chunk)
        direct_micro_tiles(images, sums, padded + (first - begin) * plan->step_y * plan->padded.pitch, &local, group,
                           first, min(first + chunk, end), ordered, biases + group * bias_size, &prefetch);
    }
  }
  memory_release(scratch);
  memory_release(ordered);
  return STATUS_OK;
}

static int direct_apply(real *result, const real *source, const real *weight, const real *bias,
                        const struct conv_geometry *geometry, bool gradient) {
  struct direct plan;
  STATUS_TRY(direct_plan(&plan, geometry, gradient));
  int status = direct_run(result, source, weight, bias, &plan);
  memory_release(plan.phase);
  return status;
}

int conv_direct_forward(real *output, const real *x, const real *weight, const real *bias,
                        const struct conv_geometry *geometry) {
  return direct_apply(output, x, weight, bias, geometry, false);
}

int conv_direct_data_gradient(real *dx, const real *gradient, const real *weight, const real *bias,
                              const struct conv_geometry *geometry) {
  return direct_apply(dx, gradient, weight, bias, geometry, true);
}
