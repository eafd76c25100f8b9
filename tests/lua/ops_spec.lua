-- Ops as functions, methods and operators: how arguments are given, and what is said when they are wrong.
local gls = require "gls"
local fails = require("tests.lua.failing").matches

describe("every row of the op table", function()
  it("is a documented function that names its arguments", function()
    local names = gls.op_names()
    assert.is_true(#names > 50)
    for _, name in ipairs(names) do
      assert.is_function(gls[name])
      local doc = gls.documentation(name)
      assert.equal(name .. "(", doc:sub(1, #name + 1))
      assert.matches("\n%S", doc)
    end
  end)

  it("refuses arguments of the wrong kind without ending the program", function()
    for _, name in ipairs(gls.op_names()) do
      for _, argument in ipairs { "text", true, print } do
        local ok, message = pcall(gls[name], argument)
        assert.is_false(ok)
        assert.matches("^" .. name .. ": ", (message:gsub("^[^\n]-%.lua:%d+: ", "")))
      end
      pcall(gls[name])
      pcall(gls[name], gls.ones(2), gls.ones(3), gls.ones(4), gls.ones(5), gls.ones(6))
      pcall(gls[name], gls.zeros(0, 3), gls.zeros(0, 3), gls.zeros(0))
      pcall(gls[name], gls.tensor(1), 1, 1, 1, 1)
    end
  end)
end)

describe("help", function()
  it("suggests the nearest name", function()
    fails('did you mean "conv2d"', gls.help, "conv2")
  end)
end)

describe("arguments", function()
  local x
  before_each(function() x = gls.tensor { { 1, 2, 3 }, { 4, 5, 6 } } end)

  it("are positional or named", function()
    assert.same({ 5, 7, 9 }, x:sum(1):tolist())
    assert.same({ { 5, 7, 9 } }, x:sum(1, true):tolist())
    assert.same({ { 21 } }, x:sum { dims = { 1, 2 }, keep = true }:tolist())
    assert.same({ 6, 15 }, gls.sum(x, { dims = -1 }):tolist())
    assert.equal(21, x:sum():item())
    assert.equal(21, x:sum({ 1, 2 }):item())
    assert.equal(21, x:sum(1, 2):item())
    assert.same({ { 6 }, { 15 } }, x:sum(2, { keep = true }):tolist())
  end)

  it("take sizes and orders as numbers or a list", function()
    assert.same({ 3, 2 }, x:view(3, 2).shape)
    assert.same({ 3, 2 }, x:view({ 3, -1 }).shape)
    assert.same({ 3, 2 }, x:permute(2, 1).shape)
    assert.same({ 3, 2 }, x:permute({ 2, 1 }).shape)
  end)

  it("take lists of tensors and of indices", function()
    assert.same({ 4, 3 }, gls.cat({ x, x }).shape)
    assert.same({ 2, 6 }, gls.cat({ x, x }, 2).shape)
    assert.same({ { 4, 5, 6 }, { 1, 2, 3 } }, gls.index_select(x, 1, { 2, 1 }):tolist())
    fails("entry 2 of tensors must be a tensor", gls.cat, { x, 3 })
  end)

  it("that are wrong are named, with the call", function()
    fails('sum: there is no argument "dim"; did you mean "dims"', x.sum, x, { dim = 1 })
    fails("call is sum%(x, dims=all, keep=false%)", x.sum, x, { dim = 1 })
    fails('argument "keep" is given twice', x.sum, x, 1, true, { keep = true })
    fails("keep must be true or false, got string", x.sum, x, 1, "yes")
    fails("dims must be whole numbers or a list of them, got 1.5", x.sum, x, 1.5)
    fails("dimensions start at 1", x.sum, x, 0)
    fails("dimension 3 is out of range", x.sum, x, 3)
    fails("too many arguments", x.relu, x, 1)
    fails('argument "x", a tensor, is missing', gls.relu)
    fails("x must be a tensor, got table", gls.relu, { 1 })
    fails("must be a tensor of type float32, got int32", gls.relu, gls.zeros(2, { type = "int32" }))
    fails("add: .*%(2×3%) and %(4%)", function() return x + gls.ones(4) end)
    fails("matmul: .*%(2×3%).*%(2×3%)", x.matmul, x, x)
    local long = gls.ones(1, 1):expand(3000000000, 1) -- a view: no memory is taken
    fails("matmul: a matrix product has at most 2147483647 rows", long.matmul, long, gls.ones(1, 1))
    fails("linear: a matrix product has at most 2147483647 rows", gls.linear, long, gls.ones(1, 1))
  end)

  it("in error name the line of the script", function()
    local ok, message = pcall(function()
      local y = x + gls.ones(4)
      return y
    end)
    assert.is_false(ok)
    assert.matches("ops_spec%.lua:%d+: add", message)
  end)
end)

describe("operators", function()
  local x, y
  before_each(function() x, y = gls.tensor { 1, 2, 4 }, gls.tensor { 2, 2, 8 } end)

  it("work on tensors", function()
    assert.same({ 3, 4, 12 }, (x + y):tolist())
    assert.same({ -1, 0, -4 }, (x - y):tolist())
    assert.same({ 2, 4, 32 }, (x * y):tolist())
    assert.same({ 0.5, 1, 0.5 }, (x / y):tolist())
    assert.same({ 1, 4, 16 }, (x ^ gls.tensor(2)):tolist())
    assert.same({ -1, -2, -4 }, (-x):tolist())
  end)

  it("work with numbers on either side", function()
    assert.same({ 2, 3, 5 }, (x + 1):tolist())
    assert.same({ 2, 3, 5 }, (1 + x):tolist())
    assert.same({ 0, 1, 3 }, (x - 1):tolist())
    assert.same({ 0, -1, -3 }, (1 - x):tolist())
    assert.same({ 3, 6, 12 }, (3 * x):tolist())
    assert.same({ 0.5, 1, 2 }, (x / 2):tolist())
    assert.same({ 1, 0.5, 0.25 }, (1 / x):tolist())
    assert.same({ 2, 1, 0.5 }, (2 / x):tolist())
    assert.same({ 1, 4, 16 }, (x ^ 2):tolist())
    assert.same({ 2, 4, 16 }, (2 ^ x):tolist())
  end)

  it("broadcast as NumPy does", function()
    local column = gls.tensor { { 10 }, { 20 } }
    assert.same({ { 11, 12, 14 }, { 21, 22, 24 } }, (column + x):tolist())
  end)

  it("say what does not fit", function()
    fails("right operand of %+ is string", function() return x + "1" end)
    fails("left operand of %* is table", function() return {} * x end)
  end)

  it("are exact for integers, floor // and %, and refuse what a type does not hold", function()
    local a = gls.tensor({ -7, 5, 100 }, { type = "int32" })
    assert.same({ { -6, 6, 101 }, "int32" }, { (a + 1):tolist(), (a + 1).type })
    assert.same({ -4, 2, 50 }, (a // 2):tolist())
    assert.same({ 1, 1, 0 }, (a % 2):tolist())
    assert.same({ -1, 0, 0 }, (3 // a):tolist())
    assert.same({ { -3.5, 2.5, 50 }, "float32" }, { (a / 2):tolist(), (a / 2).type })
    assert.same({ { -6.5, 5.5, 100.5 }, "float32" }, { (a + 0.5):tolist(), (a + 0.5).type })
    assert.same({ { 0, 5, 100 }, "int32" }, { a:maximum(0):tolist(), a:maximum(0).type })
    assert.same({ { 0, 5, 100 }, "int32" }, { gls.where(a:lt(0), 0, a):tolist(), gls.where(a:lt(0), 0, a).type })
    assert.same({ { 0, 0, 1 }, "float32" }, { gls.where(a:gt(5), 1, 0):tolist(), gls.where(a:gt(5), 1, 0).type })
    assert.same({ -2, 2 }, (gls.tensor { -3.5, 5.5 } // 2):tolist())
    assert.same({ 0.5, 1.5 }, (gls.tensor { -3.5, 5.5 } % 2):tolist())
    fails("mul: a result is %-7000000000, which int32 does not hold", function() return a * 1000000000 end)
    fails("divided by 0", function() return a // 0 end)
    fails("more than int32 holds", function() return a + (1 << 40) end)
  end)
end)

describe("images", function()
  it("have the same maxima whether their places are kept or not", function()
    local x = gls.randn(2, 3, 9, 34)
    x[1][1][1][2] = 0 / 0
    x[2][2][4][3] = 0 / 0
    for _, windows in ipairs { { 2, 2 }, { 3, 2, 1 } } do
      local plain = gls.max_pool2d(x, table.unpack(windows))
      local recorded = gls.max_pool2d(x:clone():requires_grad(true), table.unpack(windows))
      recorded = recorded:detach()
      local same = (plain:eq(recorded) + plain:ne(plain) * recorded:ne(recorded)):sum():item()
      assert.equal(#plain:view(-1), same)
      assert.is_true(plain:ne(plain):sum():item() >= 2)
    end
  end)

  it("without pixels, and steps beyond measure, are refused", function()
    fails("does not fit in images %(1×1×0×4%)", gls.max_pool2d, gls.ones(1, 1, 0, 4), 2, 2, 1)
    fails("kernel of", gls.conv2d, gls.ones(1, 1, 0, 4), gls.ones(1, 1, 1, 1))
    for i, name in ipairs { "stride", "padding", "dilation" } do
      local geometry = { 1, 0, 1 }
      geometry[i] = 2 ^ 40
      fails("conv2d: " .. name .. " is 1099511627776, it goes from [01] to", gls.conv2d, gls.ones(1, 1, 4, 4),
        gls.ones(1, 1, 2, 2), nil, table.unpack(geometry))
    end
  end)
end)

describe("norms of rows", function()
  it("that are constant are zero, however long", function()
    for _, width in ipairs { 33, 784, 4096 } do
      local largest = gls.layer_norm(gls.full(2, width, 1000.1)):abs():max():item()
      -- the sanitizers' build rounds products elsewhere
      assert.is_true(largest <= ((os.getenv "SANITIZE" or "") ~= "" and 1e-8 or 0), tostring(largest))
    end
    fails("groups do not divide", gls.group_norm, gls.zeros(4, 0, 1), nil, nil, 5)
  end)
end)

describe("layouts", function()
  local function same(a, b) return (a - b):abs():max():item() == 0 end

  it("of operands make no difference, large or small", function()
    for _, size in ipairs { { 3, 5 }, { 90, 70 }, { 130, 64 } } do
      local x, y = gls.randn(size[1], size[2]), gls.randn(size[2], size[1])
      local turned = y:t():clone()
      assert.is_true(same(x + y:t(), x + turned))
      assert.is_true(same(gls.where(y:t():gt(0), x, y:t()), gls.where(turned:gt(0), x, turned)))
      assert.is_true(same(x:masked_fill(y:t():gt(0), 7), x:masked_fill(turned:gt(0), 7)))
      local f = gls.fuse(function(a, b) return gls.tanh(a * b) + b end)
      assert.is_true(same(f(x, y:t()), f(x, turned)))
      y:requires_grad(true)
      local seed = gls.randn(size[1], size[2])
      x:mul(y:t()):backward(seed)
      assert.is_true(same(y.grad, (x * seed):t()))
    end
  end)

  it("of images survive there and back", function()
    local x = gls.randn(3, 18, 7, 21)
    local last = x:permute(1, 3, 4, 2):contiguous()
    assert.is_true(same(last:permute(1, 4, 2, 3):contiguous(), x))
    assert.equal(x[2][5][7][20]:item(), last[2][7][20][5]:item())
    assert.is_true(same(x:flip(4):flip(4), x))
  end)

  it("of means under windows: pairs, single numbers, anything", function()
    local x = gls.randn(2, 3, 8, 36)
    local pairs_of = x:view(2, 3, 4, 2, 18, 2):mean { dims = { 4, 6 } }
    assert.is_true((gls.avg_pool2d(x, 2) - pairs_of):abs():max():item() < 1e-6)
    local all = x:view(2, 3, 288):mean { dims = 3 }
    assert.is_true((gls.adaptive_avg_pool2d(x, 1):view(2, 3) - all):abs():max():item() < 1e-6)
    x:requires_grad(true)
    local seed = gls.randn(2, 3, 4, 18)
    gls.avg_pool2d(x, 2):backward(seed)
    assert.is_true((x.grad[2][3][7][35] - seed[2][3][4][18] / 4):abs():item() < 1e-7)
  end)

  it("of columns picked and put back", function()
    local x, index = gls.randn(40, 500):requires_grad(true), gls.randint(1, 500, 700)
    local picked, seed = x:index_select(2, index), gls.randn(40, 700)
    local one_hot = gls.one_hot(index, 500)
    assert.is_true((picked - x:matmul(one_hot:t())):abs():max():item() < 1e-5)
    picked:backward(seed)
    assert.is_true((x.grad - seed:matmul(one_hot)):abs():max():item() < 1e-4)
  end)
end)

describe("linear algebra", function()
  local a
  before_each(function()
    gls.seed(5)
    local m = gls.randn(30, 8)
    a = m:t():matmul(m)
  end)

  local function largest(x) return x:abs():max():item() end

  it("factors and solves", function()
    local factor = gls.cholesky(a)
    assert.is_true(largest(factor:matmul(factor:t()) - a) < 1e-4)
    assert.equal(0, factor[1][8]:item())
    local b = gls.randn(8, 3)
    assert.is_true(largest(a:matmul(gls.cholesky_solve(factor, b)) - b) < 1e-3)
    assert.same({ 8 }, gls.cholesky_solve(factor, gls.randn(8)).shape)
    fails("not positive definite", gls.cholesky, -a)
    fails("a square matrix", gls.cholesky, gls.ones(2, 3))
    fails("with 8 rows expected", gls.cholesky_solve, factor, gls.ones(7))
  end)

  it("finds eigenvalues in ascending order and vectors in columns", function()
    local values, vectors = gls.eigh(a)
    assert.is_true(largest(a:matmul(vectors) - vectors * values) < 1e-3)
    local list = values:tolist()
    for i = 2, #list do assert.is_true(list[i] >= list[i - 1]) end
  end)

  it("makes orthogonal matrices, tall and wide", function()
    local q = gls.orthogonal(gls.randn(20, 6))
    assert.is_true(largest(q:t():matmul(q) - gls.eye(6)) < 1e-5)
    local r = gls.orthogonal(gls.randn(6, 20))
    assert.is_true(largest(r:matmul(r:t()) - gls.eye(6)) < 1e-5)
  end)
end)

describe("x:clone()", function()
  it("has memory of its own and lets derivatives through", function()
    local x = gls.tensor({ 1, 2, 3 }):requires_grad(true)
    local copy = x:clone();
    (copy * copy):sum():backward()
    assert.same({ 2, 4, 6 }, x.grad:tolist())
    local plain = x:detach():clone()
    plain:fill(0)
    assert.same({ 1, 2, 3 }, x:tolist())
  end)
end)
