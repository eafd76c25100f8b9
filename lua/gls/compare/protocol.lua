--- Protocol: which runs a comparison makes, and what each is decided by. Per task and optimizer several studies that
-- know nothing of each other, as AlgoPerf has them: each searches, retunes its best, and runs the winner again with a
-- seed of its own. So a difference between optimizers is held against the luck of searching too, not of seeds alone.
-- Within a study all optimizers have the same seeds (initial weights, order of batches): they are paired. Phases:
--
--   trial     quasi-random points of the optimizer's space
--   retune    other schedules and decays at the best of them
--   final     the best of both with a fresh seed: what is reported
--   untuned   the optimizer's defaults with that seed
--   seconds   the winner with as many steps as it makes in the seconds of the cheapest baseline, its schedule as long
--
-- Settings are chosen by the validation loss at the end of a run. The test loss is taken of final, untuned and seconds
-- alone, which decide nothing.
-- @module gls.compare.protocol
local entries = require "gls.compare.entries"
local gls = require "gls"
local misuse = require("gls.experiment.misuse").raise
local random = require "gls.compare.random"
local space = require "gls.compare.space"
local statistics = require "gls.compare.statistics"

local protocol = {}

--- Budgets: studies, trials and retunes of each study, evaluations of a final run, and by default which tasks and
-- baselines.
protocol.modes = {
  short = {
    studies = 5, trials = 4, retunes = 2, evaluations = 20, tasks = { "mlp", "cnn", "transformer" },
    baselines = { "momentum", "adamw", "muon" },
  },
  study = {
    studies = 5, trials = 8, retunes = 6, evaluations = 40,
    tasks = { "mlp", "cnn", "resnet8", "autoencoder", "transformer", "lstm" },
    baselines = { "momentum", "adamw", "muon", "soap" },
  },
}

-- A step that costs within this of the cheapest baseline's needs no run of its own for the budget in seconds.
local SAME_TIME = 0.03

local function new_run(plan, task, entry, phase, study, fields)
  local run = {
    task = task.name, version = task.version, data = task.fingerprint, optimizer = entry.name, source = entry.source,
    phase = phase, study = study, steps = task.steps, batch = task.batch, threads = gls.threads(), number = 1,
    evaluations = plan.evaluations, entry = entry, of = task,
  }
  for name, value in pairs(fields) do run[name] = value end
  run.test = phase ~= "trial" and phase ~= "retune"
  return run
end

local function fresh_seed(plan, task, study) return random.seed(plan.seed, "final", task.name, study) end
local function tuning_seed(plan, task, study) return random.seed(plan.seed, "tuning", task.name, study) end

-- Calls f with every study and entry: of what is cut short, all optimizers have had their share.
local function each(plan, f)
  local list = {}
  for study = 1, plan.studies do
    for _, entry in ipairs(plan.entries) do
      for _, run in ipairs(f(study, entry)) do list[#list + 1] = run end
    end
  end
  return list
end

--- The runs of the first phase.
function protocol.trials(plan, task)
  return each(plan, function(study, entry)
    local runs = {}
    local stream = random.stream(plan.seed, "points", task.name, entry.name, study)
    for i, settings in ipairs(space.points(entry.space, plan.trials, stream)) do
      runs[i] = new_run(plan, task, entry, "trial", study, { settings = settings, schedule = entry.schedule, number = i,
        seed = tuning_seed(plan, task, study), evaluations = 1 })
    end
    return runs
  end)
end

-- The run with the lowest validation loss; a diverged one only where all are. A run that is still missing: nil.
local function best_of(ledger, runs)
  local best, best_loss
  for _, run in ipairs(runs) do
    local row = ledger:find(run)
    if not row then return nil end
    local loss = row.valid_loss or math.huge
    if not best or loss < best_loss then best, best_loss = run, loss end
  end
  return best
end

-- The runs of a list of one study and optimizer.
local function own(runs, study, entry)
  local list = {}
  for _, run in ipairs(runs) do
    if run.study == study and run.entry == entry then list[#list + 1] = run end
  end
  return list
end

--- The runs of the second phase, once those of the first are in the ledger.
function protocol.retunes(plan, task, ledger, trials)
  return each(plan, function(study, entry)
    local best, runs = best_of(ledger, own(trials, study, entry)), {}
    if not best then return runs end
    for i, change in ipairs(entries.variations(entry, best.settings, best.schedule, task.steps, plan.retunes)) do
      runs[i] = new_run(plan, task, entry, "retune", study, { settings = change.settings, schedule = change.schedule,
        number = i, seed = tuning_seed(plan, task, study), evaluations = 1 })
    end
    return runs
  end)
end

--- The runs that are reported: tuned, and by defaults.
-- @tparam table searched runs of the first two phases
function protocol.finals(plan, task, ledger, searched)
  return each(plan, function(study, entry)
    local best = best_of(ledger, own(searched, study, entry))
    local seed = fresh_seed(plan, task, study)
    local runs = {
      new_run(plan, task, entry, "untuned", study, { settings = entry.defaults, schedule = "constant", seed = seed }),
    }
    if best then
      runs[2] = new_run(plan, task, entry, "final", study, { settings = best.settings, schedule = best.schedule,
        seed = seed })
    end
    return runs
  end)
end

--- Median seconds of a step of an optimizer on a task, by the runs of the search.
-- @tparam table ledger
-- @tparam table searched runs
-- @tparam table entry
-- @treturn number|nil
function protocol.step_seconds(ledger, searched, entry)
  local times = {}
  for _, run in ipairs(searched) do
    local row = run.entry == entry and ledger:find(run)
    if row and row.done > 0 then times[#times + 1] = row.seconds / row.done end
  end
  return statistics.median(times)
end

--- The runs with a budget in seconds: those whose number of steps differs from the task's by more than 3 %.
-- @tparam table finals runs of the third phase
-- @treturn table list of runs
-- @treturn number|nil the budget
function protocol.seconds(plan, task, ledger, searched, finals)
  local cheapest
  for _, entry in ipairs(plan.entries) do
    local seconds = plan.is_baseline[entry.name] and protocol.step_seconds(ledger, searched, entry)
    if seconds then cheapest = math.min(cheapest or seconds, seconds) end
  end
  if not cheapest then return {}, nil end
  local steps_of = {}
  for _, entry in ipairs(plan.entries) do
    local seconds = protocol.step_seconds(ledger, searched, entry)
    if seconds then steps_of[entry] = math.max(1, math.floor(task.steps * cheapest / seconds)) end
  end
  local runs = {}
  for _, run in ipairs(finals) do
    local steps = steps_of[run.entry]
    if run.phase == "final" and steps and math.abs(steps / task.steps - 1) > SAME_TIME then
      runs[#runs + 1] = new_run(plan, task, run.entry, "seconds", run.study, { settings = run.settings,
        schedule = run.schedule, seed = run.seed, steps = steps, evaluations = math.min(plan.evaluations, steps) })
    end
  end
  return runs, cheapest * task.steps
end

--- How many runs a plan has for one task, at most.
function protocol.count(plan)
  return plan.studies * #plan.entries * (plan.trials + plan.retunes + 3)
end

--- Runs a plan, or what of it the ledger has not yet, task after task.
-- @tparam table plan `entries`, `is_baseline` (name → true), `tasks`, `studies`, `trials`, `retunes`, `evaluations`,
-- `seed`
-- @tparam table ledger
-- @tparam function execute called with a list of runs that do not depend on each other, all of which are then in the
-- ledger; nil: nothing is run, the plan is only looked up
-- @treturn table list, for every task: `{ task =, searched = runs, finals = runs, seconds = runs, budget = seconds }`
function protocol.run(plan, ledger, execute)
  execute = execute or function() end
  local results = {}
  for i, task in ipairs(plan.tasks) do
    if task.steps < plan.evaluations then
      misuse("task %s: %d steps are fewer than the %d evaluations of a run", task.name, task.steps, plan.evaluations)
    end
    local trials = protocol.trials(plan, task)
    execute(trials)
    local retunes = protocol.retunes(plan, task, ledger, trials)
    execute(retunes)
    local searched = table.move(retunes, 1, #retunes, #trials + 1, table.move(trials, 1, #trials, 1, {}))
    local finals = protocol.finals(plan, task, ledger, searched)
    execute(finals)
    local seconds, budget = protocol.seconds(plan, task, ledger, searched, finals)
    execute(seconds)
    results[i] = { task = task, searched = searched, finals = finals, seconds = seconds, budget = budget }
  end
  return results
end

return protocol
