--- What GLS's direction gains from momentum and from adaptive rates, on seven models. Of momentum: none, on the
-- gradient before the solve, on the direction after it, Nesterov's, and chosen with the automatic step. Of rates:
-- normalised per output, per entry, over all directions (orthogonal), and by the second moments of the outputs'
-- gradients.
--   glsrun experiments/combination.lua                      the transformer, 600 steps
--   glsrun experiments/combination.lua --model resnet --data cifar10
local gls = require "gls"
local experiment = require "gls.experiment"
local matrix = require "gls.optim.matrix"
local task = require "models.task"

-- ---- GLS with moving statistics, open to combinations ----

-- As optim.GLS with statistics = "moving" and graft = "rms", written out in the language: `place` is momentum's,
-- "gradient" or "direction"; `normalised` is "outputs", "entries" or "statistics".
local Combined = matrix.class("Combined", {
  learning_rate = 1e-2, damping = 0.1, momentum = 0.9, place = "gradient", normalised = "nothing", decay = 0.95,
  beta2 = 0.95, refresh = 5,
})
Combined.with_bias = true

local ROWS = 512 -- of a convolution's patches that AᵀA is made from

-- AᵀA (of one row, on average), AᵀG and GᵀG over all uses of a weight, A with a column of ones for the bias.
local function products(uses, bias)
  local statistics, gradient, of_outputs
  for _, use in ipairs(uses) do
    local a = bias and gls.cat({ use.a, gls.ones(use.a:size(1), 1) }, 2) or use.a
    local part = a[{ { 1, -1, math.max(1, a:size(1) // ROWS) } }]
    local product, slope = part:t():matmul(part) / (part:size(1) * #uses), a:t():matmul(use.g)
    statistics = statistics and statistics + product or product
    gradient = gradient and gradient + slope or slope
    local square = use.g:t():matmul(use.g)
    of_outputs = of_outputs and of_outputs + square or square
  end
  return statistics, gradient, of_outputs
end

-- A running mean, plain until it is as long as its decay says.
local function average(old, new, decay, step)
  return old and old + (new - old) * math.max(1 / step, 1 - decay) or new
end

-- The Cholesky factor of S + ρ tr S / d I.
local function damped_factor(statistics, settings)
  local identity = gls.eye(statistics:size(1))
  local damping = settings.damping * (statistics * identity):sum():item() / statistics:size(1)
  return gls.cholesky(statistics + identity * (damping + 1e-30))
end

local function direction(uses, bias, state, settings, step)
  -- 1. S ← β S + (1 − β) AᵀA, and at times its factor; of the outputs likewise (K-FAC's second factor, from the
  -- training loss's own gradients)
  local statistics, gradient, of_outputs = products(uses, bias)
  local both = settings.normalised == "statistics"
  state.statistics = average(state.statistics, statistics, settings.decay, step)
  if both then state.of_outputs = average(state.of_outputs, of_outputs, settings.decay, step) end
  if (step - 1) % settings.refresh == 0 then
    state.factor = damped_factor(state.statistics, settings)
    if both then state.factor_of_outputs = damped_factor(state.of_outputs, settings) end
  end
  -- 2. momentum on the gradient, the solve, momentum on the direction
  local beta = settings.momentum
  local function mean(x)
    state.mean = (state.mean or gls.zeros_like(x)) * beta + x * (1 - beta)
    return state.mean
  end
  if settings.place == "gradient" then gradient = mean(gradient) end
  local u = gls.cholesky_solve(state.factor, gradient)
  if both then u = gls.cholesky_solve(state.factor_of_outputs, u:t():contiguous()):t() end
  if settings.place == "direction" then u = mean(u) end
  -- 3. second moments, one of each output (NorMuon: Li et al. 2025) or entry (Adam)
  if settings.normalised == "outputs" or settings.normalised == "entries" then
    local square = settings.normalised == "outputs" and u:square():mean(1, true) or u:square()
    state.square = average(state.square, square, settings.beta2, step)
    u = u / (state.square:sqrt() + 1e-12)
  end
  -- 4. the matched length
  return u * (0.2 * math.sqrt(u:numel()) / (u:norm():item() + 1e-30))
end

function Combined:update(group, settings)
  for _, i in ipairs(group.matrices) do
    local weight, bias, key = group.parameters[i], group.biases[i], group.names[i]
    local uses = gls.factors(weight)
    if #uses > 0 then
      group.states[key] = group.states[key] or {}
      local u = direction(uses, bias, group.states[key], settings, self.steps + 1)
      local d = u:size(1) - (bias and 1 or 0)
      local of_weight = u:narrow(1, 1, d)
      matrix.move(weight, weight:dim() > 2 and of_weight:t() or of_weight, settings)
      if bias then bias:detach():copy(bias - u[d + 1] * settings.learning_rate) end
    end
  end
  self:step_others(group, settings)
end

-- All start alike: `gls-orthogonal` here has nothing else of the form "tokens".
for _, entry in ipairs {
  { "none", { momentum = 0 } }, { "gradient", {} }, { "nesterov", { nesterov = true } },
  { "orthogonal", { orthogonal = true } },
} do
  local settings = { momentum = 0.9, graft = "rms", statistics = "moving" }
  for name, value in pairs(entry[2]) do settings[name] = value end
  experiment.optimizer("gls-" .. entry[1], "GLS", settings)
end
experiment.optimizer("gls-direction", Combined, { place = "direction" })
experiment.optimizer("gls-outputs", Combined, { normalised = "outputs" })
experiment.optimizer("gls-entries", Combined, { normalised = "entries" })
experiment.optimizer("gls-statistics", Combined, { normalised = "statistics" })

-- ---- the tasks ----

local around = { -- of the trials on a model
  mlp = { damping = 1, initialisation = "he" },
  cnn = { damping = 1, data = { flip = true, crop = 4 } },
  autoencoder = { damping = 0.01, initialisation = "orthogonal-small" },
  resnet = { damping = 1, weight_decay = 0.05, data = { flip = true, crop = 4 }, model = { depth = 8 } },
  resnet20 = { damping = 1, weight_decay = 0.05, data = { flip = true, crop = 4 }, model = { depth = 20 } },
  transformer = { damping = 0.1, weight_decay = 0.1, warmup = 100, final = 0.1, fallback_learning_rate = 3e-3 },
}
around.lstm = around.transformer

local rates = {
  mlp = { 1e-3, 3e-3 }, cnn = { 3e-3, 1e-2 }, autoencoder = { 1e-3, 3e-3 }, resnet = { 5e-2, 2e-2 },
  resnet20 = { 5e-2, 2e-2 }, transformer = { 1e-2, 5e-3 }, lstm = { 2e-2, 1e-2 },
}

local defaults = {
  mlp = { samples = 5000, epochs = 5, batch = 250 },
  cnn = { samples = 5000, epochs = 4, batch = 100 },
  autoencoder = { samples = 1000, epochs = 16, batch = 250, validation = 500 },
  resnet = { samples = 5000, epochs = 5, batch = 100 },
  resnet20 = { samples = 5000, epochs = 5, batch = 100 },
  transformer = { data = "text", validation = 20000, epochs = 3, batch = 12 },
  lstm = { data = "text", validation = 20000, epochs = 3, batch = 12 },
}

local choices = experiment.choices("combination", {
  { name = "model", values = { "transformer", "lstm", "resnet", "resnet20", "cnn", "mlp", "autoencoder" },
    help = "What is trained: transformer (default), lstm, resnet (of 8 layers), resnet20, cnn, mlp or autoencoder." },
})
local model = choices.model

local function with(settings)
  settings.schedule = settings.schedule or "cosine"
  for name, value in pairs(around[model]) do
    if settings[name] == nil then settings[name] = value end
  end
  return experiment.grid(settings)
end

-- Decay at the automatic rate is a share of the weights in every step.
local trials = {
  gls = with { damping = 0.03, schedule = "constant", warmup = 0, weight_decay = 0, momentum = { 0, "auto" } },
}
local names = { "none", "gradient", "direction", "nesterov", "outputs", "entries", "statistics", "orthogonal" }
for _, name in ipairs(names) do
  local settings = { learning_rate = rates[model] }
  if model == "lstm" then -- its output layer is left to Adam (experiments/README.md, section 9)
    settings.others, settings.fallback_learning_rate, settings.fallback_weight_decay = { { "3" } }, 3e-2, 0
  else -- the parameters that are left to Adam are decayed by all like the others
    settings.fallback_weight_decay = around[model].weight_decay
  end
  trials["gls-" .. name] = with(settings)
end

local default = defaults[model]
default.select = model == "autoencoder" and "train" or "valid"

experiment.run(task(model == "resnet20" and "resnet" or model, {
  name = "combination",
  title = "GLS with momentum and adaptive rates: " .. model,
  choices = choices,
  batches = default.data == "text" and 200 or nil,
  trials = trials,
  defaults = default,
}))
