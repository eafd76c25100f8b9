--- Muon: momentum whose matrix is replaced by the nearest orthogonal one, so that every direction moves alike (Jordan,
-- Jin, Boza, You, Cesista, Newhouse and Bernstein, "Muon: An optimizer for hidden layers in neural networks", 2024).
-- For hidden layers: name the output layer in `others`; embeddings, norms and biases are left to AdamW by themselves.
-- Settings: `learning_rate` = 0.02, `momentum` = 0.95, `nesterov` = true, `iterations` = 5 of Newton and Schulz,
-- For hidden layers: name the output layer in `others`; embeddings, norms and biases are left to AdamW anyway.
-- decays serve: Liu et al., "Muon is scalable for LLM training", 2025, equation 4), and those of gls.optim.matrix.
-- @module gls.optim.muon
local gls = require "gls"
local matrix = require "gls.optim.matrix"

local Muon = matrix.class("Muon",
  { learning_rate = 0.02, momentum = 0.95, nesterov = true, iterations = 5, matched = false })

--- Newton and Schulz's iteration, quintic: X ← aX + (bXXᵀ + c(XXᵀ)²) X from x / ‖x‖ drives all singular values to
-- about 1 (0.7 to 1.2 with these coefficients, which are chosen for the slope at 0). In float32; the authors' runs in
-- bfloat16.
-- @tparam tensor x (m × n)
-- @tparam[opt=5] integer iterations
-- @treturn tensor U Vᵀ, nearly, for x = U S Vᵀ
function Muon.newton_schulz(x, iterations)
  local a, b, c = 3.4445, -4.7750, 2.0315
  local tall = x:size(1) > x:size(2)
  if tall then x = x:t() end
  x = x / (x:norm() + 1e-7)
  for _ = 1, iterations or 5 do
    local gram = x:matmul(x:t())
    x = x * a + (gram * b + gram:matmul(gram) * c):matmul(x)
  end
  return tall and x:t() or x
end

-- luacheck: ignore self
function Muon:direction(gradient, state, settings, outputs, inputs)
  local beta = settings.momentum
  -- 1. M ← β M + (1 − β) G
  state.momentum = (state.momentum or gls.zeros_like(gradient)) * beta + gradient * (1 - beta)
  -- 2. Nesterov: (1 − β) G + β M
  local direction = settings.nesterov and gradient * (1 - beta) + state.momentum * beta or state.momentum
  -- 3. O = NS₅
  direction = Muon.newton_schulz(direction, settings.iterations)
  -- 4. the step's length: √max(1, outputs / inputs), or 0.2 √max(outputs, inputs)
  local length = settings.matched and 0.2 * math.sqrt(math.max(outputs, inputs))
    or math.sqrt(math.max(1, outputs / inputs))
  return direction * length
end

return Muon
