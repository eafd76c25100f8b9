--- Finder: the learning-rate range test (Smith, "Cyclical learning rates for training neural networks", WACV 2017,
-- section 3.3): one training step at each of a rising series of rates; the loss falls fastest at a good one.
-- @module gls.train.finder
local core = require "gls.core"
local finite = require("gls.number").finite
local means = require "gls.train.means"
local modes = require "gls.train.modes"
local options = require "gls.options"
local ranks = require "gls.train.ranks"
local check_data = require("gls.train.settings").check_data

local finder = {}

local function check(set)
  local function fail(...) core.raise("train.find_learning_rate: " .. string.format(...)) end
  if type(set.model) ~= "table" or type(set.model.state_dict) ~= "function" then fail "model is a module" end
  local optimizer = set.optimizer
  if type(optimizer) ~= "table" or type(optimizer.state_dict) ~= "function" then fail "optimizer is an optimizer" end
  if type(optimizer.learning_rate) ~= "number" then
    fail("the optimizer's learning rate is %s, not a number that could be varied", tostring(optimizer.learning_rate))
  end
  check_data("train.find_learning_rate", set.data)
  if type(set.loss) ~= "function" then fail("loss is a function of the model and a batch") end
  if not (set.least > 0 and set.least < set.most and set.most < math.huge) then
    fail("rates rise from least to most, above 0; got %g and %g", set.least, set.most)
  end
  if math.type(set.steps) ~= "integer" or set.steps < 10 then
    fail("steps is a whole number of at least 10, got %s", tostring(set.steps))
  end
  if set.stop <= 1 or set.stop ~= set.stop then fail("stop is above 1, got %g", set.stop) end
  if not (set.smoothing >= 0 and set.smoothing < 1) then
    fail("smoothing is from 0 to below 1, got %g", set.smoothing)
  end
end

-- Where the smoothed loss falls fastest along the logarithm of the rate: differences over two steps.
local function steepest(rates, losses)
  local best, slope
  for i = 2, #rates - 1 do
    local now = losses[i + 1] - losses[i - 1]
    if now < 0 and (not slope or now < slope) then best, slope = rates[i], now end
  end
  return best
end

--- Tries learning rates, and puts model, optimizer, generator and loader back as they were.
-- @tparam table given `model`, `optimizer`, `loss`, `data` as for train.fit; `least` = 1e-6, `most` = 1: the rates, in
-- `steps` = 100 steps by one factor; `smoothing` = 0.9 of the losses' moving average; it ends sooner where that is
-- above `stop` = 4 times its least value, or not finite
-- @treturn table `rates`, `losses` (of each batch before its step), `smoothed`; `suggestion`: the rate at which the
-- smoothed loss falls fastest, nil where it never falls
-- @raise where the optimizer's rate is no number (GLS's "auto" is found anew in every step), or several ranks train
function finder.find(given)
  local set = options.check("train.find_learning_rate", given, {
    model = options.required, optimizer = options.required, loss = options.required, data = options.required,
    least = 1e-6, most = 1, steps = 100, smoothing = 0.9, stop = 4,
  })
  check(set)
  local model, optimizer, data = set.model, set.optimizer, set.data
  local inner = optimizer.optimizer or optimizer -- of an average
  if rawget(inner, "sums_over_ranks") or ranks.of(data) then
    core.raise "train.find_learning_rate: ranks share the optimizer or the data; one process alone finds the same rate"
  end
  local before = {
    model = model:state_dict(), optimizer = optimizer:state_dict(), random = core.random_state(),
    data = type(data) == "table" and data.state_dict and data:state_dict(), schedule = rawget(inner, "schedule"),
  }
  rawset(inner, "schedule", nil)
  local _ <close> = modes.kept(model)
  local _ <close> = setmetatable({}, { __close = function()
    if type(data) == "table" and data.stop then data:stop() end
    rawset(inner, "schedule", before.schedule)
    optimizer:zero_grad()
    optimizer:load_state_dict(before.optimizer)
    model:load_state_dict(before.model)
    if before.data then data:load_state_dict(before.data) end
    core.random_state(before.random)
  end })
  local found = { rates = {}, losses = {}, smoothed = {} }
  local growth, average, least, number = (set.most / set.least) ^ (1 / (set.steps - 1)), 0, math.huge, 0
  -- Whether the test goes on after this batch.
  local function try(batch)
    local _ <close> = core.scope()
    number = number + 1
    optimizer.learning_rate = set.least * growth ^ (number - 1)
    local loss = set.loss(model, batch)
    local value = means.loss(loss)
    if not finite(value) then return false end
    average = set.smoothing * average + (1 - set.smoothing) * value
    local smoothed = average / (1 - set.smoothing ^ number)
    found.rates[number], found.losses[number], found.smoothed[number] = optimizer.learning_rate, value, smoothed
    least = math.min(least, smoothed)
    loss:backward()
    optimizer:step(function() return (set.loss(model, batch)) end)
    return number < set.steps and not (number > 1 and smoothed > set.stop * least)
  end
  modes.training(model)
  local go_on = true
  while go_on do
    local any = false
    for batch in data do
      any, go_on = true, try(batch)
      if not go_on then break end
    end
    if not any then core.raise "train.find_learning_rate: the data gave no batch" end
  end
  found.suggestion = steepest(found.rates, found.smoothed)
  return found
end

return finder
