--- Modes: training and evaluation mode of a model's modules, of which some may be frozen in evaluation mode.
-- @module gls.train.modes
local modes = {}

-- Module → whether it is in training mode.
local function of(model)
  if type(model.modules) ~= "function" then return { [model] = model.training } end
  local list = {}
  for _, module in model:modules() do list[module] = module.training end
  return list
end

local function put_back(list)
  for module, mode in pairs(list) do module.training = mode end
end

--- Every module has the mode that it has now again when what this gives is closed.
function modes.kept(model)
  local before, mode = of(model), model.training
  return setmetatable({}, { __close = function()
    model:train(mode)
    put_back(before)
  end })
end

--- Evaluation mode until what this gives is closed.
function modes.evaluating(model)
  local kept = modes.kept(model)
  model:eval()
  return kept
end

--- Training mode, of which a model that is in it keeps its modules' own modes; one that is not, those of `last`.
-- @tparam table model
-- @tparam[opt] table last what this gave before
-- @treturn table the modules' modes
function modes.training(model, last)
  if not model.training then
    model:train(true)
    put_back(last or {})
  end
  return of(model)
end

return modes
