-- LSTM and GRU: PyTorch's values, and the cells written out in other ops.
local gls = require "gls"
local nn, optim = require "gls.nn", require "gls.optim"
local fails = require("tests.lua.failing").says

local function largest(x) return x:abs():max():item() end

local function near(expected, value, bound)
  if type(expected) == "table" then expected = gls.tensor(expected):view(value.shape) end
  assert.is_true(largest(value - expected) < (bound or 1e-5), ("off by %g"):format(largest(value - expected)))
end

-- Values of PyTorch 2.15, in float64: nn.LSTM and nn.GRU of 2 layers (batch_first) with these weights, bias_hh of the
-- LSTM zero; a loss of the outputs times 1, 2, …; the last states of a packed batch of lengths 4 and 2.
local golden = {
  LSTM = {
    y = { 0.005786, 0.100720, 0.015443, -0.040951, -0.022246, -0.139982, -0.072512, -0.199491, 0.013410, -0.110984,
      0.063496, -0.174538, 0.061331, -0.202352, -0.000035, -0.205093 },
    first = { 0.063273, 0.115217, 0.098443, 0.205619, -0.326403, -0.280054, -0.680050, -0.591293 },
    dx = { 0.150558, 0.169347, 0.185827, 0.382015, 0.386195, 0.385111, -0.012308, -0.021612, -0.030621, 0.110121,
      0.107308, 0.103032, 0.450362, 0.511543, 0.565751, 0.022789, 0.056899, 0.090233, 0.156593, 0.195936, 0.232608,
      0.235026, 0.239941, 0.241587 },
    dweight = { -0.115765, -0.119132, -0.234869, -0.182050, 0.481484, 0.533327, -0.662252, -0.405829, 0.094939,
      0.052629, -0.121377, -0.419979, -0.084921, 0.155855, -0.071461, -0.485039 },
    packed = { -0.072512, -0.199491, 0.063496, -0.174538 },
  },
  GRU = {
    y = { -0.437632, 0.337007, -0.507937, 0.158055, -0.503604, 0.046733, -0.436257, -0.031362, -0.414823, 0.113563,
      -0.425990, -0.015627, -0.481554, -0.100592, -0.514433, -0.130619 },
    first = { -0.537212, 0.036687, -0.648360, -0.412764 },
    dx = { -0.144056, 0.037453, 0.150610, -0.386083, -0.112283, 0.366434, -0.837291, -0.405682, 0.766298, -0.565715,
      -0.352839, 0.503969, -1.636711, -0.451045, 1.557780, -0.899175, -0.130304, 0.876372, -0.844159, -0.204810,
      0.808318, -0.954936, -0.430149, 0.879661 },
    dweight = { -0.128757, -0.483641, -0.060424, -1.203983, 1.852711, -5.603065, 0.108159, -0.109469, 0.263281,
      0.750784, -0.303948, 0.408327 },
    packed = { -0.436257, -0.031362, -0.425990, -0.015627 },
  },
}

local function filled(i, ...)
  local shape, count = { ... }, 1
  for _, size in ipairs(shape) do count = count * size end
  return ((gls.range(1, count) * (0.7 + i / 10)):sin() * 0.6):view(shape)
end

local function example(kind)
  local layer = nn[kind](3, 2, { layers = 2 })
  local _ <close> = gls.no_grad()
  for k, part in ipairs(layer.layers) do
    local order = { part.from_input.weight, part.from_input.bias, part.from_state.weight, part.from_state.bias }
    for i = 1, #order do order[i]:copy(filled(10 * k - 10 + i, table.unpack(order[i].shape))) end
  end
  local x, h = (gls.range(1, 24) * 0.37):cos():view(2, 4, 3), { filled(30, 2, 2), filled(31, 2, 2) }
  if kind == "GRU" then return layer, x, h end
  return layer, x, { gls.cat({ h[1], filled(32, 2, 2) }, 2), gls.cat({ h[2], filled(33, 2, 2) }, 2) }
end

-- A layer's outputs, made time by time of other ops: what gls.lstm and gls.gru are.
local written_out = {}
function written_out.LSTM(part, x, state)
  local width, outputs = part.from_state.inputs, {}
  local h, c = state:narrow(2, 1, width), state:narrow(2, width + 1, width)
  for time = 1, x:size(2) do
    local z = part.from_input(x:select(2, time)) + part.from_state(h)
    local function gate(i) return z:narrow(2, (i - 1) * width + 1, width) end
    c = gate(2):sigmoid() * c + gate(1):sigmoid() * gate(3):tanh()
    h = gate(4):sigmoid() * c:tanh()
    outputs[time] = h
  end
  return gls.stack(outputs, 2)
end
function written_out.GRU(part, x, h)
  local width, outputs = part.from_state.inputs, {}
  for time = 1, x:size(2) do
    local a, b = part.from_input(x:select(2, time)), part.from_state(h)
    local function gate(t, i) return t:narrow(2, (i - 1) * width + 1, width) end
    local reset, update = (gate(a, 1) + gate(b, 1)):sigmoid(), (gate(a, 2) + gate(b, 2)):sigmoid()
    h = (1 - update) * (gate(a, 3) + reset * gate(b, 3)):tanh() + update * h
    outputs[time] = h
  end
  return gls.stack(outputs, 2)
end

for kind, values in pairs(golden) do
  describe("nn." .. kind, function()
    it("gives PyTorch's values and gradients", function()
      local layer, x, state = example(kind)
      x:requires_grad(true)
      local y, after = layer(x, state)
      near(values.y, y)
      near(values.first, after[1])
      near(y:select(2, -1), after[2]:narrow(2, 1, 2), 1e-7);
      (y * gls.range(1, 16):view(2, 4, 2)):sum():backward()
      near(values.dx, x.grad)
      near(values.dweight, layer.layers[1].from_state.weight.grad)
    end)

    it("refuses a sequence of no times", function()
      local layer = example(kind)
      fails(kind .. ": x (batch, times, inputs) with at least one time expected, got shape (2×0×",
        function() layer(gls.zeros(2, 0, layer.layers[1].from_input.inputs)) end)
    end)

    it("keeps the state where the mask is 0, as PyTorch's packed sequences", function()
      local layer, x, state = example(kind)
      local mask = gls.tensor { { 1, 1, 1, 1 }, { 1, 1, 0, 0 } }
      local y, after = layer(x, state, mask)
      near(values.packed, y:select(2, -1))
      near(values.packed, after[2]:narrow(2, 1, 2))
      -- what is not shown changes nothing, and has no gradient
      local other = x:clone()
      other[2]:narrow(1, 3, 2):fill(100)
      other:requires_grad(true)
      local again = layer(other, state, mask)
      near(y:detach(), again:detach(), 1e-7)
      again:sum():backward()
      assert.equal(0, largest(other.grad[2]:narrow(1, 3, 2)))
      assert.is_true(largest(other.grad[2]:narrow(1, 1, 2)) > 0)
    end)

    it("goes on from a state", function()
      local layer, x, state = example(kind)
      local whole = layer(x, state)
      local first, between = layer(x:narrow(2, 1, 1), state)
      local rest = layer(x:narrow(2, 2, 3), between)
      near(whole, gls.cat({ first, rest }, 2), 1e-6)
      near(layer(x), (layer(x, { state[1] * 0, state[2] * 0 })), 1e-7)
    end)

    it("steps with GLS and Adam as the cells written out", function()
      gls.seed(4)
      local width = 7
      local x, state = gls.randn(30, 5, 6), gls.zeros(30, kind == "LSTM" and 2 * width or width)
      local target = gls.randn(30, 5, width)
      local settings = {
        { "Adam", { learning_rate = 0.1 } }, { "GLS", {} }, { "GLS", { rows = 0.5 } },
        { "GLS", { graft = "rms", momentum = 0.9, learning_rate = 0.1 } },
      }
      for _, setting in ipairs(settings) do
        local after = {}
        for way = 1, 2 do
          gls.seed(5)
          local layer = nn[kind](6, width)
          local optimizer = optim[setting[1]](layer:parameters(), setting[2])
          for _ = 1, 2 do
            local y = way == 1 and layer(x) or written_out[kind](layer.layers[1], x, state)
            nn.mse(y, target):backward()
            optimizer:step()
          end
          after[way] = layer.layers[1]
        end
        for _, name in ipairs { "from_input", "from_state" } do
          near(after[2][name].weight:detach(), after[1][name].weight:detach(), 2e-3)
        end
      end
    end)

    it("does not explode under the automatic rate of GLS", function()
      -- The highest and the last loss over tokens, each of which, with a chance of nine in ten, is three times the one
      -- before it.
      local function train(settings)
        gls.seed(3)
        local model = nn.Sequential { nn.Embedding(17, 32), nn[kind](32, 32, { layers = 2 }), nn.Linear(32, 17) }
        local optimizer = optim.GLS(model:parameters(), settings)
        local first, highest, last
        for _ = 1, 30 do
          local x = gls.zeros(16, 33)
          x[{ {}, 1 }] = (gls.rand(16) * 17):floor()
          for t = 2, 33 do
            local other, next = (gls.rand(16) * 17):floor(), x[{ {}, t - 1 }] * 3
            next = next - (next / 17):floor() * 17
            x[{ {}, t }] = gls.where(gls.rand(16):lt(0.1), other, next)
          end
          local tokens = (x + 1):to "int32"
          local loss = nn.cross_entropy(model(tokens:narrow(2, 1, 32)):view(-1, 17),
            tokens:narrow(2, 2, 32):contiguous():view(-1))
          loss:backward()
          optimizer:step()
          last = loss:item()
          first, highest = first or last, math.max(highest or last, last)
        end
        return first, highest, last
      end
      local first, highest, last = train {}
      assert(highest == first and last < 2.2, ("%g, at most %g, at last %g"):format(first, highest, last))
      first, highest = train { trust = 0 }
      assert(highest > 2 * first, "and the bound is what keeps it")
    end)

    it("leaves factors of both weights, all times stacked", function()
      local layer, x = example(kind)
      layer(x):sum():backward()
      for _, name in ipairs { "from_input", "from_state" } do
        local weight = layer.layers[2][name].weight
        local factors = gls.factors(weight)
        assert.equal(1, #factors)
        assert.equal(8, factors[1].a:size(1))
        near(weight.grad, factors[1].a:t():matmul(factors[1].g), 1e-6)
      end
    end)

    it("adds up several backward passes, and weights that are no leaves", function()
      local layer, x, state = example(kind)
      local part = layer.layers[1]
      local function states() return layer.op(part.from_input(x), part.from_state.weight, nil, state[1]) end
      states():sum():backward()
      local once = part.from_state.weight.grad:clone()
      local same = states()
      layer:zero_grad()
      same:sum():backward()
      same:sum():backward()
      near(once * 2, part.from_state.weight.grad)
      layer:zero_grad()
      layer.op(part.from_input(x), part.from_state.weight * 2 / 2, nil, state[1]):sum():backward()
      near(once, part.from_state.weight.grad)
    end)

    it("says what does not fit", function()
      local layer, x = example(kind)
      fails("the state has shape (2×7)", layer, x, { gls.ones(2, 7), gls.ones(2, 7) })
      fails("the mask has shape (4×2), expected (2×4)", layer, x, nil, gls.ones(4, 2))
      fails("the weight is width", layer.op, x, gls.ones(2, 7))
      fails("x is (batch, times", layer.op, x, layer.layers[1].from_state.weight)
      fails("layers must be a whole number", nn[kind], 3, 2, { layers = 0 })
      fails("dropout: a probability from 0 to below 1", nn[kind], 3, 2, { dropout = -0.1 })
      fails("the state has an entry for each of the 2 layers, got 1", layer, x, { gls.ones(2, 7) })
      fails("the state has an entry for each of the 2 layers, got string", layer, x, "zeros")
    end)
  end)
end

describe("nn.LSTM", function()
  it("drops between layers in training", function()
    gls.seed(2)
    local layer = nn.LSTM(3, 4, { layers = 2, dropout = 0.5 })
    local x = gls.randn(2, 3, 3)
    assert.is_true(largest((layer(x)) - (layer(x))) > 0)
    layer:eval()
    assert.equal(0, largest((layer(x)) - (layer(x))))
    assert.equal(1, layer.layers[1].from_input.bias[5]:item())
  end)
end)

describe("a weight that a script loops over", function()
  -- How many layers' steps the bound of recurrent nets has shortened.
  local function limits(forward, passes)
    gls.seed(2)
    local loop, head = nn.Linear(8, 8), nn.Linear(8, 3)
    local parameters = loop:parameters()
    for _, parameter in ipairs(head:parameters()) do parameters[#parameters + 1] = parameter end
    parameters.names, parameters.owners = nil, nil
    local optimizer = optim.GLS(parameters, { damping = 1e-4 })
    for _ = 1, passes or 1 do
      nn.cross_entropy(head(forward(loop, gls.randn(12, 8))), gls.tensor({ 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3 },
        { type = "int32" })):backward()
    end
    optimizer:step()
    return optimizer:report().trust_limits
  end

  it("has the bound of recurrent nets, one that serves several branches has not", function()
    local function looped(times)
      return function(loop, x)
        for _ = 1, times do x = loop(x):tanh() end
        return x
      end
    end
    assert.is_true(limits(looped(6)) > 0)
    assert.is_true(limits(function(loop, x) return looped(6)(loop, x) + loop(x * 0.5) end) > 0) -- another use after it
    assert.equal(0, limits(looped(2), 3))
    assert.equal(0, limits(function(loop, x)
      local sum = gls.zeros(12, 8)
      for i = 1, 6 do sum = sum + loop(x * i):tanh() end
      return sum
    end))
  end)
end)
