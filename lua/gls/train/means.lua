--- Means: losses and metrics of batches, averaged over samples.
-- @module gls.train.means
local core = require "gls.core"

local means = {}

-- What train.fit and its logs call something else.
local TAKEN = {
  loss = true, count = true, valid_loss = true, step = true, epoch = true, seconds = true, batch_loss = true,
  learning_rate = true, gradient_norm = true,
}

--- Nothing yet: `count` samples, and a sum by the name of each metric.
function means.new() return { count = 0 } end

--- What a batch weighs in a mean: the labels or targets that it has, else its rows.
function means.samples(batch)
  local x, y = nil, nil
  if type(batch) == "table" then x, y = batch.x, batch.y end
  if core.is_tensor(y) then return y:numel() end
  return core.is_tensor(x) and x:dim() > 0 and x:size(1) or 1
end

local function number_of(name, value)
  local number = core.is_tensor(value) and value:numel() == 1 and value:item() or value
  if type(number) == "number" then return number end
  error(("the loss gives %s as the metric %s; expected a number, or a tensor of one element"):format(
    core.is_tensor(value) and "a tensor of shape (" .. table.concat(value.shape, "×") .. ")" or type(value),
    tostring(name)), 0)
end

--- Adds what the loss function gave for a batch.
-- @tparam table sums
-- @tparam number samples that the batch has
-- @param loss tensor of one element
-- @tparam[opt] table metrics by name
-- @treturn number the loss
function means.add(sums, samples, loss, metrics)
  if not core.is_tensor(loss) then
    error("the loss function gives a tensor of one element, got " .. type(loss), 0)
  end
  local value = loss:item()
  sums.count, sums.loss = sums.count + samples, (sums.loss or 0) + value * samples
  if metrics == nil then return value end
  if type(metrics) ~= "table" then
    error("the loss's second result is a table of metrics by name, got " .. type(metrics), 0)
  end
  for name, metric in pairs(metrics) do
    if type(name) ~= "string" then error("metrics have names, as { accuracy = … }, got " .. tostring(name), 0) end
    if TAKEN[name] then error(("a metric may not be called %q"):format(name), 0) end
    sums[name] = (sums[name] or 0) + number_of(name, metric) * samples
  end
  return value
end

--- The means by name.
function means.of(sums)
  local result = {}
  for name, sum in pairs(sums) do
    if name ~= "count" then result[name] = sum / sums.count end
  end
  return result
end

return means
