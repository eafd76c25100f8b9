-- gls.anomaly: the first number that is not finite is named with op, module, step and what the op was given.
local gls = require "gls"
local nn, optim = require "gls.nn", require "gls.optim"

after_each(function()
  gls.anomaly(false)
  gls.tape_release()
end)

local function message_of(f, ...)
  local good, message = pcall(f, ...)
  assert.is_false(good)
  return message
end

local function says(message, ...)
  for _, part in ipairs { ... } do assert.truthy(message:find(part, 1, true), message) end
end

describe("gls.anomaly", function()
  it("names the op, the module's path, the step and the inputs of a forward", function()
    local Scale = nn.class "Scale"
    function Scale:init() self.by = 1 end
    function Scale:forward(x) return (x * self.by):exp() end
    local model = nn.Sequential { nn.Linear(2, 2), nn.Sequential { Scale() } }
    model[1].weight:detach():copy(gls.tensor { { 1, 0 }, { 0, 1 } })
    model[1].bias:detach():fill(0)
    local optimizer = optim.SGD(model:parameters(), { learning_rate = 0 })
    local x = gls.tensor { { 1, 2 }, { 3, 4 }, { -5, 0 } }
    local function step()
      model(x):sum():backward()
      optimizer:step()
    end
    gls.anomaly(true)
    step()
    step()
    model[2][1].by = 30
    -- exp(30 · 3) is beyond float32, exp(60) is not: elements (2, 1) and (2, 2).
    says(message_of(step), "2.1 (Scale): anomaly: exp gives infinity at (2, 1) and in 1 elements more, in step 3",
      "input 1 (3×2): from -150 to 120, mean 25")
    gls.anomaly(false)
    step()
  end)

  it("names the op, the module's path and the gradient of a backward", function()
    local Root = nn.class "Root"
    function Root:init() self.linear = nn.Linear(2, 3, { bias = false }) end
    function Root:forward(x) return self.linear(x):sqrt() end
    local model = nn.Sequential { Root() }
    model[1].linear.weight:detach():fill(0)
    gls.anomaly(true)
    says(message_of(function() model(gls.ones(1, 2)):sum():backward() end),
      "anomaly: the gradient of input 1 of sqrt in 1 is infinity at (1, 1) and in 2 elements more, in step 1",
      "gradient of its result (1×3): from 1 to 1, mean 1")
    gls.tape_release()
    -- A product 0 · ∞ of a script's own function.
    local f = gls.fn {
      forward = function(_, x) return x * 1 end,
      backward = function(_, gradient) return gradient * (0 / 0) end,
    }
    says(message_of(function() f(gls.ones(2):requires_grad(true)):sum():backward() end),
      "anomaly: affine gives NaN at (1) and in 1 elements more")
  end)

  it("looks at gradients that are asked for, and at theirs", function()
    local x = gls.tensor({ 0, 1 }):requires_grad(true)
    for _, settings in ipairs { {}, { create_graph = true } } do
      local message = message_of(gls.anomaly, function() return gls.grad((x ^ 0.5):sum(), x, settings) end)
      says(message, "the gradient of input 1 of power is infinity at (1)", "gradient of its result")
    end
    local second = message_of(gls.anomaly, function()
      return gls.grad(gls.grad((x ^ 1.5):sum(), x, { create_graph = true }):sum(), x)
    end)
    says(second, "infinity at (1)")
    local linear, input = nn.Linear(2, 1), gls.tensor { { 1, 2 } } -- of whose gradients gls.hvp makes no values
    local function loss() return (linear(input) ^ 2):sum() / 2 end
    assert.same({ { 3 }, { 6 } }, gls.anomaly(gls.hvp, loss, linear.weight, gls.ones(2, 1)):tolist())
  end)

  it("says that an input had it before", function()
    gls.anomaly(true)
    local x = gls.tensor { 1, 0 / 0, math.huge }
    says(message_of(function() return x + 1 end), "affine gives NaN at (2) and in 1 elements more",
      "input 1 (3): from 1 to 1, mean 1, 1 NaN, 1 infinite")
  end)

  it("leaves alone an infinity that was given, and integers", function()
    gls.anomaly(true)
    local masked = gls.zeros(2, 2):masked_fill(gls.tensor { { 0, 1 }, { 0, 0 } }, -math.huge)
    assert.same({ { 1, 0 }, { 0.5, 0.5 } }, masked:softmax():tolist())
    assert.equal(-math.huge, (gls.tensor { -math.huge } + 1):item())
    assert.equal(3, (gls.tensor({ 1, 2 }, { type = "int32" })):sum():item())
    says(message_of(function() return masked * gls.zeros(2, 2) end), "mul gives NaN at (1, 2)",
      "input 1 (2×2): from 0 to 0, mean 0, 1 infinite")
    says(message_of(function() return masked:softmax():log() end), "log gives -infinity at (1, 2)")
  end)

  it("runs a function, gives what was, and changes no number", function()
    assert.is_false(gls.anomaly(true))
    assert.is_true(gls.anomaly(false))
    assert.same({ 3, 4 }, { gls.anomaly(function(a, b) return a, b end, 3, 4) })
    assert.has_error(function() gls.anomaly(function() error("mine", 0) end) end, "mine")
    assert.is_false(gls.anomaly(false))
    assert.error_matches(function() gls.anomaly(3) end, "true, false or a function expected, got number")
    local function weights()
      gls.seed(1)
      local model = nn.Sequential { nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 3) }
      local optimizer = optim.GLS(model:parameters())
      for _ = 1, 3 do
        nn.cross_entropy(model(gls.randn(20, 4)), gls.randint(1, 3, 20)):backward()
        optimizer:step()
      end
      return model[1].weight:tolist()
    end
    assert.same(weights(), gls.anomaly(weights))
  end)

  it("asks for nothing that modules raise themselves", function()
    gls.anomaly(true)
    local model = nn.Sequential { nn.Linear(2, 2) }
    for _ = 1, 200 do assert.has_error(function() model(gls.ones(3, 3)) end) end
    assert.equal(0, gls.core.place_depth())
  end)
end)
