--- Our side of the benchmarks: prepares workloads (see workloads.lua) and runs them when tests/bench/run says so, one
-- JSON object a line on standard input and output. peers/ has the same in other frameworks.
local cjson = require "cjson"
local clock = os.getenv "BENCH_PROCESSOR_TIME" and os.clock or require("gls.log").clock
local gls = require "gls"
local nn, optim, data = gls.nn, gls.optim, gls.data

gls.threads(math.tointeger(tonumber(os.getenv("BENCH_THREADS"))) or 1)
gls.seed(1)

local function labels(n) return gls.randint(1, 10, n) end

local models = {
  mlp = function()
    return nn.Sequential { nn.Linear(3072, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10) }
  end,
  autoencoder = function()
    return nn.Sequential {
      nn.Linear(3072, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(),
      nn.Linear(1024, 3072),
    }
  end,
  cnn = function()
    return nn.Sequential {
      nn.Conv2d(3, 32, 5, { padding = 2 }), nn.ReLU(), nn.MaxPool2d(2),
      nn.Conv2d(32, 64, 5, { padding = 2 }), nn.ReLU(), nn.MaxPool2d(2),
      nn.Flatten(), nn.Linear(4096, 128), nn.ReLU(), nn.Linear(128, 10),
    }
  end,
}

-- Models of tokens and of images, from models/.
local function language(model, context, heads)
  return {
    make = function(w)
      return require("models." .. model) { vocabulary = w.vocabulary, layers = w.layers, width = w.width,
        context = context and w.context, heads = heads and w.heads }
    end,
    batch = function(w)
      local tokens = gls.randint(1, w.vocabulary, w.batch, w.context + 1)
      return { x = tokens:narrow(2, 1, w.context):contiguous(), y = tokens:narrow(2, 2, w.context):contiguous() }
    end,
  }
end

local families = {
  transformer = language("transformer", true, true),
  lstm = language("lstm"),
  resnet = {
    make = function(w) return require "models.resnet" { depth = w.depth } end,
    batch = function(w) return { x = gls.rand(w.batch, 3, 32, 32):sub(0.5), y = labels(w.batch) } end,
  },
  gru = {
    make = function(w) return require "models.gru" { inputs = w.inputs, width = w.width } end,
    batch = function(w) return { x = gls.rand(w.batch, w.context, w.inputs), y = labels(w.batch) } end,
  },
}

local optimizers = {
  sgd = function(parameters) return optim.SGD(parameters, { learning_rate = 1e-3 }) end,
  adam = function(parameters) return optim.Adam(parameters, { learning_rate = 1e-4 }) end,
  adamw = function(parameters) return optim.AdamW(parameters, { learning_rate = 1e-4, weight_decay = 0.1 }) end,
  gls = function(parameters) return optim.GLS(parameters) end,
  ["gls-matched"] = function(parameters)
    return optim.GLS(parameters, { learning_rate = 1e-3, momentum = 0.9, graft = "rms", damping = 1 })
  end,
  ["gls-moving"] = function(parameters)
    return optim.GLS(parameters,
      { learning_rate = 1e-3, momentum = 0.9, graft = "rms", damping = 0.1, statistics = "moving" })
  end,
  ["gls-tokens"] = function(parameters) return optim.GLS(parameters, "tokens") end,
}

-- f(…) with a derivative: forward, backward from a fixed gradient, gradients of all leaves formed.
local function with_backward(forward, leaves)
  local seed
  return function()
    local y = forward()
    seed = seed or gls.randn_like(y)
    y:backward(seed)
    for _, leaf in ipairs(leaves) do
      assert(leaf.grad)
      leaf:zero_grad()
    end
    gls.tape_release()
  end
end

-- The forward alone is timed as inference: nothing is recorded.
local function timed(workload, forward, leaves)
  if workload.backward then
    for _, leaf in ipairs(leaves) do leaf:requires_grad(true) end
    return with_backward(forward, leaves)
  end
  return function()
    local _ <close> = gls.no_grad()
    forward()
  end
end

local function seeds(...)
  return table.pack(...)
end

local reductions = {
  sum = function(x) return x:sum() end,
  ["sum of rows"] = function(x) return x:sum { dims = 1 } end,
  ["max of columns"] = function(x) return x:max { dims = 2 } end,
  variance = function(x) return x:variance { dims = 2 } end,
}

local kinds = {}

-- The loss of a model over batches in turn, and the model.
local function training(workload)
  local family = families[workload.model]
  local model = (family and family.make or models[workload.model])(workload)
  local batches = {}
  for i = 1, workload.batches do
    if family then
      batches[i] = family.batch(workload)
    else
      local x = workload.model == "cnn" and gls.rand(workload.batch, 3, 32, 32) or gls.rand(workload.batch, 3072)
      batches[i] = { x = x:sub(0.5), y = workload.model == "autoencoder" and x or labels(workload.batch) }
    end
  end
  local loss_of = workload.model == "autoencoder" and nn.mse or nn.cross_entropy
  local at = 0
  return function()
    at = at % #batches + 1
    return loss_of(model(batches[at].x), batches[at].y)
  end, model
end

function kinds.step(workload)
  local loss, model = training(workload)
  local optimizer = optimizers[workload.optimizer](model:parameters())
  return function()
    loss():backward()
    optimizer:step()
  end
end

-- The gradient, formed; and the product of the Hessian with a vector.
function kinds.gradient(workload)
  local loss, model = training(workload)
  local parameters = model:parameters()
  return function()
    local _ <close> = gls.scope()
    gls.grad(loss(), parameters)
  end
end

function kinds.hessian_product(workload)
  local loss, model = training(workload)
  local parameters, vectors = model:parameters(), {}
  for i, parameter in ipairs(parameters) do vectors[i] = gls.randn_like(parameter) end
  return function()
    local _ <close> = gls.scope()
    gls.hvp(loss, parameters, vectors)
  end
end

function kinds.attention(workload)
  local all = gls.randn(workload.batch, workload.context, 3 * workload.heads * workload.size)
  return timed(workload, function() return gls.attention(all, { heads = workload.heads, causal = true }) end, { all })
end

function kinds.linear(workload)
  local layer = nn.Linear(workload.inputs, workload.outputs)
  local x = gls.randn(workload.rows, workload.inputs)
  return timed(workload, function() return layer(x) end, { x, layer.weight, layer.bias })
end

function kinds.matmul(workload)
  local x, y = gls.randn(workload.m, workload.k), gls.randn(workload.k, workload.n)
  return timed(workload, function() return x:matmul(y) end, seeds(x, y))
end

function kinds.conv2d(workload)
  local layer = nn.Conv2d(workload.inputs, workload.outputs, workload.kernel,
    { stride = workload.stride, padding = workload.kernel // 2, groups = workload.groups })
  local x = gls.randn(workload.images, workload.inputs, workload.side, workload.side)
  return timed(workload, function() return layer(x) end, { x, layer.weight, layer.bias })
end

function kinds.max_pool(workload)
  local layer = nn.MaxPool2d(2)
  local x = gls.randn(workload.images, workload.channels, workload.side, workload.side)
  return timed(workload, function() return layer(x) end, { x })
end

function kinds.batch_norm(workload)
  local layer = nn.BatchNorm2d(workload.channels)
  local x = gls.randn(workload.images, workload.channels, workload.side, workload.side)
  return timed(workload, function() return layer(x) end, { x, layer.weight, layer.bias })
end

function kinds.cross_entropy(workload)
  local x, y = gls.randn(workload.rows, workload.classes), gls.randint(1, workload.classes, workload.rows)
  return timed(workload, function() return nn.cross_entropy(x, y) end, { x })
end

function kinds.chain(workload)
  local x, y = gls.randn(workload.count), gls.randn(workload.count)
  local function chain(a, b) return ((a * b + a):tanh() * 0.5 - b):relu() end
  local run = workload.fused and gls.fuse(chain) or chain
  return timed(workload, function() return run(x, y) end, { x, y })
end

function kinds.reduce(workload)
  local x = gls.randn(workload.rows, workload.columns)
  local reduce = reductions[workload.what]
  return timed(workload, function() return reduce(x) end, { x })
end

function kinds.tiny(workload)
  local x = gls.randn(8)
  if workload.backward then
    x:requires_grad(true)
    return with_backward(function()
      local y = x
      for _ = 1, workload.count do y = y + x end
      return y
    end, { x })
  end
  return function()
    local y = x
    for _ = 1, workload.count do y = y + x end
  end
end

function kinds.copy(workload)
  local from, to = gls.zeros(workload.count), gls.zeros(workload.count)
  return function() to:copy(from) end
end

function kinds.batches(workload)
  local set = data.tensors {
    x = gls.randint(0, 255, workload.images, 3, 32, 32):to("uint8"), y = labels(workload.images),
  }
  local loader = data.loader(set, { batch = workload.batch, shuffle = true, flatten = true, mean = { 0.5, 0.5, 0.5 } })
  return function()
    for batch in loader do assert(batch.x) end
  end
end

function kinds.binary(workload)
  return function() assert(data.cifar10 { dir = workload.folder }) end
end

function kinds.folder(workload)
  return function()
    os.execute(("rm -rf '%s/.glsrun'"):format(workload.folder)) -- what was decoded is kept there
    assert(data.folder { path = workload.folder })
  end
end

-- ---- the protocol ----

local function status_bytes(field)
  for line in io.lines("/proc/self/status") do
    local kilobytes = line:match("^" .. field .. ":%s*(%d+)")
    if kilobytes then return math.tointeger(tonumber(kilobytes)) * 1024 end
  end
  return 0
end

local prepared, resting = {}, status_bytes("VmRSS")
local commands = {}

function commands.prepare(request)
  local kind = kinds[request.workload.kind]
  if not kind then return { missing = "no such workload here" } end
  local slot = #prepared + 1
  prepared[slot] = kind(request.workload)
  return { slot = slot }
end

-- The first step finds its data where the others' turns left them, in memory, and is not counted.
function commands.run(request)
  local step, count = prepared[request.slot], request.count
  step()
  local start = clock()
  for _ = 1, count do step() end
  return { seconds = (clock() - start) / count }
end

function commands.forget()
  prepared = {}
  collectgarbage()
  gls.trim()
  return {}
end

-- Whole steps by op.
function commands.profile(request)
  local step = prepared[request.slot]
  for _ = 1, 3 do step() end
  return { text = tostring(gls.profile(function()
    for _ = 1, request.count do step() end
  end)) }
end

function commands.memory() return { resting = resting, peak = status_bytes("VmHWM") } end

-- JSON knows one kind of number: whole ones are integers here.
local function with_integers(value)
  if type(value) ~= "table" then return math.type(value) == "float" and math.tointeger(value) or value end
  for key, part in pairs(value) do value[key] = with_integers(part) end
  return value
end

local function answer(reply)
  io.write(cjson.encode(reply), "\n")
  io.flush()
end

local process = io.open("/proc/self/stat"):read("n")
answer { process = math.tointeger(process), version = "glsrun" }
for line in io.lines() do
  local request = with_integers(cjson.decode(line))
  local done, reply = pcall(commands[request["do"]], request)
  answer(done and reply or { missing = tostring(reply) })
end
