-- gls.fuse: elementwise functions as one op, against the same functions op by op.
local gls = require "gls"
local nn, optim = gls.nn, gls.optim
local fails = require("tests.lua.failing").matches

local function near(a, b, bound)
  assert.same(a.shape, b.shape)
  if a:numel() == 0 then return end
  local difference = (a - b):abs():max():item()
  assert.is_true(difference <= (bound or 1e-6), ("differ by %g"):format(difference))
end

local function chain(x, y) return ((x * y + x):tanh() / 2 - y):relu() end

-- Values, gradients and tangents of f and of its fused form.
local function agree(f, inputs)
  local fused = gls.fuse(f)
  local leaves, tangents = {}, {}
  for _, input in ipairs(inputs) do
    if input:requires_grad() then
      leaves[#leaves + 1] = input
      tangents[#tangents + 1] = gls.randn_like(input)
    end
  end
  local expected, got = f(table.unpack(inputs)), fused(table.unpack(inputs))
  near(expected, got)
  if #leaves == 0 then return end
  near(gls.jvp(expected, leaves, tangents), gls.jvp(got, leaves, tangents), 1e-5)
  local seed, gradients = gls.randn_like(expected), {}
  expected:backward(seed)
  for i, leaf in ipairs(leaves) do
    gradients[i] = leaf.grad:clone()
    leaf:zero_grad()
  end
  got:backward(seed)
  for i, leaf in ipairs(leaves) do
    near(gradients[i], leaf.grad, 1e-5 * (1 + gradients[i]:numel() ^ -1 * expected:numel()))
    leaf:zero_grad()
  end
end

local function leaf(...) return gls.randn(...):requires_grad(true) end

describe("gls.fuse", function()
  before_each(function() gls.seed(3) end)
  after_each(function() gls.tape_release() end)

  it("gives what the function gives op by op, of any shapes that broadcast", function()
    for _, shapes in ipairs {
      { { 3, 4 }, { 3, 4 } }, { { 200, 300 }, { 300 } }, { { 5 }, { 4, 1 } }, { { 70, 1 }, { 1, 90 } },
      { { 1 }, { 1 } }, { { 3, 0 }, { 1 } }, { {}, { 2, 3 } }, { {}, {} },
    } do
      agree(chain, { leaf(shapes[1]), leaf(shapes[2]) })
      agree(chain, { leaf(shapes[1]), gls.randn(shapes[2]) })
      agree(chain, { gls.randn(shapes[1]), gls.randn(shapes[2]) })
    end
  end)

  it("takes strided views", function()
    local x, y = leaf(6, 8), leaf(8, 6)
    local fused = gls.fuse(chain)
    local expected, got = chain(x:transpose(1, 2), y), fused(x:transpose(1, 2), y)
    near(expected, got)
    local seed = gls.randn(6, 8):transpose(1, 2)
    expected:backward(seed)
    local gx, gy = x.grad:clone(), y.grad:clone()
    x:zero_grad()
    y:zero_grad()
    got:backward(seed)
    near(gx, x.grad)
    near(gy, y.grad)
    near(chain(x[{ {}, { 1, 8, 2 } }], y[{ 1, { 1, 4 } }]), fused(x[{ {}, { 1, 8, 2 } }], y[{ 1, { 1, 4 } }]))
  end)

  it("takes numbers, named arguments, comparisons and where", function()
    agree(function(x, y)
      local scaled = gls.maximum(2 / (x ^ 2 + 1), 0.5) - 3 ^ y:clamp { min = -1, max = 1 }
      return gls.where(x:gt(y), scaled:gelu { tanh = true }, -scaled:abs() + gls.minimum(x, 0.1):sigmoid())
    end, { leaf(7, 9), leaf(9) })
    local fused = gls.fuse(function(x, scale) return x * scale + 1 end)
    assert.same({ 3, 5 }, fused(gls.tensor { 1, 2 }, 2):tolist())
    assert.same({ 4, 7 }, fused(gls.tensor { 1, 2 }, 3):tolist())
    local mask = gls.tensor({ 1, 0, 2 }):to "uint8"
    local masked = gls.fuse(function(m, x) return gls.where(m, x, 0) end)
    assert.same({ 5, 0, 5 }, masked(mask, gls.full({ 3 }, 5)):tolist())
    assert.same({ 5, 5 }, masked(gls.ones(2), gls.full({ 2 }, 5)):tolist())
  end)

  it("calls the function once for each number and types of arguments", function()
    local calls = 0
    local fused = gls.fuse(function(x, y)
      calls = calls + 1
      return y and x:gt(y) or x * 1
    end)
    fused(gls.ones(2))
    fused(gls.ones(3, 4))
    assert.equal(1, calls)
    fused(gls.ones(2), gls.ones(2))
    fused(gls.ones(2), gls.ones(2):int())
    assert.equal(3, calls)
  end)

  it("becomes part of a fused function that calls it, and gives an argument back", function()
    local square = gls.fuse(function(x) return x * x end)
    agree(function(x, y) return square(x + y) - square(y) end, { leaf(5), leaf(5) })
    local x = leaf(4)
    local same = gls.fuse(function(a, _) return a end)(x, gls.ones(3))
    assert.same(x:tolist(), same:tolist())
    same:backward(gls.full({ 4 }, 2))
    assert.same({ 2, 2, 2, 2 }, x.grad:tolist())
  end)

  it("is one step on the tape, which keeps the arguments and notices their change", function()
    local x, c = leaf(3), gls.randn(3)
    local before = gls.tape_size()
    local y = gls.fuse(chain)(x, c)
    assert.equal(before + 1, gls.tape_size())
    c:fill(0)
    fails("fuse: argument 2, shape %(3%), was modified in place", y.backward, y, gls.ones(3))
  end)

  it("outlives its function as long as the tape needs it", function()
    local x = leaf(3)
    local y = gls.fuse(function(a) return a * 3 end)(x)
    collectgarbage()
    collectgarbage()
    y:sum():backward()
    assert.same({ 3, 3, 3 }, x.grad:tolist())
  end)

  it("names what is not elementwise", function()
    local x = gls.ones(3)
    fails("fuse_spec.lua:%d+: fuse: sum is not elementwise", gls.fuse(function(a) return a - a:sum() end), x)
    fails("fuse: matmul is not elementwise", gls.fuse(function(a) return gls.matmul(a, a) end), x)
    fails("fuse: item is not an elementwise op", gls.fuse(function(a) return a * a:item() end), x)
    fails("fuse: shape is not an elementwise op", gls.fuse(function(a) return a * a.shape[1] end), x)
    fails("fuse: 1 is not an elementwise op", gls.fuse(function(a) return a[1] end), x)
    fails("no values yet", gls.fuse(function(a) return a > 0 and a or -a end), x)
    fails("clamp: min 2 is above max 1", gls.fuse(function(a) return a:clamp(2, 1) end), x)
    fails("did you mean \"min\"", gls.fuse(function(a) return a:clamp { mim = 1 } end), x)
    fails("add takes a tensor that is not an argument", gls.fuse(function(a) return a + x end), x)
    fails("must return one value computed from its arguments, got number", gls.fuse(function() return 1 end), x)
    fails("got none or several", gls.fuse(function(a) return a, a end), x)
    fails("does not depend on any argument", gls.fuse(function() return gls.add(1, 2) end), x)
    fails("add of integers alone is not fused", gls.fuse(function(a) return a + 1 end), x:int())
    fails("argument 2 must be a tensor or a number, got string", gls.fuse(chain), x, "2")
    fails("0 arguments", gls.fuse(function() return 1 end))
    fails("shapes do not broadcast: %(3%) and %(2%)", gls.fuse(chain), x, gls.ones(2))
    fails("inside", gls.fuse(function() error "inside" end), x)
    fails("must be a function", gls.fuse, 3)
    local kept
    gls.fuse(function(a) kept = a return a + 1 end)(x)
    fails("belongs to another call", gls.fuse(function(a) return a + kept end), x)
    assert.same({ 2, 2, 2 }, gls.fuse(function(a) return a + 1 end)(x):tolist(), "and errors leave nothing behind")
  end)

  it("has a text of its own in the help", function()
    assert.matches("one op that passes over its arguments once", gls.documentation "fuse")
  end)
end)

describe("a fused activation", function()
  after_each(function() gls.tape_release() end)

  it("lets the automatic step of GLS through", function()
    local function swish(x) return x * (x * 1.7):sigmoid() end
    local function trained(activation)
      gls.seed(5)
      local Activation = nn.class "Activation"
      function Activation.forward(_, x) return activation(x) end
      local model = nn.Sequential { nn.Linear(6, 16), Activation(), nn.Linear(16, 3) }
      local x, labels = gls.randn(40, 6), gls.randint(1, 3, 40)
      local optimizer = optim.GLS(model:parameters(), { rows = 0.25 })
      local loss
      for _ = 1, 8 do
        loss = nn.cross_entropy(model(x), labels)
        loss:backward()
        optimizer:step()
      end
      return loss:item(), nn.cross_entropy(model(x), labels):item()
    end
    local apart, after_apart = trained(swish)
    local fused, after_fused = trained(gls.fuse(swish))
    assert.is_true(after_apart < 0.5, "learns")
    assert.near(apart, fused, 1e-3)
    assert.near(after_apart, after_fused, 1e-3)
  end)
end)
