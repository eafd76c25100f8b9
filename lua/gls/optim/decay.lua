--- Decay: groups of parameters of which only matrices are decayed.
-- @module gls.optim.decay

--- Two groups for an optimizer: parameters of two or more dimensions, with its weight decay, and the rest, biases and
-- the scales and shifts of norms, with none.
-- @tparam table parameters what `model:parameters()` gives
-- @treturn table list of groups
return function(parameters)
  local matrices, rest = { names = {}, owners = {} }, { names = {}, owners = {} }
  for i, parameter in ipairs(parameters) do
    local list = parameter:dim() >= 2 and matrices or rest
    list[#list + 1] = parameter
    list.names[#list] = parameters.names and parameters.names[i] or tostring(i)
    list.owners[#list] = parameters.owners and parameters.owners[i]
  end
  local groups = {}
  if #matrices > 0 then groups[1] = { parameters = matrices } end
  if #rest > 0 then groups[#groups + 1] = { parameters = rest, weight_decay = 0 } end
  return groups
end
