--- Experiment: optimizers compared on one model and one set of data, from one command line to a summary,
-- figures and every epoch's numbers. A script says what is compared:
--
--    experiment.run {
--      name = "mlp", title = "…",
--      model = function(set, settings) … end,          -- a module for these images and this trial
--      loss = function(output, batch, options) … end,  -- a tensor of one element
--      trials = { adam = experiment.grid { learning_rate = { 1e-3, 3e-4 }, schedule = "cosine" }, … },
--    }
--
-- choices, options  the command line     plan, optimizers  the trials     runner  one run     record  results.jsonl
-- together  several processes
-- outcome  what runs came to     summary, tables, words, figures, report  what is written of it
-- study  one comparison in many circumstances     misuse  errors without a traceback
-- @module gls.experiment
local gls = require "gls"
local check = require "gls.options"
local choices = require "gls.experiment.choices"
local circumstances = require "gls.experiment.circumstances"
local distributed = require "gls.distributed"
local figures = require "gls.experiment.figures"
local file = require "gls.file"
local keeper = require "gls.train.keeper"
local log = require "gls.log"
local misuse = require "gls.experiment.misuse"
local number = require "gls.number"
local optimizers = require "gls.experiment.optimizers"
local options = require "gls.experiment.options"
local outcome = require "gls.experiment.outcome"
local plan = require "gls.experiment.plan"
local record = require "gls.experiment.record"
local report = require "gls.experiment.report"
local runner = require "gls.experiment.runner"
local summary = require "gls.experiment.summary"
local together = require "gls.experiment.together"
local words = require "gls.experiment.words"

local experiment = { grid = plan.grid, choices = choices.read, optimizer = optimizers.add }

local SPEC = {
  name = check.required, title = check.required, model = check.required, loss = check.required,
  trials = check.required,
  loss_name = "loss", -- what the axis says
  classify = false,   -- outputs are logits, labels batch.y: accuracies are taken
  data = check.none,  -- options of data.loader: flatten, center, scale
  batches = check.none, -- of an epoch of a text
  context = check.none, -- tokens of a text's row
  defaults = check.none,
  choices = check.none, -- what experiment.choices gave
}
local DEFAULTS = {
  data = "auto", samples = 0, validation = 2000, test = 0, epochs = 10, batch = 250, optimizers = check.none,
  seeds = check.any { 1 }, all_seeds = false, select = "train", schedule = check.none,
}

local function checked(given)
  local spec = check.check("experiment.run", given, SPEC)
  spec.data = spec.data or {}
  spec.defaults = check.check("experiment.run: defaults", spec.defaults, DEFAULTS)
  for name, trials in pairs(spec.trials) do
    if not optimizers.known[name] then
      error(("experiment.run: trials: unknown optimizer %q%s"):format(name,
        check.suggestion(name, optimizers.known)), 3)
    end
    if type(trials) ~= "table" or #check.list("experiment.run: trials." .. name, trials) == 0 then
      error(("experiment.run: trials.%s: expected a list of settings, at least one"):format(name), 3)
    end
  end
  spec.defaults.optimizers = spec.defaults.optimizers or optimizers.of(spec)
  return spec
end

-- ---- what is noted of the circumstances ----

local function new_config(spec, chosen, arguments, sets, counts)
  return {
    experiment = spec.name, title = spec.title, state = "running",
    command = circumstances.command(spec.name, arguments), began = os.date "%Y-%m-%d %H:%M:%S",
    options = {
      data = chosen.data, samples = chosen.samples, validation = chosen.validation, test = chosen.test,
      epochs = chosen.epochs, batch = chosen.batch, seconds = chosen.seconds, optimizers = chosen.optimizers,
      lr = chosen.lr, set = chosen.set, schedule = chosen.schedule, trials = chosen.trials, seeds = chosen.seeds,
      all_seeds = chosen.all_seeds, choices = spec.choices,
      select = chosen.select, data_dir = chosen.data_dir, threads = chosen.threads,
      ranks = chosen.shared and distributed.size() or nil,
    },
    trials = counts,
    data = {
      name = sets.train.name, note = sets.train.note or sets.train.name, fingerprint = sets.train.fingerprint,
      unit = sets.train.level or "images", -- of these numbers: images, characters, words
      train_images = #sets.train, validation_images = #sets.valid,
      test_images = sets.test and #sets.test or 0, loader = spec.data,
    },
    machine = circumstances.machine(), versions = circumstances.versions(),
  }
end

-- ---- all runs ----

local function name_of_run(key, seed) return key .. " " .. tostring(seed) end

-- The file with the state of a run that is under way.
local function checkpoint_of(directory, run)
  return ("%s/run-%08x.safetensors"):format(directory, gls.core.io.crc32(run))
end

-- Rows of runs that came to their end, and of one cut short those of the epochs before its checkpoint.
local function kept_rows(rows, directory)
  local ended, epochs, kept = {}, {}, {}
  local function name(row) return name_of_run(plan.key(row.optimizer, row.settings), row.seed) end
  for _, row in ipairs(rows) do
    if row.status ~= "running" then ended[name(row)] = true end
  end
  for _, row in ipairs(rows) do
    local run = name(row)
    if not ended[run] and not epochs[run] then epochs[run] = keeper.epochs(checkpoint_of(directory, run)) or 0 end
    if ended[run] or row.epoch <= epochs[run] then kept[#kept + 1] = row end
  end
  return kept, ended
end

-- How wide the names and settings of a list of trials are.
local function layout(planned)
  local widths = { planned = planned, name = 0, setting = 0 }
  for _, trial in ipairs(planned) do
    widths.name = math.max(widths.name, log.width(trial.optimizer))
    widths.setting = math.max(widths.setting, log.width(words.brief(trial, widths.planned)))
  end
  return widths
end

local function run_line(place, total, trial, seed, last, spec, widths)
  local parts = {
    ("%s/%d"):format(log.pad(tostring(place), -#tostring(total)), total), log.pad(trial.optimizer, widths.name),
    log.pad(words.brief(trial, widths.planned), widths.setting), "seed " .. seed,
  }
  if not last then
    parts[#parts + 1] = "done before"
  elseif last.status == "diverged" then
    parts[#parts + 1] = "diverged in epoch " .. last.epoch
  else
    parts[#parts + 1] = "train " .. log.pad(number.text(last.train_loss), 8)
    parts[#parts + 1] = "valid " .. log.pad(number.text(last.valid_loss), 8)
    if spec.classify then parts[#parts + 1] = ("%4.1f %%"):format(100 * last.valid_accuracy) end
    parts[#parts + 1] = log.duration(last.seconds)
  end
  return table.concat(parts, "  ")
end

-- Results of other trials than now asked for (an earlier job under the same --out) stay in the file, but the best
-- settings and the summary are of what was asked for.
local function asked_rows(rows, planned)
  local asked, result, others = {}, {}, 0
  for _, trial in ipairs(planned) do asked[trial.key] = true end
  for _, row in ipairs(rows) do
    if asked[plan.key(row.optimizer, row.settings)] then
      result[#result + 1] = row
    elseif row.status ~= "running" then
      others = others + 1
    end
  end
  return result, others
end

local function run_all(spec, chosen, sets, planned, results, ended, progress)
  local total = chosen.all_seeds and #planned * #chosen.seeds or #planned + (#chosen.seeds - 1) * #chosen.optimizers
  local place, done, began, widths = 0, 0, log.clock(), layout(planned)

  local function run(trial, seed)
    place = place + 1
    local name = name_of_run(trial.key, seed)
    if ended[name] then
      if chosen.first then os.remove(checkpoint_of(chosen.out, name)) end -- of a job that ended just before it could
      progress:line(run_line(place, total, trial, seed, nil, spec, widths))
      return
    end
    local started, last, first = log.clock(), nil, nil
    -- Of the runs that this job has to do itself.
    local to_do = total - place + 1 + done
    runner.run(spec, chosen, sets, trial, seed, function(row)
      results:add(row)
      last = row
    end, function(state, steps)
      local part = math.min(state.step / steps, 1)
      local now = log.clock()
      local own, all = math.huge, math.huge
      first = first or part -- of a run that goes on, where it began
      if part > first then
        own = (now - started) / (part - first) * (1 - part)
        all = own + (now - began) / (done + part) * (to_do - done - 1)
      end
      progress:update((place - 1 + part) / total,
        ("run %d/%d %s %s · epoch %d/%d · loss %s · left %s, all %s"):format(place, total, trial.optimizer,
          words.describe { learning_rate = trial.settings.learning_rate }, state.epoch, chosen.epochs,
          number.text(state.loss), log.duration(own), log.duration(all)))
    end, checkpoint_of(chosen.out, name))
    done = done + 1
    progress:line(run_line(place, total, trial, seed, last, spec, widths))
  end

  for _, trial in ipairs(planned) do
    for i, seed in ipairs(chosen.seeds) do
      if i == 1 or chosen.all_seeds then run(trial, seed) end
    end
  end
  if chosen.all_seeds then return end
  local _, trials = outcome.runs((asked_rows(results.rows, planned)))
  for _, name in ipairs(chosen.optimizers) do
    local best = outcome.best(trials, name, chosen)
    if chosen.shared then best = together.best(best, planned) end
    for i = 2, #chosen.seeds do run(best, chosen.seeds[i]) end
  end
end

-- ---- the whole job ----

local function say_results(progress, spec, config, rows, table_text, drawn, why)
  progress:line ""
  progress:line(table_text)
  progress:line ""
  if progress.terminal and #drawn > 0 then
    local sketch = figures.sketch(spec, config, rows)
    if sketch then progress:line(sketch) end
  end
  for _, path in ipairs(drawn) do progress:line("figure   " .. path) end
  if why then progress:line(why) end
end

-- Makes the directory of a job and takes it for this process alone.
local function take_directory(spec, chosen)
  if not chosen.out then chosen.out = record.new_directory("runs/" .. spec.name) end
  record.make_directory(chosen.out)
  return record.lock_directory(chosen.out)
end

-- results.jsonl with the rows of runs that had ended, and which those are.
local function open_results(chosen, config)
  local path = chosen.out .. "/results.jsonl"
  local before = record.rows(path)
  if #before > 0 and not chosen.resume then
    misuse.raise("%s holds results already; go on with them by --resume %s, or choose another --out", chosen.out,
      chosen.out)
  end
  if chosen.resume then
    local old = record.decode(file.read(chosen.out .. "/config.json") or "") or {}
    if old.data and old.data.fingerprint ~= config.data.fingerprint then
      misuse.raise("--resume: the data differs from what %s was begun with (%s)", chosen.out, old.data.note)
    end
    config.began = old.began or config.began
    local command = config.command
    config.command, config.later_commands = old.command or command, old.later_commands or {}
    -- One with other options has rows of its own.
    if record.encode(old.options) ~= record.encode(record.decode(record.encode(config.options))) then
      table.insert(config.later_commands, command)
    end
  end
  report.write_config(config, chosen.out)
  local kept, ended = kept_rows(before, chosen.out)
  return record.results(path, kept), ended
end

-- Settings that reach the model of an experiment, not the optimizer.
local OF_MODEL = { initialisation = true, model = true, loss = true }

-- A model that cannot be made is the script's to mend, unless --set has changed what it is made of.
local function check_model(trial, spec, sets, chosen)
  local changes = {}
  for _, entry in ipairs(chosen.set) do
    if entry.optimizer == trial.optimizer and OF_MODEL[entry.setting] then
      changes[#changes + 1] = ("%s.%s=%s"):format(entry.optimizer, entry.setting, trial.settings[entry.setting])
    end
  end
  if #changes == 0 then return spec.model(sets.train, trial.settings) end
  local good, model = pcall(spec.model, sets.train, trial.settings)
  if good then return model end
  misuse.raise("option --set %s: %s", table.concat(changes, " "), misuse.without_place(model))
end

-- A mistake in the settings of any trial is told before the first one runs.
local function check_trials(planned, spec, sets, chosen)
  local models = {}
  for _, trial in ipairs(planned) do
    local settings = trial.settings
    local key = record.encode { settings.initialisation or false, settings.model or false, settings.loss or false }
    models[key] = models[key] or check_model(trial, spec, sets, chosen)
    misuse.attempt(runner.optimizer, trial, models[key]:parameters(), 1000, chosen.shared)
  end
  gls.collect()
end

local function set_threads(count)
  local good, problem = pcall(gls.threads, count)
  if not good then
    misuse.raise("option --threads: %d: %s", count, tostring(problem):match "a number of threads[^;]*" or problem)
  end
end

-- Rank 0's directory, and its runs that had ended, for all ranks. What holds the directory is closed at the end.
local function begin(spec, chosen, config)
  local lock, results, ended
  if chosen.first then
    lock = misuse.attempt(take_directory, spec, chosen)
    results, ended = misuse.attempt(open_results, chosen, config)
  end
  if chosen.shared then
    local told = distributed.tell { out = chosen.out, ended = ended }
    chosen.out, ended = told.out, told.ended
  end
  return results or together.results(), ended, lock
end

-- The end of a job: the error that has ended it, if one has. Ranks that come to this alike wait for each other, so that
-- mpirun does not end rank 0 while it writes the summary.
local function leave(spec, chosen, good, problem)
  local interrupted = not good and misuse.is_interrupt(problem)
  if chosen.shared and (good or interrupted) then distributed.stop() end
  if interrupted then
    error(setmetatable({}, { __tostring = function()
      return ("interrupted; glsrun experiments/%s.lua --resume %s goes on"):format(spec.name, chosen.out)
    end }), 0)
  end
  if not good then error(problem, 0) end
end

--- Runs an experiment as its command line asks. Under mpirun all ranks train each model together, each with its rows of
-- every batch; rank 0 prints and writes.
-- @tparam table given the experiment: `name`; `title`; `model = function(set, settings)`, which gives a module for
-- the images of a set and a trial's settings (among them `initialisation` and `model`); `loss = function(output,
-- batch, options)` (options: the trial's `loss`; nil where losses are measured); `trials`: optimizer → list of
-- settings (learning_rate, schedule, warmup, final, initialisation, model, loss, data, average, decayed, and whatever
-- the optimizer takes); `classify`; `loss_name`; `data` (options of data.loader: flatten, center, scale); `batches`
-- (steps that are an epoch of a text); `context` (tokens of a text's row); `defaults` of the command line; `choices`:
-- what `experiment.choices` gave, where the experiment has options of its own
-- @tparam[opt] table arguments list of strings; default: those of the script
-- @treturn string|nil path of summary.md; nil after --help, and on ranks other than 0
-- @raise on wrong options, unreadable data, a directory that cannot be written; after Ctrl-C or an error in a run,
-- once everything measured is on disk
function experiment.run(given, arguments)
  local spec = checked(given)
  arguments = arguments or arg or {}
  local shared, first = together.join()
  local chosen, help = options.parse(spec, arguments)
  if not chosen then
    if first then print(help) end
    distributed.stop()
    return nil
  end
  chosen.shared, chosen.first = shared, first
  local planned, counts = plan.make(spec, chosen)
  if chosen.threads then set_threads(chosen.threads) end
  local progress = log.progress { quiet = chosen.quiet or not chosen.first }
  local sets = misuse.attempt(runner.open, spec, chosen)
  together.check(chosen, planned, sets)
  check_trials(planned, spec, sets, chosen)
  local config = new_config(spec, chosen, arguments, sets, counts)
  local results, ended, lock = begin(spec, chosen, config)
  local _ <close> = lock
  progress:line(spec.title)
  progress:line("data     " .. config.data.note)
  progress:line(("         %d training %s, %d for validation,%s batch %d, %s, %s"):format(#sets.train,
    config.data.unit, #sets.valid, sets.test and (" %d for the test,"):format(#sets.test) or "", chosen.batch,
    words.count(chosen.epochs, "epoch"), words.count(config.machine.threads, "thread")))
  progress:line("trials   " .. summary.trial_note(config))
  if chosen.shared then progress:line("ranks    " .. together.note(spec.model(sets.train, planned[1].settings))) end
  progress:line("results  " .. chosen.out)
  progress:line ""

  local good, problem = xpcall(run_all, misuse.traceback, spec, chosen, sets, planned, results, ended, progress)
  progress:finish()
  results:close()
  local interrupted = not good and misuse.is_interrupt(problem)
  config.state = good and "finished" or interrupted and "Interrupted." or "Ended by an error."
  config.ended = os.date "%Y-%m-%d %H:%M:%S"
  if not chosen.first then return leave(spec, chosen, good, problem) end
  local rows
  rows, config.left_out = asked_rows(results.rows, planned)
  local written, path, table_text, drawn, why = pcall(report.write, spec, config, rows, chosen.out)
  if not written then error(good and path or problem, 0) end
  say_results(progress, spec, config, rows, table_text, drawn, why)
  io.write(path, "\n")
  io.flush()
  leave(spec, chosen, good, problem)
  return path
end

return require("gls.strict").module("experiment", experiment)
