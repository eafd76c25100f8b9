--- Choices: options of one experiment's own (--model, --study), needed before its trials are known. They are read ahead
-- of the rest of the command line, which then checks and describes them (gls.experiment.options).
-- @module gls.experiment.choices
local check = require "gls.options"
local file = require "gls.file"
local files = require("gls.core").io
local misuse = require("gls.experiment.misuse").raise
local record = require "gls.experiment.record"

local choices = {}

-- The latest of an experiment's own directories; names are dates, so the last in order.
local function latest(name)
  local parent, last = "runs/" .. name, nil
  if file.kind(parent) == "folder" then
    for _, entry in ipairs(files.list_folders(parent)) do -- sorted
      if file.read(parent .. "/" .. entry .. "/config.json") then last = entry end
    end
  end
  if not last then
    misuse("--resume: there is no job of %s to go on with in %s; name its directory", name, parent)
  end
  return parent .. "/" .. last
end

-- Options as config.json has them; of a list, its elements.
local TYPES = {
  data = "string", data_dir = "string", select = "string", all_seeds = "boolean", choices = "table", seconds = "number",
  samples = "integer", validation = "integer", test = "integer", epochs = "integer", batch = "integer",
  trials = "integer", threads = "integer",
}
local LISTS = { optimizers = "string", schedule = "string", seeds = "integer", lr = "table", set = "table" }

local function is(value, kind) return type(value) == kind or math.type(value) == kind end

local function is_list(value, kind)
  if type(value) ~= "table" then return false end
  for key, element in pairs(value) do
    if math.type(key) ~= "integer" or not is(element, kind) then return false end
  end
  return true
end

-- The name of an option that is not as config.json has it, or nil.
local function wrong_option(recorded)
  for name, kind in pairs(TYPES) do
    if recorded[name] ~= nil and not is(recorded[name], kind) then return name end
  end
  for name, kind in pairs(LISTS) do
    if recorded[name] ~= nil and not is_list(recorded[name], kind) then return name end
  end
end

--- What a job to go on with was begun as.
-- @tparam string name of the experiment
-- @tparam string|nil directory of its results; default: the latest
-- @treturn table options, as in config.json
-- @treturn string directory
function choices.recorded(name, directory)
  directory = directory or latest(name)
  local text, message = file.read(directory .. "/config.json")
  if not text then misuse("--resume: %s is no directory of results: %s", directory, message) end
  local config
  config, message = record.decode(text)
  if type(config) ~= "table" or type(config.options) ~= "table" then
    misuse("--resume: %s/config.json is not what an experiment writes: %s", directory,
      message or "no options in it")
  end
  local wrong = wrong_option(config.options)
  if wrong or config.data ~= nil and type(config.data) ~= "table" then
    misuse("--resume: %s/config.json is not what an experiment writes: %s is %s", directory, wrong or "data",
      record.encode(wrong and config.options[wrong] or config.data))
  end
  if config.experiment ~= name then
    misuse("--resume: %s holds results of the experiment %s, not of %s", directory,
      tostring(config.experiment), name)
  end
  return config.options, directory
end

-- The value of --name among the arguments: a text, true for a flag, nil where it is not given.
local function given(arguments, name, flag)
  for i, argument in ipairs(arguments) do
    if argument == "--" .. name then
      if flag then return true end
      return arguments[i + 1] or ""
    end
    local value = argument:sub(1, #name + 3) == "--" .. name .. "=" and argument:sub(#name + 4)
    if value and not flag then return value end
  end
  return nil
end

--- The value of a text for a declared choice.
-- @tparam table declared one choice
-- @tparam string text
-- @return value (a list where the choice is one), or nil and what is wrong
function choices.convert(declared, text)
  local list = {}
  for part in text:gmatch(declared.list and "[^,]+" or ".+") do
    local known = false
    for _, value in ipairs(declared.values) do known = known or value == part end
    if not known then
      return nil, ("option --%s: unknown name %q%s"):format(declared.name, part,
        check.suggestion(part, declared.values))
    end
    list[#list + 1] = part
  end
  if #list == 0 then return nil, ("option --%s: a name is missing"):format(declared.name) end
  return declared.list and list or list[1]
end

--- Reads an experiment's own choices.
-- @tparam string name of the experiment
-- @tparam table declared list of `{ name =, help =, values = { first is the default, … }, list = false }`; with
-- `list = true` several values joined by commas, by default all; without values a flag; `with`: the flag, declared
-- before it, without which it is an error
-- @tparam[opt] table arguments list of strings; default: those of the script
-- @treturn table name → value; `experiment.run` takes it as `choices`
-- @raise on a value that is not among those declared
function choices.read(name, declared, arguments)
  arguments = arguments or arg or {}
  local before = {}
  if given(arguments, "resume", true) and not given(arguments, "help", true) then
    local directory = given(arguments, "resume")
    if directory == "" or directory:sub(1, 1) == "-" then directory = given(arguments, "out") end
    before = choices.recorded(name, directory).choices or {}
  end
  local chosen = {}
  for _, choice in ipairs(declared) do
    local value = given(arguments, choice.name, not choice.values)
    if value ~= nil and choice.with and not chosen[choice.with] then
      misuse("option --%s goes with --%s", choice.name, choice.with)
    end
    if value ~= nil and choice.values then
      local wrong
      value, wrong = choices.convert(choice, value)
      if wrong then misuse("%s", wrong) end
    end
    if value == nil then value = before[choice.name] end
    if value == nil then value = choice.list and choice.values or choice.values and choice.values[1] or false end
    chosen[choice.name] = value
  end
  return setmetatable(chosen, { declared = declared })
end

return choices
