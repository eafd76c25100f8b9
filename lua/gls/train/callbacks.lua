--- Callbacks: what train.fit is told to do beside training; each is a small table that a script could have written.
-- @module gls.train.callbacks
local gls = require "gls"
local core = require "gls.core"
local file = require "gls.file"
local finite = require("gls.number").finite
local options = require "gls.options"

local callbacks = {}

local MODES = { min = true, max = true }

-- The metric that is watched, and whether a value of it is better than another.
local function watched(where, set)
  if set.monitor ~= nil and type(set.monitor) ~= "string" then
    core.raise(("%s: monitor is the name of a metric, got %s"):format(where, type(set.monitor)))
  end
  if not MODES[set.mode] then
    core.raise(('%s: mode is "min" or "max", got "%s"'):format(where, tostring(set.mode)))
  end
  local sign = set.mode == "max" and -1 or 1
  return function(state)
    local name = set.monitor or state.metrics.valid_loss and "valid_loss" or "loss"
    local value = state.metrics[name]
    if value == nil then
      core.raise(("%s: there is no metric %q%s"):format(where, name, options.suggestion(name, state.metrics)))
    end
    return finite(value) and sign * value or math.huge
  end
end

--- Ends the training when a metric has not become better for more than `patience` epochs.
-- @tparam[opt] table given `patience` = 5; `monitor` (default: valid_loss where there is validation data, else loss);
-- `mode` = "min" (or "max": more is better); `least` = 0 (a change by less is none)
-- @treturn table a callback of train.fit, with `best` and `waited`
function callbacks.early_stopping(given)
  local set = options.check("train.early_stopping", given,
    { patience = 5, monitor = options.none, mode = "min", least = 0 })
  if math.type(set.patience) ~= "integer" or set.patience < 0 then
    core.raise("train.early_stopping: patience is a whole number of at least 0, got " .. tostring(set.patience))
  end
  if set.least < 0 or set.least ~= set.least then
    core.raise("train.early_stopping: least is a number of at least 0, got " .. tostring(set.least))
  end
  local value_of = watched("train.early_stopping", set)
  local stopping = { name = "early_stopping", best = math.huge, waited = 0 }
  function stopping:on_begin(state)
    if not state.resumed then self.best, self.waited = math.huge, 0 end -- of an earlier run
    return self.waited <= set.patience
  end
  function stopping:on_evaluation(state)
    local value = value_of(state)
    if value < self.best - set.least then self.best, self.waited = value, 0 else self.waited = self.waited + 1 end
  end
  function stopping:on_epoch() return self.waited <= set.patience end
  function stopping:state_dict() return { best = self.best, waited = self.waited } end
  function stopping:load_state_dict(saved) self.best, self.waited = saved.best, saved.waited end
  return stopping
end

--- Keeps the model of the epoch with the best metric, and leaves it in the model when the training ends (averaged
-- weights, where the optimizer has them).
-- @tparam[opt] table given `monitor`, `mode` as for train.early_stopping; `path`: of a file that always holds the best
-- model's state_dict (default: in memory, and in checkpoints); `restore` = true
-- @treturn table a callback of train.fit, with `best` and `epoch`
function callbacks.keep_best(given)
  local set = options.check("train.keep_best", given,
    { monitor = options.none, mode = "min", path = options.none, restore = true })
  if set.path ~= nil and type(set.path) ~= "string" then core.raise "train.keep_best: path is that of a file" end
  local value_of = watched("train.keep_best", set)
  local best = { name = "keep_best", best = math.huge }
  function best:on_begin(state)
    if not state.resumed then self.best, self.epoch, self.weights = math.huge, nil, nil end -- of an earlier run
    local good, problem = true, nil
    if set.path then good, problem = file.writable(set.path) end
    if not good then core.raise("train.keep_best: " .. problem) end
  end
  function best:on_evaluation(state)
    local value = value_of(state)
    if value >= self.best then return end
    self.best, self.epoch = value, state.epoch
    if set.path then
      gls.save(set.path, state.model:state_dict { copy = false })
    else
      self.weights = state.model:state_dict()
      for _, tensor in pairs(self.weights) do core.keep(tensor) end
    end
  end
  function best:on_end(state)
    if not set.restore or not self.epoch then return end
    state.model:load_state_dict(set.path and gls.load(set.path) or self.weights)
  end
  function best:state_dict() return { best = self.best, epoch = self.epoch, weights = self.weights } end
  function best:load_state_dict(saved)
    if saved.epoch and set.path and not file.kind(set.path) then
      core.raise(("train.keep_best: %s, the best model so far, is gone"):format(set.path))
    end
    self.best, self.epoch, self.weights = saved.best, saved.epoch, saved.weights
  end
  return best
end

return callbacks
