--- How well each optimizer generalises, every one tuned for validation and with the same regularisation to choose from:
-- augmentation (flips, crops), dropout, weight decay, label smoothing, averaging of weights.
--   glsrun experiments/generalization.lua --data cifar10
--   glsrun experiments/generalization.lua --study --data cifar10 --samples 0 --seeds 1,2,3
--   glsrun experiments/generalization.lua --model cnn --data cifar10 --samples 5000 --batch 100 --seeds 1,2,3
local experiment = require "gls.experiment"
local task = require "models.task"

local choices = experiment.choices("generalization", {
  { name = "model", values = { "mlp", "cnn" }, help = "What is trained: mlp (default) or cnn." },
  { name = "study", help = "Every regulariser with every optimizer instead of mirrored images alone." },
})
local cnn = choices.model == "cnn"

-- Weight decay is decoupled, times the learning rate: at the optimizers' first rates a step shrinks the weights by
-- about a thousandth.
local function regularisers(decay)
  return {
    { data = { flip = true, crop = cnn and 4 or 2 } },
    { model = { dropout = 0.2 } },
    { weight_decay = decay },
    { loss = { label_smoothing = 0.1 } },
    { average = 0.98 },
  }
end

-- Mirrored images for all: every rate (or damping) with them alone, then (the study) every regulariser, at the first
-- before the others, so that --trials cuts off the least telling.
local function trials(name, values, decay, settings)
  local list = {}
  local function add(value, regulariser)
    local trial = { schedule = "cosine", initialisation = "default", data = { flip = true }, [name] = value }
    for key, own in pairs(settings or {}) do trial[key] = own end
    for key, own in pairs(regulariser) do trial[key] = own end
    list[#list + 1] = trial
  end
  for _, value in ipairs(values) do add(value, {}) end
  for _, value in ipairs(choices.study and values or {}) do
    for _, regulariser in ipairs(regularisers(decay)) do add(value, regulariser) end
  end
  return list
end

local rates = cnn and { 1e-3, 2e-3, 5e-4 } or { 1e-3, 5e-4 }

experiment.run(task(choices.model, {
  name = "generalization",
  title = "Generalisation: " .. choices.model,
  choices = choices,
  trials = {
    momentum = trials("learning_rate", cnn and { 0.03, 0.06, 0.01 } or { 0.06, 0.03 }, 0.03),
    adamw = trials("learning_rate", rates, 1, { weight_decay = 0 }),
    gls = trials("damping", cnn and { 10, 3, 1 } or { 10, 3 }, 1e-3),
    ["gls-matched"] = trials("learning_rate", cnn and { 2e-3, 1e-3, 4e-3 } or rates, 1, { weight_decay = 0 }),
    ["gls-window"] = trials("learning_rate", rates, 1, { damping = 3 }),
    ["gls-moving"] = trials("learning_rate", cnn and { 3e-3, 1e-3, 1e-2 } or { 1e-3, 3e-3 }, 1),
  },
  defaults = {
    samples = 10000, validation = 5000, epochs = 8, batch = 250, select = "valid",
    optimizers = { "momentum", "adamw", "gls-matched" },
  },
}))
