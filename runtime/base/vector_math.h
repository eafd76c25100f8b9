/* Elementary functions that vectorise: exp, log, tanh, … (of <tgmath.h>: they follow the type of real). glibc has
   vector forms of them (libmvec, within 4 units in the last place, infinities and NaN as the scalar ones), but its
   headers declare these only under -ffast-math, which we do not use. Loops under `#pragma omp simd` call them.

   Where a call for every register is too slow there are vector_exp, vector_tanh and vector_erf, which the compiler
   puts into the loop: in float within 1.5 (exp), 2.5 (tanh) and 3.5 (erf) units in the last place; in double they are
   the functions above. */
#ifndef GLS_BASE_VECTOR_MATH_H
#define GLS_BASE_VECTOR_MATH_H

#include <math.h>
#include <stdint.h>

#if defined __x86_64__ && defined __GLIBC__ && __GLIBC_PREREQ(2, 35)
#define VECTOR_FORM __attribute__((__simd__("notinbranch")))
VECTOR_FORM float expf(float x);
VECTOR_FORM double exp(double x);
VECTOR_FORM float expm1f(float x);
VECTOR_FORM double expm1(double x);
VECTOR_FORM float logf(float x);
VECTOR_FORM double log(double x);
VECTOR_FORM float log1pf(float x);
VECTOR_FORM double log1p(double x);
VECTOR_FORM float powf(float x, float y);
VECTOR_FORM double pow(double x, double y);
VECTOR_FORM float sinf(float x);
VECTOR_FORM double sin(double x);
VECTOR_FORM float cosf(float x);
VECTOR_FORM double cos(double x);
VECTOR_FORM float tanhf(float x);
VECTOR_FORM double tanh(double x);
VECTOR_FORM float erff(float x);
VECTOR_FORM double erf(double x);
#undef VECTOR_FORM
#endif

#include <string.h>
#include <tgmath.h>

#include "real.h"

#ifdef GLS_DOUBLE

static inline double vector_exp(double x) { return exp(x); }
static inline double vector_tanh(double x) { return tanh(x); }
static inline double vector_erf(double x) { return erf(x); }

#else

static inline float vector_multiply_add(float a, float b, float c) {
#ifdef __FMA__
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}

/* eʳ - 1 = r + r² q(r) for |r| <= log(2)/2, with q the polynomial of least largest error there. */
static inline float vector_expm1_near(float r) {
  float q = vector_multiply_add(r, 0.0013943222584202886f, 0.00836438313126564f);
  q = vector_multiply_add(q, r, 0.04166635125875473f);
  q = vector_multiply_add(q, r, 0.1666657030582428f);
  q = vector_multiply_add(q, r, 0.5f);
  return vector_multiply_add(r * r, q, r);
}

/* n, the integer next to x / log(2), for eˣ = 2ⁿ eʳ, and *power = 2ⁿ⁺ᵇ⁻¹²⁷. Adding 1.5 · 2²³ + b rounds to n and leaves
   n + b in the low bits, from where it is moved to the exponent's place. */
static inline float vector_exponent(float x, float b, float *power) {
  float round = 12582912 + b;
  float shifted = vector_multiply_add(x, 1.44269504f, round);
  uint32_t bits;
  memcpy(&bits, &shifted, sizeof bits);
  bits <<= 23;
  memcpy(power, &bits, sizeof bits);
  return shifted - round;
}

/* By 2ⁿ⁻¹, as the largest results need 2¹²⁸, which is no float. Above the range infinite, below 2⁻¹²⁵ it is 0. */
static inline float vector_exp(float x) {
  float power, n = vector_exponent(x, 126, &power);
  float r = vector_multiply_add(n, -0.693359375f, x); /* log(2) in two parts; the first leaves no rounding */
  float rest = vector_expm1_near(vector_multiply_add(n, 2.12194440e-4f, r));
  float half = vector_multiply_add(rest, power, power), value = half + half;
  value = x > 88.7228394f ? INFINITY : value;
  return x < -86.6433945f ? 0 : value;
}

/* eˣ - 1, exact near 0, for -80 < x < 80; within 2e-9 n eˣ from rounding log(2), which tanh and erf do not see. */
static inline float vector_expm1_within(float x) {
  float power, n = vector_exponent(x, 127, &power);
  float rest = vector_expm1_near(vector_multiply_add(n, -0.69314718f, x));
  return vector_multiply_add(rest, power, power - 1);
}

/* The less of |x| and limit; NaN stays. Done on the bits, which order as integers: comparisons of floats would take
   turns with the multiplications. Adding 2²³ - 1 makes NaN, alone, negative, and so the least. */
static inline float vector_size_within(float x, float limit) {
  const uint32_t shift = 0x7fffff;
  uint32_t bits, most;
  memcpy(&bits, &x, sizeof bits);
  memcpy(&most, &limit, sizeof most);
  int32_t shifted = (int32_t)((bits & 0x7fffffff) + shift), end = (int32_t)(most + shift);
  bits = (uint32_t)(shifted < end ? shifted : end) - shift;
  memcpy(&x, &bits, sizeof x);
  return x;
}

/* m / (m + 2), m = e^2|x| - 1; from 10 on it is 1. */
static inline float vector_tanh(float x) {
  float within = vector_size_within(x, 10), m = vector_expm1_within(within + within);
  return copysignf(m / (m + 2), x);
}

/* 1 - e^(|x| q(|x|)), q the polynomial of least largest error in the result; from 4 on it is 1. */
static inline float vector_erf(float x) {
  float within = vector_size_within(x, 4);
  float q = vector_multiply_add(within, 9.263952051696833e-06f, -0.00011771418940043077f);
  q = vector_multiply_add(q, within, 0.0006331141339614987f);
  q = vector_multiply_add(q, within, -0.0016675710212439299f);
  q = vector_multiply_add(q, within, 0.0001609848259249702f);
  q = vector_multiply_add(q, within, 0.01915271393954754f);
  q = vector_multiply_add(q, within, -0.10277772694826126f);
  q = vector_multiply_add(q, within, -0.6366193890571594f);
  q = vector_multiply_add(q, within, -1.128379225730896f);
  return copysignf(vector_expm1_within(q * within), x);
}

#endif

#endif
