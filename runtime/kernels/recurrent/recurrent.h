/* Recurrences over sequences on plain arrays: LSTM (Hochreiter and Schmidhuber, 1997; with the forget gate of Gers,
   Schmidhuber and Cummins, 2000) and GRU (Cho et al., 2014, its reset gate after the product as in cuDNN).
   A cell's pre-activations are x, made beforehand for all times, and u = h W + b, of the state before; sequences of a
   batch go by blocks of rows, each through all times, so that threads never wait for each other.
   scan.c   products and times      cell.c   one row of one time: LSTM, GRU */
#ifndef GLS_KERNELS_RECURRENT_H
#define GLS_KERNELS_RECURRENT_H

#include <stdint.h>

#include "../../base/real.h"

/* Of one row, of `width` units: x, u (gates · width), states (states · width, h first), what is kept for the
   derivatives (4 · width). */
struct recurrent_cell {
  int64_t gates, states;
  /* state, kept: from x, u and the state before */
  void (*forward)(real *state, real *kept, const real *x, const real *u, const real *before, int64_t width);
  /* dx; d: on entry ∂L/∂state, on return what of it reaches the state before without the product. */
  void (*backward)(real *dx, real *d, const real *kept, const real *state, const real *before, int64_t width);
  /* du from dx; NULL: they are the same */
  void (*inner)(real *du, const real *dx, const real *kept, int64_t width);
  /* t: on entry the change of the state before, on return that of the state; for changes of x and u. */
  void (*tangent)(real *t, const real *tx, const real *tu, const real *kept, const real *state, const real *before,
                  int64_t width);
};

extern const struct recurrent_cell recurrent_lstm, recurrent_gru;
enum { RECURRENT_KEPT = 4 };

/* All contiguous. NULL where there is none: bias, start (zeros), mask (every step is made). */
struct recurrent_sequence {
  const struct recurrent_cell *cell;
  int64_t batch, times, width;
  const real *weight;  /* width × (gates · width) */
  const real *bias;    /* gates · width */
  const real *start;   /* batch × (states · width) */
  const real *mask;    /* batch × times; 0: the state stays as it is */
  real *states, *kept; /* batch × times × (states · width), × (4 · width) */
};

/* They fail only when there is no memory. */
/* states, kept from x (batch × times × (gates · width)) */
int recurrent_forward(const struct recurrent_sequence *sequence, const real *x);
/* dx, dstart (NULL: not asked for) from gradient, ∂L/∂states */
int recurrent_backward(real *dx, real *dstart, const struct recurrent_sequence *sequence, const real *gradient);
/* result: the change of states; NULL where x, weight, bias, start do not change */
int recurrent_tangent(real *result, const struct recurrent_sequence *sequence, const real *tx, const real *tweight,
                      const real *tbias, const real *tstart);

#endif
