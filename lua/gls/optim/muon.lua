--- Muon: momentum whose matrix is replaced by the nearest orthogonal one, so that every direction moves alike (Jordan,
-- Jin, Boza, You, Cesista, Newhouse and Bernstein, "Muon: An optimizer for hidden layers in neural networks", 2024).
-- For hidden layers: name the output layer in `others`; embeddings, norms and biases are left to AdamW by themselves.
-- Settings: `learning_rate` = 0.02, `momentum` = 0.95, `nesterov` = true, `iterations` = 5 of Newton and Schulz,
-- `matched` = false (each step has root mean square 0.2 · `learning_rate`, as Adam's, so that Adam's rates and
-- decays serve: Liu et al., "Muon is scalable for LLM training", 2025, equation 4), and those of gls.optim.matrix.
-- @module gls.optim.muon
local gls = require "gls"
local matrix = require "gls.optim.matrix"

local Muon = matrix.class("Muon",
  { learning_rate = 0.02, momentum = 0.95, nesterov = true, iterations = 5, matched = false })

Muon.shapes = { momentum = "rc" }

-- luacheck: ignore self
function Muon:direction(gradient, state, settings, outputs, inputs)
  local beta = settings.momentum
  -- 1. M ← β M + (1 − β) G
  state.momentum = (state.momentum or gls.zeros_like(gradient)) * beta + gradient * (1 - beta)
  -- 2. Nesterov: (1 − β) G + β M
  local direction = settings.nesterov and gradient * (1 - beta) + state.momentum * beta or state.momentum
  -- 3. O = NS₅, in bfloat16 where the processor has a matrix unit, as the authors'; else in float32
  direction = gls.newton_schulz(direction, settings.iterations)
  -- 4. the step's length: √max(1, outputs / inputs), or 0.2 √max(outputs, inputs)
  local length = settings.matched and 0.2 * math.sqrt(math.max(outputs, inputs))
    or math.sqrt(math.max(1, outputs / inputs))
  return direction * length
end

return Muon
