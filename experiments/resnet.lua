--- A residual network that classifies images: momentum, AdamW, Muon, SOAP, K-FAC and GLS over their own settings.
--   glsrun experiments/resnet.lua --data cifar10
--   glsrun experiments/resnet.lua --depth 20 --data cifar10 --samples 0 --epochs 20
local experiment = require "gls.experiment"
local task = require "models.task"

local grid = experiment.grid

local choices = experiment.choices("resnet", {
  { name = "depth", values = { "8", "20", "56" }, help = "Layers of the network, 6n + 2: 8 (default), 20 or 56." },
})

-- A cosine to zero for all, flipped and cropped images, weights decayed; norms and biases are AdamW's.
local function with(settings, decay)
  settings.schedule, settings.weight_decay = "cosine", decay
  settings.data = { flip = true, crop = 4 }
  settings.model = { depth = tonumber(choices.depth) }
  return grid(settings)
end

local function matrices(settings, decay)
  settings.fallback_learning_rate = 3e-3
  return with(settings, decay)
end

experiment.run(task("resnet", {
  name = "resnet",
  title = "Classifier ResNet-" .. choices.depth,
  choices = choices,
  trials = {
    momentum = with({ learning_rate = { 0.1, 0.03, 0.3 } }, 5e-3),
    adamw = with({ learning_rate = { 3e-3, 1e-3, 1e-2 } }, 0.05),
    muon = matrices({ learning_rate = { 0.2, 0.1, 0.05 } }, 0.05),
    soap = matrices({ learning_rate = { 3e-2, 1e-2, 3e-3 } }, 0.05),
    kfac = matrices({ learning_rate = { 0.1, 0.03, 0.3 } }, 5e-3),
    ["gls-matched"] = with({ learning_rate = { 3e-3, 1e-3, 1e-2 }, damping = 1 }, 0.05),
    ["gls-moving"] = with({ learning_rate = { 5e-2, 2e-2, 1e-2 }, damping = 0.1 }, 0.05),
    ["gls-orthogonal"] = with({
      learning_rate = { 0.1, 5e-2, 0.2 }, graft = "spectral", damping = 1, nesterov = true,
    }, 0.05),
  },
  defaults = {
    samples = 5000, epochs = 5, batch = 100, select = "valid",
    optimizers = { "momentum", "adamw", "muon", "soap", "gls-orthogonal" },
  },
}))
