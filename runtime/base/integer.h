/* Integer: what counts and sizes need everywhere. */
#ifndef GLS_BASE_INTEGER_H
#define GLS_BASE_INTEGER_H

#include <stdint.h>

static inline int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max(int64_t a, int64_t b) { return a < b ? b : a; }

/* value / unit, and value to the next multiple of unit, upwards; unit > 0, value ≥ 0. */
static inline int64_t ceil_div(int64_t value, int64_t unit) { return (value + unit - 1) / unit; }
static inline int64_t round_up(int64_t value, int64_t unit) { return ceil_div(value, unit) * unit; }

#endif
