--- Options: tables with named fields, checked. An unknown field is an error that suggests the nearest name.
-- @module gls.options
local core = require "gls.core"

local options = {}

local function marker(name)
  return setmetatable({}, { __name = name, __tostring = function() return name end })
end

--- Marks an option without a default: absent means nil.
options.none = marker "options.none"

--- Marks an option that has to be given.
options.required = marker "options.required"

local any_type = {}

--- Marks an option whose values may be of another type than its default (a number or "auto").
-- @param default what absent means
function options.any(default) return setmetatable({ default = default }, any_type) end

--- The known name nearest to a given one.
-- @tparam string given what the user wrote
-- @tparam table names either a list of names or a table whose keys are the names
-- @treturn string|nil the nearest name, or nil when none is near
function options.nearest(given, names)
  local candidates = {}
  if #names > 0 then
    for _, name in ipairs(names) do candidates[#candidates + 1] = name end
  else
    for name in pairs(names) do
      if type(name) == "string" then candidates[#candidates + 1] = name end
    end
  end
  return core.nearest(tostring(given), candidates)
end

--- The end of a message about an unknown name: `; did you mean "batch"?`, or the list of names.
-- @tparam string given what the user wrote
-- @tparam table names a list of names or a table whose keys are the names
-- @treturn string
function options.suggestion(given, names)
  local near = options.nearest(given, names)
  if near then return ('; did you mean "%s"?'):format(near) end
  local list = {}
  if #names > 0 then
    for _, name in ipairs(names) do list[#list + 1] = name end
  else
    for name in pairs(names) do list[#list + 1] = tostring(name) end
    table.sort(list)
  end
  if #list == 0 then return "; there are none" end
  return "; known: " .. table.concat(list, ", ")
end

-- In the order of names, so that of several errors the same one is told every time.
local function sorted_pairs(named)
  local names, i = {}, 0
  for name in pairs(named) do names[#names + 1] = name end
  table.sort(names)
  return function()
    i = i + 1
    return names[i], named[names[i]]
  end
end

--- Checks a table of options and fills in defaults.
-- @tparam string where the function the options are for, named in errors ("data.loader")
-- @tparam table|nil given what the user gave; nil counts as {}
-- @tparam table allowed name → default, options.any(default), options.none (absent is nil) or
-- options.required
-- @treturn table a new table; given is left as it was
-- @raise on a field that is not in allowed (with the nearest name), a missing required one, or a value
-- whose type differs from a boolean, number or string default's.
function options.check(where, given, allowed)
  if given == nil then given = {} end
  if type(given) ~= "table" then
    core.raise(("%s: expected a table of options, got %s"):format(where, type(given)))
  end
  local result = {}
  -- The first unknown name in order, so that the message does not depend on the order of pairs.
  local unknown
  for name in pairs(given) do
    if allowed[name] == nil and (not unknown or tostring(name) < tostring(unknown)) then unknown = name end
  end
  if unknown ~= nil then
    if type(unknown) ~= "string" then
      local message = "%s: options have names, as { name = value }; found a value at [%s]"
      core.raise(message:format(where, tostring(unknown)))
    end
    core.raise(('%s: unknown option "%s"%s'):format(where, unknown, options.suggestion(unknown, allowed)))
  end
  for name, default in sorted_pairs(allowed) do
    local value = given[name]
    if value ~= nil then
      local kind = type(default)
      if (kind == "boolean" or kind == "number" or kind == "string") and type(value) ~= kind then
        core.raise(("%s: option %s: expected %s, got %s"):format(where, name, kind, type(value)))
      end
      result[name] = value
    elseif default == options.required then
      core.raise(('%s: option "%s" is required'):format(where, name))
    elseif getmetatable(default) == any_type then
      result[name] = default.default
    elseif default ~= options.none then
      result[name] = default
    end
  end
  return result
end

--- Refuses a list with a hole, as a misspelt variable leaves one: `#` and ipairs would end before it.
-- @tparam string where what the list is for, named in the error
-- @tparam table list
-- @treturn table the list
-- @raise naming the first entry that is nil
function options.list(where, list)
  local last = 0
  for key in pairs(list) do
    if math.type(key) == "integer" and key > last then last = key end
  end
  for i = 1, last do
    if list[i] == nil then
      core.raise(("%s: entry %d of the list is nil (a misspelt variable?), entry %d is not"):format(where, i,
        last))
    end
  end
  return list
end

return options
