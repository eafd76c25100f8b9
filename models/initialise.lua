--- Names of initialisations for the affine layers of a model, as experiments compare them.
local nn = require "gls.nn"
local options = require "gls.options"

local methods = {
  default = function(model) return model end, -- uniform ±1/√fan_in, as the layers begin by themselves
  he = function(model) return nn.initialize(model, "he_normal") end,
  xavier = function(model) return nn.initialize(model, "xavier_normal") end,
  orthogonal = function(model) return nn.initialize(model, "orthogonal", { gain = math.sqrt(2) }) end,
  ["orthogonal-small"] = function(model)
    return nn.initialize(model, "orthogonal", { gain = math.sqrt(2), last_gain = 0.1 })
  end,
}

--- @tparam table model
-- @tparam string name "default", "he" (normal), "xavier" (normal), "orthogonal" (gain √2), "orthogonal-small" (the same
-- with the last layer × 0.1)
-- @treturn table the model
return function(model, name)
  local method = methods[name]
  if not method then
    error(('unknown initialisation "%s"%s'):format(tostring(name), options.suggestion(tostring(name), methods)), 3)
  end
  return method(model)
end
