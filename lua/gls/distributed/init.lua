--- Distributed: one model trained by several processes on parts of every batch, the losses of one process to rounding.
-- `mpirun -n 4 glsrun script.lua` starts them; without mpirun there is one, and the same script runs.
--
--    local distributed = require "gls.distributed"
--    distributed.broadcast(model)                                  -- all begin as rank 0
--    local optimizer = distributed.optimizer(optim.AdamW(model:parameters(), { … }))
--    for batch in distributed.batches(loader) do                   -- this rank's rows of each batch
--      local loss = nn.cross_entropy(model(batch.x), batch.y) * batch.share
--      loss:backward()
--      optimizer:step()                                            -- the gradients of all ranks are summed first
--      print(distributed.sum(loss:detach()):item())                -- the loss of the whole batch
--    end
--    distributed.stop()
--
-- `train.fit` makes these steps, given such an optimizer and `data = distributed.batches(loader)`; an experiment does
-- all of it by itself. buckets.lua has the sums of gradients.
--
-- It is for optimizers that read gradients (SGD, Adam, Muon, one's own), which are summed, and for GLS in all its forms
-- (runtime/gls/ranks.c): statistics AᵀA and gradients are summed; the rows of one dual system and of a window are
-- gathered, and every rank solves it. The parts of a batch (`part`) stay on their ranks, where the ranks' rows are
-- whole parts of those that one process would make (128 rows a part, 256 a rank), and their directions are summed;
-- else the rows are gathered and dealt out so that they are. Patches of convolutions (`statistics_rows`) and the rows
-- that the curvature is measured on are drawn from those of all ranks, by the random numbers of rank 0. Factorisations
-- and right-hand sides that all ranks need are dealt out to them, where that is less work than all of it everywhere:
-- runtime/gls/deal.c reckons with 1e9 bytes a second, `require("gls.mpi").speed(bytes)` says another number. For K-FAC
-- both statistics are summed, for L-BFGS the loss and its gradient within every evaluation of the closure.
--
-- The losses are those of one process to rounding, and the same to the last bit from run to run on as many ranks. SOAP
-- enlarges rounding: directions in which the inputs never went have no basis of their own, and Adam's first steps there
-- are of full length; Muon and `orthogonal` round to bfloat16 where the processor has a matrix unit, and losses soon
-- differ by a ten-thousandth (not with GLS_MATRIX_UNIT=0). Every rank solves the same systems from the same numbers, so
-- that weights stay equal to the last bit where processors and threads are alike; where they are not, `broadcast` the
-- model now and then. Batch normalisation sees each rank's own rows. A rank that dies, or fails, ends the job: mpirun
-- names it.
-- @module gls.distributed
local buckets = require "gls.distributed.buckets"
local core = require "gls.core"
local flat = require "gls.optim.flat"
local gls = require "gls"
local json = require "gls.json"

local distributed = {}

local mpi, own, count -- set by join
local stopped = false

local function join()
  if count then return end
  own, count = 0, 1
  if (tonumber(os.getenv "OMPI_COMM_WORLD_SIZE" or os.getenv "PMI_SIZE") or 1) < 2 then return end
  local good, module = pcall(require, "gls.mpi")
  if not good then
    error("distributed: gls.mpi is not built; install libopenmpi-dev and openmpi-bin, then make builds it", 0)
  end
  mpi = module
  own, count = mpi.start()
end

--- This process's number, from 0, as mpirun has it.
function distributed.rank()
  join()
  return own
end

--- How many processes there are: 1 without mpirun.
function distributed.size()
  join()
  return count
end

-- Numbers that are equal on all ranks, or an error on all of them: their variance over the ranks is 0.
local function check_equal(what, numbers)
  if not mpi then return end
  local sums = {}
  for i, value in ipairs(numbers) do
    sums[i], sums[#numbers + i] = value % 997, (value % 997) ^ 2 -- so that the sums are exact
  end
  sums = mpi.total(sums)
  for i = 1, #numbers do
    if sums[i] ^ 2 ~= count * sums[#numbers + i] then
      error(("distributed: %s differ between ranks"):format(what), 0)
    end
  end
end

--- Sums a tensor over all ranks, into each.
-- @tparam tensor tensor of float32, without gradient; all ranks' are of one shape
-- @treturn tensor the same, changed
-- @raise on all ranks, where their numbers of elements differ
function distributed.sum(tensor)
  if not core.is_tensor(tensor) or tensor.type ~= "float32" then
    core.raise("distributed.sum: a tensor of float32 expected, got " .. (core.is_tensor(tensor) and tensor.type
      or type(tensor)))
  end
  join()
  if not mpi then return tensor end
  check_equal("sizes of summed tensors", { tensor:numel() % 997, tensor:numel() // 997 })
  local vector = tensor:contiguous():view(-1)
  mpi.sum(vector)
  tensor:copy(vector:view(tensor.shape))
  return tensor
end

--- Sums numbers over all ranks, in double precision.
-- @tparam table numbers list, as long on all ranks
-- @treturn table list of the sums, the same on all ranks
function distributed.total(numbers)
  join()
  return mpi and mpi.total(numbers) or numbers
end

--- What rank 0 has.
-- @param value what JSON can say (numbers, texts, tables of them), or nil; that of the other ranks is not looked at
-- @return rank 0's, on all ranks
function distributed.tell(value)
  join()
  if not mpi then return value end
  return json.decode(mpi.tell(own == 0 and json.encode { value = value } or "")).value
end

-- A few numbers that tell texts apart.
local function digest(text)
  local a, b = 1, 0 -- Adler-32's sums
  for i = 1, #text do
    a = (a + text:byte(i)) % 65521
    b = (b + a) % 65521
  end
  return { a, b, a // 997, b // 997, #text, #text // 997 }
end

local function words(settings)
  local list = {}
  for name, value in pairs(settings) do
    local kind = type(value)
    list[#list + 1] = name .. "=" .. (kind == "function" and kind or kind == "table" and "{" .. words(value) .. "}"
      or tostring(value))
  end
  table.sort(list)
  return table.concat(list, ",")
end

--- Holds against each other what has to be the same on all ranks.
-- @tparam string what what it is, in the plural, for the message
-- @tparam string text
-- @raise on all ranks, where they differ
function distributed.check(what, text)
  join()
  check_equal(what, digest(text))
end

--- Gives every rank the parameters and buffers of rank 0.
-- @tparam table model
-- @raise on all ranks, where the models differ
function distributed.broadcast(model)
  if type(model) ~= "table" or not model.state_dict then
    core.raise("distributed.broadcast: a model expected, got " .. type(model))
  end
  join()
  local names, list = {}, {}
  for name in pairs(model:state_dict()) do names[#names + 1] = name end
  table.sort(names)
  local state = model:state_dict()
  for i, name in ipairs(names) do
    list[i] = name .. (core.is_tensor(state[name]) and table.concat(state[name].shape, "x") or "")
  end
  check_equal("models", digest(table.concat(list, " ")))
  if not mpi then return end
  for _, name in ipairs(names) do
    if core.is_tensor(state[name]) then
      local vector = state[name]:detach():clone():view(-1)
      mpi.broadcast(vector)
      state[name] = vector:view(state[name].shape)
    end
  end
  model:load_state_dict(state)
end

-- Sums the gradients of a list of parameters, which may be another one at a later call.
local function sum_of_gradients()
  local known
  return function(parameters)
    local same = known and #known.parameters == #parameters
    for i, parameter in ipairs(parameters) do same = same and known.parameters[i] == parameter end
    if not same then
      if known then known:drop() end
      known = buckets.new(mpi, parameters, distributed.tell)
    end
    known:sum()
  end
end

-- What steps that read more than gradients (GLS, K-FAC) or read them several times (L-BFGS) need to sum by themselves.
local function for_steps()
  return {
    same = function(values, what) check_equal(what or "settings of a step", digest(words(values))) end,
    sum_gradients = sum_of_gradients(),
    total = distributed.total,
    -- A list of tensors, each summed in place, in one message.
    sum = function(list)
      local vector = flat.values(list)
      mpi.sum(vector)
      flat.assign(list, vector)
    end,
    -- As core.clip_gradients, by the norm of the sum over ranks.
    clip = function(parameters, most)
      local sum = flat.gradients(parameters)
      local norm = core.clip_gradients(parameters, 0)
      mpi.sum(sum)
      local whole = (sum * sum):sum():item() ^ 0.5
      if whole > most and norm > 0 then core.clip_gradients(parameters, most * norm / whole) end
      return whole
    end,
  }
end

--- An optimizer whose step first sums the gradients of all ranks, or what else it reads. Gradients go in buckets, each
-- on its way as soon as backward has what is in it; between backward and step `.grad` is this rank's own.
-- @param optimizer of gls.optim
-- @return the same, its `step` changed
-- @raise on all ranks, where their settings or parameters differ
function distributed.optimizer(optimizer)
  if type(optimizer) ~= "table" or not optimizer.groups then
    core.raise("distributed.optimizer: an optimizer of gls.optim expected, got " .. type(optimizer))
  end
  join()
  local parts = { optimizer.name }
  for _, group in ipairs(optimizer.groups) do
    parts[#parts + 1] = words(group.settings)
    for i, parameter in ipairs(group.parameters) do
      parts[#parts + 1] = group.names[i] .. table.concat(parameter.shape, "x")
    end
  end
  check_equal("optimizers", digest(table.concat(parts, " ")))
  if rawget(optimizer, "sums_over_ranks") then return optimizer end
  rawset(optimizer, "sums_over_ranks", mpi ~= nil) -- for train.fit to know
  if not mpi then return optimizer end
  if optimizer.name == "GLS" or optimizer.name == "KFAC" or optimizer.name == "LBFGS" then
    rawset(optimizer, "ranks", for_steps())
    return optimizer
  end
  local gradients = buckets.new(mpi, optimizer:all_parameters(), distributed.tell)
  local step, zero_grad = optimizer.step, optimizer.zero_grad
  local function refuse()
    error(("distributed.optimizer: optim.%s evaluates the loss by itself, where ranks sum the gradients of backward "
      .. "alone"):format(optimizer.name), 0)
  end
  rawset(optimizer, "step", function(self)
    gradients:sum()
    return step(self, refuse)
  end)
  rawset(optimizer, "zero_grad", function(self)
    if core.backward_passes() > 0 then gradients:drop() end
    return zero_grad(self)
  end)
  return optimizer
end

-- ---- batches ----

local Batches = { __name = "distributed.batches" }
Batches.__index = Batches

local function part(tensor, first, rows) return tensor and tensor:narrow(1, first, rows) end

-- This rank's rows of a batch; nil where it has none. Batches of fewer rows than ranks go to other ranks in turn.
local function rows_of(batch)
  local all = batch.x:size(1)
  local place = all < count and (own + batch.number) % count or own
  local first, last = all * place // count + 1, all * (place + 1) // count
  local rows = last - first + 1
  if rows == 0 then return nil end
  return { x = part(batch.x, first, rows), y = part(batch.y, first, rows), share = rows / all, number = batch.number }
end

-- What ranks hold against each other of a tensor: its shape, and some values all over it, at multiples of the golden
-- ratio, which fall into no column of rows of any length.
local function looks(tensor)
  if not core.is_tensor(tensor) then return type(tensor) end
  local shape, elements, places = table.concat(tensor.shape, "x"), tensor:numel(), {}
  if elements == 0 then return shape end
  for i = 1, 64 do places[i] = 1 + math.floor(i * 0.61803398875 % 1 * elements) end
  local vector = tensor:contiguous():view(-1)
  local values = vector:index_select(1, gls.tensor(places, { type = "int32" })):tolist()
  for i, value in ipairs(values) do values[i] = ("%.9g"):format(value) end
  return shape .. " " .. table.concat(values, " ")
end

--- One epoch, for a generic for. Where `few` is true, batches of fewer rows than there are ranks are dealt out too: the
-- ranks that have no row of one go on to the next.
function Batches:epoch(few)
  local loader = self.loader
  local draw, _, _, running = loader:epoch()
  local checked = false
  self.running = running
  return function()
    local batch = draw()
    if not checked then
      distributed.check("seeds or batches of loaders", ("%d %d %d %d"):format(loader.seed, loader.epochs,
        loader.batches, batch and batch.x:size(1) or 0))
      if batch then distributed.check("data of loaders", looks(batch.x) .. " " .. looks(batch.y)) end
      checked = true
    end
    while batch do
      local rows = rows_of(batch)
      if batch.x:size(1) < count and not few then
        error(("distributed.batches: a batch of %d rows for %d ranks: take fewer ranks or larger batches, or drop_last "
          .. "where it is the rest of the set"):format(batch.x:size(1), count), 0)
      end
      self.number = batch.number
      if rows then return rows end
      batch = draw()
    end
    self.number, self.running = 0, nil
    return nil
  end, nil, nil, running
end

-- `for batch in batches`: called with nil at the start of a loop, as a loader is.
function Batches:__call(_, previous)
  if previous == nil then self.draw = self:epoch() end
  return self.draw()
end

--- Ends the present epoch, if one is under way.
function Batches:stop()
  if self.running then self.running:stop() end
  self.running, self.number = nil, 0
end
Batches.__close = Batches.stop

--- Where the loader is, as its own `state_dict` says.
function Batches:state_dict()
  local state = self.loader:state_dict()
  if self.number > 0 then state.batch = self.number end
  return state
end

--- Puts back what `state_dict` gave, on every rank.
function Batches:load_state_dict(saved)
  self:stop()
  self.loader:load_state_dict(saved)
end

--- This rank's rows of the batches of a loader, which has to have the same seed on all ranks. Each batch has `share`,
-- its part of the rows: a mean over its rows times it, summed over the ranks, is the mean over the whole batch (not of
-- a cross-entropy with `weight` or `ignore`, whose mean is over other numbers than rows). All ranks draw and augment
-- whole batches, with the same random numbers, so that these are the batches of one process.
-- @param loader of data.loader
-- @treturn table to iterate over, epoch after epoch, as the loader: `for batch in batches do`, or train.fit's `data`
-- @raise on all ranks, where a batch has fewer rows than there are ranks, or an epoch's first batch is another one
function distributed.batches(loader, ...)
  if type(loader) ~= "table" or not loader.epoch then
    core.raise("distributed.batches: a loader of data.loader expected, got " .. type(loader))
  end
  -- data.loader gives itself again, for a generic for to close.
  local first, second, closed = ...
  if first ~= nil or second ~= nil or closed ~= nil and closed ~= loader or select("#", ...) > 3 then
    core.raise "distributed.batches: too many arguments; the call is distributed.batches(loader)"
  end
  join()
  local made = setmetatable({ loader = loader, batches = loader.batches, number = 0 }, Batches)
  return made, nil, nil, made -- the last for a generic for to close, as data.loader gives it
end

--- Whether something is what `distributed.batches` gives.
function distributed.is_batches(value) return getmetatable(value) == Batches end

--- Ends the ranks together, after the last of the above.
-- @raise where another rank is amid a step: they have left the loop at different batches
function distributed.stop()
  if not mpi or stopped then return end
  buckets.drop()
  local good, problem = pcall(mpi.sum, gls.zeros(1)) -- which is no other sum's counterpart
  if not good then
    error("distributed.stop: other ranks are still at work: all have to make the same steps; " .. tostring(problem), 0)
  end
  stopped = true
  mpi.stop()
end

return require("gls.strict").module("distributed", distributed)
