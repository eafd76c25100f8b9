--- Ranks: what train.fit and train.evaluate do together with the other processes of mpirun, where their data are
-- `distributed.batches`: losses are those of whole batches, and what the clock or a signal decides, one rank decides.
-- @module gls.train.ranks
local core = require "gls.core"
local distributed = require "gls.distributed"
local gls = require "gls"

local ranks = {}
local Ranks = {}
Ranks.__index = Ranks

--- The ranks that share these data.
-- @param data of train.fit or train.evaluate
-- @treturn table|nil nil where this process is alone with them
function ranks.of(data)
  if not distributed.is_batches(data) or distributed.size() < 2 then return nil end
  return setmetatable({ number = distributed.rank() }, Ranks)
end

--- The ranks of train.fit, its settings held against each other.
-- @raise where only data or only the optimizer are shared, or a setting is of one process
function ranks.begin(set)
  local self = ranks.of(set.data)
  local inner = rawget(set.optimizer, "optimizer") or set.optimizer -- inside optim.average
  local summed = rawget(inner, "sums_over_ranks")
  if summed and not self then
    core.raise "train.fit: the optimizer is distributed.optimizer's, so data has to be distributed.batches(loader)"
  elseif not self then
    return nil
  elseif not summed then
    core.raise "train.fit: data is distributed.batches(…), so the optimizer has to be distributed.optimizer(…)"
  elseif set.clip then
    core.raise "train.fit: clip would be of one rank's gradients; give the optimizer clip, which is of their sum"
  end
  distributed.check("settings of train.fit", ("%d %d %s %s %s %s"):format(set.epochs, set.accumulate, set.seconds,
    set.validation ~= nil, set.checkpoint ~= nil, set.resume))
  return self
end

--- Whether this rank is the one that prints and writes.
function Ranks:is_first() return self.number == 0 end

--- Leaves those callbacks to rank 0 that are for one rank: the bar and logs.
-- @tparam table callbacks of train.fit, in which others keep their places
-- @treturn boolean whether rank 0 has one that may end the training after a step
function Ranks:share_callbacks(callbacks)
  local asks = false
  for i, callback in ipairs(callbacks) do
    if not callback.for_one_rank then
      asks = asks or callback.on_step ~= nil
    elseif not self:is_first() then
      callbacks[i] = {}
    end
  end
  return self:tell(asks)
end

--- What rank 0 has: distributed.tell.
function Ranks:tell(value) return distributed.tell(value) end -- luacheck: ignore self

-- The names of numbers that are to be summed, which have to be the same on all ranks.
local function same_names(where, found)
  local names = {}
  for name in pairs(found) do names[#names + 1] = name end
  table.sort(names)
  local text = table.concat(names, " ")
  distributed.check(("names of metrics of %s (on this rank: %s)"):format(where, text), text)
  return names
end

--- The means over a whole batch, of which this rank has had a share.
-- @tparam table found what means.numbers gave for the share
-- @tparam number share
-- @tparam boolean stop whether this rank has been told to stop
-- @treturn table the same of the whole batch, on all ranks
-- @treturn boolean whether any rank has been told to stop
-- @raise on all ranks, where the names differ
function Ranks:whole(found, share, stop) -- luacheck: ignore self
  local names, list, whole = same_names("a batch", found), {}, {}
  for i, name in ipairs(names) do list[i] = found[name] * share end
  list[#list + 1] = stop and 1 or 0
  list = distributed.total(list)
  for i, name in ipairs(names) do whole[name] = list[i] end
  return whole, list[#list] > 0
end

--- The sums over the shares of all ranks.
-- @tparam table sums of means, of this rank's rows
-- @treturn table of all rows, on all ranks
-- @raise on all ranks, where one has had no row or the names differ
function Ranks:sum(sums) -- luacheck: ignore self
  if distributed.total { sums.count == 0 and 1 or 0 }[1] > 0 then
    error(("evaluation: some of the %d ranks had no row of the set: take fewer ranks or a larger set"):format(
      distributed.size()), 0)
  end
  local names, list, whole = same_names("the set", sums.counts), { sums.count }, { counts = {} }
  for i, name in ipairs(names) do list[2 * i], list[2 * i + 1] = sums[name], sums.counts[name] end
  list = distributed.total(list)
  whole.count = math.tointeger(list[1]) or list[1]
  for i, name in ipairs(names) do whole[name], whole.counts[name] = list[2 * i], list[2 * i + 1] end
  return whole
end

--- Before the model is evaluated, or handed to callbacks, at the end of an epoch: what each rank has gone on with by
-- itself is rank 0's again, running averages of batch normalisation and the state of the generator.
function Ranks:meet(model)
  if #model:buffers() > 0 then distributed.broadcast(model) end
  gls.random_state(self:tell(gls.random_state()))
end

return ranks
