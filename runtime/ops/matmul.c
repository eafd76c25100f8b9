/* Matrix products: matmul (batched, broadcast, transposed operands without copies) and linear, the affine op
   Z = A W + 1 bᵀ whose weight gradient is kept as its factors (A, ∂L/∂Z). */
#include "../base/parallel.h"
#include "../kernels/linalg/linalg.h"
#include "formula.h"

/* ---- matmul ---- */

/* A matrix operand as GEMM takes it: the last two dimensions of a tensor, transposed or not. */
struct operand {
  struct tensor *tensor; /* owned: shape (batch…, rows, columns), its matrices GEMM-ready */
  bool transposed;
  int64_t leading;
};

static bool gemm_ready(const struct tensor *t, bool *transposed, int64_t *leading) {
  int rank = t->shape.rank;
  int64_t rows = t->shape.size[rank - 2], columns = t->shape.size[rank - 1];
  int64_t row_stride = t->stride[rank - 2], column_stride = t->stride[rank - 1];
  if ((column_stride == 1 || columns == 1) && ((row_stride >= columns && row_stride <= INT32_MAX) || rows == 1)) {
    *transposed = false;
    *leading = rows == 1 || row_stride < 1 ? (columns > 0 ? columns : 1) : row_stride;
    return true;
  }
  *transposed = true;
  *leading = columns == 1 || column_stride < 1 ? (rows > 0 ? rows : 1) : column_stride;
  return (row_stride == 1 || rows == 1) && ((column_stride >= rows && column_stride <= INT32_MAX) || columns == 1);
}

/* t broadcast to batch dimensions; vectors get a dimension of size 1 (as a row, or as a column). */
static int operand_of(struct tensor *t, bool is_left, const struct shape *batch, struct operand *result) {
  struct shape matrix = t->shape;
  if (matrix.rank == 1)
    matrix = is_left ? shape_of(2, (int64_t)1, t->shape.size[0]) : shape_of(2, t->shape.size[0], (int64_t)1);
  struct tensor *viewed = t->shape.rank == 1 ? tensor_view_shape(t, &matrix) : tensor_alias(t);
  if (!viewed) return STATUS_ERROR;
  if (!gemm_ready(viewed, &result->transposed, &result->leading)) {
    struct tensor *copy = tensor_copy(viewed);
    tensor_release(viewed);
    if (!copy) return STATUS_ERROR;
    viewed = copy;
    gemm_ready(viewed, &result->transposed, &result->leading);
  }
  struct shape whole = *batch;
  whole.size[whole.rank++] = matrix.size[matrix.rank - 2];
  whole.size[whole.rank++] = matrix.size[matrix.rank - 1];
  result->tensor = tensor_expand(viewed, &whole);
  tensor_release(viewed);
  return result->tensor ? STATUS_OK : STATUS_ERROR;
}

static int64_t rows_of(const struct tensor *x) { return x->shape.rank == 1 ? 1 : x->shape.size[x->shape.rank - 2]; }
static int64_t columns_of(const struct tensor *y) { return y->shape.rank == 1 ? 1 : y->shape.size[y->shape.rank - 1]; }

static bool batch_shape(const struct tensor *x, const struct tensor *y, struct shape *batch) {
  struct shape a = x->shape, b = y->shape;
  a.rank = a.rank > 2 ? a.rank - 2 : 0;
  b.rank = b.rank > 2 ? b.rank - 2 : 0;
  return shape_broadcast(&a, &b, batch);
}

/* BLAS counts rows, inner and columns with int. */
static int check_sizes(const struct tensor *x, const struct tensor *y, int64_t rows, int64_t inner, int64_t columns) {
  if (rows <= INT32_MAX && inner <= INT32_MAX && columns <= INT32_MAX) return STATUS_OK;
  return status_error("a matrix product has at most %d rows, inner elements and columns: %s · %s", INT32_MAX,
                      shape_text(&x->shape), shape_text(&y->shape));
}

static int matmul_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  const struct tensor *x = call->input[0], *y = call->input[1];
  (void)type;
  if (x->shape.rank == 0 || y->shape.rank == 0)
    return status_error("a scalar has no matrix product: %s · %s", shape_text(&x->shape), shape_text(&y->shape));
  int64_t inner = x->shape.size[x->shape.rank - 1];
  int64_t other = y->shape.rank == 1 ? y->shape.size[0] : y->shape.size[y->shape.rank - 2];
  if (inner != other) return status_error("inner sizes differ: %s · %s", shape_text(&x->shape), shape_text(&y->shape));
  if (!batch_shape(x, y, shape))
    return status_error("batch dimensions do not broadcast: %s · %s", shape_text(&x->shape), shape_text(&y->shape));
  if (shape->rank + 2 > TENSOR_MAX_RANK)
    return status_error("at most %d dimensions: %s · %s", TENSOR_MAX_RANK, shape_text(&x->shape),
                        shape_text(&y->shape));
  STATUS_TRY(check_sizes(x, y, rows_of(x), inner, columns_of(y)));
  if (x->shape.rank > 1) shape->size[shape->rank++] = rows_of(x);
  if (y->shape.rank > 1) shape->size[shape->rank++] = columns_of(y);
  return STATUS_OK;
}

/* One product of a batch. */
struct batched {
  struct shape batch;
  struct operand a, b;
  int64_t m, n, k;
  real *out;
};

static void multiply_one(const struct batched *p, int64_t i) {
  int64_t rest = i, at_a = 0, at_b = 0;
  for (int d = p->batch.rank - 1; d >= 0; d--) {
    int64_t index = rest % p->batch.size[d];
    rest /= p->batch.size[d];
    at_a += index * p->a.tensor->stride[d];
    at_b += index * p->b.tensor->stride[d];
  }
  gemm(p->a.transposed, p->b.transposed, p->m, p->n, p->k, 1, tensor_real(p->a.tensor) + at_a, p->a.leading,
       tensor_real(p->b.tensor) + at_b, p->b.leading, 0, p->out + i * p->m * p->n, p->n);
}

/* out (contiguous, batch × rows × columns) = x · y */
static int multiply(real *out, struct tensor *x, struct tensor *y) {
  struct batched p = {.m = rows_of(x), .n = columns_of(y), .k = x->shape.size[x->shape.rank - 1], .out = out};
  batch_shape(x, y, &p.batch);
  int status = operand_of(x, true, &p.batch, &p.a);
  if (status == STATUS_OK) status = operand_of(y, false, &p.batch, &p.b);
  if (status == STATUS_OK) {
    int64_t count = shape_count(&p.batch), work = p.m * p.n * p.k;
    bool many = count > 1 && (count >= parallel_threads() || work < 65536);
    /* A region of one thread around the product's own would have a team of threads made for every product. */
    if (many && count * work > PARALLEL_THRESHOLD) {
#pragma omp parallel for schedule(static)
      for (int64_t i = 0; i < count; i++) multiply_one(&p, i);
    } else {
      for (int64_t i = 0; i < count; i++) multiply_one(&p, i);
    }
  }
  tensor_release(p.a.tensor);
  tensor_release(p.b.tensor);
  return status;
}

static int matmul_forward(struct op_call *call) {
  return multiply(tensor_real(call->output), call->input[0], call->input[1]);
}

static struct tensor *product(struct tensor *x, struct tensor *y) { return op_run2("matmul", x, y); }

/* t with the matrix dimensions that a vector operand did not have. */
static struct tensor *with_matrix_dimensions(struct formula *f, struct tensor *t, bool add_row, bool add_column) {
  struct shape shape = t->shape;
  if (add_row) {
    int at = shape.rank - (add_column ? 0 : 1); /* before the columns, when there are any */
    for (int i = shape.rank; i > at; i--) shape.size[i] = shape.size[i - 1];
    shape.size[at] = 1;
    shape.rank++;
  }
  if (add_column) shape.size[shape.rank++] = 1;
  return term_reshape(f, t, &shape);
}

/* sum over broadcast dimensions, then the given shape: matrices back to vectors too */
static struct tensor *back_to(struct formula *f, struct tensor *full, const struct tensor *like, bool is_left) {
  struct shape matrix = like->shape;
  if (matrix.rank == 1)
    matrix = is_left ? shape_of(2, (int64_t)1, like->shape.size[0]) : shape_of(2, like->shape.size[0], (int64_t)1);
  return term_reshape(f, term_sum_to(f, full, &matrix), &like->shape);
}

/* (…, d) as (rows, d). */
static struct tensor *flat_rows(struct formula *f, struct tensor *t) {
  if (!t) return NULL;
  int64_t width = t->shape.size[t->shape.rank - 1], rows = 1;
  for (int i = 0; i < t->shape.rank - 1; i++) rows *= t->shape.size[i];
  struct shape flat = shape_of(2, rows, width);
  return term_reshape(f, t, &flat);
}

static int matmul_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result) {
  struct tensor *x = call->input[0], *y = call->input[1];
  bool x_vector = x->shape.rank == 1, y_vector = y->shape.rank == 1;
  struct formula f = {0};
  struct tensor *g = with_matrix_dimensions(&f, gradient, x_vector, y_vector);
  struct tensor *a = with_matrix_dimensions(&f, x, x_vector, false);
  struct tensor *b = with_matrix_dimensions(&f, y, false, y_vector), *full = NULL;
  int status = g && a && b ? STATUS_OK : STATUS_ERROR;
  if (status == STATUS_OK && needed[0]) {
    full = term_of_two(&f, "matmul", g, term_transpose(&f, b));
    status = formula_give(back_to(&f, full, x, true), &result[0]);
  }
  if (status == STATUS_OK && needed[1]) {
    bool rows = b->shape.rank == 2 && a->shape.rank > 2; /* one product over all rows instead of a batch and a sum */
    full = rows ? term_of_two(&f, "matmul", term_transpose(&f, flat_rows(&f, a)), flat_rows(&f, g))
                : term_of_two(&f, "matmul", term_transpose(&f, a), g);
    status = formula_give(back_to(&f, full, y, false), &result[1]);
  }
  formula_end(&f, NULL);
  return status;
}

static int matmul_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  struct tensor *first = tangent[0] ? product(tangent[0], call->input[1]) : NULL;
  if (tangent[0] && !first) return STATUS_ERROR;
  struct tensor *second = tangent[1] ? product(call->input[0], tangent[1]) : NULL;
  int status = tangent[1] && !second ? STATUS_ERROR : STATUS_OK;
  if (status == STATUS_OK && first && second) status = op_accumulate(first, second);
  *result = first ? first : second;
  if (first) tensor_release(second);
  if (status != STATUS_OK) {
    tensor_release(*result);
    *result = NULL;
  }
  return status;
}

/* y is the same for all rows: a weight, or at least not as long as the batch. */
static bool matmul_rowwise(const struct op_call *call) {
  const struct tensor *x = call->input[0], *y = call->input[1];
  return x->shape.rank >= 2 && y->shape.rank == 2 && (y->requires_gradient || y->shape.size[0] != x->shape.size[0]);
}

/* ---- linear ---- */

static int linear_shape(const struct op_call *call, struct shape *shape, enum element_type *type) {
  const struct tensor *x = call->input[0], *weight = call->input[1], *bias = call->input[2];
  (void)type;
  if (weight->shape.rank != 2)
    return status_error("the weight is inputs × outputs, given %s", shape_text(&weight->shape));
  if (x->shape.rank < 1 || x->shape.size[x->shape.rank - 1] != weight->shape.size[0])
    return status_error("the input's last size and the weight's first differ: %s · %s", shape_text(&x->shape),
                        shape_text(&weight->shape));
  if (bias && (bias->shape.rank != 1 || bias->shape.size[0] != weight->shape.size[1]))
    return status_error("the bias has shape %s for %lld outputs", shape_text(&bias->shape),
                        (long long)weight->shape.size[1]);
  int64_t inputs = weight->shape.size[0];
  STATUS_TRY(check_sizes(x, weight, inputs > 0 ? shape_count(&x->shape) / inputs : 0, inputs, weight->shape.size[1]));
  *shape = x->shape;
  shape->size[shape->rank - 1] = weight->shape.size[1];
  return STATUS_OK;
}

static bool linear_rowwise(const struct op_call *call) { return call->input[0]->shape.rank > 1; }

/* c = op(x) · op(y) + beta · c, c contiguous, for 2-D tensors of any strides; with a bias, + 1 biasᵀ instead of c. */
static int multiply_matrices(struct tensor *x, struct tensor *y, struct tensor *bias, real beta, real *c) {
  struct operand a = {0}, b = {0};
  struct tensor *line = bias ? tensor_contiguous(bias) : NULL;
  int status = operand_of(x, true, &(struct shape){0}, &a);
  if (status == STATUS_OK) status = operand_of(y, false, &(struct shape){0}, &b);
  if (bias && !line) status = STATUS_ERROR;
  int64_t m = x->shape.size[0], n = y->shape.size[1], k = x->shape.size[1];
  if (status == STATUS_OK && line)
    gemm_bias(a.transposed, b.transposed, m, n, k, tensor_real(a.tensor), a.leading, tensor_real(b.tensor), b.leading,
              tensor_real(line), c);
  else if (status == STATUS_OK)
    gemm(a.transposed, b.transposed, m, n, k, 1, tensor_real(a.tensor), a.leading, tensor_real(b.tensor), b.leading,
         beta, c, n);
  tensor_release(a.tensor);
  tensor_release(b.tensor);
  tensor_release(line);
  return status;
}

static int linear_forward(struct op_call *call) {
  struct tensor *weight = call->input[1], *bias = call->input[2];
  struct tensor *x = tensor_flatten_rows(call->input[0]);
  if (!x) return STATUS_ERROR;
  int status = multiply_matrices(x, weight, bias, 0, tensor_real(call->output));
  tensor_release(x);
  return status;
}

static int linear_vjp(const struct op_call *call, struct tensor *gradient, const bool *needed, struct tensor **result) {
  struct tensor *x = call->input[0], *weight = call->input[1];
  struct formula f = {0};
  struct tensor *g = flat_rows(&f, gradient);
  int status = g ? STATUS_OK : STATUS_ERROR;
  if (needed[0] && status == STATUS_OK)
    status =
        formula_give(term_reshape(&f, term_of_two(&f, "matmul", g, term_transpose(&f, weight)), &x->shape), &result[0]);
  if (needed[1] && status == STATUS_OK)
    status = formula_give(term_of_two(&f, "matmul", term_transpose(&f, flat_rows(&f, x)), g), &result[1]);
  if (call->input_count > 2 && needed[2] && status == STATUS_OK)
    status = formula_give(term_sum_to(&f, g, &call->input[2]->shape), &result[2]);
  formula_end(&f, NULL);
  return status;
}

static int linear_jvp(const struct op_call *call, struct tensor *const *tangent, struct tensor **result) {
  struct tensor *out = tensor_new(TYPE_REAL, &call->output->shape);
  if (!out) return STATUS_ERROR;
  struct tensor *bias = call->input_count > 2 ? tangent[2] : NULL;
  int status = STATUS_OK;
  bool written = false;
  for (int i = 0; i < 2 && status == STATUS_OK; i++) {
    if (!tangent[i]) continue;
    struct tensor *a = tensor_flatten_rows(i == 0 ? tangent[0] : call->input[0]);
    status = a ? multiply_matrices(a, i == 0 ? call->input[1] : tangent[1], written ? NULL : bias, written ? 1 : 0,
                                   tensor_real(out))
               : STATUS_ERROR;
    tensor_release(a);
    written = true;
  }
  if (!written) { /* the bias alone changes */
    struct tensor *rows = tensor_expand(bias, &out->shape);
    status = rows ? tensor_assign(out, rows) : STATUS_ERROR;
    tensor_release(rows);
  }
  return op_give_if(status, out, result);
}

static int linear_factors(const struct op_call *call, struct tensor *gradient, struct factors *result) {
  struct tensor *weight = call->input[1];
  if (weight->shape.rank != 2) return status_error("only a matrix weight has factors");
  struct tensor *a = tensor_flatten_rows(call->input[0]), *g = tensor_flatten_rows(gradient);
  result->a = a ? tensor_contiguous(a) : NULL;
  result->g = g ? tensor_contiguous(g) : NULL;
  tensor_release(a);
  tensor_release(g);
  if (!result->a || !result->g) {
    tensor_release(result->a);
    tensor_release(result->g);
    return STATUS_ERROR;
  }
  result->rows = result->a->shape.size[0];
  result->inputs = weight->shape.size[0];
  result->outputs = weight->shape.size[1];
  return STATUS_OK;
}

static const struct op_affine linear_affine = {.outputs = 1, .factors = linear_factors, .direct = true};

const struct op matmul_ops[] = {
    OP("matmul",
       "matrix product (…, n, k) · (…, k, m) -> (…, n, m); leading dimensions broadcast; a vector is a row on the "
       "left and a column on the right",
       SAMPLES("4x3 3x5", "2x4x3 2x3x5", "2x1x4x3 3x3x2", "2x4x3 3x5", "4x3 2x3x5", "3 3x5", "4x3 3", "3 3", "2x4x3 3",
               "0x3 3x2", "2x0 0x3", "1x1 1x1", "0x2x3 3x2"),
       PARAMETERS(TENSOR("x"), TENSOR("y")), OP_SAVES_INPUTS, matmul_shape, matmul_forward, matmul_vjp, matmul_jvp,
       .graph = matmul_vjp, .batch_inputs = 1, .rowwise = matmul_rowwise),
    OP("linear",
       "affine map x · weight + bias: x (…, inputs), weight (inputs × outputs), bias (outputs) or nil -> (…, "
       "outputs)",
       SAMPLES("4x3 3x5 5", "4x3 3x5 -", "2x4x3 3x2 2", "3 3x5 5", "4 4x4 4", "1x1 1x1 1", "0x3 3x2 2", "4x0 0x2 2"),
       PARAMETERS(TENSOR("x"), TENSOR("weight"), GIVEN("bias", OP_OPTIONAL_TENSOR)), OP_SAVES_INPUTS, linear_shape,
       linear_forward, linear_vjp, linear_jvp, .graph = linear_vjp, .batch_inputs = 1, .rowwise = linear_rowwise,
       .affine = &linear_affine),
    {.name = NULL}};
