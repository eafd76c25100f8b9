/* Least squares: one recorded linear layer, and its damped direction by an independent way: the normal equations,
   formed and solved in double by Gaussian elimination, which shares no code with the runtime. */
#ifndef GLS_TESTS_LEAST_SQUARES_H
#define GLS_TESTS_LEAST_SQUARES_H

#include "../../runtime/gls/gls.h"
#include "../../runtime/optim/optim.h"

/* Standard normal numbers; a leaf requires a gradient. */
struct tensor *check_normal(uint64_t seed, int rank, int64_t a, int64_t b);
struct tensor *check_leaf(uint64_t seed, int rank, int64_t a, int64_t b);

/* One linear layer with mean squared error, recorded and taken backward. */
struct problem {
  int64_t n, d, m;
  bool has_bias;
  struct tensor *x, *y, *parameter[2], *loss;
};

struct problem problem_new(int64_t n, int64_t d, int64_t m, bool has_bias);
void problem_delete(struct problem *p);
/* Records it anew, with the parameters as they are now. */
void problem_again(struct problem *p);
int parameter_count(const struct problem *p);
/* (d + bias) · m, and the parameters as one such array of doubles. */
int64_t problem_size(const struct problem *p);
double *problem_weights(const struct problem *p);
/* What one step subtracts from the parameters. */
double *problem_step(struct problem *p, struct gls *gls, const struct gls_options *options);

/* ∂L/∂Z from the parameters as they are, n × m. */
double *reference_output_gradient(const struct problem *p);
/* argmin_X ‖A X − n G‖²/n + λ‖X‖², (d + bias) × m, λ = ρ tr(AᵀA/n)/min(rows, d + bias). */
double *reference_direction(const struct problem *p, double damping);
/* a x = b in place, with partial pivoting: a is n×n, b n×m. */
void solve_by_elimination(double *a, double *b, int64_t n, int64_t m);
/* max |a − b| / max |b| */
double relative_error(const double *a, const double *b, int64_t count);
double norm_of(const double *a, int64_t count);

#endif
