--- Containers: Sequential and Residual.
-- @module gls.nn.container
local options = require "gls.options"
local Module = require "gls.nn.module"

local container = {}

local Sequential = Module.class("Sequential")
container.Sequential = Sequential

--- `nn.Sequential { nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 1) }`: one after the other. Entries are modules or
-- functions; they are fields 1, 2, … of the object.
-- @tparam table list
function Sequential:init(list)
  if type(list) ~= "table" or Module.is_module(list) or rawget(list, "is_gls_module") then
    error("nn.Sequential: a list of modules expected, as in nn.Sequential { a, b }", 2)
  end
  options.list("nn.Sequential", list, 2)
  for key in pairs(list) do
    if math.type(key) ~= "integer" or key < 1 or key > #list then
      error(("nn.Sequential: a list of modules expected; there is an entry [%s]"):format(tostring(key)), 2)
    end
  end
  for i, module in ipairs(list) do self:add(module, i) end
end

--- Appends a module or function.
-- @return the Sequential
function Sequential:add(module)
  if not (Module.is_module(module) or type(module) == "function") then
    local hint = type(module) == "table" and rawget(module, "is_gls_module") and " (a class: call it to make one)" or ""
    error(("nn.Sequential: entry %d must be a module or a function, got %s%s"):format(#self + 1, type(module), hint), 2)
  end
  self[#self + 1] = module
  return self
end

function Sequential:forward(x)
  for i = 1, #self do x = self[i](x) end
  return x
end

local Residual = Module.class("Residual")
container.Residual = Residual

--- `nn.Residual(module)`: x + module(x) (He, Zhang, Ren and Sun, 2016); with a second module, shortcut(x) + module(x).
function Residual:init(module, shortcut)
  if not Module.is_module(module) then error("nn.Residual: a module expected, got " .. type(module), 2) end
  if shortcut ~= nil and not Module.is_module(shortcut) then
    error("nn.Residual: the shortcut must be a module, got " .. type(shortcut), 2)
  end
  self.module = module
  if shortcut then self.shortcut = shortcut end
end

function Residual:forward(x)
  local straight = x
  if self.shortcut then straight = self.shortcut(x) end
  return straight + self.module(x)
end

return container
