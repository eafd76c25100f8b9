--- Flat: the numbers of a list of tensors as one vector, in the list's order, and back.
-- @module gls.optim.flat
local gls = require "gls"

local flat = {}

local function joined(list)
  local parts = {}
  for i, tensor in ipairs(list) do parts[i] = tensor:reshape(-1) end
  return gls.cat(parts)
end

--- A copy of all values.
-- @tparam table parameters list of tensors (`model:parameters()`)
-- @treturn tensor vector
function flat.values(parameters)
  local _ <close> = gls.no_grad()
  return joined(parameters)
end

--- All gradients; zeros where a parameter has none.
-- @tparam table parameters
-- @treturn tensor vector
function flat.gradients(parameters)
  local _ <close> = gls.no_grad()
  local list = {}
  for i, parameter in ipairs(parameters) do list[i] = parameter.grad or gls.zeros_like(parameter) end
  return joined(list)
end

--- Writes a vector's values into the parameters.
-- @tparam table parameters
-- @tparam tensor vector as long as all of them together; anything else is an error
function flat.assign(parameters, vector)
  local total = 0
  for _, parameter in ipairs(parameters) do total = total + parameter:numel() end
  if vector:dim() ~= 1 or vector:numel() ~= total then
    error(("flat.assign: the parameters have %d values, the vector's shape is (%s)"):format(total,
      table.concat(vector.shape, "×")), 2)
  end
  local _ <close> = gls.no_grad()
  local start = 1
  for _, parameter in ipairs(parameters) do
    parameter:detach():copy(vector:narrow(1, start, parameter:numel()):view(parameter.shape))
    start = start + parameter:numel()
  end
end

return flat
