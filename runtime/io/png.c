/* Png: whether a file is whole, for stb_image looks at no checksum, nor for the end, nor whether a pixel's colour is in
   the palette. Source: ISO/IEC 15948:2003 (PNG, second edition), sections 5 (chunks), 11.2 and 11.3. */
#include <inttypes.h>
#include <string.h>

#include "io.h"

/* deflate makes no more than 1032 bytes of one. */
enum { MAX_EXPANSION = 1032, CHUNK_FRAME = 12, HEADER_LENGTH = 13, PALETTE_COLOURS = 3, COLOUR_TYPES = 7 };

static const uint8_t png_signature[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};

bool png_is(const uint8_t *data, size_t bytes) {
  return bytes >= sizeof png_signature && memcmp(data, png_signature, sizeof png_signature) == 0;
}

static uint32_t big32(const uint8_t *at) {
  return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static int damaged(const char *path, const char *what) { return status_error("%s: damaged PNG image: %s", path, what); }

int png_check(struct png *png, const char *path, const uint8_t *data, size_t bytes) {
  static const int samples[COLOUR_TYPES] = {[0] = 1, [2] = 3, [PALETTE_COLOURS] = 1, [4] = 2, [6] = 4};
  const uint8_t *at = data + sizeof png_signature, *end = data + bytes;
  uint64_t coded = 0;
  uint32_t height = 0;
  uint64_t row = 0;
  *png = (struct png){0};
  for (bool first = true;; first = false) {
    if (end - at < CHUNK_FRAME) return damaged(path, "its end is missing");
    uint32_t length = big32(at);
    if (length > (size_t)(end - at) - CHUNK_FRAME) return damaged(path, "its end is missing");
    const uint8_t *type = at + 4, *content = at + 8;
    if (file_checksum(0, type, 4 + (size_t)length) != big32(content + length))
      return damaged(path, "a checksum does not fit");
    if (first) {
      if (memcmp(type, "IHDR", 4) != 0 || length != HEADER_LENGTH || content[9] >= COLOUR_TYPES || !samples[content[9]])
        return damaged(path, "it does not begin with its header");
      height = big32(content + 4);
      png->depth = content[8];
      png->colour_type = content + 9 - data;
      row = ((uint64_t)big32(content) * (uint64_t)(samples[content[9]] * content[8]) + 7) / 8;
    } else if (memcmp(type, "IDAT", 4) == 0) {
      coded += length;
    } else if (memcmp(type, "PLTE", 4) == 0) {
      png->colours = (int)(length / 3);
    } else if (memcmp(type, "tRNS", 4) == 0) {
      png->transparency = type - data;
    } else if (memcmp(type, "IEND", 4) == 0) {
      break;
    }
    at = content + length + 4;
  }
  /* A filter's number before every row of bytes. */
  if (row > UINT32_MAX || coded * MAX_EXPANSION < height * (row + 1))
    return damaged(path, "its data cannot hold as many pixels as its header says");
  return STATUS_OK;
}

bool png_palette_is_short(const struct png *png, const uint8_t *data) {
  return data[png->colour_type] == PALETTE_COLOURS && png->colours < 1 << png->depth;
}
