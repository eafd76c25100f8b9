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
-- It is for optimizers that read gradients (SGD, Adam, Muon, one's own; SOAP too, but its first bases hang on
-- rounding); those that read the factors of affine layers (GLS, K-FAC) are refused. Batch normalisation sees each
-- rank's own rows. A rank that dies, or fails, ends the job: mpirun names it.
-- @module gls.distributed
local core = require "gls.core"
local flat = require "gls.optim.flat"
local gls = require "gls"

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
    sums[i], sums[#numbers + i] = value % 997, (value % 997) ^ 2 -- so that float32 has the sums exactly
  end
  local vector = gls.tensor(sums)
  mpi.sum(vector)
  for i = 1, #numbers do
    if vector[i]:item() ^ 2 ~= count * vector[#numbers + i]:item() then
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

-- All gradients in one message, and which parameters have one on any rank: the others stay without.
local function sum_gradients(parameters)
  local _ <close> = gls.no_grad()
  local has = {}
  for i, parameter in ipairs(parameters) do has[i] = parameter.grad and 1 or 0 end
  local vector, start = gls.cat { flat.gradients(parameters), gls.tensor(has) }, 1
  mpi.sum(vector)
  local counts = vector:narrow(1, vector:numel() - #has + 1, #has):tolist()
  for i, parameter in ipairs(parameters) do
    if counts[i] > 0 then
      parameter.grad = vector:narrow(1, start, parameter:numel()):reshape(parameter.shape)
    end
    start = start + parameter:numel()
  end
end

--- An optimizer whose step first sums the gradients of all ranks.
-- @param optimizer of gls.optim, which reads gradients
-- @return the same, its `step` changed
-- @raise on all ranks, where their settings or parameters differ; where it reads factors
function distributed.optimizer(optimizer)
  if type(optimizer) ~= "table" or not optimizer.groups then
    core.raise("distributed.optimizer: an optimizer of gls.optim expected, got " .. type(optimizer))
  end
  join()
  if optimizer.name == "GLS" or optimizer.name == "KFAC" or optimizer.name == "LBFGS" then
    error(("distributed.optimizer: optim.%s reads more than gradients, which are all that ranks sum"):format(
      optimizer.name), 2)
  end
  local parts = { optimizer.name }
  for _, group in ipairs(optimizer.groups) do
    parts[#parts + 1] = words(group.settings)
    for i, parameter in ipairs(group.parameters) do
      parts[#parts + 1] = group.names[i] .. table.concat(parameter.shape, "x")
    end
  end
  check_equal("optimizers", digest(table.concat(parts, " ")))
  local parameters, step = optimizer:all_parameters(), optimizer.step
  rawset(optimizer, "step", function(self, ...)
    if mpi then sum_gradients(parameters) end
    return step(self, ...)
  end)
  return optimizer
end

--- This rank's rows of the batches of a loader, which has to have the same seed on all ranks. Each batch has `share`,
-- its part of the rows: a mean over its rows times it, summed over the ranks, is the mean over the whole batch.
-- @param loader of data.loader
-- @treturn function iterator over one epoch
-- @raise on all ranks, where a batch has fewer rows than there are ranks
function distributed.batches(loader)
  if type(loader) ~= "table" or not loader.epoch then
    core.raise("distributed.batches: a loader of data.loader expected, got " .. type(loader))
  end
  join()
  check_equal("seeds of loaders", { loader.seed % 997, loader.seed // 997 % 997, loader.epochs })
  local draw, _, _, running = loader:epoch()
  local function part(tensor, first, rows) return tensor and tensor:narrow(1, first, rows) end
  return function()
    local batch = draw()
    if not batch then return nil end
    local all = batch.x:size(1)
    if all < count then
      error(("distributed.batches: a batch of %d rows for %d ranks"):format(all, count), 0)
    end
    local first, last = all * own // count + 1, all * (own + 1) // count
    local rows = last - first + 1
    return { x = part(batch.x, first, rows), y = part(batch.y, first, rows), share = rows / all, number = batch.number }
  end, nil, nil, running
end

--- Ends the ranks together, after the last of the above.
-- @raise where another rank is amid a step: they have left the loop at different batches
function distributed.stop()
  if not mpi or stopped then return end
  local good, problem = pcall(mpi.sum, gls.zeros(1)) -- which is no other sum's counterpart
  if not good then
    error("distributed.stop: other ranks are still at work: all have to make the same steps; " .. tostring(problem), 0)
  end
  stopped = true
  mpi.stop()
end

return require("gls.strict").module("distributed", distributed)
