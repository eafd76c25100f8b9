--- A four-layer perceptron that gives back its images: SGD, Adam and GLS over their own settings.
--   glsrun experiments/autoencoder.lua --data cifar10 --samples 1000 --epochs 50 --batch 250
local experiment = require "gls.experiment"
local task = require "models.task"

local grid = experiment.grid

experiment.run(task("autoencoder", {
  name = "autoencoder",
  title = "Autoencoder MLP",
  trials = {
    sgd = grid { learning_rate = { 10, 30, 60 }, schedule = "cosine", initialisation = "orthogonal-small" },
    momentum = grid { learning_rate = { 3, 10, 20 }, schedule = "cosine", initialisation = "orthogonal-small" },
    adam = grid { learning_rate = { 3e-4, 5e-4, 1e-3 }, schedule = "cosine", initialisation = "orthogonal-small" },
    adamw = grid { learning_rate = { 3e-4, 5e-4, 1e-3 }, schedule = "cosine", initialisation = "orthogonal-small" },
    gls = grid { damping = { 1e-3, 1e-2, 3e-2 }, schedule = "cosine", initialisation = "orthogonal-small" },
    ["gls-matched"] = grid {
      learning_rate = { 3e-4, 1e-3, 3e-3 }, damping = 0.01, schedule = "cosine", initialisation = "orthogonal-small",
    },
    ["gls-graft"] = grid {
      learning_rate = { 10, 30, 60 }, damping = 3, schedule = "cosine", initialisation = "orthogonal-small",
    },
  },
  defaults = { samples = 1000, validation = 500, epochs = 16, batch = 250, optimizers = { "sgd", "adam", "gls" } },
}))
