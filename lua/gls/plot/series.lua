--- Series: what a user draws, tensors or tables of numbers, as lists of numbers with names and colours.
-- @module gls.plot.series
local core = require "gls.core"
local finite = require("gls.number").finite
local options = require "gls.options"

local series = {}

--- Colours of names that are compared often; another name takes the next colour that its figure leaves free. They are
-- those of Okabe and Ito (2008), told apart by colour-blind readers.
series.colors = {
  sgd = "#6B6B6B",
  momentum = "#E69F00",
  adam = "#0072B2",
  adamw = "#56B4E9",
  gls = "#D55E00",
  ["gls-matched"] = "#009E73",
  ["gls-graft"] = "#CC79A7",
  ["gls-moving"] = "#8C6D1F",
  ["gls-window"] = "#5D3A9B",
}
local FREE = { "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#6B6B6B", "#000000" }

--- Gives every series without a colour that of its name, or the next that is free.
-- @tparam table list of series with `name` and possibly `color`, which is set
function series.give_colors(list)
  local taken, by_name, free = {}, {}, {}
  for _, one in ipairs(list) do
    one.color = one.color or series.colors[one.name]
    if one.color then taken[one.color] = true end
  end
  for _, color in ipairs(FREE) do
    if not taken[color] then free[#free + 1] = color end
  end
  for _, one in ipairs(list) do
    if not one.color then
      by_name[one.name] = by_name[one.name] or table.remove(free, 1) or "#000000"
      one.color = by_name[one.name]
    end
  end
end

local function is_list(value)
  return type(value) == "table" and (value[1] ~= nil or next(value) == nil) and getmetatable(value) == nil
end

--- Whether a value is drawn as one row of numbers: a tensor, or a list that begins with a number.
function series.is_numbers(value)
  return core.is_tensor(value) or is_list(value) and (type(value[1]) == "number" or next(value) == nil)
end

--- A tensor's values, whatever its shape, or a list, as a list of numbers; a list may have holes.
-- @tparam string where names the argument in the error
-- @param value
-- @treturn table
function series.numbers(where, value)
  if core.is_tensor(value) then
    local _ <close> = core.no_grad()
    return value:detach():reshape(-1):tolist()
  end
  if type(value) ~= "table" then
    core.raise(("%s: a tensor or a list of numbers expected, got %s"):format(where, type(value)))
  end
  for key, number in next, value do
    if math.type(key) ~= "integer" or type(number) ~= "number" then
      core.raise(("%s: a list of numbers expected, found %s at [%s]"):format(where, type(number), tostring(key)))
    end
  end
  return value
end

--- The names of a table's entries, in order.
function series.names_of(given)
  local names = {}
  for name in next, given do names[#names + 1] = name end
  table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
  return names
end

local FIELDS = {
  name = options.none, x = options.none, y = options.required,
  low = options.none, high = options.none, dashed = false, color = options.none, label = options.none, thin = false,
}

local function columns_of(tensor)
  local list = {}
  for i = 1, tensor:size(2) do list[i] = { name = tostring(i), y = tensor:select(2, i) } end
  return list
end

-- What is given as a list of tables with y. An (n×k) tensor is k columns; in a scatter plot (n×2) are points.
local function spread(where, given, points)
  if core.is_tensor(given) then
    if given:dim() > 2 then
      core.raise(("%s: a tensor of %d dimensions, expected 1 or 2 (a line for each column)"):format(where, given:dim()))
    end
    if given:dim() < 2 then return { { y = given } } end
    if not points then return columns_of(given) end
    if given:size(2) ~= 2 then
      core.raise(("%s: points are (n×2), got %d columns"):format(where, given:size(2)))
    end
    return { { x = given:select(2, 1), y = given:select(2, 2) } }
  end
  if type(given) ~= "table" then
    core.raise(("%s: a tensor, a list of numbers, or a list of series expected, got %s"):format(where, type(given)))
  end
  if series.is_numbers(given) or rawget(given, "y") ~= nil then
    return { series.is_numbers(given) and { y = given } or given }
  end
  local list = {}
  if is_list(given) then
    for i, one in ipairs(options.list(where, given)) do
      list[i] = series.is_numbers(one) and { name = tostring(i), y = one } or one
    end
    return list
  end
  for i, name in ipairs(series.names_of(given)) do
    local one = given[name]
    local copy = { name = tostring(name) }
    for key, value in next, series.is_numbers(one) and { y = one } or one do copy[key] = value end
    list[i] = copy
  end
  return list
end

-- The points of one series that can be drawn: { x, y, low, high }.
local function points_of(where, one, logarithmic)
  local y = series.numbers(where .. ": y", one.y)
  local x = one.x and series.numbers(where .. ": x", one.x)
  local low, high = one.low and series.numbers(where .. ": low", one.low),
    one.high and series.numbers(where .. ": high", one.high)
  if x and core.is_tensor(one.y) and #x ~= #y then
    core.raise(("%s: x has %d numbers, y has %d"):format(where, #x, #y))
  end
  local last = 0
  for key in next, y do last = math.max(last, key) end
  local points = {}
  for i = 1, last do
    local at, value, bottom, top = x and x[i] or not x and i or nil, y[i], low and low[i], high and high[i]
    if finite(at) and finite(value) and not (logarithmic.y and value <= 0) and not (logarithmic.x and at <= 0) then
      if not (finite(bottom) and finite(top)) or logarithmic.y and bottom <= 0 then bottom, top = value, value end
      points[#points + 1] = { at, value, bottom, top }
    end
  end
  return points
end

--- Checked series with points that can be drawn, and a colour each; those without are left out.
-- @tparam string where the function that draws
-- @param given what the user gave
-- @tparam table logarithmic { x =, y = }: values that are not positive are left out
-- @tparam[opt] boolean points whether a tensor (n×2) is points
-- @treturn table list of series with `points`
function series.of(where, given, logarithmic, points)
  local result = {}
  for i, one in ipairs(spread(where, given, points)) do
    local here = where .. ": series " .. i
    if type(one) ~= "table" then core.raise(("%s: a table expected, got %s"):format(here, type(one))) end
    local checked = options.check(here, one, FIELDS)
    if checked.label == nil then checked.label = checked.name ~= nil and not checked.dashed end
    checked.name = checked.name or ""
    checked.points = points_of(here .. (checked.name ~= "" and (" (%s)"):format(checked.name) or ""), checked,
      logarithmic)
    if #checked.points > 0 then result[#result + 1] = checked end
  end
  series.give_colors(result)
  if #result == 0 then core.raise(where .. ": no series has a point that can be drawn") end
  return result
end

--- One set of points as a series for each of its labels, named by it; without labels as given.
-- @tparam string where the function that draws
-- @param given what the user gave
-- @param labels a tensor or list of numbers, or nil
function series.grouped(where, given, labels)
  if labels == nil then return given end
  labels = series.numbers(where .. ": labels", labels)
  local list = spread(where, given, true)
  if #list ~= 1 then core.raise(where .. ": labels are for one series of points") end
  local y = series.numbers(where, list[1].y)
  local x = list[1].x and series.numbers(where, list[1].x)
  if #labels ~= #y then core.raise(("%s: %d labels for %d points"):format(where, #labels, #y)) end
  local groups = {}
  for i, label in ipairs(labels) do
    local name = ("%g"):format(label)
    local group = groups[name] or { name = name, x = {}, y = {} }
    groups[name] = group
    group.x[#group.x + 1], group.y[#group.y + 1] = x and x[i] or i, y[i]
  end
  local names, result = {}, {}
  for name in pairs(groups) do names[#names + 1] = name end
  table.sort(names, function(a, b) return tonumber(a) < tonumber(b) end)
  for i, name in ipairs(names) do result[i] = groups[name] end
  return result
end

return series
