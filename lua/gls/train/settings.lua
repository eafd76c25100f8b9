--- Settings: what train.fit and its relatives take, checked before anything begins.
-- @module gls.train.settings
local core = require "gls.core"
local options = require "gls.options"
local progress = require "gls.train.progress"

local settings = {}

local function is_callable(value) return type(value) == "function" end
local function is_count(value, least) return math.type(value) == "integer" and value >= least end
local function is_iterable(value)
  return is_callable(value) or (getmetatable(value) or {}).__call ~= nil
end
local BATCHES = "a loader (data.loader of a set), or a function that gives batches"
local function is_positive(value) return type(value) == "number" and value > 0 end

-- What each setting is; nil is for options.check to judge.
local KINDS = {
  model = { "a module", function(value) return type(value) == "table" and is_callable(value.train) end },
  optimizer = { "an optimizer", function(value) return type(value) == "table" and is_callable(value.step) end },
  loss = { "a function of the model and a batch", is_callable },
  data = { BATCHES, is_iterable },
  validation = { BATCHES, is_iterable },
  epochs = { "a whole number of at least 0", function(value) return is_count(value, 0) end },
  accumulate = { "a whole number of at least 1", function(value) return is_count(value, 1) end },
  clip = { "a number above 0", is_positive },
  seconds = { "a number above 0", is_positive },
  on_step = { "a function of the state", is_callable },
  on_epoch = { "a function of the state", is_callable },
  callbacks = { "a list of tables", function(value) return type(value) == "table" end },
}
local ORDER = {
  "model", "optimizer", "loss", "data", "validation", "epochs", "accumulate", "clip", "seconds", "on_step",
  "on_epoch", "callbacks",
}

local function check_kinds(where, given)
  for _, name in ipairs(ORDER) do
    local kind, is_one = table.unpack(KINDS[name])
    if given[name] ~= nil and not is_one(given[name]) then
      core.raise(("%s: %s is %s, got %s"):format(where, name, kind, tostring(given[name])))
    end
  end
end

local EVENTS = { on_begin = true, on_step = true, on_evaluation = true, on_epoch = true, on_end = true,
  on_interrupt = true }

local function check_callbacks(list)
  for name in pairs(list) do
    if type(name) == "string" then
      core.raise(("train.fit: callbacks is a list of tables, found the field %q: put a single one in braces"):format(
        name))
    end
  end
  options.list("train.fit: callbacks", list)
  for i, callback in ipairs(list) do
    if type(callback) ~= "table" then
      core.raise(("train.fit: callback %d is a table with on_epoch and the like, got %s"):format(i, type(callback)))
    end
    for name, value in pairs(callback) do
      if type(name) == "string" and name:find "^on_" and not (EVENTS[name] and is_callable(value)) then
        core.raise(("train.fit: callback %d: %s is %s"):format(i, name, EVENTS[name] and "not a function"
          or "no event" .. options.suggestion(name, EVENTS)))
      end
    end
  end
end

local function check_checkpoint(given)
  if type(given) == "string" then given = { path = given } end
  if type(given) ~= "table" then
    core.raise("train.fit: checkpoint is the path of a file, got " .. tostring(given))
  end
  local named = {}
  for name, value in pairs(given) do named[name == 1 and "path" or name] = value end
  if given[1] ~= nil and given.path ~= nil then core.raise "train.fit: checkpoint: two paths are given" end
  local set = options.check("train.fit: checkpoint", named, {
    path = options.required, steps = options.none, seconds = options.none, keep = 1,
  })
  if type(set.path) ~= "string" or set.path == "" then
    core.raise("train.fit: checkpoint: path is that of a file", 4)
  end
  if set.steps ~= nil and not is_count(set.steps, 1) then
    core.raise("train.fit: checkpoint: steps is a whole number of at least 1, got " .. tostring(set.steps))
  end
  if set.seconds ~= nil and not is_positive(set.seconds) then
    core.raise("train.fit: checkpoint: seconds is a number above 0, got " .. tostring(set.seconds))
  end
  if not is_count(set.keep, 1) then
    core.raise("train.fit: checkpoint: keep is a whole number of at least 1, got " .. tostring(set.keep))
  end
  return set
end

--- Refuses what cannot be iterated for batches.
function settings.check_data(where, given) check_kinds(where, { data = given }) end

--- What train.fit takes.
function settings.fit(given)
  local set = options.check("train.fit", given, {
    model = options.required, optimizer = options.required, loss = options.required, data = options.required,
    epochs = 1, seconds = options.none, on_step = options.none, on_epoch = options.none, callbacks = options.none,
    validation = options.none, accumulate = 1, clip = options.none, progress = false,
    checkpoint = options.none, resume = false,
  })
  check_kinds("train.fit", set)
  local list = table.move(set.callbacks or {}, 1, #(set.callbacks or {}), 1, {})
  check_callbacks(set.callbacks or {})
  if set.progress then table.insert(list, 1, progress.new()) end
  set.callbacks = list
  if set.checkpoint ~= nil then
    set.checkpoint = check_checkpoint(set.checkpoint)
    for name, owner in pairs { model = set.model, optimizer = set.optimizer } do
      if type(owner.state_dict) ~= "function" or type(owner.load_state_dict) ~= "function" then
        core.raise(("train.fit: a checkpoint needs %s with state_dict and load_state_dict"):format(name))
      end
    end
  end
  local inner = set.optimizer
  while type(inner.optimizer) == "table" do inner = inner.optimizer end -- of an average
  if set.clip and inner.takes_no_clip then
    core.raise(("train.fit: clip: optim.%s makes its own gradients and does not take it"):format(inner.name))
  end
  if set.resume and not set.checkpoint then core.raise "train.fit: resume needs a checkpoint to go on from" end
  return set
end

--- What train.evaluate takes.
function settings.evaluate(given)
  local set = options.check("train.evaluate", given,
    { model = options.required, loss = options.required, data = options.required })
  check_kinds("train.evaluate", set)
  return set
end

return settings
