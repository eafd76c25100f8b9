--- Outcome: what runs came to: their final and best losses, and the best setting of each optimizer.
-- @module gls.experiment.outcome
local plan = require "gls.experiment.plan"

local outcome = {}

-- ---- statistics ----

--- The middle of a list of numbers; nil of none.
-- @tparam table values
-- @treturn number|nil
function outcome.median(values)
  if #values == 0 then return nil end
  local sorted = table.move(values, 1, #values, 1, {})
  table.sort(sorted)
  local middle = #sorted // 2
  return #sorted % 2 == 1 and sorted[middle + 1] or (sorted[middle] + sorted[middle + 1]) / 2
end
local median = outcome.median

--- The least and the greatest of a list of numbers; nil of none.
-- @tparam table values
-- @treturn number|nil
-- @treturn number|nil
function outcome.range(values)
  if #values == 0 then return nil end
  return math.min(table.unpack(values)), math.max(table.unpack(values))
end

-- ---- runs ----

-- What one run came to. A diverged one counts as an infinite loss.
local function finish_run(run)
  table.sort(run.rows, function(a, b) return a.epoch < b.epoch end)
  local last = run.rows[#run.rows]
  run.status = last.status
  run.final_train = run.status == "diverged" and math.huge or last.train_loss or math.huge
  run.final_valid, run.final_accuracy = last.valid_loss, last.valid_accuracy
  run.best_train, run.best_valid, run.best_accuracy = math.huge, math.huge, nil
  local durations, before = {}, 0
  for _, row in ipairs(run.rows) do
    if row.train_loss and row.train_loss < run.best_train then
      run.best_train, run.best_train_epoch = row.train_loss, row.epoch
    end
    if row.valid_loss and row.valid_loss < run.best_valid then
      run.best_valid, run.best_valid_epoch = row.valid_loss, row.epoch
      run.test_loss, run.test_accuracy = row.test_loss, row.test_accuracy
    end
    if row.valid_accuracy and (not run.best_accuracy or row.valid_accuracy > run.best_accuracy) then
      run.best_accuracy, run.best_accuracy_epoch = row.valid_accuracy, row.epoch
    end
    durations[#durations + 1] = row.seconds - before
    before = row.seconds
  end
  run.seconds, run.epoch_seconds, run.peak_bytes = last.seconds, median(durations), last.peak_bytes
  run.counters = last.counters
end

--- Runs in the order of their first rows, and by trial.
-- @tparam table rows
-- @treturn table list of `{ optimizer, settings, key, seed, rows, final_train, best_valid, … }`
-- @treturn table list of trials `{ optimizer, settings, key, runs }`
function outcome.runs(rows)
  local runs, by_run, trials, by_trial = {}, {}, {}, {}
  for _, row in ipairs(rows) do
    local key = plan.key(row.optimizer, row.settings)
    local name = key .. " " .. tostring(row.seed)
    local run = by_run[name]
    if not run then
      run = { optimizer = row.optimizer, settings = row.settings, key = key, seed = row.seed, rows = {} }
      by_run[name], runs[#runs + 1] = run, run
      local trial = by_trial[key]
      if not trial then
        trial = { optimizer = row.optimizer, settings = row.settings, key = key, runs = {} }
        by_trial[key], trials[#trials + 1] = trial, trial
      end
      trial.runs[#trial.runs + 1] = run
    end
    run.rows[#run.rows + 1] = row
  end
  for _, run in ipairs(runs) do finish_run(run) end
  return runs, trials
end

-- The number that a setting is chosen by, "train" or "valid": the smaller, the better.
local function score(run, select)
  if run.status == "diverged" then return math.huge end
  return select == "valid" and run.best_valid or run.final_train
end

-- By the first seed's run; by the median over seeds when every setting has them all.
local function trial_score(trial, choices)
  local scores = {}
  for _, run in ipairs(trial.runs) do
    if choices.all_seeds or run.seed == choices.seeds[1] then scores[#scores + 1] = score(run, choices.select) end
  end
  return median(scores) or math.huge
end

--- The best trial of an optimizer, or nil when it has none; a diverged one only when all are.
-- @tparam table trials what `outcome.runs` gave
-- @tparam string optimizer
-- @tparam table choices `select`, `seeds`, `all_seeds`
-- @treturn table|nil trial
function outcome.best(trials, optimizer, choices)
  local best, best_score
  for _, trial in ipairs(trials) do
    if trial.optimizer == optimizer then
      local own = trial_score(trial, choices)
      if not best or own < best_score then best, best_score = trial, own end
    end
  end
  return best
end

-- ---- what tables and figures show ----

--- The trials of each optimizer that has any.
-- @tparam table trials
-- @tparam table order names of optimizers
-- @treturn table list of `{ name =, trials = }`
function outcome.by_optimizer(trials, order)
  local own, list = {}, {}
  for _, name in ipairs(order) do own[name] = {} end
  for _, trial in ipairs(trials) do
    if own[trial.optimizer] then table.insert(own[trial.optimizer], trial) end
  end
  for _, name in ipairs(order) do
    if #own[name] > 0 then list[#list + 1] = { name = name, trials = own[name] } end
  end
  return list
end

-- The settings of GLS that decide what a step costs, in words, and their names; "" for batch statistics with a momentum
-- that is given.
local function form_of(settings)
  local parts, names, statistics, window = {}, {}, settings.statistics or "batch", settings.window or 1000
  local function add(text, ...)
    parts[#parts + 1] = text
    for _, name in ipairs { ... } do names[name] = true end
  end
  if type(statistics) == "table" then statistics, window = "window", statistics.window end
  if statistics == "window" then add(("window %g"):format(window), "statistics", "window") end
  if statistics == "moving" then add("moving statistics", "statistics") end
  if settings.momentum == "auto" then add("momentum auto", "momentum") end
  return table.concat(parts, ", "), names
end

--- The best settings that a summary shows: one of each optimizer, and of an optimizer that was tried in forms of
-- different cost the best of each form, so that a dear one does not hide a cheap one.
-- @tparam table trials
-- @tparam table choices `optimizers`, `select`, `seeds`, `all_seeds`
-- @treturn table list of `{ name = "gls, window 1000", trial =, told = the settings that are in the name }`
function outcome.best_settings(trials, choices)
  local list = {}
  for _, optimizer in ipairs(outcome.by_optimizer(trials, choices.optimizers)) do
    local forms, by_form = {}, {}
    for _, trial in ipairs(optimizer.trials) do
      local form = form_of(trial.settings)
      if not by_form[form] then by_form[form], forms[#forms + 1] = {}, form end
      table.insert(by_form[form], trial)
    end
    for _, form in ipairs(forms) do
      local best = outcome.best(by_form[form], optimizer.name, choices)
      local _, told = form_of(best.settings)
      local named = #forms > 1 and form ~= ""
      list[#list + 1] = {
        name = named and optimizer.name .. ", " .. form or optimizer.name, trial = best, told = named and told or {},
      }
    end
  end
  return list
end

--- The loss of a run's last row in which a field is not above a limit; infinite where it had diverged, nil where no row
-- is within.
-- @tparam table run
-- @tparam string field "epoch", "seconds"
-- @tparam number limit
-- @treturn number|nil
function outcome.loss_within(run, field, limit)
  local loss
  for _, row in ipairs(run.rows) do
    if row[field] <= limit then loss = row.train_loss or math.huge end
  end
  return loss
end

--- The losses of a trial's runs at the moment when the reference's run with the same seed (its first, where there is
-- none) had ended: those of the last epoch that was over.
-- @tparam table trial
-- @tparam table reference a trial
-- @treturn table list of losses, shorter where a run had no epoch by then
function outcome.losses_at_end(trial, reference)
  local losses = {}
  for _, run in ipairs(trial.runs) do
    local peer = reference.runs[1]
    for _, other in ipairs(reference.runs) do
      if other.seed == run.seed then peer = other end
    end
    losses[#losses + 1] = outcome.loss_within(run, "seconds", peer.seconds)
  end
  return losses
end

return outcome
