--- Compare: is an optimizer any good? It and tuned baselines are searched alike on several tasks, and the answer has
-- its uncertainty with it. A script of the user's gives the optimizer:
--
--    return { name = "mine", optimizer = Mine, space = { learning_rate = compare.log(1e-4, 1e-1) } }
--
-- options  the command line      entries, space  optimizers and what they are searched over     tasks  what is trained
-- protocol  which runs are made  trial  one run      ledger  results.jsonl      random, statistics  numbers
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
  local candidates, taken = {}, {}
  for i, text in ipairs(chosen.optimizers) do
    candidates[i] = type(text) == "string" and entries.open(text) or text
    local name = candidates[i].name
    if taken[name] then misuse.raise("two optimizers are called %s", name) end
    taken[name] = true
  end
  for _, text in ipairs(chosen.baselines) do
    local entry = type(text) == "string" and entries.open(text) or text
    if not taken[entry.name] then
      taken[entry.name], plan.is_baseline[entry.name] = true, true
      plan.entries[#plan.entries + 1] = entry
    end
  end
  if #plan.entries == 0 then misuse.raise "--baselines: none is left to compare with" end
  table.move(candidates, 1, #candidates, #plan.entries + 1, plan.entries)
  for i, text in ipairs(chosen.tasks) do
    local task = type(text) == "string" and tasks.load(text, chosen.mode) or text
    task.steps = chosen.steps or task.steps
    plan.tasks[i] = tasks.open(task, chosen.data_dir, chosen.data)
  end
  return plan
end

-- ---- running ----

local PHASES = { trial = "search", retune = "retuning", final = "tuned", untuned = "untuned", seconds = "by seconds" }

--- Runs lists of runs one after the other in this process.
-- @tparam table plan
-- @tparam table results ledger
-- @tparam table progress of log.progress
-- @treturn function for protocol.run
function compare.executor(plan, results, progress)
  local total, place, done, began = protocol.count(plan) * #plan.tasks, 0, 0, log.clock()
  return function(runs)
    for _, run in ipairs(runs) do
      place = place + 1
      if not results:find(run) then
        local row = results:add(run, trial.run(run.entry, run.of, run, function(state)
          local part = math.min(state.step / run.steps, 1)
          local left = done > 0 and (log.clock() - began) / (done + part) * (total - place + 1 - part) or math.huge
          progress:update((place - 1 + part) / total, ("%s, %s, study %d, %s · step %d/%d · loss %s · left %s"):format(
            run.task, run.optimizer, run.study, PHASES[run.phase], state.step, run.steps, number.text(state.loss),
            log.duration(left)))
        end))
        done = done + 1
        if row.status == "diverged" then
          progress:line(("%s, %s, study %d, %s: diverged"):format(run.task, run.optimizer, run.study,
            PHASES[run.phase]))
        end
      end
    end
  end
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

local function with_traceback(problem)
  if type(problem) ~= "string" or misuse.is_interrupt(problem) then return problem end
  return debug.traceback(problem, 2)
end

--- Runs a comparison as its command line asks, or goes on with it.
-- @tparam[opt] table arguments list of strings; default: those of the script
-- @treturn string|nil path of report.html; nil after --help
-- @raise on wrong options or tasks; after Ctrl-C or an error in a run, once everything measured is on disk and reported
function compare.run(arguments)
  arguments = arguments or arg or {}
  local chosen, help = options.parse(arguments)
  if not chosen then
    print(help)
    return nil
  end
  if chosen.threads then gls.threads(chosen.threads) end
  local plan = compare.plan(chosen)
  check_entries(plan)
  local out = chosen.out or ("runs/compare/%s%s"):format(plan.entries[#plan.entries].name,
    chosen.mode == "study" and "-study" or "")
  record.make_directory(out)
  local lock <close> = misuse.attempt(record.lock_directory, out) -- luacheck: ignore 211
  local results = misuse.attempt(ledger.open, out .. "/results.jsonl")
  local config = {
    title = title_of(plan, chosen.mode), state = "finished", command = circumstances.command("compare", arguments),
    machine = circumstances.machine(), versions = circumstances.versions(),
  }

  local progress = log.progress { quiet = chosen.quiet }
  progress:line(config.title)
  for _, task in ipairs(plan.tasks) do progress:line(("%-12s %s"):format(task.name, summary.describe(task))) end
  progress:line(("at most %d runs, %d done before; results in %s"):format(protocol.count(plan) * #plan.tasks,
    #results.rows, out))
  local good, problem = xpcall(protocol.run, with_traceback, plan, results, compare.executor(plan, results, progress))
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

return require("gls.strict").module("compare", compare)
