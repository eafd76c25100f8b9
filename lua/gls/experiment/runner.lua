--- Runner: one run of an experiment, from the seed to the last epoch's line of results.
-- @module gls.experiment.runner
local gls = require "gls"
local data = require "gls.data"
local distributed = require "gls.distributed"
local optim = require "gls.optim"
local train = require "gls.train"
local finite = require("gls.number").finite
local optimizers = require "gls.experiment.optimizers"

local runner = {}

local EVALUATION_BATCH = 500
local EVALUATED_AT_MOST = 10000
local SECONDS_BETWEEN_CHECKPOINTS = 60

-- ---- data ----

local function loader_options(spec, sets, changes)
  local result = {}
  if sets.train.mean then result.mean = sets.train end -- every set is centred by the training set's
  for name, value in pairs(spec.data) do result[name] = value end
  for name, value in pairs(changes) do result[name] = value end
  return result
end

local function is_text(name) return name == "text" or name:find "^text:" ~= nil end

--- Opens the images that the choices name, or the text.
-- @tparam table spec
-- @tparam table chosen
-- @treturn table `train`, `valid`, `test` (sets; `test` nil where none is asked for), `evaluated` (the part of the
-- training set that losses are taken on)
-- @raise naming the option that asks for other data than there is
function runner.open(spec, chosen)
  local context = is_text(chosen.data) and spec.context or nil
  local function part(split, samples, lacks)
    local good, set = pcall(data.open, chosen.data, {
      split = split, dir = chosen.data_dir, samples = samples > 0 and samples or nil, context = context,
    })
    if good then return set end
    local lacking = tostring(set):match "%d+ samples wanted, but .*$"
    error(lacking and lacks:format(lacking) or set, 0)
  end
  if chosen.test > 0 and chosen.validation == 0 then
    error(("option --test: %d images besides those for validation: say by --validation how many those are"):format(
      chosen.test), 0)
  end
  local sets = { train = part("train", chosen.samples, "option --samples: %s; --samples 0 takes all") }
  if is_text(spec.defaults.data) and not is_text(chosen.data) then
    error(("option --data: %s is no text; this experiment takes text or text:FILE"):format(chosen.data), 0)
  end
  sets.valid = part("test", chosen.validation + chosen.test, chosen.test > 0
    and "options --validation and --test: %s; that many are the two together"
    or "option --validation: %s; --validation 0 takes all")
  if chosen.test > 0 then
    sets.test = sets.valid:narrow(chosen.validation + 1, chosen.test)
    sets.valid = sets.valid:narrow(1, chosen.validation)
  end
  sets.evaluated = #sets.train > EVALUATED_AT_MOST and sets.train:narrow(1, EVALUATED_AT_MOST) or sets.train
  if chosen.batch > #sets.train then
    error(("option --batch: %d is more than the %d training images"):format(chosen.batch, #sets.train), 0)
  end
  return sets
end

-- ---- losses on a whole set ----

--- Mean loss over a set, in evaluation mode, without gradients.
-- @tparam table spec
-- @tparam table model
-- @param set
-- @tparam table sets what open gave
-- @tparam[opt] boolean shared whether ranks train this model together, and each evaluates its rows
-- @treturn number loss
-- @treturn number|nil accuracy, 0 to 1, when the experiment classifies
function runner.evaluate(spec, model, set, sets, shared)
  local batches = data.loader(set, loader_options(spec, sets, { batch = EVALUATION_BATCH, shuffle = false }))
  local found = train.evaluate {
    model = model, data = shared and distributed.batches(batches) or batches,
    loss = function(network, batch)
      local output = network(batch.x)
      local right = spec.classify and output:argmax(2):eq(batch.y):sum():item()
      return spec.loss(output, batch), right and { accuracy = right / batch.y:numel() } or nil
    end,
  }
  return found.loss, found.accuracy
end

-- ---- one run ----

--- The optimizer of a trial.
-- @tparam table trial `optimizer` (name) and `settings`
-- @param parameters of the model
-- @tparam integer steps of the whole run, for the schedule
-- @tparam[opt] boolean shared whether ranks train this model together
-- @return optimizer
-- @raise where ranks cannot share what the optimizer reads
function runner.optimizer(trial, parameters, steps, shared)
  local given = {}
  for name, value in pairs(trial.settings) do
    if not optimizers.around[name] then given[name] = value end
  end
  local schedule, warmup = trial.settings.schedule, trial.settings.warmup
  if schedule and schedule ~= "constant" then
    given.schedule = optim.schedule[schedule] { steps = steps, warmup = warmup, final = trial.settings.final }
  elseif warmup then
    given.schedule = optim.schedule.warmup { steps = warmup }
  end
  if trial.settings.decayed == "matrices" then parameters = optim.decay_matrices(parameters) end
  local optimizer = optimizers.class(trial.optimizer)(parameters, given)
  if shared then distributed.optimizer(optimizer) end
  local average = trial.settings.average
  return average and average > 0 and optim.average(optimizer, parameters, average) or optimizer
end

-- The numbers among what an optimizer reports: counters of guards, the last step.
local function counters(optimizer)
  if not optimizer.report then return nil end
  local result = {}
  for name, value in pairs(optimizer:report() or {}) do
    if finite(value) then result[name] = value end
  end
  return next(result) and result or nil
end

--- Trains one setting with one seed.
-- @tparam table spec
-- @tparam table chosen the choices, with `shared`: whether ranks train one model together; they call this alike
-- @tparam table sets what open gave
-- @tparam table trial `optimizer`, `settings`
-- @tparam integer seed
-- @tparam function on_row called with each epoch's row as it is measured
-- @tparam function on_step called with train.fit's state and the number of steps of the run
-- @tparam string checkpoint the path of a file with which the run goes on where it was cut short; it goes at the end
function runner.run(spec, chosen, sets, trial, seed, on_row, on_step, checkpoint)
  gls.collect()
  gls.reset_peak()
  gls.seed(seed)
  local model, shared = spec.model(sets.train, trial.settings), chosen.shared
  if shared then distributed.broadcast(model) end
  local training = loader_options(spec, sets, { batch = chosen.batch, shuffle = true, batches = spec.batches })
  for name, value in pairs(trial.settings.data or {}) do training[name] = value end
  local batches = data.loader(sets.train, training)
  local steps = chosen.epochs * batches.batches
  local optimizer = runner.optimizer(trial, model:parameters(), steps, shared)
  local function row(state)
    return {
      experiment = spec.name, optimizer = trial.optimizer, settings = trial.settings, seed = seed,
      epoch = state.epoch, step = state.step, seconds = state.seconds, batch_loss = state.loss,
      first_loss = state.first_loss,
      peak_bytes = gls.memory().peak, counters = counters(optimizer),
    }
  end
  local diverged = false
  local state = train.fit {
    model = model, optimizer = optimizer, epochs = chosen.epochs, seconds = chosen.seconds,
    data = shared and distributed.batches(batches) or batches,
    checkpoint = { checkpoint, seconds = SECONDS_BETWEEN_CHECKPOINTS }, resume = true,
    loss = function(network, batch) return spec.loss(network(batch.x), batch, trial.settings.loss) end,
    on_step = function(now) on_step(now, steps) end,
    on_epoch = function(now)
      local line = row(now)
      if optimizer.swap then optimizer:swap() end
      local function evaluate(set) return runner.evaluate(spec, model, set, sets, shared) end
      line.train_loss = evaluate(sets.evaluated)
      line.valid_loss, line.valid_accuracy = evaluate(sets.valid)
      if sets.test then line.test_loss, line.test_accuracy = evaluate(sets.test) end
      if optimizer.swap then optimizer:swap() end
      diverged = not finite(line.train_loss)
      local last = now.epoch == chosen.epochs or now.status == "out of time"
      line.status = diverged and "diverged" or last and "finished" or "running"
      on_row(line)
      return not diverged
    end,
  }
  if state.status == "diverged" and not diverged then
    local line = row(state)
    line.status = "diverged"
    on_row(line)
  end
  if not shared or distributed.rank() == 0 then os.remove(checkpoint) end
end

return runner
