--- nn: neural networks: modules, layers, losses and first values of weights.
--
-- module  what all are     affine  what layers with a weight share     initialise  first values     loss  losses
-- linear, conv, embedding, norm, attention, recurrent, activation, pool, resize  layers     container  several in turn
-- @module gls.nn
local options = require "gls.options"
local Module = require "gls.nn.module"
local init = require "gls.nn.initialise"
local strict = require "gls.strict"

local nn = {
  Module = Module,
  class = Module.class,
  is_module = Module.is_module,
  init = init,
  Linear = require "gls.nn.linear",
  Embedding = require "gls.nn.embedding",
  MultiHeadAttention = require "gls.nn.attention",
}

for _, name in ipairs { "activation", "container", "conv", "loss", "norm", "pool", "recurrent", "resize" } do
  for key, value in pairs(require("gls.nn." .. name)) do nn[key] = value end
end

for _, class in pairs(nn) do
  while type(class) == "table" and rawget(class, "is_gls_module") and class ~= Module do
    strict.methods(class.name, class)
    class = class.parent
  end
end

--- Begins all affine layers of a model anew.
-- @tparam table model
-- @tparam string|function how a name of nn.init ("orthogonal", "he_normal", …) or a function(tensor, gain)
-- @tparam[opt] table settings { gain = the initialisation's own, last_gain = 1: a further factor for the last layer }
-- @treturn table the model
function nn.initialize(model, how, settings)
  if not Module.is_module(model) then error("nn.initialize: a module expected, got " .. type(model), 2) end
  local set = options.check("nn.initialize", settings, { gain = options.none, last_gain = 1 })
  local layers = {}
  for _, module in model:modules() do
    if module.initialize then layers[#layers + 1] = module end
  end
  for _, layer in ipairs(layers) do layer:initialize(how, set.gain) end
  if set.last_gain ~= 1 and #layers > 0 then
    local weight = layers[#layers].weight
    weight:copy(weight:detach() * set.last_gain)
  end
  return model
end

return strict.module("nn", nn)
