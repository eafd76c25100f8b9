--- Summary: a comparison's answers as tables of texts, and as Markdown.
-- @module gls.compare.summary
local number = require "gls.number"
local space = require "gls.compare.space"
local tables = require "gls.experiment.tables"
local experiment_words = require "gls.experiment.words"
local words = require "gls.compare.words"

local summary = {}

local function percent(share) return ("%.0f %%"):format(100 * share) end

-- How an optimizer was set in its final runs, each once.
local function settings_of(rows)
  local texts, seen = {}, {}
  for _, row in ipairs(rows) do
    local text = experiment_words.describe(row.settings) .. ", " .. row.schedule
    if not seen[text] then texts[#texts + 1] = text end
    seen[text] = true
  end
  return table.concat(texts, "; ")
end

--- The table of a task.
-- @tparam table part of analysis.of's tasks
-- @treturn table head
-- @treturn table rows of texts
function summary.of_task(part)
  local head = {
    "optimizer", "test loss", "test loss / best baseline's at equal steps", "at equal seconds", "untuned",
    "steps to the target", "seconds to the target", "validation loss at 25 %", "at 50 %", "at 100 %",
    "time of a step", "diverged", "memory",
  }
  local rows = {}
  local function steps(value) return ("%.0f"):format(value) end
  for i, own in ipairs(part.entries) do
    local best = own == part.best.by_steps
    rows[i] = {
      own.entry.name .. (best and " (best baseline)" or ""), words.interval(own.test), words.ratio(own.by_steps),
      words.ratio(own.by_seconds), words.ratio(own.by_default),
      words.interval(own.steps, steps, "not reached"), words.interval(own.seconds, nil, "not reached"),
      words.interval(own.losses[1]), words.interval(own.losses[2]), words.interval(own.losses[3]),
      own.step_seconds and number.text(1e3 * own.step_seconds) .. " ms" or "–", words.interval(own.diverged, percent),
      words.interval(own.memory, words.megabytes),
    }
  end
  return head, rows
end

--- What won each optimizer's searches.
-- @tparam table part of analysis.of's tasks
-- @treturn table list of sentences
function summary.winners(part)
  local lines = {}
  for i, own in ipairs(part.entries) do
    lines[i] = ("`%s` won with: %s."):format(own.entry.name, settings_of(own.rows))
  end
  return lines
end

--- The table over tasks.
function summary.overall(found, plan)
  local head = { "optimizer", "equal steps", "equal seconds", "untuned", "speed-up in steps", "speed-up in seconds" }
  local rows = {}
  for _, entry in ipairs(plan.entries) do
    local own = found.candidates[entry.name]
    if own then
      local function verdicts(tally)
        return ("%d better, %d worse, %d no difference"):format(tally.better, tally.worse, tally["no difference"])
      end
      rows[#rows + 1] = {
        entry.name, verdicts(own.by_steps), verdicts(own.by_seconds), verdicts(own.by_default),
        words.speed_up(own.steps), words.speed_up(own.seconds),
      }
    end
  end
  return head, rows
end

--- How runs were made, line by line.
-- @tparam table plan
-- @tparam table config `command`, `machine`, `versions`
-- @treturn table list of sentences
function summary.method(plan, config)
  local lines = {
    ("Every optimizer had, on each task, %d independent studies of %d quasi-random trials and %d changes of schedule "
      .. "and decay around the best of them; the winner ran again with a fresh seed, the same for all optimizers of a "
      .. "study."):format(plan.studies, plan.trials, plan.retunes),
    "Choices are by validation loss at the end of a run; the test loss decided nothing.",
    "Values are medians over the studies with 95 % bootstrap intervals; ratios are geometric means with 95 % intervals "
      .. "of a paired t test over studies, p corrected over tasks by Holm's method; a difference has p below 0.05. A "
      .. "run that diverged counts with the loss of the untrained model.",
    "The reference is the baseline that is best at that budget by its median validation loss: tuned at equal steps and "
      .. "seconds, by its defaults where untuned.",
    "Equal seconds: as many steps as an optimizer makes in the time that the cheapest baseline takes for all of its "
      .. "steps. Untuned: the optimizers' own defaults, constant rate.",
    ("The target is what the best tuned baseline ends at, unless the task says another. Validation losses are taken %d "
      .. "times a run, so steps to the target are known to one part in %d."):format(plan.evaluations, plan.evaluations),
  }
  for _, entry in ipairs(plan.entries) do
    lines[#lines + 1] = ("`%s` (%s): %s; schedule of the trials %s."):format(entry.name, entry.source,
      space.describe(entry.space), entry.schedule)
  end
  lines[#lines + 1] = ("Command: `%s`. Machine: %s, %s. %s."):format(config.command, config.machine.cpu,
    experiment_words.count(config.machine.threads, "thread"), config.versions.text)
  return lines
end

--- What a task was, in a sentence.
function summary.describe(task)
  return ("%s, version %d: %s%s. Batch %d, %d steps."):format(task.title, task.version, task.note,
    task.stand_in and (" (a stand-in: %s)"):format(task.stand_in) or "", task.batch, task.steps)
end

--- The summary.
-- @tparam table found of analysis.of
-- @tparam table plan
-- @tparam table config
-- @treturn string Markdown
function summary.markdown(found, plan, config)
  local parts = { "# " .. config.title }
  if config.state ~= "finished" then parts[#parts + 1] = "**" .. config.state .. "** What was done by then:" end
  for _, entry in ipairs(plan.entries) do
    if not plan.is_baseline[entry.name] then parts[#parts + 1] = words.sentence(entry.name, found, plan) end
  end
  parts[#parts + 1] = tables.markdown(summary.overall(found, plan))
  for _, part in ipairs(found.tasks) do
    parts[#parts + 1] = "## " .. part.task.name
    parts[#parts + 1] = summary.describe(part.task) .. (part.target and (" Target: validation loss %s%s."):format(
      number.text(part.target), part.task.target and "" or (", of %s"):format(part.best.by_steps.entry.name)) or "")
    parts[#parts + 1] = tables.markdown(summary.of_task(part))
    parts[#parts + 1] = "- " .. table.concat(summary.winners(part), "\n- ")
  end
  local lines = summary.method(plan, config)
  parts[#parts + 1] = "## How\n\n- " .. table.concat(lines, "\n- ")
  return table.concat(parts, "\n\n") .. "\n"
end

return summary
