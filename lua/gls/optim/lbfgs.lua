--- L-BFGS: Newton's method with the inverse Hessian of the last steps' changes of the gradient (Liu and Nocedal, "On
-- the limited memory BFGS method for large scale optimization", 1989; Nocedal and Wright, "Numerical optimization",
-- 2006, algorithms 7.4 and 7.5). For a loss that is the same function at every evaluation: a whole data set, a physical
-- problem; not for random batches. Over several ranks (gls.distributed) the closure's loss is that of this rank's part.
-- Settings: `learning_rate` = 1 (the first step tried), `iterations` = 20 of one `step`, `evaluations` = 25 of the loss
-- at most in them, `history` = 100 steps remembered, `tolerance_gradient` = 1e-7 (largest entry) and
-- `tolerance_change` = 1e-9 (of the loss, or of an entry), below which it stops. It takes no
-- `clip`: the line search bounds steps.
-- @module gls.optim.lbfgs
local gls = require "gls"
local base = require "gls.optim.base"
local flat = require "gls.optim.flat"
local search = require "gls.optim.line_search"

local LBFGS = base.class("LBFGS", { learning_rate = 1, iterations = 20, evaluations = 25, history = 100,
  tolerance_gradient = 1e-7, tolerance_change = 1e-9 })
LBFGS.takes_no_clip = true

local function dot(a, b) return (a * b):sum():item() end
local function largest(a) return a:abs():max():item() end
local function at_most(value, bound) return value <= bound or value ~= value end -- NaN ends the loop

function LBFGS:check()
  base.check_core(self)
  if #self.groups > 1 then error("optim.LBFGS: one group of parameters, they share one Hessian", 0) end
  for _, setting in ipairs { "iterations", "evaluations", "history" } do
    local value = self.groups[1].settings[setting]
    if value < 1 or value ~= math.floor(value) then
      error(("optim.LBFGS: %s is %g, expected a whole number of at least 1"):format(setting, value), 0)
    end
  end
end

function LBFGS.prepare(self) rawset(self, "memory", { steps = {}, changes = {} }) end

-- −H g by the two loops of algorithm 7.4, H₀ = (sᵀy / yᵀy) I of the last pair.
local function direction(memory, gradient)
  local steps, changes, alpha = memory.steps, memory.changes, {}
  local q = -gradient
  for i = #steps, 1, -1 do
    alpha[i] = dot(steps[i], q) / dot(changes[i], steps[i])
    q = q - changes[i] * alpha[i]
  end
  local last = changes[#changes]
  if last then q = q * (dot(last, steps[#steps]) / dot(last, last)) end
  for i = 1, #steps do
    q = q + steps[i] * (alpha[i] - dot(changes[i], q) / dot(changes[i], steps[i]))
  end
  return q
end

-- Keeps the pair s, y where the curvature along s is positive.
local function remember(memory, gradient, most)
  if not memory.gradient then return end
  local step, change = memory.step, gradient - memory.gradient
  if dot(change, step) <= 1e-10 then return end
  if #memory.steps == most then
    table.remove(memory.steps, 1)
    table.remove(memory.changes, 1)
  end
  table.insert(memory.steps, step)
  table.insert(memory.changes, change)
end

-- The parameters that are not frozen, and their places.
local function moving(parameters)
  local list, places = {}, {}
  for i, parameter in ipairs(parameters) do
    if parameter:requires_grad() then list[#list + 1], places[#places + 1] = parameter, i end
  end
  if #list == 0 then gls.core.raise "optim.LBFGS: every parameter is frozen: none is left to move" end
  return list, table.concat(places, " ")
end

-- The loss and its gradient where the parameters are, of all ranks' parts.
local function evaluation(self, closure, parameters)
  self:zero_grad()
  local loss = closure()
  if not gls.core.is_tensor(loss) then
    gls.core.raise("optim.LBFGS: the closure gives the loss, a tensor of one element, got " .. type(loss))
  end
  loss:backward()
  local value, gradient, ranks = loss:item(), flat.gradients(parameters), rawget(self, "ranks")
  if ranks then
    ranks.sum { gradient }
    value = ranks.total({ value })[1]
  end
  self:finish()
  return value, gradient
end

-- The memory outlives the step.
local function keep(memory)
  for i = 1, #memory.steps do gls.keep(memory.steps[i], memory.changes[i]) end
  for _, name in ipairs { "gradient", "step" } do
    if memory[name] then gls.keep(memory[name]) end
  end
end

--- Up to `iterations` steps. Where parameters were frozen since the last, or no longer are, the memory begins anew.
-- @tparam function closure → loss, a tensor of one element that leads to the parameters; called again and again
-- @treturn number the loss before
function LBFGS:step(closure)
  if type(closure) ~= "function" then
    error("optim.LBFGS: step(closure) needs a function that computes the loss, without backward", 2)
  end
  local settings, memory = self:current(self.groups[1]), rawget(self, "memory")
  local parameters, places = moving(self:all_parameters())
  if memory.places and memory.places ~= places then
    self:prepare()
    memory = rawget(self, "memory")
  end
  memory.places = places
  local evaluations = 0
  local function evaluate()
    evaluations = evaluations + 1
    return evaluation(self, closure, parameters)
  end

  local loss, gradient = evaluate()
  local before = loss
  for iteration = 1, settings.iterations do
    if at_most(largest(gradient), settings.tolerance_gradient) then break end
    -- 1. the pair of the last step, and the direction
    remember(memory, gradient, settings.history)
    local d = direction(memory, gradient)
    local slope = dot(gradient, d)
    local first = not memory.gradient
    memory.gradient = gradient
    if at_most(-slope, settings.tolerance_change) then break end
    -- 2. a step that fulfils the strong Wolfe conditions
    local origin = flat.values(parameters)
    local t = settings.learning_rate * (first and math.min(1, 1 / gradient:abs():sum():item()) or 1)
    local point = search({ t = 0, value = loss, slope = slope, gradient = gradient }, function(length)
      flat.assign(parameters, origin + d * length)
      local value, there = evaluate()
      return { t = length, value = value, slope = dot(there, d), gradient = there }
    end, t, settings.evaluations - evaluations, settings.tolerance_change / math.max(largest(d), 1e-30))
    memory.step = d * point.t
    flat.assign(parameters, origin + memory.step)
    -- 3. enough?
    local change = math.abs(point.value - loss)
    loss, gradient = point.value, point.gradient
    if iteration == settings.iterations or evaluations >= settings.evaluations
      or at_most(largest(memory.step), settings.tolerance_change) or change < settings.tolerance_change then
      break
    end
  end
  keep(memory)
  rawset(self, "steps", self.steps + 1)
  return before
end

-- The memory as one state of tensors, a row a pair.
function LBFGS:state_dict()
  local memory, tensors = rawget(self, "memory"), {}
  tensors.gradient, tensors.step = memory.gradient, memory.step
  if #memory.steps > 0 then tensors.steps, tensors.changes = gls.stack(memory.steps), gls.stack(memory.changes) end
  local state = self:saved(tensors)
  state.values.places = memory.places
  return state
end

function LBFGS:load_state_dict(saved)
  base.check_saved(self, saved)
  local tensors, memory = saved.tensors, { steps = {}, changes = {}, places = saved.values.places }
  memory.gradient = tensors.gradient and tensors.gradient:clone()
  memory.step = tensors.step and tensors.step:clone()
  for i = 1, tensors.steps and tensors.steps:size(1) or 0 do
    memory.steps[i], memory.changes[i] = tensors.steps[i]:clone(), tensors.changes[i]:clone()
  end
  rawset(self, "memory", memory)
  self:restore_values(saved)
end

return LBFGS
