--- Is it the direction or the length? First, GLS held to the length of SGD's own step, rate by rate, on one of the
-- three models (--model mlp, autoencoder or cnn). Second, on a small network whose exact Hessian can be had: cosines
-- between the directions of SGD, GLS and Newton, and what each gains per unit of step.
--   glsrun experiments/step_size.lua --model mlp --data cifar10 --samples 5000 --epochs 10
local gls = require "gls"
local data = require "gls.data"
local experiment = require "gls.experiment"
local file = require "gls.file"
local nn = require "gls.nn"
local optim = require "gls.optim"
local record = require "gls.experiment.record"
local task = require "models.task"

local grid = experiment.grid

-- ---- the length of SGD's step ----

local choices = experiment.choices("step_size", {
  { name = "model", values = { "mlp", "autoencoder", "cnn" }, help = "What is trained (default mlp)." },
})
local RATES = { mlp = { 0.03, 0.1, 0.3 }, cnn = { 0.01, 0.03, 0.1 }, autoencoder = { 10, 30, 60 } }
local rates, initialisation = RATES[choices.model], choices.model == "autoencoder" and "orthogonal-small" or "he"

local path = experiment.run(task(choices.model, {
  name = "step_size",
  title = "GLS at SGD's own step size: " .. choices.model,
  choices = choices,
  trials = {
    sgd = grid { learning_rate = rates, initialisation = initialisation },
    ["gls-graft"] = grid { learning_rate = rates, initialisation = initialisation },
  },
  defaults = { samples = 2000, validation = 1000, epochs = 10, batch = 250, optimizers = { "sgd", "gls-graft" } },
}))
if not path then return end

-- ---- directions on a small network ----

-- Images averaged over 8 × 8 squares, so that the network has few enough weights for its Hessian.
local SQUARE, SAMPLES = 8, 200

local function small_problem()
  local config = record.decode(file.read(path:match "^(.*)/[^/]*$" .. "/config.json"))
  local samples = math.min(SAMPLES, config.data.train_images)
  local set = data.open(config.options.data, { split = "train", samples = samples, dir = config.options.data_dir })
  local images = set.images:float()
  local count, channels, height = images:size(1), images:size(2), images:size(3)
  local cells = math.max(1, height // SQUARE)
  local pooled = gls.adaptive_avg_pool2d(images, { cells, cells }):reshape(count, channels * cells * cells)
  pooled = (pooled - pooled:mean(1)) / 64
  local model = nn.Sequential { nn.Linear(pooled:size(2), 12), nn.Tanh(), nn.Linear(12, #set.classes) }
  nn.initialize(model, "xavier_normal")
  return model, pooled, set.labels, samples
end

-- The small problem: its loss, and what moves its parameters (`values`, `assign`: all of them as one vector).
local function problem()
  gls.seed(1)
  local model, x, y, samples = small_problem()
  local parameters = model:parameters()
  return {
    parameters = parameters, samples = samples, weights = optim.flat.values(parameters):numel(),
    loss = function() return nn.cross_entropy(model(x), y) end,
    values = function() return optim.flat.values(parameters) end,
    assign = function(values) optim.flat.assign(parameters, values) end,
  }
end

local function loss_at(p)
  local _ <close> = gls.no_grad()
  return p.loss():item()
end

local function gradient(p)
  p.loss():backward()
  local result = optim.flat.gradients(p.parameters)
  for _, parameter in ipairs(p.parameters) do parameter:zero_grad() end
  gls.tape_release()
  return result
end

-- Its products with the unit vectors: one recorded gradient, differentiated once a weight.
local function hessian(p)
  local scope <close> = gls.scope()
  local list, columns = table.move(p.parameters, 1, #p.parameters, 1, {}), {}
  local slope = gls.grad(p.loss(), list, { create_graph = true })
  for i, part in ipairs(slope) do slope[i] = part:reshape(-1) end
  slope = gls.cat(slope, 1)
  for k = 1, p.weights do columns[k] = optim.flat.values(gls.grad(slope[k], list)) end
  return scope:keep(gls.stack(columns, 1))
end

-- |H|⁻¹ g: eigenvalues by their size, the smallest held at a thousandth of the largest, so that it descends.
local function newton_direction(p, g)
  local values, vectors = gls.eigh(hessian(p))
  local floor = values:abs():max():item() * 1e-3
  local inverse = values:abs():clamp(floor, math.huge):reciprocal()
  return vectors:matmul(inverse * vectors:transpose(1, 2):matmul(g))
end

local function gls_direction(p)
  local before = p.values()
  p.loss():backward()
  optim.GLS(p.parameters, { learning_rate = 1e-3, damping = 0.01 }):step()
  local direction = before - p.values()
  p.assign(before)
  return direction
end

-- The slope along a direction, and the most that the loss falls, over steps from 10⁻⁴ to 10² of the weights' length.
local function most_gained(p, direction, g)
  local here, before = loss_at(p), p.values()
  local unit = direction / direction:norm():item()
  local gained, at = 0, 0
  for exponent = -16, 8 do
    local step = 10 ^ (exponent / 4)
    p.assign(before - unit * step)
    local fall = here - loss_at(p)
    if fall > gained then gained, at = fall, step end
  end
  p.assign(before)
  return (unit * g):sum():item(), gained, at
end

local function cosine(a, b) return (a * b):sum():item() / (a:norm():item() * b:norm():item()) end

local function row_after(p, steps)
  local g = gradient(p)
  local directions = { g, gls_direction(p), newton_direction(p, g) }
  local slopes, gains, lengths = {}, {}, {}
  for i, direction in ipairs(directions) do
    local slope, gained, at = most_gained(p, direction, g)
    slopes[i], gains[i], lengths[i] = ("%.3g"):format(slope), ("%.3g"):format(gained), ("%.2g"):format(at)
  end
  return ("| %d | %.3f | %.3f | %.3f | %.3f | %s | %s | %s |"):format(steps, loss_at(p),
    cosine(directions[1], directions[3]), cosine(directions[2], directions[3]), cosine(directions[2], directions[1]),
    table.concat(slopes, ", "), table.concat(gains, ", "), table.concat(lengths, ", "))
end

local function table_after(p, counts)
  local rows = {
    "| after steps | loss | cos(SGD, Newton) | cos(GLS, Newton) | cos(GLS, SGD) | "
      .. "slope SGD, GLS, Newton | most gained SGD, GLS, Newton | at step length |",
    "|---|---|---|---|---|---|---|---|",
  }
  local adam, done = optim.Adam(p.parameters, { learning_rate = 1e-2 }), 0
  for _, steps in ipairs(counts) do
    for _ = done + 1, steps do
      p.loss():backward()
      adam:step()
    end
    done = steps
    rows[#rows + 1] = row_after(p, steps)
  end
  return table.concat(rows, "\n")
end

local small = problem()
local text = ([[

## Directions against Newton's

A network of %d weights on %d images averaged to squares of %d pixels. Newton's direction is |H|⁻¹ g with the exact
Hessian. The network is trained by Adam for the steps given, and the directions are
compared there. Slope: fall of the loss per unit of step length at length 0; most gained: by the best step along the
direction.

%s
]]):format(small.weights, small.samples, SQUARE, table_after(small, { 0, 20, 100, 300 }))
file.replace(path, file.read(path) .. text)
print(text)
print(path)
