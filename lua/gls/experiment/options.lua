--- The command line that all experiments share.
-- @module gls.experiment.options
local argparse = require "argparse"
local check = require "gls.options"
local choices = require "gls.experiment.choices"
local misuse = require("gls.experiment.misuse").raise
local optimizers = require "gls.experiment.optimizers"
local plan = require "gls.experiment.plan"

local options = {}

-- ---- values of options ----

local function split(text, separator)
  local parts = {}
  for part in (text .. separator):gmatch("(.-)%" .. separator) do
    part = part:match "^%s*(.-)%s*$"
    if part ~= "" then parts[#parts + 1] = part end
  end
  return parts
end

--- What reads a whole number of at least `least`, for argparse.
function options.whole(name, least)
  return function(text)
    local value = math.tointeger(tonumber(text))
    if not value or value < least then
      return nil, ("option --%s: %q: expected a whole number, at least %d"):format(name, text, least)
    end
    return value
  end
end

local whole = options.whole

local function numbers(name)
  return function(text)
    local list, seen = {}, {}
    for i, part in ipairs(split(text, ",")) do
      local value = math.tointeger(tonumber(part))
      if not value or value < 0 then
        return nil, ("option --%s: %q: expected whole numbers joined by commas, as 1,2,3"):format(name, text)
      end
      if seen[value] then return nil, ("option --%s: %q: %d is there twice"):format(name, text, value) end
      list[i], seen[value] = value, true
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
  if not optimizers.known[optimizer] then
    return nil, ("option --%s: unknown optimizer %q%s"):format(option, optimizer,
      check.suggestion(optimizer, optimizers.known))
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

-- The values of --lr or --set given for one setting in several places, together.
local function merged(list)
  local result, known = {}, {}
  for _, entry in ipairs(list) do
    local name = entry.optimizer .. "." .. entry.setting
    if known[name] then
      table.move(entry.values, 1, #entry.values, #known[name].values + 1, known[name].values)
    else
      known[name], result[#result + 1] = entry, entry
    end
  end
  return #result > 0 and result or nil, known
end

-- `--epochs -1` as `--epochs=-1`: else the number is taken for an option.
local function joined(arguments)
  local list = {}
  for _, argument in ipairs(arguments) do
    if argument:find "^%-[%d.]" and (list[#list] or ""):find "^%-%-[%a-]+$" then
      list[#list] = list[#list] .. "=" .. argument
    else
      list[#list + 1] = argument
    end
  end
  return list
end

-- ---- the command line ----

-- The options that are the experiment's own.
local function declared(spec) return spec.choices and getmetatable(spec.choices).declared or {} end

local function parser_of(spec)
  local parser = argparse("glsrun experiments/" .. spec.name .. ".lua", spec.title .. ".")
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
  option("--data", "cifar10, fashion-mnist, mnist, folder:PATH (a tree of class folders), for language models text "
    .. "or text:FILE, or auto (default: cifar10 if it is there, else fashion-mnist; tinyshakespeare).", nil, "NAME")
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
    :format(table.concat(default.optimizers, ","), table.concat(optimizers.of(spec), ", ")),
    one_of("optimizers", spec.trials), "LIST")
  option("--lr", "Learning rates of an optimizer in place of its own: adam=1e-3:3e-4. Repeatable.",
    function(text) return override("lr", text) end, "NAME=V1:V2"):count "*"
  option("--set", "Any other setting: gls.damping=0.01:0.1, adam.initialisation=he. Repeatable.",
    function(text) return override("set", text) end, "NAME.SETTING=V1:V2"):count "*"
  option("--schedule", "Schedules of the learning rate in place of the experiment's own: constant,cosine,linear.",
    one_of("schedule", plan.schedules), "LIST")
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

-- What a resumed job must not change, for its runs would not be comparable.
local FIXED = { "data", "samples", "validation", "test", "epochs", "batch", "seconds" }
local KEPT = { "optimizers", "lr", "set", "schedule", "trials", "seeds", "all_seeds", "select", "data_dir", "threads" }

-- --lr and --set, each with the values of one setting together, and no rate in both.
local function clean_rates(given)
  local rates
  given.lr, rates = merged(given.lr)
  given.set = merged(given.set)
  for _, entry in ipairs(given.set or {}) do
    if entry.setting == "learning_rate" and rates[entry.optimizer .. ".learning_rate"] then
      misuse("the learning rate of %s is given by --lr and by --set; give it by --lr alone", entry.optimizer)
    end
  end
end

-- What the job to go on with was begun as, and its directory; it must not be another now.
local function check_resume(spec, given)
  if given.out and given.resume[1] and given.out ~= given.resume[1] then
    misuse("--resume %s and --out %s name two directories; give one", given.resume[1], given.out)
  end
  local recorded, directory = choices.recorded(spec.name, given.resume[1] or given.out)
  local function check_same(name, now, before)
    if now == before then return end
    misuse("--resume: --%s %s is not what %s was begun with (%s); begin a new job for it", name, tostring(now),
      directory, tostring(before))
  end
  for _, choice in ipairs(declared(spec)) do
    local before = (recorded.choices or {})[choice.name]
    if before ~= nil and not choice.list then check_same(choice.name, spec.choices[choice.name], before) end
  end
  for _, name in ipairs(FIXED) do
    if given[name] ~= nil then check_same(name, given[name], recorded[name]) end
  end
  return recorded, directory
end

-- Settings are given for optimizers that run.
local function check_asked(chosen)
  local asked = {}
  for _, name in ipairs(chosen.optimizers) do asked[name] = true end
  for _, list in ipairs { chosen.lr, chosen.set } do
    for _, entry in ipairs(list) do
      if not asked[entry.optimizer] then
        misuse("settings are given for %s, but it is not among --optimizers %s", entry.optimizer,
          table.concat(chosen.optimizers, ","))
      end
    end
  end
end

--- Reads a command line.
-- @tparam table spec the experiment
-- @tparam table arguments list of strings
-- @treturn table|nil the choices, with the defaults filled in (`out` nil: a new directory); nil when only help was
-- asked for
-- @treturn string help
-- @raise an object whose tostring is the message, on anything not understood
function options.parse(spec, arguments)
  local parser = parser_of(spec)
  for _, argument in ipairs(arguments) do
    if argument == "-h" or argument == "--help" then return nil, parser:get_help() end
  end
  local good, given = parser:pparse(joined(arguments))
  if not good then misuse("%s (--help lists the options)", given) end
  clean_rates(given)
  local recorded, chosen = {}, { resume = given.resume ~= nil, quiet = given.quiet or false, out = given.out }
  if given.resume then recorded, chosen.out = check_resume(spec, given) end
  local function choose(name)
    local value = given[name]
    if value == nil then value = recorded[name] end
    if value == nil then value = spec.defaults[name] end
    chosen[name] = value
  end
  for _, name in ipairs(FIXED) do choose(name) end
  for _, name in ipairs(KEPT) do choose(name) end
  chosen.lr, chosen.set = chosen.lr or {}, chosen.set or {}
  check_asked(chosen)
  if chosen.out and #chosen.out > 1 then chosen.out = chosen.out:gsub("/+$", "") end
  return chosen
end

return options
