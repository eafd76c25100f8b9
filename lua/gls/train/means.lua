--- Means: losses and metrics of batches, averaged over samples; each metric over those of the batches that gave it.
-- @module gls.train.means
local core = require "gls.core"
local number = require "gls.number"

local means = {}

-- What train.fit and its logs call something else.
local TAKEN = {
  loss = true, count = true, counts = true, valid_loss = true, step = true, epoch = true, seconds = true,
  batch_loss = true, learning_rate = true, gradient_norm = true,
}

--- Nothing yet: `count` samples, a sum by the name of each metric, and in `counts` the samples that each is of.
function means.new() return { count = 0, counts = {} } end

--- Sums as a checkpoint has them: in those of older versions every metric was over all samples.
function means.restored(sums)
  if sums.counts then return sums end
  local counts = {}
  for name in pairs(sums) do counts[name] = name ~= "count" and sums.count or nil end
  sums.counts = counts
  return sums
end

--- What a batch weighs in a mean: the labels or targets that it has, else its rows. Of a batch that ranks share it is
-- the whole batch's; the second result is this rank's share of it, else 1.
function means.samples(batch)
  local x, y, share = nil, nil, nil
  if type(batch) == "table" then x, y, share = batch.x, batch.y, batch.share end
  local count = 1
  if core.is_tensor(y) then
    count = y:numel()
  elseif core.is_tensor(x) and x:dim() > 0 then
    count = x:size(1)
  end
  if type(share) ~= "number" or share == 1 then return count, 1 end
  return math.floor(count / share + 0.5), share
end

local function described(value)
  return core.is_tensor(value) and "a tensor of shape " .. number.shape(value.shape) or type(value)
end

local function is_one(value) return core.is_tensor(value) and value:numel() == 1 end

--- The loss, as the loss function gave it, as a number.
function means.loss(loss)
  if is_one(loss) then return loss:item() end
  core.raise(("train: the loss function gives %s; expected a tensor of one element, as by "
    .. "return nn.mse(model(batch.x), batch.y)"):format(described(loss)))
end

local function number_of(name, value)
  if type(value) == "number" then return value end
  if is_one(value) then return value:item() end
  core.raise(("train: the loss function gives %s as the metric %s; expected a number, or a tensor of one element, as "
    .. "by :mean()"):format(described(value), name))
end

--- What the loss function gave for a batch, as numbers.
-- @param loss tensor of one element
-- @tparam[opt] table metrics by name
-- @treturn table `loss`, and each metric by its name
function means.numbers(loss, metrics)
  local found = { loss = means.loss(loss) }
  if metrics == nil then return found end
  if type(metrics) ~= "table" then
    core.raise(("train: the loss function gives %s as its second result; expected a table of metrics by name, as "
      .. "{ accuracy = … }"):format(described(metrics)))
  end
  for name, metric in pairs(metrics) do
    if type(name) ~= "string" then
      core.raise("train: metrics have names, as { accuracy = … }; the loss function gives one at " .. tostring(name))
    end
    if TAKEN[name] then
      core.raise(('train: the loss function gives a metric called "%s", which train.fit has itself: give it another '
        .. 'name, as "my_%s"'):format(name, name))
    end
    found[name] = number_of(name, metric)
  end
  return found
end

--- Adds the numbers of a batch.
-- @tparam table sums
-- @tparam number samples that the batch has
-- @tparam table found what means.numbers gave
-- @treturn number the loss
function means.add(sums, samples, found)
  sums.count = sums.count + samples
  for name, value in pairs(found) do
    sums[name] = (sums[name] or 0) + value * samples
    sums.counts[name] = (sums.counts[name] or 0) + samples
  end
  return found.loss
end

--- The means by name.
function means.of(sums)
  local result = {}
  for name, count in pairs(sums.counts) do result[name] = sums[name] / count end
  return result
end

return means
