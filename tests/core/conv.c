/* Convolution: forward, the gradients of data and weight, and patches against plain loops, over many drawn
   geometries (strides, padding, dilation, groups, sizes about those of vectors); and the same bits for any number of
   threads. */
#include <math.h>
#include <string.h>

#include "../../runtime/base/memory.h"
#include "../../runtime/base/parallel.h"
#include "../../runtime/base/random.h"
#include "../../runtime/kernels/conv/back_end.h"
#include "../../runtime/kernels/linalg/linalg.h"
#include "check.h"
#include "reference.h"

static uint64_t drawn;

static int64_t draw(int64_t least, int64_t most) {
  drawn = drawn * 6364136223846793005u + 1442695040888963407u;
  return least + (int64_t)((drawn >> 33) % (uint64_t)(most - least + 1));
}

static real *filled(int64_t count) {
  real *values = memory_acquire((size_t)count * sizeof(real));
  random_fill_normal(random_next_stream(), values, count);
  return values;
}

static double *zeros(int64_t count) {
  double *values = memory_acquire((size_t)count * sizeof(double));
  memset(values, 0, (size_t)count * sizeof(double));
  return values;
}

static struct conv_axis draw_axis(int64_t most) {
  struct conv_axis axis;
  do {
    axis = (struct conv_axis){.size = draw(1, most),
                              .kernel = draw(1, 5),
                              .stride = draw(1, 3),
                              .padding = draw(0, 3),
                              .dilation = draw(1, 2)};
    int64_t reach = axis.size + 2 * axis.padding - (axis.kernel - 1) * axis.dilation;
    axis.places = reach < 1 ? 0 : (reach - 1) / axis.stride + 1;
  } while (axis.places < 1);
  return axis;
}

static struct conv_geometry draw_geometry(void) {
  return (struct conv_geometry){.images = draw(0, 3) ? draw(1, 4) : draw(8, 20),
                                .groups = draw(0, 2) ? 1 : draw(2, 3),
                                .channels = draw(0, 2) ? draw(1, 6) : draw(7, 34),
                                .outputs = draw(0, 2) ? draw(1, 18) : draw(19, 70),
                                .y = draw_axis(draw(0, 2) ? 9 : 20),
                                .x = draw_axis(draw(0, 2) ? 12 : 40)};
}

static int64_t input_count(const struct conv_geometry *geometry) {
  return geometry->images * geometry->groups * geometry->channels * geometry->y.size * geometry->x.size;
}
static int64_t output_count(const struct conv_geometry *geometry) {
  return geometry->images * geometry->groups * geometry->outputs * geometry->y.places * geometry->x.places;
}
static int64_t weight_count(const struct conv_geometry *geometry) {
  return geometry->groups * geometry->outputs * geometry->channels * geometry->y.kernel * geometry->x.kernel;
}

/* The largest difference over the largest value. */
static double difference(const real *values, const double *reference, int64_t count) {
  double worst = 0, size = 1e-3;
  for (int64_t i = 0; i < count; i++) {
    double here = fabs((double)values[i] - reference[i]);
    if (!(here <= worst)) worst = isnan(here) ? INFINITY : here;
    if (fabs(reference[i]) > size) size = fabs(reference[i]);
  }
  return worst / size;
}

/* A set of kernels: those that serve best, or one kind. */
struct kernels {
  const char *name;
  int (*forward)(real *output, const real *x, const real *weight, const real *bias,
                 const struct conv_geometry *geometry);
  int (*data_gradient)(real *dx, const real *gradient, const real *weight, const real *bias,
                       const struct conv_geometry *geometry);
  int (*weight_gradient)(real *dweight, const real *gradient, const real *x, const struct conv_geometry *geometry);
};

static const struct kernels best = {"", conv_forward, conv_data_gradient, conv_weight_gradient};
static const struct kernels direct = {"direct ", conv_direct_forward, conv_direct_data_gradient,
                                      conv_direct_weight_gradient};
static const struct kernels winograd = {"Winograd ", conv_winograd_forward, conv_winograd_data_gradient,
                                        conv_winograd_weight_gradient};
static const struct kernels channelwise = {"depthwise ", conv_direct_forward, conv_direct_data_gradient,
                                           conv_depthwise_weight_gradient};

/* Inputs, and a bias for each of both directions. */
struct operands {
  real *x, *weight, *bias, *gradient, *input_bias;
};

/* Everything that a set of kernels makes of the same inputs. */
struct results {
  real *output, *dx, *dweight;
};

static struct results new_results(const struct conv_geometry *geometry) {
  return (struct results){filled(output_count(geometry)), filled(input_count(geometry)),
                          filled(weight_count(geometry))};
}

static void release_results(struct results *results) {
  real *buffers[] = {results->output, results->dx, results->dweight};
  for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++) memory_release(buffers[i]);
}

static bool run_kernels(struct results *to, const struct kernels *kernels, const struct operands *in,
                        const struct conv_geometry *geometry) {
  return kernels->forward(to->output, in->x, in->weight, in->bias, geometry) == 0 &&
         kernels->data_gradient(to->dx, in->gradient, in->weight, in->input_bias, geometry) == 0 &&
         kernels->weight_gradient(to->dweight, in->gradient, in->x, geometry) == 0;
}

/* allowed: the largest difference over the largest value, in float. */
static void check_geometry(const struct conv_geometry *geometry, const struct kernels *kernels, double allowed,
                           int number) {
  int64_t inputs = input_count(geometry), count = output_count(geometry), weights = weight_count(geometry);
  const struct operands in = {filled(inputs), filled(weights), filled(geometry->groups * geometry->outputs),
                              filled(count), filled(geometry->groups * geometry->channels)};
  struct results here = new_results(geometry), again = new_results(geometry);
  double *dx = zeros(inputs), *dweight = zeros(weights), *output = zeros(count);

  conv_naive_forward(output, in.x, in.weight, in.bias, geometry);
  conv_naive_gradients(dx, dweight, in.gradient, in.x, in.weight, in.input_bias, geometry);
  if (CHECK_IS_DOUBLE) allowed = 1e-12;
  bool ran = run_kernels(&here, kernels, &in, geometry);
  const struct {
    const char *name;
    double difference;
  } result[] = {{"forward", difference(here.output, output, count)},
                {"gradient of data", difference(here.dx, dx, inputs)},
                {"gradient of weight", difference(here.dweight, dweight, weights)}};
  for (size_t i = 0; i < sizeof result / sizeof result[0]; i++)
    CHECK(ran && result[i].difference <= allowed, "drawn geometry %d: %s%s off by %g", number, kernels->name,
          result[i].name, result[i].difference);

  int threads = parallel_threads();
  parallel_set_threads(threads == 1 ? 3 : 1);
  ran = run_kernels(&again, kernels, &in, geometry);
  parallel_set_threads(threads);
  CHECK(ran && memcmp(here.output, again.output, (size_t)count * sizeof(real)) == 0 &&
            memcmp(here.dx, again.dx, (size_t)inputs * sizeof(real)) == 0 &&
            memcmp(here.dweight, again.dweight, (size_t)weights * sizeof(real)) == 0,
        "drawn geometry %d: %sother bits with another number of threads", number, kernels->name);

  release_results(&here);
  release_results(&again);
  void *buffers[] = {in.x, in.weight, in.bias, in.gradient, in.input_bias, dx, dweight, output};
  for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++) memory_release(buffers[i]);
}

/* Forward is patches times weight: what the factors of conv2d rest on. */
static void patches(void) {
  const struct conv_geometry geometry = {
      .images = 1,
      .groups = 1,
      .channels = 3,
      .outputs = 5,
      .y = {.size = 7, .places = 4, .kernel = 3, .stride = 2, .padding = 1, .dilation = 1},
      .x = {.size = 9, .places = 8, .kernel = 2, .stride = 1, .padding = 1, .dilation = 3}};
  int64_t places = geometry.y.places * geometry.x.places, width = geometry.channels * 6;
  real *x = filled(input_count(&geometry)), *weight = filled(weight_count(&geometry));
  real *rows = filled(places * width), *product = filled(output_count(&geometry));
  double *output = zeros(output_count(&geometry));
  conv_naive_forward(output, x, weight, NULL, &geometry);
  conv_patches(rows, x, &geometry, 0, places / 2);
  conv_patches(rows + places / 2 * width, x, &geometry, places / 2, places - places / 2);
  gemm_naive(false, true, geometry.outputs, places, width, 1, weight, width, rows, width, 0, product, places);
  double off = difference(product, output, output_count(&geometry));
  CHECK(off <= (CHECK_IS_DOUBLE ? 1e-13 : 1e-5), "weight times patches is off by %g", off);
  void *buffers[] = {x, weight, output, rows, product};
  for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++) memory_release(buffers[i]);
}

static double products(const struct conv_geometry *geometry) {
  return (double)output_count(geometry) * (double)geometry->channels *
         (double)(geometry->y.kernel * geometry->x.kernel);
}

/* Kernels of 3×3 and 5×5 with any padding: all that Winograd's filtering takes, gain or not. */
static void square_axis(struct conv_axis *axis, int64_t kernel) {
  axis->kernel = kernel, axis->stride = axis->dilation = 1;
  axis->padding = draw(0, 6);
  axis->places = max(axis->size + 2 * axis->padding - kernel + 1, 0);
}

static void filtering(void) {
  for (int number = 0; number < 120; number++) {
    drawn = (uint64_t)number * 91 + 5;
    struct conv_geometry geometry = draw_geometry();
    int64_t kernel = draw(0, 1) ? 3 : 5;
    square_axis(&geometry.y, kernel);
    square_axis(&geometry.x, kernel);
    if (geometry.y.places < 1 || geometry.x.places < 1 || products(&geometry) > 4e6) continue;
    check_geometry(&geometry, &winograd, 2e-5, number); /* eight points round: transform.h */
    check_geometry(&geometry, &direct, 2e-6, number);
  }
}

static struct conv_axis stride_two(int64_t size, int64_t kernel, int64_t padding, int64_t dilation) {
  struct conv_axis axis = {size, 0, kernel, 2, padding, dilation};
  axis.places = (size + 2 * padding - (kernel - 1) * dilation - 1) / 2 + 1;
  return axis;
}

/* Strides of 2 as residual networks have them, and beside them odd sides, padding that hides whole rows of the kernel,
   groups, dilation. */
static void halving(void) {
  static const int64_t shape[][9] = {
      /* images, groups, channels, outputs, rows, columns, kernel, padding, dilation */
      {3, 1, 16, 32, 32, 32, 3, 1, 1}, {3, 1, 32, 64, 16, 16, 3, 1, 1}, {2, 1, 5, 33, 17, 15, 3, 0, 1},
      {9, 1, 3, 16, 33, 31, 5, 2, 1},  {2, 2, 6, 20, 11, 40, 3, 2, 1},  {2, 3, 4, 7, 16, 9, 1, 0, 1},
      {2, 1, 17, 40, 15, 16, 3, 2, 2}, {1, 1, 8, 24, 5, 6, 3, 4, 1},    {20, 1, 4, 18, 8, 8, 2, 1, 1}};
  for (size_t i = 0; i < sizeof shape / sizeof shape[0]; i++) {
    const int64_t *s = shape[i];
    const struct conv_geometry geometry = {.images = s[0],
                                           .groups = s[1],
                                           .channels = s[2],
                                           .outputs = s[3],
                                           .y = stride_two(s[4], s[6], s[7], s[8]),
                                           .x = stride_two(s[5], s[6], s[7], s[8])};
    check_geometry(&geometry, &direct, 2e-6, (int)i);
  }
}

/* Every channel a group of its own, wider than a vector and narrower. */
static void depthwise(void) {
  static const int64_t shape[][7] = {/* images, channels, rows, columns, kernel, padding, dilation */
                                     {3, 5, 17, 40, 3, 1, 1}, {2, 9, 8, 8, 3, 1, 1},    {4, 3, 9, 33, 5, 2, 2},
                                     {1, 1, 5, 16, 1, 0, 1},  {2, 20, 12, 12, 7, 3, 1}, {2, 4, 3, 4, 3, 3, 1}};
  for (size_t i = 0; i < sizeof shape / sizeof shape[0]; i++)
    for (int64_t stride = 1; stride <= 2; stride++) {
      const int64_t *s = shape[i];
      struct conv_geometry geometry = {.images = s[0], .groups = s[1], .channels = 1, .outputs = 1};
      geometry.y = (struct conv_axis){s[2], 0, s[4], stride, s[5], s[6]};
      geometry.x = (struct conv_axis){s[3], 0, s[4], 1, s[5], s[6]};
      geometry.y.places = (s[2] + 2 * s[5] - (s[4] - 1) * s[6] - 1) / stride + 1;
      geometry.x.places = s[3] + 2 * s[5] - (s[4] - 1) * s[6];
      check_geometry(&geometry, &channelwise, 2e-6, (int)i);
    }
}

void test_conv(void) {
  random_seed(11);
  patches();
  depthwise();
  filtering();
  halving();
  for (int number = 0; number < 150; number++) {
    drawn = (uint64_t)number * 77 + 1;
    struct conv_geometry geometry = draw_geometry();
    if (products(&geometry) < 2e7) check_geometry(&geometry, &best, 2e-5, number);
  }
}
