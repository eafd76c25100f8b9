/* Tiles: what the users of x86's matrix unit (AMX, bf16) share. A tile is 16 lines of 16 pairs of bf16; pair p joins
   k = p and k = p + 16, on both sides. Left: a line is a row, its pairs run along k. Right: a line is a pair of k, and
   runs along the columns. */
#ifndef GLS_KERNELS_TILES_H
#define GLS_KERNELS_TILES_H

#if defined(__x86_64__) && !defined(GLS_DOUBLE)
#define HAS_TILES

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,amx-tile,amx-bf16")))

enum {
  SIDE = 16,  /* rows and columns of a tile of results */
  BLOCK = 32, /* rows and columns that one call of a kernel makes: 2 × 2 tiles */
  STEP = 32,  /* of k */
  TILE_BYTES = 1024
};

/* As the processor wants it: all eight tile registers of 16 lines of 64 bytes. */
TARGET static inline void tiles_configure(void) {
  struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t line_bytes[16];
    uint8_t lines[16];
  } layout;
  memset(&layout, 0, sizeof layout);
  layout.palette = 1;
  for (int i = 0; i < 8; i++) {
    layout.line_bytes[i] = 64;
    layout.lines[i] = SIDE;
  }
  __asm__ volatile("" : : "r"(&layout) : "memory"); /* all of it is written: the intrinsic names 8 bytes of it */
  _tile_loadconfig(&layout);
}

TARGET static inline void tiles_release(void) { _tile_release(); }

/* The first count of 16 lanes. */
static inline __mmask16 lanes(int64_t count) {
  return count >= 16 ? 0xffff : count <= 0 ? 0 : (__mmask16)((1u << count) - 1);
}

/* out (16×16) = inᵀ; in has rows × columns, zeros beyond */
TARGET static inline void transpose(float out[16][16], const float *in, int64_t stride, int64_t rows, int64_t columns) {
  __m512 r[16], t[16];
  for (int i = 0; i < 16; i++)
    r[i] = i < rows ? _mm512_maskz_loadu_ps(lanes(columns), in + i * stride) : _mm512_setzero_ps();
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    __m512d a = _mm512_castps_pd(t[i]), b = _mm512_castps_pd(t[i + 1]);
    __m512d c = _mm512_castps_pd(t[i + 2]), d = _mm512_castps_pd(t[i + 3]);
    r[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
    r[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
    r[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
    r[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
  }
  enum { EVEN = 0x88, ODD = 0xdd }; /* quarters */
  for (int i = 0; i < 4; i++) {
    t[i] = _mm512_shuffle_f32x4(r[i], r[i + 4], EVEN);
    t[i + 4] = _mm512_shuffle_f32x4(r[i], r[i + 4], ODD);
    t[i + 8] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], EVEN);
    t[i + 12] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], ODD);
  }
  for (int i = 0; i < 8; i++) {
    _mm512_store_ps(out[i], _mm512_shuffle_f32x4(t[i], t[i + 8], EVEN));
    _mm512_store_ps(out[i + 8], _mm512_shuffle_f32x4(t[i], t[i + 8], ODD));
  }
}

#endif
#endif
