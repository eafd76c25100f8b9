--- The command line that all experiments share, and the list of runs that it asks for.
-- @module gls.experiment.options
local argparse = require "argparse"
local check = require "gls.options"
local choices = require "gls.experiment.choices"
local record = require "gls.experiment.record"

local options = {}

-- ---- optimizers ----

--- The names that --optimizers knows: which class makes one, and what its settings start from.
options.optimizers = {
  sgd = { class = "SGD", settings = {} },
  momentum = { class = "SGD", settings = { momentum = 0.9 } },
  adam = { class = "Adam", settings = {} },
  adamw = { class = "AdamW", settings = { weight_decay = 0.01 } },
  gls = { class = "GLS", settings = { learning_rate = "auto" } },
  ["gls-matched"] = { class = "GLS", settings = { momentum = 0.9, graft = "rms", damping = 3 } },
  ["gls-window"] = {
    class = "GLS", settings = { momentum = 0.9, graft = "rms", damping = 3, statistics = { window = 1000 } },
  },
  ["gls-moving"] = { class = "GLS", settings = { momentum = 0.9, graft = "rms", damping = 1, statistics = "moving" } },
  -- Layer by layer: held to one length for all layers together, GLS gives some layers more than SGD does.
  ["gls-graft"] = { class = "GLS", settings = { graft = "sgd", per_layer = true, damping = 3 } },
}
-- In the order of tables and legends.
local ORDER = { "sgd", "momentum", "adam", "adamw", "gls-graft", "gls-matched", "gls-window", "gls-moving", "gls" }

--- Settings of a trial that are not the optimizer's own.
options.around = {
  schedule = true, warmup = true, initialisation = true, model = true, loss = true,
  data = true,    -- of the loader that trains: crop, flip
  average = true, -- decay of an average of the weights, which is evaluated in their place
}

-- ---- errors of use ----

options.misuse = choices.misuse
local misuse = options.misuse

--- Calls a function whose failures are the user's to mend (a directory, a file of data): they come as a message
-- without traceback.
-- @tparam function f
-- @param ... its arguments
-- @return its results
function options.attempt(f, ...)
  local results = table.pack(pcall(f, ...))
  if results[1] then return table.unpack(results, 2, results.n) end
  local problem = results[2]
  if type(problem) ~= "string" or problem:find("interrupted!", 1, true) then error(problem, 0) end
  misuse("%s", (problem:gsub("^[^%s:]+%.lua:%d+: ", "")))
end

-- ---- values of options ----

local function split(text, separator)
  local parts = {}
  for part in (text .. separator):gmatch("(.-)%" .. separator) do
    part = part:match "^%s*(.-)%s*$"
    if part ~= "" then parts[#parts + 1] = part end
  end
  return parts
end

local function whole(name, least)
  return function(text)
    local value = math.tointeger(tonumber(text))
    if not value or value < least then
      return nil, ("option --%s: %q: expected a whole number, at least %d"):format(name, text, least)
    end
    return value
  end
end

local function numbers(name)
  return function(text)
    local list = {}
    for i, part in ipairs(split(text, ",")) do
      local value = math.tointeger(tonumber(part))
      if not value or value < 0 then
        return nil, ("option --%s: %q: expected whole numbers joined by commas, as 1,2,3"):format(name, text)
      end
      list[i] = value
    end
    if #list == 0 then return nil, ("option --%s: at least one number expected"):format(name) end
    return list
  end
end

local function one_of(name, known)
  return function(text)
    local list, seen = {}, {}
    for _, part in ipairs(split(text, ",")) do
      if not known[part] then
        return nil, ("option --%s: unknown name %q%s"):format(name, part, check.suggestion(part, known))
      end
      if not seen[part] then list[#list + 1] = part end
      seen[part] = true
    end
    if #list == 0 then return nil, ("option --%s: at least one name expected"):format(name) end
    return list
  end
end

-- "0.1", "auto", "true" as the value that a script would write.
local function value_of(text)
  if text == "true" or text == "false" then return text == "true" end
  return tonumber(text) or text
end

-- "adam=1e-3:3e-4" and "gls.damping=0.1:1" as { optimizer, setting, values }.
local function override(option, text)
  local left, right = text:match "^(.-)=(.+)$"
  local optimizer, setting = left, "learning_rate"
  if left and option == "set" then optimizer, setting = left:match "^(.-)%.([%w_]+)$" end
  if not optimizer then
    return nil, ("option --%s: %q: expected %s"):format(option, text,
      option == "set" and "OPTIMIZER.SETTING=VALUE:VALUE, as gls.damping=0.01:0.1"
      or "OPTIMIZER=RATE:RATE, as adam=1e-3:3e-4")
  end
  if not options.optimizers[optimizer] then
    return nil, ("option --%s: unknown optimizer %q%s"):format(option, optimizer,
      check.suggestion(optimizer, options.optimizers))
  end
  local values = {}
  for i, part in ipairs(split(right, ":")) do
    values[i] = value_of(part)
    if setting == "learning_rate" and values[i] ~= "auto" and not (type(values[i]) == "number" and values[i] > 0) then
      return nil, ("option --%s: %q: a learning rate is a number above 0, or auto"):format(option, part)
    end
  end
  if #values == 0 then return nil, ("option --%s: %q has no value"):format(option, text) end
  return { optimizer = optimizer, setting = setting, values = values }
end

-- ---- the command line ----

local SCHEDULES = { constant = true, cosine = true, linear = true }

-- The options that are the experiment's own.
local function declared(spec) return spec.choices and getmetatable(spec.choices).declared or {} end

local function parser_of(spec)
  local parser = argparse(spec.script or ("glsrun experiments/" .. spec.name .. ".lua"), spec.title .. ".")
  parser:add_help(false)
  parser:help_max_width(100)
  local default = spec.defaults
  local function option(text, description, convert, argument)
    local made = parser:option(text, description)
    if convert then made:convert(convert) end
    if argument then made:argname(argument) end
    return made
  end
  parser:flag("-h --help", "Show this help and end.")
  for _, choice in ipairs(declared(spec)) do
    if choice.values then
      option("--" .. choice.name, choice.help, function(text) return choices.convert(choice, text) end,
        choice.list and "LIST" or table.concat(choice.values, "|"))
    else
      parser:flag("--" .. choice.name, choice.help)
    end
  end
  option("--data", "cifar10, fashion-mnist, folder:PATH (a tree of class folders) or auto (default: cifar10 if it is "
    .. "there, else fashion-mnist).", nil, "NAME")
  option("--data-dir", "Where data lies (default: GLS_DATA, else ~/.cache/glsrun).", nil, "DIR")
  option("--samples", ("Training images used (default %d; 0: all)."):format(default.samples), whole("samples", 0), "N")
  option("--validation", ("Test images used for validation (default %d; 0: all)."):format(default.validation),
    whole("validation", 0), "N")
  option("--test", ("More test images, kept from every choice of a setting: the summary has the loss and accuracy on "
    .. "them at the epoch of the best validation loss (default %d: none)."):format(default.test), whole("test", 0), "N")
  option("--epochs", ("Epochs of each run (default %d)."):format(default.epochs), whole("epochs", 1), "N")
  option("--seconds", "End a run at the end of the epoch in which it has trained for so many seconds.", function(text)
    local value = tonumber(text)
    if value and value > 0 then return value end
    return nil, ("option --seconds: %q: expected a number above 0"):format(text)
  end, "S")
  option("--batch", ("Images in a batch (default %d)."):format(default.batch), whole("batch", 1), "N")
  option("--optimizers", ("What to compare, joined by commas (default %s). Known here: %s.")
    :format(table.concat(default.optimizers, ","), table.concat(options.known(spec), ", ")),
    one_of("optimizers", spec.trials), "LIST")
  option("--lr", "Learning rates of an optimizer in place of its own: adam=1e-3:3e-4. Repeatable.",
    function(text) return override("lr", text) end, "NAME=V1:V2"):count "*"
  option("--set", "Any other setting: gls.damping=0.01:0.1, adam.initialisation=he. Repeatable.",
    function(text) return override("set", text) end, "NAME.SETTING=V1:V2"):count "*"
  option("--schedule", "Schedules of the learning rate in place of the experiment's own: constant,cosine,linear.",
    one_of("schedule", SCHEDULES), "LIST")
  option("--trials", "Only the first settings of each optimizer, so many (default: all).", whole("trials", 1), "N")
  option("--seeds", ("Seeds (default %s). Every setting runs with the first, the best of each optimizer with all.")
    :format(table.concat(default.seeds, ",")), numbers "seeds", "LIST")
  parser:flag("--all-seeds", "Run every setting with every seed, and choose the best by the medians.")
  option("--select", ("What makes a setting the best: train (final training loss) or valid (best validation loss) "
    .. "(default %s)."):format(default.select), function(text)
    if text == "train" or text == "valid" then return text end
    return nil, ("option --select: %q: expected train or valid"):format(text)
  end, "WHAT")
  option("--threads", "Threads (default: the number of cores).", whole("threads", 1), "N")
  option("--out", ("Where results go (default runs/%s/DATE-TIME)."):format(spec.name), nil, "DIR")
  parser:flag("--quiet", "Say nothing but the path of the summary.")
  option("--resume", "Go on with what was begun in DIR (default: --out, else the latest of this experiment); "
    .. "finished runs stay.", nil, "DIR"):args "?"
  return parser
end

--- The names of optimizers that an experiment has trials for, in the order of tables.
-- @tparam table spec
-- @treturn table list of names
function options.known(spec)
  local list = {}
  for _, name in ipairs(ORDER) do
    if spec.trials[name] then list[#list + 1] = name end
  end
  return list
end

-- What a resumed job must not change, for its runs would not be comparable.
local FIXED = { "data", "samples", "validation", "test", "epochs", "batch", "seconds" }
local KEPT = { "optimizers", "lr", "set", "schedule", "trials", "seeds", "all_seeds", "select", "data_dir", "threads" }

--- Reads a command line.
-- @tparam table spec the experiment
-- @tparam table arguments list of strings
-- @treturn table|nil the choices, with the defaults filled in; nil when only help was asked for
-- @treturn string help
-- @raise an object whose tostring is the message, on anything not understood
function options.parse(spec, arguments)
  local parser = parser_of(spec)
  for _, argument in ipairs(arguments) do
    if argument == "-h" or argument == "--help" then return nil, parser:get_help() end
  end
  local good, given = parser:pparse(arguments)
  if not good then misuse("%s (--help lists the options)", given) end
  if #given.lr == 0 then given.lr = nil end
  if #given.set == 0 then given.set = nil end

  local chosen = { resume = given.resume ~= nil, quiet = given.quiet or false, out = given.out }
  local recorded = {}
  if given.resume then
    local directory = given.resume[1] or given.out
    if given.out and given.resume[1] and given.out ~= given.resume[1] then
      misuse("--resume %s and --out %s name two directories; give one", given.resume[1], given.out)
    end
    recorded, chosen.out = choices.recorded(spec.name, directory)
    for _, choice in ipairs(declared(spec)) do
      local value = (recorded.choices or {})[choice.name]
      if value ~= nil and not choice.list and value ~= spec.choices[choice.name] then
        misuse("--resume: --%s %s is not what %s was begun with (%s); begin a new job for it", choice.name,
          tostring(spec.choices[choice.name]), directory, tostring(value))
      end
    end
    for _, name in ipairs(FIXED) do
      if given[name] ~= nil and given[name] ~= recorded[name] then
        misuse("--resume: --%s %s is not what %s was begun with (%s); begin a new job for it", name,
          tostring(given[name]), chosen.out, tostring(recorded[name]))
      end
    end
  end
  local function choose(name)
    local value = given[name]
    if value == nil then value = recorded[name] end
    if value == nil then value = spec.defaults[name] end
    chosen[name] = value
  end
  for _, name in ipairs(FIXED) do choose(name) end
  for _, name in ipairs(KEPT) do choose(name) end
  chosen.lr, chosen.set = chosen.lr or {}, chosen.set or {}
  for _, list in ipairs { chosen.lr, chosen.set } do
    for _, entry in ipairs(list) do
      local asked = false
      for _, name in ipairs(chosen.optimizers) do asked = asked or name == entry.optimizer end
      if not asked then
        misuse("settings are given for %s, but it is not among --optimizers %s", entry.optimizer,
          table.concat(chosen.optimizers, ","))
      end
    end
  end
  chosen.out = chosen.out or ("runs/%s/%s"):format(spec.name, os.date "%Y%m%d-%H%M%S")
  chosen.out = #chosen.out > 1 and chosen.out:gsub("/+$", "") or chosen.out
  return chosen
end

-- ---- trials ----

--- Every combination of the listed values: `grid{ learning_rate = {1e-3, 1e-4}, schedule = "cosine" }` gives two
-- settings.
-- @tparam table settings name → value or list of values
-- @treturn table list of settings tables
function options.grid(settings)
  local names = {}
  for name in pairs(settings) do names[#names + 1] = name end
  table.sort(names)
  local result = { {} }
  for _, name in ipairs(names) do
    local values, longer = settings[name], {}
    if type(values) ~= "table" or #values == 0 then values = { values } end
    for _, base in ipairs(result) do
      for _, value in ipairs(values) do
        local copy = {}
        for key, kept in pairs(base) do copy[key] = kept end
        copy[name] = value
        longer[#longer + 1] = copy
      end
    end
    result = longer
  end
  return result
end

-- The trials with one setting replaced by each of the values; what becomes equal is kept once.
local function replace(trials, setting, values)
  local result, seen = {}, {}
  for _, value in ipairs(values) do
    for _, trial in ipairs(trials) do
      local copy = {}
      for key, kept in pairs(trial) do copy[key] = kept end
      copy[setting] = value
      local key = record.encode(copy)
      if not seen[key] then result[#result + 1] = copy end
      seen[key] = true
    end
  end
  return result
end

--- The trials of one optimizer: the experiment's own, changed by --schedule, --lr and --set.
-- @tparam table spec
-- @tparam table chosen what options.parse gave
-- @tparam string name of the optimizer
-- @treturn table list of settings tables
function options.trials(spec, chosen, name)
  local trials = {}
  for i, trial in ipairs(spec.trials[name]) do
    trials[i] = { schedule = "constant" }
    for key, value in pairs(options.optimizers[name].settings) do trials[i][key] = value end
    for key, value in pairs(trial) do trials[i][key] = value end
  end
  if chosen.schedule then trials = replace(trials, "schedule", chosen.schedule) end
  local given_rate = false
  for _, list in ipairs { chosen.lr, chosen.set } do
    for _, entry in ipairs(list) do
      if entry.optimizer == name then
        trials = replace(trials, entry.setting, entry.values)
        given_rate = given_rate or entry.setting == "learning_rate"
      end
    end
  end
  -- SGD's own step size, whichever that is.
  if name == "gls-graft" and not given_rate then
    for _, entry in ipairs(chosen.lr) do
      if entry.optimizer == "sgd" then trials = replace(trials, "learning_rate", entry.values) end
    end
  end
  for _, trial in ipairs(trials) do
    if trial.schedule and not SCHEDULES[trial.schedule] then
      misuse("%s: unknown schedule %q%s", name, tostring(trial.schedule), check.suggestion(trial.schedule, SCHEDULES))
    end
    if trial.learning_rate == "auto" and options.optimizers[name].class ~= "GLS" then
      misuse("%s: a learning rate of auto is for gls alone; give a number", name)
    end
  end
  return chosen.trials and table.move(trials, 1, math.min(chosen.trials, #trials), 1, {}) or trials
end

--- What names a run: equal for equal optimizer and settings.
-- @tparam string optimizer
-- @tparam table settings
-- @treturn string
function options.key(optimizer, settings) return optimizer .. " " .. record.encode(settings) end

--- The trials of all optimizers, first of each, then second of each, …: what is cut short has seen all of them.
-- @tparam table spec
-- @tparam table chosen
-- @treturn table list of `{ optimizer =, settings =, key = }`
-- @treturn table name → number of trials
function options.plan(spec, chosen)
  local lists, counts, longest, plan = {}, {}, 0, {}
  for _, name in ipairs(chosen.optimizers) do
    lists[name] = options.trials(spec, chosen, name)
    counts[name] = #lists[name]
    longest = math.max(longest, counts[name])
  end
  for i = 1, longest do
    for _, name in ipairs(chosen.optimizers) do
      local settings = lists[name][i]
      if settings then
        plan[#plan + 1] = { optimizer = name, settings = settings, key = options.key(name, settings) }
      end
    end
  end
  return plan, counts
end

-- 0.001 as people write it.
local function short(value)
  if type(value) ~= "number" then return tostring(value) end
  local text = ("%g"):format(value)
  if math.abs(value) < 0.01 and value ~= 0 then text = ("%.3g"):format(value) end
  if math.abs(value) < 0.01 and value ~= 0 and not text:find "e" then
    local exponent = math.floor(math.log(math.abs(value), 10) + 1e-9)
    text = ("%ge%d"):format(value / 10.0 ^ exponent, exponent)
  end
  return (text:gsub("e([+-])0*(%d)", function(sign, digit) return "e" .. (sign == "-" and "-" or "") .. digit end))
end

--- Settings in words: `1e-3, cosine, orthogonal, damping 0.01`. What every trial of the optimizer has is left out
-- when it is among `same`.
-- @tparam table settings
-- @tparam[opt] table same name → true for settings not to be named
-- @treturn string
function options.describe(settings, same)
  same = same or {}
  local parts = {}
  if settings.learning_rate ~= nil and not same.learning_rate then parts[1] = short(settings.learning_rate) end
  for _, name in ipairs { "schedule", "initialisation" } do
    if settings[name] and not same[name] then parts[#parts + 1] = tostring(settings[name]) end
  end
  local names = {}
  for name in pairs(settings) do
    if name ~= "learning_rate" and name ~= "schedule" and name ~= "initialisation" and not same[name] then
      names[#names + 1] = name
    end
  end
  table.sort(names)
  for _, name in ipairs(names) do
    local value = settings[name]
    if type(value) == "table" and #value > 0 then
      local texts = {}
      for i, element in ipairs(value) do texts[i] = short(element) end
      parts[#parts + 1] = name:gsub("_", " ") .. " " .. table.concat(texts, "-")
    elseif type(value) == "table" then
      parts[#parts + 1] = options.describe(value)
    else
      parts[#parts + 1] = (name:gsub("_", " ")) .. " " .. short(value)
    end
  end
  return #parts > 0 and table.concat(parts, ", ") or "as it is"
end

--- The settings in which trials differ, in few words: without what all trials share and what the optimizer's name
-- implies.
-- @tparam table trial `optimizer`, `settings`
-- @tparam table shared name → value that all trials have
-- @treturn string
function options.brief(trial, shared)
  local same = {}
  for name, value in pairs(options.optimizers[trial.optimizer].settings) do
    same[name] = name ~= "learning_rate" and trial.settings[name] == value
  end
  for name in pairs(shared) do same[name] = true end
  return options.describe(trial.settings, same)
end

--- Settings that all trials of all optimizers share (the learning rate is always told).
-- @tparam table trials list of `{ settings = … }`
-- @treturn table name → value
function options.shared(trials)
  local shared = {}
  for name, value in pairs(trials[1].settings) do
    if name ~= "learning_rate" then shared[name] = value end
  end
  for _, trial in ipairs(trials) do
    for name, value in pairs(shared) do
      local own = trial.settings[name]
      local same = own == value
      if type(own) == "table" and type(value) == "table" then same = record.encode(own) == record.encode(value) end
      if not same then shared[name] = nil end
    end
  end
  return shared
end

return options
