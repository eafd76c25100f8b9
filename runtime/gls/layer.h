/* Layer: one affine layer's part of a step. The direction in three steps, so that the factorisations of all layers,
   most too small for several threads, run side by side: layer_prepare, system_factorise where the system is stale,
   layer_solve. Before them layer_gather, for what has to be known of all layers. */
#ifndef GLS_GLS_LAYER_H
#define GLS_GLS_LAYER_H

#include "system.h"

/* A and G. */
int layer_gather(struct gls_system *system, const struct gls_options *options);
/* The matrix K or S; samples is n. */
int layer_prepare(struct gls_system *system, const struct gls_options *options, double samples);
/* U and its products. */
int layer_solve(struct gls_system *system, const struct gls_options *options, struct gls_report *report);

/* ---- direction.c ---- */
/* Makes u from its factors. */
int direction_form(struct gls_system *system);
/* w = keep · w − step · U, bias too (without decay). */
void direction_apply(struct gls_system *system, double step, double keep);
/* The same from U's factors (while u is NULL) into weight (d × m) and bias (m, or NULL): keep · itself + scale · U. */
void direction_add(const struct gls_system *system, double scale, double keep, real *weight, real *bias);

#endif
