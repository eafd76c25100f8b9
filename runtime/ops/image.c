/* Rearranging and resizing images (N, C, H, W): unfold, pixel_shuffle, interpolate. All are linear, and stand in pairs
   of an op and its adjoint, so that the derivative of the one is the other. */
#include "../base/memory.h"
#include "../base/parallel.h"
#include "../kernels/conv/conv.h"
#include "op.h"

static const struct op *image_partner(const struct op *op) { return op->family; }

/* The gradient of a linear op: its partner's result. */
static int image_give_partner(const struct op_call *call, struct tensor *gradient, const struct op_value *value,
                              struct tensor **result) {
  return op_give(op_run(image_partner(call->op), 1, &gradient, value), result);
}

static int image_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  return op_give(op_run(call->op, 1, tangent, call->value), result);
}

static int image_check_rank(const struct op_call *call) {
  if (call->input[0]->shape.rank == 4) return STATUS_OK;
  return status_error("images have four dimensions (N, C, H, W), not %s", shape_text(&call->input[0]->shape));
}

/* ---- unfold and fold ---- */

enum { FOLD_KERNEL, FOLD_STRIDE, FOLD_PADDING, FOLD_DILATION, FOLD_SIZES }; /* places in call->value; sizes: fold's */
enum { FOLD_MOST = 1 << 20 }; /* of each: sizes made of them do not overflow */

/* images: (N, C, H, W) */
static int fold_geometry(struct conv_geometry *geometry, const struct op_call *call, const struct shape *images) {
  *geometry = (struct conv_geometry){.images = images->size[0], .groups = 1, .channels = images->size[1]};
  for (int axis = 0; axis < 2; axis++) {
    static const char *const name[] = {"kernel", "stride", "padding", "dilation"};
    for (int i = FOLD_KERNEL; i <= FOLD_DILATION; i++) {
      int64_t given = call->value[i].list[axis];
      int least = i == FOLD_PADDING ? 0 : 1;
      if (given < least || given > FOLD_MOST)
        return status_error("%s is %lld, it goes from %d to %d", name[i], (long long)given, least, FOLD_MOST);
    }
    struct conv_axis *a = axis ? &geometry->x : &geometry->y;
    *a = (struct conv_axis){.size = images->size[2 + axis],
                            .kernel = call->value[FOLD_KERNEL].list[axis],
                            .stride = call->value[FOLD_STRIDE].list[axis],
                            .padding = call->value[FOLD_PADDING].list[axis],
                            .dilation = call->value[FOLD_DILATION].list[axis]};
    int64_t reach = a->size + 2 * a->padding - (a->kernel - 1) * a->dilation;
    if (reach < 1)
      return status_error("a kernel of %lld (dilation %lld) does not fit in images %s with padding %lld",
                          (long long)a->kernel, (long long)a->dilation, shape_text(images), (long long)a->padding);
    a->places = (reach - 1) / a->stride + 1;
  }
  return STATUS_OK;
}

static int unfold_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  (void)type;
  struct conv_geometry geometry;
  STATUS_TRY(image_check_rank(call));
  STATUS_TRY(fold_geometry(&geometry, call, &call->input[0]->shape));
  const struct conv_axis *y = &geometry.y, *x = &geometry.x;
  *shape = shape_of(3, geometry.images, geometry.channels * y->kernel * x->kernel, y->places * x->places);
  return STATUS_OK;
}

static int unfold_forward(struct op_call *call) {
  struct conv_geometry geometry;
  STATUS_TRY(fold_geometry(&geometry, call, &call->input[0]->shape));
  struct tensor *x = tensor_contiguous(call->input[0]);
  if (!x) return STATUS_ERROR;
  conv_unfold(tensor_real(call->output), tensor_real(x), &geometry);
  tensor_release(x);
  return STATUS_OK;
}

static int unfold_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result) {
  (void)needed;
  struct op_value value[OP_MAX_PARAMETERS] = {0};
  for (int i = FOLD_KERNEL; i <= FOLD_DILATION; i++) value[i] = call->value[i];
  for (int axis = 0; axis < 2; axis++) value[FOLD_SIZES].list[axis] = call->input[0]->shape.size[2 + axis];
  return image_give_partner(call, gradient, value, result);
}

/* The images that fold makes. */
static struct shape fold_images(const struct op_call *call) {
  const struct shape *columns = &call->input[0]->shape;
  int64_t taps = call->value[FOLD_KERNEL].list[0] * call->value[FOLD_KERNEL].list[1];
  return shape_of(4, columns->size[0], columns->size[1] / max(taps, 1), call->value[FOLD_SIZES].list[0],
                  call->value[FOLD_SIZES].list[1]);
}

static int fold_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  (void)type;
  const struct shape *columns = &call->input[0]->shape;
  struct conv_geometry geometry;
  if (columns->rank != 3)
    return status_error("columns have three dimensions (N, C · kernel, places), not %s", shape_text(columns));
  *shape = fold_images(call);
  STATUS_TRY(fold_geometry(&geometry, call, shape));
  int64_t taps = geometry.y.kernel * geometry.x.kernel, places = geometry.y.places * geometry.x.places;
  if (columns->size[1] % taps || columns->size[2] != places)
    return status_error("columns %s are not those of images of %lld×%lld under this kernel: (N, C · %lld, %lld)",
                        shape_text(columns), (long long)shape->size[2], (long long)shape->size[3], (long long)taps,
                        (long long)places);
  return STATUS_OK;
}

static int fold_forward(struct op_call *call) {
  struct conv_geometry geometry;
  struct shape images = fold_images(call);
  STATUS_TRY(fold_geometry(&geometry, call, &images));
  struct tensor *columns = tensor_contiguous(call->input[0]);
  if (!columns) return STATUS_ERROR;
  conv_fold(tensor_real(call->output), tensor_real(columns), &geometry);
  tensor_release(columns);
  return STATUS_OK;
}

static int fold_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result) {
  (void)needed;
  return image_give_partner(call, gradient, call->value, result);
}

/* ---- pixel_shuffle and pixel_unshuffle ---- */

/* (N, C, H, W) as (N, C·factor², H / factor, W / factor): channels factor² times as many, or the other way. */
static int shuffle_shape(const struct op_call *call, struct shape *shape, bool shuffle) {
  STATUS_TRY(image_check_rank(call));
  *shape = call->input[0]->shape;
  int64_t factor = call->value[0].list[0];
  if (factor < 1 || factor > 1 << 15) return status_error("factor is %lld, it goes from 1 to 32768", (long long)factor);
  if (shuffle && shape->size[1] % (factor * factor))
    return status_error("factor² = %lld does not divide the channels of images %s", (long long)(factor * factor),
                        shape_text(shape));
  if (!shuffle && (shape->size[2] % factor || shape->size[3] % factor))
    return status_error("factor = %lld does not divide the sides of images %s", (long long)factor, shape_text(shape));
  shape->size[1] = shuffle ? shape->size[1] / (factor * factor) : shape->size[1] * factor * factor;
  for (int i = 2; i < 4; i++) shape->size[i] = shuffle ? shape->size[i] * factor : shape->size[i] / factor;
  return STATUS_OK;
}

static int pixel_shuffle_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  (void)type;
  return shuffle_shape(call, shape, true);
}

static int pixel_unshuffle_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  (void)type;
  return shuffle_shape(call, shape, false);
}

/* Shuffled images (planes, height, factor, width, factor) seen in the order of the channels that they come from:
   (planes, factor, factor, height, width). */
static struct tensor *shuffled_view(struct tensor *images, int64_t factor) {
  const struct shape *from = &images->shape;
  struct shape split =
      shape_of(5, from->size[0] * from->size[1], from->size[2] / factor, factor, from->size[3] / factor, factor);
  struct tensor *parts = tensor_view_shape(images, &split);
  struct tensor *view = parts ? tensor_permute(parts, (const int[]){0, 2, 4, 1, 3}) : NULL;
  tensor_release(parts);
  return view;
}

static int shuffle_forward(struct op_call *call, bool shuffle) {
  struct tensor *x = tensor_contiguous(call->input[0]);
  struct tensor *images = shuffle ? call->output : x, *channels = shuffle ? x : call->output;
  struct tensor *view = x ? shuffled_view(images, call->value[0].list[0]) : NULL;
  struct tensor *plain = view ? tensor_view_shape(channels, &view->shape) : NULL;
  int status = plain ? tensor_assign(shuffle ? view : plain, shuffle ? plain : view) : STATUS_ERROR;
  tensor_release(x);
  tensor_release(view);
  tensor_release(plain);
  return status;
}

static int pixel_shuffle_forward(struct op_call *call) { return shuffle_forward(call, true); }
static int pixel_unshuffle_forward(struct op_call *call) { return shuffle_forward(call, false); }

static int shuffle_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed,
                       struct tensor **result) {
  (void)needed;
  return image_give_partner(call, gradient, call->value, result);
}

/* ---- interpolate and its adjoint ---- */

enum { INTERPOLATE_SIZES, INTERPOLATE_BILINEAR }; /* places in call->value */

/* One coordinate of the larger or smaller image: (1 − weight) of the source's `low` and weight of its `high`. */
struct sample {
  int64_t low, high;
  real weight;
};

/* Pixels are squares whose centres lie at half coordinates: PyTorch's align_corners = false. */
static void sample_axis(struct sample *sample, int64_t count, int64_t size, bool bilinear) {
  for (int64_t i = 0; i < count; i++) {
    double at = ((double)i + 0.5) * (double)size / (double)count - 0.5;
    if (at < 0) at = 0;
    int64_t low = bilinear ? min((int64_t)at, size - 1) : i * size / count;
    sample[i] = (struct sample){low, bilinear ? min(low + 1, size - 1) : low, bilinear ? (real)(at - (double)low) : 0};
  }
}

/* source and images of one plane: from or to of `interpolate`, line: scratch of the source's width. */
struct interpolation {
  int64_t height, width, rows, columns; /* of the source, of the result */
  const struct sample *y, *x;
  bool bilinear;
};

static void interpolate_plane(real *to, const real *from, real *line, const struct interpolation *plan) {
  int64_t width = plan->width;
  for (int64_t i = 0; i < plan->rows; i++, to += plan->columns) {
    const real *low = from + plan->y[i].low * width, *high = from + plan->y[i].high * width;
    if (!plan->bilinear) {
      for (int64_t j = 0; j < plan->columns; j++) to[j] = low[plan->x[j].low];
      continue;
    }
    real weight = plan->y[i].weight;
    for (int64_t j = 0; j < width; j++) line[j] = (1 - weight) * low[j] + weight * high[j];
    for (int64_t j = 0; j < plan->columns; j++) {
      const struct sample *x = &plan->x[j];
      to[j] = (1 - x->weight) * line[x->low] + x->weight * line[x->high];
    }
  }
}

static void interpolate_adjoint_plane(real *to, const real *from, real *line, const struct interpolation *plan) {
  int64_t width = plan->width;
  for (int64_t i = 0; i < plan->height * width; i++) to[i] = 0;
  for (int64_t i = 0; i < plan->rows; i++, from += plan->columns) {
    real *low = to + plan->y[i].low * width, *high = to + plan->y[i].high * width, weight = plan->y[i].weight;
    if (!plan->bilinear) {
      for (int64_t j = 0; j < plan->columns; j++) low[plan->x[j].low] += from[j];
      continue;
    }
    for (int64_t j = 0; j < width; j++) line[j] = 0;
    for (int64_t j = 0; j < plan->columns; j++) {
      const struct sample *x = &plan->x[j];
      line[x->low] += (1 - x->weight) * from[j];
      line[x->high] += x->weight * from[j];
    }
    for (int64_t j = 0; j < width; j++) low[j] += (1 - weight) * line[j];
    for (int64_t j = 0; j < width; j++) high[j] += weight * line[j];
  }
}

static int interpolate_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  (void)type;
  STATUS_TRY(image_check_rank(call));
  *shape = call->input[0]->shape;
  for (int axis = 0; axis < 2; axis++) {
    int64_t size = call->value[INTERPOLATE_SIZES].list[axis];
    if (size < 1 || shape->size[2 + axis] < 1)
      return status_error("images %s cannot become %lld×%lld: sides are at least 1", shape_text(&call->input[0]->shape),
                          (long long)call->value[INTERPOLATE_SIZES].list[0],
                          (long long)call->value[INTERPOLATE_SIZES].list[1]);
    shape->size[2 + axis] = size;
  }
  return STATUS_OK;
}

/* source: what the samples are of; result: what has a sample for each of its pixels. */
static int interpolate_run(struct op_call *call, bool adjoint) {
  const struct shape *in = &call->input[0]->shape, *out = &call->output->shape;
  const struct shape *source = adjoint ? out : in, *result = adjoint ? in : out;
  struct interpolation plan = {source->size[2],
                               source->size[3],
                               result->size[2],
                               result->size[3],
                               NULL,
                               NULL,
                               call->value[INTERPOLATE_BILINEAR].list[0] != 0};
  int64_t planes = in->size[0] * in->size[1], from_area = in->size[2] * in->size[3],
          to_area = out->size[2] * out->size[3];
  struct sample *sample = memory_acquire((size_t)(plan.rows + plan.columns) * sizeof *sample);
  real *lines = sample ? memory_acquire((size_t)(parallel_threads() * plan.width) * sizeof(real)) : NULL;
  struct tensor *x = lines ? tensor_contiguous(call->input[0]) : NULL;
  if (x) {
    sample_axis(sample, plan.rows, plan.height, plan.bilinear);
    sample_axis(sample + plan.rows, plan.columns, plan.width, plan.bilinear);
    plan.y = sample, plan.x = sample + plan.rows;
    const real *from = tensor_real(x);
    real *to = tensor_real(call->output);
#pragma omp parallel for if (planes * (from_area + to_area) > PARALLEL_THRESHOLD)
    for (int64_t plane = 0; plane < planes; plane++)
      (adjoint ? interpolate_adjoint_plane : interpolate_plane)(to + plane * to_area, from + plane * from_area,
                                                                lines + omp_get_thread_num() * plan.width, &plan);
  }
  bool done = x != NULL;
  tensor_release(x);
  memory_release(lines);
  memory_release(sample);
  return done ? STATUS_OK : STATUS_ERROR;
}

static int interpolate_forward(struct op_call *call) { return interpolate_run(call, false); }
static int interpolate_adjoint_forward(struct op_call *call) { return interpolate_run(call, true); }

static int interpolate_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed,
                           struct tensor **result) {
  (void)needed;
  struct op_value value[OP_MAX_PARAMETERS] = {0};
  value[INTERPOLATE_BILINEAR] = call->value[INTERPOLATE_BILINEAR];
  for (int axis = 0; axis < 2; axis++) value[INTERPOLATE_SIZES].list[axis] = call->input[0]->shape.size[2 + axis];
  return image_give_partner(call, gradient, value, result);
}

#define FOLD_PARAMETERS                                                                    \
  GIVEN("kernel", OP_PAIR), DEFAULT("stride", OP_PAIR, 1), DEFAULT("padding", OP_PAIR, 0), \
      DEFAULT("dilation", OP_PAIR, 1)
#define IMAGE_ROW(name, doc, samples, parameters, shape, forward, vjp, partner)                                 \
  OP(name, doc, SAMPLES samples, PARAMETERS parameters, OP_ROWWISE | OP_LINEAR, shape, forward, vjp, image_jvp, \
     .batch_inputs = 1, .family = partner)

const struct op image_ops[] = {
    IMAGE_ROW(
        "unfold",
        "the inputs under a kernel at each of its places over images (N, C, H, W), zeros around: (N, C · height · "
        "width, places), a column a place, as conv2d multiplies them; its derivative is fold",
        ("2x3x5x6 kernel=3 padding=1", "2x2x7x6 kernel=3,2 stride=2,3 padding=1,0", "1x1x1x1 kernel=1",
         "2x2x8x7 kernel=3,2 dilation=2,3 padding=2,1", "0x2x4x4 kernel=2", "1x2x3x3 kernel=5 padding=4 stride=2"),
        (TENSOR("x"), FOLD_PARAMETERS), unfold_shape, unfold_forward, unfold_vjp, &image_ops[1]),
    IMAGE_ROW("fold",
              "images (N, C, height, width) of the given sizes: each value the sum of all that columns (N, C · kernel, "
              "places), as unfold makes them, hold of it",
              ("2x27x30 kernel=3 padding=1 sizes=5,6", "2x12x8 kernel=3,2 stride=2,3 padding=1,0 sizes=7,6",
               "1x1x1 kernel=1 sizes=1", "0x8x9 kernel=2 sizes=4"),
              (TENSOR("x"), FOLD_PARAMETERS, GIVEN("sizes", OP_PAIR)), fold_shape, fold_forward, fold_vjp,
              &image_ops[0]),
    IMAGE_ROW(
        "pixel_shuffle",
        "images (N, C · factor², H, W) as (N, C, H · factor, W · factor): the channels of a pixel become a square of "
        "pixels (Shi et al., 2016)",
        ("2x8x3x2 factor=2", "1x9x1x2 factor=3", "2x3x2x2 factor=1", "0x4x2x2 factor=2"),
        (TENSOR("x"), GIVEN("factor", OP_INTEGER)), pixel_shuffle_shape, pixel_shuffle_forward, shuffle_vjp,
        &image_ops[3]),
    IMAGE_ROW("pixel_unshuffle",
              "images (N, C, H · factor, W · factor) as (N, C · factor², H, W): undoes pixel_shuffle",
              ("2x2x4x6 factor=2", "1x1x3x6 factor=3", "0x2x4x4 factor=2", "1x2x1x1 factor=1"),
              (TENSOR("x"), GIVEN("factor", OP_INTEGER)), pixel_unshuffle_shape, pixel_unshuffle_forward, shuffle_vjp,
              &image_ops[2]),
    IMAGE_ROW(
        "interpolate",
        "images (N, C, H, W) resized to the given height and width: the nearest pixel, or bilinear between pixels' "
        "centres; its derivative is interpolate_adjoint",
        ("2x3x2x3 sizes=4,6", "2x2x5x4 sizes=3,7", "2x3x2x3 sizes=4,6 bilinear=1", "2x2x5x4 sizes=3,7 bilinear=1",
         "1x1x1x1 sizes=2,3 bilinear=1", "0x2x4x4 sizes=2"),
        (TENSOR("x"), GIVEN("sizes", OP_PAIR), DEFAULT("bilinear", OP_FLAG, 0)), interpolate_shape, interpolate_forward,
        interpolate_vjp, &image_ops[5]),
    IMAGE_ROW(
        "interpolate_adjoint",
        "images (N, C, height, width) of the given sizes: each pixel the sum of what interpolate gave it to, by its "
        "share",
        ("2x3x4x6 sizes=2,3", "2x2x3x7 sizes=5,4 bilinear=1", "1x1x1x1 sizes=1", "0x2x4x4 sizes=2"),
        (TENSOR("x"), GIVEN("sizes", OP_PAIR), DEFAULT("bilinear", OP_FLAG, 0)), interpolate_shape,
        interpolate_adjoint_forward, interpolate_vjp, &image_ops[4]),
    {.name = NULL}};
