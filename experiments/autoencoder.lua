--- A four-layer perceptron that gives back its images: SGD, Adam and GLS over their own settings.
--   glsrun experiments/autoencoder.lua --data cifar10 --samples 1000 --epochs 50 --batch 250
-- --study: Adam's best against GLS's over the number of images, epochs, batch size, initialisation, width, bottleneck,
-- activation and schedule, one job a cell; goes on where it was when it is run again with the same --out.
--   glsrun experiments/autoencoder.lua --study --data cifar10 --out runs/autoencoder/study
--   glsrun experiments/autoencoder.lua --study --data cifar10 --out runs/autoencoder/study --cells tanh,images-5000
--   glsrun experiments/autoencoder.lua --study --data cifar10 --out runs/autoencoder/study --time
local experiment = require "gls.experiment"
local study = require "gls.experiment.study"
local task = require "models.task"

local grid = experiment.grid

-- ---- the study's cells: one circumstance changed at a time ----

local CELLS = {
  { name = "base", text = "as it is" },
  { name = "epochs-40", text = "40 epochs", epochs = 40 },
  { name = "images-200", text = "200 images", samples = 200, epochs = 50 },
  { name = "images-5000", text = "5 000 images", samples = 5000, epochs = 4 },
  { name = "images-10000", text = "10 000 images", samples = 10000, epochs = 4, batch = 250 },
  { name = "images-50000", text = "50 000 images", samples = 0, epochs = 2, batch = 250 },
  { name = "shallow-50000", text = "50 000 images, hidden 1024", samples = 0, epochs = 4, batch = 250,
    settings = { model = { hidden = { 1024 } } } },
  { name = "linear-50000", text = "50 000 images, hidden 1024, no activation", samples = 0, epochs = 4, batch = 250,
    settings = { model = { hidden = { 1024 }, activation = "Identity" } } },
  { name = "batch-50", text = "batch 50", batch = 50 },
  { name = "batch-250", text = "batch 250", batch = 250 },
  { name = "cosine", text = "cosine schedule", settings = { schedule = "cosine" } },
  { name = "default-start", text = "default initialisation", settings = { initialisation = "default" } },
  { name = "he", text = "He initialisation", settings = { initialisation = "he" } },
  { name = "narrow", text = "hidden 256, 256, 256", settings = { model = { hidden = { 256, 256, 256 } } } },
  { name = "wide", text = "hidden 2048, 2048, 2048", settings = { model = { hidden = { 2048, 2048, 2048 } } } },
  { name = "bottleneck", text = "hidden 1024, 64, 1024", settings = { model = { hidden = { 1024, 64, 1024 } } } },
  { name = "deep", text = "five layers of 512", settings = { model = { hidden = { 512, 512, 512, 512, 512 } } } },
  { name = "tanh", text = "tanh", settings = { model = { activation = "Tanh" } } },
  { name = "gelu", text = "GELU", settings = { model = { activation = "GELU" } } },
  { name = "linear", text = "no activation", settings = { model = { activation = "Identity" } } },
}
local names = {}
for i, cell in ipairs(CELLS) do names[i] = cell.name end

local choices = experiment.choices("autoencoder", {
  { name = "study", help = "Run the study's cells instead of one comparison." },
  { name = "cells", with = "study", values = names, list = true, help = "With --study: which cells (default all): "
    .. table.concat(names, ", ") .. "." },
  { name = "time", with = "study", help = "With --study: time the steps of the cells that were run, alone." },
})

-- ---- trials ----

-- Every optimizer's own list, with the settings of a cell in place of the common ones.
local function trials(list, changes)
  for _, trial in ipairs(list) do
    for name, value in pairs { schedule = "cosine", initialisation = "orthogonal-small" } do
      trial[name] = trial[name] or value
    end
    for name, value in pairs(changes or {}) do trial[name] = value end
  end
  return list
end

local function spec(cell)
  local changes = cell and cell.settings
  return task("autoencoder", {
    name = "autoencoder",
    title = cell and "Autoencoder MLP: " .. cell.text or "Autoencoder MLP",
    choices = not cell and choices or nil,
    trials = {
      sgd = trials(grid { learning_rate = { 30, 60, 120 } }, changes),
      momentum = trials(grid { learning_rate = { 3, 10, 20 } }, changes),
      adam = trials(grid { learning_rate = cell and { 1e-3, 2e-3, 4e-3 } or { 4e-3, 3e-3, 2e-3 }, beta2 = 0.9,
        warmup = cell and 20 or 40, schedule = "linear" }, changes),
      adamw = trials(grid { learning_rate = { 3e-3, 2e-3, 4e-3 }, beta2 = 0.95, warmup = 40 }, changes),
      -- With few batches what a step does to its own it undoes of the others: more caution at a constant rate (δ 2)
      -- makes it a part of the way; a window over about a thousand images keeps it from undoing them, and then the
      -- curvature is taken on all rows, for a step too long costs more than they do. The study has the cheapest form,
      -- and averaged weights for where the images are many.
      gls = trials(cell and {
        { damping = 0.01, delta = 1, schedule = "constant" },
        { damping = 0.03, delta = 1, schedule = "constant", average = 0.9 },
        { damping = 0.1, delta = 0.3, schedule = "constant", average = 0.95 },
      } or {
        { damping = 0.01, delta = 2, schedule = "constant" },
        { damping = 0.01, delta = 1, schedule = "constant", rows = 1, statistics = "window", window = 1000 },
        { damping = 0.01, delta = 1, schedule = "constant", rows = 1, statistics = "window", window = 1000,
          momentum = "auto" },
      }, changes),
      ["gls-matched"] = trials(grid { learning_rate = { 3e-4, 1e-3, 3e-3 }, damping = 0.01, weight_decay = 0 },
        changes),
    },
    defaults = {
      samples = cell and cell.samples or 1000, validation = 500, epochs = cell and (cell.epochs or 10) or 16,
      batch = cell and (cell.batch or 100) or 250,
      optimizers = cell and { "adam", "gls" } or { "sgd", "adam", "gls" },
    },
  })
end

if choices.study then
  study.run {
    name = "autoencoder", title = "Autoencoder: where GLS is far below Adam, and where not", choices = choices,
    cells = CELLS, spec = spec, peers = { "adam", "gls" }, run = experiment.run,
  }
else
  experiment.run(spec())
end
