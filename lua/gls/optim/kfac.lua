--- K-FAC: natural gradient with the Fisher matrix of each layer as a Kronecker product, of the second moments of its
-- inputs and of the gradients of its outputs (Martens and Grosse, "Optimizing neural networks with Kronecker-factored
-- approximate curvature", ICML 2015; convolutions: Grosse and Martens, ICML 2016). A layer's bias is a row of its
-- weight. Layers without factors, norms, embeddings, transposed and grouped convolutions, are left to AdamW; a matrix
-- of a module of one's own that no affine layer uses is named in `others`.
-- The gradients of the outputs are those of the training loss ("empirical Fisher"), or, as the paper has it, of a loss
-- with labels that the model itself draws, if that is shown to `observe` before each step.
-- Settings: `learning_rate` = 0.1, `momentum` = 0.9, `damping` = 1e-3, `decay` = 0.95 of both factors, `refresh` = 10
-- steps between inverses, `constraint` = 1e-3 (the step is scaled down to η² Σ⟨D, ∇⟩ ≤ constraint, the
-- sum over all groups that have one; 0: off), and those of gls.optim.matrix.
-- @module gls.optim.kfac
local gls = require "gls"
local base = require "gls.optim.base"
local matrix = require "gls.optim.matrix"

local KFAC = matrix.class("KFAC",
  { learning_rate = 0.1, momentum = 0.9, damping = 1e-3, decay = 0.95, refresh = 10, constraint = 1e-3 })
KFAC.with_bias = true
KFAC.shapes = { inputs = "rr", inverse_inputs = "rr", outputs = "cc", inverse_outputs = "cc", momentum = "rc" }

-- The transpose of filters' view, so that rows are inputs as in a linear layer.
local function from_view(weight, x) return weight:dim() > 2 and x:t() or x end

-- The bias that is a row of matrix i; a frozen one is none.
local function bias_of(group, i)
  local bias = group.biases[i]
  return bias and bias:requires_grad() and bias or nil
end

-- Of saved state, whose bias may have been frozen when this one is not, and the other way round, both are right: the
-- next step begins anew where it has to.
function KFAC.sizes(group, i, saved)
  local weight = group.parameters[i]:detach()
  local rows, columns = table.unpack(from_view(weight, matrix.view(weight)).shape)
  if group.biases[i] and gls.is_tensor(saved) and saved:dim() == 2 then
    local found = saved:size(1)
    if found == rows or found == rows + 1 then return found, columns end
  end
  return rows + (bias_of(group, i) and 1 or 0), columns
end

local check = KFAC.check
function KFAC:check()
  check(self)
  for _, group in ipairs(self.groups) do
    local set = group.settings
    if set.damping <= 0 then error(("optim.KFAC: damping is above 0, got %g"):format(set.damping), 0) end
    if set.constraint < 0 then error(("optim.KFAC: constraint is at least 0, got %g"):format(set.constraint), 0) end
  end
end

local function with_ones(a) return gls.cat({ a, gls.ones(a:size(1), 1) }, 2) end

-- ÃᵀÃ and GᵀG of one use, and its numbers of rows and samples: of all ranks (of gls.distributed), if there are
-- several.
local function products_of(use, a, samples, ranks)
  local products, counts = { a:t():matmul(a), use.g:t():matmul(use.g) }, { a:size(1), samples }
  if not ranks then return products, counts end
  ranks.sum(products)
  return products, ranks.total(counts)
end

-- A = ÃᵀÃ / n and G = n GᵀG / T of all uses, n samples with T rows each (section 3; T: 2016, equation 27).
local function factors_of(weight, bias, key, ranks)
  local good, uses = pcall(gls.factors, weight)
  if not good then
    gls.core.raise(("optim.KFAC: %s: %s; a weight without factors is named in others"):format(key,
      (uses:gsub("^[^\n:]*:%d+: ", ""))))
  end
  if ranks then ranks.same({ #uses }, "K-FAC's uses of " .. key) end -- their sums are taken one by one
  if #uses == 0 then return nil end
  local inputs, outputs
  for _, use in ipairs(uses) do
    local a = bias and with_ones(use.a) or use.a
    -- a token is a sample, a place of an image is not
    local products, counts = products_of(use, a, weight:dim() > 2 and use.batch or a:size(1), ranks)
    local rows, samples = table.unpack(counts)
    local of_inputs, of_outputs = products[1] / samples, products[2] * (samples * samples / rows)
    inputs = inputs and inputs + of_inputs or of_inputs
    outputs = outputs and outputs + of_outputs or of_outputs
  end
  return inputs, outputs
end

-- The whole gradient ∇, also of what does not pass the layer (a penalty on its weights), the bias's as its last row.
local function gradient_of(weight, bias, ranks)
  local gradient = from_view(weight, (matrix.view(weight.grad)))
  if bias then gradient = gls.cat({ gradient, (bias.grad or gls.zeros_like(bias)):view(1, -1) }, 1) end
  if ranks then ranks.sum { gradient } end
  return gradient
end

-- A plain mean at first, so that it needs no correction.
local function average(old, new, decay, updates)
  return old and old + (new - old) * ((1 - decay) / (1 - decay ^ updates)) or new
end

local function is_finite(x) return x:abs():max():item() < math.huge end

local function update_statistics(state, inputs, outputs, settings)
  if state.inputs and state.inputs:size(1) ~= inputs:size(1) then -- the bias was frozen, or no longer is
    for key in pairs(state) do state[key] = nil end
  end
  if not (is_finite(inputs) and is_finite(outputs)) then return end
  local updates = (state.updates and state.updates:item() or 0) + 1
  state.updates = gls.full({ 1 }, updates)
  state.inputs = average(state.inputs, inputs, settings.decay, updates)
  state.outputs = average(state.outputs, outputs, settings.decay, updates)
end

local function inverse(statistics, damping)
  local identity = gls.eye(statistics:size(1))
  return gls.cholesky_solve(gls.cholesky(statistics + identity * damping), identity)
end

local function mean_of_diagonal(x) return (x * gls.eye(x:size(1))):sum():item() / x:size(1) end

-- (A + π√λ I)⁻¹ and (G + √λ/π I)⁻¹, π² = the mean of A's diagonal over that of G's (section 6.3).
local function update_inverses(state, settings)
  local function mean(statistics) return math.max(mean_of_diagonal(statistics), 1e-30) end
  local pi = math.sqrt(mean(state.inputs) / mean(state.outputs))
  local root = math.sqrt(settings.damping)
  state.inverse_inputs = inverse(state.inputs, root * pi)
  state.inverse_outputs = inverse(state.outputs, root / pi)
end

--- Statistics from a loss of its own, before the training loss's backward: with labels drawn from the model's outputs
-- they are the Fisher matrix's.
-- @tparam tensor loss of the same batch
function KFAC:observe(loss)
  self:zero_grad()
  loss:backward()
  local _ <close> = gls.no_grad()
  for _, group in ipairs(self.groups) do
    for _, i in ipairs(group.matrices) do
      local key = group.names[i]
      local inputs, outputs = factors_of(group.parameters[i], bias_of(group, i), key, rawget(self, "ranks"))
      if inputs then
        group.states[key] = group.states[key] or {}
        update_statistics(group.states[key], inputs, outputs, group.settings)
      end
    end
  end
  self:zero_grad()
  rawset(self, "observed", true)
end

-- The layers' directions D = A⁻¹ ∇ G⁻¹, and ⟨D, ∇⟩ of all.
local function directions(self, group, settings)
  local list, product = {}, 0
  for _, i in ipairs(group.matrices) do
    local weight, bias, key = group.parameters[i], bias_of(group, i), group.names[i]
    local inputs, outputs = factors_of(weight, bias, key, rawget(self, "ranks"))
    if inputs then
      local gradient = gradient_of(weight, bias, rawget(self, "ranks"))
      local state = group.states[key] or {}
      group.states[key] = state
      if not rawget(self, "observed") then update_statistics(state, inputs, outputs, settings) end
      if state.updates and (not state.inverse_inputs or self.steps % settings.refresh == 0) then
        update_inverses(state, settings)
      end
      if state.inverse_inputs and is_finite(gradient) then
        local direction = state.inverse_inputs:matmul(gradient):matmul(state.inverse_outputs)
        product = product + (direction * gradient):sum():item()
        list[#list + 1] = { weight = weight, bias = bias, state = state, direction = direction }
      end
    elseif weight.grad then
      gls.core.raise(("optim.KFAC: %s has a gradient but no factors: it is used outside an affine layer (name it in "
        .. "others), or its .grad was assigned (change it in place)"):format(key))
    elseif bias and bias.grad then
      gls.core.raise(("optim.KFAC: the bias of %s has a gradient, the weight, of which it is a row, has none: make the "
        .. "optimizer after the weight is frozen, or name the bias in others"):format(key))
    end
  end
  return list, product
end

-- The directions of all groups, and η² Σ ⟨D, ∇⟩ over those that have a constraint, which bounds it.
local function all_directions(self)
  local lists, reach = {}, 0
  for _, group in ipairs(self.groups) do
    local settings = self:current(group)
    local list, product = directions(self, group, settings)
    lists[group] = list
    if settings.constraint > 0 then reach = reach + settings.learning_rate ^ 2 * product end
  end
  return lists, reach
end

function KFAC:update(group, settings)
  if group == self.groups[1] then rawset(self, "found", table.pack(all_directions(self))) end
  local lists, reach = table.unpack(rawget(self, "found"))
  local scale = 1
  if settings.constraint > 0 and reach > 0 then scale = math.min(1, math.sqrt(settings.constraint / reach)) end
  for _, layer in ipairs(lists[group]) do
    local state, weight = layer.state, layer.weight
    state.momentum = (state.momentum or gls.zeros_like(layer.direction)) * settings.momentum + layer.direction * scale
    local d = state.momentum:size(1) - (layer.bias and 1 or 0)
    local of_weight = state.momentum:narrow(1, 1, d)
    matrix.move(weight, from_view(weight, of_weight), settings)
    if layer.bias then layer.bias:detach():copy(layer.bias - state.momentum[d + 1] * settings.learning_rate) end
  end
  local ranks = rawget(self, "ranks")
  if ranks and group.fallback then ranks.sum_gradients(group.others) end
  self:step_others(group, settings)
end

function KFAC:finish()
  base.finish(self)
  rawset(self, "observed", nil)
  rawset(self, "found", nil)
end

return KFAC
