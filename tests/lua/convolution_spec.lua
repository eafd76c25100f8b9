-- Convolutions, pooling and resizing: values and gradients against PyTorch 2.15, layers, and mistakes.
local gls, nn = require "gls", require "gls.nn"
local fails = require("tests.lua.failing").says

local function count(shape)
  local product = 1
  for _, size in ipairs(shape) do product = product * size end
  return product
end

-- (i · factor mod modulus − middle) / divisor, i from 0
local function pattern(shape, factor, modulus, middle, divisor)
  local values = {}
  for i = 0, count(shape) - 1 do values[i + 1] = (i * factor % modulus - middle) / divisor end
  return gls.tensor(values):view(shape)
end
local function ramp(...) return pattern({ ... }, 7, 11, 5, 4) end
local function weights(shape) return pattern(shape, 5, 7, 3, 1) end

local function near(expected, got, what)
  local ok = math.abs(expected - got) <= 2e-5 * (1 + math.abs(expected))
  assert.is_true(ok, ("%s: %g, not %g"):format(what, got, expected))
end

-- Each: name, call, inputs; and from PyTorch, in float64, with
--   def ramp(*s): return ((torch.arange(prod(s)) * 7) % 11 - 5).reshape(s) / 4
--   def weights(*s): return ((torch.arange(prod(s)) * 5) % 7 - 3).reshape(s)
--   loss = (y * ramp(*y.shape)).sum(); loss.backward()
-- y's shape and first four values, loss, and (x.grad * weights(*x.shape)).sum() of each input.
local cases = {
  { "F.conv_transpose2d(x, w, b, stride=2, padding=1, output_padding=1)",
    function(x, w, b) return gls.conv_transpose2d(x, w, b, { stride = 2, padding = 1, output_padding = 1 }) end,
    { ramp(2, 3, 4, 3), ramp(3, 2, 3, 3), ramp(2) },
    { 2, 2, 8, 6 }, { -2.1875, 2.4375, -0.5, -3.8125 }, 0.671875, { -37.9375, -13.0625, 9.25 } },
  { "F.conv_transpose2d(x, w, b, stride=(3,2), padding=(0,1), output_padding=(2,0), groups=2, dilation=2)",
    function(x, w, b)
      return gls.conv_transpose2d(x, w, b,
        { stride = { 3, 2 }, padding = { 0, 1 }, output_padding = { 2, 0 }, groups = 2, dilation = 2 })
    end,
    { ramp(1, 4, 3, 4), ramp(4, 3, 2, 3), ramp(6) },
    { 1, 6, 11, 9 }, { -1.25, -3.0, -1.25, 1.125 }, 32.796875, { -31.0625, -3.75, 0 } },
  { "F.conv1d(x, w, b, stride=2, padding=2, dilation=2, groups=2)",
    function(x, w, b) return gls.conv1d(x, w, b, { stride = 2, padding = 2, dilation = 2, groups = 2 }) end,
    { ramp(2, 4, 9), ramp(6, 2, 3), ramp(6) },
    { 2, 6, 5 }, { -0.5, 0.9375, -2.875, -1.875 }, -1.109375, { -4.875, 11.9375, 6.25 } },
  { "F.conv_transpose1d(x, w, b, stride=3, padding=1, output_padding=2)",
    function(x, w, b) return gls.conv_transpose1d(x, w, b, { stride = 3, padding = 1, output_padding = 2 }) end,
    { ramp(2, 3, 4), ramp(3, 2, 4), ramp(2) },
    { 2, 2, 13 }, { -2.6875, -0.6875, -2.5625, -0.8125 }, 6.5, { -3.6875, -9.9375, 7.25 } },
  { "F.max_pool1d(x, 3, 2, 1)", function(x) return gls.max_pool1d(x, 3, 2, 1) end, { ramp(2, 3, 8) },
    { 2, 3, 4 }, { 0.5, 1.25, 1.25, 1.0 }, 0.625, { -8 } },
  { "F.avg_pool1d(x, 3, 2, 1)", function(x) return gls.avg_pool1d(x, 3, 2, 1) end, { ramp(2, 3, 8) },
    { 2, 3, 4 }, { -0.25, 0.4166667, 0.25, 0.0833333 }, 0.9166667, { -1.4166667 } },
  { "F.avg_pool1d(x, 3, 2, 1, count_include_pad=False)",
    function(x) return gls.avg_pool1d(x, 3, 2, 1, false) end, { ramp(2, 3, 8) },
    { 2, 3, 4 }, { -0.375, 0.4166667, 0.25, 0.0833333 }, 1.1458333, { -1.2083333 } },
  { "F.interpolate(x, size=(5,7), mode='nearest')", function(x) return gls.interpolate(x, { 5, 7 }) end,
    { ramp(2, 2, 3, 4) }, { 2, 2, 5, 7 }, { -1.25, -1.25, 0.5, 0.5 }, 20, { 13 } },
  { "F.interpolate(x, size=(7,9), mode='bilinear')",
    function(x) return gls.interpolate(x, { 7, 9 }, { bilinear = true }) end,
    { ramp(2, 2, 3, 4) }, { 2, 2, 7, 9 }, { -1.25, -0.9583333, -0.1805556, 0.4444444 }, -1.5272817, { 8.4365079 } },
  { "F.interpolate(x, size=(3,2), mode='bilinear')",
    function(x) return gls.interpolate(x, { 3, 2 }, { bilinear = true }) end,
    { ramp(2, 2, 5, 7) }, { 2, 2, 3, 2 }, { -0.0208333, -0.3125, 0, -0.75 }, -1.5052083, { -1.125 } },
  { "F.interpolate(x, scale_factor=2, mode='bilinear')", nn.Upsample(2, { mode = "bilinear" }), { ramp(1, 2, 3, 2) },
    { 1, 2, 6, 4 }, { -1.25, -0.8125, 0.0625, 0.5 }, 1.97265625, { 12.78125 } },
  { "F.pixel_shuffle(x, 2)", nn.PixelShuffle(2), { ramp(2, 8, 3, 2) },
    { 2, 2, 6, 4 }, { -1.25, 1, 0.5, 0 }, -4.75, { -12.25 } },
  { "F.pixel_unshuffle(x, 3)", function(x) return gls.pixel_unshuffle(x, 3) end, { ramp(1, 2, 6, 3) },
    { 1, 18, 2, 1 }, { -1.25, 0.75, 0.5, -0.25 }, -0.3125, { 0.5 } },
  { "F.unfold(x, (3,2), dilation=(1,2), padding=(1,0), stride=(2,1))",
    function(x) return gls.unfold(x, { 3, 2 }, { dilation = { 1, 2 }, padding = { 1, 0 }, stride = { 2, 1 } }) end,
    { ramp(2, 2, 5, 4) }, { 2, 12, 6 }, { 0, 0, 0.25, -0.75 }, -9.6875, { -36.25 } },
  { "F.fold(x, (4,5), (2,3), padding=(0,1), stride=(2,1))",
    function(x) return gls.fold(x, { kernel = { 2, 3 }, sizes = { 4, 5 }, padding = { 0, 1 }, stride = { 2, 1 } }) end,
    { ramp(2, 12, 10) }, { 2, 2, 4, 5 }, { 0.25, -1, 1.5, -1.5 }, -1.3125, { -13.5 } },
}

describe("values and gradients as PyTorch's:", function()
  for _, case in ipairs(cases) do
    local name, call, inputs, shape, first, loss, gradients = table.unpack(case)
    it(name, function()
      for _, x in ipairs(inputs) do x:requires_grad(true) end
      local y = call(table.unpack(inputs))
      assert.same(shape, y.shape)
      local values = y:detach():view(-1):tolist()
      for i, value in ipairs(first) do near(value, values[i], "value " .. i) end
      local sum = (y * pattern(shape, 7, 11, 5, 4)):sum()
      near(loss, sum:item(), "loss")
      sum:backward()
      for i, x in ipairs(inputs) do
        near(gradients[i], (x.grad * weights(x.shape)):sum():item(), "gradient " .. i)
      end
      gls.tape_release()
    end)
  end
end)

-- F.max_pool1d(torch.tensor([[[1., 1, 0, nan, 2, -inf, -inf, -inf, 3]]]), 3, 2, 1), and where its gradient goes
it("of equal maxima the first has the gradient, NaN shows, and minus infinity is a value", function()
  local nan, infinite = 0 / 0, math.huge
  local x = gls.tensor { { { 1, 1, 0, nan, 2, -infinite, -infinite, -infinite, 3 } } }:requires_grad(true)
  local y = gls.max_pool1d(x, 3, 2, 1)
  local values = y:detach():view(-1):tolist()
  assert.same({ 1, -infinite, 3 }, { values[1], values[4], values[5] })
  assert.is_true(values[2] ~= values[2] and values[3] ~= values[3])
  y:backward(gls.tensor { { { 1, 0, 0, 0, 1 } } })
  assert.same({ 1, 0, 0, 0, 0, 0, 0, 0, 1 }, x.grad:view(-1):tolist())
  gls.tape_release()
end)

describe("layers", function()
  it("make the shapes that they describe", function()
    gls.seed(3)
    local up = nn.ConvTranspose2d(4, 6, { 3, 2 }, { stride = 2, output_padding = { 1, 0 }, groups = 2 })
    assert.same({ 4, 3, 3, 2 }, up.weight.shape)
    assert.same({ 2, 6, 12, 10 }, up(gls.randn(2, 4, 5, 5)).shape)
    assert.equal("4 → 6, kernel 3×2, stride 2, output padding 1×0, groups 2", up:describe())
    local line = nn.Conv1d(3, 5, 4, { stride = 2, padding = 1 })
    assert.same({ 2, 5, 4 }, line(gls.randn(2, 3, 9)).shape)
    assert.equal("3 → 5, kernel 4, stride 2, padding 1", line:describe())
    assert.same({ 2, 5, 18 }, nn.ConvTranspose1d(3, 5, 4, { stride = 2, padding = 1 })(gls.randn(2, 3, 9)).shape)
    assert.same({ 2, 3, 4 }, nn.MaxPool1d(2)(gls.randn(2, 3, 9)).shape)
    assert.same({ 2, 3, 5 }, nn.AvgPool1d(3, { stride = 2, padding = 1 })(gls.randn(2, 3, 9)).shape)
    assert.equal("kernel 3", nn.AvgPool1d(3):describe())
    gls.tape_release()
  end)

  it("of one dimension have factors for GLS, as those of two", function()
    gls.seed(5)
    local x = gls.randn(6, 2, 7)
    local one, two = nn.Conv1d(2, 3, 3), nn.Conv2d(2, 3, { 1, 3 })
    two.weight:copy(one.weight:detach():view(3, 2, 1, 3))
    two.bias:copy(one.bias:detach())
    local optim = require "gls.optim"
    local function step(layer, images)
      local optimizer = optim.GLS(layer:parameters(), { learning_rate = 0.2 })
      nn.mse(layer(images), gls.zeros_like(layer(images):detach())):backward()
      optimizer:step()
      return layer.weight:detach():view(-1):tolist()
    end
    local first, second = step(one, x), step(two, x:view(6, 2, 1, 7))
    for i = 1, #first do near(second[i], first[i], "weight " .. i) end
  end)
end)

describe("mistakes", function()
  it("say what would be right", function()
    local x = gls.zeros(1, 2, 4, 4)
    fails("output_padding is 2, it goes from 0 to below the stride, 2", gls.conv_transpose2d, x, gls.zeros(2, 1, 3, 3),
      nil, { stride = 2, output_padding = 2 })
    fails("weight (3×1×3×3) in 1 groups takes 3 channels, the images are (1×2×4×4)", gls.conv_transpose2d, x,
      gls.zeros(3, 1, 3, 3))
    fails("three dimensions (N, C, L), not (1×2×4×4)", gls.conv1d, x, gls.zeros(2, 2, 3))
    fails("does not give gradients (1×3×9×9)", gls.conv2d_weight, x, gls.zeros(1, 3, 9, 9), 3)
    fails("sequences have three dimensions (N, C, L), not (1×2×4×4)", gls.max_pool1d, x, 2)
    fails("factor² = 4 does not divide the channels of images (1×2×4×4)", gls.pixel_shuffle, x, 2)
    fails("factor = 3 does not divide the sides of images (1×2×4×4)", gls.pixel_unshuffle, x, 3)
    fails("cannot become 0×4: sides are at least 1", gls.interpolate, x, { 0, 4 })
    fails("(N, C · 4, 9)", gls.fold, gls.zeros(1, 8, 5), { kernel = 2, sizes = 4 })
    fails("a kernel of 5 (dilation 1) does not fit in images (1×2×4×4) with padding 0", gls.unfold, x, 5)
    fails('mode must be "nearest" or "bilinear", got "cubic"', nn.Upsample, 2, { mode = "cubic" })
    fails("output_padding must be whole numbers from 0", nn.ConvTranspose2d, 2, 2, 3, { output_padding = -1 })
  end)
end)
