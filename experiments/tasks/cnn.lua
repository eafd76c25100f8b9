--- Task: two convolutions with pooling and two linear layers classify small images.
local task = require "models.task"

return task("cnn", {
  name = "cnn", version = 1, title = "convolutional network on images",
  sets = { "cifar10", "fashion-mnist" }, samples = 20000, validation = 2000, test = 4000,
  options = { filters = { 32, 64 }, kernel = 5, hidden = 128 }, initialisation = "he", head = { "10" },
  batch = 100, steps = 1000,
  short = {
    samples = 10000, validation = 1000, test = 4000, batch = 50, steps = 300,
    options = { filters = { 8, 16 }, kernel = 3, hidden = 64 },
  },
})
