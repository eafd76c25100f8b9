/* Convolution of images: the op conv2d, its derivatives and its factors. */
#include "../kernels/conv/conv.h"

#include "../base/memory.h"
#include "../base/parallel.h"
#include "../kernels/linalg/linalg.h"
#include "op.h"

enum { CONV_X, CONV_WEIGHT, CONV_BIAS, CONV_INPUTS };
enum { CONV_STRIDE, CONV_PADDING, CONV_DILATION, CONV_GROUPS }; /* places in call->value */
enum { CONV_MOST = 1 << 20 }; /* of stride, padding and dilation: sizes made of them do not overflow */

static struct conv_axis conv_axis_of(const struct op_call *call, const struct shape *x, int axis) {
  struct conv_axis result = {.size = x->size[2 + axis],
                             .kernel = call->input[CONV_WEIGHT]->shape.size[2 + axis],
                             .stride = call->value[CONV_STRIDE].list[axis],
                             .padding = call->value[CONV_PADDING].list[axis],
                             .dilation = call->value[CONV_DILATION].list[axis]};
  int64_t reach = result.size + 2 * result.padding - (result.kernel - 1) * result.dilation;
  result.places = reach < 1 ? 0 : (reach - 1) / result.stride + 1;
  return result;
}

/* x: the images (or a block of them) that the call is about. */
static struct conv_geometry conv_geometry_of(const struct op_call *call, const struct shape *x) {
  const struct shape *weight = &call->input[CONV_WEIGHT]->shape;
  int64_t groups = call->value[CONV_GROUPS].list[0];
  return (struct conv_geometry){.images = x->size[0],
                                .groups = groups,
                                .channels = weight->size[1],
                                .outputs = weight->size[0] / groups,
                                .y = conv_axis_of(call, x, 0),
                                .x = conv_axis_of(call, x, 1)};
}

static struct shape conv_output_shape(const struct conv_geometry *geometry) {
  return shape_of(4, geometry->images, geometry->groups * geometry->outputs, geometry->y.places, geometry->x.places);
}

static int conv_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  (void)type;
  const struct shape *x = &call->input[CONV_X]->shape, *weight = &call->input[CONV_WEIGHT]->shape;
  int64_t groups = call->value[CONV_GROUPS].list[0];
  if (x->rank != 4) return status_error("images have four dimensions (N, C, H, W), not %s", shape_text(x));
  if (weight->rank != 4)
    return status_error("weight has four dimensions (outputs, channels / groups, height, width), not %s",
                        shape_text(weight));
  if (groups < 1) return status_error("groups is %lld, it is at least 1", (long long)groups);
  if (shape_count(weight) == 0) return status_error("weight %s is empty", shape_text(weight));
  if (weight->size[0] % groups)
    return status_error("%lld groups do not divide the %lld outputs of weight %s", (long long)groups,
                        (long long)weight->size[0], shape_text(weight));
  if (weight->size[1] * groups != x->size[1])
    return status_error("weight %s in %lld groups takes %lld channels, the images are %s", shape_text(weight),
                        (long long)groups, (long long)(weight->size[1] * groups), shape_text(x));
  const struct tensor *bias = call->input[CONV_BIAS];
  if (bias && (bias->shape.rank != 1 || bias->shape.size[0] != weight->size[0]))
    return status_error("bias has shape %s, it needs one value for each of %lld outputs", shape_text(&bias->shape),
                        (long long)weight->size[0]);
  for (int value = CONV_STRIDE; value <= CONV_DILATION; value++)
    for (int axis = 0; axis < 2; axis++) {
      int64_t given = call->value[value].list[axis];
      int least = value == CONV_PADDING ? 0 : 1;
      if (given < least || given > CONV_MOST)
        return status_error("%s is %lld, it goes from %d to %d", call->op->parameter[CONV_INPUTS + value].name,
                            (long long)given, least, CONV_MOST);
    }
  struct conv_geometry geometry = conv_geometry_of(call, x);
  if (geometry.y.places < 1 || geometry.x.places < 1)
    return status_error("a kernel of %lld×%lld (dilation %lld, %lld) does not fit in images %s with padding %lld, %lld",
                        (long long)geometry.y.kernel, (long long)geometry.x.kernel, (long long)geometry.y.dilation,
                        (long long)geometry.x.dilation, shape_text(x), (long long)geometry.y.padding,
                        (long long)geometry.x.padding);
  *shape = conv_output_shape(&geometry);
  return STATUS_OK;
}

/* result = x * weight + bias; bias may be NULL. */
static int conv_apply(struct tensor *result, struct tensor *x, struct tensor *weight, struct tensor *bias,
                      const struct conv_geometry *geometry) {
  struct tensor *images = tensor_contiguous(x), *kernel = tensor_contiguous(weight);
  struct tensor *offset = bias ? tensor_contiguous(bias) : NULL;
  int status = STATUS_ERROR;
  if (images && kernel && (offset || !bias))
    status = conv_forward(tensor_real(result), tensor_real(images), tensor_real(kernel),
                          offset ? tensor_real(offset) : NULL, geometry);
  tensor_release(images);
  tensor_release(kernel);
  tensor_release(offset);
  return status;
}

static int conv2d_forward(struct op_call *call) {
  struct conv_geometry geometry = conv_geometry_of(call, &call->input[CONV_X]->shape);
  return conv_apply(call->output, call->input[CONV_X], call->input[CONV_WEIGHT], call->input[CONV_BIAS], &geometry);
}

/* The sum of the gradient over images and places; bias: its shape. */
static struct tensor *conv_bias_gradient(struct tensor *gradient, const struct shape *bias) {
  struct shape column = shape_of(3, bias->size[0], (int64_t)1, (int64_t)1);
  struct tensor *sum = op_sum_to_shape(gradient, &column);
  struct tensor *view = sum ? tensor_view_shape(sum, bias) : NULL;
  tensor_release(sum);
  return view;
}

static int conv2d_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result) {
  struct conv_geometry geometry = conv_geometry_of(call, &call->input[CONV_X]->shape);
  for (int i = 0; i < CONV_BIAS; i++) {
    if (!needed[i]) continue;
    result[i] = tensor_new(TYPE_REAL, &call->input[i]->shape);
    if (!result[i]) return STATUS_ERROR;
  }
  struct tensor *g = tensor_contiguous(gradient), *x = NULL, *weight = NULL;
  int status = g ? STATUS_OK : STATUS_ERROR;
  if (status == STATUS_OK && needed[CONV_X]) {
    weight = tensor_contiguous(call->input[CONV_WEIGHT]);
    status = weight
                 ? conv_data_gradient(tensor_real(result[CONV_X]), tensor_real(g), tensor_real(weight), NULL, &geometry)
                 : STATUS_ERROR;
  }
  if (status == STATUS_OK && needed[CONV_WEIGHT]) {
    x = tensor_contiguous(call->input[CONV_X]);
    status = x ? conv_weight_gradient(tensor_real(result[CONV_WEIGHT]), tensor_real(g), tensor_real(x), &geometry)
               : STATUS_ERROR;
  }
  if (status == STATUS_OK && needed[CONV_BIAS]) {
    result[CONV_BIAS] = conv_bias_gradient(g, &call->input[CONV_BIAS]->shape);
    if (!result[CONV_BIAS]) status = STATUS_ERROR;
  }
  tensor_release(g);
  tensor_release(x);
  tensor_release(weight);
  return status;
}

/* sum (N, outputs, …) = bias (outputs) */
static int conv_repeat_bias(struct tensor *sum, struct tensor *bias) {
  struct shape column = shape_of(3, sum->shape.size[1], (int64_t)1, (int64_t)1);
  struct tensor *values = tensor_contiguous(bias);
  struct tensor *view = values ? tensor_view_shape(values, &column) : NULL;
  int status = view ? tensor_assign(sum, view) : STATUS_ERROR;
  tensor_release(values);
  tensor_release(view);
  return status;
}

/* dx * weight + x * dweight + dbias */
static int conv2d_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  struct conv_geometry geometry = conv_geometry_of(call, &call->input[CONV_X]->shape);
  struct shape shape = conv_output_shape(&geometry);
  struct tensor *const pair[2][2] = {{tangent[CONV_X], call->input[CONV_WEIGHT]},
                                     {call->input[CONV_X], tangent[CONV_WEIGHT]}};
  struct tensor *sum = NULL, *bias = tangent[CONV_BIAS];
  int status = STATUS_OK;
  for (int i = 0; i < 2 && status == STATUS_OK; i++) {
    if (!pair[i][0] || !pair[i][1]) continue;
    struct tensor *term = tensor_new(TYPE_REAL, &shape);
    status = term ? conv_apply(term, pair[i][0], pair[i][1], sum ? NULL : bias, &geometry) : STATUS_ERROR;
    if (status == STATUS_OK && sum) status = op_accumulate(sum, term);
    if (sum)
      tensor_release(term);
    else
      sum = term;
  }
  if (!sum && status == STATUS_OK) {
    sum = tensor_new(TYPE_REAL, &shape);
    status = sum ? conv_repeat_bias(sum, bias) : STATUS_ERROR;
  }
  return op_give_if(status, sum, result);
}

/* Each group is an affine map of its own. */
static bool conv2d_is_affine(const struct op_call *call) { return call->value[CONV_GROUPS].list[0] == 1; }

/* A: a row of patches for each place of each image; G: its outputs' gradients. */
static int conv2d_factors(const struct op_call *call, struct tensor *gradient, struct factors *result) {
  struct conv_geometry geometry = conv_geometry_of(call, &call->input[CONV_X]->shape);
  if (geometry.groups != 1)
    return status_error("a convolution in %lld groups is not one affine map: it has no factors",
                        (long long)geometry.groups);
  int64_t places = geometry.y.places * geometry.x.places;
  int64_t rows = geometry.images * places, inputs = geometry.channels * geometry.y.kernel * geometry.x.kernel;
  struct shape a_shape = shape_of(2, rows, inputs), g_shape = shape_of(2, rows, geometry.outputs);
  *result = (struct factors){.rows = rows, .inputs = inputs, .outputs = geometry.outputs};
  struct tensor *x = tensor_contiguous(call->input[CONV_X]);
  struct tensor *channels_last = tensor_permute(gradient, (const int[]){0, 2, 3, 1});
  struct tensor *g = channels_last ? tensor_contiguous(channels_last) : NULL;
  result->g = g ? tensor_view_shape(g, &g_shape) : NULL;
  result->a = x && result->g ? tensor_new(TYPE_REAL, &a_shape) : NULL;
  if (result->a) {
    real *patches = tensor_real(result->a);
    const real *images = tensor_real(x);
    int64_t image = geometry.channels * geometry.y.size * geometry.x.size;
#pragma omp parallel for if (rows * inputs > PARALLEL_THRESHOLD)
    for (int64_t n = 0; n < geometry.images; n++)
      conv_patches(patches + n * places * inputs, images + n * image, &geometry, 0, places);
  }
  tensor_release(x);
  tensor_release(channels_last);
  tensor_release(g);
  if (result->a) return STATUS_OK;
  tensor_release(result->g);
  result->g = NULL;
  return STATUS_ERROR;
}

static int conv2d_factor_rows(const struct op_call *call, const int64_t *row, int64_t count, struct tensor **a) {
  struct conv_geometry geometry = conv_geometry_of(call, &call->input[CONV_X]->shape);
  int64_t places = geometry.y.places * geometry.x.places, inputs = tensor_count(call->input[CONV_WEIGHT]);
  inputs /= geometry.outputs;
  int64_t image = geometry.channels * geometry.y.size * geometry.x.size;
  struct shape shape = shape_of(2, count, inputs);
  struct tensor *x = tensor_contiguous(call->input[CONV_X]);
  *a = x ? tensor_new(TYPE_REAL, &shape) : NULL;
  if (*a) {
    real *patches = tensor_real(*a);
    const real *images = tensor_real(x);
#pragma omp parallel for if (count * inputs > PARALLEL_THRESHOLD)
    for (int64_t i = 0; i < count; i++)
      conv_patches(patches + i * inputs, images + row[i] / places * image, &geometry, row[i] % places, 1);
  }
  tensor_release(x);
  return *a ? STATUS_OK : STATUS_ERROR;
}

static const struct op_affine conv2d_affine = {
    .serves = conv2d_is_affine, .factors = conv2d_factors, .factor_rows = conv2d_factor_rows};

const struct op conv_ops[] = {
    OP("conv2d",
       "images (N, C, H, W) under weight (outputs, C / groups, height, width) plus bias (outputs): cross-"
       "correlation, zeros around; each group of outputs sees its group of channels",
       SAMPLES("2x3x5x6 4x3x3x3 4 padding=1", "2x2x6x5 3x2x2x3 -", "1x1x1x1 1x1x1x1 1",
               "2x2x7x6 3x2x3x2 3 stride=2,3 padding=1,0", "1x4x6x6 6x2x3x3 6 groups=2 padding=1",
               "2x2x8x7 2x2x3x2 2 dilation=2,3 padding=2,1", "1x3x5x5 3x1x3x3 - groups=3 stride=2",
               "2x1x9x9 17x1x1x1 17 stride=4", "1x2x0x4 3x2x1x1 3 padding=1", "1x1x4x5 2x1x2x2 - stride=1000000",
               "0x2x4x4 3x2x3x3 3", "1x2x3x3 2x2x3x3 2", "1x18x4x4 2x18x3x3 2 padding=2 stride=2 dilation=2"),
       PARAMETERS(TENSOR("x"), TENSOR("weight"), GIVEN("bias", OP_OPTIONAL_TENSOR), DEFAULT("stride", OP_PAIR, 1),
                  DEFAULT("padding", OP_PAIR, 0), DEFAULT("dilation", OP_PAIR, 1), DEFAULT("groups", OP_INTEGER, 1)),
       OP_SAVES_INPUTS | OP_ROWWISE, conv_shape, conv2d_forward, conv2d_vjp, conv2d_jvp, .batch_inputs = 1,
       .affine = &conv2d_affine),
    {.name = NULL}};
