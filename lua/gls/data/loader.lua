--- Loader: batches of a set, epoch after epoch; the work is done by the core's loader.
-- @module gls.data.loader
local core = require "gls.core"
local options = require "gls.options"
local set = require "gls.data.set"
local strict = require "gls.strict"
local text = require "gls.data.text"
local files = core.io

local loader = {}

--- What data.loader takes, and defaults.
loader.options = {
  batch = 100, shuffle = false, drop_last = false, flatten = false, center = options.none, mean = options.none,
  scale = 1, crop = 0, flip = false, batches = options.none, seed = options.none, prefetch = true,
}

local Loader = { __name = "loader" }
Loader.__index = Loader

function Loader:__len() return self.batches end

-- An epoch's next batch, or nil after the last.
local function next_batch(running)
  local x, y, index = running.epoch:next()
  if not x then return nil end
  running.number = running.number + 1
  return { x = x, y = y, index = index, number = running.number }
end

local function begin(self)
  self.epochs = self.epochs + 1
  return { epoch = self.core:start(self.epochs), number = 0 }
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

local function core_of(from, given, seed)
  if text.is(from) then
    given.seed = seed
    return text.batches(from, given)
  end
  if given.batches then error("batches is for random windows of a text", 0) end
  local x, y = from.x, from.y
  if from.images then x, y = from.images, from.labels end
  return files.loader(x, y, {
    batch = given.batch, shuffle = given.shuffle, drop_last = given.drop_last, flatten = given.flatten,
    flip = given.flip, crop = given.crop, prefetch = given.prefetch, scale = given.scale, seed = seed,
    mean = mean_of(from, given),
  })
end

strict.methods("loader", Loader)

function loader.new(from, given)
  if type(from) ~= "table" or not (text.is(from) or from.images or from.x) then
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
  local seed = given.seed or files.fresh_seed()
  local made = setmetatable({ core = core_of(from, given, seed), set = from, seed = seed, epochs = 0 }, Loader)
  made.batches = made.core:batches()
  -- The fourth value is what a generic for closes when the loop ends, however it ends.
  return made, nil, nil, made
end

return loader
