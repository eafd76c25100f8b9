--- A multilayer perceptron that gives back its input: linear layers with an activation between them, the last one
-- as wide as the first's input.
local nn = require "gls.nn"
local options = require "gls.options"
local initialise = require "models.initialise"

--- @tparam[opt] table given `inputs` (values of an image, default 3072), `hidden` (widths, default
-- {1024, 1024, 1024}), `activation` (name of a class of gls.nn), `initialisation` (a name of models.initialise)
-- @treturn table module: (n × inputs) to (n × inputs)
return function(given)
  local settings = options.check("models.autoencoder", given, {
    inputs = 3072, hidden = options.any { 1024, 1024, 1024 }, activation = "ReLU",
    initialisation = "orthogonal-small",
  })
  local layers, width = {}, settings.inputs
  for _, next_width in ipairs(settings.hidden) do
    layers[#layers + 1] = nn.Linear(width, next_width)
    layers[#layers + 1] = nn[settings.activation]()
    width = next_width
  end
  layers[#layers + 1] = nn.Linear(width, settings.inputs)
  return initialise(nn.Sequential(layers), settings.initialisation)
end
