-- Runs that are cut short and gone on with, held to the run that was not cut, to the last bit; and runs that are
-- killed while they compute and write. The moments are random; what holds at one must hold at all, and a failure names
-- the seed. KILLS is how many (20).
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

local EPOCHS, BATCHES = 3, 3

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
    callbacks = { { on_step = function(_, state) return state.step ~= settings.cut end } },
  }
  given.epochs, given.checkpoint, given.resume = EPOCHS, settings.checkpoint, settings.resume
  local state = train.fit(given)
  assert.equal(settings.cut and "stopped" or "finished", state.status)
  return model:state_dict()
end

local function of(class, settings)
  return function(parameters) return optim[class](parameters, settings) end
end
local OPTIMIZERS = {
  sgd = of("SGD", { learning_rate = 0.1, momentum = 0.9, schedule = optim.schedule.cosine { steps = 15 } }),
  adam = of("Adam", { learning_rate = 0.01 }), adamw = of("AdamW", { learning_rate = 0.01 }),
  rmsprop = of("RMSprop", { learning_rate = 0.01 }), lion = of("Lion", { learning_rate = 0.01 }),
  muon = of "Muon", soap = of "SOAP", shampoo = of "Shampoo",
  lbfgs = of("LBFGS", { iterations = 3 }), ["gls automatic"] = of "GLS",
  ["gls fixed"] = of("GLS", { learning_rate = 0.2 }),
  ["gls matched"] = of("GLS", { graft = "rms", momentum = 0.9, damping = 3, learning_rate = 1e-2 }),
  ["gls window"] = of("GLS", { statistics = { window = 15 }, momentum = "auto", rows = 1 }),
  ["gls moving"] = of("GLS", { statistics = "moving", momentum = 0.9, learning_rate = 0.1, refresh = 2 }),
  ["gls residual"] = of("GLS", { form = "residual", refresh = 2 }),
  ["gls orthogonal"] = of("GLS", { statistics = "moving", momentum = 0.9, graft = "rms", orthogonal = true,
    learning_rate = 1e-2, refresh = 2 }),
  kfac = of("KFAC", { learning_rate = 0.01, refresh = 2 }),
  average = function(parameters)
    return optim.average(optim.Adam(parameters, { learning_rate = 0.01 }), parameters, 0.9)
  end,
}

describe("a run that is cut after any step and resumed", function()
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
        local cut = math.random(1, EPOCHS * BATCHES - 1)
        local whole = run(OPTIMIZERS[name], {})
        run(OPTIMIZERS[name], { cut = cut, checkpoint = path })
        local resumed = run(OPTIMIZERS[name], { checkpoint = path, resume = true, begun_elsewhere = true })
        os.remove(path)
        for entry, tensor in pairs(whole) do
          assert.same(tensor:tolist(), resumed[entry]:tolist(), ("%s, cut after step %d, %d threads, seed %d"):format(
            entry, cut, threads, seed))
        end
      end
    end)
  end
end)

describe("groups of submodules' parameters, whose names are the same", function()
  local function make()
    local body = nn.Sequential { nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4) }
    return body, nn.Sequential { nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2) }
  end

  -- The weights after six steps, the optimizer and the models made anew after `cut` of them.
  local function weights_after(class, settings, cut)
    gls.seed(5)
    local body, head = make()
    local x, y = gls.randn(5, 3), gls.randn(5, 2)
    local function optimizer()
      return optim[class]({ { parameters = body:parameters(), learning_rate = 0.02 },
        { parameters = head:parameters(), learning_rate = 0.01 } }, settings)
    end
    local opt = optimizer()
    for step = 1, 6 do
      nn.mse(head(body(x)), y):backward()
      opt:step()
      if step == cut then
        gls.save(path, { body = body:state_dict(), head = head:state_dict(), opt = opt:state_dict() })
        local saved = gls.load(path)
        os.remove(path)
        body, head = make()
        body:load_state_dict(saved.body)
        head:load_state_dict(saved.head)
        opt = optimizer()
        opt:load_state_dict(saved.opt)
      end
    end
    return optim.flat.values(body:parameters()):tolist(), optim.flat.values(head:parameters()):tolist()
  end

  for _, case in ipairs {
    { "SGD", { momentum = 0.9 } }, { "Adam" }, { "AdamW" }, { "Lion" }, { "RMSprop", { momentum = 0.5 } }, { "Muon" },
    { "SOAP" }, { "Shampoo" }, { "KFAC" }, { "Muon", { others = { "1" } } },
    { "GLS", { momentum = 0.9, learning_rate = 0.1 } },
    { "GLS", { momentum = 0.9, graft = "rms", statistics = "moving", learning_rate = 0.1 } },
  } do
    it("go on as the whole run to the last bit: " .. case[1], function()
      for cut = 1, 5, 2 do
        assert.same({ weights_after(case[1], case[2]) }, { weights_after(case[1], case[2], cut) })
      end
    end)
  end

  -- The weights after six steps, a bias being frozen before the third and trained again from the sixth; the optimizer
  -- made anew after `cut` steps, before the bias is what it is to be.
  local function weights_with_frozen_bias(convolution, cut)
    gls.seed(5)
    local function network()
      return convolution and nn.Sequential { nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(12, 2) }
        or nn.Sequential { nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2) }
    end
    local model = network()
    local x, y = convolution and gls.randn(5, 2, 3, 3) or gls.randn(5, 3), gls.randn(5, 2)
    local opt = optim.KFAC(model:parameters(), { momentum = 0.9, refresh = 2 })
    for step = 1, 6 do
      model[1].bias:requires_grad(step < 3 or step > 5)
      nn.mse(model(x), y):backward()
      opt:step()
      if step == cut then
        local saved = { model = model:state_dict(), opt = opt:state_dict() }
        model = network()
        opt = optim.KFAC(model:parameters(), { momentum = 0.9, refresh = 2 })
        model[1].bias:requires_grad(step % 2 == 0)
        model:load_state_dict(saved.model)
        opt:load_state_dict(saved.opt)
      end
    end
    return optim.flat.values { model[1].weight, model[1].bias, model[3].weight }:tolist()
  end

  it("of K-FAC go on where a bias was frozen meanwhile, and refuse another model", function()
    for _, convolution in ipairs { false, true } do
      local whole = weights_with_frozen_bias(convolution)
      for cut = 1, 5 do assert.same(whole, weights_with_frozen_bias(convolution, cut)) end
    end
    local function stepped(width)
      local model = nn.Linear(width, 2)
      local opt = optim.KFAC(model:parameters())
      model(gls.randn(5, width)):square():sum():backward()
      opt:step()
      return opt
    end
    for _, width in ipairs { 1, 5 } do
      local good, message = pcall(optim.KFAC.load_state_dict, stepped(3), stepped(width):state_dict())
      assert(not good and message:find "it is of another model", message)
    end
  end)

  it("have the group's number in the state; names that one parameter alone has stay as they are", function()
    local a, b = nn.Linear(2, 2, { bias = false }), nn.Linear(2, 2)
    local opt = optim.Lion { { parameters = a:parameters() }, { parameters = b:parameters() } }
    b(a(gls.randn(3, 2))):sum():backward()
    opt:step()
    local names = {}
    for name in pairs(opt:state_dict().tensors) do names[#names + 1] = name end
    table.sort(names)
    assert.same({ "momentum.bias", "momentum.group1.weight", "momentum.group2.weight" }, names)
    local list = a:parameters() -- one list with a name twice
    list[2], list.names[2] = b.weight, "weight"
    assert.same({ "group1.weight", "group1.weight+" }, optim.Lion(list).groups[1].names)
  end)
end)

describe("a run that is killed at random moments", function()
  -- What the run computes, going on from its checkpoint where there is one.
  local SCRIPT = [[
    package.path, package.cpath = %q, %q
    local gls = require "gls"
    local data, nn, optim, train = gls.data, gls.nn, gls.optim, gls.train
    gls.seed(5)
    local x, y = gls.randn(60, 20), gls.randint(1, 3, { 60 })
    local model = nn.Sequential { nn.Linear(20, 200), nn.ReLU(), nn.Dropout(0.1), nn.Linear(200, 3) }
    train.fit {
      model = model, optimizer = optim.Adam(model:parameters()), epochs = %d, resume = true,
      data = data.loader(data.tensors { x = x, y = y }, { batch = 10, shuffle = true, balanced = true }),
      loss = function(network, batch) return nn.cross_entropy(network(batch.x), batch.y) end,
      checkpoint = { %q, %s, keep = 2 },
    }
  ]]
  local KILLS = tonumber(os.getenv "KILLS") or 20

  it("always has a checkpoint that loads, and ends as the run that was not, to the last bit", function()
    local folder = path .. "-folder"
    assert(os.execute("mkdir '" .. folder .. "'"))
    local kept = folder .. "/run.safetensors"
    local epochs = 30 * KILLS -- more than a fast machine makes between the kills
    local function script(name, file, when)
      local written <close> = assert(io.open(folder .. "/" .. name, "w"))
      written:write(SCRIPT:format(package.path, package.cpath, epochs, file, when))
      return folder .. "/" .. name
    end
    local killed, before, done = script("killed.lua", kept, "steps = 1"), 0, 0
    -- plain Lua cannot load a module that has the sanitizers in it
    local lua = (os.getenv "SANITIZE" or "") ~= "" and os.getenv "GLSRUN" or "lua5.4"
    local least = 0.1 -- seconds; more where that is too little for a start
    for _ = 1, KILLS do
      os.execute(("timeout -s KILL %.3f %s '%s' 2>/dev/null"):format(least + 0.2 * math.random(), lua, killed))
      if before > 0 or io.open(kept) then
        local state = gls.load(kept)
        assert.is_true(state.step >= before and state.model["1.weight"]:size(1) == 20, "seed " .. seed)
        done, before = done + (state.step > before and 1 or 0), state.step
      else
        least = least + 0.1
      end
    end
    assert.is_true(done > 1, ("only %d steps were made between the kills"):format(before))
    assert.is_true(before < 6 * epochs, "it had ended")
    local at_end = "seconds = 1000"
    assert(os.execute(lua .. " '" .. script("rest.lua", kept, at_end) .. "'"))
    assert(os.execute(lua .. " '" .. script("whole.lua", folder .. "/whole.safetensors", at_end) .. "'"))
    local whole, resumed = gls.load(folder .. "/whole.safetensors"), gls.load(kept)
    for _, part in ipairs { "model", "optimizer" } do
      local a, b = whole[part].tensors or whole[part], resumed[part].tensors or resumed[part]
      for name, tensor in pairs(a) do assert.same(tensor:tolist(), b[name]:tolist(), name .. ", seed " .. seed) end
    end
    assert.equal(6 * epochs, resumed.step)
    local pipe = assert(io.popen("ls -A '" .. folder .. "'"))
    local names = pipe:read "a"
    pipe:close()
    assert.matches(("^killed.lua\nrest.lua\nrun%%-%%d+.safetensors\nrun%%-%%d+.safetensors\nrun.safetensors\n"
      .. "whole%%-%d.safetensors\nwhole.lua\nwhole.safetensors\n$"):format(6 * epochs), names)
    os.execute("rm -r '" .. folder .. "'")
  end)
end)
