--- A convolutional network that classifies images: SGD, Adam and GLS over their own settings.
--   glsrun experiments/cnn.lua --data cifar10 --samples 5000 --epochs 8 --batch 100
local experiment = require "gls.experiment"
local task = require "models.task"

local grid = experiment.grid

experiment.run(task("cnn", {
  name = "cnn",
  title = "Classifier CNN",
  trials = {
    sgd = grid { learning_rate = { 0.03, 0.1, 0.3 }, initialisation = "he" },
    momentum = grid { learning_rate = { 0.003, 0.01, 0.03 }, initialisation = "he" },
    adam = grid { learning_rate = { 3e-4, 1e-3, 3e-3 }, initialisation = "he" },
    adamw = grid { learning_rate = { 3e-4, 1e-3, 3e-3 }, initialisation = "he" },
    gls = grid { damping = { 0.003, 0.01, 0.03 }, initialisation = "he" },
    ["gls-matched"] = grid { learning_rate = { 5e-4, 1e-3, 2e-3 }, damping = 1, initialisation = "he" },
    ["gls-graft"] = grid { learning_rate = { 0.03, 0.1, 0.3 }, damping = 1, initialisation = "he" },
  },
  defaults = { samples = 2000, epochs = 5, batch = 100, optimizers = { "sgd", "adam", "gls" } },
}))
