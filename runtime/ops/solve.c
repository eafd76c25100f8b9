/* Solve: linear equations and determinants, by LU factorisation (kernels/linalg). Matrices are the last two dimensions;
   those before are a batch, which broadcasts. */
#include <math.h>
#include <string.h>

#include "../base/memory.h"
#include "../kernels/linalg/linalg.h"
#include "formula.h"

static int check_square(const struct tensor *a) {
  const struct shape *shape = &a->shape;
  if (shape->rank >= 2 && shape->size[shape->rank - 1] == shape->size[shape->rank - 2]) return STATUS_OK;
  return status_error("square matrices (…, n, n) are expected, not %s", shape_text(shape));
}

static struct tensor *transposed(const struct tensor *t) {
  return tensor_transpose(t, t->shape.rank - 2, t->shape.rank - 1);
}

/* ---- solve ---- */

/* A vector as a matrix of one column; others as they are. */
static struct tensor *as_columns(struct tensor *t, bool vector) {
  if (!vector) return tensor_retain(t);
  struct shape shape = t->shape;
  shape.size[shape.rank++] = 1;
  struct tensor *flat = tensor_contiguous(t), *view = flat ? tensor_view_shape(flat, &shape) : NULL;
  tensor_release(flat);
  return view;
}

static bool is_vector(const struct op_call *call) { return call->input[1]->shape.rank == 1; }

/* The shape of x for a (…, n, n) and b (…, n, m). */
static int solution_shape(const struct shape *a, const struct shape *b, struct shape *shape) {
  struct shape before_a = *a, before_b = *b;
  before_a.rank -= 2;
  before_b.rank -= 2;
  if (!shape_broadcast(&before_a, &before_b, shape))
    return status_error("the batches of %s and %s do not broadcast", shape_text(a), shape_text(b));
  shape->size[shape->rank++] = b->size[b->rank - 2];
  shape->size[shape->rank++] = b->size[b->rank - 1];
  return STATUS_OK;
}

static int solve_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  (void)type;
  const struct shape *a = &call->input[0]->shape, *b = &call->input[1]->shape;
  STATUS_TRY(check_square(call->input[0]));
  bool vector = is_vector(call);
  int64_t n = a->size[a->rank - 1];
  if (b->rank == 0 || b->size[vector ? 0 : b->rank - 2] != n)
    return status_error("for matrices %s right-hand sides are (%lld) or (…, %lld, m), not %s", shape_text(a),
                        (long long)n, (long long)n, shape_text(b));
  struct shape columns = *b;
  if (vector) columns.size[columns.rank++] = 1;
  STATUS_TRY(solution_shape(a, &columns, shape));
  if (vector) shape->rank--;
  return STATUS_OK;
}

/* x = a⁻¹ b for one of a batch; every row of b (m×n) is a right-hand side. lu: room for n×n. */
static int solve_one(const real *a, real *b, int64_t n, int64_t m, real *lu, int *pivot) {
  int zero;
  memcpy(lu, a, (size_t)(n * n) * sizeof *lu);
  STATUS_TRY(lu_factorise(lu, n, pivot, &zero));
  if (zero) return status_error("the matrix is singular: pivot %d is 0", zero);
  return lu_solve_rows(lu, pivot, n, b, m);
}

/* The whole batch expanded to the solution's, contiguous, its matrices transposed when asked. */
static struct tensor *expanded(const struct tensor *t, const struct shape *solution, bool turn) {
  struct shape shape = *solution;
  for (int i = 1; i <= 2; i++) shape.size[shape.rank - i] = t->shape.size[t->shape.rank - i];
  struct tensor *wide = tensor_expand(t, &shape), *view = wide && turn ? transposed(wide) : NULL;
  struct tensor *flat = view ? tensor_copy(view) : wide && !turn ? tensor_contiguous(wide) : NULL;
  tensor_release(wide);
  tensor_release(view);
  return flat;
}

static int solve_forward(struct op_call *call) {
  struct tensor *b = as_columns(call->input[1], is_vector(call)), *a = NULL, *rows = NULL, *back = NULL, *x = NULL;
  struct shape shape;
  int status = b ? solution_shape(&call->input[0]->shape, &b->shape, &shape) : STATUS_ERROR;
  if (status == STATUS_OK) a = expanded(call->input[0], &shape, false);
  if (a) rows = expanded(b, &shape, true);
  const int64_t n = call->input[0]->shape.size[call->input[0]->shape.rank - 1],
                m = b ? b->shape.size[b->shape.rank - 1] : 0;
  real *lu = rows ? memory_new((size_t)(n * n), sizeof *lu) : NULL;
  int *pivot = lu ? memory_new((size_t)n, sizeof *pivot) : NULL;
  if (!pivot) status = STATUS_ERROR;
  for (int64_t i = 0; status == STATUS_OK && n * m > 0 && i < tensor_count(rows) / (n * m); i++)
    status = solve_one(tensor_real(a) + i * n * n, tensor_real(rows) + i * n * m, n, m, lu, pivot);
  if (status == STATUS_OK) back = transposed(rows);
  if (back) x = as_columns(call->output, is_vector(call));
  status = x ? tensor_assign(x, back) : STATUS_ERROR;
  tensor_release(a);
  tensor_release(b);
  tensor_release(rows);
  tensor_release(back);
  tensor_release(x);
  memory_delete(lu);
  memory_delete(pivot);
  return status;
}

/* x = a⁻¹ b: ∂L/∂b = a⁻ᵀ g, ∂L/∂a = −(∂L/∂b) xᵀ. A formula of rows: what gls.grad differentiates again. */
static int solve_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result) {
  struct formula f = {0};
  struct tensor *a = call->input[0], *b = call->input[1];
  struct shape solution = gradient->shape, columns = b->shape;
  if (is_vector(call)) solution.size[solution.rank++] = columns.size[columns.rank++] = 1;
  struct tensor *g = term_reshape(&f, gradient, &solution), *x = term_reshape(&f, call->output, &solution);
  struct tensor *by_b = term_of_two(&f, "solve", term_transpose(&f, a), g);
  struct tensor *by_a = needed[0] ? term_of_two(&f, "matmul", by_b, term_transpose(&f, x)) : NULL;
  int status = STATUS_OK;
  if (needed[0]) status = formula_give(term_sum_to(&f, term_of(&f, "neg", by_a), &a->shape), &result[0]);
  if (needed[1] && status == STATUS_OK)
    status = formula_give(term_reshape(&f, term_sum_to(&f, by_b, &columns), &b->shape), &result[1]);
  formula_end(&f, NULL);
  return status;
}

/* dx = a⁻¹ (db − da x) */
static int solve_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  struct formula f = {0};
  struct shape solution = call->output->shape, columns = call->input[1]->shape;
  if (is_vector(call)) solution.size[solution.rank++] = columns.size[columns.rank++] = 1;
  struct tensor *change = NULL;
  if (tangent[0]) {
    struct tensor *x = term_reshape(&f, call->output, &solution);
    change = term_of(&f, "neg", term_of_two(&f, "matmul", tangent[0], x));
  }
  if (tangent[1]) {
    struct tensor *by_b = term_reshape(&f, tangent[1], &columns);
    change = tangent[0] ? term_add(&f, change, by_b) : by_b;
  }
  struct tensor *moved = term_expand(&f, term_of_two(&f, "solve", call->input[0], change), &solution);
  return op_give(formula_end(&f, term_reshape(&f, moved, &call->output->shape)), result);
}

/* ---- log_determinant, determinant_sign ---- */

struct determinant_rule {
  bool sign;
};

static int determinant_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  (void)type;
  STATUS_TRY(check_square(call->input[0]));
  *shape = call->input[0]->shape;
  shape->rank -= 2;
  return STATUS_OK;
}

static int determinant_forward(struct op_call *call) {
  const bool sign = ((const struct determinant_rule *)call->op->family)->sign;
  struct tensor *work = tensor_copy(call->input[0]);
  const int64_t n = work ? work->shape.size[work->shape.rank - 1] : 0;
  int *pivot = work ? memory_new((size_t)n, sizeof *pivot) : NULL, zero = 0, status = pivot ? STATUS_OK : STATUS_ERROR;
  for (int64_t i = 0; status == STATUS_OK && i < tensor_count(call->output); i++) {
    real *lu = tensor_real(work) + i * n * n;
    double logarithm = 0, direction = 1;
    status = lu_factorise(lu, n, pivot, &zero);
    for (int64_t k = 0; status == STATUS_OK && k < n; k++) {
      double factor = (double)lu[k * n + k];
      logarithm += log(fabs(factor));
      direction *= (pivot[k] == k + 1 ? 1 : -1) * (isnan(factor) ? factor : (factor > 0) - (factor < 0));
    }
    tensor_real(call->output)[i] = (real)(sign ? direction : logarithm);
  }
  tensor_release(work);
  memory_delete(pivot);
  return status;
}

/* d log |det a| = tr(a⁻¹ da) (Jacobi): the derivative is a⁻ᵀ. */
static struct tensor *determinant_slope(struct formula *f, struct tensor *a) {
  int64_t n = a->shape.size[a->shape.rank - 1];
  struct shape square = shape_of(2, n, n);
  struct tensor *identity = formula_keep(f, tensor_zeros(TYPE_REAL, &square));
  for (int64_t i = 0; identity && i < n; i++) tensor_real(identity)[i * n + i] = 1;
  return term_of_two(f, "solve", term_transpose(f, a), identity);
}

static int log_determinant_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed,
                               struct tensor **result) {
  if (!needed[0]) return STATUS_OK;
  struct formula f = {0};
  struct shape shape = gradient->shape;
  shape.size[shape.rank++] = 1;
  shape.size[shape.rank++] = 1;
  struct tensor *factor = term_reshape(&f, gradient, &shape);
  return op_give(formula_end(&f, term_mul(&f, determinant_slope(&f, call->input[0]), factor)), &result[0]);
}

static int log_determinant_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  struct formula f = {0};
  struct tensor *change = term_mul(&f, determinant_slope(&f, call->input[0]), tangent[0]);
  struct op_value values[OP_MAX_PARAMETERS] = {{.count = 2, .list = {-2, -1}}};
  return op_give(formula_end(&f, term_run(&f, "sum", 1, &change, values)), result);
}

const struct op solve_ops[] = {
    OP("solve",
       "x with a x = b for square a (…, n, n), b (n) or (…, n, m); batches broadcast; an error where a is singular",
       SAMPLES("regular:3x3 3x2", "regular:3x3 3", "regular:2x3x3 2x3x2", "regular:2x1x3x3 3x3x2", "regular:2x3x3 3",
               "regular:3x3 4x3x1", "regular:1x1 1x1", "regular:3x3 3x0", "0x0 0x2"),
       PARAMETERS(TENSOR("a"), TENSOR("b")), OP_SAVES_INPUTS | OP_SAVES_OUTPUT, solve_shape, solve_forward, solve_vjp,
       solve_jvp, .graph = solve_vjp),
    OP("log_determinant",
       "logarithm of the absolute value of the determinant of square matrices (…, n, n); -inf where it is 0, with no "
       "derivative",
       SAMPLES("regular:3x3", "regular:2x4x4", "regular:2x1x2x2", "regular:1x1", "0x0", "0x3x3"),
       PARAMETERS(TENSOR("a")), OP_SAVES_INPUTS, determinant_shape, determinant_forward, log_determinant_vjp,
       log_determinant_jvp, .graph = log_determinant_vjp, .family = &(const struct determinant_rule){.sign = false}),
    OP("determinant_sign",
       "-1, 0 or 1: the sign of the determinant of square matrices (…, n, n); derivative 0: not recorded",
       SAMPLES("regular:3x3", "regular:2x4x4", "regular:1x1", "0x0", "0x3x3"), PARAMETERS(TENSOR("a")), OP_CONSTANT,
       determinant_shape, determinant_forward, NULL, NULL, .family = &(const struct determinant_rule){.sign = true}),
    {.name = NULL}};
