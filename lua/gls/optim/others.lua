--- Others: parameters that an optimizer of layers or of matrices leaves to Adam: the setting `others`, names of
-- parameters, or of modules that hold them; that Adam's steps and its state.
-- @module gls.optim.others
local core = require "gls.core"
local options = require "gls.options"
local Module = require "gls.nn.module"

local others = {}

--- Whether one of the prefixes is the name itself or a module that holds it: "head" is of "head.weight".
function others.are(name, prefixes)
  for _, prefix in ipairs(prefixes) do
    if name == prefix or name:sub(1, #prefix + 1) == prefix .. "." then return true end
  end
  return false
end

--- Each entry of others names a parameter of a group that has this list: groups share that of the common settings.
function others.check(self, names)
  if type(names) ~= "table" then
    error(("optim.%s: others is a list of names of parameters or modules, got %s"):format(self.name, type(names)), 0)
  end
  local known = {}
  for _, group in ipairs(self.groups) do
    if group.settings.others == names then table.move(group.given, 1, #group.given, #known + 1, known) end
  end
  for i, prefix in ipairs(names) do
    if type(prefix) ~= "string" then
      local found = Module.is_module(prefix) and prefix.name or core.is_tensor(prefix) and "tensor" or type(prefix)
      error(("optim.%s: others[%d] is a %s; expected its name, as print(model) and model:parameters().names have it")
        :format(self.name, i, found), 0)
    end
    local fits = false
    for _, name in ipairs(known) do fits = fits or others.are(name, { prefix }) end
    if not fits then
      error(("optim.%s: others names %q, of which there is no parameter%s"):format(self.name, prefix,
        options.suggestion(prefix, known, true)), 0)
    end
  end
end

--- A step of their Adam, `group.fallback`, with decoupled decay.
-- @param fallback core.optimizer "adam"
-- @tparam table settings `fallback_learning_rate`, `factor`
-- @tparam integer step its number, from 1
-- @tparam number decay
function others.step(fallback, settings, step, decay)
  fallback:step {
    learning_rate = settings.fallback_learning_rate * settings.factor, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8,
    weight_decay = decay, decoupled = true, step = step,
  }
end

--- Adds that Adam's state to what is saved: "fallback_SLOT.NAME".
-- @tparam table tensors
-- @param fallback
-- @tparam table names of its parameters
function others.save(tensors, fallback, names)
  for _, entry in ipairs(fallback:state()) do tensors["fallback_" .. entry[1] .. "." .. names[entry[2]]] = entry[3] end
end

--- The slot of that Adam that a saved one is of; nil for the optimizer's own.
function others.slot(slot) return slot:match "^fallback_(.*)" end

return others
