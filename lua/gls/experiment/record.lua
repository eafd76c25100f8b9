--- Record: JSON with sorted keys, and results.jsonl with one line per epoch.
-- @module gls.experiment.record
local cjson = require "cjson"
local file = require "gls.file"
local finite = require("gls.number").finite
local files = require("gls.core").io

local record = {}

local function is_list(value)
  local count = 0
  for _ in pairs(value) do count = count + 1 end
  return count > 0 and count == #value
end

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
  if is_list(value) then
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

-- What a reader of results.jsonl looks for first.
local ROW = {
  "experiment", "optimizer", "settings", "seed", "epoch", "step", "seconds", "train_loss", "batch_loss", "first_loss",
  "valid_loss", "valid_accuracy", "test_loss", "test_accuracy", "status", "peak_bytes",
}

local Results = {}
Results.__index = Results

-- What every row has; other fields, where there are any, have the types of ROW_TYPES too.
local ROW_NEEDS = { optimizer = "string", settings = "table", seed = "number", epoch = "number", status = "string" }
local ROW_TYPES = {
  step = "number", seconds = "number", train_loss = "number", batch_loss = "number", first_loss = "number",
  valid_loss = "number", valid_accuracy = "number", test_loss = "number", test_accuracy = "number",
  peak_bytes = "number",
}

-- The field of a decoded line that is not as a row has it, or nil.
local function wrong_field(row)
  for field, kind in pairs(ROW_NEEDS) do
    if type(row[field]) ~= kind then return field end
  end
  for field, kind in pairs(ROW_TYPES) do
    if row[field] ~= nil and type(row[field]) ~= kind then return field end
  end
end

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
        error(("%s:%d: not a line of results: %s is %s"):format(path, number, wrong, type(row[wrong])), 0)
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
  local handle, message = io.open(path, "ab")
  if not handle then file.cannot_write(path, message) end
  return setmetatable({ path = path, file = handle, rows = rows }, Results)
end

--- Appends one row, to disk before this returns.
-- @tparam table row
-- @raise naming the file when it cannot be written
function Results:add(row)
  self.rows[#self.rows + 1] = row
  local good, message = self.file:write(record.encode(row, ROW), "\n")
  if good then good, message = self.file:flush() end
  if not good then file.cannot_write(self.path, message) end
end

--- Closes the file; more than once is fine.
function Results:close()
  if self.file then
    self.file:close()
    self.file = nil
  end
end

return record
