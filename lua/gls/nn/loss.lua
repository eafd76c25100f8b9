--- Losses: functions of a prediction and a target, of one element unless reduction says otherwise.
-- @module gls.nn.loss
local gls = require "gls"
local options = require "gls.options"

local loss = {}

-- True for the sum.
local function is_sum(where, set)
  if set.reduction == "mean" then return false end
  if set.reduction == "sum" then return true end
  error(('%s: reduction is "mean" or "sum", got "%s"'):format(where, set.reduction), 3)
end

-- A loss over pairs of like shape. Without options nothing is checked here: the op does.
local function of_pairs(name)
  local op, where = gls[name], "nn." .. name
  loss[name] = function(prediction, target, settings)
    if settings == nil then return op(prediction, target) end
    local set = options.check(where, settings, { reduction = "mean" })
    return op(prediction, target, is_sum(where, set))
  end
end

--- `nn.mse(prediction, target, { reduction = "mean" })`: (prediction - target)², averaged over all elements.
of_pairs "mse"

--- `nn.l1(prediction, target, { reduction = "mean" })`: |prediction - target|.
of_pairs "l1"

--- `nn.binary_cross_entropy(logits, target, { reduction = "mean" })`: targets from 0 to 1 against sigmoid(logits).
of_pairs "binary_cross_entropy"

--- `nn.huber(prediction, target, { delta = 1, reduction = "mean" })`: d²/2 up to |d| = delta, linear beyond (Huber,
-- 1964).
function loss.huber(prediction, target, settings)
  local set = options.check("nn.huber", settings, { delta = 1, reduction = "mean" })
  return gls.huber(prediction, target, set.delta, is_sum("nn.huber", set))
end

--- `nn.cross_entropy(logits, labels, { label_smoothing = 0, reduction = "mean" })`: logits (…, C), int32 labels (…)
-- from 1 to C; averaged over labels.
function loss.cross_entropy(logits, labels, settings)
  if settings == nil then return gls.cross_entropy(logits, labels) end
  local set = options.check("nn.cross_entropy", settings, { label_smoothing = 0, reduction = "mean" })
  return gls.cross_entropy(logits, labels, set.label_smoothing, is_sum("nn.cross_entropy", set))
end

return loss
