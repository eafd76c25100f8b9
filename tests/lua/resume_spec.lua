-- Runs that are cut short and gone on with, held to the run that was not cut, to the last bit; files of a writer that
-- is killed while it writes. The moments are random; what holds at one must hold at all, and a failure names the seed.
local gls = require "gls"
local data = require "gls.data"
local nn = require "gls.nn"
local optim = require "gls.optim"
local train = require "gls.train"

local seed = os.time()
math.randomseed(seed)
local path

setup(function()
  path = os.tmpname()
  os.remove(path)
end)

local EPOCHS = 3

-- A model with everything that has to come back: weights, a frozen layer, running statistics, random numbers of
-- dropout; a rate that is set and random numbers that are drawn between epochs.
local function run(make, settings)
  gls.seed(4)
  local x, y = gls.randn(24, 6), gls.randint(1, 3, { 24 })
  local model = nn.Sequential {
    nn.Linear(6, 8), nn.BatchNorm(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3),
  }
  if settings.begun_elsewhere then nn.initialize(model, "he_normal") end
  for _, parameter in ipairs(model[5]:parameters()) do parameter:requires_grad(false) end
  local given = {
    model = model, optimizer = make(model:parameters()),
    data = data.loader(data.tensors { x = x, y = y }, { batch = 10, shuffle = true, seed = 7 }),
    loss = function(network, batch) return nn.cross_entropy(network(batch.x), batch.y) end,
    on_epoch = function(state)
      gls.rand(3)
      if type(state.optimizer.learning_rate) == "number" then
        state.optimizer.learning_rate = state.optimizer.learning_rate * 0.9
      end
    end,
  }
  given.epochs, given.checkpoint, given.resume = settings.epochs or EPOCHS, settings.checkpoint, settings.resume
  train.fit(given)
  return model:state_dict()
end

local function of(class, settings)
  return function(parameters) return optim[class](parameters, settings) end
end
local OPTIMIZERS = {
  sgd = of("SGD", { learning_rate = 0.1, momentum = 0.9, schedule = optim.schedule.cosine { steps = 15 } }),
  adam = of("Adam", { learning_rate = 0.01 }), adamw = of("AdamW", { learning_rate = 0.01 }),
  rmsprop = of("RMSprop", { learning_rate = 0.01 }), muon = of "Muon", soap = of "SOAP", shampoo = of "Shampoo",
  lbfgs = of("LBFGS", { iterations = 3 }), ["gls automatic"] = of "GLS",
  ["gls fixed"] = of("GLS", { learning_rate = 0.2 }),
  ["gls matched"] = of("GLS", { graft = "rms", momentum = 0.9, damping = 3, learning_rate = 1e-2 }),
  ["gls window"] = of("GLS", { statistics = { window = 15 }, momentum = "auto", rows = 1 }),
  ["gls moving"] = of("GLS", { statistics = "moving", momentum = 0.9, learning_rate = 0.1, refresh = 2 }),
  ["gls orthogonal"] = of("GLS", { statistics = "moving", momentum = 0.9, graft = "rms", orthogonal = true,
    learning_rate = 1e-2, refresh = 2 }),
  kfac = of("KFAC", { learning_rate = 0.01, refresh = 2 }),
  ["gls adaptive"] = of("GLS", { adaptive = true, momentum = 0.9, learning_rate = 1e-2, refresh = 2 }),
  average = function(parameters)
    return optim.average(optim.Adam(parameters, { learning_rate = 0.01 }), parameters, 0.9)
  end,
}

describe("a run that is cut after an epoch and resumed", function()
  local before
  setup(function() before = gls.threads() end)
  teardown(function() gls.threads(before) end)

  local names = {}
  for name in pairs(OPTIMIZERS) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    it("is the whole run to the last bit: " .. name, function()
      for threads = 1, 3 do
        gls.threads(threads)
        local cut = math.random(1, EPOCHS - 1)
        local whole = run(OPTIMIZERS[name], {})
        run(OPTIMIZERS[name], { epochs = cut, checkpoint = path })
        local resumed = run(OPTIMIZERS[name], { checkpoint = path, resume = true, begun_elsewhere = true })
        os.remove(path)
        for entry, tensor in pairs(whole) do
          assert.same(tensor:tolist(), resumed[entry]:tolist(), ("%s, cut after epoch %d, %d threads, seed %d"):format(
            entry, cut, threads, seed))
        end
      end
    end)
  end
end)

describe("a checkpoint whose writer is killed", function()
  it("is one of those that were written, whole, and no part stays behind the next writer", function()
    local folder = path .. "-folder"
    assert(os.execute("mkdir '" .. folder .. "'"))
    local script = folder .. "/writer.lua"
    local file = assert(io.open(script, "w"))
    file:write(([[
      package.path, package.cpath = %q, %q
      local gls = require "gls"
      for i = 1, math.huge do gls.save(%q, { number = i, values = gls.full({ 30000 }, i) }) end
    ]]):format(package.path, package.cpath, folder .. "/kept"))
    file:close()
    gls.save(folder .. "/kept", { number = 0, values = gls.zeros(30000) })
    for _ = 1, 5 do
      os.execute(("timeout -s KILL %.3f lua5.4 '%s' 2>/dev/null"):format(0.1 + 0.2 * math.random(), script))
      local kept = gls.load(folder .. "/kept")
      assert.equal(0, (kept.values - kept.number):abs():max():item(), "seed " .. seed)
    end
    gls.save(folder .. "/kept", { number = 1 })
    local pipe = assert(io.popen("ls -A '" .. folder .. "'"))
    assert.equal("kept\nwriter.lua\n", pipe:read "a")
    pipe:close()
    os.execute("rm -r '" .. folder .. "'")
  end)
end)
