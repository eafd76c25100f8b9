/* Compose: what rows of several families point to for derivatives of their derivatives (op.h): compose.c, and of
   attention and recurrences compose_sequence.c. */
#ifndef GLS_OPS_COMPOSE_H
#define GLS_OPS_COMPOSE_H

#include "formula.h"

formula_rule group_norm_composed;
formula_rule attention_composed, lstm_composed, gru_composed;
formula_rule prod_composed, mse_composed, huber_composed, binary_cross_entropy_composed;
graph_rule softmax_graph, log_softmax_graph, logsumexp_graph, variance_graph, std_graph, norm_graph;
graph_rule layer_norm_graph, rms_norm_graph, batch_norm_graph, cross_entropy_graph;

#endif
