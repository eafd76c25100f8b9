--- Tools: the functions that the prompt has beside the library's: who, timeit, run, locals, history, edit, reload, cd.
-- @module gls.repl.tools
local chunk = require "gls.repl.chunk"
local core = require "gls.core"
local file = require "gls.file"
local log = require "gls.log"
local session = require "gls.repl.session"
local show = require "gls.repl.show"
local terminal = require "gls.terminal"

local tools = {}

--- What `?` prints.
local SUMMARY = [[
x                the value of an expression; with ; at the end it is not shown
_  _1 … _5       the last value, the last five
name?  name??    help; help and source; *pool*? lists names
!command         the shell's; lines = !command keeps its lines
Tab              names, fields, methods, options, modules, files
Ctrl-R           searches the lines typed before
gls.help()       everything there is
gls.profile(f)   where the time goes, op by op
]]

--- Prints what the prompt has.
function tools.summary()
  local lines = {}
  for _, name in ipairs { "who", "show", "timeit", "run", "locals", "history", "edit", "reload", "cd" } do
    lines[#lines + 1] = ("%-16s %s"):format(name .. "()", tools.documentation[name])
  end
  terminal.page(SUMMARY .. table.concat(lines, "\n") .. "\nexit  Ctrl-D     leaves")
end

tools.documentation = {
  who = "lists the variables",
  show = "prints values as the prompt shows them",
  timeit = 'timeit(f) or timeit "x:matmul(y)": how long a call takes',
  run = 'run("file.lua", …): runs a script here; its top-level locals stay',
  locals = "the calls of the last error; locals(1): a table of the variables of one",
  history = 'what was typed in this session; history "file.lua" writes it',
  edit = 'edit(), edit(number), edit "file.lua": in $EDITOR; what is saved is run',
  reload = 'reload "module": reads it anew; tables that others hold are changed in place',
  cd = "cd(folder): the working directory; without one it is printed",
}

-- ---- variables ----

function tools.who()
  local names, width = {}, 0
  for _, name in ipairs(session.named()) do
    names[#names + 1] = name
    width = math.max(width, #name)
  end
  for _, name in ipairs(names) do
    print(("%-" .. width .. "s  %s"):format(name, show.brief(session.environment[name])))
  end
end

tools.show = show.print

-- ---- time ----

local RUNS, LEAST = 5, 0.1 -- of so many seconds each

local function seconds_text(seconds)
  for _, unit in ipairs { { 1, "s" }, { 1e-3, "ms" }, { 1e-6, "µs" } } do
    if seconds >= unit[1] then return ("%.3g %s"):format(seconds / unit[1], unit[2]) end
  end
  return ("%.3g ns"):format(seconds * 1e9)
end

-- Seconds of one of `count` calls.
local function time(f, count)
  local before = log.clock()
  for _ = 1, count do f() end
  return (log.clock() - before) / count
end

function tools.timeit(what)
  local f = what
  if type(what) == "string" then
    local problem
    f = load("return " .. what, "=timeit", "t", session.environment)
    if not f then f, problem = load(what, "=timeit", "t", session.environment) end
    if not f then error(problem, 0) end
  end
  if type(f) ~= "function" then
    core.raise("timeit: a function or the text of an expression expected, got " .. type(f))
  end
  local count, taken = 1, time(f, 1)
  while taken * count < LEAST do
    count = math.min(count * 10, math.max(count + 1, math.ceil(LEAST / math.max(taken, 1e-9))))
    taken = time(f, count)
  end
  local times = {}
  for i = 1, RUNS do
    times[i] = time(f, count)
    core.collect()
  end
  table.sort(times)
  print(("%s a call: the best of %d runs of %d; median %s, longest %s"):format(seconds_text(times[1]), RUNS, count,
    seconds_text(times[RUNS // 2 + 1]), seconds_text(times[RUNS])))
end

-- ---- scripts and text ----

function tools.run(path, ...)
  if type(path) ~= "string" then core.raise("run: the name of a file expected, got " .. type(path)) end
  local text, message = file.read(path)
  if not text then core.raise("run: " .. message) end
  local plain, names = chunk.without_locals((text:gsub("^#[^\n]*", "")))
  local f, problem = load(plain, "@" .. path, "t", session.environment)
  if not f then error(problem, 0) end
  session.declare(names)
  local before = rawget(_G, "arg")
  rawset(_G, "arg", { [0] = path, ... })
  local _ <close> = setmetatable({}, { __close = function() rawset(_G, "arg", before) end })
  return f(...)
end

function tools.history(path)
  local list = session.history
  if path ~= nil then
    if type(path) ~= "string" then core.raise("history: the name of a file expected, got " .. type(path)) end
    file.replace(path, table.concat(list, "\n") .. "\n")
    return
  end
  local lines = {}
  for i, text in ipairs(list) do lines[i] = ("%3d  %s"):format(i, (text:gsub("\n", "\n     "))) end
  terminal.page(table.concat(lines, "\n"))
end

function tools.edit(what)
  local list = session.history
  if type(what) == "number" and not list[what] then
    core.raise(("edit: there is no entry %s; history() lists them, 1 to %d"):format(what, #list))
  end
  local path = type(what) == "string" and what or os.tmpname() .. ".lua"
  if type(what) ~= "string" then
    file.replace(path, (list[what or #list - 1] or "") .. "\n")
  end
  local editor = terminal.environment "VISUAL" or terminal.environment "EDITOR" or "vi"
  local good = terminal.hand_over(("%s '%s'"):format(editor, path:gsub("'", "'\\''")))
  local text = file.read(path)
  if type(what) ~= "string" then os.remove(path) end
  if not good or not text then core.raise(("edit: %s has failed; EDITOR names another"):format(editor)) end
  text = text:gsub("%s+$", "")
  if text == "" then return end
  io.write(text, "\n")
  session.note(text)
  local f = session.compile(text)
  if not f then core.raise("edit: the text is not complete") end
  f()
end

function tools.reload(name)
  local old = package.loaded[name]
  if old == nil then core.raise(("reload: there is no loaded module %s"):format(tostring(name))) end
  package.loaded[name] = nil
  local good, new = pcall(require, name)
  if not good then
    package.loaded[name] = old
    error(new, 0)
  end
  if type(old) == "table" and type(new) == "table" then
    for key in next, old do
      if rawget(new, key) == nil then rawset(old, key, nil) end
    end
    for key, value in next, new do rawset(old, key, value == new and old or value) end
    package.loaded[name] = old
    new = old
  end
  return new
end

-- ---- after an error ----

local frames = {} -- of the last error, innermost first
local MOST, LEVELS = 20, 1000 -- kept; looked through

--- Keeps the variables of the user's calls: run where an error is raised, before the calls are gone.
function tools.caught()
  local list, level = {}, 2
  while #list < MOST and level < LEVELS do
    local known = debug.getinfo(level, "Slnf")
    if not known then break end
    if known.what ~= "C" and not (known.source:find "^@" and known.source:find("lua/gls/", 1, true)) then
      local frame = { place = ("%s:%d"):format(known.short_src, known.currentline), name = known.name, values = {} }
      local function add(name, value)
        if name and not name:find "^%(" and name ~= "_ENV" then frame.values[name] = value end
      end
      for i = 1, 255 do
        local name, value = debug.getupvalue(known.func, i)
        if not name then break end
        add(name, value)
      end
      for i = 1, 255 do
        local name, value = debug.getlocal(level, i)
        if not name then break end
        add(name, value)
      end
      list[#list + 1] = frame
    end
    level = level + 1
  end
  frames = list
end

function tools.locals(number)
  if #frames == 0 then
    print "no error has been kept"
    return
  end
  if number ~= nil then
    local frame = frames[number]
    if not frame then core.raise(("locals: the last error has calls 1 to %d"):format(#frames)) end
    return frame.values
  end
  for i, frame in ipairs(frames) do
    print(("%d  %s%s"):format(i, frame.place, frame.name and " in " .. frame.name or ""))
    local names = {}
    for name in pairs(frame.values) do names[#names + 1] = name end
    table.sort(names)
    for _, name in ipairs(names) do print(("     %s = %s"):format(name, show.brief(frame.values[name]))) end
  end
end

return tools
