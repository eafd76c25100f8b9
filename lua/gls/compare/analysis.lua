--- Analysis: from the runs of a comparison to its answers. Everything is over studies, each a search and a run of its
-- own: medians with bootstrap intervals, ratios of test losses with a paired t test, corrected over tasks by Holm's
-- method.
-- @module gls.compare.analysis
local protocol = require "gls.compare.protocol"
local random = require "gls.compare.random"
local statistics = require "gls.compare.statistics"

local analysis = {}

--- A corrected p below this is a difference.
analysis.LEVEL = 0.05

local median = statistics.median

-- ---- rows of runs ----

-- Rows of one entry, by study; nil where one is missing.
local function rows_of(plan, ledger, runs, entry, phase)
  local rows, count = {}, 0
  for _, run in ipairs(runs) do
    if run.entry == entry and run.phase == phase then
      rows[run.study] = ledger:find(run)
      count = count + (rows[run.study] and 1 or 0)
    end
  end
  return count == plan.studies and rows or nil
end

-- Validation loss when a share of the steps is done; a diverged run's is that of the untrained model.
local function loss_at(row, share)
  if row.status == "diverged" then return row.curve[1][3] end
  local loss
  for _, point in ipairs(row.curve) do
    if point[1] <= share * row.steps + 1e-9 then loss = point[3] end
  end
  return loss
end

-- Steps and seconds of the first evaluation that is not above a loss; infinite where there is none, and where the run
-- diverged.
local function reached(row, target)
  for _, point in ipairs(row.curve) do
    if row.status ~= "diverged" and point[3] <= target then return point[1], point[2] end
  end
  return math.huge, math.huge
end

local function collect(rows, f)
  local values = {}
  for i, row in ipairs(rows) do values[i] = f(row) end
  return values
end

-- Median and its bootstrap interval.
local function interval(values, ...)
  local low, high = statistics.bootstrap(function(resample) return median(resample(values)) end, random.stream(...))
  return { value = median(values), low = low, high = high }
end

-- ---- one task ----

local function final_loss(rows) return median(collect(rows, function(row) return loss_at(row, 1) end)) end

-- What is compared, and the runs that it is read from.
local RUNS = { by_steps = "rows", by_seconds = "timed", by_default = "untuned" }

-- The baseline with the lowest median of final validation losses, in one kind of runs.
local function best_baseline(plan, found, runs)
  local best, lowest
  for _, entry in ipairs(plan.entries) do
    local own = found[entry.name]
    local loss = plan.is_baseline[entry.name] and own and own[runs] and final_loss(own[runs])
    if loss and (not best or loss < lowest) then best, lowest = own, loss end
  end
  return best
end

-- The share of an entry's searched runs that diverged, with the interval over studies.
local function share_diverged(plan, ledger, runs, entry)
  local shares = {}
  for study = 1, plan.studies do
    local diverged, count = 0, 0
    for _, run in ipairs(runs) do
      local row = run.entry == entry and run.study == study and ledger:find(run)
      if row then
        count = count + 1
        diverged = diverged + (row.status == "diverged" and 1 or 0)
      end
    end
    shares[study] = count > 0 and diverged / count or 0
  end
  local mean = statistics.mean
  local low, high = statistics.bootstrap(function(resample) return mean(resample(shares)) end, random.stream "diverged")
  return { value = mean(shares), low = low, high = high }
end

-- Test losses of two lists of rows, as the logarithms of their ratios.
local function log_ratios(rows, others)
  local logs = {}
  for i, row in ipairs(rows) do logs[i] = math.log(row.test_loss / others[i].test_loss) end
  return logs
end

-- The ratio of an entry's test losses to the best baseline's, with its 95 % interval and p.
local function compared(rows, others)
  if not rows then return nil end
  local test = statistics.paired_test(log_ratios(rows, others))
  return { ratio = math.exp(test.mean), low = math.exp(test.low), high = math.exp(test.high), p = test.p }
end

-- The rows of the budget in seconds; nil where some are missing. A step that costs what the cheapest baseline's does
-- needs no other run than the final one.
local function timed_rows(plan, ledger, part, entry, final)
  for _, run in ipairs(part.seconds) do
    if run.entry == entry then return rows_of(plan, ledger, part.seconds, entry, "seconds") end
  end
  return final
end

-- What one entry came to on one task; nil where its final runs are not done.
local function measure(plan, ledger, part, entry)
  local final = rows_of(plan, ledger, part.finals, entry, "final")
  if not final then return nil end
  local name = part.task.name
  local own = {
    entry = entry, rows = final, untuned = rows_of(plan, ledger, part.finals, entry, "untuned"),
    timed = timed_rows(plan, ledger, part, entry, final),
    diverged = share_diverged(plan, ledger, part.searched, entry),
    step_seconds = protocol.step_seconds(ledger, part.searched, entry),
  }
  own.losses = {}
  for i, share in ipairs { 0.25, 0.5, 1 } do
    own.losses[i] = interval(collect(final, function(row) return loss_at(row, share) end), "losses", name, share)
  end
  own.test = interval(collect(final, function(row) return row.test_loss end), "test", name)
  own.memory = interval(collect(final, function(row) return row.peak_bytes end), "memory", name)
  return own
end

local function of_task(plan, ledger, part)
  local found, list = {}, {}
  for _, entry in ipairs(plan.entries) do
    local own = measure(plan, ledger, part, entry)
    found[entry.name] = own
    list[#list + 1] = own
  end
  local result = { task = part.task, entries = list, by_name = found, best = {}, budget = part.budget }
  for field, runs in pairs(RUNS) do result.best[field] = best_baseline(plan, found, runs) end
  if not result.best.by_steps then return result end
  result.target = part.task.target or final_loss(result.best.by_steps.rows)
  for _, own in ipairs(list) do
    local name = part.task.name
    own.steps_list = collect(own.rows, function(row) return (reached(row, result.target)) end)
    own.seconds_list = collect(own.rows, function(row) return (select(2, reached(row, result.target))) end)
    own.steps = interval(own.steps_list, "steps", name)
    own.seconds = interval(own.seconds_list, "seconds", name)
    for field, runs in pairs(RUNS) do
      local best = result.best[field]
      own[field] = best and compared(own[runs], best[runs])
    end
  end
  return result
end

-- ---- over tasks ----

-- Corrects the tests of one entry over its tasks, and gives each a verdict.
local function correct(parts, name, field)
  local tests, probabilities = {}, {}
  for _, part in ipairs(parts) do
    local own = part.by_name[name]
    if own and own ~= part.best[field] and own[field] then
      tests[#tests + 1] = own[field]
      probabilities[#tests] = own[field].p
    end
  end
  for i, corrected in ipairs(statistics.holm(probabilities)) do
    local test = tests[i]
    test.corrected = corrected
    test.verdict = corrected >= analysis.LEVEL and "no difference" or test.ratio < 1 and "better" or "worse"
  end
  return tests
end

-- Where the target is not reached the whole budget counts: the speed-up is then at most what is said. One that is met
-- before the first step counts as one step.
local function bounded(values, budget, steps)
  local result = {}
  for i, value in ipairs(values) do result[i] = math.min(math.max(value, budget / steps), budget) end
  return result
end

-- All steps of a run, or the seconds of one that made them all; nil where half of the runs or more diverged.
local function budget_of(rows, field)
  local longest, finished = 0, 0
  for _, row in ipairs(rows) do
    if row.status ~= "diverged" then
      finished = finished + 1
      longest = math.max(longest, field == "steps_list" and row.steps or row.curve[#row.curve][2])
    end
  end
  return 2 * finished > #rows and longest or nil
end

-- Geometric mean over tasks of how many times fewer steps (seconds) an entry takes to the target than the baseline
-- that is best at equal steps; `diverged`, the name of a task, where it has none.
local function speed_up(parts, name, field)
  local pairs_of, reached_all = {}, true
  for _, part in ipairs(parts) do
    local own, best = part.by_name[name], part.best.by_steps
    if own and best then
      local ours, theirs = budget_of(own.rows, field), budget_of(best.rows, field)
      if not (ours and theirs) then return { diverged = part.task.name } end
      reached_all = reached_all and median(own[field]) < math.huge
      local steps = part.task.steps
      pairs_of[#pairs_of + 1] = { bounded(own[field], ours, steps), bounded(best[field], theirs, steps) }
    end
  end
  if #pairs_of == 0 then return nil end
  local function ratio(resample)
    local ratios = {}
    for i, both in ipairs(pairs_of) do
      local ours, theirs = resample(both[1]), resample(both[2])
      ratios[i] = median(theirs) / median(ours)
    end
    return statistics.geometric_mean(ratios)
  end
  local low, high = statistics.bootstrap(ratio, random.stream("speed-up", field))
  return { value = ratio(function(values) return values end), low = low, high = high, at_most = not reached_all }
end

-- Profiles over problems, a problem being a study of a task.
local function profiles(plan, parts, field)
  local costs = {}
  for _, part in ipairs(parts) do
    for _, entry in ipairs(plan.entries) do
      local own = part.by_name[entry.name]
      if not own or not own[field] then return nil end
      costs[entry.name] = costs[entry.name] or {}
      for _, cost in ipairs(own[field]) do table.insert(costs[entry.name], cost) end
    end
  end
  if not next(costs) then return nil end
  local curves, greatest = statistics.profiles(costs)
  return { curves = curves, greatest = greatest }
end

local function tally(tests)
  local count = { better = 0, worse = 0, ["no difference"] = 0 }
  for _, test in ipairs(tests) do count[test.verdict] = count[test.verdict] + 1 end
  return count
end

--- The answers.
-- @tparam table plan as for protocol.run
-- @tparam table ledger
-- @treturn table `tasks`: for each that has been run `task`, `best` (baseline `by_steps`, `by_seconds`,
-- `by_default`: each budget's own), `target`, `entries` (each with `losses` at 25, 50 and 100 % of the steps, `steps`
-- and `seconds` to the target, `test`, `memory` (all with `value`, `low`, `high`), `diverged`, `by_steps`,
-- `by_seconds`, `by_default`: `ratio`, `low`, `high`, `p`, `corrected`, `verdict`);
-- `candidates`: name → `tally` of verdicts, `speed_up` in steps and seconds; `profiles`
function analysis.of(plan, ledger)
  local parts = {}
  for _, part in ipairs(protocol.run(plan, ledger)) do
    local result = of_task(plan, ledger, part)
    if #result.entries > 0 then parts[#parts + 1] = result end
  end
  local result = { tasks = parts, candidates = {}, profiles = {
    steps = profiles(plan, parts, "steps_list"), seconds = profiles(plan, parts, "seconds_list"),
  } }
  for _, entry in ipairs(plan.entries) do
    local tests = {}
    for _, field in ipairs { "by_steps", "by_seconds", "by_default" } do
      tests[field] = correct(parts, entry.name, field)
    end
    if not plan.is_baseline[entry.name] then
      result.candidates[entry.name] = {
        by_steps = tally(tests.by_steps), by_seconds = tally(tests.by_seconds), by_default = tally(tests.by_default),
        steps = speed_up(parts, entry.name, "steps_list"), seconds = speed_up(parts, entry.name, "seconds_list"),
      }
    end
  end
  return result
end

return analysis
