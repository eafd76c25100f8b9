--- nn.init: first values of weights, as in the literature. Each function changes the tensor in place and returns it.
--
-- fan_in is how many inputs one output sums over, fan_out how many outputs one input reaches: d and m for a weight
-- (d×m) of Linear; channels per group times window, and output channels times window, for a weight (out, in/groups,
-- height, width) of a convolution.
-- @module gls.nn.initialise
local gls = require "gls"

local init = {}

--- fan_in, fan_out of a weight.
function init.fans(weight)
  local shape = weight.shape
  if #shape < 2 then
    error(("nn.init: a weight of two or more dimensions expected, got shape (%s)"):format(table.concat(shape, "×")), 2)
  end
  if #shape == 2 then return shape[1], shape[2] end
  local window = 1
  for i = 3, #shape do window = window * shape[i] end
  return shape[2] * window, shape[1] * window
end

local function set_uniform(tensor, bound)
  return tensor:copy(gls.rand_like(tensor) * (2 * bound) - bound)
end

local function set_normal(tensor, deviation)
  return tensor:copy(gls.randn_like(tensor) * deviation)
end

-- Runs unrecorded: values drawn here are nobody's derivative.
local function unrecorded(f)
  return function(...)
    local _ <close> = gls.no_grad()
    return f(...)
  end
end

--- Uniform on ±gain/√fan_in: LeCun, Bottou, Orr and Müller, "Efficient BackProp" (1998). The default of Linear and
-- Conv2d, for bias too, as in PyTorch.
-- @param tensor
-- @tparam[opt=1] number gain
init.uniform = unrecorded(function(tensor, gain)
  return set_uniform(tensor, (gain or 1) / math.sqrt(math.max(1, (init.fans(tensor)))))
end)

--- Normal with deviation gain/√fan_in: He, Zhang, Ren and Sun, "Delving Deep into Rectifiers" (2015).
-- @param tensor
-- @tparam[opt=√2] number gain √2 suits ReLU
init.he_normal = unrecorded(function(tensor, gain)
  return set_normal(tensor, (gain or math.sqrt(2)) / math.sqrt(math.max(1, (init.fans(tensor)))))
end)

--- Uniform with deviation gain/√fan_in: He et al. (2015).
-- @param tensor
-- @tparam[opt=√2] number gain
init.he_uniform = unrecorded(function(tensor, gain)
  return set_uniform(tensor, (gain or math.sqrt(2)) * math.sqrt(3 / math.max(1, (init.fans(tensor)))))
end)

local function xavier_deviation(tensor, gain)
  local fan_in, fan_out = init.fans(tensor)
  return (gain or 1) * math.sqrt(2 / math.max(1, fan_in + fan_out))
end

--- Normal with deviation gain √(2/(fan_in + fan_out)): Glorot and Bengio, "Understanding the difficulty of training
-- deep feedforward neural networks" (2010).
-- @param tensor
-- @tparam[opt=1] number gain
init.xavier_normal = unrecorded(function(tensor, gain)
  return set_normal(tensor, xavier_deviation(tensor, gain))
end)

--- Uniform with deviation gain √(2/(fan_in + fan_out)): Glorot and Bengio (2010).
-- @param tensor
-- @tparam[opt=1] number gain
init.xavier_uniform = unrecorded(function(tensor, gain)
  return set_uniform(tensor, xavier_deviation(tensor, gain) * math.sqrt(3))
end)

--- gain times a random matrix with orthonormal rows or columns, whichever are fewer: Saxe, McClelland and Ganguli,
-- "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks" (2014). A weight of a
-- convolution counts as a matrix (out, the rest).
-- @param tensor
-- @tparam[opt=1] number gain √2 suits ReLU
init.orthogonal = unrecorded(function(tensor, gain)
  init.fans(tensor)
  local rows = tensor:size(1)
  local matrix = gls.orthogonal(gls.randn(rows, rows > 0 and tensor:numel() // rows or 0))
  return tensor:copy((matrix * (gain or 1)):view(tensor.shape))
end)

--- Normal.
-- @param tensor
-- @tparam[opt=1] number deviation
-- @tparam[opt=0] number mean
init.normal = unrecorded(function(tensor, deviation, mean)
  return tensor:copy(gls.randn_like(tensor) * (deviation or 1) + (mean or 0))
end)

--- All zero.
init.zeros = unrecorded(function(tensor) return tensor:fill(0) end)

--- All one value.
-- @param tensor
-- @tparam number value
init.constant = unrecorded(function(tensor, value) return tensor:fill(value) end)

return require("gls.strict").module("nn.init", init)
