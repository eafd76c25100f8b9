--- Keeper: the checkpoints of a run of train.fit, from which it goes on to the last bit.
-- @module gls.train.keeper
local gls = require "gls"
local file = require "gls.file"
local log = require "gls.log"
local core = require "gls.core"
local distributed = require "gls.distributed"
local means = require "gls.train.means"
local files = core.io

local keeper = {}
local Keeper = {}
Keeper.__index = Keeper

--- For a run of train.fit: `settings`, `state`, `sums` (of the epoch under way), `done` (whole epochs).
function keeper.new(run)
  local given = run.settings.checkpoint
  return setmetatable({ run = run, given = given, path = given.path, last = log.clock(), kept = {} }, Keeper)
end

--- Whether a checkpoint is due after a "step" or an "epoch".
function Keeper:is_time(after)
  local given = self.given
  if given.seconds and log.clock() - self.last >= given.seconds then return true end
  if after == "epoch" then return not given.seconds end
  return given.steps ~= nil and self.run.state.step % given.steps == 0
end

local function has_state(value)
  return type(value) == "table" and type(value.state_dict) == "function" and type(value.load_state_dict) == "function"
end

-- Callbacks are known by their names or, without, by their places; a further one of a name by its number too.
local function each_callback(run, visit)
  local met = {}
  for i, callback in ipairs(run.settings.callbacks) do
    if has_state(callback) then
      local name = type(callback.name) == "string" and callback.name or tostring(i)
      met[name] = (met[name] or 0) + 1
      visit(met[name] == 1 and name or ("%s %d"):format(name, met[name]), callback)
    end
  end
end

-- Where the checkpoint of a step stays: run.safetensors, run-1200.safetensors.
local function path_of(path, step)
  local stem, ending = path:match "^(.*[^/])(%.[^./]*)$"
  return ("%s-%d%s"):format(stem or path, step, ending or "")
end

-- The newest is at the path itself, and under the name of its step too where several are kept.
function Keeper:rotate()
  if self.given.keep == 1 then return end
  files.link(self.path, path_of(self.path, self.run.state.step))
  while #self.kept > self.given.keep do os.remove(path_of(self.path, table.remove(self.kept, 1))) end
end

--- Writes the checkpoint; of several ranks, the first.
function Keeper:save()
  local run = self.run
  if run.ranks and not run.ranks:is_first() then return end
  local state, set = run.state, run.settings
  local remembered = {}
  each_callback(run, function(name, callback) remembered[name] = callback:state_dict() end)
  if self.given.keep > 1 and self.kept[#self.kept] ~= state.step then self.kept[#self.kept + 1] = state.step end
  gls.save(self.path, {
    epoch = run.done, step = state.step, seconds = state.seconds, first_loss = state.first_loss, loss = state.loss,
    batch_loss = state.batch_loss, metrics = state.metrics, kept = self.kept,
    -- Of the epoch under way: batches done, what they have added up to, and whether it was the last.
    batch = state.batch, sums = run.sums, trained = run.trained,
    model = set.model:state_dict { copy = false }, optimizer = set.optimizer:state_dict(),
    data = has_state(set.data) and set.data:state_dict() or nil,
    callbacks = remembered, random = gls.random_state(),
  })
  self:rotate()
  self.last = log.clock()
end

local function is_count(value) return math.type(value) == "integer" and value >= 0 and value < 1 << 53 end

local function is_good(kept)
  return type(kept) == "table" and type(kept.model) == "table" and type(kept.optimizer) == "table"
    and is_count(kept.epoch) and is_count(kept.step) and is_count(kept.batch) and type(kept.seconds) == "number"
    and type(kept.sums) == "table" and is_count(kept.sums.count) and type(kept.kept) == "table"
    and type(kept.callbacks) == "table" and type(kept.metrics) == "table"
end

--- The whole epochs in a checkpoint; nil where there is none.
function keeper.epochs(path)
  if not file.kind(path) then return nil end
  local kept = gls.load(path)
  if not is_good(kept) then error(path .. " is not a checkpoint of train.fit", 0) end
  return kept.epoch
end

--- Puts the run where its checkpoint is, when there is one.
function Keeper:load()
  local run = self.run
  local kept = file.kind(self.path) and gls.load(self.path)
  if run.ranks then
    distributed.check(("the checkpoints %s that ranks see"):format(self.path), kept and is_good(kept)
      and ("%d %d %d %s"):format(kept.epoch, kept.batch, kept.step, kept.loss) or "none")
  end
  if not kept then return end
  local state, set = run.state, run.settings
  if not is_good(kept) then core.raise(("train.fit: %s is not a checkpoint of train.fit"):format(self.path)) end
  set.optimizer:load_state_dict(kept.optimizer) -- which may be another one's: before the model is touched
  set.model:load_state_dict(kept.model)
  state.epoch, state.step, state.seconds, state.batch = kept.epoch, kept.step, kept.seconds, kept.batch
  state.first_loss, state.loss, state.batch_loss = kept.first_loss, kept.loss, kept.batch_loss
  state.metrics, state.resumed = kept.metrics, true
  run.done, run.trained, run.sums, self.kept = kept.epoch, kept.trained, means.restored(kept.sums), kept.kept
  each_callback(run, function(name, callback)
    if kept.callbacks[name] ~= nil then callback:load_state_dict(kept.callbacks[name]) end
  end)
  if has_state(set.data) then
    if kept.data then set.data:load_state_dict(kept.data) end
  elseif not kept.trained then
    run.skip = kept.batch -- other data is gone through to the same batch
  end
  gls.random_state(kept.random)
  -- where the run was killed between writing the checkpoint and naming it by its step
  if self.kept[#self.kept] == state.step and not (run.ranks and not run.ranks:is_first()) then self:rotate() end
end

return keeper
