--- Tasks: what optimizers are compared on. A task is a file that returns a table; experiments/tasks/ has those that
-- come along.
-- @module gls.compare.tasks
local check = require "gls.options"
local data = require "gls.data"
local entries = require "gls.compare.entries"
local misuse = require "gls.experiment.misuse"

local tasks = {}

--- Those that come along, in the order of reports.
tasks.built_in = { "mlp", "cnn", "resnet8", "autoencoder", "transformer", "lstm" }

--- What a task says.
-- @field name, version (a whole number: raised when anything of the task changes), title
-- @field sets names of data.open, the first that is found is taken; or "text"; or `open`, a function of the task that
--   gives `{ train =, valid =, test = }`
-- @field samples, validation, test how many images (or tokens) each part has; validation and test are parts of what
--   training never sees
-- @field context of a text (64)
-- @field model function(set, settings) gives a module; `options` and `initialisation` reach it as settings.model and
--   settings.initialisation
-- @field loss function(output, batch) gives a tensor of one element, above 0
-- @field data options of all loaders: flatten, center, scale
-- @field augment options of the training's alone: flip, crop
-- @field batch, steps of a run
-- @field target the validation loss to reach; default: what the best tuned baseline ends at
-- @field head names of the output layer, which optimizers of matrices leave to AdamW
-- @field short what of the above is different in the answer of twenty minutes
local TASK = {
  name = check.required, version = check.required, title = check.required, sets = check.none, open = check.none,
  samples = 0, validation = 2000, test = 2000, context = 64, model = check.required, options = check.any {},
  initialisation = check.none, loss = check.required, loss_name = "loss", classify = false, data = check.any {},
  augment = check.any {}, batch = check.required, steps = check.required, target = check.none, head = check.any {},
  short = check.any {},
}

local COUNTS = { "version", "batch", "steps" }

local function checked(where, given, mode)
  local merged = {}
  for name, value in pairs(given) do merged[name] = value end
  for name, value in pairs(mode == "short" and given.short or {}) do merged[name] = value end
  local good, task = pcall(check.check, where, merged, TASK)
  if not good then misuse.raise("%s", task) end
  for _, name in ipairs(COUNTS) do
    if math.type(task[name]) ~= "integer" or task[name] < 1 then
      misuse.raise("%s: %s is a whole number from 1, got %s", where, name, tostring(task[name]))
    end
  end
  if (task.open == nil) == (task.sets == nil) then
    misuse.raise("%s: either sets or open says where its data is", where)
  end
  if task.target and not (type(task.target) == "number" and task.target > 0) then
    misuse.raise("%s: target is a loss above 0, got %s", where, tostring(task.target))
  end
  return task
end

local function folder()
  local here = debug.getinfo(1, "S").source:match "^@(.*)lua/gls/compare/tasks%.lua$"
  return (here or "") .. "experiments/tasks/"
end

--- A task by the name of one that comes along, or from a file.
-- @tparam string text
-- @tparam string mode "short" or "study"
-- @treturn table task, without its data
function tasks.load(text, mode)
  local path = text
  if not text:find "%.lua$" then
    local known = false
    for _, name in ipairs(tasks.built_in) do known = known or name == text end
    if not known then
      misuse.raise("unknown task %q%s; a file ends in .lua", text, check.suggestion(text, tasks.built_in))
    end
    path = folder() .. text .. ".lua"
  end
  local given, source = entries.load_file(path, "task " .. text)
  local task = checked(path, given, mode)
  task.source = source
  return task
end

-- ---- data ----

local function open_text(task, dir)
  local train = data.text { dir = dir, split = "train", context = task.context,
    samples = task.samples > 0 and task.samples or nil }
  local rest = data.text { dir = dir, split = "validation", context = task.context,
    samples = task.validation + task.test }
  return train, rest
end

local function open_images(task, name, dir)
  local function part(split, samples)
    return data.open(name, { split = split, dir = dir, samples = samples > 0 and samples or nil })
  end
  return part("train", task.samples), part("test", task.validation + task.test)
end

-- The first of the named sets that is there; where none is, the error of the first.
local function open_first(task, names, dir)
  local first
  for _, name in ipairs(names) do
    local results = table.pack(pcall(open_images, task, name, dir))
    if results[1] then return results[2], results[3], name end
    if misuse.is_interrupt(results[2]) then error(results[2], 0) end
    first = first or results[2]
  end
  misuse.raise("task %s: %s", task.name, (tostring(first):gsub("^[^\n:]-%.lua:%d+: ", "")))
end

--- Opens a task's data: `task.sets` becomes `{ train =, valid =, test = }`, `task.note` what it is, `task.fingerprint`.
-- @tparam table task
-- @tparam[opt] string dir the data directory
-- @tparam[opt] string name of a set of images in place of the task's own
-- @treturn table task
function tasks.open(task, dir, name)
  local sets = {}
  if task.open then
    sets = task.open(task)
    if type(sets) ~= "table" or not (sets.train and sets.valid and sets.test) then
      misuse.raise("task %s: open gives a table { train =, valid =, test = }", task.name)
    end
    task.note, task.fingerprint = sets.note or task.name .. "'s own data", sets.fingerprint or task.source
  else
    local rest, found
    if task.sets == "text" then
      sets.train, rest = misuse.attempt(open_text, task, dir)
    else
      sets.train, rest, found = open_first(task, name and { name } or task.sets, dir)
      if not name and found ~= task.sets[1] then task.stand_in = ("%s in place of %s"):format(found, task.sets[1]) end
    end
    sets.valid, sets.test = rest:narrow(1, task.validation), rest:narrow(task.validation + 1, task.test)
    task.note = sets.train.note or sets.train.name
    task.fingerprint = ("%s %s %s"):format(sets.train.name, sets.train.fingerprint, rest.fingerprint)
  end
  task.sets = sets
  if #sets.train < task.batch and not task.context then
    misuse.raise("task %s: the batch of %d is more than its %d samples", task.name, task.batch, #sets.train)
  end
  return task
end

return tasks
