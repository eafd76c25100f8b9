--- Base of all optimizers: parameter groups, schedule, clipping, the end of a step, saving.
-- An optimizer is a class made by `optim.class(name, defaults)` with a method
-- `update(self, group, settings)` that steps the parameters of one group, or, simpler,
-- `update_parameter(self, parameter, gradient, state, settings)` that steps one parameter in place; `state` is a table
-- of the parameter's own, kept under its name.
-- @module gls.optim.base
local core = require "gls.core"
local number = require "gls.number"
local options = require "gls.options"

local Optimizer = {}
Optimizer.__index = function(self, key)
  if key == "learning_rate" then return rawget(self, "groups")[1].settings.learning_rate end
  return getmetatable(self).class[key]
end

-- The class's check of all settings; what is wrong is told at the line of who called the caller.
local function check(self, before_telling)
  local good, message = pcall(self.check, self)
  if good then return end
  if before_telling then before_telling() end
  core.raise(message)
end

local function learning_rates(self)
  local rates = {}
  for i, group in ipairs(self.groups) do rates[i] = group.settings.learning_rate end
  return rates
end

local function set_learning_rates(self, rates)
  for i, group in ipairs(self.groups) do group.settings.learning_rate = rates[i] end
end

-- The groups' learning rates when the first one's becomes value: the others keep their ratios to it, from 0 on those
-- that they were made with.
local function scaled_rates(self, value)
  local rates, scaled = learning_rates(self), {}
  if rates[1] == 0 then rates = self.made_with end
  for i, rate in ipairs(rates) do
    if rate == rates[1] or type(value) ~= "number" then
      scaled[i] = value
    elseif rates[1] == 0 then
      core.raise(("optim.%s: group 1 was made with the learning rate 0, group %d with %g, so that there is no ratio to "
        .. "keep: set groups[i].settings.learning_rate of each"):format(self.name, i, rate))
    else
      scaled[i] = value * (rate / rates[1])
    end
  end
  return scaled
end

-- Setting `learning_rate` sets group 1's, which reading it gives; groups of other rates are scaled alike.
Optimizer.__newindex = function(self, key, value)
  if key == "learning_rate" then
    if value == nil then core.raise(("optim.%s: learning_rate = nil: a number is expected"):format(self.name)) end
    local kept = learning_rates(self)
    set_learning_rates(self, scaled_rates(self, value))
    check(self, function() set_learning_rates(self, kept) end)
    return
  end
  local class = getmetatable(self).class
  local near = options.nearest(key, class.defaults)
  if near == key then
    core.raise(("optim.%s: %s is set when the optimizer is made; later only learning_rate is"):format(class.name, key))
  elseif near then
    core.raise(('optim.%s has no setting "%s"; did you mean "%s"?'):format(class.name, tostring(key), near))
  end
  rawset(self, key, value)
end

local base = {}
base.__index = base

local said = {}

--- Writes a line to stderr, once a process, of several ranks one.
-- @tparam string message
function base.say_once(message)
  local rank = tonumber(os.getenv "OMPI_COMM_WORLD_RANK" or os.getenv "PMI_RANK") or 0
  if not said[message] and rank == 0 then io.stderr:write(message, "\n") end
  said[message] = true
end

--- Settings. Every optimizer has:
-- @field schedule = nil; a function of the number of steps made that gives a factor on the learning rate
--   (`optim.schedule`)
-- @field clip = nil; the greatest common norm of all gradients, above 0 (not of L-BFGS)
local common = { schedule = options.none, clip = options.none }

local function merged(defaults)
  local all = {}
  for name, value in pairs(defaults) do all[name] = value end
  for name, value in pairs(common) do all[name] = value end
  return all
end

local function names_of(parameters, offset)
  local names = {}
  for i = 1, #parameters do names[i] = parameters.names and parameters.names[i] or tostring(offset + i) end
  return names
end

--- Refuses what is no list of tensors.
-- @tparam string where what the list is for, named in the error
-- @tparam table given
-- @treturn table the list
function base.list(where, given)
  if type(given) ~= "table" then
    core.raise(("%s: a list of tensors is expected (model:parameters()), got %s"):format(where,
      core.is_tensor(given) and "a tensor" or type(given)))
  end
  if type(given.parameters) == "function" then
    core.raise(("%s: a model is given, its parameters are wanted: model:parameters()"):format(where))
  end
  for i, parameter in ipairs(options.list(where, given)) do
    if not core.is_tensor(parameter) then
      core.raise(("%s: entry %d of the list is a %s, not a tensor"):format(where, i, type(parameter)))
    end
  end
  return given
end

-- Each parameter has one place in one group.
local function check_once(name, groups)
  local seen = {}
  for i, group in ipairs(groups) do
    for k, parameter in ipairs(group.parameters) do
      if seen[parameter] then
        core.raise(("optim.%s: parameter %s is given twice, in group %d and in group %d"):format(name, group.names[k],
          seen[parameter], i))
      end
      seen[parameter] = i
    end
  end
end

-- State has the names of its parameters, so each has a name of its own: one that several have, as submodules' lists do
-- in groups, gets its group's number ("group2.1.weight"). `given` are the names in the lists.
local function make_names_unique(groups)
  local uses, taken = {}, {}
  for _, group in ipairs(groups) do
    for _, name in ipairs(group.names) do uses[name] = (uses[name] or 0) + 1 end
  end
  for i, group in ipairs(groups) do
    group.given, group.names = group.names, {}
    for k, name in ipairs(group.given) do
      local own = name
      if uses[name] > 1 then
        own = ("group%d.%s"):format(i, name)
        while uses[own] or taken[own] do own = own .. "+" end
      end
      group.names[k], taken[own] = own, true
    end
  end
end

-- Settings with those of the named form, where the class has such: what is given goes before them.
local function with_form(name, own, forms)
  if not forms or own.form == nil then return own end
  local form = forms[own.form]
  if not form then
    core.raise(('optim.%s: unknown form "%s"%s'):format(name, tostring(own.form),
      options.suggestion(tostring(own.form), forms)))
  end
  for key, value in pairs(form) do
    if own[key] == nil then own[key] = value end
  end
  return own
end

-- { tensor, tensor, … } is one group; { { parameters = …, setting = … }, … } are several.
local function split_groups(class, given, shared)
  local name, defaults = class.name, class.defaults
  if type(shared) == "string" and class.forms then shared = { form = shared } end
  if shared ~= nil and type(shared) ~= "table" then
    core.raise(("optim.%s: the second argument is a table of settings, got %s"):format(name, type(shared)))
  end
  local several = type(given) == "table" and type(given[1]) == "table" and given[1].parameters ~= nil
  local check_list = several and options.list or base.list
  if #check_list("optim." .. name, given) == 0 then
    core.raise(("optim.%s: the list of parameters is empty; has the model any (model:parameters())?"):format(name))
  end
  local groups, offset = {}, 0
  for i, group in ipairs(several and given or { { parameters = given } }) do
    local own, asked = {}, {}
    for key, value in pairs(shared or {}) do own[key], asked[key] = value, "shared" end
    for key, value in pairs(group) do if key ~= "parameters" then own[key], asked[key] = value, "own" end end
    if several and (group.schedule or group.clip) then
      core.raise(("optim.%s: schedule and clip are for all groups together; group %d has its own"):format(name, i))
    end
    local list = group.parameters
    if list == nil or #base.list("optim." .. name, list) == 0 then
      core.raise(("optim.%s: group %d has no parameters"):format(name, i))
    end
    groups[i] = { parameters = list, names = names_of(list, offset), states = {}, asked = asked,
      settings = options.check("optim." .. name, with_form(name, own, class.forms), defaults) }
    offset = offset + #list
  end
  check_once(name, groups)
  make_names_unique(groups)
  return groups
end

--- A new class of optimizers.
-- @tparam string name for messages
-- @tparam table defaults setting → default; `learning_rate` is among them. A method `check(self)` raises what is wrong
-- with the settings of `self.groups`, when an optimizer is made and when its learning rate is set. A field `forms`
-- (name → settings), with a setting `form`, gives settings names: `Class(parameters, "name")`
-- @treturn table a class; call it as `Class(parameters, settings)`
function base.class(name, defaults)
  local class = setmetatable({ name = name, defaults = merged(defaults) }, { __index = base,
    __call = function(class, parameters, settings, ...)
      if select("#", ...) > 0 then
        core.raise(("optim.%s: too many arguments; the call is optim.%s(parameters, settings)"):format(name, name))
      end
      local groups = split_groups(class, parameters, settings)
      local self = setmetatable({ groups = groups, steps = 0 },
        { class = class, __index = Optimizer.__index, __newindex = Optimizer.__newindex, __name = "optim." .. name,
          __tostring = function(o) return o:describe() end })
      local first = groups[1].settings
      local meta = getmetatable(first.schedule)
      if first.schedule and type(first.schedule) ~= "function" and not (type(meta) == "table" and meta.__call) then
        core.raise(("optim.%s: schedule is a function of the step, got %s"):format(name, type(first.schedule)))
      end
      if first.clip and class.takes_no_clip then
        core.raise(("optim.%s takes no clip: it makes its own gradients"):format(name))
      end
      if first.clip and not (type(first.clip) == "number" and first.clip > 0) then
        core.raise(("optim.%s: clip is a number above 0, got %s"):format(name, tostring(first.clip)))
      end
      rawset(self, "schedule", first.schedule)
      rawset(self, "clip", first.clip)
      rawset(self, "made_with", learning_rates(self))
      check(self)
      if class.prepare then class.prepare(self) end
      return self
    end })
  return class
end

--- The settings of a group with the schedule's factor in the learning rate.
function base:current(group)
  local settings = {}
  for key, value in pairs(group.settings) do settings[key] = value end
  local factor = 1
  if self.schedule then
    factor = self.schedule(self.steps)
    if type(factor) ~= "number" then
      error(("optim.%s: the schedule gave %s for step %d, not a number"):format(self.name, type(factor), self.steps), 0)
    end
  end
  if type(settings.learning_rate) == "number" then settings.learning_rate = settings.learning_rate * factor end
  settings.factor = factor
  return settings
end

--- Every parameter of every group.
function base:all_parameters()
  if not rawget(self, "flat") then
    local flat = {}
    for _, group in ipairs(self.groups) do
      for _, parameter in ipairs(group.parameters) do flat[#flat + 1] = parameter end
    end
    rawset(self, "flat", flat)
  end
  return rawget(self, "flat")
end

--- One group in Lua: `update_parameter` for each parameter that has a gradient.
function base:update(group, settings)
  for i, parameter in ipairs(group.parameters) do
    local gradient = parameter.grad
    if gradient then
      local name = group.names[i]
      group.states[name] = group.states[name] or {}
      self:update_parameter(parameter, gradient, group.states[name], settings)
    end
  end
end

local at_end = { __close = function(step) step.optimizer:finish() end }

-- A step that is given a closure alone would do nothing. (Where ranks are, one may have had no rows.)
local function check_gradients(self)
  if core.backward_passes() > 0 or rawget(self, "ranks") or rawget(self, "sums_over_ranks") then return end
  for _, parameter in ipairs(self:all_parameters()) do
    if parameter.grad then return end
  end
  core.raise(("optim.%s: step does not call a closure (optim.LBFGS does), and there is no gradient: call "
    .. "loss:backward() first, then step()"):format(self.name))
end

--- Steps all parameters by their gradients, forgets the gradients and releases what backward reached of the tape, also
-- when the step fails or is interrupted. The tape's intermediate tensors go back to the buffer cache; tensors that the
-- script holds keep their values, but no gradient passes them any more: `detach()` what one step hands to the next.
-- Several `backward` calls before one step add up. Their graphs are let go one by one, the gradients being sums; for
-- GLS, which needs the inputs and gradients of every call, memory grows with the calls until the step.
-- @tparam[opt] function closure as LBFGS takes it, so that one loop serves all (train.fit); others do not call it, and
-- it is an error where there is no gradient that backward has left
function base:step(closure)
  if closure ~= nil then check_gradients(self) end
  local _ <close> = core.no_grad()
  local _ <close> = setmetatable({ optimizer = self }, at_end)
  if self.clip then
    local ranks = rawget(self, "ranks") -- of gls.distributed
    local clip = ranks and ranks.clip or core.clip_gradients
    self.gradient_norm = clip(self:all_parameters(), self.clip)
  end
  for _, group in ipairs(self.groups) do
    self:update(group, self:current(group))
    for _, state in pairs(group.states) do
      for _, value in pairs(state) do
        if core.is_tensor(value) then core.keep(value) end
      end
    end
  end
  rawset(self, "steps", self.steps + 1)
end

--- The end of a training step.
function base:finish()
  for _, parameter in ipairs(self:all_parameters()) do parameter:zero_grad() end
  core.tape_release(true)
  core.collect()
end

--- Forgets all gradients without a step.
function base:zero_grad()
  for _, parameter in ipairs(self:all_parameters()) do parameter:zero_grad() end
end

--- What guards counted and the last step size; empty for optimizers that count nothing.
function base:report() return {} end -- luacheck: ignore self

-- The state of this class: how many tensors belong to it is kept too, and the learning rates, as made and as set since.
function base:saved(tensors)
  local count = 0
  for _ in pairs(tensors) do count = count + 1 end
  return { optimizer = self.name, tensors = tensors, values = {
    steps = self.steps, tensors = count, learning_rates = learning_rates(self), made_with = self.made_with,
    schedule = type(self.schedule) == "table" and self.schedule:state_dict() or nil,
  } }
end

--- All state: `optimizer` (its class), `tensors` by name ("velocity.encoder.1.weight"; of a class written in Lua other
-- values too), `values`: steps, learning rates.
function base:state_dict()
  local tensors = {}
  for _, group in ipairs(self.groups) do
    for name, state in pairs(group.states) do
      for key, value in pairs(state) do tensors[key .. "." .. name] = value end
    end
  end
  return self:saved(tensors)
end

--- Raises an error unless saved is the whole of a state of this class.
function base.check_saved(self, saved)
  if type(saved) ~= "table" or type(saved.tensors) ~= "table" or type(saved.values) ~= "table"
      or math.type(saved.values.steps) ~= "integer" then
    core.raise("this is not what an optimizer's state_dict gives")
  end
  if saved.optimizer and saved.optimizer ~= self.name then
    core.raise(("the saved state is of optim.%s, this optimizer is optim.%s"):format(saved.optimizer, self.name))
  end
  local count = 0
  for _ in pairs(saved.tensors) do count = count + 1 end
  if saved.values.tensors and count ~= saved.values.tensors then
    core.raise(("the saved state has %d tensors, %d were saved"):format(count, saved.values.tensors))
  end
end

-- The place of an entry "slot.name" of a state: group, number of the parameter, slot.
local function place_of_entry(self, entry)
  for _, group in ipairs(self.groups) do
    for i, name in ipairs(group.names) do
      local slot = #entry > #name + 1 and entry:sub(-#name - 1) == "." .. name and entry:sub(1, -#name - 2) or nil
      if slot and not slot:find(".", 1, true) then return group, i, slot end
    end
  end
end

--- The shape that a state tensor of a parameter has; nil where any will do. Classes say it.
function base:state_shape(_, _, _, _) end -- luacheck: ignore self (group, number of the parameter, slot, what is saved)

local function check_shape(self, group, i, slot, tensor)
  local shape = self:state_shape(group, i, slot, tensor)
  if not shape then return end
  local found = core.is_tensor(tensor) and number.shape(tensor.shape) or type(tensor)
  if found ~= number.shape(shape) then
    core.raise(("optim.%s: the saved %s of %s is %s, expected %s: it is of another model"):format(self.name, slot,
      group.names[i], found, number.shape(shape)))
  end
end

--- Puts back what `state_dict` gave, onto the same parameters; a learning rate that was set after the optimizer was
-- made is set again, unless it is made with another one now. An entry that fits no parameter, or not its shape, is an
-- error, and so are the state of another class and one of which a tensor is missing.
function base:load_state_dict(saved)
  base.check_saved(self, saved)
  local places = {}
  for entry, tensor in pairs(saved.tensors) do
    local group, i, slot = place_of_entry(self, entry)
    if not group then core.raise(("the optimizer has no parameter for the saved state %q"):format(entry)) end
    check_shape(self, group, i, slot, tensor)
    places[#places + 1] = { group, i, slot, tensor }
  end
  for _, group in ipairs(self.groups) do group.states = {} end
  if self.prepare then self:prepare() end -- what is not in the saved state begins anew
  for _, place in ipairs(places) do self:load_state(table.unpack(place)) end
  self:restore_values(saved)
end

--- Puts back the number of steps, the learning rates and what the schedule has observed.
function base:restore_values(saved)
  rawset(self, "steps", saved.values.steps)
  if saved.values.schedule and type(self.schedule) == "table" then
    self.schedule:load_state_dict(saved.values.schedule)
  end
  local rates, made_with = saved.values.learning_rates or {}, saved.values.made_with or {}
  for i, group in ipairs(self.groups) do
    if rates[i] ~= nil and made_with[i] == self.made_with[i] then group.settings.learning_rate = rates[i] end
  end
end

--- Puts one state tensor back.
function base:load_state(group, i, slot, tensor) -- luacheck: ignore self
  local name = group.names[i]
  group.states[name] = group.states[name] or {}
  group.states[name][slot] = core.is_tensor(tensor) and tensor:clone() or tensor
end

-- "damping=0.01, learning_rate=auto, …": those of the names that differ from others.
local function settings_text(names, settings, others)
  local parts = {}
  for key in pairs(names) do
    local value = settings[key]
    if type(value) ~= "function" and type(value) ~= "table" and value ~= others[key] then
      parts[#parts + 1] = key .. "=" .. tostring(value)
    end
  end
  table.sort(parts)
  return table.concat(parts, ", ")
end

--- "GLS(damping=0.01, learning_rate=auto, …)"; of further groups what differs: "…; group 2: damping=0.1)"
function base:describe()
  local first = self.groups[1].settings
  local parts = { settings_text(self.defaults, first, {}) }
  for i = 2, #self.groups do
    local text = settings_text(self.defaults, self.groups[i].settings, first)
    if text ~= "" then parts[#parts + 1] = ("group %d: %s"):format(i, text) end
  end
  return ("%s(%s)"):format(self.name, table.concat(parts, "; "))
end

-- From the first number on, below the second.
local BOUNDS = {
  learning_rate = { 0, math.huge }, momentum = { 0, 1 }, beta1 = { 0, 1 }, beta2 = { 0, 1 }, epsilon = { 0, math.huge },
  weight_decay = { 0, math.huge }, fallback_learning_rate = { 0, math.huge }, fallback_weight_decay = { 0, math.huge },
}

--- Refuses a number of a setting that is none of its bounds, of every group.
function base.check_bounds(self, setting)
  local bounds = BOUNDS[setting]
  for i, group in ipairs(self.groups) do
    local value = group.settings[setting]
    if value ~= nil and not (type(value) == "number" and value >= bounds[1] and value < bounds[2]) then
      error(("optim.%s: %s is %s%s, expected %s"):format(self.name, setting, tostring(value),
        #self.groups > 1 and " in group " .. i or "",
        bounds[2] == 1 and "at least 0 and below 1" or "a finite number of at least 0"), 0)
    end
  end
end

--- Refuses a learning rate below 0, where the class has a number for it.
function base:check()
  if type(self.defaults.learning_rate) == "number" then base.check_bounds(self, "learning_rate") end
end

--- Refuses settings of SGD and Adam that make no step towards less loss.
function base.check_core(self)
  for setting in pairs(BOUNDS) do base.check_bounds(self, setting) end
  for _, group in ipairs(self.groups) do
    if group.settings.nesterov and group.settings.momentum == 0 then
      error(("optim.%s: nesterov changes momentum, which is 0"):format(self.name), 0)
    end
  end
end

--- For optimizers whose step is in C: one userdata a group.
function base.prepare_core(self, kind)
  for _, group in ipairs(self.groups) do group.core = core.optimizer(kind, group.parameters) end
end

--- Methods of classes whose step is in C.
base.core_methods = {}

function base.core_methods:finish()
  for i = 2, #self.groups do self.groups[i].core:clear() end
  self.groups[1].core:finish()
end

function base.core_methods:state_dict()
  local tensors = {}
  for _, group in ipairs(self.groups) do
    for _, entry in ipairs(group.core:state()) do tensors[entry[1] .. "." .. group.names[entry[2]]] = entry[3] end
  end
  return self:saved(tensors)
end

function base.core_methods:load_state(group, i, slot, tensor) -- luacheck: ignore self
  group.core:set_state(slot, i, tensor)
end

require("gls.strict").methods("optimizer", base)

return base
