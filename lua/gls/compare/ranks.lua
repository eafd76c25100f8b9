--- Ranks: the runs of a comparison dealt out to the processes that mpirun started. Rank 0 deals, notes results and
-- runs nothing; the others take a run from it as they become free. A rank that is not heard of for a while has lost
-- its run, which another takes; should it answer after all, the first answer counts. (Open MPI ends all ranks with
-- the first that dies, unless mpirun has --enable-recovery.)
-- @module gls.compare.ranks
local distributed = require "gls.distributed"
local log = require "gls.log"
local misuse = require "gls.experiment.misuse"
local record = require "gls.experiment.record"
local system = require "system"

local ranks = {
  patience = 120, -- seconds without a word from a rank at work
  sign_of_life = 5, -- seconds between two words of such a rank
}
ranks.__index = ranks

local PAUSE = 0.005

--- Joins the other processes.
-- @treturn table|nil ranks, with `rank` (from 0) and `size`; nil where mpirun has not started this process, or it alone
-- @raise where mpirun has, but gls.mpi is not built
function ranks.join()
  local size = misuse.attempt(distributed.size)
  if size < 2 then return nil end
  return setmetatable({
    mpi = require "gls.mpi", rank = distributed.rank(), size = size, heard = {}, at_work = {}, idle = {}, lost = {},
    given = {},
  }, ranks)
end

-- ---- rank 0 ----

-- What a rank was at is to be done again.
local function lose(self, rank, waiting)
  local number = self.at_work[rank]
  self.at_work[rank], self.idle[rank], self.lost[rank] = nil, nil, true
  if number then table.insert(waiting, 1, self.given[number]) end
end

local function hear(self, results, waiting, on_done)
  local text, from = self.mpi.receive()
  if not text then return false end
  local word, number, body = text:match "^(%l+) ?(%d*) ?(.*)$"
  self.heard[from], self.lost[from] = log.clock(), nil
  if word == "ready" then self.idle[from] = true end
  local run = word == "done" and self.given[tonumber(number)]
  if run then
    self.at_work[from], self.idle[from] = nil, true
    if not results:find(run) then on_done(run, results:add(run, record.decode(body))) end
    for i, other in ipairs(waiting) do
      if other == run then
        table.remove(waiting, i)
        break
      end
    end
  end
  return true
end

local function deal(self, waiting)
  for rank in pairs(self.idle) do
    local run = table.remove(waiting, 1)
    if not run then return end
    self.given[#self.given + 1] = run
    self.at_work[rank], self.idle[rank], self.heard[rank] = #self.given, nil, log.clock()
    local plain = {}
    for name, value in pairs(run) do
      if name ~= "entry" and name ~= "of" then plain[name] = value end
    end
    local sent = pcall(self.mpi.send, rank, ("run %d %s"):format(#self.given, record.encode(plain)))
    if not sent then lose(self, rank, waiting) end
  end
end

local function check_signs(self, waiting, say)
  for rank in pairs(self.at_work) do
    if log.clock() - self.heard[rank] > ranks.patience then
      lose(self, rank, waiting)
      say(("rank %d is not heard of any more; its run goes to another"):format(rank))
    end
  end
  local gone = 0
  for _ in pairs(self.lost) do gone = gone + 1 end
  if gone == self.size - 1 then misuse.raise "all ranks but this one are gone; the same command goes on" end
end

--- What protocol.run takes, for rank 0.
-- @tparam table results ledger
-- @tparam function on_done called with a run and its row
-- @tparam function say called with a line of text
-- @treturn function
function ranks:executor(results, on_done, say)
  return function(runs)
    local waiting = {}
    for _, run in ipairs(runs) do
      if not results:find(run) then waiting[#waiting + 1] = run end
    end
    while #waiting > 0 or next(self.at_work) do
      if not hear(self, results, waiting, on_done) then
        deal(self, waiting)
        check_signs(self, waiting, say)
        system.sleep(PAUSE)
      end
    end
  end
end

--- Ends all ranks, from rank 0.
function ranks:finish()
  for rank = 1, self.size - 1 do
    -- One that never came, or is gone, would be waited for.
    if self.lost[rank] or not self.heard[rank] then return self.mpi.abort(0) end
  end
  for rank = 1, self.size - 1 do self.mpi.send(rank, "end") end
  self.mpi.stop()
end

--- Ends all ranks at once, because of a problem in this one.
function ranks:abort(problem)
  io.stderr:write(("rank %d: %s\n"):format(self.rank, tostring(problem)))
  self.mpi.abort(1)
end

-- ---- the others ----

--- Takes runs from rank 0 until it says that all are done.
-- @tparam function work called with a run and a function to call now and then; gives what trial.run gives
function ranks:serve(work)
  local mpi, told = self.mpi, log.clock()
  local function alive()
    if log.clock() - told < ranks.sign_of_life then return end
    told = log.clock()
    mpi.send(0, "alive")
  end
  mpi.send(0, "ready")
  while true do
    local text = mpi.receive()
    if text == "end" then break end
    if text then
      local number, body = text:match "^run (%d+) (.*)$"
      local good, outcome = xpcall(work, debug.traceback, record.decode(body), alive)
      if not good then error(outcome, 0) end
      mpi.send(0, ("done %s %s"):format(number, record.encode(outcome)))
    else
      system.sleep(PAUSE)
    end
  end
  mpi.stop()
end

return ranks
