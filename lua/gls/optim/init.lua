--- Optimizers. `opt:step()` after `loss:backward()` moves the parameters, forgets the gradients and ends the step.
-- All take `(parameters, settings)`; parameters is `model:parameters()`, or a list of groups
-- `{ { parameters = …, learning_rate = … }, … }`. All take `schedule` (a function of the step, `optim.schedule`) and
-- all but L-BFGS `clip` (the greatest common norm of all gradients). `opt.learning_rate` reads and sets group 1's rate;
-- where others have another rate, they keep their ratio to it, from 0 on the one they were made with
-- (`opt.groups[i].settings.learning_rate` is each one's own).
--
-- base  what all share: groups, schedule, clipping, saving     schedule, decay, average  beside an optimizer
-- gls   gradient least squares      matrix  what muon, soap, shampoo and kfac share
-- lion, rmsprop     lbfgs, with line_search and flat     others  what is left to Adam
-- @module gls.optim
local core = require "gls.core"
local base = require "gls.optim.base"

local optim = {
  schedule = require "gls.optim.schedule", class = base.class, GLS = require "gls.optim.gls",
  average = require "gls.optim.average",
}

local function core_class(kind, name, defaults)
  local class = base.class(name, defaults)
  class.check = base.check_core
  function class.prepare(self) base.prepare_core(self, kind) end
  for method, body in pairs(base.core_methods) do class[method] = body end
  return class
end

--- Stochastic gradient descent (momentum as in Sutskever et al., ICML 2013). Settings: `learning_rate` = 0.1,
-- `momentum` = 0, `nesterov` = false, `weight_decay` = 0 (decoupled: times the learning rate).
optim.SGD = core_class("sgd", "SGD", { learning_rate = 0.1, momentum = 0, nesterov = false, weight_decay = 0 })

function optim.SGD:update(group, settings) group.core:step(settings) end -- luacheck: ignore self

-- Adam's step: the bias corrections need the number of the step.
local function adam_update(self, group, settings)
  settings.step = self.steps + 1
  group.core:step(settings)
end

--- Adam (Kingma and Ba, ICLR 2015). Settings: `learning_rate` = 1e-3, `beta1` = 0.9, `beta2` = 0.999,
-- `epsilon` = 1e-8, `weight_decay` = 0 (joins the gradient).
optim.Adam = core_class("adam", "Adam",
  { learning_rate = 1e-3, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0 })
optim.Adam.update = adam_update

--- AdamW (Loshchilov and Hutter, ICLR 2019): Adam with decoupled decay. Settings: `learning_rate` = 1e-3,
-- `beta1` = 0.9, `beta2` = 0.999, `epsilon` = 1e-8, `weight_decay` = 0.01 (times the learning rate).
optim.AdamW = core_class("adam", "AdamW",
  { learning_rate = 1e-3, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0.01 })

function optim.AdamW:update(group, settings)
  settings.decoupled = true
  adam_update(self, group, settings)
end

--- Scales all gradients so that their common norm is at most `maximum`; gives the norm before.
-- @tparam table parameters
-- @tparam number maximum
-- @treturn number
function optim.clip_gradients(parameters, maximum)
  if type(maximum) ~= "number" or maximum <= 0 or maximum ~= maximum then
    core.raise(("optim.clip_gradients: maximum is a number above 0, got %s"):format(tostring(maximum)))
  end
  return core.clip_gradients(base.list("optim.clip_gradients: parameters", parameters), maximum)
end

--- The factors (A, ∂L/∂Z) that backward left at an affine layer's weight: a list of `{ a =, g = }`, one for each use.
optim.factors = core.factors

--- Muon (Jordan et al., 2024): orthogonalised momentum for weight matrices.
optim.Muon = require "gls.optim.muon"

--- SOAP (Vyas et al., ICLR 2025): Adam in the eigenbasis of Shampoo's statistics.
optim.SOAP = require "gls.optim.soap"

--- Shampoo (Gupta, Koren and Singer, ICML 2018) with grafting (Anil et al., 2020).
optim.Shampoo = require "gls.optim.shampoo"

--- K-FAC (Martens and Grosse, ICML 2015): natural gradient, a Kronecker product a layer.
optim.KFAC = require "gls.optim.kfac"

--- RMSprop (Tieleman and Hinton, 2012).
optim.RMSprop = require "gls.optim.rmsprop"

--- Lion (Chen et al., 2023): steps of one size along the sign of an interpolated momentum.
optim.Lion = require "gls.optim.lion"

--- L-BFGS (Liu and Nocedal, 1989) with a line search for the strong Wolfe conditions: `opt:step(closure)`.
optim.LBFGS = require "gls.optim.lbfgs"

--- Groups of parameters of which only matrices are decayed.
optim.decay_matrices = require "gls.optim.decay"

--- All parameters as one vector: `values`, `gradients`, `assign`.
optim.flat = require "gls.optim.flat"

return require("gls.strict").module("optim", optim)
