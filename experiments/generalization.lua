--- How well each optimizer generalises, every one tuned for validation and with the same regularisation to choose from:
-- dropout, label smoothing, weight decay, averaging of weights, augmentation (crop and flip).
--   glsrun experiments/generalization.lua --data cifar10 --samples 5000 --epochs 6
--   glsrun experiments/generalization.lua --model cnn --study --data cifar10 --samples 0 --epochs 8 --seeds 1,2,3
-- --model is mlp (default) or cnn; --study tries every regulariser with every optimizer instead of the plain settings.
local experiment = require "gls.experiment"
local nn = require "gls.nn"

local grid = experiment.grid

local arguments, model, study = {}, "mlp", false
do
  local i = 1
  while i <= #(arg or {}) do
    if arg[i] == "--model" then
      i = i + 1
      model = arg[i]
    elseif arg[i] == "--study" then
      study = true
    else
      arguments[#arguments + 1] = arg[i]
    end
    i = i + 1
  end
end
if model ~= "mlp" and model ~= "cnn" then
  error(('generalization: --model is mlp or cnn, got "%s"'):format(tostring(model)), 0)
end
local build = require("models." .. model)

local REGULARISERS = {
  {},
  { model = { dropout = 0.3 } },
  { loss = { label_smoothing = 0.1 } },
  { weight_decay = 0.1 },
  { average = 0.99 },
  { model = { dropout = 0.3 }, loss = { label_smoothing = 0.1 }, average = 0.99 },
}
if model == "cnn" then REGULARISERS[#REGULARISERS + 1] = { data = { crop = 4, flip = true } } end

-- Every setting with every regulariser (the study), or the settings alone.
local function trials(settings)
  if not study then return settings end
  local list = {}
  for _, setting in ipairs(settings) do
    for _, regulariser in ipairs(REGULARISERS) do
      local copy = {}
      for name, value in pairs(setting) do copy[name] = value end
      for name, value in pairs(regulariser) do copy[name] = value end
      list[#list + 1] = copy
    end
  end
  return list
end

local plain = { initialisation = "he", schedule = "cosine" }
local function with(settings)
  for name, value in pairs(plain) do settings[name] = settings[name] or value end
  return trials(grid(settings))
end

local cnn = model == "cnn"
experiment.run({
  name = "generalization",
  title = "Generalisation: " .. model,
  loss_name = "cross-entropy",
  classify = true,
  data = { flatten = not cnn, center = true, scale = 0.25 },
  model = function(set, settings)
    local images = set.images
    local given = { outputs = #set.classes, initialisation = settings.initialisation }
    if cnn then
      given.channels, given.height, given.width = images:size(2), images:size(3), images:size(4)
    else
      given.inputs = images[1]:numel()
    end
    for name, value in pairs(settings.model or {}) do given[name] = value end
    return build(given)
  end,
  loss = function(logits, batch, options) return nn.cross_entropy(logits, batch.y, options) end,
  trials = {
    momentum = with { learning_rate = cnn and { 0.003, 0.01, 0.03 } or { 0.01, 0.03, 0.1 } },
    adam = with { learning_rate = { 3e-4, 5e-4, 1e-3 } },
    adamw = with { learning_rate = { 3e-4, 5e-4, 1e-3 } },
    gls = with { damping = { 1, 3, 10 } },
    ["gls-matched"] = with { learning_rate = { 5e-4, 1e-3, 2e-3 }, damping = 1 },
    ["gls-moving"] = with { learning_rate = { 1e-3, 3e-3, 1e-2 }, damping = 1 },
  },
  defaults = {
    samples = 5000, validation = 2000, epochs = 6, batch = 250, select = "valid",
    optimizers = { "momentum", "adam", "gls", "gls-matched", "gls-moving" },
  },
}, arguments)
