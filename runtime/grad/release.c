/* Release: the end of a training step. */
#include "../base/profile.h"
#include "tape.h"

static int walks;           /* that are under way */
static bool release_wanted; /* by a function of a script's that a walk has called */

void tape_walk_begin(void) { walks++; }

void tape_walk_end(void) {
  if (--walks > 0 || !release_wanted) return;
  release_wanted = false;
  tape_release();
}

/* Gradients that are products still to be formed of what the nodes hold. */
static void form_products(void) {
  for (struct node *node = node_last() ? node_retain(node_last()) : NULL, *before; node; node = before) {
    for (int i = 1; i < node->call.input_count && node->call.op->affine; i++)
      if (node->call.input[i] && node->call.input[i]->gradient) gradient_settle(node->call.input[i]);
    before = node->previous ? node_retain(node->previous) : NULL;
    node_release(node); /* which the factors may have been the last to hold */
  }
}

void tape_release(void) {
  if (walks > 0) {
    release_wanted = true;
    return;
  }
  profile_begin("memory", "tape release");
  form_products();
  while (node_last()) node_drop(node_last());
  profile_end();
}
