--- RMSprop: the gradient over the root of its running mean square (Tieleman and Hinton, "Lecture 6.5: rmsprop",
-- Coursera, 2012). Settings: `learning_rate` = 1e-2, `decay` = 0.99 of the mean square, `momentum` = 0,
-- `epsilon` = 1e-8, `weight_decay` = 0 (decoupled).
-- @module gls.optim.rmsprop
local gls = require "gls"
local base = require "gls.optim.base"

local RMSprop = base.class("RMSprop",
  { learning_rate = 1e-2, decay = 0.99, momentum = 0, epsilon = 1e-8, weight_decay = 0 })

RMSprop.check = base.check_core

-- luacheck: ignore self
function RMSprop:state_shape(group, i) return group.parameters[i].shape end

function RMSprop:update_parameter(parameter, gradient, state, settings)
  -- 1. v = ρ v + (1 − ρ) g²
  state.square = (state.square or gls.zeros_like(parameter)) * settings.decay
    + gradient:square() * (1 - settings.decay)
  -- 2. d = g / (√v + ε), with momentum m = μ m + d
  local direction = gradient / (state.square:sqrt() + settings.epsilon)
  if settings.momentum > 0 then
    direction = (state.momentum or gls.zeros_like(parameter)) * settings.momentum + direction
    state.momentum = direction
  end
  -- 3. θ = (1 − ηλ) θ − η d
  parameter:copy(parameter * (1 - settings.learning_rate * settings.weight_decay) - direction * settings.learning_rate)
end

return RMSprop
