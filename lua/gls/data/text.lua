--- Text: a corpus as tokens, by characters or by words, and its batches: windows of tokens (int32, N × T), and the same
-- windows one token later.
-- @module gls.data.text
local core = require "gls.core"
local batches = require "gls.data.batches"
local strict = require "gls.strict"
local files = core.io

local text = {}

local DEBIAN_BIBLE = "/usr/lib/bible.data"
local TRAINING_SHARE = 0.9
local UNKNOWN = "<unk>"

-- ---- files ----

local function read_file(path)
  local file, problem = io.open(path, "rb")
  if not file then error(problem, 0) end
  local content
  content, problem = file:read "a"
  file:close()
  if not content then error(("%s: %s"):format(path, problem), 0) end
  return (content:gsub("^\xEF\xBB\xBF", "")) -- a byte-order mark is no character of the text
end

-- Output of gzip, which unpacks the files of compress(1) too.
local function unpack_block(block)
  local name = os.tmpname()
  local file = assert(io.open(name, "wb"))
  file:write(block)
  file:close()
  local pipe = assert(io.popen("gzip -dc < '" .. name .. "'", "r"))
  local content = pipe:read "a"
  local good = pipe:close()
  os.remove(name)
  return good and content or nil
end

-- Debian's bible-kjv-text: blocks of compress(1)'s codes, whose header is there once. Big-endian: at byte 88 the number
-- of blocks, then where each begins and the last ends, and the header of 3 bytes. A line is "Ge1:1 In the beginning …".
local function read_bible(path)
  local packed = read_file(path)
  local damaged = path .. ": not the data of bible-kjv-text"
  if #packed < 100 or packed:sub(1, 4) ~= "EC02" then error(damaged, 0) end
  local count = string.unpack(">I4", packed, 89)
  local at = 93 + 4 * (count + 1)
  if at + 2 > #packed then error(damaged, 0) end
  local header, parts = packed:sub(at, at + 2), {}
  local first = string.unpack(">I4", packed, 93)
  for i = 1, count do
    local after = string.unpack(">I4", packed, 93 + 4 * i)
    if after < first or after > #packed then error(damaged, 0) end
    parts[i] = unpack_block(header .. packed:sub(first + 1, after)) or error(damaged, 0)
    first = after
  end
  -- Without the title and the numbers of the verses.
  return (table.concat(parts):gsub("^[^\n]*\n", ""):gsub("%f[^\n\0]%w+:%d+ ", ""))
end

-- ---- tokens ----

local function check_utf8(content, where)
  local length, byte = utf8.len(content)
  if not length then error(("%s: not UTF-8 at byte %d"):format(where, byte), 0) end
end

-- Calls visit with every token: characters.
local function each_character(content, visit)
  for character in content:gmatch(utf8.charpattern) do visit(character) end
end

-- Calls visit with every token: words (letters, digits, apostrophes), line ends, and other marks one by one.
local function each_word(content, visit)
  for word, mark in content:gmatch "([%w'\128-\255]*)([^%w'\128-\255]?)" do
    if word ~= "" then visit(word) end
    if mark ~= "" and not mark:find "[ \t\r]" then visit(mark) end
  end
end

local LEVELS = { characters = each_character, words = each_word }

-- All characters, in order.
local function characters_of(content)
  local known, list = {}, {}
  each_character(content, function(character)
    if not known[character] then
      known[character] = true
      list[#list + 1] = character
    end
  end)
  table.sort(list, function(a, b) return utf8.codepoint(a) < utf8.codepoint(b) end)
  return list
end

-- The most frequent words of the training part, the most frequent first, after what stands for the others.
local function words_of(content, most)
  local uses, list, count, seen = {}, {}, 0, 0
  each_word(content, function() count = count + 1 end)
  each_word(content, function(word)
    seen = seen + 1
    if seen > TRAINING_SHARE * count then return end
    if not uses[word] then list[#list + 1] = word end
    uses[word] = (uses[word] or 0) + 1
  end)
  table.sort(list, function(a, b)
    if uses[a] ~= uses[b] then return uses[a] > uses[b] end
    return a < b
  end)
  return table.move(list, 1, math.min(#list, most), 2, { UNKNOWN })
end

-- ---- sets ----

local Text = { __name = "text" }
local methods = {}

-- Tokens of a text as int32; where one is not in the vocabulary, UNKNOWN or an error. In slices: a list of all numbers
-- would take many times the tensor's memory.
local function to_tensor(self, content, where)
  if self.level == "characters" then check_utf8(content, where) end
  local each, count = LEVELS[self.level], 0
  each(content, function() count = count + 1 end)
  local tokens, SLICE = core.zeros(count, { type = "int32" }), 1 << 18
  local number_of, unknown, slice, filled, done = self.number_of, self.number_of[UNKNOWN], {}, 0, 0
  each(content, function(token)
    filled = filled + 1
    slice[filled] = number_of[token] or unknown or error(("%s: the vocabulary has no %q"):format(where, token), 0)
    if filled == SLICE or done + filled == count then
      tokens:narrow(1, done + 1, filled):copy(core.tensor(slice, { type = "int32" }))
      slice, filled, done = {}, 0, done + filled
    end
  end)
  return tokens
end

--- The tokens of a text: int32 (N). A character that the vocabulary has not is an error; a word is `<unk>`.
function methods:encode(content)
  if type(content) ~= "string" then error("encode: a text expected, got " .. type(content), 2) end
  local good, tokens = pcall(to_tensor, self, content, "encode")
  if not good then error(tokens, 2) end
  return tokens
end

--- The text of tokens: a tensor of numbers of the vocabulary, of any shape, or a list of them. Words have a space
-- between them.
function methods:decode(tokens)
  if type(tokens) ~= "table" then tokens = tokens:contiguous():view(-1):tolist() end
  local parts = {}
  for i, number in ipairs(tokens) do
    parts[i] = self.vocabulary[number]
      or error(("decode: token %s, the vocabulary has 1 to %d"):format(tostring(number), #self.vocabulary), 2)
  end
  return table.concat(parts, self.level == "words" and " " or "")
end

function Text:__index(key)
  if key == "fingerprint" then return ("%08x"):format(files.checksum(self.tokens)) end
  return methods[key]
end

--- Tokens first to first + count − 1.
function methods:narrow(first, count)
  local part = {}
  for name, value in pairs(self) do part[name] = value end
  part.tokens = self.tokens:narrow(1, first, count)
  return setmetatable(part, Text)
end

strict.methods("text", methods)

function Text:__len() return self.tokens:size(1) end

function Text:__tostring()
  return ("%s: %d tokens of %d %s"):format(self.name, #self, #self.vocabulary, self.level)
end

local function find(given, dir)
  if given.path then return given.path, given.path:match "[^/]+$" or given.path end
  local shakespeare = dir .. "/tinyshakespeare.txt"
  if files.kind(shakespeare) == "file" then return shakespeare, "tinyshakespeare" end
  if files.kind(DEBIAN_BIBLE) == "file" then return DEBIAN_BIBLE, "bible-kjv-text" end
  error(("no text found. Put tinyshakespeare.txt (https://github.com/karpathy/char-rnn) in %s, install Debian's "
    .. "package bible-kjv-text, or name a file"):format(dir), 0)
end

local function check(given)
  if given.split ~= "train" and given.split ~= "validation" and given.split ~= "test" then
    error(('split is "%s", expected "train" or "validation"'):format(tostring(given.split)), 0)
  end
  if not LEVELS[given.level] then
    error(('level is "%s", expected "characters" or "words"'):format(tostring(given.level)), 0)
  end
  for _, name in ipairs { "context", "words", "samples" } do
    local value = given[name]
    if value ~= nil and (math.type(value) ~= "integer" or value < 1) then
      error(("%s is %s, expected a whole number from 1"):format(name, tostring(value)), 0)
    end
  end
  local path = given.path
  if path ~= nil and (type(path) ~= "string" or path == "") then error("path is that of a file", 0) end
end

--- Reads a corpus (data.text says what `given` has).
-- @tparam table given
-- @tparam string dir the data directory
function text.read(given, dir)
  check(given)
  local path, name = find(given, dir)
  local content = path == DEBIAN_BIBLE and read_bible(path) or read_file(path)
  if given.level == "characters" then check_utf8(content, path) end -- before the vocabulary is made
  local set = setmetatable({
    name = name, level = given.level, context = given.context, number_of = {},
    split = given.split == "train" and "train" or "validation",
  }, Text)
  set.vocabulary = given.level == "characters" and characters_of(content) or words_of(content, given.words)
  for i, token in ipairs(set.vocabulary) do set.number_of[token] = i end
  local all = to_tensor(set, content, path)
  local count = #all
  local training = math.floor(TRAINING_SHARE * count)
  local first, length = 1, training
  if set.split == "validation" then first, length = training + 1, count - training end
  if given.samples and given.samples > length then
    error(("%d samples wanted, but %s has %d tokens"):format(given.samples, name, length), 0)
  end
  length = given.samples or length
  if length <= given.context then
    error(("%s: %d tokens in the %s part, a window and the token after it take %d"):format(path, length, set.split,
      given.context + 1), 0)
  end
  set.tokens = all:narrow(1, first, length):clone()
  set.note = ("%s from %s, %s, %d of %d %s"):format(name, path, set.split, length, count,
    given.level == "words" and "words and marks" or "characters")
  return set
end

--- Whether a value is a corpus made here.
function text.is(value) return getmetatable(value) == Text end

-- ---- batches ----

-- Random windows: an epoch has as many batches as were asked for, or as hold the text's tokens once.
local function random_batches(set, given)
  local choices = #set - set.context
  return given.batches or math.max(1, #set // (given.batch * set.context)), function(seed, epoch, number)
    return files.random_starts(given.batch, choices, seed, epoch, number), set.context
  end
end

-- All of the text in order: windows side by side; what is left at the end, shorter than a window, is one more batch.
local function ordered_batches(set, given)
  local predicted = #set - 1
  local windows = predicted // set.context
  local rest = predicted - windows * set.context
  local whole = (windows - 1) // given.batch + 1
  if given.drop_last then whole, rest = windows // given.batch, 0 end
  if whole == 0 then error("no batch: the windows are less than one batch, and drop_last is set", 0) end
  return whole + (rest > 0 and 1 or 0), function(_, _, number)
    if number > whole then return core.tensor({ windows * set.context + 1 }, { type = "int32" }), rest end
    local starts = {}
    for i = 1, math.min(given.batch, windows - (number - 1) * given.batch) do
      starts[i] = ((number - 1) * given.batch + i - 1) * set.context + 1
    end
    return core.tensor(starts, { type = "int32" }), set.context
  end
end

-- Options of data.loader that mean nothing for tokens.
local IMAGES = { flatten = false, flip = false, crop = 0, scale = 1, rotate = 0, erase = 0, balanced = false }

--- What data.loader asks of a corpus, in place of the core's loader.
-- @tparam table set
-- @tparam table given the loader's options
function text.batches(set, given)
  for name, default in pairs(IMAGES) do
    if given[name] ~= default then error(name .. " is for images", 0) end
  end
  for _, name in ipairs { "center", "mean", "weights" } do
    if given[name] ~= nil then error(name .. " is for images", 0) end
  end
  if given.batch < 1 then error(("batch is %d, expected 1 or more"):format(given.batch), 0) end
  if given.batches and not (given.shuffle and given.batches >= 1) then
    error("batches is a number of random windows' batches from 1 on, with shuffle = true", 0)
  end
  local count, starts_of = (given.shuffle and random_batches or ordered_batches)(set, given)
  return batches.of(count, function(seed, epoch)
    return function(number)
      local starts, length = starts_of(seed, epoch, number)
      local x, y = files.windows(set.tokens, starts, length)
      return x, y, starts
    end
  end)
end

return text
