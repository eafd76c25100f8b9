-- Gradients as tensors, and derivatives of any order: gls.grad. (Every row's second and third derivatives are held
-- against differences in tests/core/derivatives.c.)
local gls, nn, optim = require "gls", require "gls.nn", require "gls.optim"

local derivatives = require "tests.lua.derivatives"
local leaf, near = derivatives.leaf, derivatives.near
local fails = require("tests.lua.failing").matches

describe("grad", function()
  after_each(function() gls.tape_release() end)

  it("gives gradients as tensors and leaves .grad alone", function()
    local x, y = leaf { 1, 2 }, leaf { 3, 4 }
    local z = (x * y ^ 2):sum()
    local by_x = gls.grad(z, x)
    local list = gls.grad(z, { y, x })
    assert.same({ 9, 16 }, by_x:tolist())
    assert.same({ 6, 16 }, list[1]:tolist())
    assert.same({ 9, 16 }, list[2]:tolist())
    assert.is_nil(x.grad)
    assert.is_false(by_x:requires_grad())
    by_x:fill(0) -- its memory is its own
    assert.same({ 9, 16 }, gls.grad(z, x):tolist())
  end)

  it("goes by tensors on the tape, and sums outputs by their seeds", function()
    local x = leaf { 1, 2 }
    local h = x * 3
    local y = h ^ 2
    assert.same({ 6, 12 }, gls.grad(y, h, { seeds = gls.ones(2) }):tolist())
    local both = gls.grad({ y, h }, { h, x }, { seeds = { gls.ones(2), gls.tensor { 10, 20 } } })
    assert.same({ 16, 32 }, both[1]:tolist())
    assert.same({ 48, 96 }, both[2]:tolist())
    assert.same({ 1, 1 }, gls.grad(x, x, { seeds = gls.ones(2) }):tolist())
  end)

  it("sums over all uses of a weight, dense where backward leaves factors", function()
    local w, x = leaf { { 1, 2 }, { 3, 4 } }, gls.tensor { { 1, 1 }, { 2, 0 } }
    local z = x:linear(w):linear(w):sum()
    z:backward()
    near(w.grad, gls.grad(z, w))
  end)

  it("gives derivatives of any order", function()
    local x = leaf { 0.5 }
    local f = (2 * x):sin():sum()
    for order = 1, 5 do
      f = gls.grad(f, x, { create_graph = true }):sum()
      assert.is_true(math.abs(f:item() - 2 ^ order * math.sin(1 + order * math.pi / 2)) < 1e-4)
    end
  end)

  it("leaves the values of weights' gradients away when only their derivatives are wanted", function()
    local w, b, x = leaf { { 1, 2 }, { 3, 4 } }, leaf { 1, 1 }, gls.tensor { { 1, 1 }, { 2, 0 } }
    local function loss() return (x:linear(w, b):tanh():linear(w) ^ 2):sum() end
    local seeds = { gls.tensor { { 1, -1 }, { 0, 2 } }, gls.tensor { 3, 1 } }
    local whole = gls.grad(loss(), { w, b }, { create_graph = true })
    local without = gls.grad(loss(), { w, b }, { create_graph = true, values = false })
    assert.equal(1, without[1]:is_nan():all():item())
    local expected, got = gls.grad(whole, { w, b }, { seeds = seeds }), gls.grad(without, { w, b }, { seeds = seeds })
    near(expected[1], got[1])
    near(expected[2], got[2])
  end)

  it("says what is wrong", function()
    local x, y = leaf { 1, 2 }, leaf { 3 }
    local z = x ^ 2
    fails("higher_spec.lua:%d+: grad: output 1 has shape %(2%)", function() gls.grad(z, x) end)
    fails("do not depend on input 2", gls.grad, z:sum(), { x, y })
    assert.same({ 0 }, gls.grad(z:sum(), { x, y }, { unused = true })[2]:tolist())
    fails("input 1, shape %(2%), neither requires", gls.grad, z:sum(), gls.ones(2))
    fails("output 1 is not on the tape", gls.grad, gls.ones(1), x)
    fails("seed 1 has type float32 and shape %(3%)", gls.grad, z, x, { seeds = gls.ones(3) })
    fails("1 outputs, but 2 seeds", gls.grad, z, x, { seeds = { gls.ones(2), gls.ones(2) } })
    fails('did you mean "create_graph"', gls.grad, z:sum(), x, { create_grap = true })
    fails("entry 2 of the inputs must be a tensor, got number", gls.grad, z:sum(), { x, 3 })
    fails("inside no_grad", gls.no_grad, gls.grad, z:sum(), x, { create_graph = true })
    local old = z:sum()
    gls.tape_release()
    fails("not on the tape", gls.grad, old, x)
  end)

  it("refuses what was written on since, and what has been released", function()
    local x = leaf { 1, 2 }
    local g = gls.grad((x ^ 3):sum(), x, { create_graph = true })
    x:detach():fill(5)
    fails("power: argument 1, shape %(2%), was modified in place", gls.grad, g:sum(), x)
    gls.tape_release()
    fails("not on the tape", gls.grad, g:sum(), x)
  end)

  it("differentiates functions written in Lua, by their backward", function()
    local cube = gls.fn {
      forward = function(context, x)
        context.x = x
        return x ^ 3
      end,
      backward = function(context, gradient) return gradient * 3 * context.x ^ 2 end,
    }
    local x = leaf { 1, 2 }
    local g = gls.grad(cube(x):sum(), x, { create_graph = true })
    local h = gls.grad(g:sum(), x, { create_graph = true })
    assert.same({ 6, 12 }, h:tolist())
    assert.same({ 6, 6 }, gls.grad(h:sum(), x):tolist())
  end)

  it("differentiates the result that such a function keeps, by the function's own rule", function()
    local exp = gls.fn {
      forward = function(context, x)
        context.kept = { y = x:exp() }
        return context.kept.y
      end,
      backward = function(context, gradient) return gradient * context.kept.y end,
    }
    local x = leaf { 0, 1 }
    local g = gls.grad((exp(x) ^ 2):sum(), x, { create_graph = true })
    local h = gls.grad(g:sum(), x, { create_graph = true })
    near(2 * (2 * x):exp(), g)
    near(4 * (2 * x):exp(), h)
    near(8 * (2 * x):exp(), gls.grad(h:sum(), x))
    local own = gls.fn { -- the value of x², the slope of an exponential
      forward = function(context, t)
        context.y = t ^ 2
        return context.y
      end,
      backward = function(context, gradient) return gradient * context.y end,
    }
    g = gls.grad(own(x):sum(), x, { create_graph = true })
    assert.same({ 0, 1 }, gls.grad(g:sum(), x):tolist())
    local same = gls.fn { -- an argument handed back is itself still
      forward = function(context, t)
        context.t = t
        return t
      end,
      backward = function(context, gradient) return gradient * context.t end,
    }
    g = gls.grad((same(x) * 3):sum(), x, { create_graph = true })
    assert.same({ 3, 3 }, gls.grad(g:sum(), x):tolist())
  end)

  it("refuses what such a function has computed beside its result, and takes constants", function()
    local x = leaf { 1, 2 }
    local function twice(keep)
      local f = gls.fn {
        forward = function(context, t)
          context.kept = keep(t)
          return t * t
        end,
        backward = function(context, gradient) return gradient * context.kept end,
      }
      f(x):sum():backward()
      local g = gls.grad((f(x) ^ 2):sum(), x, { create_graph = true })
      return gls.grad(g:sum(), x):tolist()
    end
    for _, keep in ipairs {
      function(t) return t * 2 end,
      function(t) return t:view(2) end,
      function(t) return gls.fuse(function(s) return s * 2 end)(t) end,
      function(t) return gls.fn { forward = function(_, s) return s * 2 end, backward = function() end }(t * 1) end,
      function(t)
        local made = gls.zeros(2)
        made[1] = t[1]
        return made
      end,
      function(t)
        local made = gls.zeros(2)
        made:narrow(1, 2, 1):copy(t[{ { 2, 2 } }])
        return made
      end,
      function(t) return gls.zeros(2):accumulate(t) end,
    } do
      fails("argument 2, shape %(2%), was computed in forward of a gls.fn, which is not recorded", twice, keep)
      gls.tape_release()
    end
    -- f = x² with the slope c: Σ f² has the gradient 2 f c, and that the slope 2 c c.
    for _, keep in ipairs {
      function(t) return (t * 2):detach() end,
      function(t) return gls.tensor(t * 2) end,
      function(t) return t:gt(0) end,
      function() return gls.full({ 2 }, 2) * 1 end,
    } do
      local c = keep(gls.tensor { 1, 2 })
      near(2 * c * c, gls.tensor(twice(keep)))
      gls.tape_release()
    end
    -- The same where another function's forward has written on it, and what is there now is a constant.
    local buffer
    local function copied()
      buffer = gls.zeros(2)
      return gls.fn {
        forward = function(_, t) return buffer:copy(t * 2) end,
        backward = function(_, gradient) return gradient * 2 end,
      }(x)
    end
    for _, written in ipairs {
      function() return copied():detach() end,
      function() return copied():detach():view(2) end,
      function() return copied() and buffer:fill(3) end,
      function() return copied() and buffer:copy(gls.tensor { 3, 5 }) end,
      function() -- a teacher's weight, moved in an earlier step
        copied():sum():backward()
        gls.tape_release()
        return buffer
      end,
    } do
      local c = written()
      near(2 * c * c, gls.tensor(twice(function() return c end)))
      gls.tape_release()
    end
    for _, written in ipairs { -- but not what is computed still
      function() return copied() and buffer end,
      function()
        copied()
        buffer:narrow(1, 1, 1):fill(3)
        return buffer
      end,
      function()
        buffer = copied():detach()
        gls.fn { forward = function(_, t) return buffer:copy(t * 3) end, backward = function() end }(x)
        return buffer
      end,
    } do
      local y = copied() -- keeps the tape from being empty
      local c = written()
      fails("argument 2, shape %(2%), was computed in forward", twice, function() return c end)
      assert.is_true(y:requires_grad())
      gls.tape_release()
    end
    local handed = gls.fn {
      forward = function(context, t)
        context.kept = t * 2
        return t * t
      end,
      backward = function(context) return context.kept end,
    }
    fails("result 1 of backward was computed in forward", gls.grad, handed(x):sum(), x, { create_graph = true })
  end)

  it("differentiates fused functions as their steps", function()
    local function f(x, y) return ((x * y + 1):tanh() * x - y:exp()) ^ 2 end
    local fused = gls.fuse(f)
    local x, y = leaf { 0.3, -0.4 }, leaf { 0.1, 0.7 }
    local second = {}
    for i, g in ipairs { f, fused } do
      local first = gls.grad(g(x, y):sum(), { x, y }, { create_graph = true })
      second[i] = gls.grad((first[1] * first[2]):sum(), { x, y })
    end
    near(second[1][1], second[2][1])
    near(second[1][2], second[2][2])
  end)

  it("keeps 0 at 0 where where() has not chosen an infinite slope", function()
    local x = leaf { 0, 4 }
    local y = gls.where(x:gt(0), x:sqrt(), x)
    local g = gls.grad(y:sum(), x, { create_graph = true })
    assert.same({ 1, 0.25 }, g:tolist())
    assert.same({ 0, -1 / 32 }, gls.grad(g:sum(), x):tolist())
  end)
end)

describe("a gradient of a gradient", function()
  after_each(function() gls.tape_release() end)

  it("penalises the slope of a critic (Gulrajani et al., 2017), against differences", function()
    gls.seed(3)
    local critic = nn.Sequential {
      nn.Conv2d(1, 4, 3, { padding = 1 }), nn.GroupNorm(2, 4), nn.SiLU(), nn.AvgPool2d(2), nn.Flatten(),
      nn.Linear(36, 1),
    }
    local x = gls.randn(2, 1, 6, 6):requires_grad(true)
    local weights = critic:parameters()
    local function penalty()
      local slope = gls.grad(critic(x):sum(), x, { create_graph = true })
      return ((slope:reshape(2, -1):norm(2) - 1) ^ 2):mean()
    end
    penalty():backward()
    for _, weight in ipairs(weights) do
      if weight.grad then
        local direction = gls.randn_like(weight)
        local expected = (weight.grad * direction):sum():item()
        local at = {}
        for k, step in ipairs { -2e-2, 2e-2 } do
          local before = weight:detach():clone()
          weight:detach():copy(before + direction * step)
          at[k] = penalty():item()
          weight:detach():copy(before)
        end
        local measured = (at[2] - at[1]) / 4e-2
        assert.is_true(math.abs(measured - expected) <= 0.02 * math.max(1, math.abs(expected)))
      end
    end
  end)

  it("solves u'' = -π² sin(π x) with a network (Raissi, Perdikaris and Karniadakis, 2019)", function()
    gls.seed(1)
    local network = nn.Sequential { nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1) }
    local adam = optim.Adam(network:parameters(), { learning_rate = 1e-2 })
    local x = gls.linspace(0, 1, 33):reshape(33, 1):requires_grad(true)
    local force = (x:detach() * math.pi):sin() * -math.pi ^ 2
    for _ = 1, 600 do
      local _ <close> = gls.scope()
      local u = network(x) * x * (1 - x) -- 0 at both ends
      local du = gls.grad(u:sum(), x, { create_graph = true })
      local ddu = gls.grad(du:sum(), x, { create_graph = true })
      nn.mse(ddu, force):backward()
      adam:step()
    end
    local u = gls.no_grad(function() return network(x) * x * (1 - x) end)
    assert.is_true((u - (x:detach() * math.pi):sin()):abs():max():item() < 0.02)
  end)

  it("goes through a step of SGD (Finn, Abbeel and Levine, 2017)", function()
    -- L(w − η L'(w)), L = (a w² − b)²: its derivative by hand, with L' and L''.
    local a, b, rate = 1.5, 0.7, 0.05
    local function loss(w) return (a * w ^ 2 - b) ^ 2 end
    local w = leaf { 0.9 }
    local adapted = w - rate * gls.grad(loss(w):sum(), w, { create_graph = true })
    local outer = gls.grad(loss(adapted):sum(), w):item()
    local function first(v) return 4 * a * v * (a * v ^ 2 - b) end
    local second = 4 * a * (a * 0.9 ^ 2 - b) + 8 * a ^ 2 * 0.9 ^ 2
    local expected = first(0.9 - rate * first(0.9)) * (1 - rate * second)
    assert.is_true(math.abs(outer - expected) < 1e-4 * math.abs(expected))
  end)

  it("takes no more memory from step to step", function()
    gls.seed(1)
    local network = nn.Sequential { nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 1) }
    local adam = optim.Adam(network:parameters(), { learning_rate = 1e-3 })
    local x = gls.randn(64, 8):requires_grad(true)
    local live
    for step = 1, 60 do
      local slope = gls.grad(network(x):sum(), x, { create_graph = true });
      (slope ^ 2):mean():backward()
      adam:step()
      if step == 20 then
        gls.collect()
        live = gls.memory().live
      end
    end
    x:zero_grad()
    gls.collect()
    assert.is_true(gls.memory().live <= live)
    assert.equal(0, gls.tape_size())
  end)
end)
