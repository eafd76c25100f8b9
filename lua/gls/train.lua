--- Train: the loop around a model, a loss and an optimizer, with checkpoints.
-- @module gls.train
local gls = require "gls"
local file = require "gls.file"
local finite = require("gls.number").finite
local log = require "gls.log"
local options = require "gls.options"

local train = {}

local function save(path, state, source)
  gls.save(path, {
    data_epochs = type(source) == "table" and source.epochs or nil,
    epoch = state.epoch, step = state.step, seconds = state.seconds, first_loss = state.first_loss,
    loss = state.loss, batch_loss = state.batch_loss,
    model = state.model:state_dict(), optimizer = state.optimizer:state_dict(),
    random = gls.random_state(),
  })
end

local function load(path, state, source)
  local kept = gls.load(path)
  local counts = { "epoch", "step" }
  local good = type(kept) == "table" and type(kept.model) == "table" and type(kept.optimizer) == "table"
    and type(kept.seconds) == "number" and (kept.data_epochs == nil or math.type(kept.data_epochs) == "integer")
  for _, field in ipairs(counts) do
    good = good and math.type(kept[field]) == "integer" and kept[field] >= 0 and kept[field] < 1 << 53
  end
  if not good then error(("train.fit: %s is not a checkpoint of train.fit"):format(path), 3) end
  state.optimizer:load_state_dict(kept.optimizer) -- which may be another one's: before the model is touched
  state.model:load_state_dict(kept.model)
  state.epoch, state.step, state.seconds = kept.epoch, kept.step, kept.seconds
  state.first_loss, state.loss, state.batch_loss = kept.first_loss, kept.loss, kept.batch_loss
  gls.random_state(kept.random)
  -- A loader's order depends on its seed and the number of the epoch.
  if kept.data_epochs and type(source) == "table" then source.epochs = kept.data_epochs end
end

local function is_callable(value) return type(value) == "function" end

-- What each setting is; nil is for options.check to judge.
local KINDS = {
  model = { "a module", function(value) return type(value) == "table" and is_callable(value.train) end },
  optimizer = { "an optimizer", function(value) return type(value) == "table" and is_callable(value.step) end },
  loss = { "a function of the model and a batch", is_callable },
  epochs = { "a whole number of at least 0", function(value) return math.type(value) == "integer" and value >= 0 end },
  seconds = { "a number above 0", function(value) return type(value) == "number" and value > 0 end },
  on_step = { "a function of the state", is_callable },
  on_epoch = { "a function of the state", is_callable },
  checkpoint = { "the path of a file", function(value) return type(value) == "string" end },
}

local function check_settings(settings)
  for _, name in ipairs { "model", "optimizer", "loss", "epochs", "seconds", "on_step", "on_epoch", "checkpoint" } do
    local kind, is_one = table.unpack(KINDS[name])
    if settings[name] ~= nil and not is_one(settings[name]) then
      error(("train.fit: %s is %s, got %s"):format(name, kind, tostring(settings[name])), 3)
    end
  end
end

--- Trains a model. A step: loss of a batch, its gradients, `optimizer:step(closure)`
-- (the closure computes the batch's loss again, for optimizers that ask for it); whatever a step made and nobody kept
-- is released with it.
-- @tparam table settings
-- `model`; `optimizer`; `loss = function(model, batch)`, which gives a tensor of one element; `data`, iterated anew
-- in every epoch (a loader); `epochs` (default 1); `seconds` (ends after the epoch in which training has taken so
-- long); `on_step = function(state)`; `on_epoch = function(state)`, which may return false to end; `checkpoint` (a
-- file written whole after every epoch and its on_epoch); `resume = true` (goes on from the checkpoint when there is
-- one)
-- @treturn table the state: `epoch`, `step`, `seconds` (of training alone, without on_epoch and on_step), `loss`
-- (mean of the last epoch's batches), `first_loss` (of the first batch before any step), `status` ("finished",
-- "stopped", "out of time", or "diverged": a loss was not finite, and training ended at once), `model`, `optimizer`
function train.fit(settings)
  settings = options.check("train.fit", settings, {
    model = options.required, optimizer = options.required, loss = options.required, data = options.required,
    epochs = 1, seconds = options.none, on_step = options.none, on_epoch = options.none,
    checkpoint = options.none, resume = false,
  })
  local model, optimizer = settings.model, settings.optimizer
  check_settings(settings)
  if settings.checkpoint then
    for name, owner in pairs { model = model, optimizer = optimizer } do
      if type(owner.state_dict) ~= "function" or type(owner.load_state_dict) ~= "function" then
        error(("train.fit: a checkpoint needs %s with state_dict and load_state_dict"):format(name), 2)
      end
    end
  end
  local state = { model = model, optimizer = optimizer, epoch = 0, step = 0, seconds = 0, status = "finished" }
  if settings.resume then
    if not settings.checkpoint then error("train.fit: resume needs a checkpoint to go on from", 2) end
    if file.kind(settings.checkpoint) then load(settings.checkpoint, state, settings.data) end
  end

  -- One step; gives the loss of the batch before it, and how many samples that is the mean of.
  local function step(batch)
    local _ <close> = gls.scope()
    local loss = settings.loss(model, batch)
    local value = loss:item()
    if finite(value) then
      loss:backward()
      optimizer:step(function() return settings.loss(model, batch) end)
    end
    return value, batch.x and batch.x:size(1) or 1
  end

  for epoch = state.epoch + 1, settings.epochs do
    state.epoch = epoch
    model:train(true)
    local sum, count = 0, 0
    local started = log.clock()
    for batch in settings.data do
      local value, samples = step(batch)
      sum, count = sum + value * samples, count + samples
      state.step = state.step + 1
      state.first_loss = state.first_loss or value
      state.loss, state.batch_loss = sum / count, value
      if not finite(value) then
        state.status = "diverged"
        break
      end
      if settings.on_step then
        local paused = log.clock()
        settings.on_step(state)
        started = started + (log.clock() - paused)
      end
    end
    state.seconds = state.seconds + (log.clock() - started)
    if count == 0 then error("train.fit: the data gave no batch in epoch " .. epoch, 2) end
    if state.status == "diverged" then return state end
    if settings.seconds and state.seconds >= settings.seconds and epoch < settings.epochs then
      state.status = "out of time"
    end
    if settings.on_epoch and settings.on_epoch(state) == false then state.status = "stopped" end
    -- After on_epoch, which may draw random numbers and change the model: a resumed run goes on from there.
    if settings.checkpoint then save(settings.checkpoint, state, settings.data) end
    if state.status ~= "finished" then return state end
  end
  return state
end

return require("gls.strict").module("train", train)
