--- Report: what the rows of results.jsonl say, as summary.md and two figures.
-- @module gls.experiment.report
local log = require "gls.log"
local options = require "gls.experiment.options"
local plot = require "gls.plot"
local record = require "gls.experiment.record"

local report = {}

-- ---- statistics ----

--- The middle of a list of numbers; nil of none.
-- @tparam table values
-- @treturn number|nil
function report.median(values)
  if #values == 0 then return nil end
  local sorted = table.move(values, 1, #values, 1, {})
  table.sort(sorted)
  local middle = #sorted // 2
  return #sorted % 2 == 1 and sorted[middle + 1] or (sorted[middle] + sorted[middle + 1]) / 2
end
local median = report.median

local function range(values)
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
function report.runs(rows)
  local runs, by_run, trials, by_trial = {}, {}, {}, {}
  for _, row in ipairs(rows) do
    local key = options.key(row.optimizer, row.settings)
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

--- The number that a setting is chosen by: the smaller, the better.
-- @tparam table run
-- @tparam string select "train" or "valid"
-- @treturn number
function report.score(run, select)
  if run.status == "diverged" then return math.huge end
  return select == "valid" and run.best_valid or run.final_train
end

-- By the first seed's run; by the median over seeds when every setting has them all.
local function trial_score(trial, choices)
  local scores = {}
  for _, run in ipairs(trial.runs) do
    if choices.all_seeds or run.seed == choices.seeds[1] then
      scores[#scores + 1] = report.score(run, choices.select)
    end
  end
  return median(scores) or math.huge
end

--- The best trial of an optimizer, or nil when it has none; a diverged one only when all are.
-- @tparam table trials what `report.runs` gave
-- @tparam string optimizer
-- @tparam table choices `select`, `seeds`, `all_seeds`
-- @treturn table|nil trial
function report.best(trials, optimizer, choices)
  local best, best_score
  for _, trial in ipairs(trials) do
    if trial.optimizer == optimizer then
      local score = trial_score(trial, choices)
      if not best or score < best_score then best, best_score = trial, score end
    end
  end
  return best
end

-- ---- tables ----

local function collect(trial, field)
  local values = {}
  for _, run in ipairs(trial.runs) do
    if run[field] then values[#values + 1] = run[field] end
  end
  return values
end

local function percent(value) return ("%.1f %%"):format(100 * value) end

-- "4.6e-4 (4.1e-4 to 5.0e-4)" over seeds.
local function spread(trial, field, text)
  text = text or log.number
  local values = collect(trial, field)
  if #values == 0 then return "–" end
  local middle, low, high = median(values), range(values)
  if #values == 1 or low == high then return text(middle) end
  return ("%s (%s to %s)"):format(text(middle), text(low), text(high))
end

-- "1.49, epoch 2": the median of the losses and of their epochs.
local function with_epoch(trial, field, text)
  local value = spread(trial, field, text)
  local epoch = median(collect(trial, field .. "_epoch"))
  return epoch and ("%s, epoch %g"):format(value, epoch) or value
end

-- A table of texts as Markdown, padded, so that it can be read as it is.
local function markdown(head, rows)
  local widths = {}
  for i, text in ipairs(head) do widths[i] = log.width(text) end
  for _, row in ipairs(rows) do
    for i, text in ipairs(row) do widths[i] = math.max(widths[i], log.width(text)) end
  end
  local function line(cells)
    local padded = {}
    for i, text in ipairs(cells) do padded[i] = log.pad(text, widths[i]) end
    return "| " .. table.concat(padded, " | ") .. " |"
  end
  local rule = {}
  for i in ipairs(head) do rule[i] = ("-"):rep(widths[i]) end
  local lines = { line(head), "|-" .. table.concat(rule, "-|-") .. "-|" }
  for _, row in ipairs(rows) do lines[#lines + 1] = line(row) end
  return table.concat(lines, "\n")
end

-- The same without rules, for a terminal.
local function plain(head, rows)
  local widths = {}
  for _, row in ipairs { head, table.unpack(rows) } do
    for i, text in ipairs(row) do widths[i] = math.max(widths[i] or 0, log.width(text)) end
  end
  local lines = {}
  for _, row in ipairs { head, table.unpack(rows) } do
    local padded = {}
    for i, text in ipairs(row) do padded[i] = log.pad(text, i <= 2 and widths[i] or -widths[i]) end
    lines[#lines + 1] = "  " .. table.concat(padded, "  "):gsub("%s+$", "")
  end
  return table.concat(lines, "\n")
end

-- Median of a field relative to that of Adam's best setting.
local function relative(trial, reference, field)
  if not reference then return "–" end
  local own, its = median(collect(trial, field)), median(collect(reference, field))
  if not own or not its or own == math.huge or its == math.huge or its == 0 then return "–" end
  return log.number(own / its)
end

local function optimizers_of(trials, order)
  local present, list = {}, {}
  for _, trial in ipairs(trials) do present[trial.optimizer] = true end
  for _, name in ipairs(order) do
    if present[name] then list[#list + 1] = name end
  end
  return list
end

-- Has an optimizer more than one setting?
local function several_settings(config, trials) return #trials > #optimizers_of(trials, config.options.optimizers) end

-- GLS held to SGD's step size, rate by rate: in how many epochs after the second its training loss is the lower.
local function grafted(trials)
  local rows = {}
  for _, own in ipairs(trials) do
    for _, its in ipairs(trials) do
      local a, b = own.settings, its.settings
      if own.optimizer == "gls-graft" and its.optimizer == "sgd" and a.learning_rate == b.learning_rate
        and a.schedule == b.schedule and a.initialisation == b.initialisation then
        local below, counted = 0, 0
        for _, run in ipairs(own.runs) do
          for _, other in ipairs(its.runs) do
            if run.seed == other.seed then
              for i, row in ipairs(run.rows) do
                local peer = other.rows[i]
                if peer and row.epoch > 2 and row.train_loss and peer.train_loss then
                  counted = counted + 1
                  if row.train_loss < peer.train_loss then below = below + 1 end
                end
              end
            end
          end
        end
        local shown = { learning_rate = a.learning_rate, schedule = a.schedule, initialisation = a.initialisation }
        rows[#rows + 1] = {
          options.describe(shown), log.number(a.damping), spread(its, "final_train"), spread(own, "final_train"),
          ("%d of %d"):format(below, counted),
        }
      end
    end
  end
  return rows
end

-- ---- summary ----

-- The table of best settings: all columns for the file, the most telling for a terminal.
local function best_tables(spec, config, trials)
  local choices = config.options
  local names = optimizers_of(trials, choices.optimizers)
  local shared = options.shared(trials)
  local adam = report.best(trials, "adam", choices)
  local head = { "optimizer", "best setting", "final training loss", "best training loss", "best validation loss" }
  local short_head = { "optimizer", "best setting", "train loss", "valid loss" }
  if spec.classify then
    head[#head + 1] = "best validation accuracy"
    short_head[#short_head + 1] = "accuracy"
  end
  local finals = choices.select == "valid"
  if finals then head[#head + 1] = "final validation loss" end
  if finals and spec.classify then head[#head + 1] = "final validation accuracy" end
  local tested = (config.data.test_images or 0) > 0
  if tested then head[#head + 1] = "test loss" end
  if tested and spec.classify then head[#head + 1] = "test accuracy" end
  for _, text in ipairs { "seconds an epoch", "loss / Adam's", "time / Adam's" } do head[#head + 1] = text end
  for _, text in ipairs { "s/epoch", "loss/Adam", "time/Adam" } do short_head[#short_head + 1] = text end
  local rows, short_rows = {}, {}
  for i, name in ipairs(names) do
    local best = report.best(trials, name, choices)
    local setting = options.describe(best.settings, shared)
    local row = {
      name, setting, spread(best, "final_train"), with_epoch(best, "best_train"), with_epoch(best, "best_valid"),
    }
    local short = {
      name, options.brief(best, shared), log.number(median(collect(best, "final_train"))),
      log.number(median(collect(best, "best_valid"))),
    }
    if spec.classify then
      row[#row + 1] = with_epoch(best, "best_accuracy", percent)
      local accuracies = collect(best, "best_accuracy")
      short[#short + 1] = #accuracies > 0 and percent(median(accuracies)) or "–"
    end
    if finals then row[#row + 1] = spread(best, "final_valid") end
    if finals and spec.classify then row[#row + 1] = spread(best, "final_accuracy", percent) end
    if tested then row[#row + 1] = spread(best, "test_loss") end
    if tested and spec.classify then row[#row + 1] = spread(best, "test_accuracy", percent) end
    local seconds = spread(best, "epoch_seconds")
    local loss, time = relative(best, adam, "final_train"), relative(best, adam, "epoch_seconds")
    for _, text in ipairs { seconds, loss, time } do row[#row + 1] = text end
    for _, text in ipairs { log.number(median(collect(best, "epoch_seconds"))), loss, time } do
      short[#short + 1] = text
    end
    rows[i], short_rows[i] = row, short
  end
  return markdown(head, rows), plain(short_head, short_rows)
end

local function claims(config, trials)
  local lines = {}
  local adam = report.best(trials, "adam", config.options)
  local its = adam and median(collect(adam, "final_train"))
  if not its or its == math.huge then return lines end
  for _, name in ipairs { "gls", "gls-matched" } do
    local best = report.best(trials, name, config.options)
    local own = best and median(collect(best, "final_train"))
    if own and own < math.huge and own > 0 then
      local below = own <= its
      lines[#lines + 1] = ("The final training loss of `%s` is %s times %sthat of the best Adam."):format(name,
        log.number(below and its / own or own / its), below and "below " or "")
    end
  end
  return lines
end

local function all_trials(spec, config, trials)
  local head = { "optimizer", "setting", "seeds", "final training loss", "best training loss", "best validation loss" }
  if spec.classify then head[#head + 1] = "best validation accuracy" end
  head[#head + 1] = "seconds an epoch"
  head[#head + 1] = "ended"
  local shared, rows = options.shared(trials), {}
  for _, name in ipairs(optimizers_of(trials, config.options.optimizers)) do
    for _, trial in ipairs(trials) do
      if trial.optimizer == name then
        local seeds, ends = {}, {}
        for i, run in ipairs(trial.runs) do
          seeds[i] = tostring(run.seed)
          local ended = run.status == "running" and "cut short at epoch " .. run.rows[#run.rows].epoch or run.status
          ends[ended] = (ends[ended] or 0) + 1
        end
        local endings = {}
        for ended in pairs(ends) do endings[#endings + 1] = ended end
        table.sort(endings)
        local row = {
          name, options.describe(trial.settings, shared), table.concat(seeds, ", "), spread(trial, "final_train"),
          with_epoch(trial, "best_train"), with_epoch(trial, "best_valid"),
        }
        if spec.classify then row[#row + 1] = with_epoch(trial, "best_accuracy", percent) end
        row[#row + 1] = spread(trial, "epoch_seconds")
        row[#row + 1] = table.concat(endings, ", ")
        rows[#rows + 1] = row
      end
    end
  end
  return markdown(head, rows)
end

-- What GLS's guards did in the best runs.
local function guards(config, trials)
  local lines = {}
  for _, name in ipairs(optimizers_of(trials, config.options.optimizers)) do
    local best = report.best(trials, name, config.options)
    local counters = best.runs[1] and best.runs[1].counters
    if counters and options.optimizers[name].class == "GLS" then
      local parts = {}
      for counter, value in pairs(counters) do
        parts[#parts + 1] = ("%s %s"):format((counter:gsub("_", " ")), log.number(value):gsub("^(%d+)%.0+$", "%1"))
      end
      table.sort(parts)
      lines[#lines + 1] = ("- `%s`, best setting, seed %s, last step: %s."):format(name, tostring(best.runs[1].seed),
        table.concat(parts, ", "))
    end
  end
  return lines
end

local function count_text(number)
  local text = ("%d"):format(number)
  return (text:reverse():gsub("(%d%d%d)", "%1 "):reverse():gsub("^ ", ""))
end

local function setting_line(config)
  local data, choices = config.data, config.options
  local test = data.test_images or 0
  return ("%s, %s training images, %s for validation,%s batch %d, %d epochs, seeds %s, %d threads"):format(data.name,
    count_text(data.train_images), count_text(data.validation_images),
    test > 0 and (" %s for the test,"):format(count_text(test)) or "", choices.batch, choices.epochs,
    table.concat(choices.seeds, ", "), config.machine.threads)
end

local function trial_note(config)
  local parts, equal, first = {}, true, nil
  for _, name in ipairs(config.options.optimizers) do
    local count = config.trials[name]
    first = first or count
    equal = equal and count == first
    parts[#parts + 1] = ("%s %d"):format(name, count)
  end
  if equal then return ("Each optimizer had %d trial%s."):format(first, first == 1 and "" or "s") end
  return "The optimizers had different numbers of trials, so the one with more has the better chances: "
    .. table.concat(parts, ", ") .. "."
end
report.trial_note = trial_note

--- The summary.
-- @tparam table spec
-- @tparam table config as in config.json
-- @tparam table rows of results.jsonl
-- @treturn string Markdown
-- @treturn string the main table for a terminal
function report.summary(spec, config, rows)
  local _, trials = report.runs(rows)
  local choices = config.options
  local parts = { "# " .. spec.title, setting_line(config) .. "." }
  if config.state ~= "finished" then parts[#parts + 1] = "**" .. config.state .. "** What was done by then:" end
  if #trials == 0 then
    parts[#parts + 1] = "No epoch was finished."
    return table.concat(parts, "\n\n") .. "\n", "  no epoch was finished"
  end
  local best, terminal = best_tables(spec, config, trials)
  local shared = options.shared(trials)
  parts[#parts + 1] = "## The best setting of each optimizer"
  parts[#parts + 1] = best
  local several = #choices.seeds > 1
  local chosen_with = choices.all_seeds and "(median over the seeds)" or several
    and ("with the first seed (%d), and then ran with the others"):format(choices.seeds[1]) or "with the one seed"
  parts[#parts + 1] = ("%s The best has the lowest %s %s; %s. Loss: %s. Losses of an epoch are taken after it, in "
    .. "evaluation mode, on the same images for all. Seconds count training alone.%s"):format(trial_note(config),
    choices.select == "valid" and "best validation loss" or "final training loss", chosen_with,
    several and "numbers are medians over the seeds, with their range" or "one seed gives no range", spec.loss_name,
    (next(shared) and " All trials share: " .. options.describe(shared) .. "." or "")
    .. ((config.data.test_images or 0) > 0 and " Test images had no part in any choice: their loss and accuracy are "
      .. "those of the epoch of the best validation loss." or ""))
  local sentences = claims(config, trials)
  if #sentences > 0 then parts[#parts + 1] = table.concat(sentences, " ") end
  parts[#parts + 1] = "![loss by epoch](loss_vs_epoch.svg)\n\n![loss by seconds](loss_vs_seconds.svg)"
  if several_settings(config, trials) then
    parts[#parts + 1] = "![training loss of every setting](settings_train.svg)\n\n"
      .. "![validation loss of every setting](settings_valid.svg)"
  end
  local graft = grafted(trials)
  if #graft > 0 then
    parts[#parts + 1] = "## GLS at SGD's own step size"
    local head = { "learning rate of both", "damping", "SGD, final training loss", "GLS, final training loss",
      "epochs after the second with GLS below" }
    parts[#parts + 1] = markdown(head, graft)
  end
  parts[#parts + 1] = "## All trials"
  parts[#parts + 1] = all_trials(spec, config, trials)
  local counted = guards(config, trials)
  if #counted > 0 then
    parts[#parts + 1] = "What GLS reports of its guards and steps:\n\n" .. table.concat(counted, "\n")
  end
  parts[#parts + 1] = "## Where this comes from"
  local lines = { "- Command: `" .. config.command .. "`", "- Data: " .. config.data.note }
  if config.data.fingerprint then
    lines[#lines + 1] = "- Fingerprint of the data: `" .. config.data.fingerprint .. "`"
  end
  lines[#lines + 1] = ("- Machine: %s, %d threads"):format(config.machine.cpu, config.machine.threads)
  lines[#lines + 1] = "- Versions: " .. config.versions.text
  lines[#lines + 1] = "- Every epoch of every run: results.jsonl; all settings: config.json"
  parts[#parts + 1] = table.concat(lines, "\n")
  return table.concat(parts, "\n\n") .. "\n", terminal
end

-- ---- figures ----

-- Median and range over a trial's seeds, epoch by epoch, of one loss; x is the epoch or the median of the seconds.
local function curve(trial, x_field, y_field)
  local by_epoch, epochs = {}, {}
  for _, run in ipairs(trial.runs) do
    for _, row in ipairs(run.rows) do
      if row[y_field] then
        if not by_epoch[row.epoch] then
          by_epoch[row.epoch], epochs[#epochs + 1] = { x = {}, y = {} }, row.epoch
        end
        local here = by_epoch[row.epoch]
        here.x[#here.x + 1], here.y[#here.y + 1] = row[x_field], row[y_field]
      end
    end
  end
  table.sort(epochs)
  local series = { name = trial.optimizer, x = {}, y = {}, low = {}, high = {} }
  for i, epoch in ipairs(epochs) do
    series.x[i], series.y[i] = median(by_epoch[epoch].x), median(by_epoch[epoch].y)
    series.low[i], series.high[i] = range(by_epoch[epoch].y)
  end
  return series
end

local function conditions(config)
  return ("%s, %s images, batch %d"):format(config.data.name, count_text(config.data.train_images),
    config.options.batch)
end

local function of_seeds(config)
  local seeds = #config.options.seeds
  return seeds > 1 and (", median and range of %d seeds"):format(seeds) or ""
end

local function figure_settings(spec, config, trials, x_field)
  local series = {}
  for _, name in ipairs(optimizers_of(trials, config.options.optimizers)) do
    local best = report.best(trials, name, config.options)
    series[#series + 1] = curve(best, x_field, "train_loss")
    local validation = curve(best, x_field, "valid_loss")
    validation.dashed = true
    series[#series + 1] = validation
  end
  return {
    title = spec.title, log = "y", series = series, y = spec.loss_name,
    x = x_field == "epoch" and "epoch" or "seconds of training", from = x_field == "seconds" and 0 or nil,
    note = ("%s · solid: training, dashed: validation · best setting of each optimizer%s"):format(conditions(config),
      of_seeds(config)),
  }
end

-- More settings than this are drawn, but only the best of each optimizer is named.
local NAMED_AT_MOST = 15

-- Losses within such a factor of each other have a linear axis: a logarithmic one would have hardly a tick.
local NARROW = 4

-- One loss of every setting by epoch: the best of each optimizer thick, the others thin; named by what differs.
local function variations(spec, config, trials, field, text)
  local series = {}
  for _, name in ipairs(optimizers_of(trials, config.options.optimizers)) do
    local best, own = report.best(trials, name, config.options), {}
    for _, trial in ipairs(trials) do
      if trial.optimizer == name then own[#own + 1] = trial end
    end
    local shared = options.shared(own)
    shared.learning_rate = true
    for _, trial in ipairs(own) do
      shared.learning_rate = shared.learning_rate and trial.settings.learning_rate == best.settings.learning_rate
    end
    if not shared.learning_rate then shared.learning_rate = nil end
    for _, trial in ipairs(own) do
      local one = curve(trial, "epoch", field)
      one.color, one.thin = plot.colors[name], trial ~= best
      one.label = trial == best or #trials <= NAMED_AT_MOST
      one.name = #own > 1 and name .. " " .. options.brief(trial, shared) or name
      series[#series + 1] = one
    end
  end
  local low, high = math.huge, 0
  for _, one in ipairs(series) do
    for _, value in ipairs(one.y) do low, high = math.min(low, value), math.max(high, value) end
  end
  local narrow = high / low < NARROW
  return {
    title = ("%s: every setting, %s"):format(spec.title, text), log = not narrow and "y" or nil, series = series,
    y = spec.loss_name, x = "epoch",
    note = ("%s · thick: best setting of each optimizer%s"):format(conditions(config), of_seeds(config)),
  }
end

--- Writes the figures: losses of the best settings by epoch and by seconds; where an optimizer had several settings,
-- training and validation loss of every one by epoch.
-- @tparam table spec
-- @tparam table config
-- @tparam table rows
-- @tparam string directory
-- @treturn table list of the files written
-- @treturn string|nil why some are missing
function report.figures(spec, config, rows, directory)
  local _, trials = report.runs(rows)
  local wanted, files = {}, {}
  local function want(file, settings)
    settings.file = directory .. "/" .. file
    wanted[#wanted + 1] = settings
  end
  for _, field in ipairs { "epoch", "seconds" } do
    want(("loss_vs_%s.svg"):format(field), figure_settings(spec, config, trials, field))
  end
  if several_settings(config, trials) then
    want("settings_train.svg", variations(spec, config, trials, "train_loss", "training"))
    want("settings_valid.svg", variations(spec, config, trials, "valid_loss", "validation"))
  end
  for _, settings in ipairs(wanted) do
    local good, message = pcall(plot.lines, settings)
    if not good and tostring(message):find("interrupted!", 1, true) then error(message, 0) end
    if not good then return files, tostring(message) end
    files[#files + 1] = settings.file
  end
  return files
end

--- The training losses by epoch in characters, or nil where gnuplot cannot.
-- @tparam table spec
-- @tparam table config
-- @tparam table rows
-- @treturn string|nil
function report.sketch(spec, config, rows)
  local _, trials = report.runs(rows)
  local settings = figure_settings(spec, config, trials, "epoch")
  settings.note, settings.print, settings.y, settings.rows = nil, false, "", 18
  settings.title = "training loss"
  local good, text = pcall(plot.lines, settings)
  return good and text or nil
end

--- Writes config.json.
-- @tparam table config
-- @tparam string directory
function report.write_config(config, directory)
  local text = record.encode(config, { "experiment", "title", "command", "state", "options" })
  record.write(directory .. "/config.json", text .. "\n")
end

--- Writes summary.md, config.json and the figures, each whole or not at all.
-- @tparam table spec
-- @tparam table config
-- @tparam table rows
-- @tparam string directory
-- @treturn string path of summary.md
-- @treturn string the main table for a terminal
-- @treturn table files of the figures
-- @treturn string|nil why figures are missing
function report.write(spec, config, rows, directory)
  report.write_config(config, directory)
  local text, terminal = report.summary(spec, config, rows)
  local path = directory .. "/summary.md"
  record.write(path, text)
  local files, why = report.figures(spec, config, rows, directory)
  return path, terminal, files, why
end

return report
