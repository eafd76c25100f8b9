--- PyTorch: weights that it has saved, in a model of one's own.
-- @module gls.pytorch
local core = require "gls.core"
local checkpoint = require "gls.checkpoint"
local options = require "gls.options"

local pytorch = {}

-- Lists begin at 0 there and at 1 here.
local function raised(name)
  return (("." .. name):gsub("%.(%d+)%f[.\0]", function(digits) return "." .. math.tointeger(digits) + 1 end):sub(2))
end

-- The name that a tensor has here, or nil: it is left out.
local function name_of(name, names)
  local known = raised(name):gsub("running_var$", "running_variance")
  if known:find "num_batches_tracked$" then return nil end
  if type(names) == "function" then
    local own = names(known) or nil
    if own ~= nil and type(own) ~= "string" then
      core.raise(("gls.load_pytorch: names gives %s for %s; expected a name, or nil"):format(type(own), known))
    end
    return own
  end
  for _, pair in ipairs(names or {}) do
    local good, found, count = pcall(string.gsub, known, pair[1], pair[2] or "")
    if not good then core.raise(('gls.load_pytorch: names: "%s": %s'):format(pair[1], found)) end
    if count > 0 and not pair[2] then return nil end
    known = found
  end
  return known
end

local function check_names(names)
  if names == nil or type(names) == "function" then return end
  local good = type(names) == "table"
  for place, pair in pairs(good and names or {}) do
    good = good and math.type(place) == "integer" and type(pair) == "table" and type(pair[1]) == "string"
      and (not pair[2] or type(pair[2]) == "string")
  end
  if not good then
    core.raise "gls.load_pytorch: names is a list of { pattern, replacement or false }, or a function of a name"
  end
end

-- Which of a model's tensors are weights of linear layers, inputs × outputs; PyTorch has outputs × inputs.
local function linear_weights(model)
  local Linear = require "gls.nn.linear"
  local found = {}
  for name, module in model:modules() do
    local class = getmetatable(module)
    while class and class ~= Linear do class = class.parent end
    if class then found[name == "" and "weight" or name .. ".weight"] = true end
  end
  return found
end

--- Sets a model's tensors to those that PyTorch has saved as safetensors (`safetensors.torch.save_file(model.
-- state_dict(), path)`, tied weights once). Numbers in names are raised by one (`0.weight` → `1.weight`), `running_var`
-- is `running_variance`, `num_batches_tracked` is left out, and weights of linear layers are transposed.
-- @tparam table model
-- @param source the path of the file, or tensors by PyTorch's names
-- @tparam[opt] table given `names`: how other names become the model's: a list of { Lua pattern, replacement } applied
-- in order after the above, or { pattern, false } to leave out what matches; or a function of the name that gives the
-- model's name, or nil. `transpose` = true; false where linear weights are inputs × outputs already (GPT-2's Conv1D).
-- `strict` = true: a tensor that is missing, unknown or of another shape is an error that names all of them
-- @treturn table the model
-- @treturn table what was left out, where strict is false: as load_state_dict
function pytorch.load(model, source, given)
  local set = options.check("gls.load_pytorch", given, { names = options.none, transpose = true, strict = true })
  if type(model) ~= "table" or type(model.load_state_dict) ~= "function" then
    core.raise("gls.load_pytorch: a model expected, got " .. type(model))
  end
  check_names(set.names)
  local tensors = type(source) == "string" and checkpoint.load(source) or source
  if type(tensors) ~= "table" then
    core.raise("gls.load_pytorch: the path of a file or a table of tensors expected, got " .. type(source))
  end
  local linear, state, from = set.transpose and linear_weights(model) or {}, {}, {}
  for name, tensor in pairs(tensors) do
    if type(name) ~= "string" or not core.is_tensor(tensor) then
      core.raise(("gls.load_pytorch: tensors by their names expected, got %s under %s"):format(
        core.is_tensor(tensor) and "a tensor" or type(tensor), tostring(name)))
    end
    local own = name_of(name, set.names)
    if own then
      if state[own] then
        core.raise(("gls.load_pytorch: %s and %s are both named %s here"):format(from[own], name, own))
      end
      from[own] = name
      state[own] = linear[own] and tensor:dim() == 2 and tensor:t() or tensor
    end
  end
  return model:load_state_dict(state, { strict = set.strict })
end

core.docs.load_pytorch = "load_pytorch(model, source, { names =, transpose = true, strict = true }) -> model\nSets " ..
  "a model's tensors to those of a safetensors file of PyTorch's, or a table of them by its names:\nnumbers in " ..
  "names are raised by one, weights of linear layers transposed; names maps the rest: a list of\n{ pattern, " ..
  "replacement }, or a function."

return pytorch
