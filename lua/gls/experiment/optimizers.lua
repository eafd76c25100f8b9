--- Optimizers: the names that --optimizers knows, and which of a trial's settings are not the optimizer's own.
-- @module gls.experiment.optimizers
local optim = require "gls.optim"

local forms = optim.GLS.forms

local optimizers = {}

--- The names that --optimizers knows: which class makes one, and what its settings start from.
optimizers.known = {
  sgd = { class = "SGD", settings = {} },
  momentum = { class = "SGD", settings = { momentum = 0.9 } },
  adam = { class = "Adam", settings = {} },
  adamw = { class = "AdamW", settings = { weight_decay = 0.01 } },
  rmsprop = { class = "RMSprop", settings = {} },
  lion = { class = "Lion", settings = {} },
  muon = { class = "Muon", settings = {} },
  soap = { class = "SOAP", settings = {} },
  shampoo = { class = "Shampoo", settings = {} },
  kfac = { class = "KFAC", settings = {} },
  gls = { class = "GLS", settings = forms.training },
  ["gls-matched"] = { class = "GLS", settings = forms.validation },
  ["gls-window"] = {
    class = "GLS", settings = { momentum = 0.9, graft = "rms", damping = 3, statistics = { window = 1000 } },
  },
  ["gls-moving"] = { class = "GLS", settings = { momentum = 0.9, graft = "rms", damping = 1, statistics = "moving" } },
  ["gls-orthogonal"] = { class = "GLS", settings = forms.tokens },
  ["gls-graft"] = { class = "GLS", settings = { graft = "sgd", damping = 3 } },
}
-- In the order of tables and legends.
local ORDER = {
  "sgd", "momentum", "rmsprop", "adam", "adamw", "lion", "shampoo", "soap", "muon", "kfac", "gls-graft",
  "gls-matched", "gls-window", "gls-moving", "gls-orthogonal", "gls",
}

--- Makes an optimizer of a script's own known to --optimizers.
-- @tparam string name
-- @param class what `optim.class` gave, or the name of one in `gls.optim`
-- @tparam[opt] table settings that its trials start from
function optimizers.add(name, class, settings)
  if not optimizers.known[name] then ORDER[#ORDER + 1] = name end
  optimizers.known[name] = { class = class, settings = settings or {} }
end

--- The class of a name.
-- @tparam string name
-- @treturn table
function optimizers.class(name)
  local class = optimizers.known[name].class
  return type(class) == "string" and optim[class] or class
end

local function any() return true end

local function is_steps(value) return math.tointeger(value) and value >= 0 end

local function is_below(limit)
  return function(value) return type(value) == "number" and value >= 0 and value < limit end
end

--- Settings of a trial that are not the optimizer's own: which values there are, and in words.
optimizers.around = {
  schedule = { any }, initialisation = { any }, model = { any }, loss = { any },
  warmup = { is_steps, "a whole number of steps, at least 0" },
  final = { is_below(math.huge), "a number, at least 0: the factor of the learning rate at the end" },
  -- of the loader that trains: crop, flip
  data = { function(value) return type(value) == "table" end, "a table of the loader's options, in the script" },
  -- weight_decay is of parameters of two or more dimensions alone
  decayed = { function(value) return value == "matrices" end, '"matrices"' },
  -- decay of an average of the weights, which is evaluated in their place
  average = { is_below(1), "a number, at least 0 and below 1" },
}

--- The names of optimizers that an experiment has trials for, in the order of tables.
-- @tparam table spec
-- @treturn table list of names
function optimizers.of(spec)
  local list = {}
  for _, name in ipairs(ORDER) do
    if spec.trials[name] then list[#list + 1] = name end
  end
  return list
end

return optimizers
