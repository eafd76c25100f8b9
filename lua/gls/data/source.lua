--- Source: a set whose rows a function gives, one by one, as they are wanted; and its batches.
-- @module gls.data.source
local core = require "gls.core"
local batches = require "gls.data.batches"
local strict = require "gls.strict"
local files = core.io

local source = {}

local Source = { __name = "source" }
local methods = {}

Source.__index = methods

function Source:__len() return self.size end

function Source:__tostring() return ("%s: %d rows, made by a function"):format(self.name, self.size) end

--- Whether a value is a set made here.
function source.is(value) return getmetatable(value) == Source end

--- Makes a set (data.set says what `given` has).
function source.new(given)
  if math.type(given.size) ~= "integer" or given.size < 1 or given.size > 0x7fffffff then
    error(("size is %s, expected a whole number from 1"):format(tostring(given.size)), 0)
  end
  if type(given.get) ~= "function" then error("get is a function of a row's number, got " .. type(given.get), 0) end
  local labels = given.labels
  if labels ~= nil and not (core.is_tensor(labels) and labels.type == "int32" and labels:dim() == 1
    and labels:size(1) == given.size) then
    error(("labels is int32 (%d), what balanced draws by"):format(given.size), 0)
  end
  local classes = given.classes
  if math.type(classes) == "integer" and classes > 0 then
    local names = {}
    for i = 1, classes do names[i] = tostring(i) end
    classes = names
  elseif classes ~= nil and type(classes) ~= "table" then
    error("classes is a list of names, or their number", 0)
  end
  return setmetatable({
    size = given.size, get = given.get, labels = labels, name = given.name, note = given.name, classes = classes,
  }, Source)
end

--- Rows by their numbers.
function methods:take(rows)
  if type(rows) == "table" then rows = core.tensor(rows, { type = "int32" }) end
  local list = rows:tolist()
  for _, row in ipairs(list) do
    if row < 1 or row > self.size then error(("row %d: the set has 1 to %d"):format(row, self.size), 2) end
  end
  return source.new {
    size = #list, name = self.name, classes = self.classes,
    labels = self.labels and files.take_rows(self.labels, rows), get = function(i) return self.get(list[i]) end,
  }
end

--- Refuses, at the line of who called the caller, rows that a set does not have.
function source.check_range(whole, first, count)
  if math.type(first) ~= "integer" or math.type(count) ~= "integer" or first < 1 or count < 1
    or first + count - 1 > #whole then
    error(("set:narrow(%s, %s): the set has rows 1 to %d"):format(tostring(first), tostring(count), #whole), 3)
  end
end

--- Rows first to first + count - 1.
function methods:narrow(first, count)
  source.check_range(self, first, count)
  return source.new {
    size = count, name = self.name, classes = self.classes, labels = self.labels
      and self.labels:narrow(1, first, count),
    get = function(i) return self.get(first + i - 1) end,
  }
end

strict.methods("set", methods)

-- ---- batches ----

-- What a function gave for a row, as a tensor: whole numbers as int32.
local function tensor_of(value, row, what)
  if core.is_tensor(value) then return value end
  if math.type(value) == "integer" then return core.tensor(value, { type = "int32" }) end
  if type(value) == "number" or type(value) == "table" then return core.tensor(value) end
  error(("data.set: get(%d) gives %s as %s; expected a tensor, a number or a list of numbers"):format(row, type(value),
    what), 0)
end

local function stack(values, rows, what)
  local good, result = pcall(core.stack, values, 1)
  if good then return result end
  for i = 2, #values do
    local first, other = values[1], values[i]
    local function described(t) return ("%s (%s)"):format(t.type, table.concat(t.shape, "×")) end
    if described(first) ~= described(other) then
      error(("data.set: get gives %s of %s for row %d, of %s for row %d: all rows must be alike"):format(what,
        described(first), rows[1], described(other), rows[i]), 0)
    end
  end
  error(result, 0)
end

-- x and y of rows.
local function assemble(set, rows)
  local xs, ys = {}, {}
  for i, row in ipairs(rows) do
    local x, y = set.get(row)
    xs[i] = tensor_of(x, row, "x")
    if y ~= nil then ys[i] = tensor_of(y, row, "y") end
    if (y ~= nil) ~= (ys[1] ~= nil) then
      error(("data.set: get gives a y for some rows only: row %d is unlike row %d"):format(row, rows[1]), 0)
    end
  end
  local y = ys[1] and stack(ys, rows, "y")
  if y and set.classes then
    if y.type ~= "int32" then error("data.set: classes are given, but y is not labels, whole numbers", 0) end
    local at, label = files.find_outside(y, 1, #set.classes)
    if at then
      error(("data.set: get(%d) gives the label %d, expected 1 to %d"):format(rows[at], label, #set.classes), 0)
    end
  end
  return stack(xs, rows, "x"), y and y:dim() == 1 and y.type ~= "int32" and y:view(-1, 1) or y
end

--- What data.loader asks of such a set, in place of the core's loader. Rows are made on the script's own thread, when
-- they are asked for; the core's loader then makes a batch of them as of any others.
-- @tparam table set
-- @tparam table given the loader's options
function source.batches(set, given)
  if given.batch < 1 then error(("batch is %d, expected 1 or more"):format(given.batch), 0) end
  local count = given.drop_last and set.size // given.batch or (set.size - 1) // given.batch + 1
  if count == 0 then error("no batch: the rows are less than one batch, and drop_last is set", 0) end
  local inner = {}
  for name, value in pairs(given) do inner[name] = value end
  inner.shuffle, inner.weights, inner.drop_last, inner.prefetch = false, nil, false, false
  return batches.of(count, function(seed, epoch)
    local order = (given.shuffle or given.weights) and files.order(set.size, seed, epoch, given.weights)
    return function(number)
      local from = (number - 1) * given.batch + 1
      local size = math.min(given.batch, set.size - from + 1)
      local rows = order and order:narrow(1, from, size)
        or core.arange(from, from + size):to "int32"
      local x, y = assemble(set, rows:tolist())
      inner.batch = size
      -- A number of its own for every batch: the augmentation is drawn anew.
      local one <close> = files.loader(x, y, inner)
      local made <close> = one:start(seed, epoch << 24 | number, 0)
      local made_x, made_y = made:next()
      return made_x, made_y, rows
    end
  end)
end

return source
