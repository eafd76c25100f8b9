--- A multilayer perceptron that classifies: linear layers with an activation between them, one logit a class.
local nn = require "gls.nn"
local options = require "gls.options"
local initialise = require "models.initialise"

--- @tparam[opt] table given `inputs` (values of an image, default 3072), `hidden` (widths, default {512, 256}),
-- `outputs` (classes, default 10), `activation` (name of a class of gls.nn), `dropout` (probability after each hidden
-- activation), `initialisation` (a name of models.initialise)
-- @treturn table module: (n × inputs) to logits (n × outputs)
return function(given)
  local settings = options.check("models.mlp", given, {
    inputs = 3072, hidden = options.any { 512, 256 }, outputs = 10, activation = "ReLU", dropout = 0,
    initialisation = "he",
  })
  local layers, width = {}, settings.inputs
  for _, next_width in ipairs(settings.hidden) do
    layers[#layers + 1] = nn.Linear(width, next_width)
    layers[#layers + 1] = nn[settings.activation]()
    if settings.dropout > 0 then layers[#layers + 1] = nn.Dropout(settings.dropout) end
    width = next_width
  end
  layers[#layers + 1] = nn.Linear(width, settings.outputs)
  return initialise(nn.Sequential(layers), settings.initialisation)
end
