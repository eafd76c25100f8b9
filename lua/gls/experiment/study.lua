--- Study: one comparison repeated over many circumstances (cells): each is a job of its own in a folder of its own, so
-- that a study can be cut short, gone on with and run in parts; and one table of all of them.
-- @module gls.experiment.study
local gls = require "gls"
local data = require "gls.data"
local file = require "gls.file"
local log = require "gls.log"
local misuse = require "gls.experiment.misuse"
local number = require "gls.number"
local outcome = require "gls.experiment.outcome"
local record = require "gls.experiment.record"
local runner = require "gls.experiment.runner"
local together = require "gls.experiment.together"
local train = require "gls.train"
local words = require "gls.experiment.words"

local study = {}

-- ---- the command line ----

-- Without the options named (name → 1 when a value follows), and what --out or --resume name.
local function without(arguments, names)
  local rest, out, i = {}, nil, 1
  while i <= #arguments do
    local name, value = arguments[i]:match "^%-%-([%w-]+)=?(.*)$"
    if name == "out" or name == "resume" then
      local next_is_value = value == "" and arguments[i + 1] and arguments[i + 1]:sub(1, 1) ~= "-"
      if next_is_value then
        i, out = i + 1, arguments[i + 1]
      elseif value ~= "" then
        out = value
      end
    elseif name and names[name] then
      if names[name] == 1 and not arguments[i]:find "=" then i = i + 1 end
    else
      rest[#rest + 1] = arguments[i]
    end
    i = i + 1
  end
  return rest, out
end

-- ---- how long a step takes ----

local WARM_STEPS, TIMED_STEPS, ROUNDS = 2, 8, 3

local function step_seconds(spec, chosen, set, trial)
  gls.collect()
  gls.seed(1)
  local model = spec.model(set, trial.settings)
  local a_pass = math.ceil(#set / chosen.batch)
  local epochs = math.ceil((WARM_STEPS + TIMED_STEPS) / a_pass)
  local optimizer = runner.optimizer(trial, model:parameters(), epochs * a_pass)
  local loader = { batch = chosen.batch, shuffle = true, mean = set }
  for name, value in pairs(spec.data) do loader[name] = value end
  local times, before = {}, nil
  train.fit {
    model = model, optimizer = optimizer, epochs = epochs, data = data.loader(set, loader),
    loss = function(network, batch) return spec.loss(network(batch.x), batch, trial.settings.loss) end,
    on_step = function(state)
      local now = log.clock()
      if state.step > WARM_STEPS then times[#times + 1] = now - before end
      before = now
    end,
  }
  return times
end

--- Times steps of two trials in turns, in this process, with nothing else in it.
-- @tparam table spec the experiment
-- @tparam table chosen `data`, `data_dir`, `batch`, `samples`
-- @tparam table trials two of `{ optimizer =, settings = }`
-- @treturn number median seconds of a step of the first
-- @treturn number the same of the second
function study.time(spec, chosen, trials)
  local all = data.open(chosen.data, { split = "train", dir = chosen.data_dir,
    samples = chosen.samples > 0 and chosen.samples or nil })
  local set = all:narrow(1, math.min(#all, chosen.batch * (WARM_STEPS + TIMED_STEPS)))
  local times = { {}, {} }
  for _ = 1, ROUNDS do
    for i, trial in ipairs(trials) do
      for _, seconds in ipairs(step_seconds(spec, chosen, set, trial)) do times[i][#times[i] + 1] = seconds end
    end
  end
  return outcome.median(times[1]), outcome.median(times[2])
end

-- ---- the table ----

-- Adam's best and GLS's best of one cell, and how they compare.
local function compare(directory, peers)
  local config = record.decode(file.read(directory .. "/config.json") or "")
  local runs, trials = outcome.runs(record.rows(directory .. "/results.jsonl"))
  if not config or #runs == 0 then return nil end
  local own = outcome.by_optimizer(trials, peers)
  if #own < 2 then return nil end
  local first = outcome.best(own[1].trials, peers[1], config.options)
  local second = outcome.best(own[2].trials, peers[2], config.options)
  local a, b = first.runs[1], second.runs[1]
  local epochs = math.min(a.rows[#a.rows].epoch, b.rows[#b.rows].epoch)
  local result = {
    trials = { first, second }, own = own,
    losses = { a.final_train, b.final_train }, options = config.options,
    at_equal_epochs = outcome.loss_within(a, "epoch", epochs) / outcome.loss_within(b, "epoch", epochs),
    finished = config.state == "finished",
  }
  -- The runs' own seconds are only as good as the machine was quiet; steps timed alone come before them.
  local timing = record.decode(file.read(directory .. "/timing.json") or "")
  local ratio = timing and timing.step_seconds[2] / timing.step_seconds[1] or b.epoch_seconds / a.epoch_seconds
  result.time_ratio = ratio
  -- Both have as long as the faster one takes for its epochs.
  local for_first, for_second = math.floor(epochs * math.min(1, ratio)), math.floor(epochs * math.min(1, 1 / ratio))
  local x, y = outcome.loss_within(a, "epoch", for_first), outcome.loss_within(b, "epoch", for_second)
  result.at_equal_seconds = x and y and x / y
  return result
end

--- The table of a study.
-- @tparam table given as for `study.run`
-- @tparam string out its directory
-- @treturn string Markdown
function study.table(given, out)
  local peers = given.peers
  local lines = {
    ("| setting | images | epochs | batch | best of `%s` | best of `%s` | at equal epochs | time of a step | "
      .. "at equal seconds |"):format(peers[1], peers[2]),
    "|---|---|---|---|---|---|---|---|---|",
  }
  for _, cell in ipairs(given.cells) do
    local found = compare(out .. "/" .. cell.name, peers)
    if found then
      local texts = {}
      for i, trial in ipairs(found.trials) do
        texts[i] = ("%s (%s)"):format(number.text(found.losses[i]), words.brief(trial, found.own[i].trials))
      end
      lines[#lines + 1] = ("| %s%s | %d | %d | %d | %s | %s | %s | %s | %s |"):format(cell.text,
        found.finished and "" or " (not finished)", found.options.samples, found.options.epochs, found.options.batch,
        texts[1], texts[2], number.text(found.at_equal_epochs), number.text(found.time_ratio),
        number.text(found.at_equal_seconds))
    end
  end
  return table.concat(lines, "\n")
end

-- ---- the whole study ----

--- Runs the cells of a study, or those chosen, and writes OUT/study.md.
-- @tparam table given `name`, `title`; `choices` (what `experiment.choices` gave, with `cells`, a list of names, and
-- `time`, true when steps are to be timed instead of cells run); `cells`: list of `{ name =, text =, samples =,
-- epochs =, batch =, settings = { … of every trial } }`; `spec = function(cell)`, an experiment; `peers`: the names of
-- the two optimizers that are compared; `run`: experiment.run
-- @tparam[opt] table arguments list of strings; default: those of the script
-- @treturn string path of study.md
function study.run(given, arguments)
  if together.join() then misuse.raise "a study is run by one process; its cells can be, each by its own command" end
  local own = { cells = 1 }
  for _, choice in ipairs(getmetatable(given.choices).declared) do own[choice.name] = choice.values and 1 or 0 end
  local rest, out = without(arguments or arg or {}, own)
  out = out or ("runs/%s/study"):format(given.name)
  local wanted = {}
  for _, name in ipairs(given.choices.cells) do wanted[name] = true end
  for _, cell in ipairs(given.cells) do
    local directory = out .. "/" .. cell.name
    local begun = file.kind(directory) == "folder" and file.read(directory .. "/config.json")
    if wanted[cell.name] and given.choices.time and begun then
      local found = compare(directory, given.peers)
      if found then
        local a, b = study.time(given.spec(cell), found.options, found.trials)
        file.replace(directory .. "/timing.json", record.encode { step_seconds = { a, b }, threads = gls.threads() })
        print(("%-24s %8.2f ms, %8.2f ms, ratio %.2f"):format(cell.name, 1e3 * a, 1e3 * b, b / a))
      end
    elseif wanted[cell.name] and not given.choices.time then
      print("\n== " .. cell.name .. ": " .. cell.text)
      local list = { begun and "--resume" or "--out", directory }
      table.move(rest, 1, #rest, #list + 1, list)
      given.run(given.spec(cell), list)
    end
  end
  local text = study.table(given, out)
  local path = out .. "/study.md"
  record.make_directory(out)
  file.replace(path, ("# %s\n\n%s\n\nRatio: loss of `%s` / loss of `%s`. At equal seconds both have as long as the "
    .. "faster takes for its epochs; the time of a step is that of `%s` over that of `%s` "
    .. "(by --time where that was run, else by the runs' own seconds).\n")
    :format(given.title, text, given.peers[1], given.peers[2], given.peers[2], given.peers[1]))
  print(text)
  print(path)
  return path
end

return study
