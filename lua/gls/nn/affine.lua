--- Affine: what layers whose weight has factors share: a weight, perhaps a bias, and how both begin.
-- @module gls.nn.affine
local gls = require "gls"
local options = require "gls.options"
local Module = require "gls.nn.module"
local init = require "gls.nn.initialise"

local Affine = Module.class("Affine")
Affine.affine = true

-- Ways to begin a weight that take (tensor, gain).
local by_name = {
  uniform = init.uniform, he_normal = init.he_normal, he_uniform = init.he_uniform,
  xavier_normal = init.xavier_normal, xavier_uniform = init.xavier_uniform, orthogonal = init.orthogonal,
  normal = init.normal, zeros = init.zeros,
}

--- Options that every affine layer takes.
-- bias = true; init = "uniform", another name of nn.init, or a function(tensor, gain); gain: see there.
function Affine.options(more)
  local all = { bias = true, init = options.any("uniform"), gain = options.none }
  for name, default in pairs(more or {}) do all[name] = default end
  return all
end

--- Makes the tensors and begins them.
-- @tparam table weight_shape
-- @tparam integer outputs entries of the bias
-- @tparam table set checked options
function Affine:make(weight_shape, outputs, set)
  self.weight = gls.empty(weight_shape)
  if set.bias then self.bias = gls.empty(outputs) end
  self:initialize(set.init, set.gain)
  self.weight:requires_grad(true)
  if set.bias then self.bias:requires_grad(true) end
end

--- Begins weight and bias anew. The bias is 0, but for "uniform", where it is uniform on the weight's ±1/√fan_in.
-- @param how a name of nn.init or a function(tensor, gain)
-- @tparam[opt] number gain
function Affine:initialize(how, gain)
  local set = how
  if type(how) == "string" then
    set = by_name[how]
    if not set then
      error(('%s: unknown initialisation "%s"%s'):format(self.name, how, options.suggestion(how, by_name)), 2)
    end
  elseif type(how) ~= "function" then
    error(("%s: init must be a name or a function, got %s"):format(self.name, type(how)), 2)
  end
  local _ <close> = gls.no_grad()
  set(self.weight, gain)
  if not self.bias then return end
  self.bias:fill(0)
  if set == init.uniform then
    local bound = 1 / math.sqrt(math.max(1, (init.fans(self.weight))))
    self.bias:copy(gls.rand_like(self.bias) * (2 * bound) - bound)
  end
end

--- A whole number from 1, or an error that names what it is.
function Affine.check_size(where, what, value)
  if math.type(value) ~= "integer" or value < 1 then
    error(("%s: %s must be a whole number from 1, got %s"):format(where, what, tostring(value)), 3)
  end
  return value
end

--- A probability of dropout, or an error that names where it was given.
function Affine.check_dropout(where, value)
  if type(value) ~= "number" or not (value >= 0 and value < 1) then
    error(("%s: a probability from 0 to below 1 expected, got %s"):format(where, tostring(value)), 3)
  end
  return value
end

return Affine
