-- Differentiation for scripts: backward, forward mode, no_grad, detach, functions written in Lua.
local gls = require "gls"
local fails = require("tests.lua.failing").matches
local leaf = require("tests.lua.derivatives").leaf

describe("backward", function()
  after_each(function() gls.tape_release() end)

  it("leaves gradients at leaves", function()
    local x, y = leaf { 1, 2, 3 }, gls.tensor { 4, 5, 6 }
    local loss = (x * y + x ^ 2):sum()
    loss:backward()
    assert.same({ 6, 9, 12 }, x.grad:tolist())
    assert.is_nil(y.grad)
  end)

  it("adds up until it is cleared", function()
    local x = leaf { 1, 2 }
    for _ = 1, 2 do (x * 3):sum():backward() end
    assert.same({ 6, 6 }, x.grad:tolist())
    x:zero_grad()
    assert.is_nil(x.grad)
    x.grad = gls.tensor { 1, 1 }
    assert.same({ 1, 1 }, x.grad:tolist())
    fails("shape %(2%) expected", function() x.grad = gls.ones(3) end)
  end)

  it("takes a gradient to start from", function()
    local x = leaf { 1, 2 }
    local y = x * 2
    fails("one element", y.backward, y)
    y:backward(gls.tensor { 10, 100 })
    assert.same({ 20, 200 }, x.grad:tolist())
    fails("shape", y.backward, y, gls.ones(3))
  end)

  it("gives both arguments of maximum and minimum their gradient where one is NaN", function()
    local nan = 0 / 0
    for name, expected in pairs {
      maximum = { { 1, 1, 0.5, 0 }, { 1, 1, 0.5, 1 } }, minimum = { { 1, 1, 0.5, 1 }, { 1, 1, 0.5, 0 } },
    } do
      local x, y = leaf { nan, 1, 2, 3 }, leaf { 1, nan, 2, 4 }
      gls[name](x, y):sum():backward()
      assert.same(expected, { x.grad:tolist(), y.grad:tolist() })
    end
  end)

  it("leaves the gradient that it starts from to its owner", function()
    local x, y = leaf { 1, 2, 3 }, leaf { 4, 5, 6 }
    local seed = gls.ones(3);
    (x + y):backward(seed)
    seed:fill(9)
    assert.same({ 1, 1, 1 }, x.grad:tolist())
    x.grad:fill(5)
    assert.same({ 1, 1, 1 }, y.grad:tolist())
    y:backward(seed)
    seed:fill(0)
    assert.same({ 10, 10, 10 }, y.grad:tolist())
    local weight, input = leaf { { 1, 2 }, { 3, 4 } }, gls.ones(1, 2)
    seed = gls.ones(1, 2)
    input:linear(weight):backward(seed)
    seed:fill(7)
    assert.same({ { 1, 1 }, { 1, 1 } }, weight.grad:tolist())
  end)

  it("goes through indexing and broadcasting", function()
    local x = leaf { { 1, 2 }, { 3, 4 } }
    local b = leaf { 1, 1 };
    (x[{ {}, 2 }] * x[1] + b):sum():backward()
    assert.same({ { 2, 5 }, { 0, 2 } }, x.grad:tolist())
    assert.same({ 1, 1 }, b.grad:tolist())
  end)

  it("gives weights of affine layers the whole gradient", function()
    local x, w, b = gls.tensor { { 1, 2 }, { 3, 4 } }, leaf { { 1 }, { 1 } }, leaf { 0 }
    x:linear(w, b):sum():backward()
    assert.same({ { 4 }, { 6 } }, w.grad:tolist())
    assert.same({ 2 }, b.grad:tolist())
  end)

  it("tells of each leaf's gradient as soon as it is whole, with every use, before those of earlier layers", function()
    local first, both, last = gls.ones(2):requires_grad(true), gls.ones(2, 2):requires_grad(true), gls.ones(2)
    last:requires_grad(true)
    local unused, told = gls.ones(1):requires_grad(true), {}
    local list = { first, both, last, unused }
    local watch = gls.watch_gradients(list, function(i)
      told[#told + 1] = { i, list[i].grad:tolist(), first.grad == nil }
    end)
    local x = (first * 3):view(1, 2):matmul(both):matmul(both) -- x = [3 3], then [6 6], then [12 12]
    ;(x * last):sum():backward()
    assert.same({
      { 3, { 12, 12 }, true },
      { 2, { { 12, 12 }, { 12, 12 } }, true }, -- [6 6]ᵀ[1 1], and [3 3]ᵀ[2 2]
      { 1, { 12, 12 }, false },
    }, told)
    local gradient = both.grad
    assert.is_true(watch:has(2, gradient))
    assert.is_true(watch:has(4, nil))
    gradient:copy(gls.ones(2, 2))
    assert.is_false(watch:has(2, gradient))
    watch:set(3, gls.zeros(2))
    assert.same({ 0, 0 }, last.grad:tolist())
  end)

  it("tells of leaves, not of views of them, which outlive who is told", function()
    local x, told = gls.ones(4):requires_grad(true), 0
    local watch = gls.watch_gradients({ x }, function() told = told + 1 end) -- luacheck: ignore 231
    local view = x:view(2, 2)
    local constant = x:detach():requires_grad(true)
    ;(view * view + constant:view(2, 2)):sum():backward()
    assert.equal(1, told)
    watch = nil -- luacheck: ignore 311
    collectgarbage()
    collectgarbage();
    (view * view + constant:view(2, 2)):sum():backward()
    assert.equal(1, told)
  end)

  it("ends with the error of a function that is told of a gradient", function()
    local x = gls.ones(2):requires_grad(true)
    local watch = gls.watch_gradients({ x }, function() error("not now", 0) end) -- luacheck: ignore 231
    assert.error_matches(function() (x * x):sum():backward() end, "not now")
    watch = nil -- luacheck: ignore 311
    collectgarbage()
    collectgarbage()
    x:zero_grad();
    (x * x):sum():backward()
    assert.same({ 2, 2 }, x.grad:tolist())
  end)

  it("does not go through the condition of where", function()
    local x, y = leaf { 0, 4 }, leaf { 1, 2 }
    gls.where(x:sqrt(), y, x):sum():backward() -- the square root's derivative is infinite at 0
    assert.same({ 1, 0 }, x.grad:tolist())
    assert.same({ 0, 1 }, y.grad:tolist())
  end)

  it("leaves exactly 0 where where did not choose, whatever the gradient above", function()
    local x, y = leaf { 1, 2, 3 }, leaf { 4, 5, 6 }
    local above = gls.tensor { math.huge, 0 / 0, -math.huge }
    gls.where(gls.tensor { 1, 1, 0 }, x, y):mul(above):sum():backward()
    assert.same({ 0, 0 }, { y.grad[1]:item(), y.grad[2]:item() })
    assert.same({ 0, -math.huge }, { x.grad[3]:item(), y.grad[3]:item() })
  end)

  it("refuses what has no derivative", function()
    local x = gls.ones(2)
    fails("no parameter that requires a gradient", function() x:sum():backward() end)
    fails("only a tensor of type float32", function() x:int():requires_grad(true) end)
    fails("only a leaf", function()
      local y = leaf({ 1 }) * 2
      y:requires_grad(false)
    end)
  end)

  it("notices what was changed under the tape", function()
    local x, c = leaf { 1, 2 }, gls.tensor { 3, 4 }
    local loss = (x * c):sum()
    c:fill(0)
    fails("modified in place", loss.backward, loss)
    local y = x * 2
    fails("cannot be written in place", y.fill, y, 0)
    fails("cannot be written in place", function() y[1] = 0 end)
  end)
end)

describe("gradients that a script reads", function()
  it("do not wait for the collector: memory is flat without an optimizer too", function()
    local x, labels = gls.zeros(1000, 1000):requires_grad(true), gls.ones(1000):to "int32"
    local function steps(count)
      for _ = 1, count do
        gls.cross_entropy(x, labels):backward()
        assert(x.grad)
        x:zero_grad()
        gls.tape_release()
      end
      return gls.memory().live
    end
    local early = steps(20)
    assert.is_true(steps(100) <= early + 20000000, "five tensors of slack, a hundred would be 400 MB")
  end)
end)

describe("no_grad and detach", function()
  it("record nothing in a function or a block", function()
    local x = leaf { 1, 2 }
    assert.is_false(gls.no_grad(function() return (x * 2):requires_grad() end))
    do
      local _ <close> = gls.no_grad()
      assert.is_false(gls.grad_enabled())
      assert.is_false((x * 2):requires_grad())
    end
    assert.is_true(gls.grad_enabled())
    assert.is_true((x * 2):requires_grad())
  end)

  it("end with an error too, which passes through", function()
    fails("inside", gls.no_grad, function() error("inside") end)
    assert.is_true(gls.grad_enabled())
    assert.same({ 1, nil, 3 }, { gls.no_grad(function(...) return ... end, 1, nil, 3) })
  end)

  it("cut the graph and share memory", function()
    local x = leaf { 1, 2 }
    local y = (x * 3):detach();
    (x * y):sum():backward()
    assert.same({ 3, 6 }, x.grad:tolist())
    local z = x:detach()
    z[1] = 9
    assert.equal(9, x[1]:item())
    gls.tape_release()
  end)
end)

describe("jvp", function()
  it("is the directional derivative", function()
    local x, w = leaf { 1, 2 }, leaf { 3, 4 }
    local y = (x * w):exp() * 0.01
    local tx, tw = gls.tensor { 1, -1 }, gls.tensor { 0.5, 0 }
    local change = gls.jvp(y, { x, w }, { tx, tw })
    local expected = y:detach() * (tx * w:detach() + x:detach() * tw)
    assert.is_true((change - expected):abs():max():item() < 1e-4)
    fails("2 inputs, but 1", gls.jvp, y, { x, w }, { tx })
    fails("tangent 1 has", gls.jvp, y, { x }, { gls.ones(3) })
    gls.tape_release()
  end)
end)

describe("fn", function()
  local product
  before_each(function()
    product = gls.fn {
      forward = function(context, a, b)
        context.a, context.b = a, b
        return a * b
      end,
      backward = function(context, gradient) return gradient * context.b, gradient * context.a end,
      jvp = function(context, a, b)
        local change = gls.zeros_like(context.a)
        if a then change = change + a * context.b end
        if b then change = change + b * context.a end
        return change
      end,
    }
  end)
  after_each(function() gls.tape_release() end)

  it("is differentiated by its own rules", function()
    local a, b = leaf { 1, 2 }, leaf { 3, 4 };
    (product(a, b) * 2):sum():backward()
    assert.same({ 6, 8 }, a.grad:tolist())
    assert.same({ 2, 4 }, b.grad:tolist())
    assert.same({ 3, 4 }, gls.jvp(product(a, b), { a }, { gls.ones(2) }):tolist())
  end)

  it("passes on what is not a tensor", function()
    local scale = gls.fn {
      forward = function(context, x, factor)
        context.factor = factor
        return x * factor
      end,
      backward = function(context, gradient) return gradient * context.factor end,
    }
    local x = leaf { 1, 1 }
    scale(x, 5):sum():backward()
    assert.same({ 5, 5 }, x.grad:tolist())
  end)

  it("may hand an argument back, or say nil for zero", function()
    local reverse = gls.fn { forward = function(_, x) return x end, backward = function(_, g) return -g end }
    local x = leaf { 1, 2 }
    reverse(x):sum():backward()
    assert.same({ -1, -1 }, x.grad:tolist())
    local stop = gls.fn { forward = function(_, x_) return x_ * 1 end, backward = function() end }
    local y = leaf { 1 }
    stop(y):sum():backward()
    assert.same({ 0 }, y.grad:tolist())
  end)

  it("raises errors of its functions where backward was called", function()
    local function run(backward)
      local f = gls.fn { forward = function(_, x) return x * 1 end, backward = backward }
      f(leaf { 1, 2 }):sum():backward()
    end
    fails("my own mistake", run, function() error("my own mistake") end)
    fails("shape %(3%)", run, function() return gls.ones(3) end)
    fails("must be a tensor or nil, got string", run, function() return "x" end)
    assert.is_true(gls.grad_enabled())
    fails("forward must return a tensor", gls.fn { forward = function() end, backward = function() end })
    fails("backward is missing", gls.fn, { forward = function() end })
    fails('unknown field "forwards"; did you mean "forward"', gls.fn, { forwards = print })
  end)

  it("refuses a tangent that is not as its result", function()
    local x = leaf { 1, 2 }
    for _, wrong in ipairs { gls.ones(), gls.ones(1), gls.ones(5, 2), gls.tensor({ 1, 2 }, { type = "int32" }) } do
      local f = gls.fn {
        forward = function(_, t) return t * 2 end,
        backward = function(_, g) return g * 2 end,
        jvp = function() return wrong end,
      }
      fails("grad_spec.lua:%d+: fn: the result of jvp has type %a+%d+ and shape %(.*%), that of forward float32 and "
        .. "%(2%)", gls.jvp, f(x):tanh(), { x }, { gls.ones(2) })
    end
  end)

  it("is let go with the tape", function()
    local kept = setmetatable({}, { __mode = "k" })
    do
      local f = gls.fn {
        forward = function(context, x)
          kept[context] = true
          return x * 1
        end,
        backward = function(_, g) return g end,
      }
      f(leaf { 1 }):sum():backward()
    end
    gls.tape_release()
    gls.collect()
    assert.is_nil(next(kept))
  end)
end)

describe("gradients of weights, whose products are formed late,", function()
  after_each(function() gls.tape_release() end)

  it("are of the input as it was", function()
    local w, a = leaf { { 1 } }, gls.ones(3, 1)
    for i = 1, 2 do
      a:fill(i)
      a:linear(w):sum():backward()
    end
    assert.same({ { 9 } }, w.grad:tolist())
    w:zero_grad()
    a:linear(w):sum():backward()
    a[{ {}, 1 }] = 7
    assert.same({ { 6 } }, w.grad:tolist())
    local kernel, image = leaf { { { { 1 } } } }, gls.ones(1, 1, 2, 2)
    gls.conv2d(image, kernel):sum():backward()
    image:fill(7)
    assert.equal(4, kernel.grad:sum():item())
  end)

  it("keep what a script has written on them", function()
    local w, a = leaf { { 1 } }, gls.ones(3, 1)
    a:linear(w):sum():backward()
    w.grad:fill(100)
    a:linear(w):sum():backward()
    assert.same({ { 103 } }, w.grad:tolist())
  end)

  it("outlive the step of another optimizer", function()
    local optim = require "gls.optim"
    local w, v = leaf { { 1 } }, leaf { { 1 } }
    local one = optim.SGD({ w }, { learning_rate = 0.1 })
    local other = optim.SGD({ v }, { learning_rate = 0.1 })
    gls.ones(3, 1):linear(w):linear(v):sum():backward()
    gls.collect() -- nobody but the gradients holds the loss any more
    one:step()
    other:step()
    assert.is_true((w - 0.7):abs():item() < 1e-6 and (v - 0.7):abs():item() < 1e-6)
  end)

  it("are of parameters as they were, where one is the input of another", function()
    local optim = require "gls.optim"
    for _, class in ipairs { optim.SGD, optim.Adam } do
      local w, v = leaf { { 1, 2 } }, leaf { { 3 }, { 4 } }
      local optimizer = class({ w, v }, { learning_rate = 0.5 })
      w:linear(v):sum():backward()
      optimizer:step()
      local step = class == optim.SGD and { 0.5, 1 } or { 0.5, 0.5 }
      assert.is_true((v - gls.tensor { { 3 - step[1] }, { 4 - step[2] } }):abs():max():item() < 1e-5)
    end
    local x, w = leaf { { 1, 2 }, { 3, 1 } }, leaf { { 3 }, { 4 } } -- an input whose gradient is wanted beside
    local optimizer = optim.GLS { w }
    gls.mse(x:linear(w), gls.zeros(2, 1)):backward()
    optimizer:step()
    assert.equal(1, optimizer:report().steps)
    assert.is_true((w - gls.tensor { { 3 }, { 4 } }):abs():max():item() > 0.5)
  end)

  it("are no factors for GLS once an input was written on", function()
    local optim = require "gls.optim"
    local w, a = leaf { { 1 } }, gls.ones(3, 1)
    local optimizer = optim.GLS { w }
    gls.mse(a:linear(w), gls.zeros(3, 1)):backward()
    a:fill(7)
    fails("modified in place between backward and step", optimizer.step, optimizer)
    optimizer:zero_grad()
  end)
end)

describe("the tape", function()
  after_each(function() gls.tape_release() end)

  it("takes a gradient set before anything was recorded", function()
    local glsrun = os.getenv "GLSRUN" or "build/glsrun"
    local script = "local gls = require [[gls]] local p = gls.tensor({ 1 }, { requires_grad = true }) "
      .. "p.grad = gls.ones(1)"
    assert.is_true(os.execute(("unset LD_PRELOAD; '%s' -e '%s'"):format(glsrun, script)))
  end)

  it("stays while a function of the script's lets go of it", function()
    for _, let_go in ipairs {
      function() gls.tape_release() end,
      function(y)
        y:release()
        collectgarbage()
        collectgarbage()
      end,
    } do
      local x, y = leaf { 1 }, nil
      local f = gls.fn {
        forward = function(_, a) return a * 2 end,
        backward = function(_, g)
          let_go(y)
          return g
        end,
      }
      y = f(x * 3) * 4
      y:backward()
      assert.same({ 12 }, x.grad:tolist())
      gls.tape_release()
    end
    assert.equal(0, gls.tape_size())
    local x, y = leaf { 1 }, nil
    local f = gls.fn {
      forward = function(_, a) return a * 2 end,
      backward = function(_, g) return g end,
      jvp = function(_, t)
        y:release()
        x:release()
        collectgarbage()
        return t
      end,
    }
    y = f(x * 3) * 4
    assert.same({ 12 }, gls.jvp(y, { x }, { gls.ones(1) }):tolist())
  end)

  it("refuses functions that release their arguments", function()
    local f = gls.fn {
      forward = function(_, a)
        a:release()
        return gls.ones(1)
      end,
      backward = function(_, g) return g end,
    }
    fails("has released one of its arguments", function() f(leaf { 1 } * 3) end)
    local h = leaf { 1 } * 3
    fails("has released argument 1", gls.fuse(function(a)
      h:release()
      return a * 2
    end), h)
  end)

  it("gives forward mode at the recorded point, by leaves and by tensors on the tape", function()
    local x = leaf { 1, 2 }
    local h = x * 2
    local y = h * x
    assert.same({ 1, 2 }, gls.jvp(y, { h }, { gls.ones(2) }):tolist())
    assert.same({ 3, 6 }, gls.jvp(y, { x, h }, { gls.ones(2), gls.ones(2) }):tolist()) -- h moves as is said
    fails("no tensor that requires", gls.jvp, y, { gls.ones(2) }, { gls.ones(2) })
    fails("are one tensor", gls.jvp, y, { x, x }, { gls.ones(2), gls.ones(2) })
    assert.same({ 1, 1 }, gls.jvp(x, { x }, { gls.ones(2) }):tolist())
    assert.same({ 4, 8 }, gls.jvp(y, { x }, { gls.ones(2) }):tolist())
    x:detach():fill(5)
    fails("modified in place", gls.jvp, y, { x }, { gls.ones(2) })
  end)

  it("refuses writing on a view that repeats an element", function()
    local x = gls.zeros(1):expand(4)
    fails("repeats one element", x.copy, x, gls.ones(4))
    fails("repeats one element", function() x[1] = 2 end)
  end)
end)
