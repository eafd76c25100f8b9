/* The tape: which op made which tensor, and derivatives over it.
   tape.c      recording, release          backward.c  reverse mode (vjp)
   forward.c   forward mode (jvp) over the same nodes    factors.c  gradients of leaves as factors

   A node is one recorded call. Tensors own the node that made them, nodes own the nodes of their inputs,
   so an unused graph goes when its last tensor goes; and every live node is on one list, so that the end
   of a training step releases all of them at once (tape_release) without waiting for any collector. */
#ifndef GLS_GRAD_TAPE_H
#define GLS_GRAD_TAPE_H

#include "../ops/op.h"

struct node {
  int references;
  uint64_t sequence;        /* rises with time: inputs before outputs */
  bool released;            /* tape_release has taken what it saved */
  struct op_call call;      /* inputs: leaves themselves; of other tensors an alias, or only their shape */
  struct node **input_node; /* owned; NULL where the input is a leaf or a constant */
  uint32_t *input_version;  /* of the storage, when it was saved */
  uint32_t output_version;
  struct tensor *gradient;      /* ∂L/∂output, after a backward pass that reached this node */
  struct tensor *tangent;       /* scratch of forward.c */
  struct node *previous, *next; /* list of live nodes, oldest first */
};

/* What backward leaves for a leaf. Affine ops leave their node and ∂L/∂Z; the product Aᵀ G is formed when
   somebody asks for it. */
struct factor {
  struct node *node;       /* owned */
  struct tensor *gradient; /* ∂L/∂(output of node), owned */
  int input;               /* 1: this leaf is the weight, 2: the bias */
};
struct gradient {
  struct tensor *dense; /* sum of what came without factors; may be NULL */
  struct factor *factor;
  int factor_count, factor_capacity;
};

/* ---- tape.c ---- */
bool tape_enabled(void);
bool tape_set_enabled(bool enabled); /* returns what was */
/* Runs an op and records it when it is enabled and an input leads to a leaf that requires gradient. New
   output, or NULL with message ("add: …"). */
struct tensor *tape_run(const struct op *op, int input_count, struct tensor *const *input,
                        const struct op_value *values);
/* True when a derivative reaches this tensor. */
bool tape_tracks(const struct tensor *tensor);
/* The end of a training step: takes from all live nodes what they saved. Tensors that a script still
   holds keep their values and count as constants from now on. */
void tape_release(void);
int tape_node_count(void);
struct node *node_retain(struct node *node);
void node_release(struct node *node);
void gradient_release(struct gradient *gradient);
/* Live nodes, oldest first. */
struct node *tape_first(void);

/* A differentiable function written by a script: gls.fn. */
struct tape_function {
  /* backward(context, gradient) gives a new gradient for each needed input. */
  int (*backward)(void *context, struct tensor *gradient, const bool *needed, struct tensor **result);
  int (*jvp)(void *context, struct tensor *const *tangent, struct tensor **result); /* may be NULL */
  void (*release)(void *context);
};
/* Records output (a fresh tensor) as made from inputs by the function; takes over context in every case. */
int tape_record_function(const struct tape_function *function, void *context, int input_count,
                         struct tensor *const *input, struct tensor *output);

/* ---- backward.c ---- */
/* From loss (one element, or with seed: the gradient of its shape) to every leaf. Adds to what is there. */
int tape_backward(struct tensor *loss, struct tensor *seed);

/* ---- factors.c ---- */
/* The dense gradient of a leaf: sum over its factors, and dense; *result NULL when there is none. The result
   is kept as the leaf's dense gradient (the factors stay for GLS). */
int gradient_dense(struct tensor *leaf, struct tensor **result);
/* Forgets a leaf's gradient. */
void gradient_clear(struct tensor *leaf);

/* ---- forward.c ---- */
/* Tangents in, tangent out: change of output (on the tape) when leaf[i] changes by tangent[i]. */
int tape_jvp(struct tensor *output, int count, struct tensor *const *leaf, struct tensor *const *tangent,
             struct tensor **result);

#endif
