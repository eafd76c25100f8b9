--- Containers: Sequential, ModuleList and Residual.
-- @module gls.nn.container
local core = require "gls.core"
local options = require "gls.options"
local Module = require "gls.nn.module"

local container = {}

-- The number of entries, none of which may be missing among them: `#` would end before it.
local function count(self)
  local last = 0
  for _, key in ipairs(self.field_order) do
    if math.type(key) == "integer" and key > last and rawget(self, key) ~= nil then last = key end
  end
  for i = 1, last do
    if rawget(self, i) == nil then
      core.raise(("nn.%s: entry %d is nil, entry %d is not: an entry is taken out by table.remove(model, %d), after "
        .. "which the rest moves up, not by model[%d] = nil"):format(self.name, i, last, i, i))
    end
  end
  return last
end

-- Appends to a container; entries are fields 1, 2, … of the object.
local function append(self, module, and_functions)
  local place = count(self) + 1
  if not (Module.is_module(module) or and_functions and type(module) == "function") then
    local hint = type(module) == "table" and rawget(module, "is_gls_module") and " (a class: call it to make one)" or ""
    core.raise(("nn.%s: entry %d must be a module%s, got %s%s"):format(self.name, place,
      and_functions and " or a function" or "", type(module), hint))
  end
  self[place] = module
  return self
end

local function fill(self, list)
  local where = "nn." .. self.name
  if type(list) ~= "table" or Module.is_module(list) or rawget(list, "is_gls_module") then
    core.raise(("%s: a list of modules expected, as in %s { a, b }"):format(where, where))
  end
  options.list(where, list)
  for key in pairs(list) do
    if math.type(key) ~= "integer" or key < 1 or key > #list then
      core.raise(("%s: a list of modules expected; there is an entry [%s]"):format(where, tostring(key)))
    end
  end
  for _, module in ipairs(list) do self:add(module) end
end

local Sequential = Module.class("Sequential")
container.Sequential = Sequential

--- `nn.Sequential { nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 1) }`: one after the other. Entries are modules or
-- functions; they are fields 1, 2, … of the object.
-- @tparam table list
function Sequential:init(list) fill(self, list) end

--- Appends a module or function.
-- @return the Sequential
function Sequential:add(module) return append(self, module, true) end

function Sequential:forward(x)
  for i = 1, count(self) do x = self[i](x) end
  return x
end

local ModuleList = Module.class("ModuleList")
container.ModuleList = ModuleList

--- `nn.ModuleList { nn.Linear(2, 3), nn.Linear(2, 3) }`: modules that a model uses as it likes: `list[i]`, `#list`,
-- `for i, module in ipairs(list)`.
-- @tparam[opt={}] table list
function ModuleList:init(list) fill(self, list or {}) end

--- Appends a module.
-- @return the list
function ModuleList:add(module) return append(self, module, false) end

local Residual = Module.class("Residual")
container.Residual = Residual

--- `nn.Residual(module)`: x + module(x) (He, Zhang, Ren and Sun, 2016); with a second module, shortcut(x) + module(x).
function Residual:init(module, shortcut)
  if not Module.is_module(module) then core.raise("nn.Residual: a module expected, got " .. type(module)) end
  if shortcut ~= nil and not Module.is_module(shortcut) then
    core.raise("nn.Residual: the shortcut must be a module, got " .. type(shortcut))
  end
  self.module = module
  if shortcut then self.shortcut = shortcut end
end

function Residual:forward(x)
  return (self.shortcut and self.shortcut(x) or x) + self.module(x)
end

return container
