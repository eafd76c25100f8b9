--- Loops that are not the plain one: several backward calls before a step, several optimizers, what one step hands to
-- the next, steps that fail, losses and networks at the edge of what GLS assumes. The right values are those of the
-- same mathematics written another way: one backward of the sum, a gradient worked out by hand, a function without a
-- break.
local gls = require "gls"
local nn = require "gls.nn"
local optim = require "gls.optim"
local fails = require("tests.lua.failing").matches
local leaf = require("tests.lua.derivatives").leaf

local function gap(a, b) return (a:detach() - b):abs():max():item() end

describe("a step that has ended", function()
  after_each(function() gls.tape_release() end)

  it("is not differentiated through: a state carried over needs detach", function()
    local w = leaf { 2 }
    local sgd = optim.SGD({ w }, { learning_rate = 0.1 })
    local state = w * 3
    state:sum():backward()
    sgd:step()
    local loss = (state * w):sum()
    fails("step that has ended.*detach", loss.backward, loss)
    assert.is_nil(w.grad) -- nothing of the refused gradient is left
    local good = (state:detach() * w):sum()
    good:backward()
    assert.near(6, w.grad:item(), 1e-6) -- the state's value
  end)

  it("leaves the values of its tensors to sums that nobody differentiates", function()
    local w = leaf { 2 }
    local sgd, total = optim.SGD({ w }, { learning_rate = 0 }), gls.zeros(1)
    for _ = 1, 3 do
      local loss = (w * 3):sum()
      total = total + loss
      loss:backward()
      sgd:step()
    end
    assert.equal(18, total:item())
  end)

  it("leaves other graphs to other optimizers: the generator of an adversarial pair moves", function()
    local g, d = leaf { 3 }, leaf { 5 }
    local of_g, of_d = optim.SGD({ g }, { learning_rate = 1 }), optim.SGD({ d }, { learning_rate = 1 })
    local fake = g * 2;
    (fake:detach() * d):sum():backward()
    of_d:step()
    assert.equal(-1, d:item()); -- 5 − 6
    (fake * d):sum():backward()
    of_g:step()
    assert.equal(5, g:item()) -- 3 − 2 · −1
  end)

  it("leaves plain gradients to a second optimizer on one graph, and says what GLS misses", function()
    local function pair(make)
      gls.seed(1)
      local first, second = nn.Linear(3, 4), nn.Linear(4, 2)
      local a, b = optim.SGD(first:parameters(), { learning_rate = 0.1 }), make(second:parameters())
      nn.mse(second(first(gls.ones(5, 3))), gls.zeros(5, 2)):backward()
      return a, b, second
    end
    local a, b, second = pair(function(p) return optim.SGD(p, { learning_rate = 0.1 }) end)
    local wanted = second.weight:detach() - second.weight.grad * 0.1
    a:step()
    b:step()
    assert.is_true(gap(second.weight, wanted) < 1e-6)
    a, b = pair(function(p) return optim.GLS(p, { learning_rate = 0.1 }) end)
    a:step()
    fails("another optimizer's step has ended", b.step, b)
  end)
end)

describe("several backward calls before a step", function()
  after_each(function() gls.tape_release() end)

  -- The model after one step, from k calls over a k-th of the batch each, or from one backward of their sum.
  local function stepped(k, summed, settings)
    gls.seed(3)
    local model = nn.Sequential { nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2) }
    local optimizer = optim.GLS(model:parameters(), settings)
    local x, y, n, total = gls.randn(24, 5), gls.randn(24, 2), 24 // k, nil
    for i = 0, k - 1 do
      local loss = nn.mse(model(x:narrow(1, i * n + 1, n)), y:narrow(1, i * n + 1, n)) * (1 / k)
      total = total and total + loss or loss
      if not summed then loss:backward() end
    end
    if summed then total:backward() end
    optimizer:step()
    return model:parameters(), optimizer:report().learning_rate
  end

  for name, settings in pairs {
    ["a given rate"] = { learning_rate = 0.1 }, ["SGD's length"] = { learning_rate = 1, graft = "sgd" },
    ["the automatic rate"] = { rows = 1 },
    ["the matched form"] = { graft = "rms", momentum = 0.9, learning_rate = 0.01 },
    ["automatic momentum"] = { momentum = "auto", rows = 1 },
  } do
    it("make the step of one, by GLS with " .. name, function()
      local wanted, rate = stepped(1, true, settings)
      for _, k in ipairs { 2, 6, 24 } do
        for _, summed in ipairs { true, false } do
          local got, its_rate = stepped(k, summed, settings)
          assert.near(rate, its_rate, 1e-3 * math.abs(rate))
          for i, parameter in ipairs(got) do assert.is_true(gap(parameter, wanted[i]) < 2e-4, k .. " calls") end
        end
      end
    end)
  end

  it("from one loss count twice, for GLS too", function()
    local function weight(times, factor)
      gls.seed(4)
      local model = nn.Linear(3, 2)
      local optimizer = optim.GLS(model:parameters(), { learning_rate = 0.1 })
      local loss = nn.mse(model(gls.randn(8, 3)), gls.randn(8, 2)) * factor
      for _ = 1, times do loss:backward() end
      optimizer:step()
      return model.weight
    end
    assert.is_true(gap(weight(2, 1), weight(1, 2)) < 1e-6)
  end)

  it("are refused by K-FAC, which has the factors of the last alone", function()
    local model = nn.Linear(3, 2)
    local optimizer = optim.KFAC(model:parameters())
    for _ = 1, 2 do nn.mse(model(gls.randn(4, 3)), gls.randn(4, 2)):backward() end
    assert.error_matches(function() optimizer:step() end, "factors: of the weight of shape %(3×2%).*several times")
  end)

  it("take no more memory than one, read in between or not", function()
    local model = nn.Sequential { nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64) }
    local x = gls.randn(100, 64)
    local function live(calls, read)
      for _ = 1, calls do
        nn.mse(model(x), x):backward()
        if read then assert.is_truthy(model[1].weight.grad) end
      end
      gls.collect()
      return gls.memory().live
    end
    local few = live(3)
    assert.is_true(live(30) < 1.05 * few)
    assert.is_true(live(30, true) < 1.05 * few + 4 * 64 * 64 * 4)
    local gradient = model[1].weight.grad
    model[1].weight:zero_grad()
    nn.mse(model(x), x):backward()
    assert.is_true((gradient - model[1].weight.grad * 63):abs():max():item() < 1e-3 * gradient:abs():max():item())
  end)

  it("are no step: neither evaluation nor a script that never steps keeps memory", function()
    local model, x = nn.Linear(64, 64), gls.randn(100, 64)
    local function live(times)
      for _ = 1, times do assert.is_number(nn.mse(model(x), x):item()) end
      gls.collect()
      return gls.memory().live
    end
    local few = live(2)
    assert.is_true(live(50) <= few)
  end)

  it("before the optimizer was made are refused by GLS", function()
    local model = nn.Linear(3, 2)
    for _ = 1, 2 do nn.mse(model(gls.ones(4, 3)), gls.zeros(4, 2)):backward() end
    local optimizer = optim.GLS(model:parameters())
    fails("before the optimizer was made", optimizer.step, optimizer)
  end)
end)

describe("values that carry a gradient", function()
  after_each(function() gls.tape_release() end)

  it("are not written in place without a word", function()
    local w = leaf { 1, 2 }
    local value = (w * 3):sum()
    for _, write in ipairs {
      function(y) y[1] = value end, function(y) y:narrow(1, 1, 1):copy(value:view(1)) end,
      function(y) y:accumulate(value:view(1)) end, function() gls.tensor(value) end, function(y) y:copy(w:sum()) end,
    } do
      fails("gradient, which would be lost", write, gls.zeros(1))
    end
    local y = gls.zeros(1)
    y[1] = value:detach()
    assert.equal(9, y:item())
    gls.no_grad(function() y:copy(w:sum():view(1)) end)
    assert.equal(3, y:item())
  end)

  it("are one result of a function written in Lua", function()
    local two = gls.fn { forward = function(_, x) return x * 2, x * 3 end, backward = function(_, g) return g end }
    fails("one tensor, got 2 values", two, leaf { 1 })
  end)
end)

describe("GLS where its assumptions end", function()
  after_each(function() gls.tape_release() end)

  local function linear()
    gls.seed(1)
    local model = nn.Linear(5, 3)
    return model, gls.randn(64, 5), gls.randn(64, 3), optim.GLS(model:parameters())
  end

  it("names the ops of a part of the loss whose curvature is unknown, and takes no part of the step", function()
    local model, x, y, optimizer = linear()
    local before = model.weight:detach():clone()
    local p = model(x);
    (nn.mse(p, y) * 0.1 + (p - y):square():mean() * 0.9):backward()
    fails("curvature is known.*linear, sub, square, mean", optimizer.step, optimizer)
    assert.equal(0, gap(model.weight, before))
    assert.is_nil(model.weight.grad); -- the step has ended, though it failed
    (nn.mse(model(x), y) + model.weight:square():sum()):backward()
    fails("curvature is known.*square, sum, add.*weight_decay", optimizer.step, optimizer);
    nn.mse(gls.zeros(64, 3), model(x)):backward() -- as the target
    fails("curvature is known.*linear, mse", optimizer.step, optimizer)
    nn.mse(model(x), y):backward()
    optimizer:step()
    assert.is_true(gap(model.weight, before) > 0)
  end)

  it("takes a penalty's gradient along at a given rate", function()
    local model, x, y = linear()
    local optimizer = optim.GLS(model:parameters(), { learning_rate = 0.5 })
    local function loss() return nn.mse(model(x), y) + model.weight:square():sum() end
    local first = loss():item()
    for _ = 1, 5 do
      loss():backward()
      optimizer:step()
    end
    assert.is_true(loss():item() < first)
  end)

  it("keeps its momentum as it was when a step fails", function()
    for _, settings in ipairs { { momentum = 0.9 }, { momentum = "auto" } } do
      local function last(fail)
        gls.seed(2)
        local model, x, y = nn.Linear(5, 3), gls.randn(64, 5), gls.randn(64, 3)
        settings.rows = 1
        local optimizer = optim.GLS(model:parameters(), settings)
        for step = 1, 4 do
          if fail and step == 3 then
            (model(x) - y):square():mean():backward()
            fails("curvature", optimizer.step, optimizer)
          end
          nn.mse(model(x), y):backward()
          optimizer:step()
        end
        return model.weight
      end
      assert.equal(0, gap(last(true), last(false)))
    end
  end)

  it("does not take inputs into its averages whose squares are not finite", function()
    for _, settings in ipairs {
      { statistics = "moving", refresh = 1, learning_rate = 0.1 },
      { statistics = { window = 100 }, learning_rate = 0.1 },
    } do
      local function weight(bad)
        gls.seed(2)
        local model, x, y = nn.Linear(5, 3), gls.randn(16, 5), gls.randn(16, 3)
        local optimizer = optim.GLS(model:parameters(), settings)
        for step = 1, 4 do
          if bad and step == 2 then
            nn.mse(model(x * bad), y):backward()
            optimizer:step()
          end
          nn.mse(model(x), y):backward()
          optimizer:step()
        end
        return model.weight
      end
      for _, bad in ipairs { 1 / 0, 0 / 0 } do assert.equal(0, gap(weight(bad), weight())) end
      assert.is_true(gap(weight(1e25), weight()) < 1e30) -- neither an error nor a number that is none
    end
  end)

  it("makes the same step at a fixed rate however the loss is written", function()
    local function change(make, inputs, loss, optimizer_of)
      gls.seed(11)
      local model = make()
      local x, labels = gls.randn(table.unpack(inputs)), gls.randint(1, 3, inputs[1])
      local settings = { learning_rate = 0.1, statistics_rows = 0 }
      local optimizer = optimizer_of and optimizer_of(model, settings) or optim.GLS(model:parameters(), settings)
      local first = model:parameters()[1]
      local before = first:detach():clone()
      loss(model(x), labels):backward()
      optimizer:step()
      return first:detach() - before
    end
    local function convolution()
      return nn.Sequential { nn.Conv2d(1, 4, 3, { padding = 1 }), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3) }
    end
    local function affine() return nn.Sequential { nn.Linear(6, 3) } end
    local losses = {
      function(z, labels) return nn.cross_entropy(z, labels, { reduction = "none" }):mean() end,
      function(z, labels) return nn.nll(z:log_softmax(-1), labels) end,
      function(z, labels) return nn.cross_entropy(z, labels, { weight = gls.ones(3) }) end,
    }
    for _, net in ipairs { { convolution, { 40, 1, 4, 4 } }, { affine, { 40, 6 } } } do
      local expected = change(net[1], net[2], nn.cross_entropy)
      assert.is_true(expected:abs():max():item() > 0)
      for _, loss in ipairs(losses) do assert.is_true(gap(change(net[1], net[2], loss), expected) < 1e-6) end
      local squares = change(net[1], net[2], function(z) return nn.mse(z, gls.zeros_like(z)) end)
      assert.is_true(gap(change(net[1], net[2], function(z) return z:square():mean() end), squares) < 1e-6)
    end
    for owner, optimizer_of in pairs { -- of the last layer
      others = function(model, settings)
        settings.others = { "4" }
        return optim.GLS(model:parameters(), settings)
      end,
      group = function(model, settings)
        return optim.GLS({ { parameters = model[1]:parameters() }, { parameters = model[4]:parameters() } }, settings)
      end,
      nobody = function(model, settings)
        for _, weight in ipairs(model[4]:parameters()) do weight:requires_grad(false) end
        return optim.GLS(model[1]:parameters(), settings)
      end,
    } do
      local expected = change(convolution, { 40, 1, 4, 4 }, nn.cross_entropy, optimizer_of)
      assert.is_true(gap(change(convolution, { 40, 1, 4, 4 }, losses[2], optimizer_of), expected) < 1e-6, owner)
    end
  end)

  describe("goes on where a bias leaves the step or comes into it:", function()
    local function frozen(layer) layer.bias:requires_grad(false) end
    local leaves = {
      frozen = frozen,
      penalised = function(layer) return layer.bias:square():sum() end,
      ["without gradient"] = function(layer)
        local bias = layer.bias
        layer.bias = bias:detach()
        return nil, function() layer.bias = bias end
      end,
    }
    for _, settings in ipairs {
      { form = "validation" }, { form = "tokens" }, { form = "residual" },
      { statistics = "moving", learning_rate = 0.1, refresh = 3 }, { momentum = 0.9, learning_rate = 0.1 },
      { statistics = { window = 100 }, learning_rate = 0.1, momentum = 0.9 }, { momentum = "auto" },
      { statistics = { window = 5 }, momentum = "auto" },
    } do
      local words = {}
      for key, value in pairs(settings) do
        words[#words + 1] = key .. " " .. (type(value) == "table" and "window " .. value.window or tostring(value))
      end
      table.sort(words)
      it(table.concat(words, ", "), function()
        for what, leave in pairs(leaves) do
          gls.seed(1)
          local model = nn.Sequential { nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3) }
          local optimizer, x, y = optim.GLS(model:parameters(), settings), gls.randn(40, 6), gls.randint(1, 3, 40)
          local first = nn.cross_entropy(model(x), y):item()
          local function step(penalty)
            local loss = nn.cross_entropy(model(x), y)
            if penalty and settings.momentum ~= "auto" then loss = loss + penalty end
            loss:backward()
            optimizer:step()
          end
          for _ = 1, 4 do step() end
          local bias, weight = model[1].bias:detach():clone(), model[1].weight:detach():clone()
          for _ = 1, 4 do
            local penalty, back = leave(model[1])
            step(penalty)
            if back then back() end
          end
          if what ~= "penalised" then assert.equal(0, gap(model[1].bias, bias)) end
          assert.is_true(gap(model[1].weight, weight) > 0)
          model[1].bias:requires_grad(true)
          for _ = 1, 4 do step() end
          assert.is_true(gap(model[1].bias, bias) > 0)
          assert.is_true(nn.cross_entropy(model(x), y):item() < first)
        end
      end)
    end

    -- W − (S + λI)⁻¹ V, V and S as the equations have them, of A with a column of ones while the bias is stepped.
    it("with the momentum and the AᵀA that the weight has without it", function()
      gls.seed(3)
      local model, x, y = nn.Linear(4, 3), gls.randn(32, 4), gls.randn(32, 3)
      local optimizer = optim.GLS(model:parameters(), { statistics = "moving", momentum = 0.5, refresh = 1,
        learning_rate = 0.3, damping = 0.1, decay = 0.5 })
      local s, v
      for step = 1, 5 do
        if step == 3 then frozen(model) end
        local width = step < 3 and 5 or 4
        local a = gls.cat({ x * step, gls.ones(32, 1) }, 2):narrow(2, 1, width)
        nn.mse(model(x * step), y):backward()
        local g = width == 5 and gls.cat({ model.weight.grad, model.bias.grad:view(1, 3) }, 1) or model.weight.grad
        local function cut(t, columns) return t and t:narrow(1, 1, width):narrow(2, 1, columns) or 0 end
        v = cut(v, 3) * 0.5 + g * 0.5
        local keep = math.min((step - 1) / step, 0.5)
        s = cut(s, width) * keep + a:t():matmul(a) * ((1 - keep) / 32)
        local damped = s + gls.eye(width) * (0.1 * s:diagonal():sum():item() / width)
        local expected = model.weight:detach() - gls.solve(damped, v):narrow(1, 1, 4) * 0.3
        optimizer:step()
        assert.is_true(gap(model.weight, expected) < 1e-5)
      end
    end)

    it("but not with the state of another layer", function()
      local function trained(inputs, outputs, bias)
        local model = nn.Sequential { nn.Linear(inputs, outputs, { bias = bias }) }
        local optimizer = optim.GLS(model:parameters(), "tokens")
        local function step()
          nn.mse(model(gls.ones(4, inputs)), gls.ones(4, outputs)):backward()
          optimizer:step()
        end
        step()
        return optimizer, step
      end
      for _, other in ipairs { { 5, 3, true }, { 8, 3, true }, { 7, 4, true }, { 8, 3, false }, { 5, 3, false } } do
        local optimizer, step = trained(7, 3, other[3])
        optimizer:load_state_dict(trained(other[1], other[2], true):state_dict())
        fails("the saved momentum of parameter 1, the weight of shape %(7×3%)", step)
      end
      local optimizer, step = trained(7, 3, true)
      local state = optimizer:state_dict()
      state.tensors["cholesky.1.weight"] = gls.ones(3, 3)
      optimizer:load_state_dict(state)
      fails("the saved factor of AᵀA of parameter 1", step)
    end)
  end)

  -- A gated unit over the rows of images (Cho et al., 2014): on a quarter of the batch the curvature was off by a
  -- factor of four now and then, and a step of that length sent the loss from 1 to 6.
  it("measures the curvature of recurrent nets on all rows", function()
    local function rates(rows)
      gls.seed(5)
      local input, state, out = nn.Linear(8, 24), nn.Linear(12, 24), nn.Linear(12, 4)
      local candidate, carried = nn.Linear(8, 12), nn.Linear(12, 12)
      local parameters = {}
      for _, module in ipairs { input, state, out, candidate, carried } do
        for _, parameter in ipairs(module:parameters()) do parameters[#parameters + 1] = parameter end
      end
      local optimizer, x, labels = optim.GLS(parameters, { rows = rows }), gls.randn(80, 6, 8), gls.randint(1, 4, 80)
      local list = {}
      for step = 1, 3 do
        local h = gls.zeros(80, 12)
        for t = 1, 6 do
          local row = x:select(2, t)
          local gates = (input(row) + state(h)):sigmoid()
          local update, reset = gates:narrow(2, 1, 12), gates:narrow(2, 13, 12)
          h = h + update * ((candidate(row) + carried(reset * h)):tanh() - h)
        end
        nn.cross_entropy(out(h), labels):backward()
        optimizer:step()
        list[step] = optimizer:report().learning_rate
      end
      return list
    end
    assert.same(rates(1), rates "auto")
    assert.not_same(rates(1), rates(0.25))
  end)
end)
