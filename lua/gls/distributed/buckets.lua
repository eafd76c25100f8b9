--- Buckets: the gradients of all ranks, summed in a few messages, each begun as soon as backward has what it takes (Li
-- et al., "PyTorch Distributed: experiences on accelerating data parallel training", VLDB 2020, section 3.2.3). Buckets
-- are in the order in which rank 0's first pass of backward finished the gradients, and begun in that order on all
-- ranks, whatever theirs is; those that a rank has nothing for are begun in its step. So no rank waits for a message
-- that another does not send, and every run sums in the same order.
-- @module gls.distributed.buckets
local core = require "gls.core"
local gls = require "gls"

local buckets = {
  most = 1 << 20, -- numbers of several gradients in a bucket, 4 MB; a larger gradient is a bucket by itself
  under_way = {}, -- buckets of which a message is: they must not be collected
  made = 0,
}
local Buckets = {}
Buckets.__index = Buckets

--- The buckets of a list of parameters.
-- @tparam table mpi gls.mpi, started
-- @tparam table parameters
-- @tparam function tell distributed.tell
function buckets.new(mpi, parameters, tell)
  local self = setmetatable({ mpi = mpi, parameters = parameters, tell = tell, met = {}, eager = true }, Buckets)
  self:forget()
  buckets.made = buckets.made + 1
  self.number = buckets.made
  self.watch = core.watch_gradients(parameters, function(i) self:ready(i) end)
  return self
end

-- No message is under way.
function Buckets:forget()
  self.sent, self.left, self.whole = {}, {}, {}
  for b, bucket in ipairs(self.list or {}) do self.left[b] = #bucket end
  buckets.under_way[self] = nil
end

-- The buckets, from an order of the parameters' numbers; those that it lacks come last.
function Buckets:plan(order)
  local list, size, of = {}, math.huge, {}
  local function add(i)
    local count = self.parameters[i]:numel()
    if size + count > buckets.most then list[#list + 1], size = {}, 0 end
    table.insert(list[#list], i)
    size, of[i] = size + count, #list
  end
  for _, i in ipairs(order) do add(i) end
  for i = #self.parameters, 1, -1 do
    if not of[i] then add(i) end
  end
  self.list, self.of = list, of
  self:forget()
end

-- Begins the sum of the next bucket, of the gradients as they are now.
function Buckets:begin()
  local _ <close> = gls.no_grad()
  local bucket, parts, sent = self.list[#self.sent + 1], {}, { gradients = {} }
  for k, i in ipairs(bucket) do
    local gradient = self.parameters[i].grad
    sent.gradients[k] = gradient or false
    parts[k] = (gradient or gls.zeros(self.parameters[i].shape)):view(-1)
    core.keep(parts[k], gradient or parts[k])
  end
  sent.from = core.keep(#parts == 1 and parts[1] or gls.cat(parts))
  sent.to = core.keep(gls.empty(sent.from:numel()))
  sent.sum = self.group:sum(sent.from, sent.to)
  self.sent[#self.sent + 1] = sent
  buckets.under_way[self] = true
end

-- Backward has finished the gradient of parameter i.
function Buckets:ready(i)
  if not self.whole[i] then
    self.whole[i] = true
    if not self.ordered then
      self.met[#self.met + 1] = i
    elseif self.eager then
      self.left[self.of[i]] = self.left[self.of[i]] - 1
      while self.left[#self.sent + 1] == 0 do self:begin() end
    end
  end
  for _, sent in ipairs(self.sent) do -- MPI goes on with all of them where it is asked of one
    if not sent.sum:test() then break end
  end
end

-- Begins what is not begun, and a last message: which parameters have a gradient, and whether any was changed after it
-- was sent. Waits for all. Gives the last message's sums.
function Buckets:wait()
  local _ <close> = gls.no_grad()
  while #self.sent < #self.list do self:begin() end
  local flags, changed = {}, 0
  for b, sent in ipairs(self.sent) do
    for k, i in ipairs(self.list[b]) do
      local gradient = sent.gradients[k] or nil
      flags[i] = gradient and 1 or 0
      if not self.watch:has(i, gradient) then changed = 1 end
    end
  end
  flags[#flags + 1] = changed
  flags = gls.tensor(flags)
  self.mpi.sum(flags) -- among all ranks' other sums: one that has left the loop is met here, not waited for
  for _, sent in ipairs(self.sent) do sent.sum:wait() end
  return flags:tolist()
end

--- Every parameter's gradient becomes the sum over the ranks; those that have none on any stay without. Every rank
-- calls it.
function Buckets:sum()
  local _ <close> = gls.no_grad()
  self.group = self.group or self.mpi.group()
  if not self.ordered then
    local order = self.tell(self.met)
    self.ordered = #order > 0
    self:plan(order)
  end
  local flags = self:wait()
  if flags[#flags] > 0 then
    -- A second pass, or a script, has changed what was sent: again, and from now on not before the step.
    self.eager = false
    self:forget()
    flags = self:wait()
  end
  for b, sent in ipairs(self.sent) do
    local start = 1
    for _, i in ipairs(self.list[b]) do
      local parameter = self.parameters[i]
      if flags[i] > 0 then
        self.watch:set(i, sent.to:narrow(1, start, parameter:numel()):view(parameter.shape))
      end
      start = start + parameter:numel()
    end
  end
  self:forget()
end

--- Waits for what is under way, and gives it up. Every rank calls it.
function Buckets:drop()
  if not self.ordered or not self.group then return end
  self:wait()
  self:forget()
end

--- Waits for all that is under way, of every list of parameters, in one order on all ranks.
function buckets.drop()
  local list = {}
  for gradients in pairs(buckets.under_way) do list[#list + 1] = gradients end
  table.sort(list, function(a, b) return a.number < b.number end)
  for _, gradients in ipairs(list) do gradients:drop() end
end

return buckets
