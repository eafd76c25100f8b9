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
  struct tensor *gradient; /* ∂L/∂output, while a backward pass is under way */
  real loss_weight;        /* of a loss node (hessian_product): sum of ∂L/∂output over backward passes */
  const struct tape_function *function; /* of a node that a script wrote, with its context */
  void *context;
  struct tensor *tangent;       /* scratch of forward.c */
  struct node *previous, *next; /* list of live nodes, oldest first */
};

/* What backward leaves for a leaf. Affine ops leave their node and ∂L/∂Z; the product Aᵀ G is formed when
   somebody asks for it. */
struct factor {
  struct node *node; /* owned */
  struct node *root; /* owned: where backward began, so that a loss that no script holds any more is still there */
  struct tensor *gradient; /* ∂L/∂(output of node), owned */
  int input;               /* 1: this leaf is the weight, 2: the bias */
};
struct gradient {
  struct tensor *dense;   /* sum of what came without factors; may be NULL */
  struct tensor *total;   /* dense and the products of all factors, once somebody asked; else NULL */
  uint32_t total_version; /* when it was made: a script may write on it, and is then meant */
  struct factor *factor;
  int factor_count, factor_capacity;
  bool written; /* an input of its factors was, so that they had to be formed */
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
   holds keep their values and count as constants from now on; gradients that were left as factors are formed. While
   the tape is walked, by a function of a script's that the walk calls: once it has ended. */
void tape_release(void);
void tape_walk_begin(void);
void tape_walk_end(void);
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
/* An error when what the node saved has been written on since. */
int node_check_versions(const struct node *node);
/* From loss (one element, or with seed: the gradient of its shape) to every leaf. Adds to what is there. */
int tape_backward(struct tensor *loss, struct tensor *seed);

/* ---- factors.c ---- */
/* The dense gradient of a leaf: dense and the sum over its factors, contiguous; *result (borrowed) is NULL when
   there is none. Kept until the gradient is cleared or grows; the factors stay for GLS. */
int gradient_dense(struct tensor *leaf, struct tensor **result);
/* The gradient is dense from here on: its factors are formed and forgotten. */
int gradient_settle(struct tensor *leaf);
/* Before x is written on, by a script or as a parameter: gradients whose factors it is part of are settled. */
int gradient_before_write(const struct tensor *x);
/* An error when the input that a factor stands for has been written on since it was saved. */
int factor_check(const struct factor *factor);
/* gradient := gradient × scale, factors included. */
int gradient_scale(struct tensor *leaf, real scale);
/* Forgets a leaf's gradient. */
void gradient_clear(struct tensor *leaf);
/* Adds to a leaf's gradient; takes over g in every case. */
int gradient_add(struct tensor *leaf, struct tensor *g);
int gradient_add_factor(struct tensor *leaf, struct node *node, struct node *root, struct tensor *gradient, int input);

/* ---- forward.c ---- */
/* Some of the batch's rows; count 0 stands for all of them. Either a block from start on, or those that are listed. */
struct row_block {
  int64_t batch, start, count;
  const int64_t *row;   /* count places in rising order, or NULL for the block */
  const double *weight; /* beside row: what each counts for, so that the weighted mean stands for the batch's */
};

/* What a forward-mode pass asks: the tangents of leaves. */
struct tangent_source {
  void *context;
  /* Borrowed tangent of a leaf, or NULL for none. */
  struct tensor *(*leaf)(void *context, const struct tensor *leaf);
  /* Of an affine node: the known change of its output by its weight and bias (borrowed, output's shape), all rows;
     NULL when the leaves' own tangents are to be used. The function may be NULL. */
  struct tensor *(*affine)(void *context, const struct node *node);
  bool checks; /* that nothing has been written on since it was saved; an optimizer's step writes on weights itself */
};

/* A loss node that backward reached, and the change of its input 0, for the rows of the block. */
struct loss_tangent {
  struct node *node;      /* borrowed */
  struct tensor *tangent; /* owned; NULL when nothing changes there */
};

/* Runs the tangents over all live nodes. *losses (memory_new, *count long) are the loss nodes with loss_weight ≠ 0.
   *fits is false, and nothing is computed, when the block cannot be followed (samples interact). */
int tape_tangents(const struct tangent_source *source, struct row_block block, bool *fits, struct loss_tangent **losses,
                  int *count);
void loss_tangents_release(struct loss_tangent *losses, int count);
/* share[i]: trace of the losses' Hessian in the outputs of row i of the batch, batch values. *fits is false where a
   loss's rows are not the batch's. */
int tape_curvature_shares(int64_t batch, double *share, bool *fits);
/* aᵀ H b summed over the losses, for tangents a and b of the same pass shape. */
int tape_curvature(const struct loss_tangent *a, const struct loss_tangent *b, int count, struct row_block block,
                   double *result);
/* The batch (first size of the prediction) and the number of terms the loss averages over; 0 when no loss node was
   reached. */
void tape_loss_rows(int64_t *batch, int64_t *terms);
/* Borrowed call of a node, its batch inputs, saved tensors and output narrowed to the rows. false: cannot. */
bool node_narrow(const struct node *node, struct row_block block, struct op_call *narrowed);
void node_narrow_release(const struct node *node, struct op_call *narrowed);

/* Tangents in, tangent out: change of output (on the tape) when leaf[i] changes by tangent[i]. *result is zeros
   when no path leads there. */
int tape_jvp(struct tensor *output, int count, struct tensor *const *leaf, struct tensor *const *tangent,
             struct tensor **result);

#endif
