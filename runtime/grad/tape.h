/* The tape: which op made which tensor, and derivatives over it.
   node.c       one recorded call, and the list of those that live
   tape.c       recording                   gradient.c   what backward leaves for a leaf
   backward.c   reverse mode (vjp)          release.c    the end of a training step
   forward.c    forward mode (jvp)          rows.c       a recorded call for some of the batch's rows
   curvature.c  the losses' Hessians        linear.c     a call's derivative as a step of its own
   derive.c     gradients as tensors that can be differentiated again
   anomaly.c    the first number that is not finite
   gradient and tape know node; backward and release know both; forward knows rows; curvature and derive are above. */
#ifndef GLS_GRAD_TAPE_H
#define GLS_GRAD_TAPE_H

#include "curvature.h"
#include "gradient.h"

/* ---- tape.c ---- */
bool tape_enabled(void);
bool tape_set_enabled(bool enabled); /* returns what was */
/* Off: of what is recorded no values are computed, but those of views; they are NaN. Returns what was. */
bool tape_set_values(bool computed);
/* Runs an op and records it when it is enabled and an input leads to a leaf that requires gradient. New
   output, or NULL with message ("add: …"). */
struct tensor *tape_run(const struct op *op, int input_count, struct tensor *const *input,
                        const struct op_value *values);
/* Records output (a fresh tensor) as made from inputs by a script's function; takes over context in every case. */
int tape_record_function(const struct tape_function *function, void *context, int input_count,
                         struct tensor *const *input, struct tensor *output);
/* True when a derivative reaches this tensor. */
bool tape_tracks(const struct tensor *tensor);
/* Off the tape, in forward of a script's function: what is made of tensors that derivatives reach is marked as
   unrecorded. While unrecorded tensors are refused, an op to be recorded that is given one is an error: its part in the
   derivative would be lost. Marks count until the tape is empty at the end of a step: from there on no derivative would
   lead further. */
void tape_mark_unrecorded(bool mark);
bool tape_refuse_unrecorded(bool refuse); /* returns what was */
bool tape_is_unrecorded(const struct tensor *tensor);
void tape_forget_unrecorded(void);              /* all marks so far; nothing in such a forward */
void tape_note_constant(struct tensor *tensor); /* the tensor's, and its storage's for this tensor */
/* Where source is written into tensor, and where output is made of inputs by other means than tape_run. */
void tape_note_write(struct tensor *tensor, const struct tensor *source);
void tape_note_made(struct tensor *output, int input_count, struct tensor *const *input);
/* As note_write, where all of tensor is written on, with source or, where that is NULL, a number: a constant then. */
void tape_note_overwrite(struct tensor *tensor, const struct tensor *source);

/* ---- backward.c ---- */
/* From loss (one element, or with seed: the gradient of its shape) to every leaf. Adds to what is there. */
int tape_backward(struct tensor *loss, struct tensor *seed);

/* ---- derive.c ---- */
/* result[i]: the gradient of the sum of outputs times seeds (of their shapes) by input i, a leaf or a tensor on the
   tape, new; NULL where none of them depends on it. With graph the gradients are on the tape; without values those of
   affine ops' weights are NaN, for who wants their derivatives alone. Leaves' own gradients stay as they are. */
int tape_gradients(int outputs, struct tensor *const *output, struct tensor *const *seed, int inputs,
                   struct tensor *const *input, bool graph, bool values, struct tensor **result);

/* ---- release.c ---- */
/* The end of a training step: takes what they saved from all nodes that backward has reached and from those that were
   computed from them, or from all. Other graphs stay: another optimizer may want them. Tensors that a script still
   holds keep their values, but no gradient passes them any more; gradients that were left as factors are formed.
   While the tape is walked, by a function of a script's that the walk calls: once it has ended. */
void tape_release(bool all);
void tape_walk_begin(void);
void tape_walk_end(void);

#endif
