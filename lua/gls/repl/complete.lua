--- Complete: what Tab offers: names of variables, fields and methods, options of the call being typed, files inside
-- strings, modules after `require`. Nothing of the user's is called for it.
-- @module gls.repl.complete
local chunk = require "gls.repl.chunk"
local core = require "gls.core"
local help = require "gls.help"
local log = require "gls.log"
local session = require "gls.repl.session"

-- ---- fields without calling anything ----

-- Tables where the fields of a value are looked for, in order: its own, then along __index. Values whose __index is a
-- function (tensors) keep their methods in the field `methods` of the metatable.
local function places(value)
  local list, seen = {}, {}
  for _ = 1, 20 do
    if type(value) == "table" and not seen[value] then
      seen[value] = true
      list[#list + 1] = value
    end
    local metatable = debug.getmetatable(value)
    local index = type(metatable) == "table" and rawget(metatable, "__index") or nil
    if type(index) == "function" then index = rawget(metatable, "methods") end
    if type(index) ~= "table" or seen[index] then break end
    value = index
  end
  return list
end

-- A tensor has fields of its own, which its methods do not show: gradients are not formed for their sake.
local tensor = core.zeros(1)
local TENSOR_FIELDS = { grad = tensor, shape = {}, type = "" }

local function field_of(value, key)
  if core.is_tensor(value) and TENSOR_FIELDS[key] ~= nil then return TENSOR_FIELDS[key] end
  for _, place in ipairs(places(value)) do
    local field = rawget(place, key)
    if field ~= nil then return field end
  end
  return nil
end

local function variable(name)
  local own = rawget(session.environment, name)
  if own ~= nil then return own end
  return rawget(_G, name)
end

-- The value of model.encoder[1].2, or nil.
local function value_at(path)
  local first, rest = path:match "^([%a_][%w_]*)(.*)$"
  local value = first and variable(first)
  for key in (rest or ""):gmatch "[%w_]+" do
    if value == nil then return nil end
    value = field_of(value, math.tointeger(key) or key)
  end
  return value
end

-- ---- results of calls, without calling ----

-- What a call of a value gives, as far as that is known: of a class one of its objects (here the class itself, which
-- has their methods), of a module and an op of the core a tensor, of `require` the module.
local function result_of_call(value, name, argument)
  if type(value) == "table" then
    if rawget(value, "is_gls_module") or rawget(value, "defaults") then return value end
    return field_of(value, "is_gls_module") and tensor or nil
  end
  if type(value) ~= "function" then return nil end
  if value == require then return argument and package.loaded[argument] end
  local first = core.docs[name] and core.docs[name]:match "^[^\n]*"
  local known = value == core[name] or value == field_of(tensor, name)
  return known and first:find "%-> tensor" and tensor or nil
end

local OPENING = { [")"] = "(", ["]"] = "[", ["}"] = "{" }

-- Where the expression begins that ends with token `last`: names, calls, brackets.
local function expression_start(list, last)
  local i = last
  while i >= 1 do
    local kind = list[i].kind
    if OPENING[kind] then
      local depth = list[i].depth
      repeat i = i - 1 until i < 1 or list[i].kind == OPENING[kind] and list[i].depth == depth
      if i < 1 then return nil end
    elseif kind ~= "name" and kind ~= "string" then
      return nil
    end
    local before = list[i - 1] and list[i - 1].kind
    if kind == "name" and (before == "." or before == ":") then
      i = i - 2
    elseif kind ~= "name" and (before == "name" or OPENING[before] or before == "string") then
      i = i - 1 -- what is called or indexed
    else
      return i
    end
  end
  return nil
end

-- The value of the expression of tokens first to last: of calls what they gave when they were typed, else what is known
-- of them.
local function value_of_expression(line, list, first, last)
  local function text(i) return line:sub(list[i].first, list[i].last) end
  local function unquoted(i) return text(i):match "^[\"'](.*)[\"']$" end
  local function typed(stop) return session.result_of(line:sub(list[first].first, list[stop].last)) end
  if list[first].kind == "string" then return first == last and "" or nil end
  if list[first].kind == "(" and expression_start(list, last - 1) == first + 1 then
    return value_of_expression(line, list, first + 1, last - 1)
  end
  if list[first].kind ~= "name" then return nil end
  local value, name, i = variable(text(first)), text(first), first + 1
  while i <= last and value ~= nil do
    local kind = list[i].kind
    if kind == "." or kind == ":" then
      name = text(i + 1)
      value, i = field_of(value, name), i + 2
    elseif kind == "string" then
      value, i = typed(i) or result_of_call(value, name, unquoted(i)), i + 1
    else
      local stop = i + 1
      while list[stop].depth > list[i].depth do stop = stop + 1 end
      if kind == "[" then
        local key = stop == i + 2 and (math.tointeger(text(i + 1)) or unquoted(i + 1)) or nil
        value = core.is_tensor(value) and tensor or key ~= nil and field_of(value, key) or nil
      else
        value = typed(stop) or result_of_call(value, name, stop == i + 2 and unquoted(i + 1) or nil)
      end
      i = stop + 1
    end
  end
  return value
end

-- ---- candidates ----

local function beginning_with(prefix, names)
  local list = {}
  for name in pairs(names) do
    if type(name) == "string" and name:sub(1, #prefix) == prefix then list[#list + 1] = name end
  end
  table.sort(list)
  return list
end

local function fields_under(value, prefix, methods_only)
  local names = {}
  for _, place in ipairs(places(value)) do
    for key, field in next, place do
      if chunk.is_name(key) and (not methods_only or type(field) == "function")
        and (prefix ~= "" or key:sub(1, 2) ~= "__") then
        names[key] = true
      end
    end
  end
  if core.is_tensor(value) and not methods_only then
    for name in pairs(TENSOR_FIELDS) do names[name] = true end
  end
  return beginning_with(prefix, names)
end

-- Entries of a folder, folders with a slash.
local function entries(folder)
  local names = {}
  local pipe = io.popen("ls -1Ap -- '" .. folder:gsub("'", "'\\''") .. "' 2>/dev/null")
  if pipe then
    for name in pipe:lines() do names[name] = true end
    pipe:close()
  end
  return names
end

local function files(text)
  local folder, prefix = text:match "^(.*/)([^/]*)$"
  return beginning_with(prefix or text, entries(folder or ".")), prefix or text
end

-- Modules that are loaded or lie in package.path.
local function modules(text)
  local folder, prefix = text:match "^(.*%.)([^.]*)$"
  folder, prefix = folder or "", prefix or text
  local names = {}
  for name in pairs(package.loaded) do
    if name:sub(1, #folder) == folder then names[name:sub(#folder + 1):match "^[^.]*"] = true end
  end
  for template in package.path:gmatch "[^;]+" do
    local before, after = template:match "^([^?]*)%?(.*)$"
    if before and after == ".lua" then
      for name in pairs(entries(before .. folder:gsub("%.", "/"))) do
        local module = name:match "^([^.]+)%.lua$" or name:match "^([^.]+)/$"
        if module then names[module] = true end
      end
    end
  end
  return beginning_with(prefix, names), prefix
end

-- The call whose settings are being typed at the end of a line, "optim.GLS" in `optim.GLS(p, { d`; nil elsewhere.
local function call_around(line, list)
  local open = {}
  for i, token in ipairs(list) do
    if token.kind == "(" or token.kind == "{" or token.kind == "[" then
      open[#open + 1] = i
    elseif token.kind == ")" or token.kind == "}" or token.kind == "]" then
      open[#open] = nil
    end
  end
  local brace = open[#open]
  if not brace or list[brace].kind ~= "{" then return nil end
  for _, i in ipairs { brace, open[#open - 1] } do
    local before = list[i - 1]
    local path = before and line:sub(1, before.last):match "([%a_][%w_.]*)$"
    if path and before.kind == "name" then return path end
  end
  return nil
end

-- Names of the options of a function or class: an optimizer's defaults, and what its help says has a value.
local function options_of(path)
  local value, names = value_at(path), {}
  local defaults = type(value) == "table" and rawget(value, "defaults")
  for name in pairs(type(defaults) == "table" and defaults or {}) do names[name] = true end
  local good, text = pcall(help.text, path)
  if not good and value ~= nil then good, text = pcall(help.text, value) end
  for name in (good and text or ""):gmatch "([%a_][%w_]*)`? = " do names[name] = true end
  for name in (good and text or ""):gmatch "`([%a_][%w_]*)`[ :][^=]" do names[name] = true end
  return names
end

-- ---- the answer ----

local function common_prefix(list)
  local first, last = list[1], list[#list] -- in order, so these two differ the most
  local n = 0
  while n < #first and first:byte(n + 1) == last:byte(n + 1) do n = n + 1 end
  return first:sub(1, n)
end

local function in_columns(list, width)
  local widest = 0
  for _, name in ipairs(list) do widest = math.max(widest, log.width(name) + 2) end
  local per_line = math.max(1, width // widest)
  local lines = {}
  for i = 1, #list, per_line do
    local line = {}
    for j = i, math.min(i + per_line - 1, #list) do line[#line + 1] = log.pad(list[j], widest) end
    lines[#lines + 1] = (table.concat(line):gsub("%s+$", ""))
  end
  return table.concat(lines, "\n")
end

-- The candidates for the end of a line, what is there of them, and what follows a lone one.
local function candidates(line)
  local list = chunk.tokens(line)
  if list.open then
    local text = line:sub(list.open + 1)
    local found, prefix = (line:sub(1, list.open - 1):find "require%s*%(?%s*$" and modules or files)(text)
    return found, prefix, ""
  end
  local before, path, separator, prefix = line:match "^(.-)([%a_][%w_.%[%]]*)([.:])([%a_]?[%w_]*)$"
  if path and not before:find "[%w_.:)%]}\"']$" then
    return fields_under(value_at(path), prefix, separator == ":"), prefix, ""
  end
  separator, prefix = line:match "([.:])([%a_]?[%w_]*)$"
  if separator then
    local last_of = #list - (prefix ~= "" and 2 or 1)
    local first = last_of >= 1 and expression_start(list, last_of)
    local value = first and value_of_expression(line, list, first, last_of)
    return value ~= nil and fields_under(value, prefix, separator == ":") or {}, prefix, ""
  end
  prefix = line:match "([%a_][%w_]*)$" or ""
  local last = list[prefix ~= "" and #list - 1 or #list]
  if last and (last.kind == "{" or last.kind == ",") then
    local call = call_around(line, list)
    local names = call and beginning_with(prefix, options_of(call)) or {}
    if #names > 0 then return names, prefix, " = " end
  end
  if prefix == "" or last and last.last == #line - #prefix and last.kind:find "[.:)%]]" then return {}, prefix, "" end
  return beginning_with(prefix, session.names()), prefix, ""
end

--- What Tab does: what is typed before the cursor is completed as far as it is certain.
-- @tparam string line the text before the cursor
-- @tparam[opt=80] integer width columns of the terminal
-- @treturn string what to insert, possibly empty
-- @treturn string|nil the candidates in columns, when there are several
return function(line, width)
  if line:find "^%s*$" then return "  " end
  local found, prefix, after = candidates(line)
  if #found == 0 then return "" end
  if #found == 1 then return found[1]:sub(#prefix + 1) .. after end
  return common_prefix(found):sub(#prefix + 1), in_columns(found, width or 80)
end
