--- Optimizers from Lua: what a user relies on beyond the core's own tests.
local gls = require "gls"
local nn = require "gls.nn"
local optim = require "gls.optim"
local says = require("tests.lua.failing").says

local function regression(seed)
  gls.seed(seed or 1)
  local x, w = gls.randn(40, 8), gls.randn(8, 3)
  return x, x:matmul(w)
end

local function network()
  return nn.Sequential { nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3) }
end

local function train(model, optimizer, x, y, steps)
  local last
  for _ = 1, steps do
    local loss = nn.mse(model(x), y)
    loss:backward()
    optimizer:step()
    last = loss:item()
  end
  return last
end

-- That f fails at a line of this file, with a text.
local function told_here(text, f)
  local good, message = pcall(f)
  assert.is_false(good, text)
  assert.truthy(message:match "optim_spec.lua:%d+: " and message:find(text, 1, true), message)
end

describe("optimizers", function()
  local x, y

  before_each(function() x, y = regression() end)

  for _, case in ipairs {
    { "SGD", { learning_rate = 0.1 } }, { "SGD", { learning_rate = 0.05, momentum = 0.9, nesterov = true } },
    { "Adam", { learning_rate = 0.02 } }, { "AdamW", { learning_rate = 0.02 } }, { "GLS", {} },
    { "GLS", { learning_rate = 0.3 } }, { "GLS", { momentum = "auto" } },
    { "GLS", { graft = "rms", momentum = 0.9, damping = 1, learning_rate = 0.05 } },
    { "GLS", { graft = "rms", momentum = 0.9, damping = 1, learning_rate = 0.05, part = 1 } },
    { "GLS", { graft = "sgd", learning_rate = 0.1 } },
    { "GLS", { statistics = "moving", graft = "rms", momentum = 0.9, learning_rate = 0.05 } },
    { "GLS", { statistics = { window = 50 } } }, { "GLS", { statistics = { window = 60 }, learning_rate = 0.3 } },
    { "GLS", { statistics = { window = 60 }, graft = "rms", momentum = 0.9, learning_rate = 0.05 } },
    { "GLS", { statistics = "window", window = 10, momentum = "auto" } },
  } do
    it(case[1] .. " lowers the loss", function()
      local model = network()
      local optimizer = optim[case[1]](model:parameters(), case[2])
      local first = nn.mse(model(x), y):item()
      local last = train(model, optimizer, x, y, 40)
      assert.is_true(last < 0.5 * first, ("%g from %g"):format(last, first))
    end)
  end

  it("forget gradients and release the tape at the end of a step", function()
    local model = network()
    local optimizer = optim.Adam(model:parameters())
    gls.core.tape_release()
    nn.mse(model(x), y):backward()
    assert.is_truthy(model:parameters()[1].grad)
    optimizer:step()
    assert.is_nil(model:parameters()[1].grad)
    assert.equal(0, gls.core.tape_size())
  end)

  it("go on from a saved state to the last bit", function()
    for _, case in ipairs {
      { "SGD", { learning_rate = 0.05, momentum = 0.9 } }, { "Adam", {} }, { "GLS", { momentum = "auto", rows = 1 } },
      { "GLS", { graft = "rms", momentum = 0.9, learning_rate = 0.01 } },
      { "GLS", { statistics = "moving", graft = "rms", learning_rate = 0.01 } },
      { "GLS", { statistics = { window = 100 }, rows = 1 } },
    } do
      gls.seed(3)
      local model = network()
      local optimizer = optim[case[1]](model:parameters(), case[2])
      train(model, optimizer, x, y, 6)
      local weights, state = model:state_dict(), optimizer:state_dict()
      local expected = train(model, optimizer, x, y, 5)
      local other = network()
      other:load_state_dict(weights)
      local again = optim[case[1]](other:parameters(), case[2])
      again:load_state_dict(state)
      assert.equal(expected, train(other, again, x, y, 5), case[1])
    end
  end)

  it("correct Adam's moments for the steps that a parameter's gradients took part in, also after a resume", function()
    local function parameters() return { gls.ones(1):requires_grad(true), gls.ones(1):requires_grad(true) } end
    local list = parameters()
    local adam = optim.Adam(list, { learning_rate = 0.1 })
    for t = 1, 100 do
      list[1].grad = gls.ones(1)
      if t == 60 then
        local other = parameters()
        local again = optim.Adam(other, { learning_rate = 0.1 })
        again:load_state_dict(adam:state_dict())
        list, adam = other, again
        list[1].grad = gls.ones(1)
      end
      if t == 100 then list[2].grad = gls.ones(1) end
      adam:step()
    end
    assert.is_true((list[2] - 0.9):abs():item() < 1e-5) -- a first step has the length of the learning rate
  end)

  it("refuse the state of another class, and one that is not whole", function()
    local model = network()
    local adam = optim.Adam(model:parameters())
    train(model, adam, x, y, 2)
    local state = adam:state_dict()
    local function refused(optimizer, given, text) says(text, optimizer.load_state_dict, optimizer, given) end
    refused(optim.SGD(model:parameters(), { learning_rate = 0.1 }), state, "is of optim.Adam")
    refused(optim.Adam(model:parameters()), {}, "state_dict")
    state.tensors[next(state.tensors)] = nil
    refused(optim.Adam(model:parameters()), state, "tensors")
  end)

  it("give the same losses twice from the same seed", function()
    local function run()
      gls.seed(5)
      local model = nn.Sequential { nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 3) }
      return train(model, optim.GLS(model:parameters()), x, y, 20)
    end
    assert.equal(run(), run())
  end)

  it("refuse settings that make no step towards less loss", function()
    local list = { gls.ones(2):requires_grad(true) }
    for _, case in ipairs {
      { "SGD", { learning_rate = -1 }, "learning_rate is -1" }, { "SGD", { learning_rate = 0 / 0 }, "learning_rate" },
      { "SGD", { momentum = 1 }, "momentum is 1" }, { "SGD", { nesterov = true }, "nesterov" },
      { "Adam", { beta1 = 1.5 }, "beta1 is 1.5" }, { "AdamW", { weight_decay = -1 }, "weight_decay is -1" },
      { "Adam", { epsilon = -1 }, "epsilon is -1" }, { "Adam", { clip = -1 }, "clip is a number above 0" },
      { "SGD", { schedule = 3 }, "schedule is a function" },
    } do
      says(case[3], optim[case[1]], list, case[2])
    end
    for _, value in ipairs { -1, 0 / 0, 1 / 0, "fast", "auto" } do
      says("learning_rate is " .. tostring(value), function() optim.Adam(list).learning_rate = value end)
    end
    local matched = optim.GLS(list, { graft = "rms", learning_rate = 0.1 })
    for _, value in ipairs { "auto", -1 } do
      says(value == -1 and "learning_rate is -1" or "graft", function() matched.learning_rate = value end)
      assert.equal(0.1, matched.learning_rate) -- it stays as it was
    end
    says("learning_rate is -1", optim.GLS, list, { learning_rate = -1 })
    optim.GLS(list).learning_rate = "auto"
    for _, settings in ipairs { { clip = -1 }, { beta1 = 2 }, { bet1 = 2 } } do -- told at the caller's line
      says("optim_spec.lua:", function() return (optim.Adam(list, settings)) end)
    end
    says("every is 0", optim.schedule.step, { every = 0 })
    says("warmup is -1", optim.schedule.cosine, { steps = 5, warmup = -1 })
    says("steps is a", optim.schedule.linear, { steps = "a" })
    local optimizer = optim.SGD(list, { schedule = function() return "half" end })
    list[1].grad = gls.ones(2)
    says("the schedule gave string for step 0", optimizer.step, optimizer)
  end)

  it("leave alone what is frozen after they were made", function()
    gls.seed(1)
    local input, labels = gls.randn(40, 6) + 1, gls.randint(1, 3, 40)
    local given = { SGD = { momentum = 0.9 }, LBFGS = { iterations = 1 } }
    local kinds = { "SGD", "Adam", "AdamW", "Muon", "SOAP", "Shampoo", "KFAC", "RMSprop", "Lion", "LBFGS", "GLS" }
    for _, kind in ipairs(kinds) do
      for _, field in ipairs { "weight", "bias" } do
        local model = nn.Sequential { nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3) }
        local opt = optim[kind](model:parameters(), given[kind])
        local function go(steps)
          for _ = 1, steps do
            local function loss() return nn.cross_entropy(model(input), labels) end
            if kind ~= "LBFGS" then loss():backward() end
            opt:step(kind == "LBFGS" and loss or nil)
          end
        end
        go(3)
        local frozen, other = model[1][field]:requires_grad(false), model[3].weight
        if kind == "KFAC" and field == "weight" then model[1].bias:requires_grad(false) end
        local before, others = frozen:clone(), other:detach():clone()
        go(3)
        assert.equal(0, (frozen - before):abs():max():item(), kind .. " " .. field)
        assert.is_true((other - others):abs():max():item() > 0, kind .. " " .. field)
        frozen:requires_grad(true)
        go(1)
        assert.is_true((frozen - before):abs():max():item() > 0, kind .. " " .. field)
      end
    end
    local layer = nn.Linear(6, 3)
    local opt = optim.KFAC(layer:parameters())
    layer.weight:requires_grad(false)
    layer(input):square():sum():backward()
    says("the bias of weight has a gradient, the weight, of which it is a row, has none", opt.step, opt)
  end)

  it("follow a schedule", function()
    local p = gls.tensor({ 0 }):requires_grad(true)
    local optimizer = optim.SGD({ p }, { learning_rate = 1, schedule = optim.schedule.step { every = 2, gamma = 0.1 } })
    local places = {}
    for i = 1, 4 do
      p:sum():backward()
      optimizer:step()
      places[i] = -p:item()
    end
    for i, value in ipairs { 1, 2, 2.1, 2.2 } do assert.is_true(math.abs(places[i] - value) < 1e-6, places[i]) end
    local cosine = optim.schedule.cosine { steps = 11, warmup = 1, final = 0.1 }
    assert.equal(1, cosine(0))
    assert.is_true(math.abs(cosine(6) - 0.55) < 1e-9)
    assert.is_true(math.abs(cosine(11) - 0.1) < 1e-9)
  end)

  it("take groups with settings of their own", function()
    local a, b = gls.ones(1):requires_grad(true), gls.ones(1):requires_grad(true)
    local optimizer = optim.SGD({ { parameters = { a }, learning_rate = 0.5 }, { parameters = { b } } },
      { learning_rate = 0.1 });
    (a + b):sum():backward()
    optimizer:step()
    assert.is_true(math.abs(a:item() - 0.5) < 1e-6)
    assert.is_true(math.abs(b:item() - 0.9) < 1e-6)
    assert.matches("^SGD%(learning_rate=0.5, .*; group 2: learning_rate=0.1%)$", tostring(optimizer))
    local one, other = nn.Linear(2, 2):parameters(), nn.Linear(2, 2):parameters()
    local layers = optim.GLS({ { parameters = one, graft = "rms" }, { parameters = other } }, { learning_rate = 0.1 })
    assert.matches("graft=rms.*; group 2: graft=nil%)$", tostring(layers))
  end)

  it("clip by the norm of all gradients", function()
    local a, b = gls.zeros(1):requires_grad(true), gls.zeros(1):requires_grad(true)
    local optimizer = optim.SGD({ a, b }, { learning_rate = 1, clip = 1 });
    (a * 3 + b * 4):sum():backward()
    optimizer:step()
    assert.is_true(math.abs(a:item() + 0.6) < 1e-5)
    assert.is_true(math.abs(b:item() + 0.8) < 1e-5)
  end)

  it("are written in Lua by one method", function()
    local Sign = optim.class("Sign", { learning_rate = 0.01 })
    function Sign:update_parameter(parameter, gradient, state, settings) -- luacheck: ignore self
      state.steps = (state.steps or 0) + 1
      parameter:accumulate(gradient:sign(), -settings.learning_rate)
    end
    local model = network()
    local first = nn.mse(model(x), y):item()
    assert.is_true(train(model, Sign(model:parameters()), x, y, 100) < 0.7 * first)
  end)

  it("refuse a parameter given twice, a model, a hole in the list, and settings set later but the rate", function()
    local p, q = gls.ones(1):requires_grad(true), gls.ones(1):requires_grad(true)
    told_here("parameter 3 is given twice, in group 1 and in group 1", function() optim.SGD { p, q, p } end)
    told_here("parameter 2 is given twice", function() return optim.SGD { p, p } end)
    for _, case in ipairs { { optim.Adam, { p }, { q, p } }, { optim.SGD, { p, q }, { q } } } do
      told_here("parameter 3 is given twice, in group 1 and in group 2", function()
        return case[1] { { parameters = case[2] }, { parameters = case[3] } }
      end)
    end
    told_here("entry 2 of the list is nil", function() optim.SGD { p, nil, q } end)
    for _, model in ipairs { nn.Linear(2, 2), nn.Sequential { nn.Linear(2, 2) } } do
      told_here("model:parameters()", function() return optim.Adam(model) end)
    end
    local sgd, adam = optim.SGD({ p }, { learning_rate = 0.1 }), optim.Adam { p }
    told_here('has no setting "learning_rat"; did you mean "learning_rate"?', function() sgd.learning_rat = 3 end)
    told_here('did you mean "learning_rate"', function() adam.learning_rat = 1 end)
    told_here("momentum is set when the optimizer is made", function() sgd.momentum = 0.9 end)
    told_here("beta1 is set when the optimizer is made", function() adam.beta1 = 0.5 end)
    sgd.learning_rate = 0.5
    p.grad = gls.ones(1)
    sgd:step()
    assert.equal(0.5, p:item())
    for _, maximum in ipairs { -1, 0 / 0, "1" } do
      told_here("maximum is a number above 0", function() return optim.clip_gradients({ p }, maximum) end)
    end
  end)

  it("put back the learning rate that was set, unless they are made with another one", function()
    local p = gls.ones(1):requires_grad(true)
    local first = optim.SGD({ p }, { learning_rate = 0.1 })
    first.learning_rate = 0.01
    local same, other = optim.SGD({ p }, { learning_rate = 0.1 }), optim.SGD({ p }, { learning_rate = 0.5 })
    same:load_state_dict(first:state_dict())
    other:load_state_dict(first:state_dict())
    assert.same({ 0.01, 0.5 }, { same.learning_rate, other.learning_rate })
  end)

  it("scale groups of different rates alike when the learning rate is set", function()
    local function made(first, second)
      return optim.SGD { { parameters = { gls.ones(1):requires_grad(true) }, learning_rate = first },
        { parameters = { gls.ones(1):requires_grad(true) }, learning_rate = second } }
    end
    local function rates(opt) return { opt.groups[1].settings.learning_rate, opt.groups[2].settings.learning_rate } end
    local opt = made(1, 0.25)
    opt.learning_rate = opt.learning_rate * 0.5
    assert.same({ 0.5, 0.125 }, rates(opt))
    opt.learning_rate = 0
    assert.same({ 0, 0 }, rates(opt))
    opt.learning_rate = 4
    assert.same({ 4, 1 }, rates(opt))
    told_here("optim.SGD: learning_rate is -1", function() opt.learning_rate = -1 end)
    assert.same({ 4, 1 }, rates(opt)) -- as they were
    opt.groups[2].settings.learning_rate = 2
    opt.learning_rate = 1
    assert.same({ 1, 0.5 }, rates(opt))
    opt.learning_rate = 0
    local resumed = made(1, 0.25)
    resumed:load_state_dict(opt:state_dict())
    assert.same({ 0, 0 }, rates(resumed))
    for _, each in ipairs { opt, resumed } do
      each.learning_rate = 2
      assert.same({ 2, 0.5 }, rates(each)) -- from 0 on as they were made
    end
    opt = made(0, 0.5) -- no ratio
    told_here("group 1 was made with the learning rate 0, group 2 with 0.5", function() opt.learning_rate = 1 end)
    assert.same({ 0, 0.5 }, rates(opt))
  end)

  it("refuse a closure that alone should make the gradients, and what is no list", function()
    local model = network()
    local opt = optim.SGD(model:parameters())
    local averaged = optim.average(opt, model:parameters(), 0.9)
    local function closure() return nn.mse(model(x), y) end
    for _, each in ipairs { opt, averaged } do
      told_here("optim.SGD: step does not call a closure (optim.LBFGS does)", function() each:step(closure) end)
      closure():backward()
      each:step(closure) -- as train.fit calls it
    end
    local weight = model[1].weight
    for text, f in pairs {
      ["got a tensor"] = function() return (optim.clip_gradients(weight, 1)) end,
      ["model:parameters()"] = function() return (optim.clip_gradients(model, 1)) end,
      ["average: parameters: a list of tensors"] = function() return (optim.average(opt, weight, 0.9)) end,
      ["entry 1 of the list is a table"] = function() return (optim.average(opt, { model:parameters() }, 0.9)) end,
      ["entry 2 of the list is a number"] = function() return (optim.Lion { weight, 2 }) end,
      ["optim.Adam: a list of tensors"] = function() return (optim.Adam(weight)) end,
    } do
      told_here(text, f)
    end
    local lbfgs = optim.LBFGS(model:parameters())
    told_here("optim.LBFGS: the closure gives the loss, a tensor of one element, got number",
      function() lbfgs:step(function() return closure():item() end) end)
  end)

  it("refuse a state of tensors of other shapes when it is loaded", function()
    local function trained(width, class)
      local model = nn.Sequential { nn.Linear(8, width), nn.Tanh(), nn.Linear(width, 3) }
      local opt = optim[class](model:parameters())
      train(model, opt, x, y, 2)
      return opt
    end
    for _, class in ipairs { "Lion", "RMSprop", "KFAC", "Muon", "SOAP", "Shampoo", "Adam" } do
      local state, opt = trained(4, class):state_dict(), trained(5, class)
      told_here(class == "Adam" and "of parameter" or ("optim.%s: the saved"):format(class),
        function() opt:load_state_dict(state) end)
    end
  end)

  it("forget, when a state is loaded, what is not in it", function()
    local p = gls.zeros(1):requires_grad(true)
    local sgd = optim.SGD({ p }, { learning_rate = 1, momentum = 0.5 })
    local fresh = sgd:state_dict()
    p:sum():backward()
    sgd:step() -- p = -1, velocity 1
    sgd:load_state_dict(fresh)
    p:sum():backward()
    sgd:step() -- -1 - 1, not -1 - 1.5
    assert.equal(-2, p:item())
  end)

  it("that average keep their averages, and do not step while these are swapped in", function()
    local p = gls.zeros(1):requires_grad(true)
    local function made() return optim.average(optim.SGD({ p }, { learning_rate = 1 }), { p }, 0.5) end
    local average = made()
    for _ = 1, 3 do
      p:sum():backward()
      average:step()
    end
    local again = made()
    again:load_state_dict(average:state_dict())
    again:swap() -- averages of 0, -1, -2, -3 with weights of 1/2 from the first step on
    assert.equal(-2.125, p:item())
    assert.error_matches(function() again:step() end, "swap%(%) before a step")
    again.learning_rate = 0.25
    assert.equal(0.25, again.optimizer.learning_rate)
    assert.error_matches(function() again.momentum = 0.1 end, "cannot be set")
    assert.error_matches(function() again:load_state_dict {} end, "not what its state_dict gives")
  end)

  it("say what is wrong with their settings", function()
    local parameters = network():parameters()
    assert.error_matches(function() optim.Adam(parameters, { learing_rate = 1 }) end, "learning_rate")
    assert.error_matches(function() optim.SGD({}) end, "empty")
    assert.error_matches(function() optim.SGD({ gls.ones(2) }) end, "requires_grad")
    assert.error_matches(function() optim.GLS(parameters, { learning_rate = "fast" }) end, "auto")
    assert.error_matches(function() optim.GLS(parameters, { graft = "sgd" }) end, "number")
    for _, damping in ipairs { 0, 2e4, 0 / 0 } do
      assert.error_matches(function() optim.GLS(parameters, { damping = damping }) end, "damping is above 0.*at most")
    end
    assert.error_matches(function() optim.GLS(parameters, { momentum = 1 }) end, "below 1")
    assert.error_matches(function() optim.GLS(parameters, { statistics = { window = 0 } }) end, "at least 1, got 0")
    assert.error_matches(function() optim.GLS(parameters, { statistics = { window = 2.5 } }) end, "whole number")
    assert.error_matches(function() optim.GLS(parameters, { statistics = { rows = 5 } }) end, "window = rows")
    assert.error_matches(function() optim.GLS(parameters, { statistics = "old" }) end, 'got "old"')
    assert.error_matches(function() optim.GLS(parameters, { decay = 1 }) end, "decay")
    for _, settings in ipairs { { momentum = 0.9 }, { statistics = "moving" }, { momentum = "auto" } } do
      settings.nesterov = true
      assert.error_matches(function() optim.GLS(parameters, settings) end, "nesterov")
    end
    for _, case in ipairs {
      { { window = 50 }, 'window = 50 has no effect here: it goes with statistics = "window"' },
      { { statistics = { window = 50 }, window = 60 }, "window = 60 has no effect here: statistics = { window = 50 }" },
      { { form = "validation", refresh = 5 }, "refresh = 5" },
      { { decay = 0.9, statistics = "window" }, "decay = 0.9" },
      { { form = "tokens", delta = 1 }, 'delta = 1 has no effect here: it goes with learning_rate = "auto"' },
      { { learning_rate = 0.1, rows = 1 }, "rows = 1" }, { { part = 64 }, "part = 64" },
      { { form = "tokens", part = 64 }, "part = 64" }, { { form = "validation", part = 64, trust = 1 }, "part = 64" },
    } do
      told_here("optim.GLS: " .. case[2], function() optim.GLS(parameters, case[1]) end)
    end
    for _, settings in ipairs {
      { statistics = "window", window = 50 }, { form = "tokens", refresh = 2, decay = 0.9 }, { delta = 1, rows = 1 },
      { form = "validation", part = 64, trust = 0, rows = "auto" }, { part = 0 },
    } do
      optim.GLS(parameters, settings)
    end
    local groups = { { parameters = nn.Linear(2, 2):parameters(), statistics = "moving" },
      { parameters = nn.Linear(2, 2):parameters() } }
    optim.GLS(groups, { learning_rate = 0.1, decay = 0.9 }) -- shared, it acts in one of them
    told_here("window = 50 has no effect", function() optim.GLS(groups, { learning_rate = 0.1, window = 50 }) end)
    groups[2].decay = 0.9
    told_here("decay = 0.9 has no effect", function() optim.GLS(groups, { learning_rate = 0.1 }) end)
    local automatic = optim.GLS(parameters, { delta = 1 })
    automatic.learning_rate = 0.1 -- set later, it is no error
    assert.error_matches(function() optim.GLS(parameters, { part = 2.5 }) end, "number of rows")
    assert.error_matches(function() optim.GLS(parameters, { statistics_rows = "few" }) end, 'got few')
    assert.error_matches(function()
      local optimizer = optim.GLS(parameters)
      local model = network();
      (model(x) - y):abs():sum():backward()
      optimizer:step()
      local weight = gls.ones(3, 2):requires_grad(true)
      gls.linear(gls.ones(2, 3), weight):abs():sum():backward()
      optim.GLS({ weight }):step()
    end, "curvature is known")
    gls.core.tape_release()
  end)
end)

describe("Adam", function()
  -- The first step is learning_rate · g / |g|, whatever the size of g (Kingma and Ba, 2015, section 2.1).
  it("makes a first step of its learning rate, also where a square overflows; NaN and infinity show", function()
    for _, size in ipairs { 1e-3, 1, 1e18, 1e20, 1e21, 1e30, 3e38 } do
      for _, sign in ipairs { 1, -1 } do
        local p = gls.ones(20):requires_grad(true)
        local opt = optim.Adam({ p }, { learning_rate = 0.1 });
        (p * (sign * size)):sum():backward()
        opt:step()
        assert.is_true((p:detach() - 1 + 0.1 * sign):abs():max():item() < 0.011, ("gradient %g"):format(sign * size))
      end
    end
    for _, size in ipairs { 1 / 0, -1 / 0, 0 / 0 } do
      local p = gls.ones(20):requires_grad(true)
      local opt = optim.Adam({ p }, { learning_rate = 0.1 });
      (p * size):sum():backward()
      opt:step()
      assert.is_false(p:detach():abs():max():item() < math.huge)
    end
  end)
end)

describe("GLS", function()
  it("leaves parameters without factors to its fallback, and says so", function()
    local x, y = regression()
    local model = nn.Sequential { nn.Linear(8, 16), nn.LayerNorm(16), nn.Tanh(), nn.Linear(16, 3) }
    local optimizer = optim.GLS(model:parameters())
    local scale = model:parameters()[3]:detach():clone()
    local first = nn.mse(model(x), y):item()
    assert.is_true(train(model, optimizer, x, y, 30) < 0.5 * first)
    assert.is_true((model:parameters()[3]:detach() - scale):abs():sum():item() > 0)
  end)

  it("leaves to Adam what others names, which it steps as Adam does", function()
    local x, y = regression()
    for _, decay in ipairs { 0.5, 0.1 } do
      local model = nn.Sequential { nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3) }
      local head = model:clone()[3]
      local opt = optim.GLS(model:parameters(), { form = "tokens", others = { "3" }, fallback_learning_rate = 0.02,
        weight_decay = 0.5, fallback_weight_decay = decay ~= 0.5 and decay or nil })
      local adam = optim.AdamW(head:parameters(), { learning_rate = 0.02, weight_decay = decay })
      for _ = 1, 3 do
        local hidden = model[2](model[1](x)):detach()
        nn.mse(model(x), y):backward()
        opt:step()
        nn.mse(head(hidden), y):backward()
        adam:step()
        assert.is_true((model[3].weight - head.weight):abs():max():item() < 1e-6)
        assert.is_true((model[3].bias - head.bias):abs():max():item() < 1e-6)
      end
      assert.is_nil(opt:layers()["3.weight"])
    end
    local parameters = nn.Sequential { nn.Linear(8, 16) }:parameters()
    says('others names "2", of which there is no parameter', optim.GLS, parameters, { others = { "2" } })
    says("fallback_weight_decay is -1, expected a finite number of at least 0", optim.GLS, parameters,
      { fallback_weight_decay = -1 })
  end)

  it("finds the curvature of a loss that the script has let go", function()
    gls.seed(3)
    local model = nn.Linear(4, 3)
    local optimizer = optim.GLS(model:parameters())
    nn.cross_entropy(model(gls.randn(8, 4)), gls.randint(1, 3, 8)):backward()
    collectgarbage()
    collectgarbage()
    optimizer:step()
    assert.is_true(optimizer:report().learning_rate > 0)
  end)

  describe("takes the curvature on all rows where some do not stand by themselves:", function()
    local function loss_after(steps, rows, parameters, loss)
      local optimizer = optim.GLS(parameters, { rows = rows })
      for _ = 1, steps do
        loss():backward()
        optimizer:step()
      end
      return loss():item()
    end

    local function same(make)
      local losses = {}
      for i, rows in ipairs { 1, 0.25 } do
        gls.seed(3)
        losses[i] = loss_after(3, rows, make())
      end
      assert.equal(losses[1], losses[2])
    end

    it("a single vector", function()
      same(function()
        local model, x = nn.Sequential { nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 40) }, gls.randn(40)
        return model:parameters(), function() return nn.mse(model(x), x) end
      end)
      same(function()
        local model, x, label = nn.Linear(8, 40), gls.randn(8), gls.tensor(7):to("int32")
        return model:parameters(), function() return nn.cross_entropy(model(x), label) end
      end)
    end)

    local labels = gls.ones(40):to("int32")

    it("a graph, whose nodes are the rows", function()
      same(function()
        local edges, x = gls.softmax(gls.randn(40, 40), 2), gls.randn(40, 8)
        local first, second = nn.Linear(8, 6), nn.Linear(6, 5)
        return nn.Sequential { first, second }:parameters(), function()
          return nn.cross_entropy(edges:matmul(second(edges:matmul(first(x)):relu())), labels)
        end
      end)
    end)

    it("a weight that is as long as the batch and not used as it is", function()
      same(function()
        local layer, weight, x = nn.Linear(8, 40), gls.randn(40, 5):requires_grad(true), gls.randn(40, 8)
        local parameters = layer:parameters()
        parameters[#parameters + 1] = weight
        return parameters, function() return nn.cross_entropy(layer(x):relu():matmul(weight:tanh()), labels) end
      end)
    end)
  end)

  it("skips a batch with NaN and counts it", function()
    local x, y = regression()
    local model = network()
    local optimizer = optim.GLS(model:parameters())
    local bad = x:clone()
    bad[1][1] = 0 / 0
    nn.mse(model(bad), y):backward()
    optimizer:step()
    assert.equal(1, optimizer:report().skipped_steps)
    assert.equal(1, nn.mse(model(x), y):is_finite():item())
  end)

  it("reports the guards of all groups, and the momentum that was given", function()
    local x, y = regression()
    for first = 1, 2 do
      local model = nn.Sequential { nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 3) }
      local groups = { { parameters = model[1]:parameters() }, { parameters = model[3]:parameters() } }
      groups[first].trust = 1e-9
      local optimizer = optim.GLS(groups, { learning_rate = 0.1, momentum = 0.9 })
      for _ = 1, 3 do
        nn.mse(model(x), y):backward()
        optimizer:step()
      end
      assert.equal(3, optimizer:report().trust_limits)
      assert.equal(0.9, optimizer:report().momentum)
    end
  end)

  it("gives the factors whose product is the gradient", function()
    local x, y = regression()
    local model = nn.Sequential { nn.Linear(8, 3) }
    nn.mse(model(x), y):backward()
    local weight = model:parameters()[1]
    local factors = optim.factors(weight)
    assert.equal(1, #factors)
    local product = factors[1].a:transpose(1, 2):matmul(factors[1].g)
    assert.is_true((product - weight.grad):abs():max():item() < 1e-5)
    gls.core.tape_release()
  end)
end)

describe("optim.average", function()
  it("evaluates averaged weights and gives the others back", function()
    local p = gls.tensor({ 0 }):requires_grad(true)
    local optimizer = optim.average(optim.SGD({ p }, { learning_rate = 1 }), { p }, 0.99)
    for _ = 1, 3 do
      p:sum():backward()
      optimizer:step()
    end
    optimizer:swap()
    assert.is_true(math.abs(p:item() + 1.5) < 1e-6, "mean of 0, -1, -2, -3")
    optimizer:swap()
    assert.equal(-3, p:item())
  end)
end)
