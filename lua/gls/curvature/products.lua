--- Products: of a function's derivatives with vectors, forward, twice and Gauss–Newton's, without forming a matrix:
-- gls.jvp, gls.hvp, gls.ggn.
-- @module gls.curvature.products
local core = require "gls.core"
local options = require "gls.options"

local products = {}

local function as_list(x) return core.is_tensor(x) and { x } or x end

-- As the inputs were given: one tensor or a list.
local function as_given(given, list) return core.is_tensor(given) and list[1] or list end

local function check_inputs(where, inputs, vectors)
  local function check(name, list)
    if type(list) ~= "table" and not core.is_tensor(list) then
      core.raise(("%s: %s are a tensor or a list of tensors, not %s"):format(where, name, type(list)))
    end
  end
  check("inputs", inputs)
  check("vectors", vectors)
  if #as_list(inputs) ~= #as_list(vectors) then
    core.raise(("%s: %d inputs, but %d vectors"):format(where, #as_list(inputs), #as_list(vectors)))
  end
end

-- What a function gives for the inputs, those that require no gradient made leaves; the inputs as they went in.
-- Tensors are handed through.
local function called(f, inputs)
  local list = {}
  for i, x in ipairs(as_list(inputs)) do
    local leaf = type(f) == "function" and core.is_tensor(x) and not x:requires_grad()
    list[i] = leaf and x:detach():requires_grad(true) or x
  end
  if type(f) ~= "function" then return list, f end
  return list, f(table.unpack(list))
end

-- Σ seedsᵀ ∂outputs/∂inputs; outputs that are not on the tape have no part in it.
local function pulled(outputs, inputs, seeds, create_graph)
  local tracked, weights, result = {}, {}, {}
  for i, output in ipairs(outputs) do
    if output:requires_grad() then
      tracked[#tracked + 1], weights[#weights + 1] = output, seeds[i]
    end
  end
  if #tracked > 0 then
    return core.grad(tracked, inputs, { seeds = weights, unused = true, create_graph = create_graph })
  end
  for i, x in ipairs(inputs) do result[i] = core.zeros_like(x) end
  return result
end

-- The changes of outputs. Recorded it is the derivative of Jᵀ w by w, which is J, whatever w is.
local function pushed(outputs, inputs, tangents, create_graph)
  if not create_graph then return core.jvp(outputs, inputs, tangents) end
  local weights = {}
  for i, output in ipairs(outputs) do weights[i] = core.zeros_like(output):requires_grad(true) end
  return pulled(pulled(outputs, inputs, weights, true), weights, tangents, true)
end

-- f(scope) with what it makes released at its end, but the tensors of the list that it gives; as it is when recorded.
local function scoped(create_graph, f)
  if create_graph then return f() end
  local scope <close> = core.scope()
  local list = f()
  scope:keep(table.unpack(list))
  return list
end

--- The change of outputs when inputs change by tangents (forward-mode differentiation): J t.
-- @param outputs a tensor on the tape or a list of them; or a function, which is called with the inputs and gives them
-- @param inputs a tensor that requires a gradient, or is on the tape, or a list of such; of a function's, any tensors
-- @param tangents of the inputs' shapes, a tensor or a list
-- @tparam[opt] table settings `create_graph` = false: the result is on the tape, and can be differentiated
-- @return a tensor, or a list where outputs are
function products.jvp(outputs, inputs, tangents, settings)
  local set = options.check("jvp", settings, { create_graph = false })
  if type(outputs) ~= "function" and not set.create_graph then return core.jvp(outputs, inputs, tangents) end
  check_inputs("jvp", inputs, tangents)
  local one
  local changes = scoped(set.create_graph, function()
    local list, given = called(outputs, inputs)
    one = core.is_tensor(given)
    return pushed(as_list(given), list, as_list(tangents), set.create_graph)
  end)
  return one and changes[1] or changes
end

--- The exact product of a loss's Hessian with vectors, H v: a gradient of the gradient (Pearlmutter, 1994).
-- `gls.hvp(function() return nn.mse(model(x), y) end, model:parameters(), v)`.
-- @param loss a tensor of one element on the tape; or a function, which is called with the inputs and gives it
-- @param inputs what is differentiated by: a tensor or a list
-- @param vectors of the inputs' shapes, a tensor or a list
-- @tparam[opt] table settings `create_graph` = false: the result is on the tape, and can be differentiated
-- @return as inputs: a tensor or a list
function products.hvp(loss, inputs, vectors, settings)
  local set = options.check("hvp", settings, { create_graph = false })
  check_inputs("hvp", inputs, vectors)
  return as_given(inputs, scoped(set.create_graph, function()
    local list, value = called(loss, inputs)
    local gradients = core.grad(value, list, { create_graph = true, unused = true, values = false })
    return pulled(gradients, list, as_list(vectors), set.create_graph)
  end))
end

-- What products with a loss's Gauss–Newton matrix need of it, once: a function of a list of vectors.
function products.gauss_newton(loss, outputs, inputs, create_graph)
  outputs = as_list(outputs)
  local slopes = core.grad(loss, outputs, { create_graph = true })
  return function(vectors)
    local changes = pushed(outputs, inputs, vectors, create_graph)
    return pulled(outputs, inputs, pulled(slopes, outputs, changes, create_graph), create_graph)
  end
end

--- The product of a loss's Gauss–Newton matrix with vectors, Jᵀ H J v: J the derivative of the network's outputs, H the
-- Hessian of the loss in them (Schraudolph, 2002). Not negative where the loss is convex in the outputs.
-- `gls.ggn(function() local z = model(x) return nn.cross_entropy(z, y), z end, model:parameters(), v)`.
-- @tparam function f called with the inputs, gives the loss and the outputs (a tensor or a list) that it was made of
-- @param inputs what is differentiated by: a tensor or a list
-- @param vectors of the inputs' shapes, a tensor or a list
-- @tparam[opt] table settings `create_graph` = false: the result is on the tape, and can be differentiated
-- @return as inputs: a tensor or a list
function products.ggn(f, inputs, vectors, settings)
  local set = options.check("ggn", settings, { create_graph = false })
  check_inputs("ggn", inputs, vectors)
  if type(f) ~= "function" then
    core.raise(("ggn: a function that gives the loss and the outputs is expected, got %s"):format(type(f)))
  end
  return as_given(inputs, scoped(set.create_graph, function()
    local list, loss, outputs = called(f, inputs)
    if not outputs then core.raise "ggn: the function gives the loss and, second, the outputs; the second is nil" end
    return products.gauss_newton(loss, outputs, list, set.create_graph)(as_list(vectors))
  end))
end

products.pulled = pulled

return products
