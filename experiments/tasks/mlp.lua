--- Task: a perceptron of three layers classifies small grey images.
local task = require "models.task"

return task("mlp", {
  name = "mlp", version = 1, title = "perceptron 784-256-128-10 on images",
  sets = { "fashion-mnist", "cifar10" }, samples = 20000, validation = 4000, test = 4000,
  options = { hidden = { 256, 128 } }, initialisation = "he", head = { "5" },
  batch = 100, steps = 2000,
  short = { samples = 10000, validation = 1000, test = 4000, steps = 300 },
})
