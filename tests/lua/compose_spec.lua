--- Functions of tensors that are compositions of rows (gls.tensor), and x[mask], x[index]: values against definitions
-- written out here, or NumPy's (2.4, the same calls) where a comment says so; gradients against differences.
local gls = require "gls"
local fails = require("tests.lua.failing").says

local function int(values) return gls.tensor(values, { type = "int32" }) end

local function lists(tensors)
  local all = {}
  for i, tensor in ipairs(tensors) do all[i] = tensor:tolist() end
  return all
end

-- The gradient of a weighted sum of f's result, and its change along a direction, are those of differences.
local function differentiable(f, ...)
  local inputs = { ... }
  for _, x in ipairs(inputs) do x:requires_grad(true) end
  local function loss()
    local y = f(table.unpack(inputs))
    return (y * (gls.arange(y:numel()):reshape(y.shape) * 1.7):sin()):sum()
  end
  local directions = {}
  for i, x in ipairs(inputs) do directions[i] = (gls.arange(x:numel()):reshape(x.shape) * 2.3 + i):cos() end
  local value = loss()
  local change = gls.jvp(value, inputs, directions):item()
  value:backward()
  local product, step, ends = 0, 1e-2, {}
  for i, x in ipairs(inputs) do product = product + (x.grad * directions[i]):sum():item() end
  gls.tape_release()
  for _, sign in ipairs { 1, -1 } do
    gls.no_grad(function()
      for i, x in ipairs(inputs) do x:copy(x + directions[i] * (sign * step)) end
      ends[#ends + 1] = loss():item()
      for i, x in ipairs(inputs) do x:copy(x - directions[i] * (sign * step)) end
    end)
  end
  local difference = (ends[1] - ends[2]) / (2 * step)
  local size = 1 + math.abs(difference)
  assert.is_true(math.abs(product - difference) < 2e-3 * size, ("backward: %g, not %g"):format(product, difference))
  assert.is_true(math.abs(change - difference) < 2e-3 * size, ("forward: %g, not %g"):format(change, difference))
end

describe("parts", function()
  local x = int { { 1, 2, 3, 4, 5 }, { 6, 7, 8, 9, 10 } }

  it("split cuts into equal sizes and a rest, or into given sizes", function()
    assert.same({ { { 1, 2 }, { 6, 7 } }, { { 3, 4 }, { 8, 9 } }, { { 5 }, { 10 } } }, lists(x:split(2, 2)))
    assert.same({ { { 1 }, { 6 } }, { {}, {} }, { { 2, 3, 4, 5 }, { 7, 8, 9, 10 } } }, lists(x:split({ 1, 0, 4 }, -1)))
    assert.same({ { { 1, 2, 3, 4, 5 } }, { { 6, 7, 8, 9, 10 } } }, lists(gls.split(x, 1)))
    assert.same({ 0, 3 }, gls.zeros(0, 3):split(2)[1].shape)
    fails("split: the sizes 1, 3 do not add up to the 5 places of dimension 2", x.split, x, { 1, 3 }, 2)
    fails("split: the sizes 3, 3 do not add up", x.split, x, { 3, 3 }, 2)
    fails("split: size must be a whole number from 1 on, got 0", x.split, x, 0)
    fails("split: size 2 must be a whole number from 0 on, got table", x.split, x, { 1, {} }, 2)
    fails("split: size 2 must be a whole number from 0 on, got nil", x.split, x, { 1, nil, 4 }, 2)
    fails("split: dimension 3 is out of range: the tensor has 2 (1 to 2, or -2 to -1)", x.split, x, 1, 3)
    fails("split: x must be a tensor, got 3", gls.split, 3, 1)
  end)

  it("chunk gives as many parts as asked, the first ones longer", function()
    assert.same({ 2, 2, 1 }, { x:chunk(3, 2)[1]:size(2), x:chunk(3, 2)[2]:size(2), x:chunk(3, 2)[3]:size(2) })
    assert.equal(0, x:chunk(3)[3]:size(1))
    differentiable(function(t)
      local a, b = table.unpack(t:chunk(2, 2))
      return a * b:tanh()
    end, gls.randn(3, 6))
  end)

  it("unbind is undone by stack", function()
    assert.same({ { 1, 6 }, { 2, 7 }, { 3, 8 }, { 4, 9 }, { 5, 10 } }, lists(x:unbind(2)))
    assert.same(x:tolist(), gls.stack(x:unbind(), 1):tolist())
  end)

  it("roll moves places on, along dimensions or through all", function()
    assert.same({ { 4, 5, 1, 2, 3 }, { 9, 10, 6, 7, 8 } }, x:roll(2, 2):tolist())
    assert.same({ { 2, 3, 4, 5, 1 }, { 7, 8, 9, 10, 6 } }, x:roll(-6, -1):tolist())
    assert.same({ { 10, 1, 2, 3, 4 }, { 5, 6, 7, 8, 9 } }, x:roll(1):tolist())
    assert.same({ { 10, 6, 7, 8, 9 }, { 5, 1, 2, 3, 4 } }, x:roll({ 1, 1 }, { 1, 2 }):tolist())
    assert.same({ 0, 3 }, gls.zeros(0, 3):roll(2, 1).shape)
    fails("roll: shift must be a whole number, got nil", x.roll, x)
    fails("roll: 1 shifts for 2 dimensions", x.roll, x, 1, { 1, 2 })
    differentiable(function(t) return t:roll({ 2, -1 }, { 1, 2 }) end, gls.randn(3, 4))
  end)

  it("repeat_interleave repeats every place, or each as often as its count", function()
    assert.same({ 1, 1, 2, 2 }, int({ 1, 2 }):repeat_interleave(2):tolist())
    assert.same({ { 1, 3, 3, 3, 5, 5 }, { 6, 8, 8, 8, 10, 10 } }, x:repeat_interleave({ 1, 0, 3, 0, 2 }, 2):tolist())
    assert.same({ 0, 5 }, x:repeat_interleave(0).shape)
    assert.same({ 0 }, int({ 3, 4 }):repeat_interleave(int { 0, 0 }).shape)
    fails("counts are 2 numbers of type int32", x.repeat_interleave, x, { 1, 2, 3 })
    fails("a count is -1: it is 0 or more", x.repeat_interleave, x, { 1, -1 })
    differentiable(function(t) return t:repeat_interleave(2, 2):repeat_interleave({ 2, 0, 1 }, 1) end, gls.randn(3, 2))
  end)

  it("meshgrid spreads vectors over a grid, rows first", function()
    assert.same({ { { 1, 1, 1 }, { 2, 2, 2 } }, { { 3, 4, 5 }, { 3, 4, 5 } } },
      lists(gls.meshgrid { int { 1, 2 }, int { 3, 4, 5 } }))
    fails("meshgrid: vector 1 has 2 dimensions", gls.meshgrid, { x })
  end)

  it("diag makes a matrix of a vector and back, diagonal goes through any two dimensions", function()
    assert.same({ { 0, 0, 0 }, { 7, 0, 0 }, { 0, 8, 0 } }, int({ 7, 8 }):diag(-1):tolist())
    assert.same({ { 0, 0, 7, 0 }, { 0, 0, 0, 8 }, { 0, 0, 0, 0 }, { 0, 0, 0, 0 } }, int({ 7, 8 }):diag(2):tolist())
    assert.same({ { math.huge, 0 }, { 0, 1 } }, gls.tensor({ math.huge, 1 }):diag():tolist()) -- no 0 times infinity
    assert.same({ 2, 8 }, x:diag(1):tolist())
    assert.same({ 0, 0 }, gls.zeros(0):diag().shape)
    local cube = int { { { 1, 2 }, { 3, 4 } }, { { 7, 8 }, { 5, 6 } } }
    assert.same({ { 1, 5 }, { 2, 6 } }, cube:diagonal(0, 1, 2):tolist())
    assert.same({ 6 }, x:diagonal(-1):tolist())
    x:clone():diagonal():fill(0)
    differentiable(function(t) return t:diag(1):matmul(t:diag(-1)):diag() end, gls.randn(4))
    fails("dim1 and dim2 are both 1", x.diagonal, x, 0, 1, 1)
  end)
end)

describe("order", function()
  it("sort gives values and places, equals as they stood", function()
    local values, places = gls.tensor({ { 3, 1, 2, 1 }, { 0, -0.0, 5, -7 } }):sort()
    assert.same({ { 1, 1, 2, 3 }, { -7, 0, 0, 5 } }, values:tolist())
    assert.same({ { 2, 4, 3, 1 }, { 4, 1, 2, 3 } }, places:tolist())
    values, places = gls.sort(int { 3, -1, 3, 2147483647, -2147483647 }, { descending = true })
    assert.same({ { 2147483647, 3, 3, -1, -2147483647 }, { 4, 1, 3, 2, 5 } }, { values:tolist(), places:tolist() })
    assert.same({ { 1, 0 }, { 3, 2 } }, gls.tensor({ { 3, 0 }, { 1, 2 } }):sort { dimension = 1 }:tolist())
    assert.same({ 0, 3 }, gls.zeros(0, 3):sort(1).shape)
    fails('sort: there is no argument "descend"; did you mean "descending"?', gls.sort, values, { descend = true })
    differentiable(function(t) return (t:sort(1, true)) end, gls.tensor { { 0.5, 2, -1 }, { 3, -2, 0 }, { 1, 1.5, 4 } })
  end)

  it("long rows are in order too, with infinities and NaN", function()
    gls.seed(1)
    local x = gls.cat { gls.randn(1000) * 1e20, gls.randn(1000) * 1e-38, gls.tensor { 0 / 0, 1 / 0, -1 / 0, -0.0, 0 } }
    local list = x:tolist()
    local order = gls.range(1, #list):tolist()
    local function before(i, j) -- NaN last; equals by their place
      local a, b = list[i], list[j]
      if a ~= a or b ~= b or a == b then return a == a and b ~= b or (a == b or a ~= a and b ~= b) and i < j end
      return a < b
    end
    for i = 1, #order do order[i] = math.tointeger(order[i]) end
    table.sort(order, before)
    assert.same(order, x:argsort():tolist())
    assert.same(x:to("int32"):sort():tolist(), x:reshape(-1, 1):to("int32"):sort(1):reshape(-1):tolist())
    for i = 1, #order // 2 do order[i], order[#order + 1 - i] = order[#order + 1 - i], order[i] end
    assert.equal(list[order[2]], (x:sort(1, true))[2]:item())
  end)

  it("topk gives the largest or smallest", function()
    local values, places = gls.tensor({ { 1, 9, 3 }, { 4, 5, 6 } }):topk(2)
    assert.same({ { { 9, 3 }, { 6, 5 } }, { { 2, 3 }, { 3, 2 } } }, { values:tolist(), places:tolist() })
    assert.same({ { 1, 5, 3 } }, gls.tensor({ { 1, 9, 3 }, { 4, 5, 6 } }):topk(1, 1, false):tolist())
    assert.same({ 2, 0 }, gls.zeros(2, 3):topk(0).shape)
    gls.seed(9)
    local long = gls.randn(3, 500):mul(5):floor() -- with equals
    for _, count in ipairs { 1, 7, 64, 65, 500 } do
      for _, descending in ipairs { true, false } do
        assert.same(long:argsort(2, descending):narrow(2, 1, count):tolist(),
          long:argsort(2, descending, count):tolist())
      end
    end
    fails("topk: largest must be true or false, got string", gls.topk, gls.zeros(2, 3), 1, 2, "no")
    fails("topk: count is 4: dimension 2 has 3 places", gls.topk, gls.zeros(2, 3), 4)
    differentiable(function(t) return (t:topk(2, 2)) end, gls.tensor { { 0.5, 2, -1 }, { 3, -2, 0 } })
  end)

  it("unique gives values, places among them and counts", function()
    local values, inverse, counts = int({ { 5, 2, 5 }, { 9, 2, 5 } }):unique()
    assert.same({ { 2, 5, 9 }, { { 2, 1, 2 }, { 3, 1, 2 } }, { 2, 3, 1 } }, lists { values, inverse, counts })
    values, inverse, counts = gls.tensor({ 0 / 0, 1, 0 / 0, -0.0, 0 }):unique()
    assert.same({ 0, 1 }, values:narrow(1, 1, 2):tolist())
    assert.same({ { 3, 2, 3, 1, 1 }, { 2, 1, 2 } }, lists { inverse, counts })
    assert.same({ {}, {}, {} }, lists { gls.zeros(0):unique() })
    assert.same({ { 7 }, { 1 }, { 1 } }, lists { gls.tensor({ 7 }):unique() })
  end)
end)

describe("integers", function()
  local x = int { { 1, 2 }, { 3, 4 } }
  it("stay integers in cumsum, prod, tril, triu and scatter_add, exactly; what does not fit is an error", function()
    assert.same({ { 1, 3 }, { 3, 7 } }, x:cumsum(2):tolist())
    assert.same({ { 1, 2 }, { 4, 6 } }, x:cumsum(1):tolist())
    assert.equal("int32", x:byte():cumsum(1).type)
    assert.equal(24, x:prod():item())
    assert.same({ 2, 12 }, x:prod(2):tolist())
    assert.same({ 1, 1 }, int({ {}, {} }):prod(2):tolist())
    assert.same({ { 1, 0 }, { 3, 4 } }, x:tril():tolist())
    assert.same({ { 1, 2 }, { 0, 4 } }, x:byte():triu():tolist())
    local sums = gls.zeros({ 3 }, { type = "int32" }):scatter_add(1, int { 3, 1, 3 }, int { 16777217, 5, 1 })
    assert.same({ 5, 0, 16777218 }, sums:tolist())
    assert.same({ 1.5, 2 }, gls.tensor({ 0.5, 2 }):scatter_add(1, int { 1 }, int { 1 }):tolist())
    local large = int { 2147483647, 1, 0 }
    fails("which int32 does not hold", large.cumsum, large, 1)
    fails("which int32 does not hold", large.prod, int { 65536, 65536 })
    assert.equal(0, large:prod():item())
    fails("which uint8 does not hold", gls.scatter_add, gls.full({ 1 }, 255, { type = "uint8" }), 1, int { 1 },
      gls.full({ 1 }, 1, { type = "uint8" }))
  end)
end)

describe("numbers beside integers", function()
  local large = 2 ^ 24 | 1 -- float32 does not hold it

  it("are exact where tensors are made, filled, written and compared", function()
    local x = gls.full({ 3 }, large, { type = "int32" })
    assert.same({ large, large, large }, x:tolist())
    x[1], x[int { 2 }] = -large, large + 2
    x[x:eq(large)] = large + 4
    assert.same({ -large, large + 2, large + 4 }, x:tolist())
    assert.same({ 1, 0, 0 }, x:eq(-large):tolist())
    assert.same({ large, large + 2, large + 4 }, gls.maximum(x, large):tolist())
    assert.same({ large, large, large }, gls.where(x:eq(0), x, large):tolist())
    assert.same({ 255, 0 }, gls.zeros({ 2 }, { type = "uint8" }):masked_fill(gls.tensor { 1, 0 }, 255):tolist())
  end)

  it("are refused where the type does not hold them", function()
    local x = int { 1, 2 }
    fails("1.5 does not fit int32", function() x[1] = 1.5 end)
    fails("1.5 does not fit int32", function() x[x:eq(2)] = 1.5 end)
    fails("nan does not fit int32", function() x:fill(0 / 0) end)
    fails("256 does not fit uint8", gls.full, { 2 }, 256, { type = "uint8" })
    assert.same({ 1, 2 }, x:tolist())
  end)
end)

describe("nonzero", function()
  it("gives a row of places for every element that is not 0", function()
    assert.same({ { 1, 2 }, { 2, 1 }, { 2, 3 } }, gls.tensor({ { 0, 5, 0 }, { 0 / 0, 0, -1 } }):nonzero():tolist())
    assert.same({ 0, 2 }, gls.zeros(2, 3):nonzero().shape)
    assert.same({ { 3 } }, gls.tensor({ 0, 0, 2 }, { type = "uint8" }):nonzero():tolist())
  end)
end)

describe("multinomial", function()
  it("draws classes by their weights, 0 never", function()
    gls.seed(3)
    local draws = gls.tensor({ { 1, 0, 3, 0 }, { 0, 0, 0, 2 } }):multinomial(20000, true)
    local share = draws[1]:eq(3):mean():item()
    assert.is_true(math.abs(share - 0.75) < 0.012, share) -- four standard deviations
    assert.equal(0, draws[1]:eq(2):sum():item() + draws[1]:eq(4):sum():item())
    assert.equal(4, draws[2]:min():item())
  end)

  it("without replacement no class comes twice, the first by its weight", function()
    gls.seed(4)
    local first = 0
    for _ = 1, 500 do
      local three = gls.multinomial(gls.tensor { 1, 2, 0, 5 }, 3)
      assert.same({ 1, 2, 4 }, (three:sort()):tolist())
      if three[1]:item() == 4 then first = first + 1 end
    end
    assert.is_true(math.abs(first / 500 - 5 / 8) < 0.09, first)
  end)

  it("refuses what are no weights", function()
    fails("row 1 has 1 weights above 0: too few for 2 different numbers", gls.multinomial, gls.tensor { 0, 1 }, 2)
    fails("weight 1 of row 2 is -1", gls.multinomial, gls.tensor { { 1, 1 }, { -1, 3 } }, 1)
    fails("weights are finite", gls.multinomial, gls.tensor { 0 / 0, 1 })
    fails("row 1 has 0 weights above 0", gls.multinomial, gls.zeros(2), 3, true)
  end)
end)

-- The sum of products by its definition: over all values of all labels. Terms without "...".
local function by_definition(equation, tensors)
  local left, right = equation:match "^(.*)%->(.*)$"
  local terms, sizes, letters = {}, {}, {}
  for term in left:gmatch "[^,]+" do terms[#terms + 1] = term end
  for i, term in ipairs(terms) do
    for k = 1, #term do
      local label, size = term:sub(k, k), tensors[i]:size(k)
      if not sizes[label] then letters[#letters + 1] = label end
      if (sizes[label] or 1) == 1 then sizes[label] = size end
    end
  end
  local shape, result = {}, {}
  for k = 1, #right do shape[k] = sizes[right:sub(k, k)] end
  local flat = {}
  for i, tensor in ipairs(tensors) do flat[i] = tensor:reshape(-1):tolist() end
  local at = {}
  local function place(term, own)
    local index = 0
    for k = 1, #term do index = index * own[k] + (own[k] == 1 and 0 or at[term:sub(k, k)]) end
    return index + 1
  end
  local count = 1
  for _, size in ipairs(shape) do count = count * size end
  for i = 1, count do result[i] = 0 end
  local function walk(depth)
    if depth > #letters then
      local product = 1
      for i, term in ipairs(terms) do product = product * flat[i][place(term, tensors[i].shape)] end
      local to = place(right, shape)
      result[to] = result[to] + product
      return
    end
    for value = 0, sizes[letters[depth]] - 1 do
      at[letters[depth]] = value
      walk(depth + 1)
    end
  end
  walk(1)
  return gls.tensor(result):reshape(shape)
end

describe("einsum", function()
  it("is the sum that its equation says", function()
    gls.seed(5)
    for _, case in ipairs {
      { "ij,jk->ik", { 2, 3 }, { 3, 4 } }, { "ij,kj->ki", { 2, 3 }, { 4, 3 } },
      { "bij,bjk->bik", { 2, 3, 4 }, { 2, 4, 5 } },
      { "bij,bjk->ikb", { 2, 3, 4 }, { 2, 4, 5 } }, { "i,i->", { 4 }, { 4 } }, { "i,j->ij", { 2 }, { 3 } },
      { "ij,ij->ij", { 2, 3 }, { 2, 3 } }, { "ij->ji", { 2, 3 } }, { "ij->", { 2, 3 } }, { "ij->j", { 2, 3 } },
      { "ii->i", { 3, 3 } }, { "ii->", { 3, 3 } }, { "iij->ji", { 3, 3, 2 } }, { "ijji->ij", { 2, 3, 3, 2 } },
      { "iii->i", { 3, 3, 3 } }, { "bhqd,bhkd->bhqk", { 2, 2, 3, 4 }, { 2, 2, 5, 4 } },
      { "ij,jk,kl->il", { 2, 3 }, { 3, 4 }, { 4, 2 } }, { "ij,jk,ik->", { 2, 3 }, { 3, 4 }, { 2, 4 } },
      { "ijk,jl,km->ilm", { 2, 3, 4 }, { 3, 2 }, { 4, 5 } }, { "ij,k->i", { 2, 3 }, { 4 } },
      { "aij,ajk->ik", { 2, 3, 4 }, { 2, 4, 2 } },
      { "ij,jk->ik", { 2, 1 }, { 3, 4 } }, { "bi,bi->b", { 1, 3 }, { 4, 3 } }, { "ii,ij->j", { 3, 3 }, { 3, 2 } },
      { "ij,jk->ik", { 2, 0 }, { 0, 4 } }, { "zA,Ab->bz", { 2, 3 }, { 3, 2 } },
    } do
      local tensors = {}
      for i = 2, #case do tensors[i - 1] = gls.randn(case[i]) end
      local result, expected = gls.einsum(case[1], table.unpack(tensors)), by_definition(case[1], tensors)
      assert.same(expected.shape, result.shape, case[1])
      assert.is_true(gls.allclose(result, expected, { relative = 1e-4, absolute = 1e-5 }), case[1])
    end
  end)

  it("knows what dots stand for, and the result that is not written", function()
    gls.seed(6)
    local a, b = gls.randn(2, 3, 4), gls.randn(4, 5)
    local function same(x, y) assert.is_true(gls.allclose(x, y, { absolute = 1e-5 })) end
    same(gls.einsum("...ij,...jk->...ik", a, b), a:matmul(b))
    same(gls.einsum("...i->...", a), a:sum(-1))
    same(gls.einsum("i...->...", a), a:sum(1))
    same(gls.einsum("... j , jk", a, b), a:matmul(b)) -- "...", then letters in order
    same(gls.einsum("ba", b), b:t())
    same(gls.einsum("ij,jk", b, b:t()), b:matmul(b:t()))
    same(gls.einsum("ij,ij->", b, b), b:square():sum())
  end)

  it("multiplies integers where nothing is summed by matmul", function()
    assert.same({ { 3, 4 }, { 6, 8 } }, gls.einsum("i,j->ij", int { 1, 2 }, int { 3, 4 }):tolist())
  end)

  it("is differentiable in both modes", function()
    gls.seed(7)
    differentiable(function(a, b) return gls.einsum("bij,bjk->bki", a, b) end, gls.randn(2, 3, 2), gls.randn(2, 2, 3))
    differentiable(function(a, b) return gls.einsum("iij,...j->i...", a, b) end, gls.randn(2, 2, 3), gls.randn(2, 3))
  end)

  it("says what is wrong with an equation", function()
    local x = gls.randn(2, 3)
    fails('einsum: "ij,jk" has 2 terms for 1 tensors', gls.einsum, "ij,jk", x)
    fails('einsum: "ijk" has 3 letters, tensor 1 has 2 dimensions', gls.einsum, "ijk->i", x)
    fails('einsum: "j" is 2 in tensor 2, and 3 before it', gls.einsum, "ij,jk", x, x)
    fails('einsum: "i" stands for 2 and for 3 in one tensor', gls.einsum, "ii", x)
    fails('einsum: "k" of the result is in no tensor', gls.einsum, "ij->k", x)
    fails('einsum: "i" is there twice in the result', gls.einsum, "ij->ii", x)
    fails('einsum: the result "i" lacks the "..."', gls.einsum, "i...->i", x)
    fails('einsum: "i-j" is not letters', gls.einsum, "i-j", x)
    fails("einsum: tensor 2 must be a tensor, got 3", gls.einsum, "ij,", x, 3)
  end)
end)

describe("linear algebra", function()
  gls.seed(8)
  local a = gls.randn(2, 4, 4) + gls.eye(4) * 3
  local function near(x, y) assert.is_true(gls.allclose(x, y, { relative = 1e-4, absolute = 1e-4 })) end

  it("solve and inverse undo a product, of batches and vectors", function()
    local b = gls.randn(2, 4, 3)
    near(a:matmul(gls.solve(a, b)), b)
    near(a[1]:matmul(gls.solve(a[1], b)[2]), b[2])
    near(gls.solve(a, gls.ones(4))[2], gls.solve(a[2], gls.ones(4)))
    near(gls.inverse(a):matmul(a), gls.eye(4):expand(2, 4, 4))
    near(gls.solve(gls.tensor { { 0, 2 }, { 1, 1 } }, gls.tensor { 4, 3 }), gls.tensor { 1, 2 }) -- rows are exchanged
    differentiable(gls.solve, a[1]:clone(), gls.randn(4, 2))
    differentiable(gls.inverse, a:clone())
    fails("solve: the matrix is singular: pivot 2 is 0", gls.solve, gls.ones(2, 2), gls.ones(2))
    fails("solve: square matrices (…, n, n) are expected, not (2×3)", gls.solve, gls.ones(2, 3), gls.ones(2))
    fails("for matrices (2×2) right-hand sides are (2) or (…, 2, m), not (3)", gls.solve, gls.eye(2), gls.ones(3))
  end)

  it("determinant and slogdet are those of NumPy", function()
    local m = gls.tensor { { 2, -1, 3 }, { 0, 4, 1 }, { 5, 2, -3 } } -- -93 by Sarrus' rule
    near(gls.determinant(m), gls.tensor(-93))
    local sign, logarithm = gls.slogdet(m)
    assert.equal(-1, sign:item())
    near(logarithm, gls.tensor(math.log(93)))
    assert.equal(0, gls.determinant(gls.ones(3, 3)):item())
    assert.equal(-math.huge, select(2, gls.slogdet(gls.zeros(2, 2))):item())
    near(gls.slogdet(gls.eye(200) * -1000), gls.tensor(1))
    assert.same({ 2 }, gls.determinant(a).shape)
    assert.equal(1, gls.determinant(gls.zeros(0, 0)):item())
    differentiable(function(t) return gls.determinant(t):tanh() end, a:clone() * 0.3)
    differentiable(function(t) return select(2, gls.slogdet(t)) end, a:clone())
    local singular = gls.ones(2, 2):requires_grad(true)
    local value = gls.determinant(singular)
    fails("the matrix is singular", value.backward, value)
    gls.tape_release()
  end)

  it("svd and qr give the matrix back, with orthonormal factors; a gradient is refused", function()
    for _, shape in ipairs { { 5, 3 }, { 3, 5 }, { 4, 4 }, { 1, 3 } } do
      local x = gls.randn(shape)
      local k = math.min(shape[1], shape[2])
      local u, s, v = gls.svd(x)
      near((u * s):matmul(v:t()), x)
      near(u:t():matmul(u), gls.eye(k))
      near(v:t():matmul(v), gls.eye(k))
      assert.same((s:sort(1, true)):tolist(), s:tolist())
      assert.is_true(s:min():item() >= 0)
      local q, r = gls.qr(x)
      near(q:matmul(r), x)
      near(q:t():matmul(q), gls.eye(k))
      assert.equal(0, (r - r:triu()):abs():sum():item())
      assert.is_true(r:diagonal():min():item() >= 0)
    end
    local u, s, v = gls.svd(gls.zeros(2, 0))
    assert.same({ { 2, 0 }, { 0 }, { 0, 0 } }, { u.shape, s.shape, v.shape })
    fails("svd: the matrix has an infinity or a NaN", gls.svd, gls.tensor { { 1, 0 / 0 } })
    fails("eigh: the matrix has an infinity or a NaN", gls.eigh, gls.tensor { { 0 / 0, 1 }, { 1, 0 } })
    local x = gls.randn(3, 3):requires_grad(true)
    for _, name in ipairs { "svd", "qr", "eigh", "cholesky", "orthogonal" } do
      fails("has no derivative, and its argument requires a gradient; give it x:detach()", gls[name], x * 2)
    end
    assert.same({ 3, 3 }, gls.no_grad(function() return gls.qr(x) end).shape)
    gls.tape_release()
  end)
end)

describe("allclose", function()
  it("is NumPy's", function()
    local x = gls.tensor { 1, 2 }
    assert.is_true(gls.allclose(x, x + 1e-6))
    local large = gls.full({ 1 }, 2147483647, { type = "int32" })
    local beside = large - gls.full({ 1 }, 1, { type = "int32" })
    assert.is_false(gls.allclose(large, beside, { relative = 0, absolute = 0.5 }))
    assert.is_true(gls.allclose(large, beside, { relative = 0, absolute = 1 }))
    assert.is_false(gls.allclose(x, x + 1e-3))
    assert.is_true(x:allclose(x + 1e-3, { absolute = 1e-2 }))
    assert.is_true(gls.allclose(int { 1, 2 }, int { 1, 2 }))
    assert.is_false(gls.allclose(int({ 1, 2 }):byte(), int({ 1, 3 }):byte()))
    assert.is_true(gls.allclose(gls.tensor { math.huge }, gls.tensor { math.huge }))
    assert.is_false(gls.allclose(gls.tensor { math.huge }, gls.tensor { -math.huge }))
    assert.is_false(gls.allclose(gls.tensor { 1 }, gls.tensor { math.huge }))
    assert.is_false(gls.allclose(gls.tensor { 0 / 0 }, gls.tensor { 0 / 0 }))
    assert.is_true(gls.allclose(gls.ones(2, 3), 1))
    fails('unknown option "rtol"', gls.allclose, x, x, { rtol = 1 })
  end)
end)

describe("x[mask] and x[index]", function()
  local x = gls.range(1, 12):view(4, 3)

  it("read where a mask is 1, a list of its dimensions' places", function()
    assert.same({ 7, 8, 9, 10, 11, 12 }, x[x:gt(6)]:tolist())
    assert.same({ { 1, 2, 3 }, { 10, 11, 12 } }, x[gls.tensor { 1, 0, 0, 1 }]:tolist())
    assert.same({ 0, 3 }, x[gls.zeros(4)].shape)
    assert.same({ { 1, 3 }, { 4, 6 }, { 7, 9 }, { 10, 12 } },
      x[{ {}, gls.tensor({ 1, 0, 1 }, { type = "uint8" }) }]:tolist())
    fails("a mask of shape (3) does not fit (4×3) from dimension 1 on", function() return x[gls.ones(3)] end)
    fails("a mask holds 0 and 1 alone", function() return x[gls.tensor { 1, 2, 1, 1 }] end)
  end)

  it("read the places that int32 tensors name, in their shape", function()
    assert.same({ { 4, 5, 6 }, { 4, 5, 6 } }, x[int { 2, 2 }]:tolist())
    assert.same({ 2, 2, 3 }, x[int { { 1, 2 }, { 3, 4 } }].shape)
    assert.same({ 7, 8, 9 }, x[gls.tensor(3, { type = "int32" })]:tolist())
    assert.same({ { 3, 1 }, { 6, 4 } }, x[{ { 1, 2 }, int { 3, 1 } }]:tolist())
    assert.same({ 6, 4 }, x[{ 2, int { 3, 1 } }]:tolist())
    assert.same({ 0, 3 }, x[gls.zeros({ 0 }, { type = "int32" })].shape)
    assert.same({ 5, 4 }, int({ 4, 5 })[int { 2, 1 }]:tolist())
    fails("index 5 at (2) is out of range: 1 to 4", function() return x[int { 1, 5 }] end)
    assert.same({ 3, 5, 10 }, x[{ int { 1, 2, 4 }, int { 3, 2, 1 } }]:tolist()) -- side by side: places together
    assert.same({ { 3, 1 }, { 12, 10 } }, x[{ int { { 1 }, { 4 } }, int { 3, 1 } }]:tolist())
    local cube = gls.range(1, 24):view(2, 3, 4)
    assert.same({ { 6, 10 }, { 18, 22 } }, cube[{ {}, int { 2, 3 }, int { 2, 2 } }]:tolist())
    assert.same({ 12, 3 }, cube[{ 1, int { 3, 1 }, int { 4, 3 } }]:tolist())
    fails("index 4 of dimension 2 is out of range: 1 to 3", function() return x[{ int { 1 }, int { 4 } }] end)
    fails("indices of shapes (2) and (3) in x[{…}] do not broadcast",
      function() return x[{ int { 1, 1 }, int { 1, 2, 3 } }] end)
    fails("int32 indices of neighbouring dimensions", function() return cube[{ int { 1 }, {}, int { 1 } }] end)
    fails("int32 indices of neighbouring dimensions", function() return x[{ int { 1 }, gls.ones(3) }] end)
    local words, table_of = int { { 1, 3 }, { 3, 4 } }, gls.randn(4, 2)
    differentiable(function(t) return t[words] end, table_of)
    differentiable(function(t) return t[x:gt(5)] * 2 end, gls.randn(4, 3))
    differentiable(function(t) return t[{ {}, int { 2, 2, 1 } }] end, gls.randn(3, 2))
    differentiable(function(t) return t[{ int { 1, 3, 1 }, int { 2, 2, 2 } }] end, gls.randn(3, 2))
  end)

  it("write numbers and tensors, through views too; the last stays where places repeat", function()
    local y = x:clone()
    y[y:gt(6)] = 0
    y[int { 1, 2 }] = gls.tensor { { 1 }, { -1 } }
    assert.same({ { 1, 1, 1 }, { -1, -1, -1 }, { 0, 0, 0 }, { 0, 0, 0 } }, y:tolist())
    y:t()[int { 2, 2 }] = gls.tensor { { 5, 5, 5, 5 }, { 6, 7, 8, 9 } }
    assert.same({ 6, 7, 8, 9 }, y:select(2, 2):tolist())
    y[{ 4, int { 1, 3 } }] = gls.tensor { 3, 4 }
    assert.same({ 3, 9, 4 }, y[4]:tolist())
    y:narrow(2, 2, 2)[y:narrow(2, 2, 2):eq(0)] = gls.tensor { 11 }
    assert.same({ 0, 8, 11 }, y[3]:tolist())
    y[{ {}, gls.tensor { 0, 0, 1 } }] = gls.tensor { { 1 }, { 2 }, { 3 }, { 4 } }
    assert.same({ 1, 2, 3, 4 }, y:select(2, 3):tolist())
    y[{ int { 1, 2 }, int { 2, 3 } }] = gls.tensor { 50, 60 }
    assert.same({ 50, 60 }, { y[1][2]:item(), y[2][3]:item() })
    local labels = int { 1, 2, 3 }
    labels[labels:ge(2)] = 7
    assert.same({ 1, 7, 7 }, labels:tolist())
    fails("does not broadcast", function() y[int { 1, 2 }] = gls.ones(3, 3) end)
    fails("a mask of shape () does not fit", function() return y[gls.tensor(1)] end)
  end)

  it("refuse to write where a gradient would be lost, and what the tape has saved", function()
    local w = gls.ones(3):requires_grad(true)
    local y = w * 2
    fails("cannot be written in place", function() y[int { 1 }] = 0 end)
    fails("require a gradient, which would be lost", function() gls.zeros(3)[gls.ones(3)] = y end)
    local saved = gls.ones(3)
    local loss = (w * saved):sum()
    saved[saved:gt(0)] = 5
    fails("was modified in place after the tape saved it", loss.backward, loss)
    gls.tape_release()
  end)
end)
