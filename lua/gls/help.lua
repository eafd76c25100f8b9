--- Help: the documentation of every public name. For what is in C it is registered beside the function; for what is in
-- Lua it is the doc comment above the definition, read from the file.
-- @module gls.help
local core = require "gls.core"
local options = require "gls.options"
local source = require "gls.source"
local strict = require "gls.strict"
local terminal = require "gls.terminal"

local help = {}

-- The modules whose names are public, by the first part of a dotted name.
local ROOTS = { gls = "gls", nn = "gls.nn", optim = "gls.optim", data = "gls.data", train = "gls.train",
  plot = "gls.plot", log = "gls.log", experiment = "gls.experiment",
  curvature = "gls.curvature" }

-- ---- comments in files ----

-- LDoc's tags in words.
local function readable(text)
  return (text
    :gsub("^@t?param%[?([^%]%s]*)%]?%s+(%S+)%s+(%S+)", function(optional, kind, name)
      local default = optional:match "^opt=(.*)"
      if optional == "opt" then default = "optional" elseif default then default = "default " .. default end
      return ("  %s (%s%s)"):format(name, kind, default and ", " .. default or "")
    end)
    :gsub("^@param%[?[^%]%s]*%]?%s+(%S+)", "  %1:")
    :gsub("^@treturn%s+", "Gives: "):gsub("^@return%s+", "Gives: ")
    :gsub("^@raise%s+", "Error: "):gsub("^@usage%s*", "Example: "):gsub("^@see%s+", "See "))
end

-- The comment that ends above a line, without its dashes; nil where there is none.
local function comment_above(path, line)
  local lines, text = source.lines(path), {}
  local i = line - 1
  while lines[i] and lines[i]:find "^%s*%-%-" do
    table.insert(text, 1, readable((lines[i]:gsub("^%s*%-%-%-?%s?", ""))))
    if lines[i]:find "^%s*%-%-%-" then return table.concat(text, "\n") end
    i = i - 1
  end
  return nil
end

-- The comment that a file begins with.
local function file_comment(path)
  local lines, text = source.lines(path), {}
  if not (lines[1] and lines[1]:find "^%-%-%-") then return nil end
  for i = 1, #lines do
    if not lines[i]:find "^%-%-" then break end
    if not lines[i]:find "^%-%-%s*@module" then text[#text + 1] = (lines[i]:gsub("^%-%-%-?%s?", "")) end
  end
  return table.concat(text, "\n")
end

-- The comment above the line that gives a field its value: `optim.SGD = …`, `simple("ReLU", …)`, `of_pairs "mse"`.
local function comment_of_field(path, name)
  for i, line in ipairs(source.lines(path)) do
    if line:find("^[%w_]+%." .. name .. "%s*=") or line:find('^[%w_]+[ (]"' .. name .. '"') then
      local text = comment_above(path, i)
      if text then return text end
    end
  end
  return nil
end

local function module_path(value)
  for name, loaded in pairs(package.loaded) do
    if rawequal(loaded, value) and name:find "^gls" then return package.searchpath(name, package.path) end
  end
  return nil
end

-- ---- values ----

local function function_text(name, f, hidden)
  f = strict.original(f)
  local path, line = source.of(f)
  local text = path and comment_above(path, line)
  if text then return ("%s(%s)\n%s"):format(name, strict.parameters(f, hidden + 1), text) end
  text = path and comment_of_field(path, name:match "[%w_]+$")
  return text and name .. "\n" .. text
end

-- A class: what its file or the line that makes it says, and how it is called.
local function class_text(name, class)
  local last, text = name:match "[%w_]+$", {}
  local path = module_path(class)
  if path then text[1] = file_comment(path) end
  for _, method in ipairs { "init", "forward", "check", "update", "update_parameter" } do
    local f = rawget(class, method)
    local defined, line = nil, nil
    if type(f) == "function" then defined, line = source.of(f) end
    if defined then
      if not path and method ~= "init" then text[#text + 1] = comment_of_field(defined, last) end
      local above = method == "init" and comment_above(defined, line)
      if above then text[#text + 1] = above end
      if #text > 0 then break end
    end
  end
  return #text > 0 and name .. "\n" .. table.concat(text, "\n") or nil
end

-- The text of the value that a public name has.
local function text_of(name, value, root)
  local text
  if type(value) == "function" then
    text = function_text(name, value, 0)
  elseif type(value) == "table" then
    text = class_text(name, value)
  end
  if text then return text end
  local path = package.searchpath(ROOTS[root], package.path)
  local above = path and comment_of_field(path, name:match "[%w_]+$")
  return above and name .. "\n" .. above
end

-- The value of a dotted name and the root it is under, or nil.
local function find(name)
  local parts = {}
  for part in name:gmatch "[^.:]+" do parts[#parts + 1] = part end
  local root = table.remove(parts, 1)
  if not ROOTS[root] then return nil end
  local value = require(ROOTS[root])
  for _, part in ipairs(parts) do
    if type(value) ~= "table" then return nil end
    local own = rawget(value, part)
    local class = getmetatable(value)
    if own == nil and type(class) == "table" and type(class.__index) == "table" then own = class.__index[part] end
    value = own
  end
  return value, root
end

--- Every public name with a first line about it.
-- @treturn table list of { name =, text = } in order
function help.names()
  local list, seen = {}, {}
  local function add(name, text)
    if not seen[name] then
      seen[name] = true
      list[#list + 1] = { name = name, text = text }
    end
  end
  for name, text in pairs(core.docs) do add(name, text) end
  for root, module in pairs(ROOTS) do
    local function walk(prefix, names, depth)
      for key, value in pairs(names) do
        local name = prefix .. "." .. key
        if type(key) == "string" and not key:find "^_" and not (root == "gls" and (core.docs[key] or core[key])) then
          local text = text_of(name, value, root)
          if text then add(name, text) end
          if not text and type(value) == "table" and depth < 2 then walk(name, value, depth + 1) end
          if text and type(value) == "table" and module_path(value) and not rawget(value, "__index") then
            walk(name, value, depth + 1)
          end
        end
      end
    end
    if root ~= "gls" then add(root, file_comment(package.searchpath(module, package.path)) or "") end
    walk(root, require(module), 1)
  end
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

--- The help text of a public name: "conv2d", "x:item" or "item", "nn.Linear", "optim.schedule.cosine"; or of a value.
-- @param what a name, a function, or a class
-- @treturn string
-- @raise when there is none, with the nearest name
function help.text(what)
  local name = what
  if type(what) ~= "string" then
    name = nil
    for _, known in ipairs(help.names()) do
      local value = core[known.name] or find(known.name)
      if value ~= nil and (rawequal(value, what) or rawequal(strict.original(value), what)) then
        name = known.name
        break
      end
    end
    if not name then core.raise "help: a name is expected, or a function or class that has one" end
  end
  local short = name:match "^gls%.([%w_]+)$" or name:match "^x[:.]([%w_]+)$" or name
  if core.docs[short] then return core.docs[short] end
  local value, root = find(name)
  if ROOTS[name] then return name .. "\n" .. file_comment(package.searchpath(ROOTS[name], package.path)) end
  local text = value ~= nil and text_of(name, value, root) or nil
  if text then return text end
  local names = {}
  for _, known in ipairs(help.names()) do
    if known.name:match "[%w_]+$" == name then return help.text(known.name) end -- "Linear" is nn.Linear
    names[#names + 1] = known.name
  end
  local near = options.nearest(name, names)
  return core.raise(('help: there is nothing named "%s"%s'):format(name, near and ('; did you mean "%s"?'):format(near)
    or ""))
end

--- Prints the help of one name, or a list of all; on a terminal a page at a time.
-- @param[opt] what a name, a function, or a class
function help.print(what)
  if what ~= nil then
    terminal.page(help.text(what))
    return
  end
  local names, width, lines = help.names(), 0, {}
  for _, known in ipairs(names) do width = math.max(width, #known.name) end
  for i, known in ipairs(names) do
    local call, rest = known.text:match "^([^\n]*)\n?([^\n]*)"
    lines[i] = ("%-" .. width .. "s  %s"):format(known.name, rest ~= "" and rest or call)
  end
  terminal.page(table.concat(lines, "\n"))
end

return help
