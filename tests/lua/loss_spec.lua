-- Losses, layers and schedules against values of PyTorch 2.15 (torch.nn.functional and torch.optim.lr_scheduler,
-- float32), recorded to six digits.
local gls = require "gls"
local nn = require "gls.nn"
local optim = require "gls.optim"

local x = gls.tensor { { 0.5, -1.0, 2.0 }, { 1.5, 0.25, -0.75 }, { -2.0, 0.5, 1.0 }, { 0.0, 3.0, -1.0 } }
local labels = gls.tensor({ 3, 1, 2, 2 }, { type = "int32" })
local with_ignored = gls.tensor({ 3, -7, 2, 2 }, { type = "int32" })
local weight = gls.tensor { 0.5, 2.0, 1.25 }
local soft = gls.tensor { { 0.2, 0.3, 0.5 }, { 1.0, 0.0, 0.0 }, { 0.1, 0.6, 0.3 }, { 0.25, 0.5, 0.25 } }

local function near(expected, got)
  got = got:reshape(-1):tolist()
  if type(got) ~= "table" then got = { got } end
  assert.equal(#expected, #got)
  for i, value in ipairs(expected) do
    assert(math.abs(value - got[i]) <= 2e-6 * math.max(1, math.abs(value)),
      ("entry %d is %.7g, PyTorch has %.7g"):format(i, got[i], value))
  end
end

describe("cross-entropy", function()
  it("takes weights of classes, a label to ignore, smoothing, and every reduction", function()
    local all = { weight = weight, ignore = -7, label_smoothing = 0.2 }
    for reduction, expected in pairs {
      mean = { { 0.453554 }, { 0.437264 }, { 0.610863 }, { 0.69395 } },
      sum = { { 2.607937 }, { 1.311792 }, { 3.207029 }, { 2.775798 } },
      none = { { 0.301639, 0.165336, 2.009194, 0.131768 }, { 0.241311, 0, 1.004597, 0.065884 },
        { 0.751639, 0, 1.900171, 0.555219 }, { 0.541311, 0.564006, 1.13793, 0.532551 } },
    } do
      all.reduction = reduction
      near(expected[1], nn.cross_entropy(x, labels, { weight = weight, reduction = reduction }))
      near(expected[2], nn.cross_entropy(x, with_ignored, { ignore = -7, reduction = reduction }))
      near(expected[3], nn.cross_entropy(x, with_ignored, all))
      near(expected[4], nn.cross_entropy(x, labels, { label_smoothing = 0.2, reduction = reduction }))
    end
    assert.same({ 2, 2 }, nn.cross_entropy(x:view(2, 2, 3), labels:view(2, 2), { reduction = "none" }).shape)
  end)

  it("takes probabilities in place of labels", function()
    local smoothed = { weight = weight, label_smoothing = 0.1 }
    near({ 1.173116 }, nn.cross_entropy(x, soft))
    near({ 1.499292 }, nn.cross_entropy(x, soft, smoothed))
    near({ 1.441311, 0.330673, 1.104597, 1.815884 }, nn.cross_entropy(x, soft, { reduction = "none" }))
  end)

  it("with an ignored label has the gradient of the rows that count, and GLS's curvature", function()
    local model = nn.Linear(3, 3)
    nn.cross_entropy(model(x), with_ignored, { ignore = -7 }):backward()
    local gradient = model.weight.grad:tolist()
    model:zero_grad()
    gls.core.tape_release()
    local rows = gls.tensor({ 1, 3, 4 }, { type = "int32" })
    nn.cross_entropy(model(x:index_select(1, rows)), labels:index_select(1, rows)):backward()
    for i, row in ipairs(model.weight.grad:tolist()) do
      for j, value in ipairs(row) do assert.is_true(math.abs(value - gradient[i][j]) < 1e-6) end
    end
    optim.GLS(model:parameters()):step()
  end)

  it("says what is wrong", function()
    assert.error_matches(function() nn.cross_entropy(x, labels, { reduction = "max" }) end, '"none", got "max"')
    assert.error_matches(function() nn.cross_entropy(x, labels, { weight = gls.ones(2) }) end, "3 numbers, one a class")
    assert.error_matches(function() nn.cross_entropy(x, soft, { ignore = 1 }) end, "ignore is for labels")
    local none = gls.full({ 4 }, -7):int()
    assert.error_matches(function() nn.cross_entropy(x, none, { ignore = -7 }) end, "every label is %-7")
    assert.error_matches(function() nn.cross_entropy(x) end, "target must be a tensor, got nil")
    assert.error_matches(function() nn.cross_entropy(x, soft, { weight = gls.ones(4, 1) }) end, "3 numbers")
    for _, target in ipairs { labels, soft } do
      for _, smoothing in ipairs { 2, -1, 0 / 0 } do
        local settings = { weight = weight, label_smoothing = smoothing }
        assert.error_matches(function() nn.cross_entropy(x, target, settings) end, "it goes from 0 to 1")
      end
    end
  end)

  it("refuses labels that are not int32, and probabilities of another shape than the logits'", function()
    local square = gls.ones(4, 4)
    for _, target in ipairs { gls.tensor { 2, 1, 4, 3 }, gls.tensor({ 2, 1, 4, 3 }, { type = "uint8" }),
      gls.ones(4, 1), gls.ones(1, 4) } do
      assert.error_matches(function() nn.cross_entropy(square, target) end,
        'the first argument %(4×4%): target needs shape %(4×4%) for probabilities; labels are int32 %(:to "int32"%)')
    end
    assert.error_matches(function() nn.cross_entropy(square, square:to "uint8") end,
      "target is uint8, the first argument float32 for probabilities; labels")
    for _, reduction in ipairs { "mean", "sum", "none" } do
      for _, name in ipairs { "mse", "l1", "huber", "binary_cross_entropy" } do
        assert.error_matches(function() nn[name](square, square:to "int32", { reduction = reduction }) end, "int32")
      end
    end
    assert.error_matches(function() nn.nll(x, labels:to "float32", { ignore = 1, reduction = "none" }) end,
      "target is float32; labels are int32")
  end)

  it("refuses labels of another shape than the logits' without their classes, whatever the settings", function()
    local logits, given = gls.ones(2, 3, 5), gls.full({ 3, 2 }, 1, { type = "int32" })
    for _, settings in ipairs { {}, { weight = gls.ones(5) }, { ignore = -1 }, { reduction = "none" } } do
      assert.error_matches(function() nn.cross_entropy(logits, given, settings) end, "%(3×2%), .*shape %(2×3%)")
      assert.error_matches(function() nn.nll(logits, given, settings) end, "%(3×2%), .*shape %(2×3%)")
    end
  end)
end)

describe("losses", function()
  it("of log-probabilities and distributions", function()
    local log_p = x:log_softmax(-1)
    local all = { weight = weight, ignore = -7 }
    near({ 0.465257 }, nn.nll(log_p, with_ignored, all))
    all.reduction = "none"
    near({ 0.301639, 0, 2.009194, 0.131768 }, nn.nll(log_p, with_ignored, all))
    near({ 0.431286 }, nn.kl(log_p, soft))
    near({ 1.725145 }, nn.kl(log_p, soft, { reduction = "sum" }))
    near({ 0.411658, 0.330673, 0.206651, 0.776163 }, nn.kl(log_p, soft, { reduction = "none" }))
  end)

  it("of directions and margins", function()
    local other, pairs_of = x:flip(1) + soft * 0.5, gls.tensor { 1, -1, 1, -1 }
    near({ -0.619708, -0.906327, -0.853819, -0.591608 }, nn.cosine_similarity(x, other))
    near({ 1 }, nn.cosine_similarity(gls.tensor { { 1e-6, 0 } }, gls.tensor { { 1, 0 } }))
    near({ 0.868382 }, nn.cosine(x, other, pairs_of, { margin = 0.1 }))
    near({ 1.619708, 0, 1.853819, 0 }, nn.cosine(x, other, pairs_of, { margin = 0.1, reduction = "none" }))
    local signs = gls.tensor { { 1, -1, 1 }, { -1, 1, 1 }, { 1, 1, -1 }, { -1, -1, 1 } }
    near({ 1.5 }, nn.hinge(x, signs))
  end)

  it("of every element", function()
    local none = { reduction = "none" }
    near({ 0.09, 1.69, 2.25, 0.25, 0.0625, 0.5625, 4.41, 0.01, 0.49, 0.0625, 6.25, 1.5625 }, nn.mse(x, soft, none))
    near({ 0.3, 1.3, 1.5, 0.5, 0.25, 0.75, 2.1, 0.1, 0.7, 0.25, 2.5, 1.25 }, nn.l1(x, soft, none))
    near({ 0.045, 0.665, 0.805, 0.125, 0.03125, 0.28, 1.225, 0.005, 0.245, 0.03125, 1.505, 0.63 },
      nn.huber(x, soft, { delta = 0.7, reduction = "none" }))
    near({ 0.874077, 0.613262, 1.126928, 0.201413, 0.825939, 0.386871, 0.326928, 0.674077, 1.013262, 0.693147, 1.548587,
      0.563262 }, nn.binary_cross_entropy(x, soft, none))
  end)

  it("keep the digits of an element's cross-entropy", function()
    local logits = gls.tensor { 20, 15, 12, -12 }:requires_grad(true)
    local values = nn.binary_cross_entropy(logits, gls.tensor { 1, 1, 1, 0 }, { reduction = "none" })
    values:sum():backward()
    for i, value in ipairs { 2.0611536e-9, 3.0590227e-7, 6.1441935e-6, 6.1441935e-6 } do -- PyTorch, float64
      assert.is_true(math.abs(values[i]:item() / value - 1) < 1e-5)
      assert.is_true(math.abs(math.abs(logits.grad[i]:item()) / value - 1) < 1e-5)
    end
  end)

  it("refuse shapes that would broadcast", function()
    local column, row = gls.ones(4, 1), gls.ones(4)
    for _, reduction in ipairs { "mean", "sum", "none" } do
      local settings = { reduction = reduction }
      for _, name in ipairs { "mse", "l1", "huber", "binary_cross_entropy", "hinge", "kl" } do
        assert.error_matches(function() nn[name](column, row, settings) end, name .. ": .*%(4×1%)")
      end
      assert.error_matches(function() nn.cosine(column, row, row, settings) end, "b has shape %(4%), .*shape %(4×1%)")
      assert.error_matches(function() nn.cosine(column, column, column, settings) end,
        "target has shape %(4×1%), .*shape %(4%)")
    end
    assert.error_matches(function() nn.hinge(row, 1) end, "nn.hinge: target must be a tensor, got number")
  end)

  it("of every element can be fused", function()
    for _, name in ipairs { "mse", "l1", "binary_cross_entropy", "hinge" } do
      local function elements(prediction, target) return nn[name](prediction, target, { reduction = "none" }) end
      near(elements(x, soft):reshape(-1):tolist(), gls.fuse(elements)(x, soft))
    end
  end)

  it("refuse a delta that is not positive, and answer NaN for a negative probability", function()
    for _, reduction in ipairs { "mean", "none" } do
      for _, delta in ipairs { 0, -1, 0 / 0 } do
        assert.error_matches(function() nn.huber(x, soft, { delta = delta, reduction = reduction }) end,
          "must be positive")
      end
    end
    local value = nn.kl(x, soft - 0.3):item()
    assert.is_true(value ~= value)
  end)
end)

describe("layers", function()
  local images = gls.arange(0, 24):sin():view(2, 3, 2, 2)
  it("normalise every channel of every image", function()
    near({ -1.617444, 0.068817, 1.074222, 0.474406, 0.406813, -1.161517, -0.671546, 1.42625, 0.962963, 0.856387,
      -0.324777, -1.494572 }, nn.InstanceNorm(3)(images)[2])
    assert.error_matches(function() nn.InstanceNorm(3)(gls.ones(2, 3)) end, "more than one value a channel")
  end)

  it("train the slope below 0, one or one a channel", function()
    near({ 0, 0.841471, 0.909297, 0.14112, -0.07568, -0.095892, -0.027942, 0.656987, 0.989358, 0.412118, -0.054402,
      -0.099999 }, nn.PReLU(1, 0.1)(images[1]))
    local layer = nn.PReLU(3)
    layer.weight:detach():copy(gls.tensor { 0.1, 0.2, 0.3 })
    near({ -0.053657, 0.420167, 0.990607, 0.650288, -0.057581, -0.19228, -0.150197, 0.149877, 0.912945, 0.836656,
      -0.002655, -0.253866 }, layer(images)[2])
  end)

  it("have softmax along a dimension, and lists of modules", function()
    assert.is_true(math.abs(nn.Softmax(1)(x):sum():item() - 3) < 1e-5)
    assert.same(x:log_softmax(2):tolist(), nn.LogSoftmax()(x):tolist())
    local list = nn.ModuleList { nn.Linear(2, 3) }
    list:add(nn.Linear(3, 4))
    assert.same({ "1.weight", "1.bias", "2.weight", "2.bias" }, list:parameters().names)
    local places = {}
    for i, module in ipairs(list) do places[i] = module.outputs end
    assert.same({ 3, 4 }, places)
    assert.error_matches(function() list:add(print) end, "nn.ModuleList: entry 3 must be a module, got function")
  end)
end)

describe("schedules", function()
  local function factors(schedule, count)
    local list = {}
    for step = 0, count - 1 do list[step + 1] = schedule(step) end
    return gls.tensor(list)
  end

  it("fall exponentially, at milestones, and at the end", function()
    near({ 1, 0.9, 0.81, 0.729, 0.6561 }, factors(optim.schedule.exponential { gamma = 0.9 }, 5))
    near({ 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01 }, factors(optim.schedule.multi_step { milestones = { 2, 5 } }, 8))
    near({ 0.5, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0, 0 }, -- MiniCPM's shape, by hand
      factors(optim.schedule.stable { steps = 8, warmup = 2, decay = 4 }, 10))
    assert.error_matches(function() optim.schedule.multi_step { milestones = { 2, nil, 5 } } end, "entry 2")
    assert.error_matches(function() optim.schedule.exponential { gamma = 1.5 } end,
      "gamma is 1.5, expected a number above 0 and at most 1")
    assert.error_matches(function() optim.schedule.stable { steps = 8, warmup = 5, decay = 4 } end, "more than the 8")
  end)

  it("fall when a loss does not, and are saved with the optimizer", function()
    local values = { 1, 0.9, 0.895, 0.894, 0.893, 0.892, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8 }
    local function made()
      return optim.schedule.plateau { gamma = 0.5, patience = 1, threshold = 0.01, cooldown = 1, least = 0.2 }
    end
    local plateau, p, list = made(), gls.ones(1):requires_grad(true), {}
    local sgd = optim.SGD({ p }, { learning_rate = 1, schedule = plateau })
    for i, value in ipairs(values) do
      list[i] = plateau()
      if i == 7 then -- cut and resumed
        local state = sgd:state_dict()
        plateau = made()
        sgd = optim.SGD({ p }, { learning_rate = 1, schedule = plateau })
        sgd:load_state_dict(state)
      end
      plateau:observe(value)
    end
    near({ 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.2, 0.2 }, gls.tensor(list))
  end)
end)
