-- Runs of a comparison over the ranks of MPI.
local record = require "gls.experiment.record"
local mpirun = require "tests.lua.mpirun"
local scratch = require "tests.lua.scratch"

scratch.each(before_each, after_each)

local MINE = [[
local optim, compare = require "gls.optim", require "gls.compare"
local ranks = require "gls.compare.ranks"
ranks.patience, ranks.sign_of_life = 3, 0.2
return { name = "mine", space = { learning_rate = compare.log(0.02, 0.5) }, optimizer = function(parameters, settings)
  %s
  return optim.Adam(parameters, settings)
end }
]]

local TASK = [[
local gls, nn = require "gls", require "gls.nn"
local function open()
  gls.seed(3)
  local x = gls.randn(64, 4)
  local set = { x = x, y = x:sum(2):view(64, 1) }
  return { train = set, valid = set, test = set, fingerprint = "3" }
end
return { name = "tiny", version = 1, title = "tiny", open = open, batch = 8, steps = 20,
  model = function() return nn.Linear(4, 1) end, loss = function(output, batch) return nn.mse(output, batch.y) end }
]]

local function run(launcher, out)
  local command = mpirun.environment .. [[timeout 100 %s %s %s --quiet --optimizer %s --task %s --baselines momentum \
    --studies 2 --trials 3 --retunes 1 --threads 1 --out %s > %s 2>&1]]
  local script = scratch.write("run.lua", 'require("gls.compare").run()')
  local good = os.execute(command:format(launcher, mpirun.program, script, scratch.path "mine.lua",
    scratch.path "tiny.lua", scratch.path(out), scratch.path "printed"))
  return good, scratch.read "printed"
end

-- What came out of every run, without times.
local function losses(out)
  local found, count = {}, 0
  for line in scratch.read(out .. "/results.jsonl"):gmatch "[^\n]+" do
    local row = record.decode(line)
    if row.phase ~= "seconds" then
      local name = ("%s %s %d %d"):format(row.optimizer, row.phase, row.study, row.number)
      assert(not found[name], name .. " is there twice")
      found[name], count = { row.valid_loss, row.test_loss }, count + 1
    end
  end
  return found, count
end

describe("ranks", function()
  local function test(name, f) mpirun.test(it, pending, name, f) end

  test("come to what one process comes to", function()
    scratch.write("mine.lua", MINE:format "")
    scratch.write("tiny.lua", TASK)
    assert(run("", "one"))
    for _, size in ipairs { 2, 3, 4 } do
      local out = "of" .. size
      local good, printed = run(("mpirun --oversubscribe -n %d"):format(size), out)
      assert(good, printed)
      assert.same(losses "one", (losses(out)))
    end
  end)

  test("lose a run with a rank that dies, and another takes it", function()
    local flag = scratch.path "killed"
    scratch.write("mine.lua", MINE:format(([[local flag = io.open(%q)
  if flag then flag:close() elseif os.getenv "OMPI_COMM_WORLD_RANK" == "2" and debug.traceback():find "ranks.lua" then
    io.open(%q, "w"):close()
    os.execute "kill -9 $PPID"
  end]]):format(flag, flag)))
    scratch.write("tiny.lua", TASK)
    local _, printed = run("mpirun --oversubscribe --enable-recovery -n 3", "killed-out")
    assert(io.open(flag), "no rank was killed")
    local _, count = losses "killed-out"
    assert(count == 2 * 2 * (3 + 1 + 2), count .. " runs\n" .. printed)
  end)
end)
