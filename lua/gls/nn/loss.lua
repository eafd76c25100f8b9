--- Losses: functions of a prediction and a target. All take `reduction`: "mean" (default), "sum", or "none", which
-- gives the loss of every element (or row). Shapes do not broadcast.
-- @module gls.nn.loss
local gls = require "gls"
local core = require "gls.core"
local number = require "gls.number"
local options = require "gls.options"

local loss = {}

local REDUCTIONS = { mean = true, sum = true, none = true }

local function fail(where, message, ...) core.raise(where .. ": " .. message:format(...)) end

-- The settings, checked, with defaults.
local function checked(where, settings, allowed)
  local set = options.check(where, settings, allowed)
  local smoothing, delta = set.label_smoothing or 0, set.delta or 1
  if not REDUCTIONS[set.reduction] then
    fail(where, 'reduction is "mean", "sum" or "none", got "%s"', set.reduction)
  end
  if not (smoothing >= 0 and smoothing <= 1) then
    fail(where, "label_smoothing is %g: it goes from 0 to 1", smoothing)
  end
  if set.ignore ~= nil and not math.tointeger(set.ignore) then
    fail(where, "ignore is a label, a whole number, got %s", tostring(set.ignore))
  end
  if delta ~= delta or delta <= 0 then fail(where, "delta is %g and must be positive", delta) end
  return set
end

local function check_tensor(where, name, value)
  if type(value) ~= "userdata" then fail(where, "%s must be a tensor, got %s", name, type(value)) end
end

-- Refuses a target (called so in the message) whose shape and type are not those of x, or with `rows` whose shape is
-- not that of x without its last dimension.
local function check_shapes(where, name, x, target, rows, note)
  check_tensor(where, "the first argument", x)
  check_tensor(where, name, target)
  if not (core.is_tensor(x) and core.is_tensor(target)) then return end -- what gls.fuse records has no shape
  local wanted = x.shape
  if rows and #wanted == 0 then fail(where, "the first argument has no dimension; (…, classes) is expected") end
  if rows then wanted[#wanted] = nil end
  local given, right = number.shape(target.shape), number.shape(wanted)
  if given ~= right then
    fail(where, "%s has shape %s, the first argument %s: %s needs shape %s%s", name, given, number.shape(x.shape), name,
      right, note or "")
  end
  if not rows and target.type ~= x.type then
    fail(where, "%s is %s, the first argument %s%s", name, target.type, x.type, note or "")
  end
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
    local reduction = checked(where, settings, { reduction = "mean" }).reduction
    if reduction ~= "none" then return op(prediction, target, reduction == "sum") end
    check_shapes(where, "target", prediction, target)
    return elementwise(prediction, target)
  end
end

--- `nn.mse(prediction, target, { reduction = "mean" })`: (prediction - target)², averaged over all elements.
of_pairs("mse", function(prediction, target) return (prediction - target):square() end)

--- `nn.l1(prediction, target, { reduction = "mean" })`: |prediction - target|.
of_pairs("l1", function(prediction, target) return (prediction - target):abs() end)

--- `nn.binary_cross_entropy(logits, target, { reduction = "mean" })`: targets from 0 to 1 against sigmoid(logits).
of_pairs("binary_cross_entropy", function(logits, target) -- a sum of what is positive: no digits cancel
  return (-logits):softplus() * target + logits:softplus() * (1 - target)
end)

--- `nn.huber(prediction, target, { delta = 1, reduction = "mean" })`: d²/2 up to |d| = delta, delta (|d| − delta/2)
-- beyond (Huber, 1964).
function loss.huber(prediction, target, settings)
  local set = checked("nn.huber", settings, { delta = 1, reduction = "mean" })
  if set.reduction ~= "none" then return gls.huber(prediction, target, set.delta, set.reduction == "sum") end
  check_shapes("nn.huber", "target", prediction, target)
  local distance = (prediction - target):abs()
  local near = distance:minimum(gls.tensor(set.delta))
  return near * (distance - near * 0.5)
end

-- ---- labels ----

local LABEL_OPTIONS = { weight = options.none, ignore = options.none, reduction = "mean" }

local LABELS = '; labels are int32 (:to "int32"), from 1, one a row'

local function check_weight(where, weight, classes)
  if weight ~= nil and not (core.is_tensor(weight) and weight:dim() == 1 and weight:size(1) == classes) then
    fail(where, "weight is a tensor of %d numbers, one a class", classes)
  end
end

-- Rows (n × C), labels (n), weights of the labels (n) or nil, and a mask (n) or nil. Rows whose label is ignored are
-- left out; with reduction "none" they stay, with any label and the weight 0.
local function label_rows(where, x, labels, set)
  check_shapes(where, "target", x, labels, true, LABELS)
  if labels.type ~= "int32" then fail(where, "target is %s%s", labels.type, LABELS) end
  local classes, weight, mask = x:size(-1), set.weight, nil
  check_weight(where, weight, classes)
  x, labels = x:reshape(-1, classes), labels:reshape(-1)
  if set.ignore ~= nil then
    local kept, list, flags = {}, labels:tolist(), {}
    for i, label in ipairs(list) do
      flags[i] = label == set.ignore and 0 or 1
      if label == set.ignore then list[i] = 1 else kept[#kept + 1] = i end
    end
    if set.reduction == "none" then
      labels, mask = gls.tensor(list, { type = "int32" }), gls.tensor(flags)
    elseif #kept == 0 then
      fail(where, "every label is %s, which is ignored", set.ignore)
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
  local set = checked(where, settings, LABEL_OPTIONS)
  local rows, row_labels, weights = label_rows(where, log_probabilities, labels, set)
  local values = picked(rows, row_labels)
  return reduce_weighted(weights and values * weights or values, weights, set.reduction, labels.shape)
end

-- Targets that are probabilities: −Σ w t log p of each row, smoothed towards 1/C; the mean is over rows.
local function soft_cross_entropy(where, logits, target, set)
  check_shapes(where, "target", logits, target, false, " for probabilities" .. LABELS)
  if set.ignore ~= nil then fail(where, "ignore is for labels, the target has probabilities") end
  local classes, smoothing = logits:size(-1), set.label_smoothing
  check_weight(where, set.weight, classes)
  if smoothing > 0 then target = target * (1 - smoothing) + smoothing / classes end
  if set.weight then target = target * set.weight end
  return reduce(-(target * logits:log_softmax(-1)):sum(-1), set.reduction)
end

--- `nn.cross_entropy(logits, labels, { label_smoothing = 0, weight = nil, ignore = nil, reduction = "mean" })`: logits
-- (…, C), int32 labels (…) from 1 to C; averaged over labels. `weight`: a tensor of C factors, one a class; the mean is
-- then over the labels' weights. `ignore`: a label whose rows do not count. In place of labels float32 probabilities
-- (…, C), averaged over rows. As in PyTorch, where reduction "none" and weights have no curvature that GLS knows.
function loss.cross_entropy(logits, labels, settings)
  local where = "nn.cross_entropy"
  local hard = core.is_tensor(labels) and labels.type == "int32"
  if settings == nil and hard then return gls.cross_entropy(logits, labels) end
  local set = checked(where, settings, { label_smoothing = 0, weight = options.none, ignore = options.none,
    reduction = "mean" })
  if not hard then return soft_cross_entropy(where, logits, labels, set) end
  local reduction = set.reduction
  if not set.weight and set.ignore == nil and reduction ~= "none" then
    return gls.cross_entropy(logits, labels, set.label_smoothing, reduction == "sum")
  end
  local rows, row_labels, weights, mask = label_rows(where, logits, labels, set)
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
-- log-probabilities and target probabilities (…, C), NaN for a negative one; the mean is over rows (PyTorch's
-- "batchmean" of a matrix).
function loss.kl(log_prediction, target, settings)
  local set = checked("nn.kl", settings, { reduction = "mean" })
  check_shapes("nn.kl", "target", log_prediction, target)
  local smallest = 1.17549435e-38 -- t log t is 0 at 0
  return reduce((target * ((target + smallest):log() - log_prediction)):sum(-1), set.reduction)
end

--- `nn.cosine_similarity(a, b)`: a·b / (|a| |b|) over the last dimension: (…, d) gives (…); shapes broadcast.
-- A norm below 1e-8 counts as 1e-8.
function loss.cosine_similarity(a, b)
  local least = gls.tensor(1e-16)
  return (a * b):sum(-1) / (a:square():sum(-1):maximum(least):sqrt() * b:square():sum(-1):maximum(least):sqrt())
end

--- `nn.cosine(a, b, target, { margin = 0, reduction = "mean" })`: 1 − cos(a, b) for pairs (…, d) that belong together
-- (target (…) of 1, the default), max(0, cos(a, b) − margin) for those that do not (target −1).
function loss.cosine(a, b, target, settings)
  local set = checked("nn.cosine", settings, { margin = 0, reduction = "mean" })
  check_shapes("nn.cosine", "b", a, b)
  local cosine = loss.cosine_similarity(a, b)
  if target == nil then return reduce(1 - cosine, set.reduction) end
  check_shapes("nn.cosine", "target", a, target, true)
  return reduce(gls.where(target:gt(0), 1 - cosine, (cosine - set.margin):relu()), set.reduction)
end

--- `nn.hinge(scores, target, { margin = 1, reduction = "mean" })`: max(0, margin − target · score), targets −1 and 1
-- (Cortes and Vapnik, 1995).
function loss.hinge(scores, target, settings)
  local set = checked("nn.hinge", settings, { margin = 1, reduction = "mean" })
  check_shapes("nn.hinge", "target", scores, target)
  return reduce((set.margin - scores * target):relu(), set.reduction)
end

return loss
