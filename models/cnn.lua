--- A small convolutional network that classifies: two convolutions with pooling, two fully connected layers.
local nn = require "gls.nn"
local options = require "gls.options"
local initialise = require "models.initialise"

--- @tparam[opt] table given `channels`, `height`, `width` of an image (default 3, 32, 32), `filters` (default
-- {32, 64}), `kernel` (side, default 5; padded, so that only pooling shrinks), `hidden` (default 128), `outputs`
-- (classes, default 10), `dropout` (probability before the last layer), `initialisation` (a name of models.initialise)
-- @treturn table module: (n × channels × height × width) to logits (n × outputs)
return function(given)
  local settings = options.check("models.cnn", given, {
    channels = 3, height = 32, width = 32, filters = options.any { 32, 64 }, kernel = 5, hidden = 128, outputs = 10,
    dropout = 0, initialisation = "he",
  })
  local layers = {}
  local channels, height, width = settings.channels, settings.height, settings.width
  for _, filters in ipairs(settings.filters) do
    if height < 2 or width < 2 then
      error(("models.cnn: images of %d×%d are too small for %d poolings by 2"):format(settings.height, settings.width,
        #settings.filters), 2)
    end
    layers[#layers + 1] = nn.Conv2d(channels, filters, settings.kernel, { padding = settings.kernel // 2 })
    layers[#layers + 1] = nn.ReLU()
    layers[#layers + 1] = nn.MaxPool2d(2)
    channels, height, width = filters, height // 2, width // 2
  end
  layers[#layers + 1] = nn.Flatten()
  layers[#layers + 1] = nn.Linear(channels * height * width, settings.hidden)
  layers[#layers + 1] = nn.ReLU()
  if settings.dropout > 0 then layers[#layers + 1] = nn.Dropout(settings.dropout) end
  layers[#layers + 1] = nn.Linear(settings.hidden, settings.outputs)
  return initialise(nn.Sequential(layers), settings.initialisation)
end
