--- JSON (RFC 8259) in which whole numbers stay whole to 64 bits, a float comes back to the last bit, and a key that is
-- there twice is an error: what files of tensors are described by.
-- @module gls.json
local json = {}

local DEPTH_LIMIT = 250

local List = { __name = "json.list" }

--- Stands for null.
json.null = setmetatable({}, { __name = "json.null", __tostring = function() return "null" end })

--- Marks a table as a list, so that an empty one is `[]`. What `decode` gives for a list is marked.
-- @tparam table list
-- @treturn table the same
function json.list(list) return setmetatable(list, List) end

--- Whether a table is a list: marked, or with elements from 1 to its length and nothing else.
-- @tparam table value
-- @treturn boolean
function json.is_list(value)
  if getmetatable(value) == List then return true end
  local count, length = 0, rawlen(value)
  for key in next, value do
    if math.type(key) ~= "integer" or key < 1 or key > length then return false end
    count = count + 1
  end
  return count > 0 and count == length
end

-- ---- out ----

local ESCAPES = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\t"] = "\\t", ["\r"] = "\\r" }

local function quoted(text)
  if not utf8.len(text) then error("a text that is not UTF-8", 0) end
  return '"' .. text:gsub('[%c"\\]', function(c) return ESCAPES[c] or ("\\u%04x"):format(c:byte()) end) .. '"'
end

local function number_text(value)
  if math.type(value) == "integer" then return tostring(value) end
  if value ~= value or value == math.huge or value == -math.huge then error("JSON has no " .. tostring(value), 0) end
  local text = ("%.17g"):format(value):gsub(",", ".")
  return text:find "[.e]" and text or text .. ".0"
end

local encode

local function encode_table(value)
  local parts = {}
  if json.is_list(value) then
    for i = 1, rawlen(value) do parts[i] = encode(value[i]) end
    return "[" .. table.concat(parts, ",") .. "]"
  end
  local keys = {}
  for key in next, value do
    if type(key) ~= "string" then error("a key that is a " .. type(key), 0) end
    keys[#keys + 1] = key
  end
  table.sort(keys)
  for i, key in ipairs(keys) do parts[i] = quoted(key) .. ":" .. encode(rawget(value, key)) end
  return "{" .. table.concat(parts, ",") .. "}"
end

--- A value as JSON on one line, keys in order: equal values give equal text.
-- @param value nil, boolean, finite number, UTF-8 text, or a table: a list, or with texts as keys
-- @treturn string
-- @raise on anything else
function json.encode(value)
  local kind = type(value)
  if value == nil or value == json.null then return "null" end
  if kind == "boolean" then return tostring(value) end
  if kind == "number" then return number_text(value) end
  if kind == "string" then return quoted(value) end
  if kind == "table" then return encode_table(value) end
  error("JSON has no " .. kind, 0)
end
encode = json.encode

-- ---- in ----

local function wrong(at, what) error(("%s at byte %d"):format(what, at), 0) end

local function skip(text, at) return text:find("[^ \t\n\r]", at) or #text + 1 end

local UNESCAPED = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t", ['"'] = '"', ["\\"] = "\\", ["/"] = "/" }

-- The text of an escape sequence after its backslash at `at`, and what follows it.
local function unescape(text, at)
  local plain = UNESCAPED[text:sub(at + 1, at + 1)]
  if plain then return plain, at + 2 end
  local high = tonumber(text:match("^u(%x%x%x%x)", at + 1) or wrong(at, "an unknown escape"), 16)
  if high < 0xD800 or high > 0xDFFF then return utf8.char(high), at + 6 end
  -- Characters beyond 0xFFFF are two escapes (RFC 8259, section 7).
  local low = tonumber(text:match("^\\u(%x%x%x%x)", at + 6) or wrong(at, "half a character"), 16)
  if high > 0xDBFF or low < 0xDC00 or low > 0xDFFF then wrong(at, "half a character") end
  return utf8.char(0x10000 + ((high - 0xD800) << 10) + low - 0xDC00), at + 12
end

local function decode_text(text, at)
  local parts, from = {}, at + 1
  while true do
    local stop = text:find('[%c"\\]', from) or wrong(at, "a text without an end")
    parts[#parts + 1] = text:sub(from, stop - 1)
    local mark = text:sub(stop, stop)
    if mark == '"' then return table.concat(parts), stop + 1 end
    if mark ~= "\\" and mark ~= "\127" then wrong(stop, "a control character") end
    if mark == "\\" then parts[#parts + 1], from = unescape(text, stop)
    else parts[#parts + 1], from = mark, stop + 1 end
  end
end

local WORDS = { ["true"] = true, ["false"] = false, null = json.null }

local function decode_plain(text, at)
  local word = text:match("^[%w.+-]+", at) or wrong(at, "no value")
  if WORDS[word] ~= nil then return WORDS[word], at + #word end
  local whole, fraction, exponent = word:match "^-?(%d+)(%.?%d*)([eE]?[+-]?%d*)$"
  if not whole or whole:find "^0%d" or fraction == "." or exponent ~= "" and not exponent:find "^[eE][+-]?%d+$" then
    wrong(at, "no value")
  end
  return tonumber(word), at + #word
end

local decode

local function decode_list(text, at, depth)
  local list = json.list {}
  at = skip(text, at + 1)
  if text:sub(at, at) == "]" then return list, at + 1 end
  while true do
    list[#list + 1], at = decode(text, at, depth + 1)
    at = skip(text, at)
    local mark = text:sub(at, at)
    if mark == "]" then return list, at + 1 end
    if mark ~= "," then wrong(at, "no , or ]") end
    at = at + 1
  end
end

local function decode_map(text, at, depth)
  local map = {}
  at = skip(text, at + 1)
  if text:sub(at, at) == "}" then return map, at + 1 end
  while true do
    at = skip(text, at)
    if text:sub(at, at) ~= '"' then wrong(at, "no key") end
    local key
    local key_at = at
    key, at = decode_text(text, at)
    if map[key] ~= nil then wrong(key_at, ("the key %q a second time"):format(key)) end
    at = skip(text, at)
    if text:sub(at, at) ~= ":" then wrong(at, "no :") end
    map[key], at = decode(text, at + 1, depth + 1)
    at = skip(text, at)
    local mark = text:sub(at, at)
    if mark == "}" then return map, at + 1 end
    if mark ~= "," then wrong(at, "no , or }") end
    at = at + 1
  end
end

function decode(text, at, depth)
  if depth > DEPTH_LIMIT then wrong(at, "too deep") end
  at = skip(text, at)
  local mark = text:sub(at, at)
  if mark == "{" then return decode_map(text, at, depth) end
  if mark == "[" then return decode_list(text, at, depth) end
  if mark == '"' then return decode_text(text, at) end
  return decode_plain(text, at)
end

--- The value of a JSON text: null is json.null, lists are marked.
-- @tparam string text
-- @return value
-- @raise saying what is wrong at which byte
function json.decode(text)
  local _, bad = utf8.len(text)
  if bad then wrong(bad, "no UTF-8") end
  local value, at = decode(text, 1, 1)
  at = skip(text, at)
  if at <= #text then wrong(at, "more after the value") end
  return value
end

return json
