--- A convolutional network that classifies images: SGD, Adam and GLS over their own settings.
--   glsrun experiments/cnn.lua --data cifar10 --samples 5000 --epochs 8 --batch 100
local experiment = require "gls.experiment"
local task = require "models.task"

local grid = experiment.grid

-- Both initialisations are tried with every setting: which one suits differs from optimizer to optimizer.
local function with(settings)
  settings.initialisation = settings.initialisation or { "default", "orthogonal-small" }
  return grid(settings)
end

experiment.run(task("cnn", {
  name = "cnn",
  title = "Classifier CNN",
  trials = {
    sgd = with { learning_rate = { 0.03, 0.1 } },
    momentum = with { learning_rate = { 0.01, 0.03 } },
    adam = with { learning_rate = { 5e-4, 1e-3 } },
    adamw = with { learning_rate = { 5e-4, 1e-3 } },
    gls = with { damping = { 0.01, 0.03 } },
    ["gls-matched"] = with { learning_rate = { 5e-4, 1e-3 }, weight_decay = 0 },
  },
  defaults = { samples = 2000, epochs = 5, batch = 100, optimizers = { "sgd", "adam", "gls" } },
}))
