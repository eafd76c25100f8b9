--- The Lua side of the prompt: what results look like, what Tab offers, and what is there at the start.
-- @module gls.repl
local repl = {}

local LINE = 100 -- characters of a table that still goes on one line
local FIELDS = 40 -- fields shown of a larger table
local TEXT = 60 -- characters shown of a string inside a table

local reserved = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then true
  until while]]):gmatch "%a+" do
  reserved[word] = true
end

local function is_name(key) return type(key) == "string" and key:find "^[%a_][%w_]*$" and not reserved[key] end

local function by_name(a, b) return tostring(a):lower() < tostring(b):lower() end

-- A value inside a table, on one line.
local function brief(value)
  local kind = type(value)
  if kind == "string" then
    if #value > TEXT then return ("%q"):format(value:sub(1, TEXT)):gsub("\\\n", "\\n") .. "…" end
    return (("%q"):format(value):gsub("\\\n", "\\n"))
  end
  local metatable = getmetatable(value)
  if kind == "table" and not (type(metatable) == "table" and metatable.__tostring) then
    local name = type(metatable) == "table" and metatable.__name
    if name then return tostring(name) end
    if next(value) == nil then return "{}" end
    local count = 0
    for _ in pairs(value) do count = count + 1 end
    return ("{ %d %s }"):format(count, count == 1 and "field" or "fields")
  end
  if kind == "function" then return "function" end
  return tostring(value):match "^[^\n]*" -- a tensor: its shape, without the values
end

-- Fields of a table as lines: the list part, then names in order, then the other keys.
local function fields(value)
  local lines, keys = {}, {}
  local length = rawlen(value)
  for i = 1, math.min(length, FIELDS) do lines[i] = brief(rawget(value, i)) end
  if length > FIELDS then lines[#lines + 1] = ("… %d more"):format(length - FIELDS) end
  for key in next, value do
    if not (math.type(key) == "integer" and key >= 1 and key <= length) then keys[#keys + 1] = key end
  end
  table.sort(keys, by_name)
  for i, key in ipairs(keys) do
    if i > FIELDS then
      lines[#lines + 1] = ("… %d more"):format(#keys - FIELDS)
      break
    end
    local label = is_name(key) and key or "[" .. brief(key) .. "]"
    lines[#lines + 1] = label .. " = " .. brief(rawget(value, key))
  end
  return lines
end

--- The text of one result: tables without `__tostring` one level deep, everything else as tostring has it.
-- @param value any value
-- @treturn string
function repl.describe(value)
  local metatable = getmetatable(value)
  if type(value) ~= "table" or (type(metatable) == "table" and metatable.__tostring) then return tostring(value) end
  local lines = fields(value)
  local name = type(metatable) == "table" and type(metatable.__name) == "string" and metatable.__name .. " " or ""
  if #lines == 0 then return name .. "{}" end
  local line = name .. "{ " .. table.concat(lines, ", ") .. " }"
  if utf8.len(line) and utf8.len(line) <= LINE then return line end
  return name .. "{\n  " .. table.concat(lines, ",\n  ") .. "\n}"
end

--- Prints the results of a chunk, each on a line of its own.
-- @param ... the results
function repl.show(...)
  for i = 1, select("#", ...) do io.write(repl.describe((select(i, ...))), "\n") end
end

-- Names under a value that begin with a prefix: its own fields, then those of its metatable's __index, to the end of
-- the chain. Methods only, when a colon was typed.
local function names_under(value, prefix, methods_only)
  local found, list, seen = {}, {}, {}
  local function add(fields_of)
    for key, field in next, fields_of do
      if is_name(key) and not found[key] and key:sub(1, #prefix) == prefix
        and (not methods_only or type(field) == "function") and (prefix ~= "" or key:sub(1, 2) ~= "__") then
        found[key] = true
        list[#list + 1] = key
      end
    end
  end
  for _ = 1, 20 do
    if type(value) == "table" and not seen[value] then
      seen[value] = true
      add(value)
    end
    local metatable = debug.getmetatable(value)
    local index = type(metatable) == "table" and rawget(metatable, "__index") or nil
    -- Values whose __index is a function (tensors) keep their methods in the field `methods`, or in the metatable.
    if type(index) == "function" then index = rawget(metatable, "methods") or metatable end
    if type(index) ~= "table" or seen[index] then break end
    value = index
  end
  table.sort(list)
  return list
end

local function common_prefix(list)
  local first, last = list[1], list[#list] -- in order, so these two differ the most
  local n = 0
  while n < #first and first:byte(n + 1) == last:byte(n + 1) do n = n + 1 end
  return first:sub(1, n)
end

local function columns(list)
  local width = 0
  for _, name in ipairs(list) do width = math.max(width, #name + 2) end
  local per_line = math.max(1, 80 // width)
  local lines = {}
  for i = 1, #list, per_line do
    local line = {}
    for j = i, math.min(i + per_line - 1, #list) do line[#line + 1] = list[j] .. (" "):rep(width - #list[j]) end
    lines[#lines + 1] = (table.concat(line):gsub("%s+$", ""))
  end
  return table.concat(lines, "\n")
end

--- What Tab does: the global, field or method name before the cursor is completed as far as it is certain.
-- @tparam string line the text before the cursor
-- @treturn string what to insert, possibly empty
-- @treturn string|nil the candidates in columns, when there are several
function repl.complete(line)
  if line:find "^%s*$" then return "  " end
  local path, prefix = line:match "([%a_][%w_%.]*[%.:])([%a_]?[%w_]*)$"
  local methods_only = false
  local value = _G
  if path then
    methods_only = path:sub(-1) == ":"
    for name in path:gmatch "[%w_]+" do
      local ok, field = pcall(function() return value[name] end)
      if not ok or field == nil then return "" end
      value = field
    end
  else
    prefix = line:match "([%a_][%w_]*)$"
    if not prefix or line:sub(-#prefix - 1, -#prefix - 1):find "[%.:%]%)]" then return "" end
  end
  local list = names_under(value, prefix, methods_only)
  if #list == 0 then return "" end
  if #list == 1 then return list[1]:sub(#prefix + 1) end
  return common_prefix(list):sub(#prefix + 1), columns(list)
end

--- Opens the prompt: gls, nn, optim and data become globals, where a script has not set them.
-- @tparam string version of the program
function repl.start(version)
  local modules = { gls = "gls", nn = "gls.nn", optim = "gls.optim", data = "gls.data" }
  for name, module in pairs(modules) do
    if rawget(_G, name) == nil then rawset(_G, name, require(module)) end
  end
  print(("glsrun %s, %s, %d threads. gls, nn, optim and data are loaded."):format(version, _VERSION,
    require("gls").threads()))
  print "Tab completes, Ctrl-C stops, Ctrl-D leaves."
end

return repl
