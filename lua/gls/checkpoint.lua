--- Checkpoint: tables of tensors, numbers, strings and tables, kept in one file, a safetensors file
-- (https://github.com/huggingface/safetensors) that other programs read and write too.
--
-- The tensors are the file's, by their dotted paths in the table. Its `__metadata__` has the rest: `glsrun`, the
-- version of this form; `value`, JSON; `crc32` of names, shapes and value, and of the elements. In the JSON a table is
-- a list or an object; what JSON has not is an object with one key: `{"$tensor": name}`, `{"$number": "inf"}`,
-- `{"$bytes": hexadecimal digits}` for a text that is not UTF-8, `{"$pairs": [[key, value], …]}` for other tables.
-- @module gls.checkpoint
local core = require "gls.core"
local json = require "gls.json"
local files = core.io

local checkpoint = {}

local DEPTH_LIMIT = 100
local FORM = "1"
local TYPES = { float32 = "F32", float64 = "F64", int32 = "I32", uint8 = "U8" }
local ELEMENT_BYTES = { F32 = 4, F64 = 8, I32 = 4, U8 = 1 }

-- ---- out ----

local function step(path, key)
  key = tostring(key)
  return path == "" and key or path .. "." .. key
end

-- Numbers before strings before booleans, so that the same table gives the same bytes.
local function sorted_keys(table_)
  local keys = {}
  for key in next, table_ do keys[#keys + 1] = key end
  table.sort(keys, function(a, b)
    local kind_a, kind_b = type(a), type(b)
    if kind_a ~= kind_b then return kind_a < kind_b end
    if kind_a == "boolean" then return a and not b end
    return a < b
  end)
  return keys
end

local function refuse(path, what) error(("gls.save: %s %s"):format(path == "" and "the value" or path, what), 0) end

local writers = {}

local function plain(state, value, path)
  local writer = writers[type(value)] or refuse(path, ("is a %s, which a file cannot hold"):format(type(value)))
  return writer(state, value, path)
end

writers["nil"] = function() return json.null end
function writers.boolean(_, value) return value end
function writers.number(_, value)
  if math.type(value) == "integer" or value - value == 0 then return value end
  return { ["$number"] = value ~= value and "nan" or value > 0 and "inf" or "-inf" }
end
function writers.string(_, value)
  if utf8.len(value) then return value end
  return { ["$bytes"] = value:gsub(".", function(c) return ("%02x"):format(c:byte()) end) }
end

-- A name that no other tensor has.
local function name_of(state, path)
  local name = path == "" and "value" or utf8.len(path) and path or path:gsub("[\128-\255]", "?")
  local unique, number = name, 2
  while state.entries[unique] or unique == "__metadata__" do
    unique, number = ("%s (%d)"):format(name, number), number + 1
  end
  return unique
end

function writers.userdata(state, value, path)
  local name = state.names[value]
  if not name then
    local good, kind = pcall(function() return value.type end)
    if not good or not TYPES[kind] then refuse(path, "is no tensor, or one that has been released") end
    name = name_of(state, path)
    state.entries[name] = { dtype = TYPES[kind], shape = json.list(value.shape), tensor = value }
    state.names[value] = name
  end
  return { ["$tensor"] = name }
end

-- Keys that a JSON object has, none of which looks like one of ours.
local function is_map(value)
  for key in next, value do
    if type(key) ~= "string" or key:sub(1, 1) == "$" or not utf8.len(key) then return false end
  end
  return true
end

function writers.table(state, value, path)
  local metatable = getmetatable(value)
  if metatable ~= nil then
    local name = type(metatable) == "table" and rawget(metatable, "__name")
    refuse(path, "is an object" .. (name and " (" .. name .. ")" or "") .. ", which a file cannot hold"
      .. (type(value.state_dict) == "function" and "; save its state_dict(), and give that to load_state_dict of one "
        .. "made anew" or ""))
  end
  if state.open[value] then refuse(path, "contains itself") end
  if state.depth == DEPTH_LIMIT then refuse(path, ("is more than %d tables deep"):format(DEPTH_LIMIT)) end
  state.open[value], state.depth = true, state.depth + 1
  local list, map = json.is_list(value), is_map(value)
  local result = {}
  for i, key in ipairs(sorted_keys(value)) do
    local inside = step(path, key)
    if type(key) ~= "string" and type(key) ~= "number" and type(key) ~= "boolean" then
      refuse(path, "has a key that is a " .. type(key))
    end
    local element = plain(state, rawget(value, key), inside)
    if list or map then result[key] = element else result[i] = json.list { plain(state, key, inside), element } end
  end
  state.open[value], state.depth = nil, state.depth - 1
  return (list or map) and result or { ["$pairs"] = json.list(result) }
end

-- Gives every tensor its place in the file, the widest elements first; the tensors in that order.
local function lay_out(entries)
  local order, tensors, first = {}, {}, 0
  for name in pairs(entries) do order[#order + 1] = name end
  table.sort(order, function(a, b)
    local bytes_a, bytes_b = ELEMENT_BYTES[entries[a].dtype], ELEMENT_BYTES[entries[b].dtype]
    if bytes_a ~= bytes_b then return bytes_a > bytes_b end
    return a < b
  end)
  for i, name in ipairs(order) do
    local entry = entries[name]
    tensors[i], entry.tensor = entry.tensor, nil
    local after = first + tensors[i]:numel() * ELEMENT_BYTES[entry.dtype]
    entry.data_offsets, first = json.list { first, after }, after
  end
  return tensors
end

local function checksums(entries, value, of_elements)
  return ("%08x%08x"):format(files.crc32(json.encode(entries) .. value), of_elements)
end

--- Writes a value to a file, which is replaced in one moment when the new one is complete and on disk.
-- @tparam string path
-- @param value nil, boolean, number, string, tensor, or a table of such, nested. Whether a tensor requires gradient is
-- not kept. The tensors of a table get their dotted paths as names: of a state dictionary, those that PyTorch has.
-- @raise on functions, other userdata, objects (a module, an optimizer: save their state_dict()), tables that contain
-- themselves, and a disk that is full
function checkpoint.save(path, value)
  if type(path) ~= "string" then error("gls.save: the path of a file expected, got " .. type(path), 2) end
  local state = { entries = {}, names = {}, open = {}, depth = 0 }
  local good, described = pcall(plain, state, value, "")
  if not good then error(described, 2) end
  local tensors = lay_out(state.entries)
  local text = json.encode(described)
  local sum = checksums(state.entries, text, files.checksum(table.unpack(tensors)))
  state.entries.__metadata__ = { glsrun = FORM, value = text, crc32 = sum }
  files.write_safetensors(path, json.encode(state.entries), tensors)
end

-- ---- in ----

local function is_whole(value) return math.type(value) == "integer" and value >= 0 end

local function is_list_of_whole(list, count)
  if type(list) ~= "table" or not json.is_list(list) or count and #list ~= count then return false end
  for _, value in ipairs(list) do
    if not is_whole(value) then return false end
  end
  return true
end

-- Names of the tensors in the order of their elements, which are one after another from 0 to the end.
local function check_entries(entries, bytes)
  local order = {}
  for name, entry in pairs(entries) do
    if type(entry) ~= "table" or type(entry.dtype) ~= "string" or not is_list_of_whole(entry.shape)
      or not is_list_of_whole(entry.data_offsets, 2) then
      error(("damaged: the entry of %q is no tensor's"):format(name), 0)
    end
    order[#order + 1] = name
  end
  table.sort(order, function(a, b)
    local x, y = entries[a].data_offsets, entries[b].data_offsets
    if x[1] ~= y[1] then return x[1] < y[1] end
    if x[2] ~= y[2] then return x[2] < y[2] end
    return a < b
  end)
  local at = 0
  for _, name in ipairs(order) do
    local first, after = table.unpack(entries[name].data_offsets)
    if first ~= at or after < first then
      error(("damaged: the elements of %q begin at %d, expected %d"):format(name, first, at), 0)
    end
    at = after
  end
  if at > bytes then error(("truncated: %d bytes of elements, the file has %d"):format(at, bytes), 0) end
  if at < bytes then error(("%d bytes follow the tensors"):format(bytes - at), 0) end
  return order
end

local restore

local special = {
  ["$tensor"] = function(name, tensors) return tensors[name] end,
  ["$number"] = function(text) return ({ inf = math.huge, ["-inf"] = -math.huge, nan = 0 / 0 })[text] end,
  ["$bytes"] = function(text)
    return type(text) == "string" and text:gsub("%x%x", function(digits) return string.char(tonumber(digits, 16)) end)
  end,
  ["$pairs"] = function(pairs_, tensors)
    local result = {}
    for _, pair in ipairs(pairs_) do result[restore(pair[1], tensors)] = restore(pair[2], tensors) end
    return result
  end,
}

function restore(value, tensors)
  if type(value) ~= "table" then return value end
  local key = next(value)
  if special[key] then return special[key](value[key], tensors) or error "no value" end
  local result = {}
  for name, element in pairs(value) do result[name] = restore(element, tensors) end
  return result
end

-- The value of a file that checkpoint.save wrote.
local function value_of(entries, metadata, tensors, of_elements)
  if metadata.glsrun ~= FORM then
    error(("a checkpoint of form %s, expected %s; a newer glsrun reads it"):format(tostring(metadata.glsrun), FORM), 0)
  end
  if type(metadata.value) ~= "string" or checksums(entries, metadata.value, of_elements) ~= metadata.crc32 then
    error("damaged: its checksum does not fit", 0)
  end
  local good, value = pcall(json.decode, metadata.value)
  if good and value == json.null then return nil end
  if good then good, value = pcall(restore, value, tensors) end
  if not good then error("damaged: its value makes no sense", 0) end
  return value
end

local function read(path, reader, header, bytes)
  local good, entries = pcall(json.decode, header)
  if not good then error("damaged: its header is not JSON: " .. tostring(entries), 0) end
  local metadata = entries.__metadata__
  entries.__metadata__ = nil
  if metadata ~= nil and type(metadata) ~= "table" then error("damaged: its metadata is no map", 0) end
  local tensors = {}
  for _, name in ipairs(check_entries(entries, bytes)) do
    local entry = entries[name]
    local first, after = table.unpack(entry.data_offsets)
    tensors[name] = files.next_tensor(reader, ("%s: %s"):format(path, name), entry.dtype, entry.shape, after - first)
  end
  if not metadata or not metadata.glsrun then return tensors, metadata end
  return value_of(entries, metadata, tensors, files.data_checksum(reader))
end

--- Reads what gls.save has written, or any other safetensors file: its tensors by name (F16, BF16, F32 and F64 as
-- reals; integers as int32, U8 and BOOL as uint8), and its metadata.
-- @tparam string path
-- @return the value; of another program's file a table of tensors, and its metadata (a table of texts) or nil
-- @raise when the file is no safetensors file, truncated or damaged, or has numbers that a tensor cannot hold: names
-- it and says what is wrong
function checkpoint.load(path)
  if type(path) ~= "string" then error("gls.load: the path of a file expected, got " .. type(path), 2) end
  local reader <close>, header, bytes = files.open_safetensors(path)
  local results = table.pack(pcall(read, path, reader, header, bytes))
  if results[1] then return table.unpack(results, 2, results.n) end
  local problem = tostring(results[2])
  error(problem:find(path, 1, true) and problem or path .. ": " .. problem, 2)
end

--- Writes tensors as NumPy's .npz, read there by `numpy.load(path)["name"]`.
-- @tparam string path
-- @tparam table arrays tensors by name
-- @tparam[opt] table given `deflated` = false: packs them (numpy.savez_compressed)
function checkpoint.save_npz(path, arrays, given)
  local set = require("gls.options").check("gls.save_npz", given, { deflated = false })
  if type(arrays) ~= "table" then error("gls.save_npz: tensors by name expected, got " .. type(arrays), 2) end
  local names, tensors = {}, {}
  for name in pairs(arrays) do
    if type(name) ~= "string" then error("gls.save_npz: a name is a text, got " .. tostring(name), 2) end
    names[#names + 1] = name
  end
  table.sort(names)
  for i, name in ipairs(names) do tensors[i] = arrays[name] end
  files.write_npz(path, names, tensors, set.deflated)
end

core.groups.save, core.groups.load, core.groups.save_npz = "files", "files", "files"
core.docs.save = "save(path, value)\nWrites nil, a boolean, number, string, tensor, or a table of such, nested, as " ..
  "a safetensors file.\nIt is replaced in one moment, when it is complete and on disk."
core.docs.load = "load(path) -> value\nReads what save has written, or another program's safetensors file: its " ..
  "tensors by name, and its metadata.\nAn error names the file and what is wrong with it."
core.docs.save_npz = "save_npz(path, arrays, { deflated = false })\nWrites tensors by name as NumPy's .npz."

return checkpoint
