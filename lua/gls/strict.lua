--- Strict: what is public answers for its names and arguments: reading a name that is not there, and arguments that a
-- function does not take, are errors at the caller's line that say what would be right. `rawget` asks without an error.
-- @module gls.strict
local core = require "gls.core"
local options = require "gls.options"

local strict = {}

local inside = setmetatable({}, { __mode = "k" }) -- checked function → the function that does the work

--- The function itself of one that `strict.checked` made; others as they are.
function strict.original(f) return inside[f] or f end

--- The names of a Lua function's parameters.
-- @tparam function f
-- @tparam[opt=1] integer first where to begin: 2 leaves out `self`
-- @treturn string "inputs, outputs, settings"
function strict.parameters(f, first)
  f = strict.original(f)
  local known, names = debug.getinfo(f, "u"), {}
  for i = first or 1, known.nparams do names[#names + 1] = debug.getlocal(f, i) end
  if known.isvararg then names[#names + 1] = "…" end
  return table.concat(names, ", ")
end

--- Raises an error when there are more arguments than f takes; nil at the end counts as none.
-- @tparam string where the function's name in the message
-- @tparam function f a Lua function
-- @tparam integer hidden how many of its parameters are not the caller's (1: `self`)
-- @param ... the caller's arguments
function strict.arguments(where, f, hidden, ...)
  local given = select("#", ...)
  local known = debug.getinfo(f, "u")
  local most = known.nparams - hidden
  if known.isvararg or given <= most then return end
  while given > most and select(given, ...) == nil do given = given - 1 end
  if given <= most then return end
  core.raise(("%s: too many arguments; the call is %s(%s)"):format(where, where, strict.parameters(f, hidden + 1)))
end

--- f, refusing arguments that it does not take.
-- @tparam string where its name in the message
-- @tparam function f
-- @tparam[opt=0] integer hidden how many of its parameters are not the caller's (1: `self`)
-- @tparam[opt] function guard called with the first argument before f; refuses what is wrong with it
-- @treturn function
function strict.checked(where, f, hidden, guard)
  local known = debug.getinfo(f, "Su")
  if known.what == "C" or known.isvararg or inside[f] then return f end -- those in C refuse them by themselves
  local most = known.nparams
  hidden = hidden or 0
  local function checked(...)
    if select("#", ...) > most then strict.arguments(where, f, hidden, select(hidden + 1, ...)) end
    if guard then guard((...)) end
    return f(...)
  end
  inside[checked] = f
  return checked
end

--- Makes the methods of a class refuse surplus arguments: those whose first parameter is `self`, but init (whose
-- arguments the constructor checks) and forward.
-- @tparam string where what an object is called in messages
-- @tparam table class the class, which is changed
-- @tparam[opt] function guard called with `self` before each of these methods; refuses what is no object
function strict.methods(where, class, guard)
  for name, f in pairs(class) do
    if type(f) == "function" and not name:find "^__" and name ~= "init" and name ~= "forward"
      and debug.getlocal(f, 1) == "self" then
      class[name] = strict.checked(where .. ":" .. name, f, 1, guard)
    end
  end
end

--- Makes a table of public names strict: its functions refuse surplus arguments, names that it lacks are errors.
-- @tparam string where the table's name in messages
-- @tparam table names the table, which is changed
-- @tparam[opt] function find gives the value of a name that the table lacks (loaded when first asked for), or nil
-- @treturn table names
function strict.module(where, names, find)
  for name, value in pairs(names) do
    if type(value) == "function" then names[name] = strict.checked(where .. "." .. name, value) end
  end
  return setmetatable(names, { __name = where, __index = function(_, name)
    local value = find and find(name)
    if value ~= nil then
      names[name] = value
      return value
    end
    if type(name) ~= "string" or name:find "^_" then return nil end
    local near = options.nearest(name, names)
    core.raise(('%s has no "%s"%s'):format(where, name, near and ('; did you mean "%s"?'):format(near) or ""))
  end })
end

return strict
