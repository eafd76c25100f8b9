--- Plan: the runs that an experiment makes, from its own lists of settings and the command line.
-- @module gls.experiment.plan
local check = require "gls.options"
local misuse = require("gls.experiment.misuse").raise
local number = require "gls.number"
local optimizers = require "gls.experiment.optimizers"
local record = require "gls.experiment.record"
local optim = require "gls.optim"

local plan = {}

--- Schedules of the learning rate that a trial can name.
plan.schedules = { constant = true, cosine = true, linear = true }

--- Every combination of the listed values: `grid{ learning_rate = {1e-3, 1e-4}, schedule = "cosine" }` gives two
-- settings.
-- @tparam table settings name → value or list of values
-- @treturn table list of settings tables
function plan.grid(settings)
  for name, values in pairs(settings) do
    if type(values) == "table" then check.list("experiment.grid: " .. tostring(name), values) end
  end
  local names = {}
  for name in pairs(settings) do names[#names + 1] = name end
  table.sort(names)
  local result = { {} }
  for _, name in ipairs(names) do
    local values, longer = settings[name], {}
    if type(values) ~= "table" or #values == 0 then values = { values } end
    for _, base in ipairs(result) do
      for _, value in ipairs(values) do
        local copy = {}
        for key, kept in pairs(base) do copy[key] = kept end
        copy[name] = value
        longer[#longer + 1] = copy
      end
    end
    result = longer
  end
  return result
end

-- The trials that are left when equal ones are kept once.
local function distinct(trials)
  local result, seen = {}, {}
  for _, trial in ipairs(trials) do
    local key = record.encode(trial)
    if not seen[key] then result[#result + 1] = trial end
    seen[key] = true
  end
  return result
end

-- The trials with one setting replaced by each of the values; what becomes equal is kept once.
local function replace(trials, setting, values)
  local result = {}
  for _, value in ipairs(values) do
    for _, trial in ipairs(trials) do
      local copy = {}
      for key, kept in pairs(trial) do copy[key] = kept end
      copy[setting] = value
      result[#result + 1] = copy
    end
  end
  return distinct(result)
end

-- A constant schedule has no `final`: the trials without it there, so that what is shown of a trial is what is applied.
local function without_final(trials, name, asked)
  local falling = false
  for _, trial in ipairs(trials) do
    if trial.schedule == "constant" then trial.final = nil else falling = true end
  end
  if asked and not falling then
    misuse("option --set: %s.final goes with --schedule cosine or linear; here the schedule is constant", name)
  end
  return distinct(trials)
end

-- The trials without those of GLS's settings that have no effect beside a trial's others, for the same reason; one that
-- is asked for has to have some in one of them.
local function without_idle(trials, name, asked)
  if optimizers.class(name) ~= optim.GLS then return trials end
  local acts, goes_with = {}, {}
  for _, trial in ipairs(trials) do
    local idle = optim.GLS.idle(trial)
    for setting in pairs(asked) do
      if idle[setting] then goes_with[setting] = idle[setting] else acts[setting] = true end
    end
    for setting in pairs(idle) do trial[setting] = nil end
  end
  for setting, what in pairs(goes_with) do
    if not acts[setting] then
      misuse("option --set: %s.%s has no effect here: it goes with %s", name, setting, what)
    end
  end
  return distinct(trials)
end

-- What is wrong with the settings around an optimizer, and with what it has to be told before it is made.
local function check_trial(trial, name)
  if not plan.schedules[trial.schedule] then
    misuse("%s: unknown schedule %q%s", name, tostring(trial.schedule),
      check.suggestion(trial.schedule, plan.schedules))
  end
  for setting, rule in pairs(optimizers.around) do
    local value = trial[setting]
    if value ~= nil and not rule[1](value) then
      misuse("setting %s.%s: %s: expected %s", name, setting, tostring(value), rule[2])
    end
  end
  if trial.learning_rate ~= "auto" then return end
  if optimizers.known[name].class ~= "GLS" then
    misuse("%s: a learning rate of auto is for gls alone; give a number", name)
  end
  local form = optim.GLS.forms[trial.form]
  if form and form.learning_rate ~= "auto" then
    misuse('setting %s.form: %s takes a number as learning rate, and here it is "auto": say --lr %s=%s too', name,
      trial.form, name, number.setting(form.learning_rate))
  end
end

--- The trials of one optimizer: the experiment's own, changed by --schedule, --lr and --set.
-- @tparam table spec
-- @tparam table chosen what options.parse gave
-- @tparam string name of the optimizer
-- @treturn table list of settings tables
function plan.trials(spec, chosen, name)
  local trials = {}
  for i, trial in ipairs(spec.trials[name]) do
    trials[i] = { schedule = "constant" }
    for key, value in pairs(optimizers.known[name].settings) do trials[i][key] = value end
    for key, value in pairs(trial) do trials[i][key] = value end
  end
  if chosen.schedule then trials = replace(trials, "schedule", chosen.schedule) end
  local asked = {}
  for _, list in ipairs { chosen.lr, chosen.set } do
    for _, entry in ipairs(list) do
      if entry.optimizer == name then
        trials = replace(trials, entry.setting, entry.values)
        asked[entry.setting] = true
      end
    end
  end
  -- SGD's own step size, whichever that is.
  if name == "gls-graft" and not asked.learning_rate then
    for _, entry in ipairs(chosen.lr) do
      if entry.optimizer == "sgd" then trials = replace(trials, "learning_rate", entry.values) end
    end
  end
  for _, trial in ipairs(trials) do check_trial(trial, name) end
  trials = without_idle(without_final(trials, name, asked.final), name, asked)
  return chosen.trials and table.move(trials, 1, math.min(chosen.trials, #trials), 1, {}) or trials
end

--- What names a run: equal for equal optimizer and settings.
-- @tparam string optimizer
-- @tparam table settings
-- @treturn string
function plan.key(optimizer, settings) return optimizer .. " " .. record.encode(settings) end

--- The trials of all optimizers, first of each, then second of each, …: what is cut short has seen all of them.
-- @tparam table spec
-- @tparam table chosen
-- @treturn table list of `{ optimizer =, settings =, key = }`
-- @treturn table name → number of trials
function plan.make(spec, chosen)
  local lists, counts, longest, list = {}, {}, 0, {}
  for _, name in ipairs(chosen.optimizers) do
    lists[name] = plan.trials(spec, chosen, name)
    counts[name] = #lists[name]
    longest = math.max(longest, counts[name])
  end
  for i = 1, longest do
    for _, name in ipairs(chosen.optimizers) do
      local settings = lists[name][i]
      if settings then
        list[#list + 1] = { optimizer = name, settings = settings, key = plan.key(name, settings) }
      end
    end
  end
  return list, counts
end

return plan
