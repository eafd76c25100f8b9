--- Task: a residual network of eight layers with batch normalisation classifies mirrored and moved small images.
local task = require "models.task"

return task("resnet", {
  name = "resnet8", version = 1, title = "ResNet-8 on images",
  sets = { "cifar10", "fashion-mnist" }, samples = 20000, validation = 1000, test = 4000,
  options = { depth = 8 }, initialisation = "he", head = { "9" },
  augment = { flip = true, crop = 4 },
  batch = 100, steps = 1000,
  short = { samples = 10000, validation = 1000, test = 4000, batch = 50, steps = 200 },
})
