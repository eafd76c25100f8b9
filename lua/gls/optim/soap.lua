--- SOAP: Adam in the eigenbasis of Shampoo's statistics (Vyas, Morwani, Zhao, Kwun, Shapira, Brandfonbrener, Janson and
-- Kakade, "SOAP: Improving and stabilizing Shampoo using Adam", ICLR 2025, algorithm 3).
-- Settings: `learning_rate` = 3e-3, `beta1` = 0.95, `beta2` = 0.95 (of the second moment and of L and R),
-- `epsilon` = 1e-8, `refresh` = 10 steps between bases, `widest` = 10000 (a longer side keeps its own basis), and those
-- of gls.optim.matrix.
-- @module gls.optim.soap
local gls = require "gls"
local matrix = require "gls.optim.matrix"

local SOAP = matrix.class("SOAP",
  { learning_rate = 3e-3, beta1 = 0.95, beta2 = 0.95, epsilon = 1e-8, refresh = 10, widest = 10000 })
SOAP.shapes = { mean = "rc", square = "rc", left = "rr", left_statistics = "rr", right = "cc", right_statistics = "cc" }

local function eigenbasis(statistics)
  local _, vectors = gls.eigh(statistics)
  return vectors:flip(2) -- the largest eigenvalue first
end

-- One step of the power method, then QR (algorithm 4). The second moment's rows go with their eigenvectors.
local function next_basis(statistics, basis)
  local product = statistics:matmul(basis)
  local order = (basis * product):sum(1):argsort(1, true)
  return gls.orthogonal(product:index_select(2, order)), order
end

local function to_basis(x, state)
  if state.left then x = state.left:t():matmul(x) end
  return state.right and x:matmul(state.right) or x
end

local function from_basis(x, state)
  if state.left then x = state.left:matmul(x) end
  return state.right and x:matmul(state.right:t()) or x
end

-- L ← β₂ L + (1 − β₂) G Gᵀ, R ← β₂ R + (1 − β₂) Gᵀ G, each where its side is not too wide.
local function add_statistics(gradient, state, settings)
  local beta = settings.beta2
  if gradient:size(1) <= settings.widest then
    local product = gradient:matmul(gradient:t()) * (1 - beta)
    state.left_statistics = state.left_statistics and state.left_statistics * beta + product or product
  end
  if gradient:size(2) <= settings.widest then
    local product = gradient:t():matmul(gradient) * (1 - beta)
    state.right_statistics = state.right_statistics and state.right_statistics * beta + product or product
  end
end

-- luacheck: ignore self
function SOAP:direction(gradient, state, settings)
  if not state.updates then -- the first gradient makes the bases alone, so that it is not projected on itself
    add_statistics(gradient, state, settings)
    state.left = state.left_statistics and eigenbasis(state.left_statistics)
    state.right = state.right_statistics and eigenbasis(state.right_statistics)
    state.mean, state.square = gls.zeros_like(gradient), gls.zeros_like(gradient)
    state.updates = gls.zeros(1)
    return nil
  end
  state.updates = state.updates + 1
  local t, beta1, beta2 = state.updates:item(), settings.beta1, settings.beta2
  -- lines 3 to 8: moments, the second one in the eigenbasis
  local projected = to_basis(gradient, state)
  state.mean = state.mean * beta1 + gradient * (1 - beta1)
  state.square = state.square * beta2 + projected:square() * (1 - beta2)
  -- lines 9 to 11: Adam's direction, and back
  local direction = from_basis(to_basis(state.mean, state) / (state.square:sqrt() + settings.epsilon), state)
  -- lines 12 to 16: statistics, and at times the next bases
  add_statistics(gradient, state, settings)
  if t % settings.refresh == 0 then
    local order
    if state.left then
      state.left, order = next_basis(state.left_statistics, state.left)
      state.square = state.square:index_select(1, order)
    end
    if state.right then
      state.right, order = next_basis(state.right_statistics, state.right)
      state.square = state.square:index_select(2, order)
    end
  end
  return direction * (math.sqrt(1 - beta2 ^ t) / (1 - beta1 ^ t))
end

return SOAP
