-- Attention: the op against softmax(q kᵀ) v written out, its memory, and the layer.
local gls = require "gls"
local nn = require "gls.nn"
local fails = require("tests.lua.failing").says

local function largest(x) return x:numel() == 0 and 0 or x:abs():max():item() end

-- What attention(query, key, value, given) is, one head after the other.
local function written_out(query, key, value, given)
  local heads, parts = given.heads or 1, {}
  local size, values = query:size(-1) // heads, value:size(-1) // heads
  for head = 1, heads do
    local q, k = query:narrow(-1, (head - 1) * size + 1, size), key:narrow(-1, (head - 1) * size + 1, size)
    local scores = q:matmul(k:transpose(-2, -1)) * (given.scale or 1 / math.sqrt(size))
    if given.causal then
      scores = scores:masked_fill(gls.ones(query:size(-2), key:size(-2)):triu(1), -math.huge)
    end
    if given.mask then scores = scores:masked_fill(given.mask:eq(0), -math.huge) end
    parts[head] = scores:softmax():matmul(value:narrow(-1, (head - 1) * values + 1, values))
  end
  return gls.cat(parts, -1)
end

-- Value and gradients of f over copies of the inputs.
local function both_ways(f, inputs, seed)
  local leaves = {}
  for i, input in ipairs(inputs) do leaves[i] = input:detach():clone():requires_grad(true) end
  local y = f(table.unpack(leaves))
  y:backward(seed(y))
  local all = { y:detach() }
  for i, leaf in ipairs(leaves) do all[i + 1] = leaf.grad end
  return all
end

local function agree(shapes, given)
  given = given or {}
  gls.seed(7)
  local inputs = {}
  for i, shape in ipairs(shapes) do inputs[i] = gls.randn(shape) end
  local gradient
  local function seed(y)
    gradient = gradient or gls.randn(y.shape)
    return gradient
  end
  local expected = both_ways(function(q, k, v) return written_out(q, k, v, given) end, inputs, seed)
  local got = both_ways(function(q, k, v) return gls.attention(q, k, v, given) end, inputs, seed)
  for i, value in ipairs(expected) do
    assert.same(value.shape, got[i].shape)
    assert.is_true(largest(value - got[i]) < 1e-5, ("%d: off by %g"):format(i, largest(value - got[i])))
  end
end

describe("gls.attention", function()
  it("is softmax(q kᵀ / √d) v, with its gradients", function()
    agree { { 2, 3, 5, 4 }, { 2, 3, 7, 4 }, { 2, 3, 7, 6 } }
    agree({ { 3, 65, 12 }, { 3, 33, 12 }, { 3, 33, 8 } }, { heads = 4 })
    agree({ { 2, 200, 20 }, { 2, 200, 20 }, { 2, 200, 20 } }, { heads = 2, causal = true })
    agree({ { 131, 70 }, { 131, 70 }, { 131, 70 } }, { causal = true, scale = 0.3 })
    agree { { 1, 1, 1 }, { 1, 1, 1 }, { 1, 1, 1 } }
    agree({ { 2, 1, 8 }, { 2, 1, 8 }, { 2, 1, 8 } }, { causal = true, heads = 2 })
  end)

  it("sees what the mask shows", function()
    gls.seed(3)
    local shown = gls.rand(2, 40, 70):gt(0.5)
    shown:narrow(3, 1, 1):fill(1) -- every query sees one
    agree({ { 2, 40, 6 }, { 2, 70, 6 }, { 2, 70, 6 } }, { mask = shown, heads = 2 })
    agree({ { 2, 40, 6 }, { 2, 70, 6 }, { 2, 70, 6 } }, { mask = gls.tensor { 1 }:expand(70):clone() })
    local lengths = gls.range(1, 70):view(1, 1, 70):le(gls.tensor { 20, 70 }:view(2, 1, 1)) -- of padded sequences
    agree({ { 2, 40, 6 }, { 2, 70, 6 }, { 2, 70, 6 } }, { mask = lengths })
  end)

  it("broadcasts leading dimensions and takes any strides", function()
    agree { { 2, 3, 9, 4 }, { 9, 4 }, { 3, 9, 4 } }
    gls.seed(5)
    local q, k, v = gls.randn(4, 2, 9), gls.randn(2, 9, 4), gls.randn(2, 18, 4)
    local strided = gls.attention(q:permute { 2, 3, 1 }, k, v[{ {}, { 1, -1, 2 } }])
    local plain = gls.attention(q:permute({ 2, 3, 1 }):contiguous(), k, v[{ {}, { 1, -1, 2 } }]:contiguous())
    assert.equal(0, largest(strided - plain))
  end)

  it("takes query, key and value side by side", function()
    gls.seed(6)
    local all = gls.randn(2, 37, 24)
    local q, k, v = all:narrow(3, 1, 8), all:narrow(3, 9, 8), all:narrow(3, 17, 8)
    local given = { heads = 2, causal = true }
    local function seed(y) return y:detach() end
    local packed = both_ways(function(x) return gls.attention(x, given) end, { all }, seed)
    local apart = both_ways(function(a, b, c) return gls.attention(a, b, c, given) end, { q, k, v }, seed)
    assert.equal(0, largest(packed[1] - apart[1]))
    assert.equal(0, largest(packed[2] - gls.cat({ apart[2], apart[3], apart[4] }, 3)))
  end)

  it("gives zeros where nothing is seen, and for nothing", function()
    local x, mask = gls.randn(3, 4), gls.tensor { { 1, 0, 0 }, { 0, 0, 0 }, { 1, 1, 1 } }
    local all = both_ways(function(q, k, v) return gls.attention(q, k, v, mask) end, { x, x, x },
      function(y) return gls.ones(y.shape) end)
    assert.same({ 0, 0, 0, 0 }, all[1][2]:tolist())
    assert.same({ 0, 0, 0, 0 }, all[2][2]:tolist())
    assert.equal(0, largest(all[1][1] - x[1]))
    assert.same({ 2, 0, 4 }, gls.attention(gls.ones(2, 0, 3), gls.ones(2, 5, 3), gls.ones(2, 5, 4)).shape)
    assert.equal(0, largest(gls.attention(gls.ones(2, 3), gls.ones(0, 3), gls.ones(0, 3))))
  end)

  it("keeps no weights: memory goes with the places, not with their square", function()
    local function peak(places)
      local q, k, v = gls.randn(places, 8), gls.randn(places, 8), gls.randn(places, 8)
      for _, x in ipairs { q, k, v } do x:requires_grad(true) end
      gls.collect()
      gls.trim() -- a larger buffer that earlier tests have left would be counted whole
      gls.reset_peak()
      local before = gls.memory().live
      gls.attention(q, k, v, { causal = true }):sum():backward()
      return gls.memory().peak - before
    end
    local threads = gls.threads()
    gls.threads(1) -- each has blocks of its own
    local short, long = peak(500), peak(4000)
    gls.threads(threads)
    assert.is_true(long < 9 * short, ("%d and %d bytes"):format(short, long))
    assert.is_true(long < 4000 * 4000 / 4, ("%d bytes"):format(long))
  end)

  it("says what does not fit", function()
    local x = gls.ones(2, 5, 6)
    fails("attention: 4 heads do not divide the last size of (2×5×6)", gls.attention, x, x, x, { heads = 4 })
    fails("attention: key and value are both given, or neither", gls.attention, x, x)
    fails("query and key differ in their last size: (2×5×6) and (2×5×3)", gls.attention, x, gls.ones(2, 5, 3), x)
    fails("key and value differ in their places: (2×5×6) and (2×4×6)", gls.attention, x, x, gls.ones(2, 4, 6))
    fails("as many keys as queries", gls.attention, x, gls.ones(2, 4, 6), gls.ones(2, 4, 6), { causal = true })
    for _, hidden in ipairs { -math.huge, -1e9, 0 / 0 } do
      fails("of one that is added to the scores give mask:eq(0)", gls.attention, x, x, x, gls.full({ 5, 5 }, hidden))
    end
    fails("a mask of shape (4×5) does not broadcast to (2×5×5)", gls.attention, x, x, x, gls.ones(4, 5))
  end)
end)

describe("nn.MultiHeadAttention", function()
  -- Values of PyTorch 2.15: nn.MultiheadAttention(4, 2, batch_first=True), in float64, of these weights.
  local function filled(layer)
    for i, parameter in ipairs(layer:parameters()) do
      local _ <close> = gls.no_grad()
      parameter:copy((gls.range(1, parameter:numel()) * (0.7 + i / 10)):sin():view(parameter.shape))
    end
    return layer
  end
  local x = (gls.range(1, 24) * 0.37):cos():view(2, 3, 4)

  it("gives PyTorch's values", function()
    local expected = {
      { { 0.7560882, 0.7218003, -0.1163107, -0.8201311 }, { 0.7617100, 0.7181890, -0.1258349, -0.8268117 },
        { 0.7177755, 0.8000030, 0.0065081, -0.7656152 } },
      { { 0.7005209, 0.7808396, 0.0030547, -0.7501836 }, { 0.7071207, 0.6532594, -0.1414089, -0.7787114 },
        { 0.7169158, 0.6337543, -0.1722812, -0.7925671 } },
    }
    assert.is_true(largest(filled(nn.MultiHeadAttention(4, 2))(x) - gls.tensor(expected)) < 1e-5)
  end)

  it("attends to a second sequence, under a mask", function()
    local layer = filled(nn.MultiHeadAttention(4, 2, { context = 5 }))
    local context = (gls.range(1, 70) * 0.21):cos():view(2, 7, 5)
    local mask = gls.tensor { 1, 1, 1, 1, 0, 0, 0 }
    local shown = layer(x, context:narrow(2, 1, 4):contiguous())
    assert.is_true(largest(layer(x, context, mask) - shown) < 1e-6)
    fails("which is missing", layer, x)
    fails("needs the option context", nn.MultiHeadAttention(4, 2), x, context)
    fails("3 heads do not divide the width 4", nn.MultiHeadAttention, 4, 3)
  end)

  it("drops weights in training, and averages to what it gives without", function()
    gls.seed(1)
    local layer = nn.MultiHeadAttention(4, 2, { dropout = 0.2, causal = true })
    local sum = gls.zeros(2, 3, 4)
    for _ = 1, 2000 do sum = sum + layer(x, nil, gls.ones(2, 3, 3)):detach() end
    local other = layer:eval()(x)
    assert.is_true(largest(sum / 2000 - other) < 0.03)
    assert.equal(0, largest(other - layer(x)))
    fails("dropout: a probability from 0 to below 1", nn.MultiHeadAttention, 4, 2, { dropout = 1 })
  end)

  it("gives in training what it gives without, but for what is dropped", function()
    local mask = gls.tensor { { 0, 0, 0 }, { 1, 0, 0 }, { 1, 0, 1 } }
    for _, causal in ipairs { false, true } do
      local layer = nn.MultiHeadAttention(4, 2, { dropout = 1e-9, causal = causal })
      local leaf = x:clone():requires_grad(true)
      local trained = layer(leaf, nil, mask)
      assert.is_true(largest(gls.grad(trained:sum(), leaf)) < 100) -- and is no NaN
      assert.is_true(largest(trained - layer:eval()(x, nil, mask)) < 1e-6)
    end
    local layer = nn.MultiHeadAttention(4, 2, { dropout = 1e-9, context = 4 })
    local trained = layer(x[1], x) -- one query for a batch
    assert.is_true(largest(trained - layer:eval()(x[1], x)) < 1e-6)
  end)

  it("checks mask and lengths alike with dropout and without", function()
    local layer, other = nn.MultiHeadAttention(4, 2, { dropout = 0.5 }), nn.MultiHeadAttention(4, 2)
    local causal = nn.MultiHeadAttention(4, 2, { dropout = 0.5, causal = true, context = 4 })
    local function message(...)
      local ok, text = pcall(...)
      assert.is_false(ok)
      return (text:gsub("^[^:]*:%d+: ", ""))
    end
    for _, mask in ipairs { gls.full({ 3, 3 }, -math.huge), gls.full({ 3, 3 }, 0 / 0), gls.ones(3, 3):int(),
      gls.ones(2, 2), gls.ones(5, 3, 3), gls.ones(2, 2, 3, 3) } do
      assert.equal(message(other, x, nil, mask), message(layer, x, nil, mask))
    end
    fails("given (2×3×4) and (2×2×4); give it a mask", causal, x, x:narrow(2, 1, 2))
    causal:eval()
    fails("given (2×3×4) and (2×2×4); give it a mask", causal, x, x:narrow(2, 1, 2))
  end)

  it("leaves factors of its weights", function()
    local layer = nn.MultiHeadAttention(4, 2)
    layer(x):sum():backward()
    local factors = gls.factors(layer.query_key_value.weight)
    assert.same({ 6, 4 }, factors[1].a.shape)
    assert.same({ 6, 12 }, factors[1].g.shape)
  end)
end)
