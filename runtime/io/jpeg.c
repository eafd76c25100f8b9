/* Jpeg: whether a file says all that its decoder reads, for stb_image believes it and would read memory that nobody
   wrote. Marker segments in order, tables before the scans that use them, all coefficients of all components, as many
   restart markers as there are restart intervals, and no more blocks than the coded bytes can hold.
   Source: ITU-T T.81 (1992): B.1.1 markers, B.2.2 frame header, B.2.3 scan header, B.2.4 tables, A.2 order of blocks,
   G.1.1 progressive scans. */
#include <inttypes.h>
#include <string.h>

#include "io.h"

enum {
  FRAME_BASELINE = 0xC0,
  FRAME_PROGRESSIVE = 0xC2,
  HUFFMAN_TABLES = 0xC4,
  RESTART_FIRST = 0xD0,
  RESTART_LAST = 0xD7,
  IMAGE_START = 0xD8,
  IMAGE_END = 0xD9,
  SCAN = 0xDA,
  QUANTISATION_TABLES = 0xDB,
  RESTART_INTERVAL = 0xDD,
  TABLES = 4,
  COMPONENTS = 4,
  COEFFICIENTS = 64,
  CODE_LENGTHS = 16,
  CODES = 256,
  NOT_SENT = -1
};

struct component {
  int id, across, down, table;       /* sampling factors H and V, quantisation table */
  int8_t missing_bits[COEFFICIENTS]; /* of each coefficient: those that later scans refine (Al), or NOT_SENT */
};

struct jpeg {
  const char *path;
  const uint8_t *at, *end;
  int shortest_code[2][TABLES]; /* of the DC and the AC tables, in bits; 0: not defined */
  bool quantisation[TABLES];
  bool progressive;
  int64_t interval, width, height; /* of restarts, in units of a scan (0: none); in pixels */
  int count, across, down;         /* components (0: no frame yet); the largest of their sampling factors */
  struct component component[COMPONENTS];
};

static int damaged(const struct jpeg *jpeg, const char *what) {
  return status_error("%s: damaged JPEG image: %s", jpeg->path, what);
}

static int define_huffman(struct jpeg *jpeg, const uint8_t *at, const uint8_t *end) {
  while (at < end) {
    if (end - at < 1 + CODE_LENGTHS || *at >> 4 > 1 || (*at & 15) >= TABLES)
      return damaged(jpeg, "a Huffman table that is none");
    int codes = 0, shortest = 0;
    for (int bits = 1; bits <= CODE_LENGTHS; bits++) {
      if (at[bits] > 0 && shortest == 0) shortest = bits;
      codes += at[bits];
    }
    if (codes > CODES) return damaged(jpeg, "a Huffman table of more than 256 codes");
    if (codes > end - at - 1 - CODE_LENGTHS) return damaged(jpeg, "a Huffman table that is cut short");
    jpeg->shortest_code[*at >> 4][*at & 15] = shortest;
    at += 1 + CODE_LENGTHS + codes;
  }
  return STATUS_OK;
}

static int define_quantisation(struct jpeg *jpeg, const uint8_t *at, const uint8_t *end) {
  while (at < end) {
    int bytes = 1 + COEFFICIENTS * (1 + (*at >> 4));
    if (*at >> 4 > 1 || (*at & 15) >= TABLES || bytes > end - at)
      return damaged(jpeg, "a quantisation table that is none, or cut short");
    jpeg->quantisation[*at & 15] = true;
    at += bytes;
  }
  return STATUS_OK;
}

static int begin_frame(struct jpeg *jpeg, const uint8_t *at, const uint8_t *end) {
  if (jpeg->count > 0) return damaged(jpeg, "a second frame");
  if (end - at < 6 || at[5] < 1 || at[5] > COMPONENTS || end - at != 6 + 3 * at[5])
    return damaged(jpeg, "a frame header that is none");
  jpeg->height = at[1] << 8 | at[2];
  jpeg->width = at[3] << 8 | at[4];
  jpeg->count = at[5];
  for (int i = 0; i < jpeg->count; i++) {
    struct component *component = &jpeg->component[i];
    const uint8_t *entry = at + 6 + 3 * i;
    component->id = entry[0];
    component->across = entry[1] >> 4;
    component->down = entry[1] & 15;
    component->table = entry[2];
    if (component->across < 1 || component->across > 4 || component->down < 1 || component->down > 4 ||
        component->table >= TABLES)
      return damaged(jpeg, "a frame header that is none");
    if (component->across > jpeg->across) jpeg->across = component->across;
    if (component->down > jpeg->down) jpeg->down = component->down;
    memset(component->missing_bits, NOT_SENT, sizeof component->missing_bits);
  }
  return STATUS_OK;
}

/* ---- scans ---- */

struct scan {
  int count, first, last, high, low; /* components; coefficients Ss to Se; bits Ah and Al */
  int64_t units, bits;               /* MCUs; fewer bits than this do not hold it */
};

/* Coefficients first to last of one component, of which bit `low` and those above it are known after the scan. */
static int send_coefficients(const struct jpeg *jpeg, struct component *component, const struct scan *scan) {
  if (scan->first > 0 && component->missing_bits[0] == NOT_SENT)
    return damaged(jpeg, "a scan of AC coefficients before the first one of DC coefficients");
  for (int i = scan->first; i <= scan->last; i++) {
    bool begun = component->missing_bits[i] != NOT_SENT;
    if (scan->high > 0 ? component->missing_bits[i] != scan->high || scan->low != scan->high - 1 : begun)
      return damaged(jpeg, "a scan is missing, or there twice");
    component->missing_bits[i] = (int8_t)scan->low;
  }
  return STATUS_OK;
}

/* Size of a dimension in blocks when the component is alone in its scan. */
static int64_t blocks(int64_t pixels, int factor, int largest) {
  int64_t own = (pixels * factor + largest - 1) / largest;
  return (own + 7) / 8;
}

static int scan_component(struct jpeg *jpeg, struct scan *scan, int id, int tables) {
  struct component *component = jpeg->component, *end = component + jpeg->count;
  while (component < end && component->id != id) component++;
  if (component == end) return damaged(jpeg, "a scan of a component that the frame has not");
  if (!jpeg->quantisation[component->table])
    return status_error("%s: damaged JPEG image: quantisation table %d is not defined before the scan that uses it",
                        jpeg->path, component->table);
  int64_t shortest = 0;
  for (int ac = 0; ac <= 1; ac++) {
    int table = ac ? tables & 15 : tables >> 4;
    if (ac ? scan->last == 0 : scan->first > 0) continue; /* a progressive scan has one kind */
    if (!ac && scan->high > 0) {
      shortest = 1; /* refinement of DC coefficients: one bit each, without a table */
      continue;
    }
    if (table >= TABLES || jpeg->shortest_code[ac][table] == 0)
      return status_error("%s: damaged JPEG image: Huffman table %d (%s) is not defined before the scan that uses it",
                          jpeg->path, table, ac ? "AC" : "DC");
    /* In a progressive scan of AC coefficients one code may stand for many blocks (G.1.2.2). */
    if (!ac || !jpeg->progressive) shortest += jpeg->shortest_code[ac][table];
  }
  int64_t each = (int64_t)component->across * component->down;
  if (scan->count == 1) {
    scan->units =
        blocks(jpeg->width, component->across, jpeg->across) * blocks(jpeg->height, component->down, jpeg->down);
    each = 1;
  }
  scan->bits += scan->units * each * shortest;
  return send_coefficients(jpeg, component, scan);
}

/* The coded bytes after a scan's header, up to the next marker that is no restart. */
static int skip_coded_bytes(struct jpeg *jpeg, const struct scan *scan) {
  const uint8_t *start = jpeg->at;
  int64_t restarts = 0, expected = jpeg->interval > 0 ? (scan->units - 1) / jpeg->interval : 0;
  for (; jpeg->end - jpeg->at >= 2; jpeg->at++) {
    if (jpeg->at[0] != 0xFF || jpeg->at[1] == 0xFF || jpeg->at[1] == 0) continue;
    if (jpeg->at[1] < RESTART_FIRST || jpeg->at[1] > RESTART_LAST) break;
    restarts++;
  }
  if (restarts != expected)
    return status_error("%s: damaged JPEG image: %" PRId64 " restart markers in a scan, expected %" PRId64, jpeg->path,
                        restarts, expected);
  if (scan->bits > 8 * (jpeg->at - start))
    return status_error("%s: damaged JPEG image: %td coded bytes for %" PRId64 "×%" PRId64
                        " pixels, which take at least %" PRId64,
                        jpeg->path, jpeg->at - start, jpeg->width, jpeg->height, (scan->bits + 7) / 8);
  return STATUS_OK;
}

static int read_scan(struct jpeg *jpeg, const uint8_t *at, const uint8_t *end) {
  if (jpeg->count == 0) return damaged(jpeg, "a scan before the frame header");
  if (end - at < 1 || at[0] < 1 || at[0] > jpeg->count || end - at != 4 + 2 * at[0])
    return damaged(jpeg, "a scan header that is none");
  const uint8_t *tail = at + 1 + 2 * at[0];
  struct scan scan = {.count = at[0], .first = tail[0], .last = tail[1], .high = tail[2] >> 4, .low = tail[2] & 15};
  if (!jpeg->progressive) scan.last = COEFFICIENTS - 1; /* some writers leave it 0 */
  bool good = jpeg->progressive ? scan.first <= scan.last && scan.last < COEFFICIENTS &&
                                      (scan.first == 0 ? scan.last == 0 : scan.count == 1)
                                : scan.first == 0 && tail[2] == 0;
  if (!good) return damaged(jpeg, "a scan header that is none");
  scan.units = blocks(jpeg->width, 1, jpeg->across) * blocks(jpeg->height, 1, jpeg->down);
  for (int i = 0; i < scan.count; i++) STATUS_TRY(scan_component(jpeg, &scan, at[1 + 2 * i], at[2 + 2 * i]));
  return skip_coded_bytes(jpeg, &scan);
}

/* ---- the file ---- */

static int check_end(const struct jpeg *jpeg) {
  if (jpeg->count == 0) return damaged(jpeg, "it has no frame header");
  for (int i = 0; i < jpeg->count; i++)
    for (int k = 0; k < COEFFICIENTS; k++)
      if (jpeg->component[i].missing_bits[k] != 0)
        return status_error("%s: damaged JPEG image: a scan of component %d of %d is missing", jpeg->path, i + 1,
                            jpeg->count);
  return STATUS_OK;
}

int jpeg_check(const char *path, const uint8_t *data, size_t bytes) {
  struct jpeg jpeg = {.path = path, .at = data, .end = data + bytes};
  if (bytes < 2 || data[0] != 0xFF || data[1] != IMAGE_START) return damaged(&jpeg, "it does not begin as one");
  jpeg.at += 2;
  for (;;) {
    while (jpeg.count == 0 && jpeg.at < jpeg.end && *jpeg.at != 0xFF) jpeg.at++; /* padding that some writers leave */
    while (jpeg.end - jpeg.at >= 2 && jpeg.at[0] == 0xFF && jpeg.at[1] == 0xFF) jpeg.at++;
    if (jpeg.end - jpeg.at < 2) return damaged(&jpeg, "its end is missing");
    if (jpeg.at[0] != 0xFF) return damaged(&jpeg, "bytes between its segments");
    int marker = jpeg.at[1];
    if (marker == IMAGE_END) return check_end(&jpeg);
    int64_t length = jpeg.end - jpeg.at < 4 ? 0 : jpeg.at[2] << 8 | jpeg.at[3];
    if (length < 2 || length > jpeg.end - jpeg.at - 2) return damaged(&jpeg, "a segment that is cut short");
    const uint8_t *segment = jpeg.at + 4, *end = jpeg.at + 2 + length;
    jpeg.at = end;
    if (marker == HUFFMAN_TABLES) STATUS_TRY(define_huffman(&jpeg, segment, end));
    if (marker == QUANTISATION_TABLES) STATUS_TRY(define_quantisation(&jpeg, segment, end));
    if (marker == RESTART_INTERVAL) {
      if (length != 4) return damaged(&jpeg, "a restart interval that is none");
      jpeg.interval = segment[0] << 8 | segment[1];
    }
    if (marker >= FRAME_BASELINE && marker <= FRAME_PROGRESSIVE) { /* others are refused by stb_image */
      jpeg.progressive = marker == FRAME_PROGRESSIVE;
      STATUS_TRY(begin_frame(&jpeg, segment, end));
    }
    if (marker == SCAN) STATUS_TRY(read_scan(&jpeg, segment, end));
  }
}
