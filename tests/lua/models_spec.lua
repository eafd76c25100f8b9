--- Models: sizes that papers name, another implementation's values, and that each learns.
local gls, nn, optim = require "gls", require "gls.nn", require "gls.optim"

local function count(model)
  local total = 0
  for _, parameter in ipairs(model:parameters()) do total = total + parameter:numel() end
  return total
end

-- Values that any language makes alike.
local function filled(offset, ...)
  local values, n = {}, 1
  for _, size in ipairs { ... } do n = n * size end
  for k = 0, n - 1 do values[k + 1] = math.sin(12.9898 * (offset + k) + 0.5) * 43758.5453 % 1 - 0.5 end
  return gls.tensor(values):view(...)
end

local function integers(rows) return gls.tensor(rows, { type = "int32" }) end

-- Loss before and after some steps on one batch.
local function learns(model, x, y, rate, steps)
  local opt, first, last = optim.Adam(model:parameters(), { learning_rate = rate }), nil, nil
  for _ = 1, steps do
    local loss = nn.cross_entropy(model(x), y)
    first, last = first or loss:item(), loss:item()
    loss:backward()
    opt:step()
  end
  assert.is_true(last < 0.5 * first, ("from %g to %g"):format(first, last))
end

describe("models.resnet", function()
  local resnet = require "models.resnet"

  it("has the sizes of He et al.", function()
    assert.equal(269722, count(resnet { depth = 20 })) -- 0.27 million, table 6
    assert.equal(853018, count(resnet { depth = 56 })) -- 0.85 million
  end)

  it("learns, with either norm, and halves the image twice", function()
    gls.seed(1)
    local x, y = gls.randn(8, 3, 16, 16), gls.randint(1, 10, 8)
    for _, norm in ipairs { "batch", "group" } do
      learns(resnet { depth = 8, width = 8, norm = norm }, x, y, 1e-2, 15)
    end
    local stages = resnet { depth = 8, width = 8 }
    local h = x
    for i = 1, 6 do h = stages[i](h) end
    assert.same({ 8, 32, 4, 4 }, h.shape)
  end)

  it("names a wrong depth or norm", function()
    assert.has_error(function() resnet { depth = 9 } end, "models.resnet: depth is 6n + 2, not 9")
    assert.has_error(function() resnet { norm = "bach" } end,
      'models.resnet: unknown norm "bach"; did you mean "batch"?')
  end)
end)

describe("models.vae", function()
  local vae = require "models.vae"

  it("has the loss of the paper's appendix B, worked out by hand", function()
    local model = vae { inputs = 3, hidden = 2, code = 1 }
    for _, parameter in ipairs(model:parameters()) do parameter:detach():fill(0) end
    model.encoder[3].bias:detach():copy(gls.tensor { 0.5, -1 }) -- mean and logarithm of variance
    local expected = 3 * math.log(2) + 0.5 * (0.5 ^ 2 + math.exp(-1) + 1 - 1)
    assert.is_true(math.abs(model:loss(gls.rand(4, 3)):item() - expected) < 1e-5)
  end)

  it("learns to draw from two patterns", function()
    gls.seed(3)
    local model = vae { inputs = 16, hidden = 32, code = 2, beta = 0.1 }
    local x = gls.cat({ gls.ones(64, 8), gls.zeros(64, 8) }, 2)
    x = gls.cat { x, 1 - x }
    local opt, first, last = optim.Adam(model:parameters(), { learning_rate = 1e-2 }), nil, nil
    for _ = 1, 60 do
      local loss = model:loss(x)
      first, last = first or loss:item(), loss:item()
      loss:backward()
      opt:step()
    end
    assert.is_true(last < 0.2 * first, ("from %g to %g"):format(first, last))
    local drawn = gls.no_grad(function() return model:sample(200) end)
    local left = drawn:narrow(2, 1, 8):mean(2)
    assert.is_true(left:gt(0.9):mean():item() > 0.2 and left:lt(0.1):mean():item() > 0.2)
    model:eval()
    assert.same({ model(x):tolist() }, { model(x):tolist() }) -- evaluated, nothing is drawn
  end)
end)

describe("models.transformer", function()
  local transformer = require "models.transformer"

  it("has nanoGPT's size", function()
    -- 0.80 million: it counts no positions, and its norms have no shift where linear layers have no bias
    assert.equal(795904, count(transformer {}) - 64 * 128 - 9 * 128)
  end)

  it("does not see the future", function()
    gls.seed(2)
    local model = transformer { vocabulary = 7, context = 6, layers = 2, heads = 2, width = 8 }
    local before = model(integers { { 1, 2, 3, 4, 5, 6 } }):detach():clone()
    local after = model(integers { { 1, 2, 3, 4, 7, 1 } }):detach()
    assert.equal(0, (before - after):abs():narrow(2, 1, 4):max():item())
    assert.is_true((before - after):abs():narrow(2, 5, 2):min():item() > 0)
  end)

  it("learns", function()
    gls.seed(3)
    local x = gls.randint(1, 9, 4, 8)
    learns(transformer { vocabulary = 9, context = 8, layers = 2, heads = 2, width = 16 }, x, x:flip(1), 1e-2, 40)
  end)

  it("names what does not fit", function()
    assert.has_error(function() transformer { width = 10, heads = 4 } end,
      "models.transformer: 4 heads do not divide the width 10")
    local ok, message = pcall(transformer { context = 4 }, gls.ones(1, 5):to "int32")
    assert.is_false(ok)
    assert.is_truthy(tostring(message):find("5 tokens, the context is 4", 1, true))
  end)
end)

describe("models.lstm", function()
  local lstm = require "models.lstm"

  -- PyTorch 2.15: nn.LSTM (batch_first) of these weights, in float64, gates put in its order, and a linear layer.
  it("gives PyTorch's values", function()
    local model = lstm { vocabulary = 5, layers = 2, width = 4 }
    local _ <close> = gls.no_grad()
    model[1].weight:copy(filled(0, 5, 4))
    local function swapped(x) -- the last two gates
      return gls.cat({ x:narrow(-1, 1, 8), x:narrow(-1, 13, 4), x:narrow(-1, 9, 4) }, -1)
    end
    for i, layer in ipairs(model[2].layers) do
      local offset = 300 * i - 200
      layer.from_input.weight:copy(swapped(filled(offset, 4, 16)))
      layer.from_input.bias:copy(swapped(filled(offset + 100, 16)))
      layer.from_state.weight:copy(swapped(filled(offset + 200, 4, 16)))
    end
    model[3].weight:copy(filled(700, 4, 5))
    model[3].bias:copy(filled(800, 5))
    local y = model(integers { { 1, 4, 2 }, { 5, 5, 3 } })
    local expected = gls.tensor {
      0.194267, 0.267818, -0.082225, -0.043128, 0.004667, 0.223612, 0.271804, -0.087766, -0.052104, 0.041693,
      0.236421, 0.272540, -0.087528, -0.056879, 0.056619, 0.190708, 0.272357, -0.077906, -0.045732, 0.005139,
      0.218236, 0.277572, -0.082577, -0.055067, 0.041450, 0.235858, 0.274215, -0.086134, -0.057774, 0.057426 }
    assert.is_true((y - expected:view(2, 3, 5)):abs():max():item() < 1e-5, tostring(y))
  end)

  it("learns", function()
    gls.seed(3)
    local x = gls.randint(1, 9, 4, 8)
    learns(lstm { vocabulary = 9, layers = 1, width = 16 }, x, x, 2e-2, 40)
  end)
end)

describe("models.gru", function()
  local gru = require "models.gru"

  it("reads images row by row, channels side by side", function()
    local model, x = gru { inputs = 8, width = 5, outputs = 3 }, gls.randn(2, 2, 6, 4)
    assert.same({ 2, 3 }, model(x).shape)
    local rows = gls.cat({ x:select(2, 1), x:select(2, 2) }, 3)
    assert.equal(0, (model(x) - model(rows)):abs():max():item())
  end)

  it("learns", function()
    gls.seed(3)
    local x = gls.randn(20, 6, 4)
    learns(gru { inputs = 4, width = 16, outputs = 3 }, x, gls.randint(1, 3, 20), 2e-2, 60)
  end)
end)

describe("experiments on", function()
  local experiment, task, file = require "gls.experiment", require "models.task", require "gls.file"
  local directory

  before_each(function()
    directory = os.tmpname()
    os.remove(directory)
    gls.core.io.make_folders(directory)
  end)
  after_each(function() os.execute("rm -r '" .. directory .. "'") end)

  local function grid(settings)
    settings.schedule = "cosine"
    return experiment.grid(settings)
  end

  -- The last line of results of each optimizer, run on one setting.
  local function run(model, fields, arguments)
    fields.name, fields.title = model, model
    fields.defaults = { epochs = 2, batch = 4, validation = 0 }
    table.move({ "--quiet", "--out", directory .. "/out" }, 1, 3, #arguments + 1, arguments)
    local output = io.output()
    io.output(directory .. "/printed")
    local good, problem = pcall(experiment.run, task(model, fields), arguments)
    io.output():close()
    io.output(output)
    assert.is_true(good, tostring(problem))
    local last = {}
    for _, row in ipairs(require("gls.experiment.record").rows(directory .. "/out/results.jsonl")) do
      last[row.optimizer] = row
    end
    return last
  end

  it("texts train with every optimizer of matrices; epochs are as long as the experiment says", function()
    local handle = assert(io.open(directory .. "/a.txt", "w"))
    handle:write(("to be, or not to be: that is the question. "):rep(60))
    handle:close()
    for model, head in pairs { transformer = "blocks.1.narrow", lstm = "3" } do
      os.execute("rm -rf '" .. directory .. "/out'")
      local small = model == "lstm" and { layers = 1, width = 8 } or { layers = 1, heads = 2, width = 8 }
      local rest = { model = { small }, others = { { head } }, learning_rate = 1e-2 }
      local last = run(model, { batches = 3, trials = {
        adamw = grid { model = { small }, decayed = "matrices", weight_decay = 0.1, warmup = 2, final = 0.1 },
        muon = grid(rest), soap = grid(rest), kfac = grid(rest),
      } }, { "--data", "text:" .. directory .. "/a.txt" })
      for _, name in ipairs { "adamw", "muon", "soap", "kfac" } do
        assert.equal("finished", last[name].status)
        assert.equal(6, last[name].step)
        assert.is_true(last[name].valid_loss < 4 and last[name].valid_loss > 0, name)
      end
      assert.is_truthy(file.read(directory .. "/out/summary.md"):find("characters", 1, true))
    end
  end)

  it("images train a ResNet", function()
    for _, split in ipairs { "train", "test" } do
      for class, level in pairs { dark = 0.2, light = 0.7 } do
        local folder = ("%s/data/%s/%s"):format(directory, split, class)
        gls.core.io.make_folders(folder)
        for i = 1, 8 do gls.save_image(("%s/%02d.png"):format(folder, i), gls.rand(3, 8, 8) * 0.3 + level - 0.15) end
      end
    end
    local last = run("resnet", { trials = {
      momentum = grid { learning_rate = 0.05, model = { { depth = 8, width = 4 } } },
    } }, { "--data", "folder:" .. directory .. "/data" })
    assert.equal("finished", last.momentum.status)
    assert.equal(8, last.momentum.step)
  end)
end)
