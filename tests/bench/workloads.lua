--- What is measured: one row a workload, with the floating-point operations and the least bytes that it needs, counted
-- from its shapes, and the ratio of our time to the best peer's that is aimed at.
local widths = {
  mlp = { 3072, 512, 256, 10 },
  autoencoder = { 3072, 1024, 1024, 1024, 3072 },
}
-- images' channels, filters, kernel, side of the convolutions; then the widths of the linear layers
local cnn = { convolutions = { { 3, 32, 5, 32 }, { 32, 64, 5, 16 } }, widths = { 4096, 128, 10 } }

-- Forward, weight gradients, and input gradients of all layers but the first: 2 operations a weight and row each.
local function step_flops(model, batch)
  local products = {}
  if model == "cnn" then
    for i, c in ipairs(cnn.convolutions) do products[i] = c[1] * c[2] * c[3] ^ 2 * c[4] ^ 2 end
    for i = 2, #cnn.widths do products[#products + 1] = cnn.widths[i - 1] * cnn.widths[i] end
  else
    for i = 2, #widths[model] do products[i - 1] = widths[model][i - 1] * widths[model][i] end
  end
  local sum = 0
  for i, product in ipairs(products) do sum = sum + product * (i == 1 and 2 or 3) end
  return 2 * batch * sum
end

-- Weights are read in both directions and by the update, which writes them and its state; activations are written and
-- read once in each direction.
local function step_bytes(model, optimizer, batch)
  local weights, activations = 0, 0
  if model == "cnn" then
    for _, c in ipairs(cnn.convolutions) do
      weights = weights + c[1] * c[2] * c[3] ^ 2
      activations = activations + c[2] * c[4] ^ 2
    end
  end
  local sizes = model == "cnn" and cnn.widths or widths[model]
  for i = 2, #sizes do
    weights = weights + sizes[i - 1] * sizes[i]
    activations = activations + sizes[i]
  end
  local state = ({ sgd = 0, adam = 2, gls = 0, ["gls-matched"] = 1 })[optimizer]
  return 4 * (weights * (2 + 2 * (1 + state)) + batch * (sizes[1] + 4 * activations))
end

local rows = {}
local function add(row) rows[#rows + 1] = row end

local names = {
  sgd = "SGD", adam = "Adam", adamw = "AdamW", gls = "GLS", ["gls-matched"] = "GLS matched",
  ["gls-moving"] = "GLS moving", ["gls-tokens"] = "GLS tokens",
}
local titles = { mlp = "MLP", autoencoder = "autoencoder", cnn = "CNN" }
local step_targets = {
  mlp = function() return 0.8 end,
  autoencoder = function(batch) return batch == 250 and 0.95 or 0.9 end,
  cnn = function() return 0.9 end,
}

for _, model in ipairs { "mlp", "autoencoder", "cnn" } do
  for _, optimizer in ipairs { "adam", "sgd", "gls", "gls-matched" } do
    for _, batch in ipairs(model == "cnn" and { 50, 250 } or { 50, 250, 1000 }) do
      local work = { kind = "step", model = model, optimizer = optimizer, batch = batch, batches = 4 }
      local row = {
        group = "step", name = ("%s step, %s, batch %d"):format(titles[model], names[optimizer], batch), work = work,
        flops = step_flops(model, batch), bytes = step_bytes(model, optimizer, batch),
        memory = optimizer == "adam",
      }
      if optimizer:match("^gls") then -- measured against our own Adam
        row.group = "gls"
        row.rival = { kind = "step", model = model, optimizer = "adam", batch = batch, batches = 4 }
        row.target = optimizer == "gls-matched" and 1.1 or model == "cnn" and 1.3 or 1.15
      elseif optimizer == "adam" or model == "cnn" then
        row.target = step_targets[model](batch)
      end
      add(row)
    end
  end
end

-- Sequences and residual networks: sizes of the models, what is timed beside the peers and what beside our own Adam.
local gpt = { model = "transformer", layers = 4, heads = 4, width = 128, context = 64, batch = 12, vocabulary = 65 }
local wide_gpt = { model = "transformer", layers = 4, heads = 4, width = 256, context = 256, batch = 16,
  vocabulary = 65 }
local lstm = { model = "lstm", layers = 2, width = 128, context = 50, batch = 50, vocabulary = 65 }
local gru = { model = "gru", inputs = 28, width = 128, context = 28, batch = 100 }
local function resnet(depth) return { model = "resnet", depth = depth, batch = 128 } end

local function model_step(name, sizes, optimizer, target, rival)
  local function work(of)
    local all = { kind = "step", optimizer = of, batches = 4 }
    for key, value in pairs(sizes) do all[key] = value end
    return all
  end
  add {
    group = rival and "gls" or "step", name = ("%s step, %s"):format(name, names[optimizer]), work = work(optimizer),
    rival = rival and work(rival), target = target, memory = not rival and optimizer ~= "sgd",
  }
end

model_step("GPT 4×128, context 64, batch 12", gpt, "adamw", 0.7)
model_step("GPT 4×256, context 256, batch 16", wide_gpt, "adamw", 0.75)
model_step("ResNet-8, batch 128", resnet(8), "sgd", 0.5)
model_step("ResNet-20, batch 128", resnet(20), "sgd", 0.5)
model_step("LSTM 2×128, 50 time steps, batch 50", lstm, "adam", 0.6)
model_step("GRU 128 over 28 rows, batch 100", gru, "adam", 0.6)
model_step("GPT 4×128, context 64, batch 12", gpt, "gls-matched", 1.15, "adamw")
model_step("ResNet-8, batch 128", resnet(8), "gls-matched", 1.15, "adam")
model_step("LSTM 2×128, 50 time steps, batch 50", lstm, "gls-matched", 1.15, "adam")
model_step("GPT 4×128, context 64, batch 12", gpt, "gls-moving", 1.2, "adamw")
model_step("GPT 4×128, context 64, batch 12", gpt, "gls-tokens", 1.2, "adamw")
model_step("GPT 4×256, context 256, batch 16", wide_gpt, "gls-tokens", 1.2, "adamw")
model_step("GPT 4×128, context 64, batch 12", gpt, "gls", 1.5, "adamw")
model_step("ResNet-8, batch 128", resnet(8), "gls", 1.5, "adam")

-- The product of the loss's Hessian with a vector, beside the gradient.
for _, of in ipairs {
  { "MLP, batch 250", { model = "mlp", batch = 250 } }, { "CNN, batch 50", { model = "cnn", batch = 50 } },
  { "GPT 4×128, context 64, batch 12", gpt }, { "ResNet-8, batch 128", resnet(8) },
} do
  local function work(kind)
    local all = { kind = kind, batches = 4 }
    for key, value in pairs(of[2]) do all[key] = value end
    return all
  end
  add { group = "hessian", name = "Hessian product, " .. of[1], work = work "hessian_product", rival = work "gradient",
    target = 3 }
end

-- A layer alone, and with its backward pass (gradients of the input and of the weights).
local function both_ways(row, passes)
  for _, backward in ipairs { false, true } do
    local work = { backward = backward or nil }
    for key, value in pairs(row.work) do work[key] = value end
    local times = backward and passes or 1
    add {
      group = row.group, name = row.name .. (backward and ", forward and backward" or ", forward"), work = work,
      flops = row.flops and row.flops * times, bytes = row.bytes and row.bytes * times, target = row.target,
      only = row.only,
    }
  end
end

for _, shape in ipairs { { 250, 3072, 1024 }, { 50, 512, 256 }, { 1000, 256, 10 } } do
  local n, d, m = table.unpack(shape)
  both_ways({
    group = "linear", name = ("linear %d×%d → %d"):format(n, d, m), flops = 2 * n * d * m,
    bytes = 4 * (n * d + d * m + n * m), work = { kind = "linear", rows = n, inputs = d, outputs = m },
  }, 3)
end

-- Where BLAS is weak: tall, skinny, small.
for _, shape in ipairs { { 20000, 16, 64 }, { 16, 16, 20000 }, { 256, 10, 250 }, { 1, 1024, 1024 }, { 64, 64, 64 },
  { 8, 8, 8 } } do
  local m, n, k = table.unpack(shape)
  add {
    group = "matmul", name = ("matmul %d×%d · %d×%d"):format(m, k, k, n), flops = 2 * m * n * k,
    bytes = 4 * (m * k + k * n + m * n), work = { kind = "matmul", m = m, n = n, k = k },
  }
end

for _, c in ipairs {
  { 50, 3, 32, 5, 32, 1 }, { 50, 32, 64, 5, 16, 1 }, { 250, 32, 64, 5, 16, 1 },         -- the CNN's
  { 128, 3, 16, 3, 32, 1 }, { 128, 16, 16, 3, 32, 1 }, { 128, 16, 32, 3, 32, 2 },       -- ResNet-20's
  { 128, 32, 32, 3, 16, 1 }, { 128, 32, 64, 3, 16, 2 }, { 128, 64, 64, 3, 8, 1 },
  { 128, 16, 16, 3, 32, 1, 16 },                                                        -- every channel a group
} do
  local images, inputs, outputs, kernel, side, stride, groups = table.unpack(c)
  local out = side // stride
  both_ways({
    group = "conv2d", target = 1,
    name = ("conv2d %d×%d×%d×%d, %d of %d×%d, %s"):format(images, inputs, side, side, outputs, kernel, kernel,
      groups and ("%d groups"):format(groups) or ("stride %d"):format(stride)),
    flops = 2 * images * inputs // (groups or 1) * outputs * kernel ^ 2 * out ^ 2,
    bytes = 4 * (images * (inputs * side ^ 2 + outputs * out ^ 2) + inputs // (groups or 1) * outputs * kernel ^ 2),
    work = { kind = "conv2d", images = images, inputs = inputs, outputs = outputs, kernel = kernel, side = side,
      stride = stride, groups = groups or 1 },
  }, 3)
end

-- Sequences, heads, places, size of a head; causal: half the operations of two products (five backwards).
for _, shape in ipairs { { 12, 4, 64, 32 }, { 16, 4, 256, 64 }, { 4, 4, 1024, 64 } } do
  local n, heads, t, size = table.unpack(shape)
  both_ways({
    group = "attention", target = 0.7, name = ("causal attention %d×%d×%d×%d"):format(n, heads, t, size),
    flops = 2 * n * heads * t * t * size, bytes = 16 * n * heads * t * size,
    work = { kind = "attention", batch = n, heads = heads, context = t, size = size },
  }, 3.5)
end

for _, shape in ipairs { { 50, 32, 32 }, { 250, 64, 16 } } do
  local n, c, side = table.unpack(shape)
  both_ways({
    group = "pooling", target = 0.8, name = ("max pooling %d×%d×%d×%d, 2×2"):format(n, c, side, side),
    bytes = 4 * 1.25 * n * c * side ^ 2, work = { kind = "max_pool", images = n, channels = c, side = side },
  }, 2)
end

for _, shape in ipairs { { 128, 16, 32 }, { 128, 64, 8 } } do
  local n, c, side = table.unpack(shape)
  both_ways({
    group = "batch norm", target = 0.8, name = ("batch norm %d×%d×%d×%d"):format(n, c, side, side),
    bytes = 4 * 2 * n * c * side ^ 2, work = { kind = "batch_norm", images = n, channels = c, side = side },
  }, 2.5)
end

for _, shape in ipairs { { 250, 10 }, { 4096, 1000 } } do
  both_ways({
    group = "cross-entropy", target = 0.8, name = ("softmax cross-entropy %d×%d"):format(table.unpack(shape)),
    bytes = 4 * shape[1] * shape[2], work = { kind = "cross_entropy", rows = shape[1], classes = shape[2] },
  }, 3)
end

-- In one pass (gls.fuse; jit in JAX), and op by op against PyTorch, which does the same.
both_ways({
  group = "elementwise", target = 0.8, name = "relu(tanh(x y + x) / 2 - y), 1 000 000", bytes = 4 * 3e6,
  work = { kind = "chain", count = 1000000, fused = true },
}, 8 / 3)
both_ways({
  group = "elementwise", name = "the same op by op", bytes = 4 * 3e6, only = "torch",
  work = { kind = "chain", count = 1000000 },
}, 8 / 3)

for _, what in ipairs { "sum", "sum of rows", "max of columns", "variance" } do
  add {
    group = "reduction", target = 0.8, name = what .. ", 4000×1000", bytes = 4 * 4e6,
    work = { kind = "reduce", what = what, rows = 4000, columns = 1000 },
  }
end

add { group = "tiny", target = 0.5, name = "1000 additions of 8 numbers", only = "torch",
  work = { kind = "tiny", count = 1000 } }
add { group = "tiny", target = 0.5, name = "1000 recorded additions of 8 numbers, and backward", only = "torch",
  work = { kind = "tiny", count = 1000, backward = true } }

add { group = "loading", target = 0.5, name = "batches of 250 from 10 000 images in memory, an epoch", only = "torch",
  work = { kind = "batches", images = 10000, batch = 250 }, items = 10000 }
add { group = "loading", target = 0.5, name = "CIFAR-10's binary files, 5000 images", only = "torch",
  work = { kind = "binary" }, files = "binary", items = 5000 }
add { group = "loading", target = 0.5, name = "a folder of 1000 JPEG images", only = "torch",
  work = { kind = "folder" }, files = "folder", items = 1000 }

return rows
