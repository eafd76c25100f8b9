/* Nodes of the tape: one recorded call each. Tensors own the node that made them, nodes own the nodes of their
   inputs, so an unused graph goes when its last tensor goes; and every live node is on one list, oldest first, so
   that the end of a training step releases all of them at once without waiting for any collector. */
#ifndef GLS_GRAD_NODE_H
#define GLS_GRAD_NODE_H

#include "../ops/op.h"

struct node;

/* A differentiable function that is no row: a script's (gls.fn), or a derivative (linear.h). */
struct tape_function {
  /* backward(context, gradient) gives a new gradient for each needed input. */
  int (*backward)(void *context, struct tensor *gradient, const bool *needed, struct tensor **result);
  /* The same of the node that has it, recorded, so that it can be differentiated; NULL: it cannot. */
  int (*graph)(struct node *node, struct tensor *gradient, const bool *needed, struct tensor **result);
  int (*jvp)(void *context, struct tensor *const *tangent, struct tensor **result); /* may be NULL */
  void (*release)(void *context);
};

struct node {
  int references;
  uint64_t order;      /* rises from node to node */
  bool released;       /* what it saved is gone */
  bool reached;        /* by a backward pass */
  bool root;           /* a backward pass began here */
  const char *place;   /* the module that it was made in, where anomalies or profiles ask; or NULL */
  struct op_call call; /* inputs: leaves themselves; of other tensors an alias, or only their shape */
  struct node *
      *input_node;         /* owned; NULL where the input is a leaf or a constant; of a step that has ended: released */
  uint32_t *input_version; /* of the storage, when it was saved */
  uint32_t output_version;
  struct tensor *gradient; /* ∂L/∂output, while a backward pass is under way */
  real loss_weight;        /* of a loss node (hessian_product): sum of ∂L/∂output over backward passes */
  const struct tape_function *function; /* of a node whose op is no row, with its context */
  void *context;
  struct tensor *tangent;       /* scratch of forward mode */
  struct node *link;            /* scratch of walks over the graph, NULL between them */
  bool counted;                 /* the same */
  struct node *previous, *next; /* list of live nodes, oldest first */
};

/* Live nodes. */
struct node *node_first(void);
struct node *node_last(void);
int node_count(void);
struct node *node_retain(struct node *node);
void node_release(struct node *node);

/* A node that keeps its inputs, with their values or only their shapes; not yet live. NULL with message. */
struct node *node_new(int input_count, struct tensor *const *input, bool values);
/* Keeps the output, with its values or only its shape. */
int node_keep_output(struct node *node, const struct tensor *output, bool values);
/* The node, live from here on, is what made output (a fresh tensor), which owns it. */
void node_attach(struct node *node, struct tensor *output);
/* Lets go of a node that was not attached. */
void node_discard(struct node *node);
/* Takes from a live node what it saved and its inputs' nodes. */
void node_drop(struct node *node);
/* An error when what the node saved has been written on since. */
int node_check_versions(const struct node *node);
/* result[i]: the gradient of each input that needs one, by the row's vjp or the function's backward. */
int node_vjp(const struct node *node, struct tensor *gradient, const bool *needed, struct tensor **result);
/* The error of a gradient that has not the shape of its input. */
int node_shape_error(const struct node *node, int input, const struct tensor *gradient);

#endif
