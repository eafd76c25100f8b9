-- Tensors as a script sees them: creation, fields, indexing, conversion, memory.
local gls = require "gls"
local fails = require("tests.lua.failing").matches

describe("creation", function()
  it("takes nested lists, numbers and tensors", function()
    local x = gls.tensor { { 1, 2, 3 }, { 4, 5, 6 } }
    assert.same({ 2, 3 }, x.shape)
    assert.equal("float32", x.type)
    assert.same({ { 1, 2, 3 }, { 4, 5, 6 } }, x:tolist())
    assert.equal(7, gls.tensor(7):item())
    assert.same({}, gls.tensor(7).shape)
    assert.same({ 0 }, gls.tensor({}).shape)
    local copy = gls.tensor(x)
    copy[1] = 0
    assert.equal(1, x[1][1]:item())
  end)

  it("says where a list is ragged or not of numbers", function()
    fails("ragged lists: entry %[2%] has 1 entries where the first has 2", gls.tensor, { { 1, 2 }, { 3 } })
    fails("ragged lists: entry %[2%] is a number", gls.tensor, { { 1 }, 3 })
    fails("ragged lists: entry %[1%]%[2%] is a list", gls.tensor, { { 1, { 2 } } })
    fails("entry %[2%]%[1%] is a string", gls.tensor, { { 1 }, { "a" } })
    fails("int32 takes whole numbers", gls.tensor, { 1.5 }, { type = "int32" })
    fails("uint8 takes whole numbers", gls.tensor, { 256 }, { type = "uint8" })
  end)

  it("makes constants and sequences", function()
    assert.same({ { 0, 0 } }, gls.zeros(1, 2):tolist())
    assert.same({ { 1, 1 } }, gls.ones({ 1, 2 }):tolist())
    assert.same({ 0.5, 0.5 }, gls.full(2, 0.5):tolist())
    assert.same({ { 1, 0, 0 }, { 0, 1, 0 } }, gls.eye(2, 3):tolist())
    assert.same({ 0, 1, 2 }, gls.arange(3):tolist())
    assert.same({ 1, 1.5 }, gls.arange(1, 2, 0.5):tolist())
    assert.same({ 1, 2, 3 }, gls.range(1, 3):tolist())
    assert.same({ 0, 0.5, 1 }, gls.linspace(0, 1, 3):tolist())
    assert.equal("uint8", gls.zeros(2, { type = "uint8" }).type)
    assert.same({ 2, 1 }, gls.ones_like(gls.zeros(2, 1)).shape)
  end)

  it("names wrong options and sizes", function()
    fails('unknown option "typ"; did you mean "type"', gls.zeros, 2, { typ = "int32" })
    fails('unknown type "double"', gls.zeros, 2, { type = "double" })
    fails("size 2 must be a whole number, got 1.5", gls.zeros, 2, 1.5)
    fails("negative", gls.zeros, -1)
    fails("too large", gls.zeros, 1 << 40, 1 << 40)
    fails("at most 8", gls.zeros, 1, 1, 1, 1, 1, 1, 1, 1, 1)
  end)

  it("draws the same numbers for the same seed and any number of threads", function()
    local threads = gls.threads()
    local function draw(n)
      gls.threads(n)
      gls.seed(11)
      return { gls.randn(50000):sum():item(), gls.rand(50000):sum():item(), gls.randperm(1000):tolist(),
        gls.randint(1, 6, 20):tolist() }
    end
    local one, two = draw(1), draw(2)
    gls.threads(threads)
    assert.same(one, two)
    gls.seed(12)
    assert.not_equal(one[1], gls.randn(50000):sum():item())
  end)

  it("continues from a kept random state", function()
    gls.seed(3)
    gls.rand(5)
    local state = gls.random_state()
    local first = gls.randn(4):tolist()
    gls.random_state(state)
    assert.same(first, gls.randn(4):tolist())
    fails("a state is", gls.random_state, { seed = 1 })
  end)

  it("permutes 1 to n", function()
    local list = gls.randperm(100):tolist()
    table.sort(list)
    for i = 1, 100 do assert.equal(i, list[i]) end
  end)
end)

describe("fields and conversion", function()
  it("know their shape", function()
    local x = gls.zeros(2, 3)
    assert.equal(2, #x)
    assert.equal(2, x:dim())
    assert.equal(6, x:numel())
    assert.equal(3, x:size(-1))
    fails("dimension 3 is out of range", x.size, x, 3)
    fails("one element expected", x.item, x)
    fails('field "shape"', function() x.shape = {} end)
  end)

  it("convert with saturation and without undefined values", function()
    local x = gls.tensor { -3.7, 2.9, 300, 0 / 0 }
    assert.same({ -3, 2, 300, 0 }, x:to("int32"):tolist())
    assert.same({ 0, 2, 255, 0 }, x:byte():tolist())
    assert.equal("float32", x:byte():float().type)
    assert.equal("integer", math.type(x:int()[1]:item()))
  end)

  it("print shape, type and values", function()
    local text = tostring(gls.ones(2, 3))
    assert.matches("2×3", text)
    assert.matches("float32", text)
    assert.matches("1", text)
  end)

  it("are equal when they are the same", function()
    local x = gls.ones(2)
    assert.is_true(x == x)
    assert.is_false(x == gls.ones(2))
    assert.is_true(gls.tensor(2) < gls.tensor(3))
    assert.is_true(gls.tensor(2) <= 2)
    fails("one element", function() return x < x end)
  end)
end)

describe("indexing", function()
  local x
  before_each(function() x = gls.tensor { { 1, 2, 3 }, { 4, 5, 6 }, { 7, 8, 9 } } end)

  it("selects from 1 and from the end", function()
    assert.same({ 4, 5, 6 }, x[2]:tolist())
    assert.same({ 7, 8, 9 }, x[-1]:tolist())
    assert.equal(6, x[2][3]:item())
  end)

  it("takes ranges", function()
    assert.same({ { 4, 5, 6 }, { 7, 8, 9 } }, x[{ 2, 3 }]:tolist())
    assert.same({ { 1, 2, 3 }, { 7, 8, 9 } }, x[{ 1, -1, 2 }]:tolist())
    assert.same({ 2, 5 }, x[{ { 1, 2 }, 2 }]:tolist())
    assert.same({ 3, 6, 9 }, x[{ {}, -1 }]:tolist())
    assert.same({ { 2, 3 } }, x[{ { 1, 1 }, { 2, 3 } }]:tolist())
  end)

  it("gives views", function()
    local row = x[2]
    row[1] = 40
    assert.equal(40, x[2][1]:item())
  end)

  it("assigns numbers and tensors, broadcast", function()
    x[1] = 0
    x[{ { 2, 3 }, 1 }] = gls.tensor { -4, -7 }
    x[{ {}, { 3, 3 } }] = gls.tensor { { 1 }, { 2 }, { 3 } }
    assert.same({ { 0, 0, 1 }, { -4, 5, 2 }, { -7, 8, 3 } }, x:tolist())
    x[{}] = x:t()
    assert.same({ { 0, -4, -7 }, { 0, 5, 8 }, { 1, 2, 3 } }, x:tolist())
  end)

  it("says the range that would be right", function()
    fails("index 4 is out of range for dimension 1 of shape %(3×3%): 1 to 3, or %-3 to %-1", function() return x[4] end)
    fails("index 0 is out of range", function() return x[0] end)
    fails("runs backwards", function() return x[{ 3, 1 }] end)
    fails("3 indices for a tensor of shape", function() return x[{ {}, {}, 1 } ][{ {}, {}, 1 }] end)
    fails("set to a number or a tensor, got string", function() x[1] = "a" end)
    fails("does not broadcast", function() x[1] = gls.ones(4) end)
  end)
end)

describe("writing in place", function()
  it("fills, copies and accumulates", function()
    local x = gls.zeros(2, 2)
    assert.is_true(x:fill(2) == x)
    x:copy(gls.tensor { 1, 2 })
    assert.same({ { 1, 2 }, { 1, 2 } }, x:tolist())
    x:accumulate(gls.ones(2, 2), 3)
    assert.same({ { 4, 5 }, { 4, 5 } }, x:tolist())
    fails("copy: ", x.copy, x, gls.ones(3))
  end)
end)

describe("memory", function()
  it("is given back by release, once and for all", function()
    local before = gls.memory().live
    local x = gls.zeros(1000, 1000)
    assert.is_true(gls.memory().live >= before + 4000000)
    x:release()
    assert.is_true(gls.memory().live <= before)
    x:release()
    fails("released", function() return x + 1 end)
    fails("released", function() return x:sum() end)
    fails("released", function() return x.shape end)
    assert.equal("a released tensor", tostring(x))
    assert.is_false(gls.is_tensor(x))
  end)

  it("does not wait for Lua's own idea of when to collect", function()
    gls.collect()
    gls.reset_peak()
    local before = gls.memory().live
    for _ = 1, 200 do local _ = gls.zeros(1000, 1000) end -- 800 MB in all
    assert.is_true(gls.memory().peak - before < 200e6)
  end)

  it("ends with a scope", function()
    local kept, lost, inner
    do
      local scope <close> = gls.scope()
      kept, lost = scope:keep(gls.ones(2)), gls.ones(3)
      do
        local second <close> = gls.scope()
        inner = second:keep(lost * 2)
      end
      assert.same({ 2, 2, 2 }, inner:tolist())
    end
    assert.same({ 1, 1 }, kept:tolist())
    fails("released", function() return lost + 1 end)
    fails("released", function() return inner + 1 end)
    assert.same({ 1 }, gls.ones(1):tolist())
  end)
end)

describe("a coroutine", function()
  local function suspended(f)
    local co = coroutine.create(f)
    assert(coroutine.resume(co))
    return co
  end

  it("that is suspended inside no_grad lets the others record, and does not record itself", function()
    local x = gls.ones(1):requires_grad(true)
    local co = suspended(function()
      local _ <close> = gls.no_grad()
      coroutine.yield()
      return (x * 2):requires_grad()
    end)
    assert.is_true(gls.grad_enabled())
    assert.is_true((x * 2):requires_grad())
    assert.is_false(select(2, coroutine.resume(co)))
    assert.is_true(gls.grad_enabled())
    gls.no_grad(function()
      assert.is_false(coroutine.wrap(function() return (x * 2):requires_grad() end)())
    end)
    suspended(function() gls.no_grad(coroutine.yield) end) -- and dropped
    assert.is_true(gls.grad_enabled())
    collectgarbage()
    collectgarbage()
    assert.is_true(gls.grad_enabled())
  end)

  it("that is suspended or dropped inside a scope keeps its hands off the others' tensors", function()
    local co = suspended(function()
      local scope <close> = gls.scope()
      local own = gls.ones(3)
      coroutine.yield(scope)
      return own
    end)
    local outside = gls.ones(2)
    local _, own = coroutine.resume(co)
    assert.is_false(gls.is_tensor(own))
    assert.equal(2, outside:numel())
    suspended(function()
      local scope <close> = gls.scope()
      coroutine.yield(scope)
    end)
    collectgarbage()
    collectgarbage()
    local made
    do
      local scope <close> = gls.scope()
      made = scope:keep(gls.ones(4))
    end
    assert.equal(4, made:numel())
  end)
end)
