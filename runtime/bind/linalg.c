/* Linalg: Cholesky factor and solve, symmetric eigenproblem, singular values, orthogonal matrices. They have no
   derivatives: a matrix that requires one is refused. (Those that have are rows: ops/solve.c.) */
#include "bind.h"

#include <cblas.h>
#include <math.h>
#include <string.h>

#include "../base/integer.h"
#include "../grad/tape.h"
#include "../kernels/linalg/linalg.h"

/* The tensor at argument i, from which no gradient may be asked. */
static struct tensor *constant(lua_State *L, int i, const char *name) {
  struct tensor *x = bind_tensor(L, i);
  if (tape_tracks(x) && bind_recording())
    bind_fail(L, "%s: has no derivative, and its argument requires a gradient; give it x:detach()", name);
  return x;
}

/* A contiguous copy of the real matrix at argument i, pushed. */
static struct tensor *push_matrix(lua_State *L, int i, const char *name) {
  struct tensor *x = constant(L, i, name);
  if (x->type != TYPE_REAL || x->shape.rank != 2)
    bind_fail(L, "%s: a matrix of type %s expected, got %s of shape %s", name, type_name(TYPE_REAL), type_name(x->type),
              shape_text(&x->shape));
  bind_push_tensor(L, tensor_copy(x));
  return bind_tensor(L, -1);
}

/* A contiguous copy of the square real matrix at argument i, pushed. */
static struct tensor *push_square(lua_State *L, int i, const char *name) {
  struct tensor *x = constant(L, i, name);
  if (x->type != TYPE_REAL || x->shape.rank != 2 || x->shape.size[0] != x->shape.size[1])
    bind_fail(L, "%s: a square matrix of type %s expected, got %s of shape %s", name, type_name(TYPE_REAL),
              type_name(x->type), shape_text(&x->shape));
  bind_push_tensor(L, tensor_copy(x));
  return bind_tensor(L, -1);
}

static int bind_cholesky(lua_State *L) {
  struct tensor *factor = push_square(L, 1, "cholesky");
  int64_t n = factor->shape.size[0];
  real *a = tensor_real(factor);
  if (n > 46340) return bind_fail(L, "cholesky: %d rows are too many for BLAS's 32-bit indices", (int)n);
  if (!cholesky(a, n))
    return bind_fail(L, "cholesky: the %s matrix is not positive definite; adding a multiple of gls.eye to it may help",
                     shape_text(&factor->shape));
  for (int64_t i = 0; i < n; i++) memset(a + i * n + i + 1, 0, (size_t)(n - i - 1) * sizeof *a);
  return 1;
}

static int bind_cholesky_solve(lua_State *L) {
  struct tensor *factor = push_square(L, 1, "cholesky_solve");
  struct tensor *b = constant(L, 2, "cholesky_solve");
  int64_t n = factor->shape.size[0];
  if (b->type != TYPE_REAL || b->shape.rank < 1 || b->shape.rank > 2 || b->shape.size[0] != n)
    return bind_fail(L,
                     "cholesky_solve: for a factor of shape %s a right-hand side with %d rows expected, got shape %s",
                     shape_text(&factor->shape), (int)n, shape_text(&b->shape));
  bind_push_tensor(L, tensor_copy(b));
  b = bind_tensor(L, -1);
  bind_check(L, cholesky_solve(tensor_real(factor), n, tensor_real(b), b->shape.rank == 2 ? b->shape.size[1] : 1));
  return 1;
}

static int eigh(lua_State *L) {
  struct tensor *x = push_square(L, 1, "eigh");
  int64_t n = x->shape.size[0];
  for (int64_t i = 0; i < n; i++) /* LAPACK may give numbers for a NaN */
    for (int64_t j = 0; j <= i; j++)
      if (!isfinite(tensor_real(x)[i * n + j])) return bind_fail(L, "eigh: the matrix has an infinity or a NaN");
  struct shape row = shape_of(1, n);
  bind_push_tensor(L, tensor_new(TYPE_REAL, &row));
  bind_check(L, symmetric_eigen(tensor_real(x), n, tensor_real(bind_tensor(L, -1))));
  struct tensor **vectors = bind_new_tensor(L);
  struct tensor *view = tensor_transpose(x, 0, 1); /* LAPACK leaves one a row */
  if (!view) return bind_error(L);
  *vectors = tensor_contiguous(view);
  tensor_release(view);
  return *vectors ? 2 : bind_error(L);
}

static int bind_orthogonal(lua_State *L) {
  struct tensor *q = push_matrix(L, 1, "orthogonal");
  bind_check(L, orthogonalise(tensor_real(q), q->shape.size[0], q->shape.size[1]));
  return 1;
}

static int bind_newton_schulz(lua_State *L) {
  lua_Integer iterations = (lua_isnoneornil(L, 2) ? 5 : bind_whole(L, 2));
  if (iterations < 1 || iterations > 100)
    return bind_fail(L, "newton_schulz: iterations is %I, expected 1 to 100", iterations);
  struct tensor *x = push_matrix(L, 1, "newton_schulz");
  bind_check(L, newton_schulz(tensor_real(x), x->shape.size[0], x->shape.size[1], (int)iterations));
  return 1;
}

static int svd(lua_State *L) {
  struct tensor *x = push_matrix(L, 1, "svd");
  int64_t m = x->shape.size[0], n = x->shape.size[1], k = min(m, n);
  struct shape left = shape_of(2, m, k), middle = shape_of(1, k), right = shape_of(2, k, n);
  bind_push_tensor(L, tensor_new(TYPE_REAL, &left));
  bind_push_tensor(L, tensor_new(TYPE_REAL, &middle));
  bind_push_tensor(L, tensor_new(TYPE_REAL, &right));
  struct tensor *u = bind_tensor(L, -3), *s = bind_tensor(L, -2), *vt = bind_tensor(L, -1);
  bind_check(L, singular_values(tensor_real(x), m, n, tensor_real(u), tensor_real(s), tensor_real(vt)));
  bind_push_tensor(L, tensor_transpose(vt, 0, 1));
  lua_remove(L, -2);
  return 3;
}

static int blas(lua_State *L) {
  lua_pushfstring(L, "%s, kernels for %s", openblas_get_config(), openblas_get_corename());
  return 1;
}

static const struct bind_function functions[] = {
    {"blas", blas, 0,
     "blas() -> string\n"
     "The linear algebra library, its version and the processor its kernels are for."},
    {"cholesky", bind_cholesky, 1,
     "cholesky(a) -> L\n"
     "Lower triangular L with L Lᵀ = a, for a symmetric positive definite n×n; reads the lower triangle. An\n"
     "error when a is not positive definite. Not differentiable."},
    {"cholesky_solve", bind_cholesky_solve, 2,
     "cholesky_solve(L, b) -> x\n"
     "Solves (L Lᵀ) x = b for b of n or n×m, L as cholesky gives it. Not differentiable."},
    {"eigh", eigh, 1,
     "eigh(a) -> values, vectors\n"
     "Eigenvalues (ascending, n) and eigenvectors (columns of an n×n) of the symmetric matrix a; reads the\n"
     "lower triangle. Not differentiable."},
    {"newton_schulz", bind_newton_schulz, 2,
     "newton_schulz(x, iterations=5) -> matrix\n"
     "The orthogonal matrix U Vᵀ, nearly (singular values of 0.7 to 1.2), for x = U S Vᵀ, by products alone (Jordan\n"
     "et al., 2024): of bfloat16 where the processor has a matrix unit and x at least 32 rows and columns (an error "
     "of\n"
     "some hundredths; GLS_MATRIX_UNIT=0: float32). Not differentiable."},
    {"orthogonal", bind_orthogonal, 1,
     "orthogonal(a) -> q\n"
     "The Q of a's QR factorisation with R's diagonal positive: orthonormal columns for m×n with m >= n, else\n"
     "orthonormal rows. Of a normal random a, uniformly distributed (Mezzadri, 2007). Not differentiable."},
    {"svd", svd, 1,
     "svd(a) -> u, s, v\n"
     "Singular values s (descending) and vectors (columns of u and v) of a matrix (m×n), k = min(m, n) of them:\n"
     "a = u · diag(s) · vᵀ. Not differentiable."},
    {NULL, NULL, 0, NULL}};

void bind_open_linalg(lua_State *L) { bind_functions(L, functions); }
