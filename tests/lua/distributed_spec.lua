-- One model trained by several processes.
local mpirun = require "tests.lua.mpirun"
local scratch = require "tests.lua.scratch"

scratch.each(before_each, after_each)

-- 70 rows in batches of 16: three ranks have unequal parts of each, and of the last one of 6 rows. Prints every loss.
local SCRIPT = [[
local gls, nn, optim, data = require "gls", require "gls.nn", require "gls.optim", require "gls.data"
local distributed = require "gls.distributed"
gls.seed(distributed.rank() + 1) -- other models, until rank 0's is everyone's
local model = nn.Sequential { nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3) }
local unused = gls.ones(2):requires_grad(true)
distributed.broadcast(model)
gls.seed(5)
local labels = {}
for i = 1, 70 do labels[i] = i %% 3 + 1 end
local set = { x = gls.randn(70, 6), y = gls.tensor(labels, { type = "int32" }) }
local parameters = model:parameters()
parameters[#parameters + 1], parameters.names = unused, nil
local opt = distributed.optimizer(optim.%s(parameters, { learning_rate = %s }))
local loader = data.loader(set, { batch = %s, shuffle = true, seed = %s })
for _ = 1, 3 do
  for batch in distributed.batches(loader) do
    local loss = nn.cross_entropy(model(batch.x), batch.y) * batch.share
    loss:backward()
    opt:step()
    local whole = distributed.sum(loss:detach():clone()):item()
    if distributed.rank() == 0 then print(("%%.9g"):format(whole)) end
  end
end
assert(unused:sum():item() == 2, "a parameter without a gradient has moved")
distributed.stop()
]]

local function run(ranks, optimizer, changes)
  changes = changes or {}
  return mpirun.run(ranks, (changes.script or SCRIPT):format(optimizer, changes.rate or 0.05, changes.batch or 16,
    changes.seed or 9))
end

local function losses(printed)
  local list = {}
  for line in printed:gmatch "[^\n]+" do list[#list + 1] = assert(tonumber(line), printed) end
  return list
end

-- What a script may do between backward and step: several passes, gradients written on or forgotten, a weight that is
-- used twice, two optimizers at once, one of them given twice, and a parameter that has a gradient on the last rank
-- alone. Small buckets.
local UNUSUAL = [[
local buckets = require "gls.distributed.buckets"
buckets.most = 40
local gls, nn, optim = require "gls", require "gls.nn", require "gls.optim"
local distributed = require "gls.distributed"
gls.seed(1)
local x, y = gls.randn(12, 4), gls.randn(12, 4)
local rank, size = distributed.rank(), distributed.size()
local rows, first = 12 // size, 12 * rank // size + 1
local function own(all) return all:narrow(1, first, rows) end
local a, b, tied = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(4, 4)
local lonely = gls.ones(3):requires_grad(true)
local parameters = a:parameters()
for _, list in ipairs { b:parameters(), tied:parameters(), { lonely } } do
  for _, parameter in ipairs(list) do parameters[#parameters + 1] = parameter end
end
parameters.names = nil
local other = nn.Linear(8, 4)
local settings = { learning_rate = 0.1, momentum = 0.5 }
local one = distributed.optimizer(optim.SGD(parameters, settings))
local two = distributed.optimizer(distributed.optimizer(optim.SGD(other:parameters(), settings)))
local function loss(with_lonely)
  local hidden = b(a(tied(tied(own(x)))):tanh()):tanh()
  local value = nn.mse(other(hidden), own(y)) / size
  -- Of all ranks together as much as of one process.
  if with_lonely and rank == size - 1 then value = value + lonely:sum() * lonely:sum() end
  return value
end
for step = 1, 10 do
  loss(step == 6):backward()
  if step == 2 and size > 1 then assert(next(buckets.under_way), "nothing is on its way before the step") end
  if step == 3 or step == 4 then loss(true):backward() end
  if step == 5 then a.weight.grad = a.weight.grad * 2 end
  if step == 7 then
    one:zero_grad()
    loss():backward()
  end
  one:step()
  two:step()
end
for _, optimizer in ipairs { one, two } do
  for _, parameter in ipairs(optimizer:all_parameters()) do
    if rank == 0 then print(("%%.9g"):format((parameter * parameter):sum():item())) end
  end
end
loss():backward() -- and no step
distributed.stop()
]]

describe("without mpirun, distributed training", function()
  it("is that of one process", function()
    local good, printed = run(1, "SGD")
    assert(good, printed)
    local list = losses(printed)
    assert(#list == 15 and list[15] < list[1])
  end)

  it("takes a loader as data.loader gives it, with what a generic for closes", function()
    local distributed, gls, data = require "gls.distributed", require "gls", require "gls.data"
    local sum = 0
    for batch in distributed.batches(data.loader({ x = gls.arange(0, 6):view(6, 1) }, { batch = 4 })) do
      sum = sum + batch.x:sum():item() * batch.share
    end
    assert.equal(15, sum)
    local loader = data.loader({ x = gls.ones(6, 1) }, { batch = 4 })
    assert.error_matches(function() distributed.batches(loader, 2) end, "too many arguments")
  end)

  it("names what is no model, optimizer, loader or tensor", function()
    local distributed, gls = require "gls.distributed", require "gls"
    assert.error_matches(function() distributed.sum(gls.arange(0, 3):to "int32") end, "float32 expected, got int32")
    for name, what in pairs { broadcast = "model", optimizer = "optimizer", batches = "loader", sum = "tensor" } do
      assert.error_matches(function() distributed[name](5) end, "distributed." .. name .. ": an? " .. what)
    end
  end)
end)

describe("with mpirun, distributed training", function()
  local function test(name, f) mpirun.test(it, pending, name, f) end

  test("has the losses of one process, on 2, 3 and 4 ranks", function()
    for _, optimizer in ipairs { "SGD", "AdamW", "Muon" } do
      local _, alone = run(1, optimizer)
      local expected = losses(alone)
      for ranks = 2, 4 do
        local good, printed = run(ranks, optimizer)
        assert(good, printed)
        for i, loss in ipairs(losses(printed)) do
          assert(math.abs(loss / expected[i] - 1) < 1e-5, ("%s, %d ranks, step %d: %.9g, %.9g"):format(optimizer, ranks,
            i, loss, expected[i]))
        end
      end
    end
  end)

  test("has the gradients of one process, whatever a script does between backward and step", function()
    local _, alone = run(1, nil, { script = UNUSUAL })
    local expected = losses(alone)
    assert.equal(9, #expected)
    for ranks = 2, 4 do
      local good, printed = run(ranks, nil, { script = UNUSUAL })
      assert(good, printed)
      for i, value in ipairs(losses(printed)) do assert.near(expected[i], value, 1e-5 * expected[i], printed) end
    end
  end)

  test("has the same losses to the last bit, run to run", function()
    local _, first = run(3, "AdamW")
    assert.equal(first, (select(2, run(3, "AdamW"))))
  end)

  test("is an error, and no hang, where ranks differ or are more than rows", function()
    for expected, changes in pairs {
      ["optimizers differ between ranks"] = { rate = "0.01 * (1 + distributed.rank())" },
      ["loaders differ between ranks"] = { seed = "distributed.rank()" },
      ["batches of loaders differ between ranks"] = { batch = "16 + distributed.rank()" },
      ["data of loaders differ between ranks"] = {
        seed = "set.x:copy(set.x:roll(distributed.rank(), 1)) and 9" },
      ["a batch of 2 rows for 3 ranks"] = { batch = 2 },
    } do
      local good, printed = run(3, "SGD", changes)
      assert.is_not_true(good)
      assert(printed:find(expected, 1, true), printed)
    end
  end)

  test("is an error, and no hang, where a rank ends sooner, or sums another size", function()
    local later = [[
      local left, step = 0, opt.step
      rawset(opt, "step", function(...)
        left = left + 1
        if left == 4 and distributed.rank() == 1 then distributed.stop() os.exit(0) end
        return step(...)
      end)
    ]]
    for expected, lines in pairs {
      ["MPI_ERR_TRUNCATE"] = later, -- this rank's stop, or the other's step
      ["all have to make the same steps"] = "if distributed.rank() == 1 then distributed.stop() os.exit(0) end\n",
      ["sizes of summed tensors differ"] = "distributed.sum(gls.ones(distributed.rank() + 1))\n",
    } do
      local good, printed = run(2, "SGD", { seed = "9 })\n" .. lines .. "print({" })
      assert.is_not_true(good)
      assert(printed:find(expected, 1, true), printed)
    end
  end)

  test("ends well where several optimizers have sums under way", function()
    local good, printed = run(3, nil, { script = [[
      local gls, nn, optim = require "gls", require "gls.nn", require "gls.optim"
      local distributed = require "gls.distributed"
      local models, optimizers = {}, {}
      for i = 1, 6 do
        local layers = {}
        for k = 1, i do layers[k] = nn.Linear(4, 4) end
        models[i] = nn.Sequential(layers)
        optimizers[i] = distributed.optimizer(optim.SGD(models[i]:parameters(), { learning_rate = 0.1 }))
      end
      for _ = 1, 2 do
        local x = gls.ones(2, 4)
        for i = 1, 6 do x = models[i](x) end
        x:sum():backward()
        for i = 1, 6 do if not optimizers.stepped then optimizers[i]:step() end end
        optimizers.stepped = true
      end
      assert(next(require("gls.distributed.buckets").under_way))
      distributed.stop()]] })
    assert(good, printed)
  end)

  test("finds equal what is equal on many ranks", function() -- 19 · 995² is odd, and no float32
    local good, printed = run(19, nil, { script = [[
      local distributed = require "gls.distributed"
      distributed.check("texts", ("x"):rep(995))
      distributed.stop()]] })
    assert(good, printed)
  end)

  test("ends, the rank named, where one is killed", function()
    local good, printed = run(3, "SGD", { rate = "distributed.rank() == 1 and os.execute 'kill -9 $PPID' or 0.05" })
    assert.is_not_true(good)
    assert(printed:find("process rank 1 ", 1, true), printed)
  end)
end)
