-- Experiments and train.fit over the ranks of MPI: the losses of one process, and an end for all where one ends.
local gls = require "gls"
local mpirun = require "tests.lua.mpirun"
local record = require "gls.experiment.record"
local scratch = require "tests.lua.scratch"

scratch.each(before_each, after_each)

-- 43 images in batches of 10: the last batch has a row for each of three ranks. tanh has no kink that rounding would
-- throw a row over. ON_LOSS is run with every loss that is trained on.
local EXPERIMENT = [[
local distributed, experiment = require "gls.distributed", require "gls.experiment"
local gls, nn = require "gls", require "gls.nn"
local losses = 0
experiment.run {
  name = "tiny", title = "tiny", classify = true, data = { flatten = true, center = true },
  model = function(set)
    return nn.Sequential { nn.Linear(set.images[1]:numel(), 5), nn.Tanh(), nn.Linear(5, #set.classes) }
  end,
  loss = function(logits, batch)
    if gls.grad_enabled() then
      losses = losses + 1
      %s
    end
    return nn.cross_entropy(logits, batch.y)
  end,
  trials = {
    sgd = experiment.grid { learning_rate = { 0.01, 0.02 }, data = { flip = true, crop = 1 } },
    adam = experiment.grid { learning_rate = { 1e-3, 2e-3 }, average = 0.9 },
  },
  defaults = { epochs = 3, batch = 10, validation = 0, optimizers = { "sgd", "adam" }, seeds = { 1, 2 } },
}
]]

local function images()
  gls.seed(1)
  for split, count in pairs { train = { 20, 23 }, test = { 6, 6 } } do
    for class, level in ipairs { 0.3, 0.6 } do
      local folder = ("%s/%s/%d"):format(scratch.path "images", split, class)
      assert(os.execute("mkdir -p '" .. folder .. "'"))
      for i = 1, count[class] do
        gls.save_image(("%s/%02d.png"):format(folder, i), gls.rand(3, 4, 4) * 0.6 + level - 0.3)
      end
    end
  end
end

-- Ranks, each with options of its own where `options` is a list.
local function run(ranks, options, on_loss)
  local script = scratch.write("script.lua", EXPERIMENT:format(on_loss or ""))
  local function command(own)
    return ("%s %s --quiet --data folder:%s %s"):format(mpirun.program, script, scratch.path "images", own)
  end
  if ranks == 1 then return mpirun.execute(command(options)) end
  local parts = {}
  for i = 1, ranks do parts[i] = "-n 1 " .. command(type(options) == "table" and options[i] or options) end
  return mpirun.execute("mpirun --oversubscribe " .. table.concat(parts, " : "))
end

-- The losses of every epoch of every run.
local function rows(out)
  local list = record.rows(scratch.path(out) .. "/results.jsonl")
  local function name(row)
    return ("%s %s %d %d"):format(row.optimizer, record.encode(row.settings), row.seed, row.epoch)
  end
  table.sort(list, function(a, b) return name(a) < name(b) end)
  return list
end

local function same(out, wanted)
  local found = rows(out)
  assert.equal(#wanted, #found)
  for i, row in ipairs(found) do
    for _, name in ipairs { "train_loss", "valid_loss", "batch_loss", "first_loss", "valid_accuracy", "step" } do
      assert.near(wanted[i][name], row[name], 2e-5 * math.abs(wanted[i][name]), row.optimizer .. " " .. name)
    end
  end
end

describe("what is said of the ranks", function()
  it("names what sees the rows of one rank alone", function()
    local nn, together = require "gls.nn", require "gls.experiment.together"
    local function note(...) return together.note(nn.Sequential { nn.Linear(2, 2), ... }) end
    local alone = "; batch normalisation is of these alone: losses are not those of one process"
    assert.matches(alone, note(nn.BatchNorm(2)))
    assert.matches("; dropout is", note(nn.Dropout(0.1)))
    local transformer = require "models.transformer" { vocabulary = 4, layers = 1, heads = 1, width = 4, context = 4 }
    for _, silent in ipairs { note(nn.Dropout(0)), together.note(transformer) } do
      assert.equal("1, each with its rows of every batch", silent)
    end
  end)
end)

describe("an experiment over ranks", function()
  local function test(name, f) mpirun.test(it, pending, name, f) end

  local alone -- the rows of one process

  before_each(function()
    images()
    if alone then return end
    assert(run(1, "--out " .. scratch.path "one"))
    alone = rows "one"
    assert.equal(4 * 3 + 2 * 3, #alone)
  end)

  test("has the losses of one process, of the same trials and the same best ones", function()
    for ranks = 2, 3 do
      local out = "ranks-" .. ranks
      local good, printed = run(ranks, "--out " .. scratch.path(out))
      assert(good, printed)
      assert.equal(scratch.path(out) .. "/summary.md\n", printed)
      same(out, alone)
    end
  end)

  test("ends on all ranks when one is told to, its checkpoint whole, and goes on by --resume", function()
    local good, printed = run(3, "--out " .. scratch.path "cut",
      "if losses == 22 and distributed.rank() == 1 then os.execute 'kill -TERM $PPID' end")
    assert.is_not_true(good)
    assert(printed:find("--resume " .. scratch.path "cut" .. " goes on", 1, true), printed)
    assert.equal(4, #rows "cut") -- step 22 is amid the second epoch of the second run
    assert(os.execute(("ls '%s'/run-*.safetensors > /dev/null"):format(scratch.path "cut")))
    good, printed = run(1, "--resume " .. scratch.path "cut") -- by as many or as few as there are
    assert(good, printed)
    same("cut", alone)
  end)

  test("ends, the rank named, when one is killed, and goes on by --resume", function()
    local good, printed = run(2, "--out " .. scratch.path "cut",
      "if losses == 22 and distributed.rank() == 1 then os.execute 'kill -9 $PPID' end")
    assert.is_not_true(good)
    assert(printed:find("process rank 1 ", 1, true), printed)
    good, printed = run(2, "--resume " .. scratch.path "cut")
    assert(good, printed)
    same("cut", alone)
  end)

  test("ends a diverging run, and one whose seconds are over, on all ranks", function()
    local good, printed = run(2, "--seconds 0.000001 --seeds 1 --lr sgd=1e39 --out " .. scratch.path "out")
    assert(good, printed)
    local status = {}
    for _, row in ipairs(rows "out") do status[#status + 1] = row.optimizer .. " " .. row.status end
    assert.same({ "adam finished", "adam finished", "sgd diverged" }, status)
  end)

  test("is an error on all ranks, and no hang, where it cannot be", function()
    local out = " --out " .. scratch.path "out"
    assert(os.execute(("cp -r '%s' '%s'"):format(scratch.path "images", scratch.path "other")))
    gls.save_image(scratch.path "other/train/1/01.png", gls.zeros(3, 4, 4))
    for expected, options in pairs {
      ["options differ between ranks"] = { "--epochs 2" .. out, "--epochs 3" .. out },
      ["data differ between ranks"] = { out, "--data folder:" .. scratch.path "other" .. out },
      ["a batch of 3 rows for 4 ranks"] = { out, out, out, out },
    } do
      local good, printed = run(#options, options)
      assert.is_not_true(good)
      assert(printed:find(expected, 1, true), printed)
    end
  end)
end)

describe("train.fit over ranks", function()
  local function test(name, f) mpirun.test(it, pending, name, f) end

  -- Prints the last epoch's loss, and that of the validation data, of which the last batch has one row.
  local FIT = [[
local gls, nn, optim, data = require "gls", require "gls.nn", require "gls.optim", require "gls.data"
local distributed, train = require "gls.distributed", require "gls.train"
gls.seed(3)
local x = gls.randn(50, 4)
local set = { x = x, y = x:matmul(gls.randn(4, 2)) }
local model = nn.Sequential { nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2) }
distributed.broadcast(model)
local state = train.fit {
  model = model, data = distributed.batches(data.loader(set, { batch = 8, shuffle = true, drop_last = true })),
  validation = distributed.batches(data.loader({ x = x:narrow(1, 1, 9), y = set.y:narrow(1, 1, 9) }, { batch = 4 })),
  optimizer = distributed.optimizer(optim.Adam(model:parameters(), { learning_rate = 0.01 })),
  loss = function(network, batch)
    local output = network(batch.x)
    return nn.mse(output, batch.y), { size = output:abs():mean() }
  end,
  epochs = 4, accumulate = 2, checkpoint = "%s", resume = true, %s
}
if distributed.rank() == 0 then
  print(("%%.9g %%.9g %%.9g"):format(state.metrics.loss, state.metrics.valid_loss, state.metrics.valid_size))
end
distributed.stop()
]]

  local function fit(ranks, checkpoint, changes)
    local script = scratch.write("fit.lua", FIT:format(scratch.path(checkpoint), changes or ""))
    return mpirun.execute(("mpirun --oversubscribe -n %d %s %s"):format(ranks, mpirun.program, script))
  end

  local function close(a, b, tolerance)
    local x, y = {}, {}
    for number in a:gmatch "%S+" do x[#x + 1] = assert(tonumber(number), a) end
    for number in b:gmatch "%S+" do y[#y + 1] = assert(tonumber(number), b) end
    assert.equal(3, #x)
    for i = 1, 3 do assert.near(x[i], y[i], (tolerance or 1e-5) * math.abs(x[i]), b) end
  end

  test("has the losses and metrics of one process, several batches a step, and after a rank was killed", function()
    local _, alone = fit(1, "one")
    for ranks = 2, 3 do close(alone, (select(2, fit(ranks, "ranks-" .. ranks)))) end
    local good, printed = fit(2, "cut", [[on_step = function(state)
      if state.step == 8 and distributed.rank() == 1 then os.execute 'kill -9 $PPID' end
    end]])
    assert(not good and printed:find("process rank 1 ", 1, true), printed)
    close(alone, (select(2, fit(2, "cut"))))
  end)

  test("has its checkpoint written when mpirun is interrupted", function()
    local good, printed = fit(3, "cut", ([[epochs = 10000, checkpoint = { "%s", seconds = 1000 },
      on_step = function(state)
        if state.step >= 7 and distributed.rank() == 1 then
          os.execute(state.step == 7 and "kill -INT $(ps -o ppid= -p $PPID)" or "sleep 0.05")
        end
      end]]):format(scratch.path "cut"))
    assert.is_not_true(good)
    assert(printed:find "interrupted!", printed)
    assert(gls.load(scratch.path "cut").step >= 7)
  end)

  test("has logs and the bar on rank 0, and callbacks on the ranks that have them", function()
    local log = scratch.path "log.csv"
    local _, alone = fit(1, "one")
    local good, printed = fit(3, "ranks", ([[
      progress = true, callbacks = { require("gls.log").csv("%s", { every = 0 }),
        distributed.rank() == 0 and { on_step = function() end } or distributed.rank() == 1 and {
          on_begin = function() return false end } or nil },
    ]]):format(log))
    assert(good, printed)
    close(alone, printed:match "[^\n]+\n$")
    assert.equal(4, select(2, printed:gsub("epoch %d/4 +loss", "")), printed)
    local lines = select(2, scratch.read("log.csv"):gsub("\n", ""))
    assert.equal(1 + 4, lines)
  end)

  test("has them with optimizers that read more than gradients", function()
    for i, optimizer in ipairs { "LBFGS(model:parameters(), { learning_rate = 0.1, iterations = 1 })",
      "GLS(model:parameters())", "KFAC(model:parameters())" } do
      -- One epoch: L-BFGS enlarges rounding.
      local changes = ("epochs = 1, optimizer = distributed.optimizer(optim.%s)"):format(optimizer)
      if optimizer:find "^KFAC" then changes = changes .. ", accumulate = 1" end
      local _, alone = fit(1, "one-" .. i, changes)
      close(alone, (select(2, fit(3, "ranks-" .. i, changes))), 1e-4)
    end
  end)

  test("refuses metrics of other names, in any batch", function()
    for _, metrics in ipairs { "{ b = 1 }", "{ a = 1, b = 1 }", "{}", "nil" } do
      local good, printed = fit(2, "metrics", ([[loss = function(network, batch)
        calls = (calls or 0) + 1
        local metrics = { a = 1 }
        if distributed.rank() == 1 and calls > 2 then metrics = %s end
        return nn.mse(network(batch.x), batch.y), metrics
      end]]):format(metrics))
      local names = "names of metrics of a batch %(on this rank: [^)]*loss%) differ between ranks"
      assert(not good and printed:find(names), metrics .. printed)
    end
  end)

  test("has metrics that only some batches give", function()
    local changes = [[loss = function(network, batch)
      if network.training then calls = (calls or 0) + 1 end
      local output = network(batch.x)
      return nn.mse(output, batch.y), {
        size = output:abs():mean(), odd = network.training and calls % 2 == 1 and output:mean() or nil }
    end]]
    local _, alone = fit(1, "one-some", changes)
    close(alone, (select(2, fit(2, "ranks-some", changes))))
  end)

  test("deals batches of fewer rows than ranks out in turn", function()
    local single = [[validation = distributed.batches(data.loader({ x = x:narrow(1, 1, 9), y = set.y:narrow(1, 1, 9) },
      { batch = 1 }))]]
    local _, alone = fit(1, "one", single)
    close(alone, (select(2, fit(3, "ranks", single))))
  end)

  test("refuses a set that has no row for some rank", function()
    local good, printed = fit(3, "rows", [[validation = distributed.batches(data.loader({ x = x:narrow(1, 1, 2),
      y = set.y:narrow(1, 1, 2) }))]])
    assert(not good and printed:find("some of the 3 ranks had no row of the set", 1, true), printed)
  end)

  test("refuses what would be of one rank alone", function()
    for expected, changes in pairs {
      ["clip would be of one rank's gradients"] = "clip = 1",
      ["the optimizer has to be distributed.optimizer"] = "optimizer = optim.SGD(model:parameters())",
      ["settings of train.fit differ between ranks"] = "epochs = 3 + distributed.rank()",
      ["data has to be distributed.batches"] = "data = data.loader(set, { batch = 8 })",
      ["one process alone finds the same rate"] = [[}
        train.find_learning_rate { model = model, loss = nn.mse, data = data.loader(set, { batch = 8 }),
          optimizer = distributed.optimizer(optim.SGD(model:parameters()))]],
    } do
      local good, printed = fit(2, "refused", changes)
      assert(not good and printed:find(expected, 1, true), printed)
    end
  end)
end)
