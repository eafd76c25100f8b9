--- Writer: what the logs of a run share: numbers by name at a step, from a script or as a callback of train.fit.
-- @module gls.log.writer
local core = require "gls.core"
local options = require "gls.options"

local writer = {}

--- A new kind of log: a table with the methods
-- `begin(self, last)`: opens the log anew, or goes on with it, without what it has of steps after `last`;
-- `add(self, step, values)`: numbers by name; `finish(self)`.
function writer.class()
  local class = {}
  class.__index = function(_, key)
    if class[key] ~= nil then return class[key] end
    return writer.methods[key]
  end
  return class
end

--- The options of all of them.
writer.options = { every = 10, layers = false }

--- Checked options and the object that has them.
function writer.new(class, where, path, given, more)
  if type(path) ~= "string" or path == "" then core.raise(where .. ": a path expected, got " .. type(path)) end
  local allowed = {}
  for name, default in pairs(writer.options) do allowed[name] = default end
  for name, default in pairs(more or {}) do allowed[name] = default end
  local set = options.check(where, given, allowed)
  if math.type(set.every) ~= "integer" or set.every < 0 then
    core.raise(("%s: every is a whole number of steps, 0 for none, got %s"):format(where, tostring(set.every)))
  end
  return setmetatable({ where = where, path = path, set = set }, class)
end

local methods = { for_one_rank = true } -- to train.fit
writer.methods = methods

local function check(self, step, values)
  if math.type(step) ~= "integer" or step < 0 then
    core.raise(("%s: the step is a whole number of at least 0, got %s"):format(self.where, tostring(step)))
  end
  if type(values) ~= "table" then
    core.raise(("%s: numbers by name expected, got %s"):format(self.where, type(values)))
  end
  for name, value in pairs(values) do
    if type(name) ~= "string" or type(value) ~= "number" then
      core.raise(("%s: %s is %s; expected numbers by name"):format(self.where, tostring(name), type(value)))
    end
  end
end

--- Opens a log that is not open: anew, or to go on after what it has up to the step `last`.
function writer.open(self, last)
  if self.open then return end
  self:begin(last)
  self.open, self.begun = true, true
end

--- Writes numbers at a step.
-- @tparam integer step
-- @tparam table values numbers by name
function methods:scalars(step, values)
  check(self, step, values)
  writer.open(self, self.begun and math.maxinteger or nil) -- closed before: it goes on
  self:add(step, values)
end

--- Ends the log; more than once is fine.
function methods:close()
  if not self.open then return end
  self.open = nil
  self:finish()
end

-- ---- as a callback of train.fit ----

-- The learning rate of the last step: what the optimizer has found, or its own times the schedule's factor.
local function rate_of(optimizer)
  optimizer = rawget(optimizer, "optimizer") or optimizer
  local report = optimizer.report and optimizer:report() or {}
  if type(report.learning_rate) == "number" then return report.learning_rate end
  local rate, schedule = optimizer.learning_rate, rawget(optimizer, "schedule")
  if type(rate) ~= "number" then return nil end
  return rate * (schedule and schedule(math.max((rawget(optimizer, "steps") or 1) - 1, 0)) or 1)
end

-- What GLS reports of every layer, where that is asked for.
local function layers_of(self, optimizer)
  optimizer = rawget(optimizer, "optimizer") or optimizer
  return self.set.layers and optimizer.layers and optimizer:layers() or {}
end

function methods:on_begin(state)
  self:close()
  writer.open(self, state.resumed and state.step or nil)
  layers_of(self, state.optimizer) -- which are watched from then on
end

function methods:on_step(state)
  if self.set.every == 0 or state.step % self.set.every ~= 0 then return end
  local values = {
    epoch = state.epoch, batch_loss = state.batch_loss, gradient_norm = state.gradient_norm, seconds = state.seconds,
    learning_rate = rate_of(state.optimizer),
  }
  for name, layer in pairs(layers_of(self, state.optimizer)) do
    for key, value in pairs(layer) do values[("layer/%s/%s"):format(name, key)] = value end
  end
  self:scalars(state.step, values)
end

function methods:on_epoch(state)
  local values = { epoch = state.epoch, seconds = state.seconds }
  for name, value in pairs(state.metrics) do values[name] = value end
  self:scalars(state.step, values)
end

function methods:on_end() self:close() end
methods.on_interrupt = methods.on_end

return writer
