--- Chunk: the text typed at the prompt, read as Lua's tokens: where its statements at the top begin, and which names
-- its top-level `local`s declare.
-- @module gls.repl.chunk
local chunk = {}

local reserved = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then true
  until while]]):gmatch "%a+" do
  reserved[word] = true
end

--- Whether a key can stand after a dot.
function chunk.is_name(key) return type(key) == "string" and key:find "^[%a_][%w_]*$" and not reserved[key] end

-- The end of the quoted string that begins at a place, or nil.
local function string_end(text, at)
  local quote = text:sub(at, at)
  local i = at + 1
  while i <= #text do
    local c = text:sub(i, i)
    if c == quote then return i end
    i = i + (c == "\\" and 2 or 1)
  end
  return nil
end

-- The token at a place that is no white space: its kind and its last character; nothing where it has no end.
local function token_at(text, at)
  local word = text:match("^[%a_][%w_]*", at)
  if word then return reserved[word] and word or "name", at + #word - 1 end
  local level = text:match("^%[(=*)%[", at)
  if level then return "string", select(2, text:find("]" .. level .. "]", at, true)) end
  if text:find("^%-%-", at) then
    level = text:match("^%-%-%[(=*)%[", at)
    if level then return "comment", select(2, text:find("]" .. level .. "]", at, true)) end
    return "comment", (text:find("\n", at, true) or #text + 1) - 1
  end
  if text:find("^[\"']", at) then return "string", string_end(text, at) end
  local number = text:match("^%.?%d[%w.]*", at)
  if number then return "number", at + #number - 1 end
  local dots = text:match("^%.%.%.?", at)
  if dots then return dots, at + #dots - 1 end
  return text:sub(at, at), at
end

local opens = { ["("] = true, ["["] = true, ["{"] = true, ["function"] = true, ["if"] = true, ["repeat"] = true,
  ["while"] = true, ["for"] = true }
local closes = { [")"] = true, ["]"] = true, ["}"] = true, ["end"] = true, ["until"] = true }

--- The tokens of a text, comments left out: { kind =, first =, last =, depth = } with the number of blocks and brackets
-- around each; `open` is where a string begins that has no end.
function chunk.tokens(text)
  local list, at, around = {}, text:find "%S", {}
  while at do
    local kind, last = token_at(text, at)
    if not last then
      list.open = at
      break
    end
    if closes[kind] then around[#around] = nil end
    if kind ~= "comment" then list[#list + 1] = { kind = kind, first = at, last = last, depth = #around } end
    if kind == "do" and around[#around] == "loop" then
      around[#around] = "do"
    elseif opens[kind] or kind == "do" then
      around[#around + 1] = (kind == "while" or kind == "for") and "loop" or kind
    end
    at = text:find("%S", last + 1)
  end
  return list
end

local function blank(edits, token)
  edits[#edits + 1] = { token.first, token.last, (" "):rep(token.last - token.first + 1) }
end

-- The names that the `local` at place i declares, and the edits that make it an assignment; nothing for one that has to
-- be closed, which keeps its block.
local function declaration(text, list, i)
  local names, edits = {}, {}
  blank(edits, list[i])
  local at = i + 1
  if list[at] and list[at].kind == "function" then
    local name = list[at + 1]
    if name and name.kind == "name" then names[1] = text:sub(name.first, name.last) end
    return names, edits
  end
  while list[at] and list[at].kind == "name" do
    local last = list[at]
    names[#names + 1] = text:sub(last.first, last.last)
    at = at + 1
    if list[at] and list[at].kind == "<" and list[at + 2] then
      if text:sub(list[at + 1].first, list[at + 1].last) == "close" then return nil end
      for k = at, at + 2 do blank(edits, list[k]) end
      last = list[at + 2]
      at = at + 3
    end
    if not (list[at] and list[at].kind == ",") then
      if not (list[at] and list[at].kind == "=") then edits[#edits + 1] = { last.last + 1, last.last, " = nil" } end
      break
    end
    at = at + 1
  end
  return names, edits
end

--- The text with its top-level `local`s as plain assignments, and the names they declare.
function chunk.without_locals(text)
  local list, declared, edits = chunk.tokens(text), {}, {}
  for i, token in ipairs(list) do
    if token.kind == "local" and token.depth == 0 then
      local names, changes = declaration(text, list, i)
      for _, name in ipairs(names or {}) do declared[#declared + 1] = name end
      table.move(changes or {}, 1, #(changes or {}), #edits + 1, edits)
    end
  end
  for i = #edits, 1, -1 do
    local first, last, new = table.unpack(edits[i])
    text = text:sub(1, first - 1) .. new .. text:sub(last + 1)
  end
  return text, declared
end

-- After these an expression has ended: a name that follows begins a statement.
local ends = { name = true, number = true, string = true, [")"] = true, ["]"] = true, ["}"] = true, ["end"] = true,
  ["nil"] = true, ["true"] = true, ["false"] = true, ["..."] = true }

--- Where the last statement of a text begins, if it may be an expression: `x` in `x = 1; x`. nil where it is the first.
function chunk.last_statement(text)
  local list, found = chunk.tokens(text), nil
  for i = 2, #list do
    local token, before = list[i], list[i - 1]
    if token.depth == 0 and not closes[token.kind] then
      local begins = token.kind == "name" or token.kind == "number"
      if before.kind == ";" or begins and ends[before.kind] and before.depth == 0 then found = token.first end
    end
  end
  return found
end

-- ---- indentation ----

local STEP = 2

--- The white space that a line after a text begins with: two spaces for each block and bracket that is open; none
-- inside a string.
function chunk.indentation(text)
  local list = chunk.tokens(text)
  if list.open then return "" end
  local depth = 0
  for _, token in ipairs(list) do
    if opens[token.kind] and not (token.kind == "while" or token.kind == "for") or token.kind == "do" then
      depth = depth + 1
    end
    if closes[token.kind] then depth = depth - 1 end
  end
  return (" "):rep(STEP * math.max(depth, 0))
end

--- How many spaces before a line are too many: one step, where it begins by closing a block.
function chunk.outdent(line)
  local space, word = line:match "^( +)([%a}%])]+)"
  if not space or #space < STEP then return 0 end
  local closing = closes[word:match "^%a+" or word:sub(1, 1)] or word == "else" or word == "elseif"
  return closing and STEP or 0
end

return chunk
