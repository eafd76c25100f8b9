/* Winograd's filtering: sizes, and where everything lies. */
#include <string.h>

#include "winograd.h"

struct winograd winograd_plan(const struct conv_geometry *geometry, bool gradient) {
  const struct conv_axis *y = &geometry->y, *x = &geometry->x;
  int64_t taps = y->kernel * x->kernel;
  struct winograd plan = {.points = (int)y->kernel + WINOGRAD_TILE - 1,
                          .images = geometry->images,
                          .groups = geometry->groups,
                          .channels = geometry->channels,
                          .outputs = geometry->outputs,
                          .height = y->size,
                          .width = x->size,
                          .rows = y->places,
                          .columns = x->places,
                          .top = y->padding,
                          .left = x->padding,
                          .rotated = gradient,
                          .weight_output = geometry->channels * taps,
                          .weight_channel = taps,
                          .weight_group = geometry->outputs * geometry->channels * taps};
  if (gradient) {
    plan.channels = geometry->outputs, plan.outputs = geometry->channels;
    plan.height = y->places, plan.width = x->places, plan.rows = y->size, plan.columns = x->size;
    plan.top = y->kernel - 1 - y->padding, plan.left = x->kernel - 1 - x->padding; /* may be below 0 */
    plan.weight_output = taps, plan.weight_channel = geometry->channels * taps;
  }
  plan.tiles = ceil_div(plan.columns, WINOGRAD_TILE);
  plan.tile_rows = ceil_div(plan.rows, WINOGRAD_TILE);
  plan.blocks = ceil_div(plan.channels, VECTOR_LANES);
  plan.panels = ceil_div(plan.outputs, WINOGRAD_MICRO_COLUMNS);

  int64_t points = plan.points * plan.points;
  int64_t bytes = points * (plan.blocks * VECTOR_LANES + WINOGRAD_MICRO_COLUMNS) * (int64_t)sizeof(real);
  int64_t tiles = min(max(WINOGRAD_CHUNK_BYTES / bytes, WINOGRAD_CHUNK_LEAST), WINOGRAD_CHUNK_MOST);
  plan.chunk = min(max(tiles / plan.tiles, 1), plan.images * plan.tile_rows);
  int64_t most = plan.chunk * plan.tiles + WINOGRAD_MICRO_ROWS; /* the last micro-tile may read beyond */
  plan.input_block = most * VECTOR_LANES;
  plan.input_point = plan.blocks * plan.input_block + WINOGRAD_GAP;
  plan.filter_point = plan.channels * WINOGRAD_MICRO_COLUMNS + WINOGRAD_GAP;
  plan.product_point = most * WINOGRAD_MICRO_COLUMNS + WINOGRAD_GAP;
  return plan;
}

int64_t winograd_scratch(struct winograd_scratch *scratch, real *at, const struct winograd *plan) {
  int64_t points = plan->points, rows = min(plan->chunk, plan->tile_rows);
  int64_t source = min(plan->height, rows * WINOGRAD_TILE + points) * plan->width;
  int64_t result = rows * WINOGRAD_TILE * plan->tiles * WINOGRAD_TILE;
  int64_t wide = max(plan->width, plan->columns);
  int64_t inputs = points * points * plan->input_point, products = points * points * plan->product_point;
  int64_t lines = (plan->tiles * WINOGRAD_TILE + points) * points * VECTOR_LANES;
  if (at) {
    scratch->inputs = at;
    scratch->products = scratch->inputs + inputs;
    scratch->planes = scratch->products + products;
    scratch->zeros = scratch->planes + max(source, result) * VECTOR_LANES;
    scratch->lines = (vector *)(scratch->zeros + wide * VECTOR_LANES);
    memset(scratch->zeros, 0, (size_t)(wide * VECTOR_LANES) * sizeof(real));
  }
  return inputs + products + (max(source, result) + wide) * VECTOR_LANES + lines;
}

struct winograd_band winograd_band(const struct winograd *plan, int64_t start, int64_t row, int64_t end) {
  struct winograd_band band = {.image = row / plan->tile_rows, .row = row % plan->tile_rows};
  band.rows = min(plan->tile_rows - band.row, end - row);
  band.tile = (row - start) * plan->tiles;
  return band;
}

int winograd_panel_vectors(const struct winograd *plan, int64_t panel) {
  return plan->outputs - panel * WINOGRAD_MICRO_COLUMNS > VECTOR_LANES ? 2 : 1;
}

int64_t winograd_tap(const struct winograd *plan, int t) {
  int side = plan->points - WINOGRAD_TILE + 1;
  return plan->rotated ? side * side - 1 - t : t;
}
