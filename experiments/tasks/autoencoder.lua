--- Task: a perceptron with a narrow middle gives back small grey images (after Hinton and Salakhutdinov, "Reducing the
-- dimensionality of data with neural networks", 2006).
local task = require "models.task"

return task("autoencoder", {
  name = "autoencoder", version = 1, title = "autoencoder 784-256-64-16-64-256-784 on images",
  sets = { "fashion-mnist", "cifar10" }, samples = 20000, validation = 4000, test = 4000,
  options = { hidden = { 256, 64, 16, 64, 256 } }, initialisation = "he", head = { "11" },
  batch = 100, steps = 2000,
  short = { samples = 10000, validation = 1000, test = 4000, steps = 300 },
})
