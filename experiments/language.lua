--- A language model over characters: AdamW, Muon, SOAP, K-FAC and GLS over their own settings. An epoch is 200 steps.
--   glsrun experiments/language.lua                        the transformer, 600 steps
--   glsrun experiments/language.lua --epochs 10            2 000 steps: nanoGPT's configuration for a CPU
--   glsrun experiments/language.lua --size large           width 256, context 256
--   glsrun experiments/language.lua --model lstm
local experiment = require "gls.experiment"
local task = require "models.task"

local grid = experiment.grid

local choices = experiment.choices("language", {
  { name = "model", values = { "transformer", "lstm" }, help = "What is trained: transformer (default) or lstm." },
  { name = "size", values = { "small", "large" }, help = "Width, context: small (128, 64; default) or large (256)." },
})
local large = choices.size == "large"
local model = large and { width = 256 } or nil
local lstm = choices.model == "lstm"

-- Warm-up over 100 steps, then a cosine to a tenth; gradients clipped to a norm of 1 and matrices decayed as nanoGPT
-- has it, except where the direction has a length of its own.
local function with(settings)
  settings.schedule, settings.warmup, settings.final, settings.weight_decay = "cosine", 100, 0.1, 0.1
  settings.model = model
  return grid(settings)
end

-- The output layer is left to Adam, like embeddings and norms; the transformer's is its table of tokens.
local function matrices(settings)
  settings.others = lstm and { { "3" } } or nil
  settings.fallback_learning_rate = lstm and 3e-2 or 3e-3
  return with(settings)
end

experiment.run(task(choices.model, {
  name = "language",
  title = "Language model: " .. choices.model,
  choices = choices,
  batches = 200,
  context = large and 256 or nil,
  trials = {
    adamw = with { learning_rate = { 3e-3, 6e-3, 1e-3 }, beta2 = 0.99, clip = 1, decayed = "matrices" },
    muon = matrices { learning_rate = { 1e-2, 5e-3, 2e-2 }, matched = true },
    soap = matrices { learning_rate = { 1e-2, 3e-3, 1e-3 } },
    kfac = matrices { learning_rate = { 0.3, 0.1, 0.03 } },
    gls = grid { model = model, damping = { 0.1, 0.03, 0.3 }, momentum = "auto", fallback_learning_rate = 3e-3 },
    ["gls-moving"] = with { fallback_learning_rate = 3e-3, learning_rate = { 1e-2, 3e-3, 3e-2 }, damping = 0.1 },
    ["gls-orthogonal"] = matrices { learning_rate = { 1e-2, 5e-3, 2e-2 } },
  },
  defaults = {
    data = "text", validation = 20000, epochs = 3, batch = 12, select = "valid",
    optimizers = { "adamw", "muon", "soap", "gls-orthogonal" },
  },
}))
