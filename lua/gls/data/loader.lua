--- Loader: batches of a set, epoch after epoch; the work is done by the core's loader.
-- @module gls.data.loader
local core = require "gls.core"
local options = require "gls.options"
local set = require "gls.data.set"
local source = require "gls.data.source"
local strict = require "gls.strict"
local text = require "gls.data.text"
local files = core.io

local loader = {}

--- What data.loader takes, and defaults.
loader.options = {
  batch = 100, shuffle = false, drop_last = false, flatten = false, center = options.none, mean = options.none,
  scale = options.any(1), crop = 0, flip = false, rotate = 0, erase = 0, transform = options.none,
  weights = options.none, balanced = false, batches = options.none, seed = options.none, prefetch = true,
}

local Loader = { __name = "loader" }
Loader.__index = Loader

function Loader:__len() return self.batches end

function Loader:__tostring()
  return ("loader: %d batches an epoch, %d begun, of %s"):format(self.batches, self.epochs,
    getmetatable(self.set) and tostring(self.set) or "tensors")
end

-- An epoch's next batch, or nil after the last.
local function next_batch(running)
  local x, y, index = running.epoch:next()
  if not x then return nil end
  running.number = running.number + 1
  local batch = { x = x, y = y, index = index, number = running.number }
  if not running.transform then return batch end
  local changed = running.transform(batch)
  if type(changed) ~= "table" and changed ~= nil then
    core.raise("data.loader: transform gives a batch, or changes the one that it is given; got " .. type(changed))
  end
  return changed or batch
end

-- The next epoch, or the rest of the one that load_state_dict has put the loader in.
local function begin(self)
  local first = self.first or 0
  if first == 0 then self.epochs = self.epochs + 1 end
  self.first = nil
  return { epoch = self.core:start(self.seed, self.epochs, first), number = first, transform = self.transform }
end

-- `for batch in loader`: called with nil at the start of a loop, with the batch before afterwards.
function Loader:__call(_, previous)
  if previous == nil then
    self:stop()
    self.running = begin(self)
  elseif not self.running or previous ~= self.previous then
    error("data.loader: this loader is iterated by another loop too; use loader:epoch() in each", 2)
  end
  self.previous = next_batch(self.running)
  if not self.previous then self:stop() end
  return self.previous
end

--- Ends the present epoch, if one is under way.
function Loader:stop()
  local running = self.running
  self.running, self.previous = nil, nil
  if running then running.epoch:stop() end
end
Loader.__close = Loader.stop

--- Where the loader is: the seed, the number of the epoch, the batches that it has given of it (0: all), how many an
-- epoch has, and which rows these are.
function Loader:state_dict()
  return {
    seed = self.seed, epochs = self.epochs, batch = self.running and self.running.number or self.first or 0,
    batches = self.batches, rows = self.rows,
  }
end

--- Puts back what `state_dict` gave: the next loop is over the rest of that epoch, or the next one.
function Loader:load_state_dict(saved)
  for _, name in ipairs { "seed", "epochs", "batch" } do
    if type(saved) ~= "table" or math.type(saved[name]) ~= "integer" then
      core.raise "data.loader: this is not what its state_dict gives"
    end
  end
  if saved.batch < 0 or saved.batch > self.batches then
    core.raise(("data.loader: the saved state is after batch %d, an epoch of this loader has %d"):format(saved.batch,
      self.batches))
  end
  if saved.batch > 0 and saved.batches and saved.batches ~= self.batches then
    core.raise(("data.loader: the saved state is amid an epoch of %d batches, this loader's have %d: its rest would be "
      .. "other rows"):format(saved.batches, self.batches))
  end
  if saved.batch > 0 and saved.rows and saved.rows ~= self.rows then
    core.raise(("data.loader: the saved state is amid an epoch of %s, this loader has %s: the rest would be other rows")
      :format(saved.rows, self.rows))
  end
  self:stop()
  self.seed, self.epochs, self.first = saved.seed, saved.epochs, saved.batch > 0 and saved.batch or nil
end

--- One epoch, for a generic for; independent of others that are under way.
function Loader:epoch()
  local running = begin(self)
  return function() return next_batch(running) end, nil, nil, running.epoch
end

local function mean_of(from, given)
  local mean = given.mean
  if type(mean) == "table" and (mean.images or mean.x) then
    if set.is(mean) then mean = mean.mean
    else mean = mean.mean or mean.images and files.mean(mean.images) end
  elseif type(mean) == "number" then
    mean = { mean }
  elseif mean ~= nil and type(mean) ~= "table" then
    error("mean is a list of numbers, one for each channel, or a set to take it from", 0)
  end
  if given.center == false then
    if given.mean ~= nil and not set.is(given.mean) then error("center is false, but a mean is given", 0) end
    return nil
  end
  if mean == nil then mean = from.mean end
  if mean == nil and from.images then mean = files.mean(from.images) end
  if mean == nil and given.center then error("center: the set has no mean; give one as mean", 0) end
  return mean
end

local function scale_of(given)
  if type(given.scale) == "table" then return given.scale end
  if type(given.scale) ~= "number" then error("scale is a number, or a list of one for each channel", 0) end
  return given.scale ~= 1 and { given.scale } or nil
end

-- Weights by which all classes are drawn equally often.
local function balanced(labels)
  if not core.is_tensor(labels) or labels.type ~= "int32" or labels:dim() ~= 1 then
    error("balanced wants labels, int32 (N)", 0)
  end
  local weights, count = labels:tolist(), {}
  for _, label in ipairs(weights) do count[label] = (count[label] or 0) + 1 end
  for i, label in ipairs(weights) do weights[i] = 1 / count[label] end
  return weights
end

local function weights_of(labels, given)
  local weights = given.weights
  if given.balanced then
    if weights ~= nil then error("weights and balanced are two ways to draw: give one", 0) end
    return balanced(labels)
  end
  if core.is_tensor(weights) then weights = weights:contiguous():view(-1):tolist() end
  if weights ~= nil and type(weights) ~= "table" then error("weights is a list of numbers, one for each row", 0) end
  return weights
end

local function core_of(from, given)
  if text.is(from) then return text.batches(from, given) end
  if given.batches then error("batches is for random windows of a text", 0) end
  given.scale = scale_of(given)
  if source.is(from) then
    given.mean = mean_of(from, given)
    given.weights = weights_of(from.labels, given)
    return source.batches(from, given)
  end
  local x, y = from.x, from.y
  if from.images then x, y = from.images, from.labels end
  given.weights = weights_of(y, given)
  given.mean = mean_of(from, given)
  return files.loader(x, y, given)
end

-- Which rows an epoch's batches have, in words.
local function rows_of(given)
  local order = given.shuffle and "shuffled" or "in the set's order"
  if given.batches then order = "at random places" end
  if given.weights then order = "drawn by weights" end
  return ("batches of %d rows %s"):format(given.batch, order)
end

strict.methods("loader", Loader)

function loader.new(from, given)
  if type(from) ~= "table" or not (text.is(from) or source.is(from) or from.images or from.x) then
    error("a set expected, or a table with images and labels, or x and y", 0)
  end
  if given.center ~= nil and type(given.center) ~= "boolean" then error("center is true or false", 0) end
  for _, name in ipairs { "batch", "crop", "batches" } do
    if given[name] ~= nil and math.type(given[name]) ~= "integer" then
      error(("%s is %s, expected a whole number"):format(name, tostring(given[name])), 0)
    end
  end
  if given.seed ~= nil and math.type(given.seed) ~= "integer" then
    error(("seed is %s, expected a whole number"):format(tostring(given.seed)), 0)
  end
  if given.transform ~= nil and type(given.transform) ~= "function" then
    error("transform is a function of a batch, got " .. type(given.transform), 0)
  end
  local seed = given.seed or files.fresh_seed()
  local made = setmetatable({
    core = core_of(from, given), set = from, seed = seed, epochs = 0, transform = given.transform,
  }, Loader)
  made.batches, made.rows = made.core:batches(), rows_of(given)
  -- The fourth value is what a generic for closes when the loop ends, however it ends.
  return made, nil, nil, made
end

return loader
