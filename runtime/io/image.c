/* Image: one PNG or JPEG file to pixels, and grids of pixels to a PNG file, through stb_image and stb_image_write. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../base/integer.h"
#include "../base/memory.h"
#include "io.h"

/* No picture that is accepted needs more; a small file that claims to unpack to gigabytes is refused here. */
enum { DECODER_LIMIT = IMAGE_MAX_SIDE * IMAGE_MAX_SIDE * 4 + (1 << 20) };

/* Cleared, so that no damaged file, whatever the checks before it overlook, shows memory that nobody wrote. */
static void *decoder_allocate(size_t bytes) { return bytes > DECODER_LIMIT ? NULL : calloc(1, bytes); }
static void *decoder_resize(void *block, size_t bytes) { return bytes > DECODER_LIMIT ? NULL : realloc(block, bytes); }

/* stb reads a memory context's callbacks only when it has some; the compiler cannot see that. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#define STBI_MALLOC(bytes) decoder_allocate(bytes)
#define STBI_REALLOC(block, bytes) decoder_resize(block, bytes)
#define STBI_FREE(block) free(block)
#define STBI_ONLY_PNG
#define STBI_ONLY_JPEG
#define STBI_NO_STDIO
#define STB_IMAGE_IMPLEMENTATION
#include <stb/stb_image.h>

#define STBI_WRITE_NO_STDIO
#define STB_IMAGE_WRITE_IMPLEMENTATION
#include <stb/stb_image_write.h>
#pragma GCC diagnostic pop

static const char *decoder_reason(void) {
  const char *reason = stbi_failure_reason();
  return reason ? reason : "unknown format";
}

/* A pixel's colour that the palette has not would be read from memory that nobody wrote: such a file's numbers of
   colours are decoded as if they were shades of grey. */
static int check_palette(const struct png *png, const char *path, const uint8_t *data, size_t bytes) {
  static const int step[] = {[1] = 255, [2] = 85, [4] = 17, [8] = 1}; /* of stb_image's shades of grey */
  uint8_t *copy = memory_acquire(bytes);
  if (!copy) return STATUS_ERROR;
  memcpy(copy, data, bytes);
  copy[png->colour_type] = 0;
  if (png->transparency > 0) memcpy(copy + png->transparency, "tEXt", 4);
  int width = 0, height = 0, channels = 0, status = STATUS_OK;
  stbi_uc *number = stbi_load_from_memory(copy, (int)bytes, &width, &height, &channels, 1);
  memory_release(copy);
  if (!number) return status_error("%s: damaged image, or no memory to decode it", path);
  for (int64_t i = 0; i < (int64_t)width * height && status == STATUS_OK; i++)
    if (number[i] / step[png->depth] >= png->colours)
      status = status_error("%s: damaged PNG image: a pixel has colour %d, the palette has %d", path,
                            number[i] / step[png->depth] + 1, png->colours);
  stbi_image_free(number);
  return status;
}

int image_measure(struct image_size *size, const char *path, const void *data, size_t bytes) {
  int channels = 0;
  if (bytes == 0) return status_error("%s: the file is empty", path);
  bool is_png = png_is(data, bytes);
  struct png png;
  if (is_png) STATUS_TRY(png_check(&png, path, data, bytes));
  if (*(const uint8_t *)data == 0xFF) STATUS_TRY(jpeg_check(path, data, bytes));
  if (bytes > INT32_MAX || !stbi_info_from_memory(data, (int)bytes, &size->width, &size->height, &channels))
    return status_error("%s: not a PNG or JPEG image, or damaged (%s)", path, decoder_reason());
  if (size->width > IMAGE_MAX_SIDE || size->height > IMAGE_MAX_SIDE)
    return status_error("%s: image of %d×%d pixels, expected at most %d×%d", path, size->width, size->height,
                        IMAGE_MAX_SIDE, IMAGE_MAX_SIDE);
  size->channels = channels <= 2 ? 1 : 3;
  return is_png && png_palette_is_short(&png, data) ? check_palette(&png, path, data, bytes) : STATUS_OK;
}

int image_decode(uint8_t *pixels, const struct image_size *size, const char *path, const void *data, size_t bytes) {
  int width = 0, height = 0, channels = 0, wanted = size->channels;
  stbi_uc *decoded = stbi_load_from_memory(data, (int)bytes, &width, &height, &channels, wanted);
  if (!decoded && png_is(data, bytes)) return status_error("%s: damaged image, or no memory to decode it", path);
  if (!decoded) return status_error("%s: damaged image (%s)", path, decoder_reason());
  int status = STATUS_OK;
  if (width != size->width || height != size->height) {
    status = status_error("%s: image of %d×%d pixels, expected %d×%d", path, width, height, size->width, size->height);
  } else {
    int64_t plane = (int64_t)width * height;
    for (int c = 0; c < wanted; c++)
      for (int64_t i = 0; i < plane; i++) pixels[c * plane + i] = decoded[i * wanted + c];
  }
  stbi_image_free(decoded);
  return status;
}

struct tensor *image_read(const char *path) {
  void *data;
  size_t bytes;
  if (file_read_all(&data, &bytes, path, DECODER_LIMIT) != STATUS_OK) return NULL;
  struct image_size size;
  struct tensor *tensor = NULL;
  if (image_measure(&size, path, data, bytes) == STATUS_OK) {
    struct shape shape = shape_of(3, (int64_t)size.channels, (int64_t)size.height, (int64_t)size.width);
    tensor = tensor_new(TYPE_UINT8, &shape);
    if (tensor && image_decode(tensor_uint8(tensor), &size, path, data, bytes) != STATUS_OK) {
      tensor_release(tensor);
      tensor = NULL;
    }
  }
  memory_release(data);
  return tensor;
}

/* ---- out ---- */

struct sink {
  struct file_writer *writer;
  int status;
};

static void sink_write(void *context, void *data, int bytes) {
  struct sink *sink = context;
  if (sink->status == STATUS_OK) sink->status = file_write(sink->writer, data, (size_t)bytes);
}

static int pixel_of(uint8_t *pixel, const struct tensor *images, int64_t i) {
  if (images->type == TYPE_UINT8) {
    *pixel = tensor_uint8(images)[i];
    return STATUS_OK;
  }
  real value = tensor_real(images)[i];
  if (isnan(value)) return STATUS_ERROR;
  *pixel = value <= 0 ? 0 : value >= 1 ? 255 : (uint8_t)lround((double)value * 255);
  return STATUS_OK;
}

/* Rows × columns cells of contiguous images (N, C, H, W) into canvas (height, width, C). */
static int image_lay_out(uint8_t *canvas, const struct tensor *images, const struct image_size *cell, int64_t count,
                         int64_t columns, int64_t gap, int64_t width) {
  for (int64_t n = 0; n < count; n++) {
    int64_t top = (n / columns) * (cell->height + gap), left = (n % columns) * (cell->width + gap);
    for (int c = 0; c < cell->channels; c++)
      for (int y = 0; y < cell->height; y++)
        for (int x = 0; x < cell->width; x++) {
          int64_t from = ((n * cell->channels + c) * cell->height + y) * cell->width + x;
          int64_t to = ((top + y) * width + left + x) * cell->channels + c;
          if (pixel_of(&canvas[to], images, from) != STATUS_OK)
            return status_error("image %lld holds NaN at channel %d, row %d, column %d", (long long)n + 1, c + 1, y + 1,
                                x + 1);
        }
  }
  return STATUS_OK;
}

static int image_write_canvas(const char *path, const uint8_t *canvas, int64_t height, int64_t width, int channels) {
  struct file_writer writer;
  STATUS_TRY(file_create(&writer, path));
  struct sink sink = {&writer, STATUS_OK};
  int written =
      stbi_write_png_to_func(sink_write, &sink, (int)width, (int)height, channels, canvas, (int)width * channels);
  if (sink.status == STATUS_OK && !written) sink.status = status_error("%s: no memory to encode the image", path);
  if (sink.status == STATUS_OK) return file_commit(&writer);
  file_abandon(&writer);
  return STATUS_ERROR;
}

int image_write(const char *path, const struct tensor *images, int64_t columns, int64_t gap) {
  const struct shape *shape = &images->shape;
  int rank = shape->rank;
  int64_t count = rank == 4 ? shape->size[0] : 1, channels = rank >= 3 ? shape->size[rank - 3] : 1;
  if (rank < 2 || rank > 4 || (channels != 1 && channels != 3))
    return status_error("%s: images of shape %s, expected (H, W), (C, H, W) or (N, C, H, W) with C 1 or 3", path,
                        shape_text(shape));
  if (images->type == TYPE_INT32) return status_error("%s: images of int32, expected uint8 or reals in [0, 1]", path);
  if (tensor_count(images) == 0) return status_error("%s: no pixels in images of shape %s", path, shape_text(shape));
  if (columns < 0 || gap < 0) return status_error("%s: columns and gap are not negative", path);
  if (columns == 0)
    while (columns * columns < count) columns++;
  if (columns > count) columns = count;
  int64_t rows = ceil_div(count, columns);
  if (shape->size[rank - 2] > IMAGE_MAX_SIDE || shape->size[rank - 1] > IMAGE_MAX_SIDE || gap > IMAGE_MAX_SIDE)
    return status_error("%s: images of shape %s and a gap of %lld: sides are at most %d", path, shape_text(shape),
                        (long long)gap, IMAGE_MAX_SIDE);
  struct image_size cell = {(int)channels, (int)shape->size[rank - 2], (int)shape->size[rank - 1]};
  int64_t height = rows * (cell.height + gap) - gap, width = columns * (cell.width + gap) - gap;
  if (height > 4 * IMAGE_MAX_SIDE || width > 4 * IMAGE_MAX_SIDE)
    return status_error("%s: a grid of %lld×%lld pixels, expected at most %d×%d", path, (long long)width,
                        (long long)height, 4 * IMAGE_MAX_SIDE, 4 * IMAGE_MAX_SIDE);
  if ((width * channels + 1) * height > INT32_MAX)
    return status_error("%s: a grid of %lld×%lld pixels is more than a PNG of 2 GB", path, (long long)width,
                        (long long)height);

  uint8_t *canvas = memory_acquire((size_t)(height * width * channels));
  struct tensor *contiguous =
      canvas ? (tensor_is_contiguous(images) ? tensor_alias(images) : tensor_copy(images)) : NULL;
  int status = STATUS_ERROR;
  if (contiguous) {
    memset(canvas, 255, (size_t)(height * width * channels));
    status = image_lay_out(canvas, contiguous, &cell, count, columns, gap, width);
    if (status != STATUS_OK) status_prefix("%s", path);
  }
  if (status == STATUS_OK) status = image_write_canvas(path, canvas, height, width, cell.channels);
  tensor_release(contiguous);
  if (canvas) memory_release(canvas);
  return status;
}
