--- Compare: is an optimizer any good? It and tuned baselines are searched alike on several tasks, and the answer has
-- its uncertainty with it. A script of the user's gives the optimizer:
--
--    return { name = "mine", optimizer = Mine, space = { learning_rate = compare.log(1e-4, 1e-1) } }
--
-- options  the command line      entries, space  optimizers and what they are searched over     tasks  what is trained
-- protocol  which runs are made  trial  one run      ranks  runs over MPI     ledger  results.jsonl
-- random, statistics  numbers
-- analysis  the answers          words, summary, chart, page  what is written of them
-- @module gls.compare
local gls = require "gls"
local analysis = require "gls.compare.analysis"
local circumstances = require "gls.experiment.circumstances"
local entries = require "gls.compare.entries"
local file = require "gls.file"
local ledger = require "gls.compare.ledger"
local log = require "gls.log"
local misuse = require "gls.experiment.misuse"
local number = require "gls.number"
local options = require "gls.compare.options"
local page = require "gls.compare.page"
local protocol = require "gls.compare.protocol"
local ranks = require "gls.compare.ranks"
local record = require "gls.experiment.record"
local space = require "gls.compare.space"
local summary = require "gls.compare.summary"
local tasks = require "gls.compare.tasks"
local trial = require "gls.compare.trial"
local words = require "gls.compare.words"

local compare = { log = space.log, uniform = space.uniform, choice = space.choice }

-- ---- what is compared ----

--- The plan of a comparison.
-- @tparam table chosen what options.parse gave; `optimizers`, `baselines` and `tasks` may be tables in place of names
-- @treturn table plan: `entries` (baselines first), `is_baseline`, `tasks`, `studies`, `trials`, `retunes`,
-- `evaluations`, `seed`
function compare.plan(chosen)
  local plan = { entries = {}, is_baseline = {}, tasks = {} }
  for _, name in ipairs { "studies", "trials", "retunes", "evaluations", "seed" } do plan[name] = chosen[name] end
  local candidates, taken, named = {}, {}, {}
  for i, text in ipairs(chosen.optimizers) do
    candidates[i] = type(text) == "string" and entries.open(text) or text
    local name = candidates[i].name
    if taken[name] then misuse.raise("two optimizers are called %s", name) end
    taken[name] = true
  end
  for _, text in ipairs(chosen.baselines) do
    local entry = type(text) == "string" and entries.open(text, "--baselines") or text
    if not taken[entry.name] then
      taken[entry.name], plan.is_baseline[entry.name] = true, true
      plan.entries[#plan.entries + 1] = entry
    end
  end
  if #plan.entries == 0 then misuse.raise "--baselines: none is left to compare with" end
  table.move(candidates, 1, #candidates, #plan.entries + 1, plan.entries)
  for i, text in ipairs(chosen.tasks) do
    local task = type(text) == "string" and tasks.load(text, chosen.mode) or text
    if named[task.name] then misuse.raise("two tasks are called %s", task.name) end
    named[task.name] = true
    task.steps = chosen.steps or task.steps
    plan.tasks[i] = tasks.open(task, chosen.data_dir, chosen.data)
  end
  return plan
end

-- ---- running ----

local PHASES = { trial = "search", retune = "retuning", final = "tuned", untuned = "untuned", seconds = "by seconds" }

-- Says how far a plan is: `before(run)`, `step(run, state)`, `after(run, row)`.
local function teller(plan, progress)
  local self = { done = 0, place = 0, began = log.clock(), total = protocol.count(plan) * #plan.tasks }
  local function left(part)
    if self.done == 0 then return "?" end
    return log.duration((log.clock() - self.began) / (self.done + part) * (self.total - self.place + 1 - part))
  end
  local function name(run)
    return ("%s, %s, study %d, %s"):format(run.task, run.optimizer, run.study, PHASES[run.phase])
  end
  function self.before() self.place = self.place + 1 end
  function self.step(run, state)
    local part = math.min(state.step / run.steps, 1)
    progress:update((self.place - 1 + part) / self.total, ("%s · step %d/%d · loss %s · left %s"):format(name(run),
      state.step, run.steps, number.text(state.loss), left(part)))
  end
  function self.after(run, row)
    self.done = self.done + 1
    if row.status == "diverged" then progress:line(name(run) .. ": diverged") end
    progress:update(self.place / self.total, name(run) .. " · done · left " .. left(0))
  end
  return self
end

--- Runs lists of runs, one after the other in this process or dealt out to others.
-- @tparam table plan
-- @tparam table results ledger
-- @tparam table progress of log.progress
-- @tparam[opt] table team what ranks.join gave
-- @treturn function for protocol.run
function compare.executor(plan, results, progress, team)
  local tell = teller(plan, progress)
  if team then
    return team:executor(results, function(run, row)
      tell.before()
      tell.after(run, row)
    end, function(line) progress:line(line) end)
  end
  return function(runs)
    for _, run in ipairs(runs) do
      tell.before()
      if not results:find(run) then
        tell.after(run, results:add(run, trial.run(run.entry, run.of, run, function(state) tell.step(run, state) end)))
      end
    end
  end
end

-- Runs what rank 0 deals out.
local function serve(plan, team)
  local entry_of, task_of = {}, {}
  for _, entry in ipairs(plan.entries) do entry_of[entry.name] = entry end
  for _, task in ipairs(plan.tasks) do task_of[task.name] = task end
  team:serve(function(run, alive) return trial.run(entry_of[run.optimizer], task_of[run.task], run, alive) end)
end

-- A mistake in an optimizer's settings is told before the first run.
local function check_entries(plan)
  for _, task in ipairs(plan.tasks) do
    local parameters = task.model(task.sets.train, { model = task.options, initialisation = task.initialisation })
      :parameters()
    for _, entry in ipairs(plan.entries) do
      for _, run in ipairs(protocol.trials({ entries = { entry }, studies = 1, trials = 1, seed = plan.seed,
        evaluations = 1 }, task)) do
        misuse.attempt(trial.optimizer, entry, task, parameters, run.settings, run.schedule, task.steps)
      end
      misuse.attempt(trial.optimizer, entry, task, parameters, entry.defaults, "constant", task.steps)
    end
  end
end

-- ---- writing ----

local function write(plan, results, config, out)
  local found = analysis.of(plan, results)
  file.replace(out .. "/summary.md", summary.markdown(found, plan, config))
  file.replace(out .. "/report.html", page.of(found, plan, config))
  return found
end

local function title_of(plan, mode)
  local names = {}
  for _, entry in ipairs(plan.entries) do
    if not plan.is_baseline[entry.name] then names[#names + 1] = entry.name end
  end
  return ("%s against tuned baselines%s"):format(table.concat(names, ", "),
    mode == "short" and ": the short answer" or "")
end

local function open_config(plan, chosen, arguments)
  return {
    title = title_of(plan, chosen.mode), state = "finished", command = circumstances.command("compare", arguments),
    machine = circumstances.machine(), versions = circumstances.versions(),
  }
end

-- The whole job, in the process that writes.
local function job(plan, chosen, arguments, team)
  local out = chosen.out or ("runs/compare/%s%s"):format(plan.entries[#plan.entries].name,
    chosen.mode == "study" and "-study" or "")
  record.make_directory(out)
  local lock <close> = misuse.attempt(record.lock_directory, out) -- luacheck: ignore 211
  local results = misuse.attempt(ledger.open, out .. "/results.jsonl")
  local config, progress = open_config(plan, chosen, arguments), log.progress { quiet = chosen.quiet }
  progress:line(config.title)
  for _, task in ipairs(plan.tasks) do progress:line(("%-12s %s"):format(task.name, summary.describe(task))) end
  progress:line(("at most %d runs, %d done before; results in %s"):format(protocol.count(plan) * #plan.tasks,
    #results.rows, out))
  local good, problem = xpcall(protocol.run, misuse.traceback, plan, results,
    compare.executor(plan, results, progress, team))
  progress:finish()
  results:close()
  local interrupted = not good and misuse.is_interrupt(problem)
  if not good then config.state = interrupted and "Interrupted." or "Ended by an error." end
  local written, found = pcall(write, plan, results, config, out)
  if not written then error(good and found or problem, 0) end
  for name in pairs(found.candidates) do progress:line("\n" .. words.sentence(name, found, plan):gsub("%*%*", "")) end
  io.write(out, "/report.html\n")
  io.flush()
  if interrupted then misuse.raise "interrupted; the same command goes on" end
  if not good then error(problem, 0) end
  return out .. "/report.html"
end

local function begin(chosen, arguments, team)
  if chosen.threads or team then gls.threads(chosen.threads or 1) end
  local plan = compare.plan(chosen)
  check_entries(plan)
  if team and team.rank > 0 then return serve(plan, team) end
  local path = job(plan, chosen, arguments, team)
  if team then team:finish() end
  return path
end

--- Runs a comparison as its command line asks, or goes on with it; under mpirun, dealt out over its processes.
-- @tparam[opt] table arguments list of strings; default: those of the script
-- @treturn string|nil path of report.html; nil after --help, and in all processes of mpirun but the first
-- @raise on wrong options or tasks; after Ctrl-C or an error in a run, once everything measured is on disk and reported
function compare.run(arguments)
  arguments = arguments or arg or {}
  local chosen, help = options.parse(arguments)
  if not chosen then
    print(help)
    return nil
  end
  local team = ranks.join()
  if not team then return begin(chosen, arguments) end
  local results = table.pack(xpcall(begin, misuse.traceback, chosen, arguments, team))
  if not results[1] then team:abort(results[2]) end
  return results[2]
end

return require("gls.strict").module("compare", compare)
