--- A three-layer perceptron that classifies images: SGD, Adam and GLS over their own settings.
--   glsrun experiments/mlp.lua --data cifar10 --samples 10000 --epochs 15 --batch 250 --seeds 1,2,3
local experiment = require "gls.experiment"
local task = require "models.task"

local grid = experiment.grid

experiment.run(task("mlp", {
  name = "mlp",
  title = "Classifier MLP",
  trials = {
    sgd = grid { learning_rate = { 0.03, 0.1, 0.3 }, initialisation = "he" },
    momentum = grid { learning_rate = { 0.01, 0.03, 0.1 }, initialisation = "he" },
    adam = grid { learning_rate = { 5e-4, 1e-3, 2e-3 }, initialisation = "he" },
    adamw = grid { learning_rate = { 5e-4, 1e-3, 2e-3 }, initialisation = "he" },
    gls = grid { damping = { 0.003, 0.01, 0.03 }, initialisation = "he" },
    ["gls-matched"] = grid { learning_rate = { 5e-4, 1e-3, 2e-3 }, damping = 1, weight_decay = 0,
      initialisation = "he" },
  },
  defaults = { samples = 5000, epochs = 10, batch = 250, optimizers = { "sgd", "adam", "gls" } },
}))
