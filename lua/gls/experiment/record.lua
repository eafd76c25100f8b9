--- Record: JSON with sorted keys, and results.jsonl with one line per epoch.
-- @module gls.experiment.record
local cjson = require "cjson"
local file = require "gls.file"
local finite = require("gls.number").finite
local files = require("gls.core").io
local json = require "gls.json"
local optimizers = require "gls.experiment.optimizers"

local record = {}

--- A value as JSON on one line, keys in order, so that equal values give equal text. A number that is not finite
-- becomes null.
-- @param value nil, boolean, number, string or a table of them
-- @tparam[opt] table first keys that come first, in this order
-- @treturn string
function record.encode(value, first)
  if type(value) == "number" and not finite(value) then return "null" end
  if type(value) == "string" then return (cjson.encode(value):gsub("\\/", "/")) end
  if type(value) ~= "table" then return cjson.encode(value) end
  local parts = {}
  if json.is_list(value) then
    for i, element in ipairs(value) do parts[i] = record.encode(element) end
    return "[" .. table.concat(parts, ", ") .. "]"
  end
  local rank, keys = {}, {}
  for i, key in ipairs(first or {}) do rank[key] = i end
  for key in pairs(value) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b)
    local x, y = rank[a] or math.huge, rank[b] or math.huge
    if x ~= y then return x < y end
    return tostring(a) < tostring(b)
  end)
  for i, key in ipairs(keys) do parts[i] = record.encode(tostring(key)) .. ": " .. record.encode(value[key]) end
  return "{" .. table.concat(parts, ", ") .. "}"
end

-- cjson gives null as a light userdata and every number as a float; here they are nil and, where whole, an integer.
local function plain(value)
  if value == cjson.null then return nil end
  if type(value) == "number" then return math.tointeger(value) or value end
  if type(value) == "table" then
    for key, element in pairs(value) do value[key] = plain(element) end
  end
  return value
end

--- The value of a JSON text.
-- @tparam string text
-- @return value, or nil and a message
function record.decode(text)
  local good, value = pcall(cjson.decode, text)
  if not good then return nil, value end
  return plain(value)
end

--- Makes a directory and those above it.
-- @tparam string path
-- @raise naming the path when that is impossible
function record.make_directory(path)
  local good, message = pcall(files.make_folders, path)
  if good then return end
  message = tostring(message):match "cannot be made: (.*)" or message
  error(("cannot make the directory %s for the results: %s; choose another one with --out"):format(path, message), 0)
end

--- Makes a directory of the present time, which no other process has.
-- @tparam string parent
-- @treturn string path: `PARENT/20260131-093000`, with -2, -3, … where others began in the same second
-- @raise as `record.make_directory`
function record.new_directory(parent)
  record.make_directory(parent)
  local first, number = parent .. "/" .. os.date "%Y%m%d-%H%M%S", 1
  local path = first
  while not files.make_folder(path) do
    number = number + 1
    path = first .. "-" .. number
  end
  return path
end

--- Takes a directory for this process alone, until `:close()` or its end.
-- @tparam string path
-- @return what holds it
-- @raise when another process has it
function record.lock_directory(path)
  local lock = files.lock_folder(path)
  if not lock then error(("another job writes its results to %s; choose another --out"):format(path), 0) end
  return lock
end

-- What a reader of results.jsonl looks for first.
local ROW = {
  "experiment", "optimizer", "settings", "seed", "epoch", "step", "seconds", "train_loss", "batch_loss", "first_loss",
  "valid_loss", "valid_accuracy", "test_loss", "test_accuracy", "status", "peak_bytes",
}

local Results = {}
Results.__index = Results

-- ---- what a row is ----

local function is_number(value) return type(value) == "number" end
local function is_count(value) return math.type(value) == "integer" and value >= 0 end
local function number_or_none(value) return value == nil or is_number(value) end

local STATUS = { running = true, finished = true, diverged = true }

-- Every field that something reads: whether a value is one of it.
local FIELDS = {
  optimizer = function(value) return optimizers.known[value] ~= nil end,
  seed = is_count,
  epoch = function(value) return is_count(value) and value >= 1 end,
  status = function(value) return STATUS[value] == true end,
  seconds = function(value) return is_number(value) and value >= 0 end,
  settings = function(value)
    if type(value) ~= "table" then return false end
    for name in pairs(value) do
      if type(name) ~= "string" then return false end
    end
    return (value.learning_rate == "auto" or number_or_none(value.learning_rate)) and number_or_none(value.damping)
      and number_or_none(value.window)
  end,
  counters = function(value)
    if value == nil then return true end
    if type(value) ~= "table" then return false end
    for name, count in pairs(value) do
      if type(name) ~= "string" or not is_number(count) then return false end
    end
    return true
  end,
}
for _, name in ipairs { "step", "train_loss", "batch_loss", "first_loss", "valid_loss", "valid_accuracy", "test_loss",
  "test_accuracy", "peak_bytes" } do
  FIELDS[name] = number_or_none
end

-- The first field, by name, of a decoded line that is not as a row has it, or nil.
local function wrong_field(row)
  local wrong
  for field, is_right in pairs(FIELDS) do
    if not is_right(row[field]) and (not wrong or field < wrong) then wrong = field end
  end
  return wrong
end

-- ---- results.jsonl ----

--- The rows of a results file; a last line cut short by a crash is left out.
-- @tparam string path
-- @treturn table list of rows; empty when there is no file
-- @raise naming file and line when another line is no JSON object, or has not the fields of a row
function record.rows(path)
  local rows, text = {}, file.read(path)
  if not text then return rows end
  local number = 0
  for line, ending in text:gmatch "([^\n]*)(\n?)" do
    number = number + 1
    if line ~= "" then
      local row = record.decode(line)
      local wrong = type(row) == "table" and row.optimizer and wrong_field(row)
      if wrong then
        error(("%s:%d: not a line of results: %s is %s"):format(path, number, wrong, record.encode(row[wrong])), 0)
      elseif type(row) == "table" and row.optimizer then
        rows[#rows + 1] = row
      elseif ending == "\n" then
        error(("%s:%d: not a line of results (a JSON object with an optimizer)"):format(path, number), 0)
      end
    end
  end
  return rows
end

--- Opens results.jsonl to append to, after replacing what it holds by the given rows.
-- @tparam string path
-- @tparam table rows of finished runs, kept
-- @return an object with `rows`, `:add(row)` and `:close()`
function record.results(path, rows)
  local lines = {}
  for i, row in ipairs(rows) do lines[i] = record.encode(row, ROW) .. "\n" end
  file.replace(path, table.concat(lines))
  return setmetatable({ journal = files.journal(path), rows = rows }, Results)
end

--- Appends one row, to disk before this returns.
-- @tparam table row
-- @raise naming the file when it cannot be written; what was written before stays
function Results:add(row)
  self.rows[#self.rows + 1] = row
  self.journal:append(record.encode(row, ROW) .. "\n")
end

--- Closes the file; more than once is fine.
function Results:close() self.journal:close() end

return record
