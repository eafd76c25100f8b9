/* Elementary functions that vectorise: exp, log, tanh, … (of <tgmath.h>: they follow the type of real). glibc has vector
   forms of them (libmvec, within 4 units in the last place, infinities and NaN as the scalar ones), but its headers
   declare these only under -ffast-math, which we do not use. Loops under `#pragma omp simd` call them. */
#ifndef GLS_BASE_VECTOR_MATH_H
#define GLS_BASE_VECTOR_MATH_H

#include <math.h>

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

#include <tgmath.h>

#endif
