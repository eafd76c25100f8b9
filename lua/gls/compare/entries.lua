--- Entries: the optimizers of a comparison. Those built in have a space of two settings each: the learning rate, or
-- what stands in its place, over a factor of 100 around what its documents say, and the one other setting that
-- matters most.
-- @module gls.compare.entries
local check = require "gls.options"
local file = require "gls.file"
local misuse = require("gls.experiment.misuse").raise
local number = require "gls.number"
local optim = require "gls.optim"
local random = require "gls.compare.random"
local space = require "gls.compare.space"

local entries = {}

local MOMENTA = space.choice { 0.8, 0.9, 0.95, 0.98 }

local forms = optim.GLS.forms

-- A space of GLS: the settings of a form, but for those that are searched; decay comes with the retuning.
local function gls_space(form, searched)
  local all = { weight_decay = 0, fallback_learning_rate = 3e-3 }
  for name, value in pairs(form) do
    if name ~= "weight_decay" then all[name] = value end
  end
  for name, value in pairs(searched) do all[name] = value end
  return all
end

--- The built-in ones: name → `{ class =, space =, schedule = of the trials, defaults = of the untuned track }`.
entries.built_in = {
  momentum = {
    class = "SGD", space = { learning_rate = space.log(3e-3, 0.3), momentum = MOMENTA }, defaults = { momentum = 0.9 },
  },
  adamw = {
    class = "AdamW",
    space = { learning_rate = space.log(2e-4, 2e-2), beta2 = space.choice { 0.9, 0.95, 0.99, 0.999 },
      weight_decay = 0 },
  },
  lion = {
    class = "Lion", space = { learning_rate = space.log(2e-5, 2e-3), beta2 = space.choice { 0.9, 0.95, 0.98, 0.99 } },
  },
  muon = {
    class = "Muon", defaults = { matched = true, learning_rate = 1e-2 },
    space = { learning_rate = space.log(2e-3, 0.2), momentum = MOMENTA, matched = true, fallback_learning_rate = 3e-3 },
  },
  soap = {
    class = "SOAP",
    space = { learning_rate = space.log(3e-4, 3e-2), beta2 = space.choice { 0.9, 0.95, 0.98, 0.99 },
      fallback_learning_rate = 3e-3 },
  },
  gls = { -- the automatic form has no learning rate; its documents say a constant schedule
    class = "GLS", schedule = "constant", defaults = forms.training,
    space = { damping = space.log(1e-3, 0.1), delta = space.log(0.1, 10) },
  },
  ["gls-matched"] = {
    class = "GLS", defaults = forms.validation,
    space = gls_space(forms.validation, { learning_rate = space.log(2e-4, 2e-2), damping = space.log(0.1, 10) }),
  },
  ["gls-orthogonal"] = {
    class = "GLS", defaults = forms.tokens,
    space = gls_space(forms.tokens, { learning_rate = space.log(1e-3, 0.1), damping = space.log(0.01, 1) }),
  },
}

local ENTRY = {
  name = check.required, optimizer = check.required, space = check.required, defaults = check.any {},
  schedule = "cosine", weight_decay = check.none,
}
local SCHEDULES = { cosine = true, linear = true, constant = true }

local function is_callable(value)
  local meta = getmetatable(value)
  return type(value) == "function" or type(meta) == "table" and meta.__call ~= nil
end

-- Checks an entry; `where` is named in errors.
local function checked(where, given)
  local good, entry = pcall(check.check, where, given, ENTRY)
  if not good then misuse("%s", entry) end
  if type(entry.name) ~= "string" or not entry.name:find "^[%w_.-]+$" then
    misuse("%s: name is a word of letters, digits, - and _, got %s", where, tostring(entry.name))
  end
  if not is_callable(entry.optimizer) then
    misuse("%s: optimizer is a class (optim.class) or a function of parameters and settings, got %s", where,
      type(entry.optimizer))
  end
  for _, field in ipairs { "space", "defaults" } do
    if type(entry[field]) ~= "table" or #entry[field] > 0 then
      misuse("%s: %s is a table of settings by name, as { learning_rate = compare.log(1e-4, 1e-1) }", where, field)
    end
    for name, value in pairs(entry[field]) do -- results.jsonl, by which runs are found again, has no others
      if type(value) == "number" and not number.finite(value) then
        misuse("%s: %s: %s is %s, expected a finite number; make it the optimizer's own default", where, field, name,
          tostring(value))
      end
    end
  end
  if not SCHEDULES[entry.schedule] then
    misuse("%s: schedule is cosine, linear or constant, got %s", where, tostring(entry.schedule))
  end
  local class = type(entry.optimizer) == "table" and rawget(entry.optimizer, "defaults")
  if class then
    for _, field in ipairs { "space", "defaults" } do
      for name in pairs(entry[field]) do
        if class[name] == nil then
          misuse("%s: %s: the optimizer has no setting %q%s", where, field, name, check.suggestion(name, class))
        end
      end
    end
    if entry.weight_decay == nil then entry.weight_decay = type(class.weight_decay) == "number" end
  end
  entry.weight_decay = entry.weight_decay == true
  return entry
end

--- The built-in entry of a name, or nil.
function entries.named(name)
  local known = entries.built_in[name]
  local class = known and rawget(optim, known.class)
  if not class then return nil end
  local entry = checked("built-in " .. name, { name = name, optimizer = class, space = known.space,
    defaults = known.defaults, schedule = known.schedule })
  entry.source = "built in"
  return entry
end

local function names()
  local list = {}
  for name, known in pairs(entries.built_in) do
    if rawget(optim, known.class) then list[#list + 1] = name end
  end
  table.sort(list)
  return list
end
entries.names = names

-- The table that a script of the user's returns, and the checksum of its text.
function entries.load_file(path, what)
  local text, message = file.read(path)
  if not text then misuse("%s: %s", what, message) end
  local chunk
  chunk, message = load(text, "@" .. path, "t")
  if not chunk then misuse("%s: %s", what, message) end
  local given = chunk()
  if type(given) ~= "table" then
    misuse("%s: %s returns %s, expected a table { name =, … }", what, path, type(given))
  end
  return given, ("%s %08x"):format(path:match "[^/]+$", random.seed(text))
end

--- An entry by the name of a built-in one, or from a file that returns `{ name =, optimizer =, space = }`.
-- @tparam string text
-- @tparam[opt="--optimizer"] string option that named it
-- @treturn table `name`, `optimizer`, `space`, `defaults`, `schedule`, `weight_decay` (whether it has that setting),
-- `source`
function entries.open(text, option)
  option = option or "--optimizer"
  local entry = entries.named(text)
  if entry then return entry end
  if not text:find "%.lua$" then
    misuse("%s: no optimizer is called %q%s; a file ends in .lua", option, text, check.suggestion(text, names()))
  end
  local given, source = entries.load_file(text, option)
  entry = checked(text, given)
  if entries.built_in[entry.name] then
    misuse("%s: the name %q is that of a built-in optimizer; give yours another", text, entry.name)
  end
  entry.source = source
  return entry
end

--- Changes of the best setting that are tried once it is found, always in this order and as many for every optimizer:
-- the other schedules; a decay so strong that by itself it would leave a share of the weights at the run's end; the
-- learning rate beside it.
-- @tparam table entry
-- @tparam table settings the best
-- @tparam string schedule of the best
-- @tparam integer steps of a run
-- @tparam integer count how many
-- @treturn table list of `{ settings =, schedule = }`
function entries.variations(entry, settings, schedule, steps, count)
  local list = {}
  local function add(changes, other_schedule)
    local copy = {}
    for name, value in pairs(settings) do copy[name] = value end
    for name, value in pairs(changes) do copy[name] = value end
    list[#list + 1] = { settings = copy, schedule = other_schedule or schedule }
  end
  local rate = settings.learning_rate
  local is_number = type(rate) == "number"
  local function decay(left)
    if not entry.weight_decay then return end
    local summed = (is_number and rate or 1) * steps * (schedule == "constant" and 1 or 0.5)
    add { weight_decay = tonumber(("%.3g"):format(-math.log(left) / summed)) }
  end
  local function faster(factor)
    if is_number then add { learning_rate = tonumber(("%.3g"):format(rate * factor)) } end
  end
  local others = {}
  for _, name in ipairs { "linear", "constant", "cosine" } do
    if name ~= schedule then others[#others + 1] = name end
  end
  add({}, others[1])
  decay(0.7)
  add({}, others[2])
  decay(0.9)
  faster(1.6)
  faster(0.6)
  decay(0.4)
  faster(2.5)
  faster(0.4)
  decay(0.2)
  return table.move(list, 1, math.min(count, #list), 1, {})
end

return entries
