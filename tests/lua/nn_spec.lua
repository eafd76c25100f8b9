-- Modules: classes, parameters and state, errors, layers, losses, initialisation.
local gls = require "gls"
local nn = require "gls.nn"
local fails = require("tests.lua.failing").matches

local function largest(x) return x:abs():max():item() end

describe("class", function()
  it("makes callable modules with inheritance", function()
    local Base = nn.class("Base")
    function Base:init(width) self.linear = nn.Linear(width, 2) end
    function Base:forward(x) return self.linear(x) end
    local Derived = nn.class("Derived", Base)
    function Derived:forward(x) return Base.forward(self, x) * 0 end
    local model = Derived(3)
    assert.same({ { 0, 0 } }, model(gls.ones(1, 3)):tolist())
    assert.is_true(nn.is_module(model))
    assert.is_false(nn.is_module(Derived))
    fails("has no forward", nn.class("Empty")(), gls.ones(1))
  end)

  it("finds parameters in fields, lists and shared places once, in order of creation", function()
    local Net = nn.class("Net")
    function Net:init()
      self.second = nn.Linear(2, 2)
      self.first = nn.Linear(2, 2, { bias = false })
      self.blocks = { nn.Linear(1, 1), { inner = nn.Linear(1, 1, { bias = false }) } }
      self.scale = gls.ones(2):requires_grad(true)
      self.again = self.second
      self.constant = gls.ones(2)
      self:buffer("count", gls.zeros(1))
    end
    local list = Net():parameters()
    assert.same({ "second.weight", "second.bias", "first.weight", "blocks.1.weight", "blocks.1.bias",
      "blocks.2.inner.weight", "scale" }, list.names)
    assert.equal("Linear", list.owners[1].name)
    assert.equal("Net", list.owners[7].name)
    assert.same({ "count" }, Net():buffers().names)
    assert.equal(4 + 2 + 4 + 1 + 1 + 1 + 2, Net():parameter_count())
    local names = {}
    for name, parameter in Net():named_parameters() do names[name] = parameter:numel() end
    assert.equal(4, names["first.weight"])
  end)

  it("finds parameters under all numbers of a table, and refuses keys without a name", function()
    local function model(heads)
      local Net = nn.class("Net")
      function Net:init()
        self.heads = {}
        for _, key in ipairs(heads) do self.heads[key] = nn.Linear(1, 1, { bias = false }) end
      end
      return Net()
    end
    local net = model { "a", 5, 0, 1, 2 }
    local names = { "heads.0.weight", "heads.1.weight", "heads.2.weight", "heads.5.weight", "heads.a.weight" }
    assert.same(names, net:parameters().names)
    for _, name in ipairs(names) do assert.is_truthy(net:state_dict()[name]) end
    assert.is_false(net:eval().heads[5].training)
    assert.matches("heads.5: Linear", tostring(net), 1, true)
    fails("nn_spec.lua:%d+: a table in a model's field holds a Linear under a key that is a boolean: keys are "
      .. "numbers or strings", function() model({ 1, true }):parameters() end)
    net.seen = { [net] = true, [true] = gls.zeros(2) } -- no parameter, no module
    assert.equal(5, #net:parameters())
  end)

  it("refuses two tensors of one name", function()
    local Net = nn.class("Net")
    function Net:init()
      self["a.b"] = nn.Linear(2, 2)
      self.a = { b = nn.Linear(2, 2) }
    end
    local net = Net()
    for _, method in ipairs { "parameters", "state_dict" } do
      fails('nn_spec.lua:%d+: two tensors of Net have the name "a.b.weight"', function() net[method](net) end)
    end
    net["a.b"] = nil
    assert.equal(2, #net:parameters())
  end)

  it("switches training mode in the whole tree", function()
    local model = nn.Sequential { nn.Dropout(0.5), nn.Residual(nn.Sequential { nn.Dropout(0.5) }) }
    local x = gls.ones(100)
    assert.not_same(x:tolist(), model(x):tolist())
    model:eval()
    assert.same((x * 2):tolist(), model(x):tolist())
    model:train()
    assert.is_true(model[2].module[1].training)
  end)

  it("has methods that refuse to be called with a dot, or of a class, at the line of the script", function()
    local model, given = nn.Linear(2, 2), { train = false, load_state_dict = {}, buffer = "x" }
    for _, name in ipairs { "parameters", "named_parameters", "buffers", "buffer", "modules", "parameter_count",
      "train", "eval", "zero_grad", "state_dict", "load_state_dict", "clone" } do
      fails("nn_spec%.lua:%d+: a model expected, got " .. type(given[name]) .. ": .* model:eval%(%), not model",
        function() model[name](given[name]) end)
    end
    fails("a model expected, got class Linear: call it to make one", function() nn.Linear:eval() end)
    assert.is_false(model.eval(model).training)
  end)

  it("prints as a tree with shapes and counts", function()
    local text = tostring(nn.Sequential { nn.Linear(30, 40), nn.ReLU(), nn.Conv2d(3, 4, 3, { stride = 2 }) })
    assert.matches("1: Linear 30 → 40  weight %(30×40%), bias %(40%)  %[1 240%]", text)
    assert.matches("2: ReLU", text)
    assert.matches("kernel 3×3, stride 2", text)
    assert.matches("1 352 parameters", text)
  end)
end)

describe("errors in a model", function()
  local model
  before_each(function()
    model = nn.Sequential { nn.Linear(4, 3), nn.Residual(nn.Sequential { nn.Linear(3, 3), nn.Linear(2, 3) }) }
  end)

  it("name the path and the class, at the line of the script", function()
    local ok, message = pcall(function()
      local y = model(gls.ones(1, 4))
      return y
    end)
    assert.is_false(ok)
    assert.matches("nn_spec%.lua:%d+: 2%.module%.2 %(Linear%): linear: .*%(1×3%).*%(2×3%)", message)
    fails("^[^\n]-1 %(Linear%): linear: ", function()
      local y = model(gls.ones(1, 5))
      return y
    end)
  end)

  it("leave the model usable", function()
    pcall(model, gls.ones(1, 4))
    assert.same({ 1, 3 }, model[1](gls.ones(1, 4)).shape)
    local ok, message = pcall(model, gls.ones(1, 5))
    assert.is_false(ok)
    assert.matches("1 %(Linear%)", message)
  end)

  it("pass through values that are not messages", function()
    local Odd = nn.class("Odd")
    function Odd.forward() error({ code = 7 }) end
    local _, value = pcall(nn.Sequential { Odd() }, gls.ones(1))
    assert.equal(7, value.code)
  end)

  it("in construction name the layer and the nearest option", function()
    fails('nn_spec.lua:%d+: nn.Linear: unknown option "bais"; did you mean "bias"', function()
      local layer = nn.Linear(2, 3, { bais = true })
      return layer
    end)
    fails("nn.Linear: outputs must be a whole number from 1, got nil", nn.Linear, 3)
    fails("groups = 2 must divide inputs 3", nn.Conv2d, 3, 4, 3, { groups = 2 })
    fails("a class: call it to make one", nn.Sequential, { nn.ReLU })
    fails('unknown initialisation "he_norm"; did you mean "he_normal"', nn.Linear, 2, 2, { init = "he_norm" })
    fails("probability from 0 to below 1", nn.Dropout, 1)
  end)
end)

describe("state", function()
  local function make()
    return nn.Sequential { nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3) }
  end

  it("goes from one model to another", function()
    gls.seed(1)
    local a, b = make(), make()
    local x = gls.randn(5, 1, 4, 4)
    a(x)
    b:load_state_dict(a:state_dict())
    a:eval()
    b:eval()
    assert.same(a(x):tolist(), b(x):tolist())
  end)

  it("is a copy, unless memory is to be shared", function()
    local model = make()
    local copy, shared = model:state_dict(), model:state_dict { copy = false }
    model[4].bias:fill(5)
    assert.not_equal(5, copy["4.bias"][1]:item())
    assert.equal(5, shared["4.bias"][1]:item())
    assert.is_false(shared["4.bias"]:requires_grad())
  end)

  it("is strict: names everything that is wrong and changes nothing", function()
    local model = make()
    local state = model:state_dict()
    state["2.running_mean"] = nil
    state["4.weight"] = gls.ones(3, 8)
    state["5.weight"] = gls.ones(1)
    state["4.bias"] = gls.full(3, 42)
    local ok, message = pcall(model.load_state_dict, model, state)
    assert.is_false(ok)
    assert.matches("missing: 2.running_mean %(2%)", message)
    assert.matches("differs: 4.weight is float32 %(8×3%) in the model, float32 %(3×8%)", message)
    assert.matches("unknown: 5.weight", message)
    assert.not_equal(42, model[4].bias[1]:item())
  end)

  it("holds frozen layers and constants too, so that what is loaded predicts as what was saved", function()
    local Scaled = nn.class("Scaled")
    function Scaled:init() self.inner, self.factor = nn.Linear(2, 3), gls.rand(3) end
    function Scaled:forward(x) return self.inner(x) * self.factor end
    local function frozen()
      local made = Scaled()
      made.inner.weight:requires_grad(false)
      return made
    end
    local first, second = frozen(), frozen()
    second:load_state_dict(first:state_dict())
    local x = gls.randn(4, 2)
    assert.same(first(x):tolist(), second(x):tolist())
    assert.same({ "inner.bias" }, second:parameters().names)
    assert.matches("weight %(2×3%) frozen", tostring(second))
  end)

  it("is taken as far as it fits when strict is false, and what is left out is named", function()
    local from = nn.Sequential { nn.Linear(2, 3), nn.Linear(3, 4) }
    local to = nn.Sequential { nn.Linear(2, 3), nn.Linear(3, 5) }
    local state = from:state_dict()
    state["2.bias"] = nil
    local before = to[2].weight:detach():tolist()
    local same, left = to:load_state_dict(state, { strict = false })
    assert.equal(to, same)
    assert.same({ "differs: 2.weight is float32 (3×5) in the model, float32 (3×4) in the state",
      "missing: 2.bias (5)" }, left)
    assert.same(from[1].weight:detach():tolist(), to[1].weight:detach():tolist())
    assert.same(before, to[2].weight:detach():tolist())
  end)

  it("is cloned with tensors of its own, and what is shared within it stays shared", function()
    local Tied = nn.class("Tied")
    function Tied:init()
      self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
      self.b.weight = self.a.weight
      self.norm = nn.BatchNorm(3)
    end
    function Tied:forward(x) return self.norm(self.b(self.a(x):relu())) end
    local model = Tied():eval()
    model.a.bias:requires_grad(false)
    local twin, x = model:clone(), gls.randn(5, 3)
    assert.same(model(x):tolist(), twin(x):tolist())
    assert.same(model:parameters().names, twin:parameters().names)
    assert.equal(twin.a.weight, twin.b.weight)
    assert.is_false(twin.training)
    local before = model(x):tolist()
    for _, parameter in ipairs(twin:parameters()) do parameter:detach():fill(0) end
    twin.norm.running_mean:fill(1)
    assert.same(before, model(x):tolist())
  end)
end)

describe("layers", function()
  it("compute what they say", function()
    local linear = nn.Linear(2, 3)
    linear.weight:copy(gls.tensor { { 1, 2, 3 }, { 4, 5, 6 } })
    linear.bias:copy(gls.tensor { 1, 0, -1 })
    assert.same({ { 6, 7, 8 } }, linear(gls.ones(1, 2)):tolist())
    assert.is_true(linear.affine)

    local conv = nn.Conv2d(1, 1, 2, { bias = false })
    conv.weight:fill(1)
    assert.same({ { { { 12, 16 }, { 24, 28 } } } },
      conv(gls.tensor { { { { 1, 2, 3 }, { 4, 5, 6 }, { 7, 8, 9 } } } }):tolist())

    local image = gls.tensor { { { { 1, 2 }, { 3, 4 } } } }
    assert.equal(4, nn.MaxPool2d(2)(image):item())
    assert.equal(2.5, nn.AvgPool2d(2)(image):item())
    assert.equal(2.5, nn.AdaptiveAvgPool2d(1)(image):item())
    assert.same({ { 1, 2, 3, 4 } }, nn.Flatten()(image):tolist())
    assert.same({ -0.5, 2 }, nn.LeakyReLU(0.5)(gls.tensor { -1, 2 }):tolist())
    assert.same({ 0, 2 }, nn.ReLU()(gls.tensor { -1, 2 }):tolist())

    local table_ = nn.Embedding(4, 2)
    local picked = table_(gls.tensor({ { 4, 1 } }, { type = "int32" }))
    assert.same({ 1, 2, 2 }, picked.shape)
    assert.same(table_.weight[4]:tolist(), picked[1][1]:tolist())
    picked:sum():backward()
    assert.same({ { 1, 1 }, { 0, 0 }, { 0, 0 }, { 1, 1 } }, table_.weight.grad:tolist())
    gls.tape_release()
  end)

  it("in a row refuse a gap, and close up where one is taken out", function()
    local function row() return nn.Sequential { nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2) } end
    local model, x = row(), gls.randn(3, 2)
    local last = model[3]
    model[2] = nil
    fails("nn_spec.lua:%d+: .*entry 2 is nil, entry 3 is not: an entry is taken out by table.remove",
      function() model(x) end)
    fails("nn_spec.lua:%d+: .*entry 2 is nil, entry 3 is not", function() model:add(nn.ReLU()) end)
    model[2] = nn.Tanh()
    assert.equal(0, largest(model(x) - last(model[1](x):tanh())))
    model = row()
    table.remove(model, 2)
    assert.equal(0, largest(model(x) - model[2](model[1](x))))
    model[2] = nil
    assert.equal(0, largest(model(x) - model[1](x)))
    model[3] = nn.ReLU()
    fails("entry 2 is nil, entry 3 is not", model, x)
  end)

  it("normalise", function()
    gls.seed(2)
    local x = gls.randn(6, 4, 3, 3) * 5 + 2
    for _, layer in ipairs { nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.LayerNorm(3) } do
      local y = layer(x)
      assert.is_true(math.abs(y:mean():item()) < 1e-5)
      assert.is_true(math.abs(y:variance():item() - 1) < 1e-3)
    end
    local y = nn.RMSNorm(3)(x)
    assert.is_true(math.abs((y * y):mean():item() - 1) < 1e-3)
    fails("%(N, C%) expected, got shape %(6×4×3×3%)", nn.BatchNorm1d(4), x)
    local batch = nn.BatchNorm1d(2, { momentum = 1 })
    batch(gls.tensor { { 1, 10 }, { 3, 30 } })
    assert.same({ 2, 20 }, batch.running_mean:tolist())
    assert.same({ 2, 200 }, batch.running_variance:tolist())
  end)

  it("refuse to normalise one value a channel in training, and change nothing", function()
    for _, case in ipairs { { nn.BatchNorm(2), 1, 2 }, { nn.BatchNorm1d(2), 1, 2 }, { nn.BatchNorm2d(2), 1, 2, 1, 1 },
      { nn.BatchNorm(2, { affine = false }), 1, 2, 1 } } do
      local layer, x = case[1], gls.ones(table.unpack(case, 2))
      fails("nn_spec%.lua:%d+: BatchNorm%d?d?: x %(N, C, …%) with more than one value a channel expected in training, "
        .. "got shape %(1×2.*larger batches.*drop_last = true.*model:eval%(%)", function() layer(x) end)
      assert.same({ 1, 1 }, layer.running_variance:tolist())
      assert.is_true(largest(layer:eval()(x) - 1) < 1e-4)
    end
    assert.same({ 1, 2, 2 }, nn.BatchNorm(2)(gls.randn(1, 2, 2)).shape)
    assert.same({ 2, 1 }, nn.BatchNorm(1)(gls.randn(2, 1)).shape)
    assert.same({ 0, 2 }, nn.BatchNorm(2)(gls.zeros(0, 2)).shape)
  end)

  it("refuse a momentum that is no share", function()
    for _, momentum in ipairs { -0.1, 2, 0 / 0 } do
      fails("nn_spec%.lua:%d+: nn.BatchNorm1d: momentum is the new batch's share",
        function() nn.BatchNorm1d(1, { momentum = momentum }) end)
    end
  end)

  it("say so when the last batch of an epoch has one row", function()
    local data, optim, train = require "gls.data", require "gls.optim", require "gls.train"
    local model = nn.Sequential { nn.Linear(2, 3), nn.BatchNorm(3), nn.Linear(3, 1) }
    local set = data.tensors { x = gls.randn(5, 2), y = gls.randn(5, 1) }
    local function fit(drop_last)
      return train.fit { model = model, optimizer = optim.SGD(model:parameters()), epochs = 1, progress = false,
        data = data.loader(set, { batch = 2, drop_last = drop_last }), validation = data.loader(set, { batch = 2 }),
        loss = function(net, batch) return nn.mse(net(batch.x), batch.y) end }
    end
    fails("2 %(BatchNorm%): x %(N, C, …%) with more than one value a channel .*drop_last = true", fit, false)
    gls.tape_release()
    assert.equal("finished", fit(true).status)
  end)

  it("refuse another width than their own, with affine and without", function()
    for _, affine in ipairs { true, false } do
      local set = { affine = affine }
      for _, case in ipairs {
        { "LayerNorm: x with 4 features expected, got shape %(1×6%), which has 6", nn.LayerNorm(4, set), 1, 6 },
        { "RMSNorm: x with 4 features expected, got shape %(1×6%), which has 6", nn.RMSNorm(4, set), 1, 6 },
        { "InstanceNorm: x with 3 channels expected, got shape %(1×6×4%)", nn.InstanceNorm(3, set), 1, 6, 4 },
        { "GroupNorm: x with 4 channels expected, got shape %(1×6×4%)", nn.GroupNorm(2, 4, set), 1, 6, 4 },
        { "BatchNorm: x with 4 channels expected, got shape %(1×6%), which has 6", nn.BatchNorm(4, set), 1, 6 },
      } do
        local x = gls.ones(table.unpack(case, 3))
        fails("nn_spec%.lua:%d+: " .. case[1], function() case[2](x) end)
      end
    end
    fails("not a scalar", nn.LayerNorm(4, { affine = false }), gls.tensor(1))
    local x = gls.randn(2, 3, 4)
    assert.same(nn.LayerNorm(4)(x):tolist(), nn.LayerNorm(4, { affine = false })(x):tolist())
    assert.same(nn.InstanceNorm(3)(x):tolist(), nn.InstanceNorm(3, { affine = false })(x):tolist())
  end)

  it("of slopes a channel refuse x with other channels", function()
    for _, shape in ipairs { { 2, 1, 2 }, { 3 }, { 2, 4 }, { 4, 2, 3 } } do
      local x = gls.ones(shape)
      fails("nn_spec%.lua:%d+: PReLU: x %(N, 3, …%) expected, got shape %(" .. table.concat(shape, "×") .. "%)",
        function() nn.PReLU(3)(x) end)
    end
    for _, shape in ipairs { { 2, 3 }, { 2, 3, 4 }, { 1, 3, 1, 1 } } do
      assert.same(shape, nn.PReLU(3)(gls.ones(shape)).shape)
    end
    assert.same({ -0.25 }, nn.PReLU()(gls.tensor { -1 }):tolist())
  end)

  it("have gradients for all their parameters", function()
    gls.seed(4)
    local model = nn.Sequential {
      nn.Conv2d(2, 4, 3, { padding = 1 }), nn.BatchNorm2d(4), nn.SiLU(), nn.GroupNorm(2, 4), nn.MaxPool2d(2),
      nn.Flatten(), nn.Linear(16, 8), nn.LayerNorm(8), nn.GELU(), nn.Residual(nn.Linear(8, 8)), nn.RMSNorm(8),
      nn.Tanh(), nn.Linear(8, 3),
    }
    nn.cross_entropy(model(gls.randn(5, 2, 4, 4)), gls.randint(1, 3, 5)):backward()
    local list = model:parameters()
    for i, parameter in ipairs(list) do
      assert.is_truthy(parameter.grad, list.names[i])
      assert.same(parameter.shape, parameter.grad.shape)
    end
    model:zero_grad()
    for _, parameter in ipairs(list) do assert.is_nil(parameter.grad) end
    gls.tape_release()
  end)
end)

describe("losses", function()
  local x, y
  before_each(function() x, y = gls.tensor { 1, 2, 5 }, gls.tensor { 1, 0, 1 } end)

  it("average, or sum", function()
    assert.is_true(math.abs(nn.mse(x, y):item() - 20 / 3) < 1e-5)
    assert.equal(20, nn.mse(x, y, { reduction = "sum" }):item())
    assert.equal(2, nn.l1(x, y):item())
    assert.equal(1.5 + 3.5, nn.huber(x, y, { reduction = "sum" }):item())
    local logits = gls.tensor { { 0, 0, 0, 0 } }
    local label = gls.tensor({ 2 }, { type = "int32" })
    assert.is_true(math.abs(nn.cross_entropy(logits, label):item() - math.log(4)) < 1e-6)
    assert.is_true(math.abs(nn.cross_entropy(logits, label, { label_smoothing = 0.1 }):item() - math.log(4)) < 1e-6)
    assert.is_true(math.abs(nn.binary_cross_entropy(gls.zeros(2), gls.ones(2)):item() - math.log(2)) < 1e-6)
  end)

  it("stay finite with label smoothing for logits as large as floats are", function()
    for _, classes in ipairs { 2, 10, 100 } do
      local values = { 3e38 }
      for class = 2, classes do values[class] = -3e38 end
      local logits = gls.tensor({ values }, { requires_grad = true })
      local loss = nn.cross_entropy(logits, gls.tensor({ 1 }, { type = "int32" }), { label_smoothing = 0.1 })
      local expected = 0.1 * (classes - 1) / classes * 6e38
      assert.is_true(math.abs(loss:item() / expected - 1) < 1e-5)
      loss:backward()
      assert.is_true(math.abs(logits.grad:sum():item()) < 1e-6 and logits.grad:is_finite():min():item() == 1)
      -- A row's loss is beyond the largest float, the mean over the rows is not.
      local rows = gls.cat({ gls.tensor { values }, gls.zeros(3, classes) }, 1)
      local mean = nn.cross_entropy(rows, gls.tensor({ 1, 1, 1, 1 }, { type = "int32" }), { label_smoothing = 0.99 })
      assert.is_true(math.abs(mean:item() / (0.99 * (classes - 1) / classes * 1.5e38) - 1) < 1e-5)
    end
  end)

  it("say what is wrong", function()
    fails("mse: prediction %(3%) and target %(2%)", nn.mse, x, gls.ones(2))
    fails('reduction is "mean", "sum" or "none", got "max"', nn.mse, x, y, { reduction = "max" })
    fails('unknown option "label_smooth"', nn.cross_entropy, x, y, { label_smooth = 1 })
    fails("5", nn.cross_entropy, gls.zeros(1, 4), gls.tensor({ 5 }, { type = "int32" }))
  end)
end)

describe("initialisation", function()
  it("has the deviation of its source", function()
    gls.seed(7)
    local fan_in, fan_out = 300, 200
    local expected = {
      uniform = 1 / (3 * fan_in), he_normal = 2 / fan_in, he_uniform = 2 / fan_in,
      xavier_normal = 2 / (fan_in + fan_out), xavier_uniform = 2 / (fan_in + fan_out),
    }
    for name, variance in pairs(expected) do
      local weight = nn.init[name](gls.empty(fan_in, fan_out))
      assert.is_true(math.abs(weight:variance():item() / variance - 1) < 0.03, name)
    end
    local conv = nn.init.he_normal(gls.empty(200, 30, 3, 3))
    assert.is_true(math.abs(conv:variance():item() / (2 / 270) - 1) < 0.03)
    assert.same({ 270, 1800 }, { nn.init.fans(conv) })
  end)

  it("makes orthogonal weights with a gain", function()
    gls.seed(8)
    local tall, wide = nn.init.orthogonal(gls.empty(12, 5), 2), nn.init.orthogonal(gls.empty(4, 3, 3, 3))
    assert.is_true(largest(tall:t():matmul(tall) - gls.eye(5) * 4) < 1e-4)
    local rows = wide:view(4, 27)
    assert.is_true(largest(rows:matmul(rows:t()) - gls.eye(4)) < 1e-5)
  end)

  it("is the same for the same seed", function()
    local function make()
      gls.seed(9)
      return nn.Linear(5, 5, { init = "orthogonal" }).weight:tolist()
    end
    assert.same(make(), make())
  end)

  it("can be a function, and can be done anew for a whole model", function()
    local layer = nn.Linear(2, 2, { init = function(weight, gain) weight:fill(gain) end, gain = 3 })
    assert.same({ { 3, 3 }, { 3, 3 } }, layer.weight:tolist())
    local model = nn.Sequential { nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6) }
    nn.initialize(model, "orthogonal", { gain = 2, last_gain = 0.1 })
    local first, last = model[1].weight:detach(), model[3].weight:detach()
    assert.is_true(largest(first:t():matmul(first) - gls.eye(6) * 4) < 1e-4)
    assert.is_true(largest(last:t():matmul(last) - gls.eye(6) * 0.04) < 1e-4)
    assert.same({ 0, 0, 0, 0, 0, 0 }, model[1].bias:tolist())
    assert.is_true(model[1].weight:requires_grad())
  end)
end)
