/* Convolutions of images and of sequences: conv2d, conv1d, their transposes, and the gradients of their weights.

   All three are one bilinear form of data, weight and output, and each other's derivatives: given two of them (the
   output standing for its gradient) each makes the third. A row says which; shape, forward, vjp and jvp are the same
   for all. A sequence is an image of height 1. */
#include "../kernels/conv/conv.h"

#include "../base/parallel.h"
#include "formula.h"

enum conv_role { CONV_OUTPUT, CONV_DATA, CONV_WEIGHT };

struct conv_family {
  int dimensions;          /* 1: (N, C, L), 2: (N, C, H, W) */
  enum conv_role input[2]; /* what inputs 0 and 1 are */
  enum conv_role result;
};

/* The six rows: by dimensions, the results in the order of their roles. */
static const struct op *conv_row(int dimensions, enum conv_role result) {
  return &conv_ops[(dimensions == 2 ? 0 : 3) + (int)result];
}

static const struct conv_family *conv_family(const struct op_call *call) { return call->op->family; }

/* ---- geometry ---- */

enum { CONV_BIAS = 2 };                                                         /* the input */
enum { CONV_STRIDE, CONV_PADDING, CONV_DILATION, CONV_GROUPS, CONV_EXTENSION }; /* places in conv_values */
enum { CONV_MOST = 1 << 20 }; /* of stride, padding and dilation: sizes made of them do not overflow */

/* The kernel's size is the first value of those that make a weight; the other values are the same for all. */
static const struct op_value *conv_values(const struct op_call *call) {
  return call->value + (conv_family(call)->result == CONV_WEIGHT);
}

/* The shape of an input by its role; NULL for what the call makes. */
static const struct shape *conv_role_shape(const struct op_call *call, enum conv_role role) {
  for (int i = 0; i < 2; i++)
    if (conv_family(call)->input[i] == role) return &call->input[i]->shape;
  return NULL;
}

/* axis: 0 vertical, 1 horizontal. */
static struct conv_axis conv_axis_of(const struct op_call *call, int axis) {
  int at = axis + conv_family(call)->dimensions - 2;
  if (at < 0) return (struct conv_axis){.size = 1, .places = 1, .kernel = 1, .stride = 1, .dilation = 1};
  const struct op_value *value = conv_values(call);
  const struct shape *data = conv_role_shape(call, CONV_DATA), *weight = conv_role_shape(call, CONV_WEIGHT),
                     *output = conv_role_shape(call, CONV_OUTPUT);
  struct conv_axis result = {.kernel = weight ? weight->size[2 + at] : call->value[0].list[at],
                             .stride = value[CONV_STRIDE].list[at],
                             .padding = value[CONV_PADDING].list[at],
                             .dilation = value[CONV_DILATION].list[at]};
  int64_t beyond = (result.kernel - 1) * result.dilation - 2 * result.padding;
  result.size = data ? data->size[2 + at]
                     : (output->size[2 + at] - 1) * result.stride + beyond + 1 + value[CONV_EXTENSION].list[at];
  int64_t reach = result.size - beyond;
  result.places = output ? output->size[2 + at] : reach < 1 ? 0 : (reach - 1) / result.stride + 1;
  return result;
}

static struct conv_geometry conv_geometry_of(const struct op_call *call) {
  const struct shape *data = conv_role_shape(call, CONV_DATA), *weight = conv_role_shape(call, CONV_WEIGHT),
                     *output = conv_role_shape(call, CONV_OUTPUT);
  int64_t groups = conv_values(call)[CONV_GROUPS].list[0];
  return (struct conv_geometry){.images = data ? data->size[0] : output->size[0],
                                .groups = groups,
                                .channels = weight ? weight->size[1] : data->size[1] / groups,
                                .outputs = (weight ? weight->size[0] : output->size[1]) / groups,
                                .y = conv_axis_of(call, 0),
                                .x = conv_axis_of(call, 1)};
}

/* The shape of what has this role. */
static struct shape conv_shape_of(const struct conv_geometry *geometry, int dimensions, enum conv_role role) {
  const struct conv_axis *y = &geometry->y, *x = &geometry->x;
  bool weight = role == CONV_WEIGHT;
  int64_t size = weight ? x->kernel : role == CONV_DATA ? x->size : x->places;
  struct shape shape = {.rank = 2 + dimensions};
  shape.size[0] = weight ? geometry->groups * geometry->outputs : geometry->images;
  shape.size[1] = weight              ? geometry->channels
                  : role == CONV_DATA ? geometry->groups * geometry->channels
                                      : geometry->groups * geometry->outputs;
  shape.size[2] = weight ? y->kernel : role == CONV_DATA ? y->size : y->places;
  shape.size[1 + dimensions] = size;
  return shape;
}

/* ---- what a call may be ---- */

static int conv_check_values(const struct op_call *call) {
  const struct conv_family *family = conv_family(call);
  const struct op_value *value = conv_values(call);
  int64_t groups = value[CONV_GROUPS].list[0];
  if (groups < 1) return status_error("groups is %lld, it is at least 1", (long long)groups);
  for (int axis = 0; axis < family->dimensions; axis++) {
    static const char *const name[] = {"stride", "padding", "dilation"};
    for (int i = CONV_STRIDE; i <= CONV_DILATION; i++) {
      int64_t given = value[i].list[axis];
      int least = i == CONV_PADDING ? 0 : 1;
      if (given < least || given > CONV_MOST)
        return status_error("%s is %lld, it goes from %d to %d", name[i], (long long)given, least, CONV_MOST);
    }
    int64_t stride = value[CONV_STRIDE].list[axis], extension = value[CONV_EXTENSION].list[axis];
    if (family->result == CONV_DATA && (extension < 0 || extension >= stride))
      return status_error("output_padding is %lld, it goes from 0 to below the stride, %lld", (long long)extension,
                          (long long)stride);
    if (family->result == CONV_WEIGHT && call->value[0].list[axis] < 1)
      return status_error("kernel is %lld, it is at least 1", (long long)call->value[0].list[axis]);
  }
  return STATUS_OK;
}

/* Ranks, and that groups divide channels. */
static int conv_check_channels(const struct op_call *call) {
  const struct conv_family *family = conv_family(call);
  int64_t groups = conv_values(call)[CONV_GROUPS].list[0];
  const char *dimensions = family->dimensions == 2 ? "four dimensions (N, C, H, W)" : "three dimensions (N, C, L)";
  for (int i = 0; i < 2; i++) {
    const struct shape *shape = &call->input[i]->shape;
    const char *name = call->op->parameter[i].name;
    bool weight = family->input[i] == CONV_WEIGHT;
    if (shape->rank != 2 + family->dimensions)
      return status_error(weight ? "weight has %s: outputs, channels / groups, and the kernel's size, not %s"
                                 : "images have %s, not %s",
                          weight ? family->dimensions == 2 ? "four dimensions" : "three dimensions" : dimensions,
                          shape_text(shape));
    if (weight && shape_count(shape) == 0) return status_error("weight %s is empty", shape_text(shape));
    int64_t channels = shape->size[weight ? 0 : 1];
    if ((weight || family->result == CONV_WEIGHT) && channels % groups)
      return status_error("%lld groups do not divide the %lld %s of %s %s", (long long)groups, (long long)channels,
                          weight ? "outputs" : "channels", name, shape_text(shape));
  }
  const struct shape *x = &call->input[0]->shape, *other = &call->input[1]->shape;
  if (family->result == CONV_WEIGHT) {
    if (x->size[0] != other->size[0] || x->size[1] == 0 || other->size[1] == 0)
      return status_error("images %s and gradients %s differ in number, or have no channels", shape_text(x),
                          shape_text(other));
    return STATUS_OK;
  }
  bool forward = family->result == CONV_OUTPUT;
  int64_t takes = forward ? other->size[1] * groups : other->size[0];
  int64_t gives = forward ? other->size[0] : other->size[1] * groups;
  if (takes != x->size[1])
    return status_error("weight %s in %lld groups takes %lld channels, the images are %s", shape_text(other),
                        (long long)groups, (long long)takes, shape_text(x));
  const struct tensor *bias = call->input[CONV_BIAS];
  if (bias && (bias->shape.rank != 1 || bias->shape.size[0] != gives))
    return status_error("bias has shape %s, it needs one value for each of %lld outputs", shape_text(&bias->shape),
                        (long long)gives);
  return STATUS_OK;
}

static int conv_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  (void)type;
  const struct conv_family *family = conv_family(call);
  STATUS_TRY(conv_check_values(call));
  STATUS_TRY(conv_check_channels(call));
  struct conv_geometry geometry = conv_geometry_of(call);
  const struct conv_axis *y = &geometry.y, *x = &geometry.x;
  const char *images = shape_text(&call->input[0]->shape);
  if (family->result == CONV_DATA && (y->size < 0 || x->size < 0))
    return status_error("padding %lld, %lld takes more than there is of images %s", (long long)y->padding,
                        (long long)x->padding, images);
  for (int axis = 0; axis < 2 && family->result == CONV_WEIGHT; axis++) {
    const struct conv_axis *a = axis ? x : y;
    int64_t reach = a->size + 2 * a->padding - (a->kernel - 1) * a->dilation;
    if (reach < 1 || (reach - 1) / a->stride + 1 != a->places)
      return status_error("a kernel of %lld×%lld over images %s does not give gradients %s", (long long)y->kernel,
                          (long long)x->kernel, images, shape_text(&call->input[1]->shape));
  }
  if (y->places < 1 || x->places < 1)
    return status_error("a kernel of %lld×%lld (dilation %lld, %lld) does not fit in images %s with padding %lld, %lld",
                        (long long)y->kernel, (long long)x->kernel, (long long)y->dilation, (long long)x->dilation,
                        images, (long long)y->padding, (long long)x->padding);
  *shape = conv_shape_of(&geometry, family->dimensions, family->result);
  return STATUS_OK;
}

/* ---- the products ---- */

static int conv_forward_run(struct op_call *call) {
  const struct conv_family *family = conv_family(call);
  struct conv_geometry geometry = conv_geometry_of(call);
  struct tensor *given[3] = {NULL};
  const real *values[3] = {NULL};
  bool ready = true;
  for (int i = 0; i < call->input_count && ready; i++) {
    if (!call->input[i]) continue;
    given[i] = tensor_contiguous(call->input[i]);
    ready = given[i] != NULL;
    values[i] = ready ? tensor_real(given[i]) : NULL;
  }
  real *to = tensor_real(call->output);
  int status = STATUS_ERROR;
  if (ready)
    status = family->result == CONV_OUTPUT ? conv_forward(to, values[0], values[1], values[CONV_BIAS], &geometry)
             : family->result == CONV_DATA ? conv_data_gradient(to, values[0], values[1], values[CONV_BIAS], &geometry)
                                           : conv_weight_gradient(to, values[1], values[0], &geometry);
  for (int i = 0; i < 3; i++) tensor_release(given[i]);
  return status;
}

/* What has role `result`, of the two others (part, by role), in the geometry of the call: one of the three ops. */
static struct tensor *conv_run(const struct op_call *call, enum conv_role result, struct tensor *const *part,
                               struct tensor *bias) {
  int dimensions = conv_family(call)->dimensions;
  const struct op *op = conv_row(dimensions, result);
  const struct conv_family *family = op->family;
  struct conv_geometry geometry = conv_geometry_of(call);
  struct op_value value[OP_MAX_PARAMETERS] = {0};
  struct op_value *common = value + (result == CONV_WEIGHT);
  for (int i = CONV_STRIDE; i <= CONV_GROUPS; i++) common[i] = conv_values(call)[i];
  for (int axis = 0; axis < dimensions; axis++) {
    const struct conv_axis *a = axis + 2 - dimensions ? &geometry.x : &geometry.y;
    if (result == CONV_WEIGHT) value[0].list[axis] = a->kernel;
    if (result == CONV_DATA)
      common[CONV_EXTENSION].list[axis] =
          a->size - ((a->places - 1) * a->stride + (a->kernel - 1) * a->dilation - 2 * a->padding + 1);
  }
  struct tensor *input[3] = {part[family->input[0]], part[family->input[1]], bias};
  return op_apply(op, result == CONV_WEIGHT ? 2 : 3, input, value);
}

/* The inputs by role. */
static void conv_parts(struct tensor **part, const struct op_call *call) {
  part[conv_family(call)->result] = NULL;
  for (int i = 0; i < 2; i++) part[conv_family(call)->input[i]] = call->input[i];
}

/* The sum of the gradient over images and places; bias: its shape. */
static struct tensor *conv_bias_gradient(struct formula *f, struct tensor *gradient, const struct shape *bias) {
  struct shape column = {.rank = gradient->shape.rank - 1, .size = {bias->size[0], 1, 1}};
  return term_reshape(f, term_sum_to(f, gradient, &column), bias);
}

static int conv_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result) {
  const struct conv_family *family = conv_family(call);
  struct formula f = {0};
  struct tensor *g = term_of(&f, "contiguous", gradient), *part[3];
  conv_parts(part, call);
  part[family->result] = g;
  int status = g ? STATUS_OK : STATUS_ERROR;
  for (int i = 0; i < call->input_count && status == STATUS_OK; i++) {
    if (!needed[i]) continue;
    status = formula_give(i == CONV_BIAS ? conv_bias_gradient(&f, g, &call->input[i]->shape)
                                         : formula_keep(&f, conv_run(call, family->input[i], part, NULL)),
                          &result[i]);
  }
  formula_end(&f, NULL);
  return status;
}

/* bias (outputs) at every place of the output: (N, outputs, …) */
static struct tensor *conv_repeat_bias(struct tensor *bias, const struct shape *output) {
  struct shape column = {.rank = output->rank - 1, .size = {output->size[1], 1, 1}};
  struct tensor *values = tensor_contiguous(bias);
  struct tensor *view = values ? tensor_view_shape(values, &column) : NULL;
  struct tensor *sum = view ? tensor_expand(view, output) : NULL;
  tensor_release(values);
  tensor_release(view);
  return sum;
}

/* Each input's change with the other input as it is, the bias's change with the first of them. */
static int conv_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  const struct conv_family *family = conv_family(call);
  struct conv_geometry geometry = conv_geometry_of(call);
  struct shape shape = conv_shape_of(&geometry, family->dimensions, family->result);
  struct tensor *sum = NULL, *bias = call->input_count > CONV_BIAS ? tangent[CONV_BIAS] : NULL;
  if (!tangent[0] && !tangent[1]) return op_give(conv_repeat_bias(bias, &shape), result);
  int status = STATUS_OK;
  for (int i = 0; i < 2 && status == STATUS_OK; i++) {
    if (!tangent[i]) continue;
    struct tensor *part[3];
    conv_parts(part, call);
    part[family->input[i]] = tangent[i];
    struct tensor *term = conv_run(call, family->result, part, sum ? NULL : bias);
    status = !term ? STATUS_ERROR : sum ? op_accumulate(sum, term) : STATUS_OK;
    if (sum)
      tensor_release(term);
    else
      sum = term;
  }
  return op_give_if(status, sum, result);
}

/* ---- factors of conv2d and conv1d ---- */

/* Each group is an affine map of its own. */
static bool conv_is_affine(const struct op_call *call) { return conv_values(call)[CONV_GROUPS].list[0] == 1; }

/* A: a row of patches for each place of each image; G: its outputs' gradients. */
static int conv_factors(const struct op_call *call, struct tensor *gradient, struct factors *result) {
  struct conv_geometry geometry = conv_geometry_of(call);
  if (geometry.groups != 1)
    return status_error("a convolution in %lld groups is not one affine map: it has no factors",
                        (long long)geometry.groups);
  int64_t places = geometry.y.places * geometry.x.places;
  int64_t rows = geometry.images * places, inputs = geometry.channels * geometry.y.kernel * geometry.x.kernel;
  struct shape a_shape = shape_of(2, rows, inputs), g_shape = shape_of(2, rows, geometry.outputs);
  *result = (struct factors){.rows = rows, .inputs = inputs, .outputs = geometry.outputs};
  struct tensor *x = tensor_contiguous(call->input[0]);
  struct tensor *channels_last =
      tensor_permute(gradient, gradient->shape.rank == 3 ? (const int[]){0, 2, 1} : (const int[]){0, 2, 3, 1});
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

static int conv_factor_rows(const struct op_call *call, const int64_t *row, int64_t count, struct tensor **a) {
  struct conv_geometry geometry = conv_geometry_of(call);
  int64_t places = geometry.y.places * geometry.x.places, inputs = tensor_count(call->input[1]);
  inputs /= geometry.outputs;
  int64_t image = geometry.channels * geometry.y.size * geometry.x.size;
  struct shape shape = shape_of(2, count, inputs);
  struct tensor *x = tensor_contiguous(call->input[0]);
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

static const struct op_affine conv_affine = {
    .outputs = 0, .serves = conv_is_affine, .factors = conv_factors, .factor_rows = conv_factor_rows};

#define CONV_ROW(name, doc, samples, parameters, flags, dims, first, second, made, ...)                          \
  OP(name, doc, SAMPLES samples, PARAMETERS parameters, OP_SAVES_INPUTS | (flags), conv_shape, conv_forward_run, \
     conv_vjp, conv_jvp, .graph = conv_vjp, .family = &(const struct conv_family){dims, {first, second}, made},  \
     __VA_ARGS__)
#define CONV_COMMON(kind)                                                                \
  DEFAULT("stride", kind, 1), DEFAULT("padding", kind, 0), DEFAULT("dilation", kind, 1), \
      DEFAULT("groups", OP_INTEGER, 1)
#define CONV_OPERANDS TENSOR("x"), TENSOR("weight"), GIVEN("bias", OP_OPTIONAL_TENSOR)

/* In the order that conv_row knows. */
const struct op conv_ops[] = {
    CONV_ROW("conv2d",
             "images (N, C, H, W) under weight (outputs, C / groups, height, width) plus bias (outputs): "
             "cross-correlation, zeros around; each group of outputs sees its group of channels",
             ("2x3x5x6 4x3x3x3 4 padding=1", "2x2x6x5 3x2x2x3 -", "1x1x1x1 1x1x1x1 1",
              "2x2x7x6 3x2x3x2 3 stride=2,3 padding=1,0", "1x4x6x6 6x2x3x3 6 groups=2 padding=1",
              "2x2x8x7 2x2x3x2 2 dilation=2,3 padding=2,1", "1x3x5x5 3x1x3x3 - groups=3 stride=2",
              "2x1x9x9 17x1x1x1 17 stride=4", "1x2x0x4 3x2x1x1 3 padding=1", "1x1x4x5 2x1x2x2 - stride=1000000",
              "0x2x4x4 3x2x3x3 3", "1x2x3x3 2x2x3x3 2", "1x18x4x4 2x18x3x3 2 padding=2 stride=2 dilation=2"),
             (CONV_OPERANDS, CONV_COMMON(OP_PAIR)), OP_ROWWISE, 2, CONV_DATA, CONV_WEIGHT, CONV_OUTPUT,
             .batch_inputs = 1, .affine = &conv_affine),
    CONV_ROW(
        "conv_transpose2d",
        "images (N, C, H, W) spread by weight (C, outputs / groups, height, width) plus bias (outputs), the adjoint "
        "of conv2d in its images: sides become (side − 1) stride − 2 padding + dilation (kernel − 1) + 1 + "
        "output_padding, which is below the stride",
        ("2x3x3x4 3x2x3x3 2", "2x3x3x4 3x2x2x3 - stride=2,3 padding=1,0 output_padding=1,2", "1x1x1x1 1x1x1x1 1",
         "1x4x3x3 4x2x3x3 4 groups=2 padding=1", "2x2x3x4 2x2x3x2 2 dilation=2,3 padding=2,1", "0x2x4x4 2x3x2x2 3",
         "1x17x2x2 17x1x2x2 - stride=2"),
        (CONV_OPERANDS, CONV_COMMON(OP_PAIR), DEFAULT("output_padding", OP_PAIR, 0)), OP_ROWWISE, 2, CONV_OUTPUT,
        CONV_WEIGHT, CONV_DATA, .batch_inputs = 1),
    CONV_ROW("conv2d_weight",
             "of images (N, C, H, W) and the gradient (N, outputs, height, width) of a conv2d of them, that of its "
             "weight (outputs, C / groups, kernel)",
             ("2x3x5x6 2x4x5x6 kernel=3 padding=1", "2x2x7x6 2x3x4x2 kernel=3,2 stride=2,3 padding=1,0",
              "1x1x1x1 1x1x1x1 kernel=1", "1x4x6x6 1x6x6x6 kernel=3 groups=2 padding=1", "0x2x4x4 0x3x3x3 kernel=2",
              "1x3x5x5 1x3x2x2 kernel=3 stride=2 groups=3", "2x2x6x5 2x3x4x3 kernel=2,3 dilation=2,1"),
             (TENSOR("x"), TENSOR("gradient"), GIVEN("kernel", OP_PAIR), CONV_COMMON(OP_PAIR)), 0, 2, CONV_DATA,
             CONV_OUTPUT, CONV_WEIGHT, .batch_inputs = 0),
    CONV_ROW("conv1d", "sequences (N, C, L) under weight (outputs, C / groups, length) plus bias (outputs), as conv2d",
             ("2x3x7 4x3x3 4 padding=1", "2x4x9 6x2x2 - stride=2 dilation=3 padding=1 groups=2", "1x1x1 1x1x1 1",
              "0x2x4 3x2x3 3"),
             (CONV_OPERANDS, CONV_COMMON(OP_INTEGER)), OP_ROWWISE, 1, CONV_DATA, CONV_WEIGHT, CONV_OUTPUT,
             .batch_inputs = 1, .affine = &conv_affine),
    CONV_ROW("conv_transpose1d",
             "sequences (N, C, L) spread by weight (C, outputs / groups, length) plus bias (outputs), as "
             "conv_transpose2d",
             ("2x3x4 3x2x3 2", "2x4x3 4x2x2 - stride=3 output_padding=2 groups=2 padding=1", "1x1x1 1x1x1 1",
              "0x2x4 2x3x3 3"),
             (CONV_OPERANDS, CONV_COMMON(OP_INTEGER), DEFAULT("output_padding", OP_INTEGER, 0)), OP_ROWWISE, 1,
             CONV_OUTPUT, CONV_WEIGHT, CONV_DATA, .batch_inputs = 1),
    CONV_ROW("conv1d_weight", "the gradient of a conv1d's weight, as conv2d_weight",
             ("2x3x7 2x4x7 kernel=3 padding=1", "2x4x9 2x6x4 kernel=2 stride=2 dilation=3 padding=1 groups=2",
              "1x1x1 1x1x1 kernel=1", "0x2x4 0x3x3 kernel=2"),
             (TENSOR("x"), TENSOR("gradient"), GIVEN("kernel", OP_INTEGER), CONV_COMMON(OP_INTEGER)), 0, 1, CONV_DATA,
             CONV_OUTPUT, CONV_WEIGHT, .batch_inputs = 0),
    {.name = NULL}};
