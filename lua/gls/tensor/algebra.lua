--- Algebra: linear algebra made of the rows solve, log_determinant and matmul, and comparing within a tolerance.
-- @module gls.tensor.algebra
local arguments = require "gls.tensor.arguments"
local core = require "gls.core"
local options = require "gls.options"

local algebra = {}

--- The inverse of square matrices (…, n, n), differentiable in both modes; an error where one is singular.
-- `gls.solve(a, b)` is faster and more exact than `a:inverse():matmul(b)`.
function algebra.inverse(a)
  arguments.tensor("inverse", a)
  return core.solve(a, core.eye(math.max(a:dim() > 0 and a:size(-1) or 0, 0)))
end

--- The sign of the determinant of square matrices (…, n, n), -1, 0 or 1, and the logarithm of its absolute value, which
-- no size makes too large; differentiable in both modes, but where the determinant is 0.
function algebra.slogdet(a)
  arguments.tensor("slogdet", a)
  return core.determinant_sign(a), core.log_determinant(a)
end

--- The determinant of square matrices (…, n, n), differentiable in both modes, but where it is 0: there asking for the
-- gradient is an error.
function algebra.determinant(a)
  local sign, logarithm = algebra.slogdet(a)
  return sign * logarithm:exp()
end

--- q (m×k) with orthonormal columns and r (k×n), upper triangular with a diagonal not below 0, of a matrix a (m×n) =
-- q · r, k = min(m, n) (Householder reflections). Not differentiable.
function algebra.qr(a)
  arguments.tensor("qr", a)
  if a:dim() ~= 2 then arguments.fail("qr", "a matrix is expected, got %d dimensions", a:dim()) end
  local q = core.orthogonal(a:narrow(2, 1, math.min(a:size(1), a:size(2))))
  return q, q:t():matmul(a):triu()
end

--- Whether every |x − y| is within `absolute` = 1e-8 + `relative` = 1e-5 times |y|, broadcast, as NumPy's allclose:
-- equal infinities are close, NaN is close to nothing. `gls.allclose(x, y, { relative = 1e-3 })`.
-- @treturn boolean
function algebra.allclose(x, y, settings)
  arguments.tensor("allclose", x)
  local set = options.check("allclose", settings, { relative = 1e-5, absolute = 1e-8 })
  local other = core.is_tensor(y) and y or core.tensor(y)
  local equal, difference = x:eq(other), nil
  if x.type ~= "float32" and other.type ~= "float32" then -- of integers it is exact, where int32 holds it
    local fits, exact = pcall(function() return x:to "int32" - other:to "int32" end)
    difference = fits and exact:to "float32"
  end
  x, other = x:to "float32", other:to "float32" -- bytes have no differences below 0
  difference = difference or x - other
  local near = difference:abs():le(other:abs() * set.relative + set.absolute)
  return near:logical_and(other:is_inf():logical_not()):logical_or(equal):all():item() == 1
end

return algebra
