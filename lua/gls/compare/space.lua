--- Space: what an optimizer is searched over, and the points of a quasi-random search in it.
-- @module gls.compare.space
local number = require "gls.number"

local space = {}

local Dimension = { __name = "compare.dimension" }

local function dimension(text, at) return setmetatable({ text = text, at = at }, Dimension) end

local function check_range(where, low, high, least)
  if number.finite(low) and number.finite(high) and low < high and low > least
    and number.finite(least == 0 and high / low or high - low) then
    return
  end
  error(("%s(%s, %s): two finite numbers expected, the smaller first%s"):format(where, tostring(low), tostring(high),
    least == 0 and ", above 0" or ""), 3)
end

-- Settings are written and read by people: three digits, more where a range is narrow.
local function rounded(value, low, high)
  local digits = 3 + math.max(0, math.floor(math.log(math.max(math.abs(low), math.abs(high)) / (high - low), 10)))
  return math.min(math.max(tonumber(("%%.%dg"):format(math.min(digits, 17)):format(value)), low), high)
end

--- A setting searched between two numbers, evenly in its logarithm.
-- @tparam number low above 0
-- @tparam number high above low
function space.log(low, high)
  check_range("compare.log", low, high, 0)
  return dimension(("%s to %s, log"):format(number.setting(low), number.setting(high)),
    function(u) return rounded(low * (high / low) ^ u, low, high) end)
end

--- A setting searched evenly between two numbers.
-- @tparam number low
-- @tparam number high above low
function space.uniform(low, high)
  check_range("compare.uniform", low, high, -math.huge)
  return dimension(("%s to %s"):format(number.setting(low), number.setting(high)),
    function(u) return rounded(low + (high - low) * u, low, high) end)
end

--- A setting that is one of a list of values.
-- @tparam table values at least one
function space.choice(values)
  if type(values) ~= "table" or #values == 0 then error("compare.choice: a list of values expected", 2) end
  local texts = {}
  for i, value in ipairs(values) do
    if type(value) == "number" and not number.finite(value) then
      error(("compare.choice: value %d is %s, expected a finite number"):format(i, tostring(value)), 2)
    end
    texts[i] = number.setting(value)
  end
  return dimension(table.concat(texts, ", "), function(u) return values[math.floor(u * #values) + 1] end)
end

-- A space's dimensions by name, in order; what is none has one value.
local function dimensions(given)
  local names = {}
  for name, value in pairs(given) do
    if getmetatable(value) == Dimension then names[#names + 1] = name end
  end
  table.sort(names)
  return names
end

--- A space in words: `learning_rate` 1e-4 to 1e-2, log; `beta2` 0.9, 0.99.
-- @tparam table given name → dimension or value
-- @treturn string
function space.describe(given)
  local names, parts = {}, {}
  for name in pairs(given) do names[#names + 1] = name end
  table.sort(names)
  for i, name in ipairs(names) do
    local value = given[name]
    parts[i] = ("`%s` %s"):format(name, getmetatable(value) == Dimension and value.text or number.setting(value))
  end
  return #parts > 0 and table.concat(parts, "; ") or "nothing to search"
end

local PRIMES = { 2, 3, 5, 7, 11, 13, 17, 19, 23, 29 }

-- i's digits in a base, mirrored behind the point: van der Corput's sequence.
local function mirrored(i, base)
  local value, place = 0, 1 / base
  while i > 0 do
    value, i, place = value + i % base * place, i // base, place / base
  end
  return value
end

--- Points of a space: Halton's sequence (1960), moved by a random shift modulo 1 (Cranley and Patterson, 1976), so that
-- several searches are independent.
-- @tparam table given name → dimension or value
-- @tparam integer count
-- @tparam function stream what random.stream gave
-- @treturn table list of settings
function space.points(given, count, stream)
  local names, shifts, points = dimensions(given), {}, {}
  if #names > #PRIMES then error(("a space of %d settings: at most %d"):format(#names, #PRIMES), 0) end
  for k in ipairs(names) do shifts[k] = stream() end
  for i = 1, count do
    local point = {}
    for name, value in pairs(given) do point[name] = value end
    for k, name in ipairs(names) do point[name] = given[name].at((mirrored(i, PRIMES[k]) + shifts[k]) % 1) end
    points[i] = point
  end
  return points
end

return space
