--- Help: the documentation of every public name, in groups. For what is in C it is registered beside the function; for
-- what is in Lua it is the doc comment above the definition, read from the file.
-- @module gls.help
local core = require "gls.core"
local options = require "gls.options"
local source = require "gls.source"
local strict = require "gls.strict"
local terminal = require "gls.terminal"

local help = {}

-- The modules whose names are public, by the first part of a dotted name.
local ROOTS = { gls = "gls", nn = "gls.nn", optim = "gls.optim", data = "gls.data", train = "gls.train",
  plot = "gls.plot", log = "gls.log", experiment = "gls.experiment", compare = "gls.compare",
  curvature = "gls.curvature", distributed = "gls.distributed" }

-- The groups in order: those of gls itself, then modules.
local GROUPS = {
  "tensors", "creation", "views", "arranging", "indexing", "order", "arithmetic and activations",
  "elementary functions", "reductions", "products and convolutions", "attention and recurrence", "images",
  "normalisations", "losses", "linear algebra", "random numbers", "derivatives", "storage", "files", "the runtime",
  "nn", "optim", "data", "train", "experiment", "compare", "curvature", "distributed", "plot", "log",
}

-- ---- comments in files ----

-- LDoc's tags in words.
local function readable(text)
  return (text
    :gsub("^@tparam%[?([^%]%s]*)%]?%s+(%S+)%s+(%S+)", function(optional, kind, name)
      local default = optional:match "^opt=(.*)"
      if optional == "opt" then default = "optional" elseif default then default = "default " .. default end
      return ("  %s (%s%s)"):format(name, kind, default and ", " .. default or "")
    end)
    :gsub("^@param%[?[^%]%s]*%]?%s+(%S+)", "  %1:"):gsub("^@field%s+", "")
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

-- The comment "Settings." of a file.
local function settings_comment(path)
  local lines = source.lines(path)
  for i = 1, #lines do
    if lines[i]:find "^%-%-%- Settings%." then
      repeat i = i + 1 until not (lines[i] or ""):find "^%-%-"
      return comment_above(path, i)
    end
  end
  return nil
end

-- The table of forms, `Class.forms = {…}`, as a file has it.
local function forms_in(path)
  return ("\n" .. table.concat(source.lines(path), "\n") .. "\n"):match "\n([%w_]+%.forms = {\n.-\n})\n"
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

-- A class: what its file or the line that makes it says, how it is called, and its settings: those that its file, the
-- modules that this one names ("and those of gls.optim.matrix") and the base class have comments for.
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
  if #text == 0 then return nil end
  local paths, parent = { path }, getmetatable(class)
  for module in text[1]:gmatch "those%sof%s(gls%.[%w_.]*[%w_])" do
    paths[#paths + 1] = package.searchpath(module, package.path)
  end
  if type(parent) == "table" then paths[#paths + 1] = module_path(parent.__index) end
  for _, file in ipairs(paths) do
    local settings = settings_comment(file)
    if settings then text[#text + 1] = "\n" .. settings end
  end
  local forms = path and forms_in(path)
  if forms then text[#text + 1] = "\n" .. forms end
  return name .. "\n" .. table.concat(text, "\n")
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

-- The value of a dotted name and the root it is under, or nil. A name without a root is one of gls.
local function find(name)
  local parts = {}
  for part in name:gmatch "[^.:]+" do parts[#parts + 1] = part end
  local root = ROOTS[parts[1]] and table.remove(parts, 1) or "gls"
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

-- Whether a class or module has a function from elsewhere: it is documented there.
local function borrowed(owner, value)
  local path = module_path(owner)
  return path and type(value) == "function" and source.of(strict.original(value)) ~= path
end

--- Every public name with its group and its text.
-- @treturn table list of { name =, group =, text = } in the order of names
function help.names()
  local list, seen = {}, {}
  local function add(name, group, text)
    if not seen[name] then
      seen[name] = true
      list[#list + 1] = { name = name, group = group, text = text }
    end
  end
  for name, text in pairs(core.docs) do add(name, core.groups[name] or "the runtime", text) end
  for root, module in pairs(ROOTS) do
    local function walk(prefix, names, depth)
      for key, value in pairs(names) do
        local gls = root == "gls"
        local name = gls and depth == 1 and key or prefix .. "." .. tostring(key)
        if type(key) == "string" and not key:find "^_" and not (gls and (core.docs[key] or core[key] or ROOTS[key]))
          and not (depth > 1 and borrowed(names, value)) then
          local text = text_of(name, value, root)
          if text then add(name, gls and (core.groups[key] or "the runtime") or root, text) end
          if not text and type(value) == "table" and depth < 2 then walk(name, value, depth + 1) end
          if text and type(value) == "table" and module_path(value) and not rawget(value, "__index") then
            walk(name, value, depth + 1)
          end
        end
      end
    end
    walk(root, require(module), 1)
  end
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

-- ---- pages ----

-- The first sentence of a text below its call; of a row what it gives.
local function summary(text)
  local call, rest = text:gsub("\nIs checked with inputs.*", ""):match "^([^\n]*)\n?(.*)$"
  rest = (rest ~= "" and rest or call):gsub("%s*\n%s*", " ")
  return rest:match "^(.-[.])%s" or rest
end

-- A text cut to so many characters.
local function cut(text, width)
  if utf8.len(text) and utf8.len(text) <= width then return text end
  return text:sub(1, (utf8.offset(text, width) or #text + 1) - 1) .. "…"
end

-- A line for every name of a group; nil where there is no such group.
local function group_page(group)
  local names, widest, there = {}, 0, false
  for _, known in ipairs(GROUPS) do there = there or known == group end
  if not there then return nil end
  for _, known in ipairs(help.names()) do
    if known.group == group then
      names[#names + 1] = known
      widest = math.max(widest, #known.name)
    end
  end
  local columns = math.max(terminal.is_one() and terminal.size() or 120, 80)
  local lines = {}
  if ROOTS[group] then
    lines = { file_comment(package.searchpath(ROOTS[group], package.path)) or group, "" }
  end
  for _, known in ipairs(names) do
    lines[#lines + 1] = ("%-" .. widest .. "s  %s"):format(known.name, cut(summary(known.text), columns - widest - 3))
  end
  return table.concat(lines, "\n")
end

--- The names of all groups, as lines.
-- @treturn string
function help.overview()
  local of, groups = {}, { table.unpack(GROUPS) }
  for _, known in ipairs(help.names()) do
    if not of[known.group] then of[known.group] = {} end
    table.insert(of[known.group], known.name)
  end
  local lines, columns = {}, math.min(terminal.size(), 120)
  for _, group in ipairs(groups) do
    lines[#lines + 1] = terminal.paint("1", group)
    local line = " "
    for _, name in ipairs(of[group] or {}) do
      if #line + #name + 1 > columns and line ~= " " then
        lines[#lines + 1] = line
        line = " "
      end
      line = line .. " " .. name
    end
    lines[#lines + 1] = line
  end
  lines[#lines + 1] = 'gls.help "reductions": a line for each of a group; gls.help "sum": all about one'
  return table.concat(lines, "\n")
end

--- The help text of a public name: "conv2d", "x:item" or "item", "nn.Linear", "optim.schedule.cosine"; of a value; or
-- of a group, "nn" or "reductions": a line for each of its names.
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
  local page = group_page(name)
  if core.docs[short] and page then return core.docs[short] .. "\n\n" .. page end -- log is an op, and a module
  if core.docs[short] or page then return core.docs[short] or page end
  local value, root = find(short)
  local text = value ~= nil and text_of(short, value, root) or nil
  if text then return text end
  local names = { table.unpack(GROUPS) }
  for _, known in ipairs(help.names()) do
    if known.name:match "[%w_]+$" == name then return help.text(known.name) end -- "Linear" is nn.Linear
    names[#names + 1] = known.name
  end
  local near = options.nearest(name, names)
  return core.raise(('help: there is nothing named "%s"%s'):format(name, near and ('; did you mean "%s"?'):format(near)
    or ""))
end

--- Prints the help of one name or one group, or the names of all groups; on a terminal a page at a time.
-- @param[opt] what a name, a function, a class, or a group
function help.print(what) terminal.page(what == nil and help.overview() or help.text(what)) end

return help
