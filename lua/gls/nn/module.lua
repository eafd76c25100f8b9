--- Module: what every layer and model is: an object with `forward`, whose parameters, buffers and child modules are
-- found by walking its fields.
-- @module gls.nn.module
local gls = require "gls"
local number = require "gls.number"
local options = require "gls.options"
local source = require "gls.source"
local strict = require "gls.strict"

local Module = { __name = "Module" }
Module.__index = Module

--- Whether a value is a module.
local function is_module(value)
  local class = type(value) == "table" and getmetatable(value)
  return class and rawget(class, "is_gls_module") == true
end

-- ---- classes ----

-- The fields in the order of their first assignment are parameters' order.
local function remember_field(self, name, value)
  rawset(self, name, value)
  local order = rawget(self, "field_order")
  if not order.known[name] then
    order.known[name] = true
    order[#order + 1] = name
  end
end

-- A message without the position inside this library that it may begin with.
local function without_position(message)
  return (message:gsub("^[^\n:]*gls/nn/[%w_]+%.lua:%d+: ", ""))
end

-- A message with the position of the user's innermost line, when it has none outside this library.
local function located(message)
  if type(message) ~= "string" then return message end
  local text = without_position(message)
  return text:find "^[^\n:]+:%d+: " and text or gls.core.position() .. text
end

local function no_init(_) end

local function construct(class, ...)
  local self = setmetatable({ training = true, field_order = { known = {} }, buffer_names = {} }, class)
  strict.arguments("nn." .. class.name, self.init or no_init, 1, ...)
  if not self.init then return self end
  local ok, message = xpcall(self.init, located, self, ...)
  if ok then return self end
  error(message, 0)
end

--- A new class of modules.
-- Calling it makes an object and runs its `init` with the arguments; calling the object runs `forward`.
-- @tparam string name shown in print and in errors
-- @tparam[opt=Module] table parent a class whose methods it takes over
-- @treturn table the class, to which init, forward and other methods are added
-- @usage local Block = nn.class("Block")
-- function Block:init(width) self.linear = nn.Linear(width, width) end
-- function Block:forward(x) return x + self.linear(x):relu() end
function Module.class(name, parent)
  if type(name) ~= "string" then error("nn.class: the name of the class expected, a string", 2) end
  if parent ~= nil and not (type(parent) == "table" and rawget(parent, "is_gls_module")) then
    error(("nn.class: parent of %s must be a class of modules"):format(name), 2)
  end
  parent = parent or Module
  local class = { __name = name, name = name, parent = parent, is_gls_module = true, __newindex = remember_field }
  class.__index = class
  class.__call = parent.__call
  class.__tostring = parent.__tostring
  return setmetatable(class, { __index = parent, __call = construct, __name = "class " .. name })
end

Module.is_gls_module = true
Module.__newindex = remember_field

-- ---- walking ----

-- Fields of a module or plain table in order: a module's as they were first set; a table's numbers in order, then its
-- string keys sorted. Other keys have no name for a tensor or module.
local function ordered_keys(value, module)
  local keys = {}
  if module then
    for _, name in ipairs(value.field_order) do keys[#keys + 1] = name end
    return keys
  end
  for i = 1, #value do keys[i] = i end
  local names, length = {}, #keys
  for key, inner in next, value do
    if type(key) == "string" then
      names[#names + 1] = key
    elseif type(key) == "number" then
      if not (math.type(key) == "integer" and key >= 1 and key <= length) then keys[#keys + 1] = key end
    elseif is_module(inner) or gls.is_tensor(inner) and inner:requires_grad() then
      gls.core.raise(("a table in a model's field holds a %s under a key that is a %s: keys are numbers or strings, of "
        .. "which names are made"):format(is_module(inner) and inner.name or "tensor", type(key)))
    end
  end
  if #keys > length then table.sort(keys) end
  table.sort(names)
  table.move(names, 1, #names, #keys + 1, keys)
  return keys
end

-- Visits every module below owner, itself first, and every tensor in their fields: visit(value, name, owner). Each
-- is visited once, under its first name.
local function walk(value, name, owner, seen, visit)
  if gls.is_tensor(value) then
    if not seen[value] then
      seen[value] = true
      visit(value, name, owner)
    end
    return
  end
  if type(value) ~= "table" or seen[value] then return end
  local module = is_module(value)
  if not module and getmetatable(value) ~= nil then return end
  seen[value] = true
  if module then
    owner = value
    visit(value, name, owner)
  end
  for _, key in ipairs(ordered_keys(value, module)) do
    local child = rawget(value, key)
    if child ~= nil then
      local child_name = name == "" and tostring(key) or name .. "." .. tostring(key)
      walk(child, child_name, owner, seen, visit)
    end
  end
end

local function last_name(name) return name:match("[^.]*$") end

local function is_buffer(owner, name) return owner.buffer_names[last_name(name)] == true end

-- The module's tensors that are wanted.
local function tensors(module, wanted)
  local list, taken = { names = {}, owners = {} }, {}
  walk(module, "", module, {}, function(value, name, owner)
    if type(value) == "userdata" and wanted(value, name, owner) then
      if taken[name] then
        gls.core.raise(('two tensors of %s have the name "%s", and a state would keep one of them: rename a field '
          .. "whose own name has a dot, or is a number as text"):format(module.name, name))
      end
      taken[name] = true
      list[#list + 1] = value
      list.names[#list] = name
      list.owners[#list] = owner
    end
  end)
  return list
end

--- The tensors that are trained, in a stable order.
-- @treturn table list of tensors, with the parallel lists `names` (dotted: "encoder.1.weight") and `owners` (the
-- module that holds each)
function Module:parameters()
  return tensors(self, function(value, name, owner)
    return value:requires_grad() and value:is_leaf() and not is_buffer(owner, name)
  end)
end

--- The parameters by name: `for name, parameter in model:named_parameters() do`.
function Module:named_parameters()
  local list, i = self:parameters(), 0
  return function()
    i = i + 1
    if list[i] then return list.names[i], list[i] end
  end
end

--- The tensors that belong to the model's state but are not trained, in a stable order.
-- @treturn table list of tensors, with the parallel lists `names` and `owners`
function Module:buffers()
  return tensors(self, function(_, name, owner) return is_buffer(owner, name) end)
end

--- Adds a buffer: a tensor that is saved with the model but not trained.
-- @tparam string name the field it is kept in
-- @param tensor
function Module:buffer(name, tensor)
  if type(name) ~= "string" then error("buffer: a name expected", 2) end
  if not gls.is_tensor(tensor) then error(('buffer "%s": a tensor expected, got %s'):format(name, type(tensor)), 2) end
  if tensor:requires_grad() then error(('buffer "%s": a buffer must not require gradient'):format(name), 2) end
  self[name] = tensor
  self.buffer_names[name] = true
  return tensor
end

--- All modules of the tree, itself first: `for name, module in model:modules() do`; the root's name is "".
function Module:modules()
  local names, modules, i = {}, {}, 0
  walk(self, "", self, {}, function(value, name)
    if type(value) == "table" then
      modules[#modules + 1] = value
      names[#modules] = name
    end
  end)
  return function()
    i = i + 1
    if modules[i] then return names[i], modules[i] end
  end
end

--- The number of trained values.
function Module:parameter_count()
  local count = 0
  for _, parameter in ipairs(self:parameters()) do count = count + parameter:numel() end
  return count
end

-- ---- state ----

--- Sets training mode (dropout drops, batch normalisation uses the batch) in the whole tree.
-- @tparam[opt=true] boolean flag
-- @treturn table the module
function Module:train(flag)
  for _, module in self:modules() do module.training = flag ~= false end
  return self
end

--- Sets evaluation mode in the whole tree.
function Module:eval() return self:train(false) end

--- Forgets all gradients.
function Module:zero_grad()
  for _, parameter in ipairs(self:parameters()) do parameter:zero_grad() end
end

-- Everything in the fields that a file can bring back: parameters, frozen ones too, buffers, constants; not what an op
-- has recorded.
local function state_tensors(self)
  local state = {}
  local list = tensors(self, function(value) return value:is_leaf() end)
  for i, tensor in ipairs(list) do state[list.names[i]] = tensor end
  return state
end

--- All tensors in the module's fields by name: parameters, whether they require gradient or are frozen, buffers and
-- constants. What an op has recorded (a hidden state of the step under way) is none of them.
-- @tparam[opt] table settings { copy = true }: false gives the model's own memory, which training goes on changing
-- @treturn table name → tensor
function Module:state_dict(settings)
  local set = options.check("state_dict", settings, { copy = true })
  local state = {}
  for name, tensor in pairs(state_tensors(self)) do
    state[name] = set.copy and gls.tensor(tensor) or tensor:detach()
  end
  return state
end

local function same_shape(a, b)
  if a:dim() ~= b:dim() or a.type ~= b.type then return false end
  for i, size in ipairs(a.shape) do
    if b.shape[i] ~= size then return false end
  end
  return true
end

--- Sets the module's tensors from a table as state_dict gives it. Nothing is changed when a name is missing or unknown
-- or a shape differs: the error names all of them.
-- @tparam table state name → tensor
-- @tparam[opt] table settings `strict` = true; false takes what fits and leaves out the rest
-- @treturn table the module
-- @treturn table what was left out: list of texts that name each
function Module:load_state_dict(state, settings)
  if type(state) ~= "table" then
    error("load_state_dict: a table of tensors by name expected, got " .. type(state), 2)
  end
  local set = options.check("load_state_dict", settings, { strict = true })
  local own, wrong, fits = state_tensors(self), {}, {}
  for name, tensor in pairs(own) do
    local given = state[name]
    if given == nil then
      wrong[#wrong + 1] = ("missing: %s %s"):format(name, number.shape(tensor.shape))
    elseif not gls.is_tensor(given) then
      wrong[#wrong + 1] = ("not a tensor: %s is %s"):format(name, type(given))
    elseif not same_shape(tensor, given) then
      wrong[#wrong + 1] = ("differs: %s is %s %s in the model, %s %s in the state"):format(
        name, tensor.type, number.shape(tensor.shape), given.type, number.shape(given.shape))
    else
      fits[name] = tensor
    end
  end
  for name in pairs(state) do
    if own[name] == nil then wrong[#wrong + 1] = ("unknown: %s"):format(tostring(name)) end
  end
  table.sort(wrong)
  if #wrong > 0 and set.strict then
    error(("load_state_dict: the state does not fit this %s:\n  %s"):format(self.name, table.concat(wrong, "\n  ")), 2)
  end
  for name, tensor in pairs(fits) do tensor:copy(state[name]) end
  return self, wrong
end

local function copy_of(value, made)
  if made[value] ~= nil then return made[value] end
  local twin
  if gls.is_tensor(value) then
    twin = gls.tensor(value):requires_grad(value:requires_grad() and value:is_leaf())
    made[value] = twin
  elseif type(value) == "table" and (is_module(value) or getmetatable(value) == nil) then
    twin = {}
    made[value] = twin
    for key, inner in next, value do twin[key] = copy_of(inner, made) end
    setmetatable(twin, getmetatable(value))
  else
    twin = value
  end
  return twin
end

--- A copy with tensors of its own; what the module shares within itself (tied weights) the copy shares too.
-- @treturn table module
function Module:clone() return copy_of(self, {}) end

-- ---- calling ----
-- The modules whose forward runs are kept, outermost first, so that an error can say where it came from.

local running, running_in

-- Name of a module below its parent, "" when it is not there.
local function name_below(parent, module)
  local found = ""
  walk(parent, "", parent, {}, function(value, name)
    if rawequal(value, module) and found == "" then found = name end
  end)
  return found
end

-- Where the innermost forward of the user's that has left the stack by a tail call (`return self.norm(x)`) made it; nil
-- when the user's innermost forward is still on the stack.
local function lost_call()
  local on_stack, level = {}, 2
  while debug.getinfo(level, "f") do
    on_stack[debug.getinfo(level, "f").func] = true
    level = level + 1
  end
  for i = #running - 1, 1, -1 do
    local forward = running[i].forward
    if not (source.of(forward) or "lua/gls/"):find("lua/gls/", 1, true) then
      local name = name_below(running[i], running[i + 1]):match "^[^.]+"
      return not on_stack[forward] and name and source.tail_call(forward, name) or nil
    end
  end
  return nil
end

-- Puts the path before the message of an error, after its position: `train.lua:7: encoder.3 (Linear): linear: …`.
local function explain(message)
  if type(message) ~= "string" then return message end
  local names, parent = {}, running[1]
  for i = 2, #running do
    local name = name_below(parent, running[i])
    if name ~= "" then
      names[#names + 1] = name
      parent = running[i]
    end
  end
  local last = running[#running].name
  local position, text = without_position(message):match("^([^\n:]+:%d+: )(.*)")
  local innermost = gls.core.position()
  if not position then position, text = innermost, without_position(message) end
  if position == innermost then position = lost_call() or position end
  if #names == 0 then return ("%s%s: %s"):format(position, last, text) end
  return ("%s%s (%s): %s"):format(position, table.concat(names, "."), last, text)
end

local shapes -- module → shape of its last output, where they are remembered

--- Remembers from now on, for printing, the shape of what each module gives: at the prompt.
function Module.remember_shapes() shapes = shapes or setmetatable({}, { __mode = "k" }) end

-- While gls.anomaly or gls.profile wants modules named: how many do, and the core's handles of names.
local tracing, handles = 0, {}

local function handle_of(name)
  handles[name] = handles[name] or gls.core.place_name(name)
  return handles[name]
end

--- From here on the core knows the module whose forward runs, until as many calls with false.
function Module.trace(on) tracing = tracing + (on and 1 or -1) end

-- Names of the modules below a root, for the core.
local function places_of(root)
  local places = {}
  walk(root, "", root, {}, function(value, name)
    if type(value) == "table" then places[value] = handle_of(name == "" and root.name or name) end
  end)
  return places
end

local function leave(level, ...)
  if running.places then gls.core.leave_place() end
  if shapes and gls.is_tensor((...)) then shapes[running[level]] = (...).shape end
  for i = #running, level, -1 do running[i] = nil end
  return ...
end

local function finish(before, before_in, ok, ...)
  if running.places then gls.core.unwind_places(running.depth) end
  if ok and shapes and gls.is_tensor((...)) then shapes[running[1]] = (...).shape end
  running, running_in = before, before_in
  if ok then return ... end
  error((...), 0)
end

function Module:__call(...)
  local thread = coroutine.running()
  if running and running_in == thread then
    local level = #running + 1
    running[level] = self
    if running.places then gls.core.enter_place(running.places[self] or handle_of(self.name)) end
    return leave(level, self:forward(...))
  end
  local before, before_in = running, running_in
  local root = { self }
  if tracing > 0 then root.places, root.depth = places_of(self), gls.core.place_depth() end
  running, running_in = root, thread
  if root.places then gls.core.enter_place(root.places[self]) end
  return finish(before, before_in, xpcall(self.forward, explain, self, ...))
end

--- What the module computes; every class has its own.
function Module:forward() error(("class %s has no forward"):format(self.name), 2) end

-- ---- printing ----

--- Settings shown in print, "" for none: "3 → 16, kernel 3×3".
function Module.describe() return "" end

local function tree_lines(module, name, depth, lines, seen)
  seen[module] = true
  local text = ("  "):rep(depth) .. (name ~= "" and name .. ": " or "") .. module.name
  local described = module:describe()
  if described ~= "" then text = text .. " " .. described end
  local own, children, count = {}, {}, 0
  local function look(value, key)
    if gls.is_tensor(value) then
      local trained = value:requires_grad()
      if trained then count = count + value:numel() end
      local frozen = not trained and not module.buffer_names[key]
      own[#own + 1] = key .. " " .. number.shape(value.shape) .. (frozen and " frozen" or "")
    elseif is_module(value) then
      children[#children + 1] = { key, value }
    elseif type(value) == "table" and getmetatable(value) == nil then
      for _, inner in ipairs(ordered_keys(value, false)) do look(value[inner], key .. "." .. tostring(inner)) end
    end
  end
  for _, key in ipairs(module.field_order) do look(rawget(module, key), tostring(key)) end
  if #own > 0 then text = text .. "  " .. table.concat(own, ", ") end
  if count > 0 then text = text .. "  [" .. number.grouped(count) .. "]" end
  if shapes and shapes[module] then text = text .. "  gave (" .. table.concat(shapes[module], "×") .. ")" end
  lines[#lines + 1] = text
  for _, child in ipairs(children) do
    if seen[child[2]] then
      lines[#lines + 1] = ("%s%s: %s, shared"):format(("  "):rep(depth + 1), child[1], child[2].name)
    else
      tree_lines(child[2], child[1], depth + 1, lines, seen)
    end
  end
end

function Module:__tostring()
  local lines = {}
  tree_lines(self, "", 0, lines, {})
  lines[#lines + 1] = number.grouped(self:parameter_count()) .. " parameters"
  return table.concat(lines, "\n")
end

-- Refuses what a method called with a dot, or of a class, takes for the model.
strict.methods("model", Module, function(self)
  if is_module(self) then return end
  local class = type(self) == "table" and rawget(self, "is_gls_module")
  gls.core.raise("a model expected, got " .. (class and ("class %s: call it to make one"):format(self.name)
    or type(self) .. ": methods are called with a colon, model:eval(), not model.eval()"))
end)
Module.name = "Module"
Module.is_module = is_module

return Module
