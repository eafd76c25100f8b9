--- Lanczos: a symmetric operator seen in the directions that its powers make of a vector (Lanczos, 1950), with all
-- directions kept orthogonal to each other.
-- @module gls.curvature.lanczos
local core = require "gls.core"

local lanczos = {}

local function length(v) return v:norm():item() end

-- w less its parts along the first k rows of the basis, twice, for in float32 once is not enough (Giraud et al., 2005).
local function orthogonal(w, basis, k)
  local rows = basis:narrow(1, 1, k)
  for _ = 1, 2 do w = w - rows:t():matmul(rows:matmul(w)) end
  return w
end

-- The eigenvalues (rising) of the tridiagonal matrix, its vectors (columns), and how far each value is off at most.
local function ritz(alpha, beta)
  local m = #alpha
  local rows = {}
  for i = 1, m do
    rows[i] = {}
    for j = 1, m do
      rows[i][j] = i == j and alpha[i] or math.abs(i - j) == 1 and beta[math.min(i, j)] or 0
    end
  end
  local values, vectors = core.eigh(core.tensor(rows))
  return values:tolist(), vectors, (vectors[m]:abs() * (beta[m] or 0)):tolist()
end

--- Runs the recurrence.
-- @tparam function product vector → vector, symmetric
-- @tparam tensor start a vector; its length does not matter
-- @tparam integer steps at most; never more than the vector is long
-- @tparam[opt] function done (values, residuals) after every fifth step: true ends it
-- @treturn table `values` (rising), `residuals` (how far each is off at most), `vectors` (columns, in the basis),
-- `basis` (steps × n)
function lanczos.run(product, start, steps, done)
  local scope <close> = core.scope()
  local n = start:numel()
  steps = math.min(steps, n)
  local basis = core.zeros(steps, n)
  local alpha, beta, scale = {}, {}, 0
  local v = start / length(start)
  for k = 1, steps do
    local step <close> = core.scope()
    basis:narrow(1, k, 1):copy(v:reshape(1, n))
    local w = product(v)
    alpha[k] = (w * v):sum():item()
    w = orthogonal(w, basis, k)
    beta[k] = length(w)
    scale = math.max(scale, math.abs(alpha[k]) + beta[k])
    if beta[k] <= 1e-6 * scale then -- the directions so far are closed: on with another
      beta[k] = 0
      if k < n then w = orthogonal(core.randn(n), basis, k) end
    end
    if done and k % 5 == 0 then
      local values, _, residuals = ritz(alpha, beta)
      if done(values, residuals) then break end
    end
    if k < steps then v = step:keep(w / length(w)) end
  end
  local values, vectors, residuals = ritz(alpha, beta)
  basis = basis:narrow(1, 1, #alpha)
  scope:keep(basis, vectors)
  return { values = values, residuals = residuals, vectors = vectors, basis = basis }
end

return lanczos
