/* Winograd's filtering: input transforms, and adjoint output transforms of the output's gradient. Both go from planes
   to [point][tile], first along columns for a whole row of tiles, then along rows. */
#include <string.h>

#include "winograd.h"

/* planes (places × VECTOR_LANES) = channels of an image, zeros beyond the last */
static void gather(real *planes, const real *from, int64_t area, int64_t places, int64_t channels) {
  if (channels < VECTOR_LANES) memset(planes, 0, (size_t)(places * VECTOR_LANES) * sizeof(real));
  vector_transpose_matrix(planes, VECTOR_LANES, from, area, min(channels, VECTOR_LANES), places);
}

/* The rows of a plane that a row of tiles reads, each of `width` places with `left` zeros before them. */
struct source_rows {
  const real *line[TRANSFORM_MOST_POINTS];
  int64_t left, width;
};

/* to ([point][tile], point reals apart) = one row of tiles; a tile reads `side` rows and columns, `points` of inputs,
   WINOGRAD_TILE of a gradient. lines holds the columns after the transform along them. */
VECTOR_INLINE void transform_row(const int points, const int side, real *to, int64_t point, int64_t to_tile,
                                 const struct source_rows *source, int64_t tiles, vector *lines) {
  const enum transform transform = side == points ? TRANSFORM_INPUT : TRANSFORM_OUTPUT_ADJOINT;
  int64_t columns = WINOGRAD_TILE * (tiles - 1) + side;
  int64_t begin = min(max(source->left, 0), columns);
  int64_t end = max(min(source->width + source->left, columns), begin);
  const real *line[TRANSFORM_MOST_POINTS];
#pragma GCC unroll 8
  for (int i = 0; i < side; i++) line[i] = source->line[i] - source->left * VECTOR_LANES;
  vector from[TRANSFORM_MOST_POINTS], result[TRANSFORM_MOST_POINTS];
  for (int64_t x = begin; x < end; x++) {
#pragma GCC unroll 8
    for (int i = 0; i < side; i++) from[i] = *(const vector *)(line[i] + x * VECTOR_LANES);
    transform_line(transform, points, result, from);
#pragma GCC unroll 8
    for (int i = 0; i < points; i++) lines[x * points + i] = result[i];
  }
  for (int64_t i = 0; i < begin * points; i++) lines[i] = (vector){0};
  for (int64_t i = end * points; i < columns * points; i++) lines[i] = (vector){0};
  for (int64_t t = 0; t < tiles; t++, to += to_tile) {
    real *at = to;
    for (int i = 0; i < points; i++, at += points * point) {
#pragma GCC unroll 8
      for (int j = 0; j < side; j++) from[j] = lines[(WINOGRAD_TILE * t + j) * points + i];
      transform_line(transform, points, result, from);
#pragma GCC unroll 8
      for (int j = 0; j < points; j++) *(vector *)(at + j * point) = result[j];
    }
  }
}

/* The two numbers of points in use as constants. */
static void input_row(int points, real *to, int64_t point, const struct source_rows *source, int64_t tiles,
                      vector *lines) {
  if (points == 6)
    transform_row(6, 6, to, point, VECTOR_LANES, source, tiles, lines);
  else
    transform_row(8, 8, to, point, VECTOR_LANES, source, tiles, lines);
}

static void gradient_row(int points, real *to, int64_t point, const struct source_rows *source, int64_t tiles,
                         vector *lines) {
  if (points == 6)
    transform_row(6, WINOGRAD_TILE, to, point, WINOGRAD_MICRO_COLUMNS, source, tiles, lines);
  else
    transform_row(8, WINOGRAD_TILE, to, point, WINOGRAD_MICRO_COLUMNS, source, tiles, lines);
}

/* Which rows and columns a band reads of an image of height × width, with zeros before them. */
struct view {
  int64_t height, width, top, left;
  int side; /* of what a tile reads */
};

/* Rows of the image that a band reads: first to last − 1. */
static void view_rows(int64_t *first, int64_t *last, const struct view *view, const struct winograd_band *band) {
  int64_t begin = band->row * WINOGRAD_TILE - view->top;
  int64_t end = begin + (band->rows - 1) * WINOGRAD_TILE + view->side;
  *first = min(max(begin, 0), view->height);
  *last = max(min(end, view->height), *first);
}

/* The source of one row of tiles; the planes hold the image's rows first to last − 1. */
static struct source_rows view_source(const struct view *view, int64_t tile_row, int64_t first, int64_t last,
                                      const struct winograd_scratch *scratch) {
  struct source_rows source = {.left = view->left, .width = view->width};
  for (int i = 0; i < view->side; i++) {
    int64_t y = tile_row * WINOGRAD_TILE + i - view->top;
    source.line[i] =
        y >= first && y < last ? scratch->planes + (y - first) * view->width * VECTOR_LANES : scratch->zeros;
  }
  return source;
}

void winograd_transform_input(const struct winograd_scratch *scratch, const struct winograd *plan,
                              const struct winograd_band *band, const real *from) {
  const struct view view = {plan->height, plan->width, plan->top, plan->left, plan->points};
  int64_t first, last, area = plan->height * plan->width;
  view_rows(&first, &last, &view, band);
  for (int64_t block = 0; block < plan->blocks; block++) {
    gather(scratch->planes, from + block * VECTOR_LANES * area + first * plan->width, area,
           (last - first) * plan->width, plan->channels - block * VECTOR_LANES);
    for (int64_t r = 0; r < band->rows; r++) {
      const struct source_rows source = view_source(&view, band->row + r, first, last, scratch);
      input_row(plan->points,
                scratch->inputs + block * plan->input_block + (band->tile + r * plan->tiles) * VECTOR_LANES,
                plan->input_point, &source, plan->tiles, scratch->lines);
    }
  }
}

void winograd_transform_gradient(real *to, const struct winograd *plan, const struct winograd_scratch *scratch,
                                 const struct winograd_band *band, const real *gradient, int64_t outputs) {
  const struct view view = {plan->rows, plan->columns, 0, 0, WINOGRAD_TILE};
  int64_t first, last, area = plan->rows * plan->columns;
  view_rows(&first, &last, &view, band);
  gather(scratch->planes, gradient + first * plan->columns, area, (last - first) * plan->columns, outputs);
  for (int64_t r = 0; r < band->rows; r++) {
    const struct source_rows source = view_source(&view, band->row + r, first, last, scratch);
    gradient_row(plan->points, to + (band->tile + r * plan->tiles) * WINOGRAD_MICRO_COLUMNS, plan->product_point,
                 &source, plan->tiles, scratch->lines);
  }
}
