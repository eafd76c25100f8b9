--- Show: what values look like at the prompt.
-- @module gls.repl.show
local chunk = require "gls.repl.chunk"
local display = require "gls.repl.display"
local terminal = require "gls.terminal"

local show = {}

local LINE = 100 -- characters of a table that still goes on one line
local FIELDS = 40 -- fields shown of a larger table
local TEXT = 60 -- characters shown of a string inside a table
local DEPTH = 3 -- tables inside tables that are shown with their fields

-- ---- colours ----

local PAINT = { string = "32", number = "36", boolean = "35", ["nil"] = "35", key = "34" }

local function painted(kind, text) return PAINT[kind] and terminal.paint(PAINT[kind], text) or text end

local function plain(text) return (text:gsub("\27%[%d*m", "")) end

-- ---- values inside tables ----

local function by_name(a, b) return tostring(a):lower() < tostring(b):lower() end

local function quoted(text)
  local cut = #text > TEXT and text:sub(1, (utf8.offset(text, 0, TEXT) or TEXT + 1) - 1)
  return (("%q"):format(cut or text):gsub("\\\n", "\\n")) .. (cut and "…" or "")
end

local function has_text(value)
  local metatable = getmetatable(value)
  return type(metatable) == "table" and metatable.__tostring ~= nil
end

local describe

-- A value inside a table. `around` has the tables that it is in, for cycles.
local function inner(value, depth, around)
  local kind = type(value)
  if kind == "string" then return painted(kind, quoted(value)) end
  if kind == "function" then return "function" end
  if kind ~= "table" or has_text(value) then
    return painted(kind, tostring(value):match "^[^\n]*") -- of a tensor its shape, without the values
  end
  if around[value] then return "{ a table that this one is in }" end
  if depth < DEPTH then return describe(value, depth + 1, around) end
  local metatable = getmetatable(value)
  local name = type(metatable) == "table" and metatable.__name
  if name then return tostring(name) end
  if next(value) == nil then return "{}" end
  local count = 0
  for _ in next, value do count = count + 1 end
  return ("{ %d %s }"):format(count, count == 1 and "field" or "fields")
end

-- Fields of a table: the list part, then names in order, then the other keys.
local function fields(value, depth, around)
  local lines, keys = {}, {}
  local length = rawlen(value)
  for i = 1, math.min(length, FIELDS) do lines[i] = inner(rawget(value, i), depth, around) end
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
    local label = chunk.is_name(key) and painted("key", key) or "[" .. inner(key, DEPTH, around) .. "]"
    lines[#lines + 1] = label .. " = " .. inner(rawget(value, key), depth, around)
  end
  return lines
end

function describe(value, depth, around)
  around[value] = true
  local lines = fields(value, depth, around)
  around[value] = nil
  local metatable = getmetatable(value)
  local name = type(metatable) == "table" and type(metatable.__name) == "string" and metatable.__name .. " " or ""
  if #lines == 0 then return name .. "{}" end
  local line = name .. "{ " .. table.concat(lines, ", ") .. " }"
  local width = utf8.len(plain(line))
  if width and width + 2 * depth <= LINE and not line:find "\n" then return line end
  local indent = ("  "):rep(depth)
  return name .. "{\n" .. indent .. "  " .. table.concat(lines, ",\n" .. indent .. "  ") .. "\n" .. indent .. "}"
end

--- A value in short: a table with its own fields alone.
function show.brief(value) return inner(value, DEPTH - 1, {}) end

--- The text of one result: tables with the tables in them, to a depth; what has a display of its own; everything else
-- as tostring has it.
-- @param value any value
-- @treturn string
function show.describe(value)
  local own = display.of(value)
  if own then return own(value) end
  if type(value) == "table" and not has_text(value) then return describe(value, 0, {}) end
  return painted(type(value), tostring(value))
end

--- Prints results, each on a line of its own.
-- @param ... the results
function show.print(...)
  for i = 1, select("#", ...) do io.write(show.describe((select(i, ...))), "\n") end
end

return show
