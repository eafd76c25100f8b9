--- Train: the loop around a model, a loss and an optimizer.
--
-- settings   what train.fit takes      keeper    its checkpoints     callbacks  early stopping, the best model
-- progress   how far it is             finder    the learning-rate range test      ranks  several processes
-- means      of losses and metrics     modes     training and evaluation
-- @module gls.train
local gls = require "gls"
local core = require "gls.core"
local callbacks = require "gls.train.callbacks"
local file = require "gls.file"
local finder = require "gls.train.finder"
local finite = require("gls.number").finite
local keeper = require "gls.train.keeper"
local log = require "gls.log"
local means = require "gls.train.means"
local modes = require "gls.train.modes"
local ranks = require "gls.train.ranks"
local settings_of = require "gls.train.settings"

local train = {}

-- ---- evaluation ----

-- Means over the data without gradients, in evaluation mode; nil when `stopped` says so before the end.
local function evaluate(model, loss, data, stopped)
  local _ <close> = modes.evaluating(model)
  local _ <close> = gls.no_grad()
  local sums, together = means.new(), ranks.of(data)
  for batch in together and data:epoch(true) or data do
    local _ <close> = gls.scope()
    local samples, share = means.samples(batch)
    means.add(sums, samples * share, means.numbers(loss(model, batch)))
    if stopped and not together and stopped() then return nil end
  end
  return together and together:sum(sums) or sums
end

--- The loss and the metrics of a model on data, in evaluation mode, without gradients.
-- @tparam table settings `model`; `loss = function(model, batch)` as for train.fit; `data` (a loader;
-- of distributed.batches(loader) every rank takes its rows, and all have the means over all)
-- @treturn table means over all samples: `loss`, and each metric by its name
function train.evaluate(settings)
  local set = settings_of.evaluate(settings)
  local sums = evaluate(set.model, set.loss, set.data)
  if sums.count == 0 then core.raise "train.evaluate: the data gave no batch" end
  return means.of(sums)
end

-- ---- one step ----

-- The gradients of the mean loss over the samples of a group of batches, and the step; whether all losses were finite.
local function step(run, group)
  local set, state, sums = run.settings, run.state, run.sums
  local _ <close> = gls.scope()
  local sizes, shares, all, total = {}, {}, 0, 0
  for i, batch in ipairs(group) do
    sizes[i], shares[i] = means.samples(batch)
    all = all + sizes[i]
  end
  state.samples = state.samples + all
  for i, batch in ipairs(group) do
    local loss, metrics = set.loss(set.model, batch)
    local found = means.numbers(loss, metrics)
    if run.ranks then found, run.stop = run.ranks:whole(found, shares[i], run.signals:noted() ~= nil) end
    local value, share = means.add(sums, sizes[i], found), sizes[i] / all
    total = total + value * share
    if not finite(value) then break end
    share = share * shares[i]
    if share ~= 1 then loss = loss * share end
    loss:backward()
  end
  state.step, state.batch_loss, state.loss = state.step + 1, total, sums.loss / sums.count
  state.first_loss = state.first_loss or total
  if not finite(total) then
    if set.optimizer.zero_grad then set.optimizer:zero_grad() end
    return false
  end
  if set.clip then state.gradient_norm = gls.clip_gradients(set.model:parameters(), set.clip) end
  set.optimizer:step(function()
    local sum
    for i, batch in ipairs(group) do
      local loss, share = set.loss(set.model, batch), sizes[i] / all * shares[i] -- of this rank, if there are several
      if share ~= 1 then loss = loss * share end
      sum = sum and sum + loss or loss
    end
    return sum
  end)
  return true
end

-- ---- callbacks ----

-- Functions of the run's state that an event calls: of the callbacks, and the setting of its name.
local function listeners(set, event)
  local list = {}
  for _, callback in ipairs(set.callbacks) do
    if callback[event] then list[#list + 1] = function(state) return callback[event](callback, state) end end
  end
  local own = set[event]
  if own then list[#list + 1] = event == "on_step" and function(state) own(state) end or own end
  return list
end

-- Tells them; false from one of them ends the training.
local function tell(run, event)
  run.listeners[event] = run.listeners[event] or listeners(run.settings, event)
  if #run.listeners[event] == 0 then return true end
  local paused, go_on = log.clock(), true
  for _, listener in ipairs(run.listeners[event]) do go_on = listener(run.state) ~= false and go_on end
  run.paused = run.paused + (log.clock() - paused)
  return go_on
end

-- ---- one epoch ----

-- Of several ranks all stop after the step in which the first of them has been told to.
local function interrupted(run)
  if run.ranks then return run.stop end
  return run.signals:noted() ~= nil
end

-- What follows a step: callbacks, a checkpoint when it is time. Whether the epoch goes on.
local function after_step(run)
  local go_on = tell(run, "on_step")
  if run.ranks and run.asks then go_on = run.ranks:tell(go_on) end
  if not go_on then run.state.status = "stopped" end
  if interrupted(run) then run.state.status = "interrupted" end
  if run.state.status ~= "finished" then return false end
  if run.keeper and run.keeper:is_time "step" then
    local paused = log.clock()
    run.keeper:save()
    run.paused = run.paused + (log.clock() - paused)
  end
  return true
end

-- The batches from where the run is to the end of the epoch.
local function train_epoch(run)
  local set, state = run.settings, run.state
  run.modes = modes.training(set.model, run.modes)
  local started, seconds, skip = log.clock(), state.seconds, run.skip
  run.paused, run.skip = 0, 0
  local group, go_on = {}, true
  local function take()
    if #group == 0 or not go_on then return end
    state.batch = state.batch + #group
    go_on = step(run, group)
    state.seconds = seconds + log.clock() - started - run.paused
    if not go_on then state.status = "diverged" else go_on = after_step(run) end
    group = {}
  end
  for batch in set.data do
    if skip > 0 then
      skip = skip - 1
    else
      group[#group + 1] = batch
      if #group == set.accumulate then take() end
      if not go_on then break end
    end
  end
  run.trained = go_on -- the data is at its end: a run that is resumed from here on takes no more of it
  take()
  if run.sums.count == 0 then core.raise("train.fit: the data gave no batch in epoch " .. state.epoch) end
  run.trained = run.trained and state.status ~= "diverged"
end

-- What an optimizer that averages has in its parameters while the model is evaluated.
local function swapped(optimizer)
  if not optimizer.swap then return setmetatable({}, { __close = function() end }) end
  optimizer:swap()
  return setmetatable({}, { __close = function() optimizer:swap() end })
end

-- The epoch's means, of the validation data too. False: interrupted before they were there.
local function measure(run)
  local set, state = run.settings, run.state
  if run.ranks then
    run.ranks:meet(set.model)
    state.seconds = run.ranks:tell(state.seconds)
  end
  local random = gls.random_state()
  local _ <close> = swapped(set.optimizer)
  local found = means.of(run.sums)
  if set.validation then
    local sums = evaluate(set.model, set.loss, set.validation, function() return interrupted(run) end)
    if not sums then
      gls.random_state(random) -- the resumed run evaluates anew
      state.status = "interrupted"
      return false
    end
    if sums.count == 0 then core.raise "train.fit: the validation data gave no batch" end
    for name, value in pairs(means.of(sums)) do found["valid_" .. name] = value end
  end
  state.metrics = found
  return tell(run, "on_evaluation") or nil
end

local function run_epoch(run)
  local set, state = run.settings, run.state
  if not run.trained then train_epoch(run) end
  if not run.trained or state.status ~= "finished" then return end
  local measured = measure(run)
  if measured == false then return end
  if set.seconds and state.seconds >= set.seconds and state.epoch < set.epochs then state.status = "out of time" end
  local go_on = tell(run, "on_epoch") and measured
  if run.ranks then go_on = run.ranks:tell(go_on) end
  if not go_on then state.status = "stopped" end
  run.trained, run.sums, state.batch = false, means.new(), 0
  run.done = state.epoch
  -- After the callbacks, which may draw random numbers and change the model: a resumed run goes on from there.
  if interrupted(run) and state.status == "finished" and state.epoch < set.epochs then state.status = "interrupted" end
  if run.keeper and (run.keeper:is_time "epoch" or state.status ~= "finished" or state.epoch == set.epochs) then
    run.keeper:save()
  end
end

--- Trains a model. A step: loss of a batch, its gradients, `optimizer:step(closure)`
-- (the closure computes the batch's loss again, for optimizers that ask for it); whatever a step made and nobody kept
-- is released with it. SIGINT and SIGTERM end the training after the step under way, once its checkpoint is written, as
-- the error "interrupted!" (glsrun then ends with 130 or 143); a second one does not wait.
-- With `data = distributed.batches(loader)` and `optimizer = distributed.optimizer(…)` the ranks of mpirun train one
-- model, with the losses of one process; of each batch, all ranks give metrics of the same names. Callbacks run on
-- every rank that has them, the progress bar and logs on rank 0 alone; it writes checkpoints, which the other ranks
-- have to be able to read, and decides what the clock or a callback decides.
-- A model in training mode is trained as it is: modules of it in evaluation mode (a frozen batch norm) stay so. One in
-- evaluation mode is put into training mode as a whole.
-- @tparam table settings
-- `model`; `optimizer`; `loss = function(model, batch)`, which gives a tensor of one element and, if it likes, a table
-- of metrics by name (numbers or tensors of one element), each averaged as the loss is, over the batches that give it;
-- `data`, iterated anew in every epoch (a loader); `epochs` (default 1);
-- `validation` (a loader): after every epoch, in evaluation mode, with the averages of an optimizer that has them;
-- `accumulate` (default 1): batches whose mean loss is one step; `clip`: the greatest common norm of the gradients
-- (not with L-BFGS);
-- `seconds` (ends after the epoch in which training has taken so long);
-- `on_step = function(state)`; `on_epoch = function(state)`, which may return false to end;
-- `callbacks`: a list of tables, each with any of `on_begin`, `on_step`, `on_evaluation`, `on_epoch`, `on_end` =
-- function(self, state), false from which ends the training, and `state_dict` and `load_state_dict` where it has
-- something to remember (train.early_stopping, train.keep_best, log.jsonl, log.csv, log.tensorboard);
-- `progress = true`: a bar with rate, remaining time and losses, plain lines where there is no terminal;
-- `checkpoint`: the path of a file written whole after every epoch and its callbacks, or { path, steps = n: also after
-- every n-th step; seconds = s: when s have passed since the last, instead of at every epoch; keep = k: the last k
-- stay, as path-STEP }; one is always written at the end;
-- `resume = true` (goes on from the checkpoint when there is one, in the middle of an epoch too, to the last bit)
-- @treturn table the state: `epoch`, `batch` (of the epoch), `step`, `seconds` (of training alone, without callbacks
-- and validation), `loss` (mean of the epoch's batches), `batch_loss`, `first_loss` (of the first batch before any
-- step), `metrics` (of the last whole epoch: `loss`, `valid_loss`, and the loss's own), `gradient_norm` (with clip),
-- `status` ("finished", "stopped", "out of time", or "diverged": a loss was not finite, and training ended at once),
-- `epochs`, `batches` (of an epoch, where known), `samples` (since the call; of a text, tokens), `model`, `optimizer`
function train.fit(settings)
  local set = settings_of.fit(settings)
  local state = {
    model = set.model, optimizer = set.optimizer, epoch = 0, batch = 0, step = 0, seconds = 0, samples = 0,
    epochs = set.epochs, status = "finished", metrics = {},
    batches = type(set.data) == "table" and math.type(set.data.batches) == "integer" and set.data.batches or nil,
  }
  local run = {
    settings = set, state = state, sums = means.new(), listeners = {}, skip = 0, done = 0, trained = false, paused = 0,
    ranks = ranks.begin(set), stop = false,
  }
  if run.ranks then run.asks = run.ranks:share_callbacks(set.callbacks) end
  if set.checkpoint then
    local good, problem = file.writable(set.checkpoint.path)
    if not good then core.raise("train.fit: checkpoint: " .. problem) end
    run.keeper = keeper.new(run)
    if set.resume then run.keeper:load() end
  end
  local signals <close> = core.hold_signals()
  run.signals = signals
  local go_on = tell(run, "on_begin")
  if run.ranks then go_on = run.ranks:tell(go_on) end
  if not go_on then state.status = "stopped" end
  for epoch = run.done + 1, set.epochs do
    if state.status ~= "finished" then break end
    state.epoch = epoch
    run_epoch(run)
  end
  if not run.trained and type(set.data) == "table" and set.data.stop and state.status == "diverged" then
    set.data:stop()
  end
  if state.status == "interrupted" then
    if run.keeper and run.done < state.epoch then run.keeper:save() end
    tell(run, "on_interrupt")
    if run.ranks then run.ranks:tell(true) end -- mpirun ends rank 0 with the first that ends: it has to have written
    signals:release() -- raises it
    if run.ranks then error("interrupted!", 0) end -- another rank had it
    return state
  end
  if state.status == "stopped" and run.keeper and run.done < state.epoch then run.keeper:save() end
  tell(run, "on_end")
  return state
end

train.early_stopping, train.keep_best = callbacks.early_stopping, callbacks.keep_best
train.find_learning_rate = finder.find

return require("gls.strict").module("train", train)
