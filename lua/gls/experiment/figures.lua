--- Figures of an experiment: losses by epoch and by seconds, and of every setting.
-- @module gls.experiment.figures
local misuse = require "gls.experiment.misuse"
local number = require "gls.number"
local outcome = require "gls.experiment.outcome"
local plot = require "gls.plot"
local words = require "gls.experiment.words"

local figures = {}

-- Median and range over a trial's seeds, epoch by epoch, of one loss; x is the epoch or the median of the seconds.
local function curve(name, trial, x_field, y_field)
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
  local series = { name = name, x = {}, y = {}, low = {}, high = {} }
  for i, epoch in ipairs(epochs) do
    series.x[i], series.y[i] = outcome.median(by_epoch[epoch].x), outcome.median(by_epoch[epoch].y)
    series.low[i], series.high[i] = outcome.range(by_epoch[epoch].y)
  end
  return series
end

local function conditions(config)
  return ("%s, %s %s, batch %d"):format(config.data.name, number.grouped(config.data.train_images),
    config.data.unit or "images", config.options.batch)
end

local function of_seeds(config)
  local seeds = #config.options.seeds
  return seeds > 1 and (", median and range of %d seeds"):format(seeds) or ""
end

local function figure_settings(spec, config, trials, x_field)
  local series = {}
  for _, row in ipairs(outcome.best_settings(trials, config.options)) do
    series[#series + 1] = curve(row.name, row.trial, x_field, "train_loss")
    local validation = curve(row.name, row.trial, x_field, "valid_loss")
    validation.dashed = true
    series[#series + 1] = validation
  end
  return series, {
    title = spec.title, log = "y", y = spec.loss_name,
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
  for _, optimizer in ipairs(outcome.by_optimizer(trials, config.options.optimizers)) do
    local name, own = optimizer.name, optimizer.trials
    local best = outcome.best(own, name, config.options)
    for _, trial in ipairs(own) do
      local one = curve(name, trial, "epoch", field)
      one.color, one.thin = plot.colors[name], trial ~= best
      one.label = trial == best or #trials <= NAMED_AT_MOST
      one.name = #own > 1 and name .. " " .. words.brief(trial, own) or name
      series[#series + 1] = one
    end
  end
  local low, high = math.huge, 0
  for _, one in ipairs(series) do
    for _, value in ipairs(one.y) do low, high = math.min(low, value), math.max(high, value) end
  end
  local narrow = high / low < NARROW
  return series, {
    title = ("%s: every setting, %s"):format(spec.title, text), log = not narrow and "y" or nil,
    y = spec.loss_name, x = "epoch",
    note = ("%s · thick: best setting of each optimizer%s"):format(conditions(config), of_seeds(config)),
  }
end

-- What a job does without a figure for, or nil: a figure that cannot be written is an error of the job.
local function excuse(message)
  message = tostring(message)
  if message:find("no series has a point", 1, true) then return "no figures: no epoch ended with a loss to draw" end
  return message:find("gnuplot is not installed", 1, true) and misuse.without_place(message)
end

--- Writes the figures: losses of the best settings by epoch and by seconds; where an optimizer had several settings,
-- training and validation loss of every one by epoch.
-- @tparam table spec
-- @tparam table config
-- @tparam table rows
-- @tparam string directory
-- @treturn table list of the files written: none where no epoch was finished
-- @treturn string|nil why some are missing: no gnuplot, nothing to draw
-- @raise when one cannot be written
function figures.write(spec, config, rows, directory)
  local _, trials = outcome.runs(rows)
  local wanted, files = {}, {}
  if #trials == 0 then return files end
  local function want(file, series, settings)
    settings.file = directory .. "/" .. file
    wanted[#wanted + 1] = { series, settings }
  end
  for _, field in ipairs { "epoch", "seconds" } do
    want(("loss_vs_%s.svg"):format(field), figure_settings(spec, config, trials, field))
  end
  if #trials > #outcome.by_optimizer(trials, config.options.optimizers) then
    want("settings_train.svg", variations(spec, config, trials, "train_loss", "training"))
    want("settings_valid.svg", variations(spec, config, trials, "valid_loss", "validation"))
  end
  for _, one in ipairs(wanted) do
    local good, message = pcall(plot.lines, one[1], one[2])
    if not good then
      local why = excuse(message)
      if not why then error(message, 0) end
      return files, why
    end
    files[#files + 1] = message
  end
  return files
end

--- The training losses by epoch in characters, or nil where gnuplot cannot.
-- @tparam table spec
-- @tparam table config
-- @tparam table rows
-- @treturn string|nil
function figures.sketch(spec, config, rows)
  local _, trials = outcome.runs(rows)
  local series, settings = figure_settings(spec, config, trials, "epoch")
  settings.note, settings.print, settings.y, settings.size = nil, false, "", { 80, 18 }
  settings.title = "training loss"
  local good, text = pcall(plot.lines, series, settings)
  return good and text or nil
end

return figures
