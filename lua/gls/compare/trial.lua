--- Trial: one run of a comparison: a task trained by one optimizer with given settings, from the seed to its last step.
-- @module gls.compare.trial
local gls = require "gls"
local data = require "gls.data"
local finite = require("gls.number").finite
local optim = require "gls.optim"
local runner = require "gls.experiment.runner"
local train = require "gls.train"

local trial = {}

--- Steps of linear rise before a cosine or linear schedule, as a share of the run.
trial.WARMUP = 0.05

local function schedule_of(name, steps)
  if name == "constant" then return nil end
  return optim.schedule[name] { steps = steps, warmup = math.floor(trial.WARMUP * steps) }
end

--- The optimizer of a run.
-- @tparam table entry what gls.compare.entries gave
-- @tparam table task
-- @param parameters of the model
-- @tparam table settings
-- @tparam string schedule "cosine", "linear" or "constant"
-- @tparam integer steps of the run
function trial.optimizer(entry, task, parameters, settings, schedule, steps)
  local given = { schedule = schedule_of(schedule, steps) }
  -- Optimizers of matrices (gls.optim.matrix) leave the output layer to AdamW.
  if type(entry.optimizer) == "table" and entry.optimizer.shapes then given.others = task.head end
  for name, value in pairs(settings) do given[name] = value end
  local optimizer = entry.optimizer(parameters, given)
  if type(optimizer) ~= "table" or type(optimizer.step) ~= "function" then
    error(("the optimizer of %s is a function that gives %s, expected an object with step()"):format(entry.name,
      type(optimizer)), 0)
  end
  return optimizer
end

-- What train.fit iterates over: so many batches a round, epoch after epoch of the loader.
local function rounds(loader, steps, count)
  local draw, draw_end
  local function next_batch()
    local batch = draw and draw()
    if not batch then
      local _
      draw, _, _, draw_end = loader:epoch()
      batch = draw()
    end
    return batch
  end
  local round, left = 0, nil
  return setmetatable({}, { __close = function() if draw_end then draw_end:stop() end end, __call = function()
    if not left then
      round = round + 1
      left = steps * round // count - steps * (round - 1) // count
    end
    if left == 0 then
      left = nil
      return nil
    end
    left = left - 1
    return next_batch()
  end })
end

--- Runs one.
-- @tparam table entry
-- @tparam table task with its `sets`
-- @tparam table run `settings`, `schedule`, `seed`, `steps`, `evaluations` (how often the validation loss is taken, the
-- last time after the last step), `test` (whether the test loss is taken too)
-- @tparam[opt] function on_step called with train.fit's state
-- @treturn table `status` ("finished", or "diverged": a loss that is not finite, or above that of the untrained
-- model), `seconds` of training, `done` steps, `curve`: list of `{ step, seconds, validation loss }`, the first
-- before any step; `valid_loss` (nil of a diverged run), `test_loss` (of a diverged run that of the untrained model),
-- `peak_bytes` (of training, without the data)
function trial.run(entry, task, run, on_step)
  gls.collect()
  local before, peak = gls.memory().live, 0
  gls.seed(run.seed)
  local sets = task.sets
  local model = task.model(sets.train, { model = task.options, initialisation = task.initialisation })
  local options = { batch = task.batch, shuffle = true, drop_last = true }
  if sets.train.mean then options.mean = sets.train end
  for _, given in ipairs { task.data, task.augment } do
    for name, value in pairs(given) do options[name] = value end
  end
  local loader = data.loader(sets.train, options)
  local optimizer = trial.optimizer(entry, task, model:parameters(), run.settings, run.schedule, run.steps)
  local first = runner.evaluate(task, model, sets.valid, sets)
  local test_loss = run.test and runner.evaluate(task, model, sets.test, sets)
  local curve = { { 0, 0, first } }
  local batches <close> = rounds(loader, run.steps, run.evaluations) -- luacheck: ignore 211
  gls.reset_peak()
  local state = train.fit {
    model = model, optimizer = optimizer, epochs = run.evaluations, data = batches, on_step = on_step,
    loss = function(network, batch) return task.loss(network(batch.x), batch) end,
    on_epoch = function(now)
      peak = math.max(peak, gls.memory().peak - before)
      local loss = runner.evaluate(task, model, sets.valid, sets)
      gls.reset_peak()
      if not finite(loss) then return false end
      curve[#curve + 1] = { now.step, now.seconds, loss }
    end,
  }
  local last = curve[#curve][3]
  local diverged = state.status ~= "finished" or last > first
  if run.test and not diverged then test_loss = runner.evaluate(task, model, sets.test, sets) end
  return {
    status = diverged and "diverged" or "finished", seconds = state.seconds, done = state.step, curve = curve,
    peak_bytes = peak, valid_loss = not diverged and last or nil, test_loss = test_loss or nil,
  }
end

return trial
