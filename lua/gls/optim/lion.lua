--- Lion: steps of one size along the sign of an interpolated momentum (Chen et al., "Symbolic discovery of optimization
-- algorithms", NeurIPS 2023, program 1). Its steps are larger than Adam's: the authors' learning rate is a third to a
-- tenth of Adam's, and the decay that much larger. Settings: `learning_rate` = 1e-4, `beta1` = 0.9, `beta2` = 0.99,
-- `weight_decay` = 0 (decoupled).
-- @module gls.optim.lion
local gls = require "gls"
local base = require "gls.optim.base"

local Lion = base.class("Lion", { learning_rate = 1e-4, beta1 = 0.9, beta2 = 0.99, weight_decay = 0 })

Lion.check = base.check_core

-- luacheck: ignore self
function Lion:state_shape(group, i) return group.parameters[i].shape end

function Lion:update_parameter(parameter, gradient, state, settings)
  local momentum = state.momentum or gls.zeros_like(parameter)
  -- 1. direction: c = sign(β₁ m + (1 − β₁) g)
  local direction = (momentum * settings.beta1 + gradient * (1 - settings.beta1)):sign()
  -- 2. θ = (1 − ηλ) θ − η c
  parameter:copy(parameter * (1 - settings.learning_rate * settings.weight_decay) - direction * settings.learning_rate)
  -- 3. m = β₂ m + (1 − β₂) g
  state.momentum = momentum * settings.beta2 + gradient * (1 - settings.beta2)
end

return Lion
