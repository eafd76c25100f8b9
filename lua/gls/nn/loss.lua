--- Losses: functions of a prediction and a target. All take `reduction`: "mean" (default), "sum", or "none", which
-- gives the loss of every element (or row).
-- @module gls.nn.loss
local gls = require "gls"
local options = require "gls.options"

local loss = {}

local REDUCTIONS = { mean = true, sum = true, none = true }

local function check_reduction(where, set)
  if REDUCTIONS[set.reduction] then return set.reduction end
  error(('%s: reduction is "mean", "sum" or "none", got "%s"'):format(where, set.reduction), 4)
end

local function reduce(values, reduction)
  if reduction == "none" then return values end
  return reduction == "sum" and values:sum() or values:mean()
end

-- A loss over pairs of like shape, by an op for mean and sum. Without options nothing is checked here: the op does.
local function of_pairs(name, elementwise)
  local op, where = gls[name], "nn." .. name
  loss[name] = function(prediction, target, settings)
    if settings == nil then return op(prediction, target) end
    local reduction = check_reduction(where, options.check(where, settings, { reduction = "mean" }))
    if reduction == "none" then return elementwise(prediction, target) end
    return op(prediction, target, reduction == "sum")
  end
end

--- `nn.mse(prediction, target, { reduction = "mean" })`: (prediction - target)², averaged over all elements.
of_pairs("mse", function(prediction, target) return (prediction - target):square() end)

--- `nn.l1(prediction, target, { reduction = "mean" })`: |prediction - target|.
of_pairs("l1", function(prediction, target) return (prediction - target):abs() end)

--- `nn.binary_cross_entropy(logits, target, { reduction = "mean" })`: targets from 0 to 1 against sigmoid(logits).
of_pairs("binary_cross_entropy", function(logits, target) return logits:softplus() - logits * target end)

--- `nn.huber(prediction, target, { delta = 1, reduction = "mean" })`: d²/2 up to |d| = delta, delta (|d| − delta/2)
-- beyond (Huber, 1964).
function loss.huber(prediction, target, settings)
  local set = options.check("nn.huber", settings, { delta = 1, reduction = "mean" })
  local reduction = check_reduction("nn.huber", set)
  if reduction ~= "none" then return gls.huber(prediction, target, set.delta, reduction == "sum") end
  local distance = (prediction - target):abs()
  local near = distance:minimum(gls.tensor(set.delta))
  return near * (distance - near * 0.5)
end

-- ---- labels ----

local LABEL_OPTIONS = { weight = options.none, ignore = options.none, reduction = "mean" }

-- Rows (n × C), labels (n), weights of the labels (n) or nil, and a mask (n) or nil. Rows whose label is ignored are
-- left out; with reduction "none" they stay, with any label and the weight 0.
local function label_rows(where, x, labels, set, reduction)
  local classes = x:size(-1)
  x, labels = x:reshape(-1, classes), labels:reshape(-1)
  local weight = set.weight
  if weight ~= nil and not (gls.is_tensor(weight) and weight:dim() == 1 and weight:size(1) == classes) then
    error(("%s: weight is a tensor of %d numbers, one a class"):format(where, classes), 4)
  end
  local mask
  if set.ignore ~= nil then
    local kept, list, flags = {}, labels:tolist(), {}
    for i, label in ipairs(list) do
      flags[i] = label == set.ignore and 0 or 1
      if label == set.ignore then list[i] = 1 else kept[#kept + 1] = i end
    end
    if reduction == "none" then
      labels, mask = gls.tensor(list, { type = "int32" }), gls.tensor(flags)
    elseif #kept == 0 then
      error(("%s: every label is %s, which is ignored"):format(where, tostring(set.ignore)), 4)
    elseif #kept < #list then
      kept = gls.tensor(kept, { type = "int32" })
      x, labels = x:index_select(1, kept), labels:index_select(1, kept)
    end
  end
  local weights = weight and weight:index_select(1, labels)
  if mask then weights = weights and weights * mask or mask end
  return x, labels, weights, mask
end

-- Of rows' losses, which have their weights in them: the sum, over the sum of the weights for the mean.
local function reduce_weighted(values, weights, reduction, shape)
  if reduction == "none" then return values:view(shape) end
  if reduction == "sum" then return values:sum() end
  return weights and values:sum() / weights:sum() or values:mean()
end

local function picked(log_probabilities, labels)
  return -log_probabilities:gather(-1, labels:view(-1, 1)):view(-1)
end

--- `nn.nll(log_probabilities, labels, { weight = nil, ignore = nil, reduction = "mean" })`: minus the logarithm of the
-- label's probability; log_probabilities (…, C) as of log_softmax, labels and options as of nn.cross_entropy.
function loss.nll(log_probabilities, labels, settings)
  local where = "nn.nll"
  local set = options.check(where, settings, LABEL_OPTIONS)
  local reduction = check_reduction(where, set)
  local rows, row_labels, weights = label_rows(where, log_probabilities, labels, set, reduction)
  local values = picked(rows, row_labels)
  return reduce_weighted(weights and values * weights or values, weights, reduction, labels.shape)
end

-- Targets that are probabilities: −Σ w t log p of each row, smoothed towards 1/C; the mean is over rows.
local function soft_cross_entropy(where, logits, target, set, reduction)
  if set.ignore ~= nil then error(("%s: ignore is for labels, the target has probabilities"):format(where), 3) end
  local classes, smoothing = logits:size(-1), set.label_smoothing
  if smoothing > 0 then target = target * (1 - smoothing) + smoothing / classes end
  if set.weight then target = target * set.weight end
  return reduce(-(target * logits:log_softmax(-1)):sum(-1), reduction)
end

--- `nn.cross_entropy(logits, labels, { label_smoothing = 0, weight = nil, ignore = nil, reduction = "mean" })`: logits
-- (…, C), int32 labels (…) from 1 to C; averaged over labels. `weight`: a tensor of C factors, one a class; the mean is
-- then over the labels' weights. `ignore`: a label whose rows do not count. In place of labels probabilities (…, C),
-- averaged over rows. As in PyTorch, where reduction "none" and weights have no curvature that GLS knows.
function loss.cross_entropy(logits, labels, settings)
  local where = "nn.cross_entropy"
  local hard = labels.type == "int32"
  if settings == nil and hard then return gls.cross_entropy(logits, labels) end
  local set = options.check(where, settings, { label_smoothing = 0, weight = options.none, ignore = options.none,
    reduction = "mean" })
  local reduction = check_reduction(where, set)
  if not hard then return soft_cross_entropy(where, logits, labels, set, reduction) end
  if not set.weight and set.ignore == nil and reduction ~= "none" then
    return gls.cross_entropy(logits, labels, set.label_smoothing, reduction == "sum")
  end
  local rows, row_labels, weights, mask = label_rows(where, logits, labels, set, reduction)
  if not weights and reduction ~= "none" then
    return gls.cross_entropy(rows, row_labels, set.label_smoothing, reduction == "sum")
  end
  local log_probabilities, smoothing = rows:log_softmax(-1), set.label_smoothing
  local values = picked(log_probabilities, row_labels)
  if weights then values = values * weights end
  if smoothing > 0 then -- the share of all classes, each with its weight
    local all = set.weight and log_probabilities * set.weight or log_probabilities
    local spread = -all:sum(-1)
    if mask then spread = spread * mask end
    values = values * (1 - smoothing) + spread * (smoothing / rows:size(-1))
  end
  return reduce_weighted(values, weights, reduction, labels.shape)
end

-- ---- distributions, directions, margins ----

--- `nn.kl(log_prediction, target, { reduction = "mean" })`: Σ t (log t − log p) over the last dimension, for
-- log-probabilities and target probabilities (…, C); the mean is over rows (PyTorch's "batchmean" of a matrix).
function loss.kl(log_prediction, target, settings)
  local reduction = check_reduction("nn.kl", options.check("nn.kl", settings, { reduction = "mean" }))
  local smallest = gls.tensor(1.17549435e-38) -- t log t is 0 at 0
  return reduce((target * (target:maximum(smallest):log() - log_prediction)):sum(-1), reduction)
end

--- `nn.cosine_similarity(a, b)`: a·b / (|a| |b|) over the last dimension: (…, d) gives (…).
function loss.cosine_similarity(a, b)
  return (a * b):sum(-1) / ((a:square():sum(-1) + 1e-12) * (b:square():sum(-1) + 1e-12)):sqrt()
end

--- `nn.cosine(a, b, target, { margin = 0, reduction = "mean" })`: 1 − cos(a, b) for pairs (…, d) that belong together
-- (target 1, the default), max(0, cos(a, b) − margin) for those that do not (target −1).
function loss.cosine(a, b, target, settings)
  local set = options.check("nn.cosine", settings, { margin = 0, reduction = "mean" })
  local reduction, cosine = check_reduction("nn.cosine", set), loss.cosine_similarity(a, b)
  if target == nil then return reduce(1 - cosine, reduction) end
  return reduce(gls.where(target:gt(0), 1 - cosine, (cosine - set.margin):relu()), reduction)
end

--- `nn.hinge(scores, target, { margin = 1, reduction = "mean" })`: max(0, margin − target · score), targets −1 and 1
-- (Cortes and Vapnik, 1995).
function loss.hinge(scores, target, settings)
  local set = options.check("nn.hinge", settings, { margin = 1, reduction = "mean" })
  return reduce((set.margin - scores * target):relu(), check_reduction("nn.hinge", set))
end

return loss
