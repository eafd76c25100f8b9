--- Set: rows of images with labels, or of tensors.
-- @module gls.data.set
local core = require "gls.core"
local source = require "gls.data.source"
local strict = require "gls.strict"
local files = core.io

local set = {}

local Set = { __name = "set" }

-- Fields that are computed when they are first asked for.
local lazy = {}

function lazy.mean(self)
  local of = rawget(self, "mean_of")
  if of then return of().mean end
  return self.images and files.mean(self.images) or nil
end

function lazy.fingerprint(self)
  local rows, targets = self.images or self.x, self.labels or self.y
  local checksum = targets and files.checksum(rows, targets) or files.checksum(rows)
  return ("%08x"):format(checksum)
end

local methods = {}

function Set:__index(key)
  if methods[key] then return methods[key] end
  if not lazy[key] then return nil end
  local value = lazy[key](self)
  rawset(self, key, value)
  return value
end

function Set:__len() return (self.images or self.x):size(1) end

function Set:__tostring()
  local rows = self.images or self.x
  return ("%s: %d rows of %s %s"):format(self.name, #self, rows.type,
    table.concat(rows.shape, "×", 2, rows:dim()))
end

--- Whether a value is a set made here.
function set.is(value) return getmetatable(value) == Set end

--- Makes a set of checked fields.
-- @tparam table fields images, labels (or x, y), classes, name, note, split; mean, or mean_of: a function that gives
-- the set whose mean it has
function set.new(fields) return setmetatable(fields, Set) end

-- The same facts about other rows.
local function part(self, rows, targets, note)
  local result = {
    classes = self.classes, name = self.name, split = self.split, note = note or self.note,
    mean_of = function() return self end,
  }
  if self.images then result.images, result.labels = rows, targets
  else result.x, result.y = rows, targets end
  return set.new(result)
end

--- Rows by their numbers.
-- @param rows int32 tensor or list of numbers from 1
-- @treturn table set, with this one's mean
function methods:take(rows)
  if type(rows) == "table" then rows = core.tensor(rows, { type = "int32" }) end
  local targets = self.labels or self.y
  return part(self, files.take_rows(self.images or self.x, rows), targets and files.take_rows(targets, rows))
end

--- Rows first to first + count - 1, without a copy.
-- @treturn table set, with this one's mean
function methods:narrow(first, count)
  source.check_range(self, first, count)
  local targets = self.labels or self.y
  return part(self, (self.images or self.x):narrow(1, first, count), targets and targets:narrow(1, first, count))
end

strict.methods("set", methods)

--- The first of a fixed shuffle; nil: all of them.
-- @tparam integer count how many there are
-- @tparam integer|nil samples how many are wanted
-- @tparam integer seed
-- @tparam string name of the set, for the error
-- @return int32 tensor of row numbers
function set.choose(count, samples, seed, name)
  if samples ~= nil and (math.type(samples) ~= "integer" or samples < 1) then
    error(("samples is %s, expected a whole number from 1"):format(tostring(samples)), 0)
  end
  if samples and samples > count then
    error(("%d samples wanted, but %s has %d"):format(samples, name, count), 0)
  end
  if math.type(seed) ~= "integer" then error(("seed is %s, expected a whole number"):format(tostring(seed)), 0) end
  local order = files.permutation(count, seed)
  return samples and order:narrow(1, 1, samples) or order
end

-- How many rows each share is of.
local function sizes_of(shares, count)
  local sizes, sum = {}, 0
  for i, share in ipairs(shares) do
    local held = share
    if type(share) ~= "number" then
      error("the part to hold out is a share or a number of rows, or a list of such", 0)
    end
    if share > 0 and share < 1 then held = math.floor(share * count + 0.5) end
    held = math.tointeger(held)
    if not held or held < 1 then
      error(("%s of %d rows held out: all parts must have some"):format(tostring(share), count), 0)
    end
    sizes[i], sum = held, sum + held
  end
  if sum < 1 or sum >= count then
    error(("%d of %d rows held out: all parts must have some"):format(sum, count), 0)
  end
  return sizes, count - sum
end

function set.split(whole, shares, seed)
  if not (set.is(whole) or source.is(whole)) then error("a set expected, got " .. type(whole), 0) end
  local sizes, first = sizes_of(type(shares) == "table" and shares or { shares }, #whole)
  local order = set.choose(#whole, nil, seed or 1, whole.name)
  local parts = { whole:take(order:narrow(1, 1, first)) }
  for i, size in ipairs(sizes) do
    parts[i + 1], first = whole:take(order:narrow(1, first + 1, size)), first + size
  end
  for i, part_ in ipairs(parts) do
    part_.split = i == 1 and "train" or i == 2 and "validation" or "test"
    -- Bytes have a mean of their own, for the held out rows must not be looked at.
    if i > 1 then part_.mean_of = function() return parts[1] end
    elseif part_.images then part_.mean_of = nil end
  end
  return table.unpack(parts)
end

local function is_tensor(value) return type(value) == "userdata" and pcall(function() return value:dim() end) end

local function check_finite(name, tensor)
  if tensor.type == "int32" or tensor.type == "uint8" then return end
  local row, value = files.find_nonfinite(tensor)
  if row then error(("%s: row %d holds %s (allow_nan = true takes it)"):format(name, row, tostring(value)), 0) end
end

local function check_classes(y, classes)
  local count = type(classes) == "table" and #classes or classes
  if math.type(count) ~= "integer" or count < 1 or count > 0x7fffffff then
    error("classes is a list of names, or their number", 0)
  end
  if not y or y.type ~= "int32" then error("classes are given, but y is not labels of int32", 0) end
  local row, label = files.find_outside(y, 1, count)
  if row then error(("y: row %d has label %d, expected 1 to %d"):format(row, label, count), 0) end
  if type(classes) == "table" then return classes end
  local names = {}
  for i = 1, count do names[i] = tostring(i) end
  return names
end

function set.tensors(given)
  local x, y = given.x, given.y
  if not is_tensor(x) then error("x: a tensor expected, got " .. type(x), 0) end
  if y ~= nil and not is_tensor(y) then error("y: a tensor expected, got " .. type(y), 0) end
  if x:dim() < 1 or x:numel() == 0 then error("x: the set is empty", 0) end
  if x.type == "int32" then error("x: reals or uint8 expected, got int32", 0) end
  if y and (y:dim() < 1 or y:size(1) ~= x:size(1)) then
    error(("x has %d rows, y has %s"):format(x:size(1), y:dim() < 1 and "none" or tostring(y:size(1))), 0)
  end
  if not given.allow_nan then
    check_finite("x", x)
    if y then check_finite("y", y) end
  end
  local fields = { name = given.name, note = given.name }
  if given.classes ~= nil then fields.classes = check_classes(y, given.classes) end
  if x.type == "uint8" then
    if x:dim() == 3 then x = x:view(x:size(1), 1, x:size(2), x:size(3)) end
    if x:dim() ~= 4 then error("x: images of uint8 are (N, H, W) or (N, C, H, W)", 0) end
    fields.images, fields.labels = x, y
  else
    fields.x, fields.y = x, y
  end
  return set.new(fields)
end

return set
