--- Summary: the results of an experiment in words and tables, summary.md.
-- @module gls.experiment.summary
local number = require "gls.number"
local optimizers = require "gls.experiment.optimizers"
local outcome = require "gls.experiment.outcome"
local tables = require "gls.experiment.tables"
local words = require "gls.experiment.words"

local summary = {}

local median = outcome.median

-- ---- tables ----

local function collect(trial, field)
  local values = {}
  for _, run in ipairs(trial.runs) do
    if run[field] then values[#values + 1] = run[field] end
  end
  return values
end

local function percent(value) return not value and "–" or ("%.1f %%"):format(100 * value) end

-- "4.6e-4 (4.1e-4 to 5.0e-4)" over seeds.
local function spread(values, text)
  text = text or number.text
  if #values == 0 then return "–" end
  local middle, low, high = median(values), outcome.range(values)
  if #values == 1 or low == high then return text(middle) end
  return ("%s (%s to %s)"):format(text(middle), text(low), text(high))
end

-- "1.49, epoch 2": the median of the losses and of their epochs.
local function with_epoch(trial, field, text)
  local value = spread(collect(trial, field), text)
  local epoch = median(collect(trial, field .. "_epoch"))
  return epoch and ("%s, epoch %g"):format(value, epoch) or value
end

-- How much of another's median one is.
local function ratio(values, reference)
  local own, its = median(values), median(reference)
  if not own or not its or own == math.huge or its == math.huge or its == 0 then return "–" end
  return number.text(own / its)
end

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
          words.describe(shown), number.text(a.damping), spread(collect(its, "final_train")),
          spread(collect(own, "final_train")),
          ("%d of %d"):format(below, counted),
        }
      end
    end
  end
  return rows
end

-- ---- summary ----

-- The columns of the table of best settings: { head, text(row) } for the file; the most telling have a third and fourth
-- for a terminal.
local function columns_of(spec, config, trials, rows)
  local shared, adam, adam_end = words.shared(trials), nil, nil
  for _, row in ipairs(rows) do
    if row.name == "adam" then adam = row.trial end
  end
  if adam then adam_end = outcome.losses_at_end(adam, adam) end
  local function add(list, ...) list[#list + 1] = { ... } end
  local function middle(field, text)
    return function(row) return (text or number.text)(median(collect(row.trial, field))) end
  end
  local function whole(field, text) return function(row) return spread(collect(row.trial, field), text) end end
  local function dated(field, text) return function(row) return with_epoch(row.trial, field, text) end end
  local function at_end(row) return adam and outcome.losses_at_end(row.trial, adam) or {} end
  local function relative(field)
    return function(row) return adam and ratio(collect(row.trial, field), collect(adam, field)) or "–" end
  end

  local list, classify, finals = {}, spec.classify, config.options.select == "valid"
  local function name(row)
    local cut = false
    for _, run in ipairs(row.trial.runs) do cut = cut or run.status == "running" end
    return row.name .. (cut and ", cut short" or "")
  end
  add(list, "optimizer", name, "optimizer", name)
  add(list, "best setting", function(row) return words.describe(row.trial.settings, shared) end,
    "best setting", function(row) return words.brief(row.trial, trials, row.told) end)
  add(list, "final training loss", function(row)
    return spread(collect(row.trial, "final_train"))
      .. (#row.trial.runs < #config.options.seeds and " (one seed)" or "")
  end, "train loss", middle "final_train")
  add(list, "loss / Adam's", relative "final_train", "loss/Adam", relative "final_train")
  add(list, "seconds an epoch", whole "epoch_seconds", "s/epoch", middle "epoch_seconds")
  add(list, "time / Adam's", relative "epoch_seconds", "time/Adam", relative "epoch_seconds")
  if adam then
    add(list, "loss when Adam had ended", function(row) return spread(at_end(row)) end,
      "at Adam's end", function(row) return number.text(median(at_end(row))) end)
    add(list, "this / Adam's", function(row) return ratio(at_end(row), adam_end) end)
  end
  add(list, "best training loss", dated "best_train")
  add(list, "best validation loss", dated "best_valid", "valid loss", middle "best_valid")
  if classify then
    add(list, "best validation accuracy", dated("best_accuracy", percent), "accuracy", middle("best_accuracy", percent))
  end
  if finals then add(list, "final validation loss", whole "final_valid") end
  if finals and classify then add(list, "final validation accuracy", whole("final_accuracy", percent)) end
  local tested = (config.data.test_images or 0) > 0
  if tested then add(list, "test loss", whole "test_loss") end
  if tested and classify then add(list, "test accuracy", whole("test_accuracy", percent)) end
  return list
end

-- The table of best settings, for the file and for a terminal.
local function best_tables(spec, config, trials)
  local rows = outcome.best_settings(trials, config.options)
  local columns = columns_of(spec, config, trials, rows)
  local function texts(first)
    local head, lines = {}, {}
    for i in ipairs(rows) do lines[i] = {} end
    for _, column in ipairs(columns) do
      if column[first] then
        head[#head + 1] = column[first]
        for i, row in ipairs(rows) do table.insert(lines[i], (column[first + 1](row))) end
      end
    end
    return head, lines
  end
  return tables.markdown(texts(1)), tables.plain(texts(3))
end

local function all_trials(spec, config, trials)
  local head = { "optimizer", "setting", "seeds", "final training loss", "best training loss", "best validation loss" }
  if spec.classify then head[#head + 1] = "best validation accuracy" end
  head[#head + 1] = "seconds an epoch"
  head[#head + 1] = "ended"
  local shared, rows = words.shared(trials), {}
  for _, optimizer in ipairs(outcome.by_optimizer(trials, config.options.optimizers)) do
    for _, trial in ipairs(optimizer.trials) do
      local seeds, endings, told = {}, {}, {}
      for i, run in ipairs(trial.runs) do
        seeds[i] = tostring(run.seed)
        local ended = run.status == "running" and "cut short at epoch " .. run.rows[#run.rows].epoch or run.status
        if not told[ended] then told[ended], endings[#endings + 1] = true, ended end
      end
      table.sort(endings)
      local row = {
        optimizer.name, words.describe(trial.settings, shared), table.concat(seeds, ", "),
        spread(collect(trial, "final_train")), with_epoch(trial, "best_train"), with_epoch(trial, "best_valid"),
      }
      if spec.classify then row[#row + 1] = with_epoch(trial, "best_accuracy", percent) end
      row[#row + 1] = spread(collect(trial, "epoch_seconds"))
      row[#row + 1] = table.concat(endings, ", ")
      rows[#rows + 1] = row
    end
  end
  return tables.markdown(head, rows)
end

-- What GLS's guards did in the best runs.
local function guards(config, trials)
  local lines = {}
  for _, row in ipairs(outcome.best_settings(trials, config.options)) do
    local run = row.trial.runs[1]
    if run.counters and optimizers.known[row.trial.optimizer].class == "GLS" then
      local parts = {}
      for counter, value in pairs(run.counters) do
        parts[#parts + 1] = ("%s %s"):format((counter:gsub("_", " ")), number.text(value):gsub("^(%d+)%.0+$", "%1"))
      end
      table.sort(parts)
      lines[#lines + 1] = ("- `%s`, best setting, seed %s, last step: %s."):format(row.name, tostring(run.seed),
        table.concat(parts, ", "))
    end
  end
  return lines
end

local function setting_line(config)
  local data, choices = config.data, config.options
  local test = data.test_images or 0
  return ("%s, %s training %s, %s for validation,%s batch %d, %s, seed%s %s, %s"):format(data.name,
    number.grouped(data.train_images), data.unit or "images", number.grouped(data.validation_images),
    test > 0 and (" %s for the test,"):format(number.grouped(test)) or "", choices.batch,
    words.count(choices.epochs, "epoch"), #choices.seeds == 1 and "" or "s", table.concat(choices.seeds, ", "),
    words.count(config.machine.threads, "thread"))
end

--- How many trials each optimizer had.
-- @tparam table config
-- @treturn string a sentence
function summary.trial_note(config)
  local parts, equal, first = {}, true, nil
  for _, name in ipairs(config.options.optimizers) do
    local count = config.trials[name]
    first = first or count
    equal = equal and count == first
    parts[#parts + 1] = ("%s %d"):format(name, count)
  end
  if equal then return ("Each optimizer had %s."):format(words.count(first, "trial")) end
  return "The optimizers had different numbers of trials, so the one with more has the better chances: "
    .. table.concat(parts, ", ") .. "."
end

-- How many trials of each optimizer have a row, in a job that was cut short.
local function begun_note(config, trials)
  local count, parts = {}, {}
  for _, trial in ipairs(trials) do count[trial.optimizer] = (count[trial.optimizer] or 0) + 1 end
  for i, name in ipairs(config.options.optimizers) do
    parts[i] = ("%s %d of %d"):format(name, count[name] or 0, config.trials[name])
  end
  return "Trials with an epoch by then: " .. table.concat(parts, ", ") .. "."
end

-- A figure as the summary shows it, named by its file: "loss_vs_epoch.svg" is "loss vs epoch".
local function image(path)
  local name = path:match "[^/]*$"
  return ("![%s](%s)"):format(name:gsub("%.svg$", ""):gsub("_", " "), name)
end

-- How the best settings were chosen, and what the numbers of their table are.
local function explanation(spec, config, trials)
  local choices, shared = config.options, words.shared(trials)
  local several = #choices.seeds > 1
  local chosen_with = choices.all_seeds and "(median over the seeds)" or several
    and ("with the first seed (%d), and then ran with the others"):format(choices.seeds[1]) or "with the one seed"
  return ("%s The best has the lowest %s %s; %s. Loss: %s. Losses of an epoch are taken after it, in "
    .. "evaluation mode, on the same data for all. Seconds count training alone; the loss when Adam had ended is "
    .. "that of the last epoch that was over by then.%s"):format(
    config.state == "finished" and summary.trial_note(config) or begun_note(config, trials),
    choices.select == "valid" and "best validation loss" or "final training loss", chosen_with,
    several and "numbers are medians over the seeds, with their range" or "one seed gives no range", spec.loss_name,
    (next(shared) and " All trials share: " .. words.describe(shared) .. "." or "")
    .. ((config.data.test_images or 0) > 0 and " Test images had no part in any choice: their loss and accuracy are "
      .. "those of the epoch of the best validation loss." or ""))
end

-- What a reader needs to have the same again: command, data, machine, versions.
local function provenance(config)
  local lines = { "- Command: `" .. config.command .. "`" }
  for _, command in ipairs(config.later_commands or {}) do lines[#lines + 1] = "- Resumed by: `" .. command .. "`" end
  lines[#lines + 1] = "- Data: " .. config.data.note
  if config.data.fingerprint then
    lines[#lines + 1] = "- Fingerprint of the data: `" .. config.data.fingerprint .. "`"
  end
  lines[#lines + 1] = ("- Machine: %s, %s"):format(config.machine.cpu, words.count(config.machine.threads, "thread"))
  lines[#lines + 1] = "- Versions: " .. config.versions.text
  lines[#lines + 1] = "- Every epoch of every run: results.jsonl; all settings: config.json"
  return table.concat(lines, "\n")
end

--- The summary.
-- @tparam table spec
-- @tparam table config as in config.json
-- @tparam table rows of results.jsonl
-- @tparam[opt] table figures files that were drawn
-- @treturn string Markdown
-- @treturn string the main table for a terminal
function summary.of(spec, config, rows, figures)
  local _, trials = outcome.runs(rows)
  local parts = { "# " .. spec.title, setting_line(config) .. "." }
  if config.state ~= "finished" then parts[#parts + 1] = "**" .. config.state .. "** What was done by then:" end
  if (config.left_out or 0) > 0 then
    parts[#parts + 1] = ("results.jsonl has %s, of settings that the last command does not name: they are counted "
      .. "nowhere below. Name them too (--lr, --set, --optimizers) to see them."):format(
      words.count(config.left_out, "finished run"))
  end
  if #trials == 0 then
    parts[#parts + 1] = "No epoch was finished."
    return table.concat(parts, "\n\n") .. "\n", "  no epoch was finished"
  end
  local best, terminal = best_tables(spec, config, trials)
  parts[#parts + 1] = "## The best setting of each optimizer"
  parts[#parts + 1] = best
  parts[#parts + 1] = explanation(spec, config, trials)
  for _, path in ipairs(figures or {}) do parts[#parts + 1] = image(path) end
  local graft = grafted(trials)
  if #graft > 0 then
    parts[#parts + 1] = "## GLS at SGD's own step size"
    local head = { "learning rate of both", "damping", "SGD, final training loss", "GLS, final training loss",
      "epochs after the second with GLS below" }
    parts[#parts + 1] = tables.markdown(head, graft)
  end
  parts[#parts + 1] = "## All trials"
  parts[#parts + 1] = all_trials(spec, config, trials)
  local counted = guards(config, trials)
  if #counted > 0 then
    parts[#parts + 1] = "What GLS reports of its guards and steps:\n\n" .. table.concat(counted, "\n")
  end
  parts[#parts + 1] = "## Where this comes from"
  parts[#parts + 1] = provenance(config)
  return table.concat(parts, "\n\n") .. "\n", terminal
end

return summary
