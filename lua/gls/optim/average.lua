--- Averaging of weights: an exponential average of the parameters over the steps, evaluated in place of them
-- (Polyak and Juditsky 1992; with decay as in Tarvainen and Valpola, NeurIPS 2017).
-- @module gls.optim.average
local core = require "gls.core"

local Average = {}
Average.__index = Average

--- Steps the parameters, then averages them.
function Average:step(closure)
  self.optimizer:step(closure)
  local _ <close> = core.no_grad()
  self.steps = self.steps + 1
  local newest = math.max(1 - self.decay, 1 / (self.steps + 1))
  for i, parameter in ipairs(self.parameters) do
    local average = self.averages[i]
    average:accumulate(average, -newest)
    average:accumulate(parameter:detach(), newest)
  end
end

--- Exchanges the parameters' values and the averages; calling it again undoes it.
function Average:swap()
  for i, parameter in ipairs(self.parameters) do
    local kept = parameter:detach():clone()
    parameter:detach():copy(self.averages[i])
    self.averages[i]:copy(kept)
  end
end

--- What the wrapped optimizer reports.
function Average:report() return self.optimizer:report() end

--- Wraps an optimizer.
-- @param optimizer whose `step` moves the parameters
-- @tparam table parameters
-- @tparam number decay of the average: after t steps the weight of the newest is max(1 − decay, 1/(t + 1))
-- @return an optimizer whose `step` also averages, and whose `swap` exchanges parameters and averages
return function(optimizer, parameters, decay)
  if type(decay) ~= "number" or decay < 0 or decay >= 1 then
    error(("optim.average: decay is a number from 0 to below 1, got %s"):format(tostring(decay)), 2)
  end
  local averages = {}
  for i, parameter in ipairs(parameters) do averages[i] = parameter:detach():clone() end
  return setmetatable({
    optimizer = optimizer, parameters = parameters, averages = averages, decay = decay, steps = 0,
  }, Average)
end
