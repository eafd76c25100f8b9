--- Curvature: what a loss looks like around its parameters: eigenvalues of its Hessian or Gauss–Newton matrix, the
-- trace, the density of the spectrum. All by exact products with vectors (gls.hvp, gls.ggn); no matrix is formed.
--
-- Every function takes the loss as a function without arguments, or a list of such, of which the mean is meant (one a
-- batch); it is called in the model's mode of the moment, so evaluate (`model:eval()`) where there are BatchNorm or
-- Dropout. All take `matrix` = "hessian" or "ggn", for which the function gives the outputs second.
--
-- products  of derivatives with vectors     lanczos  what repeated products tell
-- @module gls.curvature
local core = require "gls.core"
local lanczos = require "gls.curvature.lanczos"
local options = require "gls.options"
local plot = require "gls.plot"
local products = require "gls.curvature.products"

local curvature = {}

local function check(where, settings, more)
  local allowed = { matrix = "hessian" }
  for name, default in pairs(more) do allowed[name] = default end
  local set = options.check(where, settings, allowed)
  if set.matrix ~= "hessian" and set.matrix ~= "ggn" then
    core.raise(('%s: matrix is "hessian" or "ggn", not "%s"'):format(where, set.matrix))
  end
  for _, name in ipairs { "count", "iterations", "samples", "probes", "points" } do
    if set[name] and (math.type(set[name]) ~= "integer" or set[name] < 1) then
      core.raise(("%s: %s is %s: a whole number from 1 on"):format(where, name, tostring(set[name])))
    end
  end
  return set
end

local function joined(list)
  local parts = {}
  for i, tensor in ipairs(list) do parts[i] = tensor:reshape(-1) end
  return core.cat(parts)
end

local function split(vector, parameters)
  local parts, start = {}, 1
  for i, parameter in ipairs(parameters) do
    parts[i] = vector:narrow(1, start, parameter:numel()):reshape(parameter.shape)
    start = start + parameter:numel()
  end
  return parts
end

-- A list of vectors → the product with one loss's matrix; its graph is kept.
local function product_of(where, matrix, loss, parameters)
  local value, outputs = loss()
  if matrix == "ggn" then
    if not outputs then core.raise(where .. ": for the Gauss–Newton matrix the function gives the outputs second") end
    return products.gauss_newton(value, outputs, parameters)
  end
  local gradients = core.grad(value, parameters, { create_graph = true, unused = true, values = false })
  return function(vectors) return products.pulled(gradients, parameters, vectors) end
end

-- The mean over the losses as a function of one vector, and the length of that. The graph of one loss is kept (by the
-- scope of the caller); those of several are made anew for each product, one after the other.
local function operator(where, loss, parameters, set)
  local losses = type(loss) == "table" and loss or { loss }
  for i, f in ipairs(losses) do
    if type(f) ~= "function" then
      core.raise(("%s: loss %d is a function that gives the loss, not %s"):format(where, i, type(f)))
    end
  end
  if #losses == 0 then core.raise(where .. ": there is no loss") end
  if type(parameters) ~= "table" then
    core.raise(("%s: parameters are a list of tensors (model:parameters()), not %s"):format(where,
      core.is_tensor(parameters) and "a tensor" or type(parameters)))
  end
  local list, length = {}, 0
  for i, parameter in ipairs(parameters) do
    if not core.is_tensor(parameter) then
      core.raise(("%s: parameter %d is a tensor, not %s"):format(where, i, type(parameter)))
    end
    list[i], length = parameter, length + parameter:numel()
  end
  if length == 0 then core.raise(where .. ": there are no parameters") end
  local kept = #losses == 1 and product_of(where, set.matrix, losses[1], list)
  return function(vector)
    local vectors, sum = split(vector, list), nil
    for _, f in ipairs(losses) do
      local scope <close> = core.scope()
      local part = joined((kept or product_of(where, set.matrix, f, list))(vectors))
      sum = scope:keep(sum and sum + part or part)
    end
    return #losses > 1 and sum / #losses or sum
  end, length
end

--- The leading eigenvalues, by Lanczos's method.
-- @param loss a function that gives the loss, or a list of such
-- @tparam table parameters what it is differentiated by (`model:parameters()`)
-- @tparam[opt] table settings `count` = 5 of them; `which` = "largest", "smallest" or "magnitude"; `tolerance` = 1e-3
-- of the largest in size, at which they are good enough; `iterations` = 100 products at most; `vectors` = false;
-- `matrix`
-- @treturn table list of numbers, the leading one first, with `residuals` (how far each is off at most) and, when
-- asked, `vectors`, a list of tensors for each, of the parameters' shapes
function curvature.eigenvalues(loss, parameters, settings)
  local set = check("curvature.eigenvalues", settings,
    { count = 5, which = "largest", tolerance = 1e-3, iterations = 100, vectors = false })
  local before = {
    largest = function(a, b) return a > b end,
    smallest = function(a, b) return a < b end,
    magnitude = function(a, b) return math.abs(a) > math.abs(b) end,
  }
  if not before[set.which] then
    core.raise(('curvature.eigenvalues: which is "largest", "smallest" or "magnitude", not "%s"'):format(set.which))
  end
  local scope <close> = core.scope()
  local product, length = operator("curvature.eigenvalues", loss, parameters, set)
  local function leading(values)
    local order = {}
    for i = 1, #values do order[i] = i end
    table.sort(order, function(a, b) return before[set.which](values[a], values[b]) end)
    return table.move(order, 1, math.min(set.count, #order), 1, {})
  end
  local found = lanczos.run(product, core.randn(length), set.iterations, function(values, residuals)
    local size = math.max(math.abs(values[1]), math.abs(values[#values]))
    local good = #values >= set.count
    for _, i in ipairs(leading(values)) do good = good and residuals[i] <= set.tolerance * size end
    return good
  end)
  local result = { residuals = {}, vectors = set.vectors and {} or nil }
  for k, i in ipairs(leading(found.values)) do
    result[k], result.residuals[k] = found.values[i], found.residuals[i]
    if set.vectors then
      local vector = found.vectors:select(2, i):matmul(found.basis)
      result.vectors[k] = split(vector / vector:norm(), parameters)
      scope:keep(table.unpack(result.vectors[k]))
    end
  end
  return result
end

--- The sharpness: the largest eigenvalue of the Hessian. Gradient descent is stable while it is below 2 / the learning
-- rate (Cohen et al., "Gradient descent on neural networks typically occurs at the edge of stability", 2021).
-- @param loss as for `eigenvalues`
-- @tparam table parameters
-- @tparam[opt] table settings `tolerance`, `iterations`, `matrix` as for `eigenvalues`
-- @treturn number
function curvature.sharpness(loss, parameters, settings)
  local set = check("curvature.sharpness", settings, { tolerance = 1e-3, iterations = 100 })
  set.count = 1
  return curvature.eigenvalues(loss, parameters, set)[1]
end

--- The trace, by Hutchinson's estimate: the mean of vᵀ H v over vectors of random signs (1990).
-- @param loss as for `eigenvalues`
-- @tparam table parameters
-- @tparam[opt] table settings `samples` = 100 vectors; `matrix`
-- @treturn number the estimate
-- @treturn number its standard error; infinite of one sample
function curvature.trace(loss, parameters, settings)
  local set = check("curvature.trace", settings, { samples = 100 })
  local _ <close> = core.scope()
  local product, length = operator("curvature.trace", loss, parameters, set)
  local mean, squares = 0, 0
  for k = 1, set.samples do
    local _ <close> = core.scope()
    local v = core.randint(0, 1, length):float() * 2 - 1
    local distance = (v * product(v)):sum():item() - mean
    mean = mean + distance / k
    squares = squares + distance ^ 2 * (k - 1) / k
  end
  return mean, set.samples > 1 and math.sqrt(squares / (set.samples - 1) / set.samples) or math.huge
end

--- The density of the spectrum, by stochastic Lanczos quadrature (Ghorbani, Krishnan and Xiao, "An investigation into
-- neural net optimization via Hessian eigenvalue density", 2019): from random vectors Lanczos's method gives nodes and
-- weights, each drawn as a normal curve.
-- @param loss as for `eigenvalues`
-- @tparam table parameters
-- @tparam[opt] table settings `probes` = 4 random vectors, `iterations` = 80 for each; `bandwidth`, the standard
-- deviation of the curves (by default a two-hundredth of the range); `points` = 512 of the curve; `matrix`
-- @treturn table `x` (eigenvalues) and `y` (their density, of integral 1), lists for gls.plot; `nodes` and `weights`,
-- which add up to 1
function curvature.density(loss, parameters, settings)
  local set = check("curvature.density", settings,
    { probes = 4, iterations = 80, bandwidth = options.none, points = 512 })
  local nodes, weights = {}, {}
  do
    local _ <close> = core.scope()
    local product, length = operator("curvature.density", loss, parameters, set)
    for _ = 1, set.probes do
      local found = lanczos.run(product, core.randn(length), set.iterations)
      for i, first in ipairs(found.vectors[1]:tolist()) do
        nodes[#nodes + 1], weights[#weights + 1] = found.values[i], first ^ 2 / set.probes
      end
    end
  end
  local low, high = math.min(table.unpack(nodes)), math.max(table.unpack(nodes))
  local range = high > low and high - low or math.max(math.abs(high), 1)
  local deviation = set.bandwidth or range / 200
  if type(deviation) ~= "number" or deviation ~= deviation or deviation <= 0 then
    core.raise(("curvature.density: bandwidth is %s: a number above 0"):format(tostring(deviation)))
  end
  low, high = low - 5 * deviation, high + 5 * deviation
  local x, y = {}, {}
  for k = 1, set.points do
    x[k], y[k] = low + (high - low) * (k - 1) / math.max(set.points - 1, 1), 0
    for i, node in ipairs(nodes) do
      y[k] = y[k] + weights[i] * math.exp(-((x[k] - node) / deviation) ^ 2 / 2)
    end
    y[k] = y[k] / (deviation * math.sqrt(2 * math.pi))
  end
  return { x = x, y = y, nodes = nodes, weights = weights }
end

--- Draws a density, on a logarithmic axis down to a millionth of its peak.
-- @tparam table density of `curvature.density`
-- @tparam[opt] table settings as of `plot.lines` (`file`, `title` …)
-- @treturn string|nil as `plot.lines`
function curvature.plot(density, settings)
  if type(density) ~= "table" or not density.x or not density.y then
    core.raise "curvature.plot: a density, as curvature.density gives it, is expected"
  end
  local shown, peak = { x = density.x, y = {} }, math.max(table.unpack(density.y))
  for k, y in ipairs(density.y) do shown.y[k] = math.max(y, peak * 1e-6) end
  local set = { title = "density of eigenvalues", x = "eigenvalue", y = "density", log = "y" }
  for name, value in pairs(settings or {}) do set[name] = value end
  return plot.lines(shown, set)
end

return require("gls.strict").module("curvature", curvature)
