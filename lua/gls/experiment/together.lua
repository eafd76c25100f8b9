--- Together: an experiment under mpirun: all ranks train each model together, rank 0 alone prints and writes, and what
-- it decides is told to the others.
-- @module gls.experiment.together
local distributed = require "gls.distributed"
local misuse = require "gls.experiment.misuse"
local record = require "gls.experiment.record"

local together = {}

--- Whether ranks share this experiment, and whether this is the one that writes.
-- @treturn boolean shared
-- @treturn boolean first
function together.join()
  local shared = misuse.attempt(distributed.size) > 1
  return shared, not shared or distributed.rank() == 0
end

--- Refuses ranks that were not given the same.
-- @tparam table chosen the choices
-- @tparam table planned the trials
-- @tparam table sets
function together.check(chosen, planned, sets)
  if not chosen.shared then return end
  local names = {}
  for i, trial in ipairs(planned) do names[i] = trial.key end
  local function same(what, value) misuse.attempt(distributed.check, what, record.encode(value)) end
  same("options", {
    names, chosen.seeds, chosen.optimizers, chosen.epochs, chosen.batch, chosen.seconds or 0, chosen.select,
    chosen.all_seeds or false, chosen.samples, chosen.validation, chosen.test,
  })
  same("data", sets.train.fingerprint or "")
end

local others = {}
others.__index = others

function others:add(row) self.rows[#self.rows + 1] = row end

function others.close() end

--- What stands for results.jsonl on ranks that do not write it.
function together.results() return setmetatable({ rows = {} }, others) end

--- The trial of the list that rank 0 has found best.
function together.best(best, planned)
  local key = distributed.tell(best and best.key)
  for _, trial in ipairs(planned) do
    if trial.key == key then return trial end
  end
end

--- What is said of the ranks before the first run.
-- @tparam table model
-- @treturn string
function together.note(model)
  local note = ("%d, each with its rows of every batch"):format(distributed.size())
  for _, module in model:modules() do
    local drops = rawget(module, "dropout") or rawget(module, "probability") -- a number, or a module that has it
    local what = getmetatable(module).name:find "^BatchNorm" and "batch normalisation"
      or type(drops) == "number" and drops > 0 and "dropout"
    if what then return note .. ("; %s is of these alone: losses are not those of one process"):format(what) end
  end
  return note
end

return together
