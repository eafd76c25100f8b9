--- CSV: a table of numbers, with a column to predict, as a set (RFC 4180: fields in quotes may hold separators, line
-- ends and doubled quotes).
-- @module gls.data.csv
local core = require "gls.core"
local file = require "gls.file"
local options = require "gls.options"
local set = require "gls.data.set"

local csv = {}

--- What data.csv takes, and defaults.
csv.options = {
  path = options.required, target = options.none, columns = options.none, header = options.none, separator = ",",
  classes = options.none, missing = options.none, name = options.none,
}

-- The records of a text: lists of fields, each with the number of its line.
local function records(text, separator, path)
  local list, at, line, stop = {}, 1, 1, "[" .. separator:gsub("%p", "%%%0") .. "\r\n]"
  text = text:gsub("^\xEF\xBB\xBF", "")
  while at <= #text do
    local record = { line = line }
    repeat
      local field
      if text:sub(at, at) == '"' then
        local from = at + 1
        repeat
          local quote = text:find('"', from, true)
            or error(("%s: line %d: a quote without an end"):format(path, record.line), 0)
          from = quote + 2
        until text:sub(quote + 1, quote + 1) ~= '"'
        field = text:sub(at + 1, from - 3)
        line = line + select(2, field:gsub("\n", ""))
        field, at = field:gsub('""', '"'), from - 1
        if at <= #text and not text:find("^" .. stop, at) then
          error(("%s: line %d: more after a quoted field"):format(path, line), 0)
        end
      else
        local last = text:find(stop, at) or #text + 1
        field, at = text:sub(at, last - 1), last
      end
      record[#record + 1] = field
      local more = text:sub(at, at) == separator
      at = at + (more and 1 or 0)
    until not more
    at, line = select(2, text:find("^\r?\n?", at)) + 1, line + 1
    if #record > 1 or record[1] ~= "" then list[#list + 1] = record end
  end
  return list
end

local function number_of(field)
  field = field:match "^%s*(.-)%s*$"
  return field:find "^[+-]?%.?%d[%d.]*[eE]?[+-]?%d*$" and tonumber(field) or nil
end

-- From here on float32 rounds to infinity: half a last place above the greatest number, (2 − 2⁻²³) 2¹²⁷.
local FLOAT_OVERFLOW = (2 - 2.0 ^ -24) * 2.0 ^ 127

-- Names of the columns, and the records that are data.
local function split_header(list, given, path)
  if not list[1] then error(path .. ": the file is empty", 0) end
  local header = given.header
  if header == nil then
    header = true
    for _, field in ipairs(list[1]) do header = header and not number_of(field) end
  end
  local names, first = {}, header and table.remove(list, 1) or {}
  local width = header and #first or #list[1]
  for i = 1, width do
    names[i] = header and first[i] or tostring(i)
    if names[names[i]] then error(("%s: two columns are named %q"):format(path, names[i]), 0) end
    names[names[i]] = i
  end
  if #list == 0 then error(path .. ": no rows", 0) end
  for _, record in ipairs(list) do
    if #record ~= width then
      error(("%s: line %d: %d fields, expected %d"):format(path, record.line, #record, width), 0)
    end
  end
  return names
end

local function find_column(names, wanted, path)
  local index = math.type(wanted) == "integer" and names[wanted] and wanted or names[wanted]
  if math.type(index) == "integer" then return index end
  local known = table.move(names, 1, #names, 1, {})
  error(("%s: no column %s%s"):format(path, tostring(wanted), options.suggestion(tostring(wanted), known)), 0)
end

local function value_of(record, column, names, given, path)
  local value = number_of(record[column])
  if value and math.abs(value) < FLOAT_OVERFLOW then return value end
  if value then
    error(("%s: line %d: column %s is %s, more than float32 holds (3.4e38): scale the column"):format(path, record.line,
      names[column], record[column]), 0)
  end
  local empty = record[column]:find "^%s*$"
  if empty and given.missing ~= nil then return given.missing end
  error(("%s: line %d: column %s is %s, expected a number%s"):format(path, record.line, names[column],
    empty and "empty" or ("%q"):format(record[column]), empty and " (missing = what stands for it)" or ""), 0)
end

-- Labels from 1 for the sorted values of a column.
local function labels_of(list, column)
  local classes, number, labels, numeric = {}, {}, {}, true
  for _, record in ipairs(list) do
    local field = record[column]
    if not number[field] then
      number[field], classes[#classes + 1], numeric = 0, field, numeric and number_of(field)
    end
  end
  table.sort(classes, numeric and function(a, b) return number_of(a) < number_of(b) end or nil)
  for i, field in ipairs(classes) do number[field] = i end
  for i, record in ipairs(list) do labels[i] = number[record[column]] end
  return core.tensor(labels, { type = "int32" }), classes
end

local function is_numeric(list, column)
  for _, record in ipairs(list) do
    if record[column]:find "%S" and not number_of(record[column]) then return false end
  end
  return true
end

local function targets_of(list, column, names, given, path)
  if given.classes == true or given.classes == nil and not is_numeric(list, column) then
    return labels_of(list, column)
  end
  local values = {}
  for i, record in ipairs(list) do
    values[i] = value_of(record, column, names, given, path)
    if given.classes and not math.tointeger(values[i]) then
      error(("%s: line %d: column %s is %s, expected a class from 1"):format(path, record.line, names[column],
        record[column]), 0)
    end
  end
  if given.classes then return core.tensor(values, { type = "int32" }), given.classes end
  return core.tensor(values):view(-1, 1)
end

--- Reads a file (data.csv says what `given` has).
function csv.read(given)
  local path = given.path
  if type(path) ~= "string" then error("path is that of a file", 0) end
  if #given.separator ~= 1 or given.separator:find '[%w"\r\n]' then error("separator is one mark", 0) end
  if given.missing ~= nil and type(given.missing) ~= "number" then error("missing is a number", 0) end
  local text, problem = file.read(path)
  if not text then error(problem, 0) end
  local list = records(text, given.separator, path)
  local names = split_header(list, given, path)
  local target = given.target ~= nil and find_column(names, given.target, path) or nil
  local columns, used = {}, {}
  if given.columns ~= nil then
    for i, wanted in ipairs(given.columns) do columns[i] = find_column(names, wanted, path) end
  else
    for i = 1, #names do
      if i ~= target then columns[#columns + 1] = i end
    end
  end
  if #columns == 0 then error(path .. ": no columns beside the target", 0) end
  local values = {}
  for i, record in ipairs(list) do
    local row = {}
    for k, column in ipairs(columns) do row[k] = value_of(record, column, names, given, path) end
    values[i] = row
  end
  for k, column in ipairs(columns) do used[k] = names[column] end
  local y, classes
  if target then y, classes = targets_of(list, target, names, given, path) end
  local made = set.tensors {
    x = core.tensor(values), y = y, classes = classes, name = given.name or path:match "[^/]+$", allow_nan = true,
  }
  made.columns, made.note = used, ("%s, %d rows of %d columns"):format(path, #list, #columns)
  return made
end

return csv
