--- Arguments: what the functions of gls.tensor check theirs with, so that they take them, and refuse them, as the rows
-- of the op table do.
-- @module gls.tensor.arguments
local core = require "gls.core"
local options = require "gls.options"

local arguments = {}

--- Raises an error that begins with the function's name.
function arguments.fail(where, format, ...) core.raise(where .. ": " .. format:format(...)) end

local function described(value)
  if core.is_tensor(value) then return "a tensor" end
  return type(value) == "number" and tostring(value) or type(value)
end

--- A tensor, or an error.
-- @tparam string where the function's name
-- @param x
-- @tparam[opt="x"] string name of the argument
function arguments.tensor(where, x, name)
  if not core.is_tensor(x) then arguments.fail(where, "%s must be a tensor, got %s", name or "x", described(x)) end
  return x
end

--- Arguments by position, or by name in a table in the place of one: `x:sort(1, true)`, `x:sort { descending = true }`.
-- @tparam string where the function's name
-- @tparam table names of the parameters
-- @param ... their arguments
-- @return the arguments in the order of their names
function arguments.named(where, names, ...)
  local values = { ... }
  for i = 1, #names do
    local given = values[i]
    if type(given) == "table" and next(given) ~= nil and given[1] == nil then
      values[i] = nil
      for name, value in pairs(given) do
        local at = 0
        for k, known in ipairs(names) do at = known == name and k or at end
        if at == 0 then
          arguments.fail(where, 'there is no argument "%s"%s', tostring(name), options.suggestion(name, names))
        end
        if at < i then arguments.fail(where, 'argument "%s" is given twice, by position and by name', name) end
        values[at] = value
      end
    end
  end
  return table.unpack(values, 1, #names)
end

--- A whole number not below `least`, or an error.
function arguments.whole(where, name, value, least)
  local whole = math.type(value) and math.tointeger(value)
  if not whole or (least and whole < least) then
    arguments.fail(where, "%s must be a whole number%s, got %s", name, least and (" from %d on"):format(least) or "",
      described(value))
  end
  return whole
end

--- A dimension of x, from 1: negative ones count from the end.
-- @tparam string where the function's name
-- @tparam tensor x
-- @param given a whole number; nil stands for `default`
-- @tparam[opt] integer default
function arguments.dimension(where, x, given, default)
  local rank = x:dim()
  local dimension = arguments.whole(where, "dimension", given == nil and default or given)
  local from_start = dimension < 0 and dimension + rank + 1 or dimension
  if from_start < 1 or from_start > rank then
    arguments.fail(where, "dimension %d is out of range: the tensor has %d (1 to %d, or -%d to -1)", dimension, rank,
      rank, rank)
  end
  return from_start
end

return arguments
