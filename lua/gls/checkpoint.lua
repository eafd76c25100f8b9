--- Checkpoint: tables of tensors, numbers, strings and tables, kept in one file.
-- The tensors are entries of the file, by dotted names; the rest is its structure:
--
--    value = "N" | "T" | "F" | "I" int64 | "D" float64 | "S" length uint32, bytes | "X" number of the tensor uint32
--          | "{" (key value)* "}"
-- @module gls.checkpoint
local core = require "gls.core"
local files = core.io

local checkpoint = {}

local DEPTH_LIMIT = 100

local function step(path, key)
  key = tostring(key)
  return path == "" and key or path .. "." .. key
end

-- Numbers before strings before booleans, so that the same table gives the same bytes.
local function sorted_keys(table_)
  local keys = {}
  for key in pairs(table_) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b)
    local kind_a, kind_b = type(a), type(b)
    if kind_a ~= kind_b then return kind_a < kind_b end
    if kind_a == "boolean" then return a and not b end
    return a < b
  end)
  return keys
end

local writers = {}

local function write(state, value, path)
  local writer = writers[type(value)]
  if not writer then
    error(("gls.save: %s is a %s, which a file cannot hold"):format(path == "" and "the value" or path, type(value)), 0)
  end
  writer(state, value, path)
end

local function put(state, text) state.parts[#state.parts + 1] = text end

writers["nil"] = function(state) put(state, "N") end
function writers.boolean(state, value) put(state, value and "T" or "F") end
function writers.number(state, value)
  put(state, math.type(value) == "integer" and string.pack("<c1i8", "I", value) or string.pack("<c1d", "D", value))
end
function writers.string(state, value) put(state, string.pack("<c1s4", "S", value)) end

function writers.userdata(state, value, path)
  local number = state.numbers[value]
  if not number then
    number = #state.tensors + 1
    state.tensors[number], state.names[number], state.numbers[value] = value, path, number
  end
  put(state, string.pack("<c1I4", "X", number))
end

function writers.table(state, value, path)
  if state.open[value] then error(("gls.save: %s contains itself"):format(path), 0) end
  local metatable = getmetatable(value)
  if metatable ~= nil then
    local name = type(metatable) == "table" and rawget(metatable, "__name")
    local advice = type(value.state_dict) == "function" and "; save its state_dict(), and give that to load_state_dict "
      .. "of one made anew" or ""
    error(("gls.save: %s is an object%s, which a file cannot hold%s"):format(path == "" and "the value" or path,
      name and " (" .. name .. ")" or "", advice), 0)
  end
  if state.depth == DEPTH_LIMIT then
    error(("gls.save: %s is more than %d tables deep"):format(path, DEPTH_LIMIT), 0)
  end
  for key in next, value do
    if type(key) ~= "string" and type(key) ~= "number" and type(key) ~= "boolean" then
      error(("gls.save: %s has a key that is a %s"):format(path == "" and "the table" or path, type(key)), 0)
    end
  end
  state.open[value], state.depth = true, state.depth + 1
  put(state, "{")
  for _, key in ipairs(sorted_keys(value)) do
    write(state, key, path)
    write(state, rawget(value, key), step(path, key))
  end
  put(state, "}")
  state.open[value], state.depth = nil, state.depth - 1
end

--- Writes a value to a file, which is replaced in one moment when the new one is complete.
-- @tparam string path
-- @param value nil, boolean, number, string, tensor, or a table of such, nested. Whether a tensor requires gradient is
-- not kept
-- @raise on functions, other userdata, objects (a module, an optimizer: save their state_dict()), tables that contain
-- themselves, and a disk that is full
function checkpoint.save(path, value)
  if type(path) ~= "string" then error("gls.save: the path of a file expected, got " .. type(path), 2) end
  local state = { parts = {}, tensors = {}, names = {}, numbers = {}, open = {}, depth = 0 }
  local good, problem = pcall(write, state, value, "")
  if not good then error(problem, 2) end
  files.write_checkpoint(path, state.names, state.tensors, table.concat(state.parts))
end

local function read(state, depth)
  if depth > DEPTH_LIMIT + 1 then error "too deep" end
  local tag = state.text:sub(state.at, state.at)
  state.at = state.at + 1
  if tag == "N" then return nil end
  if tag == "T" or tag == "F" then return tag == "T" end
  local format = ({ I = "<i8", D = "<d", S = "<s4", X = "<I4" })[tag]
  if format then
    local value
    value, state.at = string.unpack(format, state.text, state.at)
    if tag ~= "X" then return value end
    return state.tensors[value] or error "no such tensor"
  end
  if tag ~= "{" then error "unknown mark" end
  local result = {}
  while state.text:sub(state.at, state.at) ~= "}" do
    local key = read(state, depth + 1)
    result[key] = read(state, depth + 1)
  end
  state.at = state.at + 1
  return result
end

--- Reads what gls.save has written.
-- @tparam string path
-- @return the value
-- @raise when the file is not one of gls.save's, truncated or damaged: names it and says what is wrong
function checkpoint.load(path)
  if type(path) ~= "string" then error("gls.load: the path of a file expected, got " .. type(path), 2) end
  local _, tensors, text = files.read_checkpoint(path)
  local state = { text = text, at = 1, tensors = tensors }
  local read_well, value = pcall(read, state, 1)
  if not read_well or state.at ~= #text + 1 then
    error(("%s: damaged: its structure makes no sense"):format(path), 2)
  end
  return value
end

core.docs.save = "save(path, value)\nWrites nil, a boolean, number, string, tensor, or a table of such, nested. " ..
  "The file is replaced in one\nmoment, when it is complete."
core.docs.load = "load(path) -> value\nReads what save has written; an error names the file and what is wrong " ..
  "with it."

return checkpoint
