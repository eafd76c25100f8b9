--- Averaging of weights: an exponential average of the parameters over the steps, evaluated in place of them
-- (Polyak and Juditsky 1992; with decay as in Tarvainen and Valpola, NeurIPS 2017).
-- @module gls.optim.average
local core = require "gls.core"
local number = require "gls.number"
local base = require "gls.optim.base"

local Average = { __name = "optim.average" }

-- The learning rate is the wrapped optimizer's.
Average.__index = function(self, key)
  if key == "learning_rate" then return self.optimizer.learning_rate end
  return Average[key]
end

Average.__newindex = function(self, key, value)
  if key ~= "learning_rate" then
    error(('optim.average: "%s" cannot be set; learning_rate can'):format(tostring(key)), 2)
  end
  self.optimizer.learning_rate = value
end

--- Steps the parameters, then averages them; gives what the wrapped optimizer's step gives.
function Average:step(closure)
  if self.swapped then error("optim.average: the averages stand in the parameters' place: swap() before a step", 2) end
  local result = self.optimizer:step(closure)
  local _ <close> = core.no_grad()
  rawset(self, "steps", self.steps + 1)
  local newest = math.max(1 - self.decay, 1 / (self.steps + 1))
  for i, parameter in ipairs(self.parameters) do
    local average = self.averages[i]
    average:accumulate(average, -newest)
    average:accumulate(parameter:detach(), newest)
  end
  return result
end

--- Exchanges the parameters' values and the averages; calling it again undoes it.
function Average:swap()
  rawset(self, "swapped", not self.swapped)
  for i, parameter in ipairs(self.parameters) do
    local kept = parameter:detach():clone()
    parameter:detach():copy(self.averages[i])
    self.averages[i]:copy(kept)
  end
end

--- What the wrapped optimizer reports.
function Average:report() return self.optimizer:report() end

--- Forgets all gradients without a step.
function Average:zero_grad() self.optimizer:zero_grad() end

--- All state: `inner`, the wrapped optimizer's; `averages`, in the order of the parameters; `steps`; `swapped`.
function Average:state_dict()
  local averages = {}
  for i, average in ipairs(self.averages) do averages[i] = average:clone() end
  return { inner = self.optimizer:state_dict(), averages = averages, steps = self.steps, swapped = self.swapped }
end

--- Puts back what `state_dict` gave, onto the same parameters.
function Average:load_state_dict(saved)
  if type(saved) ~= "table" or type(saved.inner) ~= "table" or type(saved.averages) ~= "table"
      or math.type(saved.steps) ~= "integer" or type(saved.swapped) ~= "boolean" then
    error("optim.average: this is not what its state_dict gives", 2)
  end
  for i, average in ipairs(self.averages) do
    local given = saved.averages[i]
    local found = core.is_tensor(given) and number.shape(given.shape) or type(given)
    local wanted = number.shape(average.shape)
    if found ~= wanted then
      error(("optim.average: the saved average %d is %s, the parameter %s"):format(i, found, wanted), 2)
    end
  end
  if #saved.averages ~= #self.averages then
    error(("optim.average: %d saved averages, %d parameters"):format(#saved.averages, #self.averages), 2)
  end
  self.optimizer:load_state_dict(saved.inner)
  for i, average in ipairs(self.averages) do average:copy(saved.averages[i]) end
  rawset(self, "steps", saved.steps)
  rawset(self, "swapped", saved.swapped)
end

--- Wraps an optimizer.
-- @param optimizer whose `step` moves the parameters
-- @tparam table parameters
-- @tparam number decay of the average: after t steps the weight of the newest is max(1 − decay, 1/(t + 1))
-- @return an optimizer whose `step` also averages, and whose `swap` exchanges parameters and averages
return function(optimizer, parameters, decay)
  if type(optimizer) ~= "table" or type(optimizer.step) ~= "function" then
    error("optim.average: an optimizer expected, got " .. type(optimizer), 2)
  end
  if type(decay) ~= "number" or not (decay >= 0 and decay < 1) then
    error(("optim.average: decay is a number from 0 to below 1, got %s"):format(tostring(decay)), 2)
  end
  base.list("optim.average: parameters", parameters)
  local averages = {}
  for i, parameter in ipairs(parameters) do averages[i] = parameter:detach():clone() end
  return setmetatable({
    optimizer = optimizer, parameters = parameters, averages = averages, decay = decay, steps = 0, swapped = false,
  }, Average)
end
