--- Session: what a chunk typed at the prompt means: its variables live on, its last expression is shown, `name?` asks
-- for help, `!command` is the shell's.
-- @module gls.repl.session
local chunk = require "gls.repl.chunk"
local help = require "gls.help"
local log = require "gls.log"
local options = require "gls.options"
local show = require "gls.repl.show"
local terminal = require "gls.terminal"

local session = {}

local RESULTS = 5 -- kept as _1, _2, …
local LONG = 1 -- seconds after which a command's time is told

-- ---- variables ----
-- Top-level locals are kept apart from the globals: a local named `type` must not change what the library calls so.

local declared, assigned = {}, {} -- names of locals; of globals that chunks set, nil among them

--- The environment of every chunk: locals, then globals; reading a name that is neither is an error.
session.environment = setmetatable({}, {
  __name = "variables",
  __index = function(_, name)
    local value = _G[name]
    if value ~= nil or declared[name] or assigned[name] or type(name) ~= "string" then return value end
    local names = session.names()
    for known in pairs(names) do
      if type(known) == "string" and known:find "^_" then names[known] = nil end
    end
    local near = options.nearest(name, names)
    error(("there is no variable %s%s"):format(name, near and ("; did you mean %s?"):format(near) or ""), 2)
  end,
  __newindex = function(self, name, value)
    if declared[name] then
      rawset(self, name, value)
    else
      assigned[name] = true
      _G[name] = value
    end
  end,
})

--- Names of all variables, as the keys of a table.
function session.names()
  local names = {}
  for name in pairs(_G) do names[name] = true end
  for name in next, session.environment do names[name] = true end
  return names
end

--- Names of the variables that the session has made, top-level locals and globals, in order.
function session.named()
  local names = {}
  for _, known in ipairs { declared, assigned } do
    for name in pairs(known) do
      local there = rawget(session.environment, name) ~= nil or rawget(_G, name) ~= nil
      if there and not name:find "^_%d*$" then names[#names + 1] = name end
    end
  end
  table.sort(names)
  return names
end

--- Makes names top-level locals.
function session.declare(names)
  for _, name in ipairs(names) do declared[name] = true end
end

--- What was typed, in order.
session.history = {}

--- Adds to the history.
function session.note(text) session.history[#session.history + 1] = text end

-- Results of expressions by their text, for completion, as long as somebody else keeps them.
local results_of = setmetatable({}, { __mode = "v" })

-- A text without white space and comments.
local function compact(text)
  local parts = {}
  for i, token in ipairs(chunk.tokens(text)) do parts[i] = text:sub(token.first, token.last) end
  return table.concat(parts, " ")
end

--- The value that an expression had when it was last typed as a line of its own; nil where it was not.
function session.result_of(text) return results_of[compact(text)] end

local function keep(text, results)
  if results.n == 0 or results[1] == nil then return end
  local environment = session.environment
  for i = RESULTS, 2, -1 do rawset(environment, "_" .. i, rawget(environment, "_" .. i - 1)) end
  rawset(environment, "_1", results[1])
  rawset(environment, "_", results[1])
  local kind = type(results[1])
  if kind == "table" or kind == "userdata" then results_of[compact(text)] = results[1] end
end
for i = 1, RESULTS do declared["_" .. i] = true end
declared._ = true

-- ---- commands that are not Lua ----

-- The value of a path such as model[1].weight, without calling anything but __index; nil where it leads nowhere.
local function value_of(path)
  local f = load("return " .. path, "=prompt", "t", session.environment)
  local good, value = pcall(f or error)
  if good then return value end
  return nil
end

-- The lines of a function in its file.
local function source_text(f)
  local known = debug.getinfo(f, "S")
  local path = known.source:match "^@(.*)"
  local file = path and io.open(path)
  if not file then return nil end
  local lines, i = { ("-- %s:%d"):format(known.short_src, known.linedefined) }, 0
  for line in file:lines() do
    i = i + 1
    if i >= known.linedefined and i <= known.lastlinedefined then lines[#lines + 1] = line end
  end
  file:close()
  return table.concat(lines, "\n")
end

-- What `name?` and `name??` print.
local function explain(name, with_source)
  local value = value_of(name)
  local good, text = pcall(help.text, name)
  if not good and value ~= nil and type(value) ~= "string" then good, text = pcall(help.text, value) end
  if not good and value == nil then error(text, 0) end
  if not good then text = ("%s is a %s: %s"):format(name, type(value), show.brief(value)) end
  if not with_source then
    terminal.page(text)
    return
  end
  local class = type(value) == "table" and value or nil
  local f = type(value) == "function" and value or class and (rawget(class, "forward") or rawget(class, "update"))
  local source = type(f) == "function" and source_text(require("gls.strict").original(f))
  terminal.page(text .. "\n\n" .. (source or ("%s has no source in Lua"):format(name)))
end

-- What `*pool*?` prints: the public names that fit, * standing for any characters.
local function list_names(wanted)
  local pattern, lines = "^" .. wanted:gsub("%.", "%%."):gsub("%*", ".*") .. "$", {}
  for _, known in ipairs(help.names()) do
    if known.name:find(pattern) then lines[#lines + 1] = known.name end
  end
  if #lines == 0 then error(("there is no name like %s"):format(wanted), 0) end
  terminal.page(table.concat(lines, "\n"))
end

local function shell(command)
  io.stdout:flush()
  local good, how, code = os.execute(command)
  if not good then print(("%s %d"):format(how, code)) end
end

-- The lines that a command prints.
local function lines_of(command)
  local lines, pipe = {}, assert(io.popen(command))
  for line in pipe:lines() do lines[#lines + 1] = line end
  pipe:close()
  return lines
end
rawset(session.environment, "__lines_of", lines_of)

-- ---- chunks ----

local function load_chunk(text) return load(text, "=prompt", "t", session.environment) end

-- A function for the text that gives the value of its last expression, else one that runs it; or nil and the message,
-- nil where the text, or the expression that it ends with, only lacks its end.
local function load_showing(text)
  local at = chunk.last_statement(text)
  local ways = { "return " .. text, at and text:sub(1, at - 1) .. "return " .. text:sub(at) or text, text }
  local open, message = false, nil
  for _, way in ipairs(ways) do
    local f
    f, message = load_chunk(way)
    if f then return f end
    open = open or message:find "<eof>$" ~= nil
  end
  return nil, not open and message or nil
end

--- What to run for a text typed at the prompt.
-- @tparam string text one or more lines
-- @treturn function|boolean|nil what to run; false where the session ends; nil where the text only lacks its end
function session.compile(text)
  local command = text:match "^%s*!(.*)$"
  if command then return function() shell(command) end end
  local variable, captured = text:match "^%s*([%a_][%w_ ]*)=%s*!(.*)$"
  if variable then text = ("%s= __lines_of(%q)"):format(variable, captured) end
  if text:find "^%s*%?%s*$" then return session.summary end
  local name, marks = text:match "^%s*([%w_.:%[%]]+)%s*(%?%??)%s*$"
  if name then return function() explain(name, marks == "??") end end
  local wanted = text:match "^%s*([%w_.*]+)%s*%?%s*$"
  if wanted then return function() list_names(wanted) end end
  name = text:match "^%s*(%a+)%s*$"
  if name and rawget(_G, name) == nil and not declared[name] then
    if name == "exit" or name == "quit" then return false end
    if name == "help" then return session.summary end
  end

  local plain, names = chunk.without_locals(text)
  local silent = plain:find ";%s*$" ~= nil
  if silent then plain = plain:gsub(";%s*$", "") end
  local f, message = load_showing(plain)
  if not f then
    if not message then return nil end
    return function() error(message, 0) end
  end
  session.declare(names)
  return function()
    local before = log.clock() - terminal.handed_over
    local results = table.pack(f())
    local seconds = log.clock() - terminal.handed_over - before
    -- What a generic for takes, with the value that it closes at the end, is one value: a loader.
    local is_for = results.n == 4 and results[2] == nil and results[3] == nil and rawequal(results[1], results[4])
    if is_for then results.n = 1 end
    keep(plain, results)
    if not silent then show.print(table.unpack(results, 1, results.n)) end
    if seconds >= LONG then print(("(%s)"):format(log.duration(seconds))) end
  end
end

return session
