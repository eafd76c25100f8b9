--- How well each optimizer generalises, every one tuned for validation and with the same regularisation to choose from:
-- dropout, label smoothing, weight decay, averaging of weights, augmentation (crop and flip).
--   glsrun experiments/generalization.lua --data cifar10 --samples 5000 --epochs 6
--   glsrun experiments/generalization.lua --model cnn --study --data cifar10 --samples 0 --epochs 8 --seeds 1,2,3
local experiment = require "gls.experiment"
local task = require "models.task"

local grid = experiment.grid

local choices = experiment.choices("generalization", {
  { name = "model", values = { "mlp", "cnn" }, help = "What is trained: mlp (default) or cnn." },
  { name = "study", help = "Every regulariser with every optimizer instead of the plain settings." },
})
local cnn = choices.model == "cnn"

local REGULARISERS = {
  {},
  { model = { dropout = 0.3 } },
  { loss = { label_smoothing = 0.1 } },
  { weight_decay = 0.1 },
  { average = 0.99 },
  { model = { dropout = 0.3 }, loss = { label_smoothing = 0.1 }, average = 0.99 },
}
if cnn then REGULARISERS[#REGULARISERS + 1] = { data = { crop = 4, flip = true } } end

-- Every setting with every regulariser (the study), or the settings alone.
local function trials(settings)
  if not choices.study then return settings end
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

experiment.run(task(choices.model, {
  name = "generalization",
  title = "Generalisation: " .. choices.model,
  choices = choices,
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
}))
