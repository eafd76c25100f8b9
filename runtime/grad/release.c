/* Release: the end of a training step. */
#include "../base/profile.h"
#include "anomaly.h"
#include "tape.h"

static int walks;                         /* that are under way */
static bool release_wanted, all_released; /* by a function of a script's that a walk has called */
static const char RELEASED[] =
    "another optimizer's step has ended; give each its own backward, step GLS first, or call zero_grad() where the "
    "gradient was not meant";

void tape_walk_begin(void) { walks++; }

void tape_walk_end(void) {
  if (--walks > 0 || !release_wanted) return;
  bool all = all_released;
  release_wanted = all_released = false;
  tape_release(all);
}

/* What goes: everything, or what backward has reached and what was computed from that. */
static void mark(bool all) {
  for (struct node *node = node_first(); node; node = node->next) {
    node->reached = node->reached || all;
    for (int i = 0; i < node->call.input_count && !node->reached; i++) {
      const struct node *input = node->input_node[i];
      node->reached = input && (input->reached || input->released);
    }
  }
}

void tape_release(bool all) {
  if (walks > 0) {
    release_wanted = true;
    all_released = all_released || all;
    return;
  }
  anomaly_step_ended();
  profile_begin("memory", "tape release");
  mark(all);
  for (struct node *node = node_last() ? node_retain(node_last()) : NULL, *before; node; node = before) {
    /* Gradients that are products still to be formed of what the node holds. */
    for (int i = 1; i < node->call.input_count && node->call.op->affine; i++)
      if (node->call.input[i]) gradient_settle(node->call.input[i], RELEASED);
    before = node->previous ? node_retain(node->previous) : NULL;
    node_release(node); /* which the factors may have been the last to hold */
  }
  for (struct node *node = node_last() ? node_retain(node_last()) : NULL, *before; node; node = before) {
    before = node->previous ? node_retain(node->previous) : NULL;
    if (node->reached && !node->released) node_drop(node);
    node_release(node);
  }
  if (!node_last()) tape_forget_unrecorded();
  profile_end();
}
