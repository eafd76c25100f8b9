--- Matrix: what optimizers of weight matrices share (Muon, SOAP, Shampoo, K-FAC). Each gives a direction D for one
-- matrix; here W ← (1 − ηλ) W − η D is applied, filters are seen as matrices, and the parameters that are none, biases,
-- the scales and shifts of norms, tables of embeddings and what `others` names, are stepped by AdamW. Tables are known
-- by the `owners` that a list of `model:parameters()` has; of one without them stderr is told.
-- @module gls.optim.matrix
local core = require "gls.core"
local base = require "gls.optim.base"
local options = require "gls.options"
local others = require "gls.optim.others"

local matrix = {}

--- Settings. Optimizers of matrices have:
-- @field weight_decay = 0 decoupled, times the learning rate, of the matrices
-- @field others = {} names of parameters, or of modules that hold them, that are left to AdamW
-- @field fallback_learning_rate = 1e-3 of that AdamW, times the schedule's factor
-- @field fallback_weight_decay = 0 of that AdamW, decoupled
local common = {
  weight_decay = 0, others = options.any {}, fallback_learning_rate = 1e-3, fallback_weight_decay = 0,
}

-- Splits a group: places of its matrices, with their layers' biases where the class steps them together, and the rest
-- as a list with names; such a class (K-FAC) also leaves to the rest the layers that say they have no factors.
local function split(group, with_bias)
  local owners, taken = group.parameters.owners or {}, {}
  group.matrices, group.biases, group.others, group.other_names = {}, {}, {}, {}
  for i, parameter in ipairs(group.parameters) do
    local is_other = owners[i] and (owners[i].is_table or with_bias and owners[i].affine == false)
    if parameter:dim() >= 2 and not is_other and not others.are(group.given[i], group.settings.others) then
      group.matrices[#group.matrices + 1] = i
      taken[parameter] = true
      if with_bias and owners[i] and owners[i].affine then taken[owners[i].bias or 0] = i end
    end
  end
  for i, parameter in ipairs(group.parameters) do
    local weight = taken[parameter] -- true, of a bias the weight's place
    if math.type(weight) == "integer" and not others.are(group.given[i], group.settings.others) then
      group.biases[weight] = parameter
    elseif weight ~= true then
      group.others[#group.others + 1] = parameter
      group.other_names[#group.other_names + 1] = group.names[i]
    end
  end
end

--- A tensor of two or more dimensions as a matrix: filters (outputs, channels, height, width) have a row an output.
-- @treturn tensor a view
-- @treturn integer outputs
-- @treturn integer inputs of one output
function matrix.view(tensor)
  if tensor:dim() == 2 then return tensor, tensor:size(2), tensor:size(1) end
  local view = tensor:reshape(tensor:size(1), -1)
  return view, view:size(1), view:size(2)
end

local function check(self)
  base.check_core(self)
  for _, group in ipairs(self.groups) do
    for _, setting in ipairs { "refresh", "iterations", "widest" } do
      local value = group.settings[setting]
      if value and (value < 1 or value ~= math.floor(value)) then
        error(("optim.%s: %s is %g, expected a whole number of at least 1"):format(self.name, setting, value), 0)
      end
    end
    others.check(self, group.settings.others)
  end
end

-- A list made by hand does not say which modules its tensors are of.
local function announce_unknown(self, group)
  local owners, unknown = group.parameters.owners or {}, {}
  for _, i in ipairs(group.matrices) do
    if not owners[i] then unknown[#unknown + 1] = group.names[i] end
  end
  if #unknown == 0 then return end
  base.say_once(("%s: no modules are known for %s (a list without the owners that model:parameters() has): taken for "
    .. "weight matrices; name tables of embeddings among them in others"):format(self.name,
    table.concat(unknown, ", ")))
end

--- W ← (1 − ηλ) W − η D.
function matrix.move(parameter, direction, settings)
  local shrink = 1 - settings.learning_rate * settings.weight_decay
  parameter:detach():copy(parameter * shrink - direction:reshape(parameter.shape) * settings.learning_rate)
end

--- A new class of optimizers of matrices. It has a method `direction(gradient, state, settings, outputs, inputs)` for
-- one matrix: D, or nil for no step; `state` is a table of tensors, the matrix's own. A field `shapes` says their
-- shapes, "r" and "c" being the matrix's rows and columns: { momentum = "rc", left = "rr" }; `sizes(group, i,
-- saved)` gives these two, for what is saved.
-- @tparam string name
-- @tparam table defaults setting → default; those of all optimizers of matrices are added
function matrix.class(name, defaults)
  for setting, default in pairs(common) do
    if defaults[setting] == nil then defaults[setting] = default end
  end
  local class = base.class(name, defaults)
  class.check, class.shapes = check, {}

  function class.sizes(group, i)
    return table.unpack(matrix.view(group.parameters[i]:detach()).shape)
  end

  function class.prepare(self)
    for _, group in ipairs(self.groups) do
      split(group, class.with_bias)
      announce_unknown(self, group)
      if #group.others > 0 then group.fallback = core.optimizer("adam", group.others) end
    end
  end

  function class:update(group, settings)
    for _, i in ipairs(group.matrices) do
      local parameter, key = group.parameters[i], group.names[i]
      local gradient = parameter.grad
      if gradient then
        group.states[key] = group.states[key] or {}
        local as_matrix, outputs, inputs = matrix.view(gradient)
        local direction = self:direction(as_matrix, group.states[key], settings, outputs, inputs)
        if direction then matrix.move(parameter, direction, settings) end
      end
    end
    self:step_others(group, settings)
  end

  function class:step_others(group, settings) -- luacheck: ignore self
    if group.fallback then others.step(group.fallback, settings, self.steps + 1, settings.fallback_weight_decay) end
  end

  function class:state_dict()
    local tensors = base.state_dict(self).tensors
    for _, group in ipairs(self.groups) do
      if group.fallback then others.save(tensors, group.fallback, group.other_names) end
    end
    return self:saved(tensors)
  end

  function class:state_shape(group, i, slot, saved) -- luacheck: ignore self
    if not class.shapes[slot] then return nil end
    local rows, columns = class.sizes(group, i, saved)
    local shape = {}
    for letter in class.shapes[slot]:gmatch "." do shape[#shape + 1] = letter == "r" and rows or columns end
    return shape
  end

  function class:load_state(group, i, slot, tensor)
    local fallback = others.slot(slot)
    if not fallback then return base.load_state(self, group, i, slot, tensor) end
    for place, key in ipairs(group.other_names) do
      if key == group.names[i] then group.fallback:set_state(fallback, place, tensor) end
    end
  end

  return class
end

return matrix
