--- Shampoo: the gradient between the inverse roots of its two second moments (Gupta, Koren and Singer, "Shampoo:
-- Preconditioned stochastic tensor optimization", ICML 2018, algorithm 1), with the step's length of a simpler
-- optimizer's, grafting, and momentum on what comes out (Anil, Gupta, Koren, Regan and Singer, "Scalable second order
-- optimization for deep learning", 2020, sections 4 and G).
-- Settings: `learning_rate` = 1e-3, `momentum` = 0.9, `decay` = 0.95 of the statistics (1: summed, as Gupta has
-- it), `graft` = "rmsprop" (the length of G / √v), "sgd" (that of G) or "none", `epsilon` = 1e-6 (statistics begin as
-- εI), `refresh` = 10 steps between roots, `widest` = 10000 (a longer side has no statistics), and those of
-- gls.optim.matrix.
-- @module gls.optim.shampoo
local gls = require "gls"
local matrix = require "gls.optim.matrix"

local Shampoo = matrix.class("Shampoo", { learning_rate = 1e-3, momentum = 0.9, decay = 0.95, graft = "rmsprop",
  epsilon = 1e-6, refresh = 10, widest = 10000 })
Shampoo.shapes = { momentum = "rc", square = "rc", left = "rr", left_root = "rr", right = "cc", right_root = "cc" }

local check = Shampoo.check
function Shampoo:check()
  check(self)
  for _, group in ipairs(self.groups) do
    local graft = group.settings.graft
    if graft ~= "rmsprop" and graft ~= "sgd" and graft ~= "none" then
      error(('optim.Shampoo: graft is "rmsprop", "sgd" or "none", got "%s"'):format(graft), 0)
    end
  end
end

-- H^(−1/4) of a symmetric matrix whose eigenvalues are at least ε.
local function inverse_fourth_root(statistics, epsilon)
  local values, vectors = gls.eigh(statistics)
  return (vectors * values:maximum(epsilon):pow(-0.25)):matmul(vectors:t())
end

local function accumulate(statistics, product, settings)
  statistics = statistics or gls.eye(product:size(1)) * settings.epsilon
  return statistics * settings.decay + product * (settings.decay < 1 and 1 - settings.decay or 1)
end

-- luacheck: ignore self
function Shampoo:direction(gradient, state, settings)
  local updates = state.updates and state.updates:item() or 0
  -- 1. L ← L + G Gᵀ, R ← R + Gᵀ G
  if gradient:size(1) <= settings.widest then
    state.left = accumulate(state.left, gradient:matmul(gradient:t()), settings)
  end
  if gradient:size(2) <= settings.widest then
    state.right = accumulate(state.right, gradient:t():matmul(gradient), settings)
  end
  if updates % settings.refresh == 0 then
    state.left_root = state.left and inverse_fourth_root(state.left, settings.epsilon)
    state.right_root = state.right and inverse_fourth_root(state.right, settings.epsilon)
  end
  state.updates = gls.full({ 1 }, updates + 1)
  -- 2. D = L^(−1/4) G R^(−1/4)
  local direction = gradient
  if state.left_root then direction = state.left_root:matmul(direction) end
  if state.right_root then direction = direction:matmul(state.right_root) end
  -- 3. grafting: D takes the length that G, or G / √v, has
  if settings.graft ~= "none" then
    local model = gradient
    if settings.graft == "rmsprop" then
      local square = (state.square or gls.zeros_like(gradient)) * 0.999 + gradient:square() * 0.001
      state.square = square
      model = gradient / ((square / (1 - 0.999 ^ (updates + 1))):sqrt() + 1e-8)
    end
    direction = direction * (model:norm() / (direction:norm() + 1e-30))
  end
  -- 4. momentum: M ← β M + (1 − β) D
  if settings.momentum == 0 then return direction end
  state.momentum = (state.momentum or gls.zeros_like(direction)) * settings.momentum
    + direction * (1 - settings.momentum)
  return state.momentum
end

return Shampoo
