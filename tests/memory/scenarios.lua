-- Scenarios: what run.c runs while allocations fail, as { name =, run = } in order. Each gives a number or a string
-- that is the same at every run.
local gls = require "gls"
local nn, optim, data = gls.nn, gls.optim, gls.data
local files = gls.core.io

-- After a run that failed: what a script would do before it goes on.
function clean() -- luacheck: globals clean
  gls.tape_release()
  gls.collect()
  assert(gls.tape_size() == 0)
end

local scenarios = {}
local function add(name, run) scenarios[#scenarios + 1] = { name = name, run = run } end

-- ---- a training step of every optimizer ----

local x = gls.arange(12):view(4, 3):sin()
local y = gls.tensor({ 1, 2, 1, 2 }, { type = "int32" })

local function total(parameters)
  local sum = 0
  for _, parameter in ipairs(parameters) do sum = sum + parameter:sum():item() end
  return sum
end

local function steps(make)
  return function()
    gls.seed(1)
    local model = nn.Sequential { nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2) }
    local parameters = model:parameters()
    local optimizer = make(parameters)
    for _ = 1, 2 do
      nn.cross_entropy(model(x), y):backward()
      optimizer:step()
    end
    return total(parameters)
  end
end

local OPTIMIZERS = {
  { "SGD", { momentum = 0.9, clip = 1 } }, { "Adam", {} }, { "AdamW", {} }, { "GLS", {} },
  { "GLS", { momentum = "auto", statistics = { window = 6 } } },
  { "GLS", { statistics = "moving", refresh = 1, learning_rate = 0.1 } },
  { "GLS", { graft = "rms", momentum = 0.9, learning_rate = 1e-3 } }, { "GLS", { graft = "sgd", learning_rate = 0.1 } },
  { "Muon", {} }, { "SOAP", {} }, { "Shampoo", {} }, { "KFAC", {} }, { "RMSprop", {} }, { "Lion", {} },
}
for _, entry in ipairs(OPTIMIZERS) do
  local name, settings = entry[1], entry[2]
  local text = {}
  for key, value in pairs(settings) do
    if type(value) == "string" or value == true then text[#text + 1] = key .. " " .. tostring(value) end
  end
  table.sort(text)
  add("optim." .. name .. " " .. table.concat(text, ", "),
    steps(function(parameters) return optim[name](parameters, settings) end))
end

add("optim.LBFGS", function()
  gls.seed(1)
  local model = nn.Linear(3, 2)
  local parameters = model:parameters()
  optim.LBFGS(parameters, { iterations = 2, evaluations = 3 }):step(function() return nn.cross_entropy(model(x), y) end)
  return total(parameters)
end)

add("newton_schulz, large enough for a matrix unit", function()
  return gls.newton_schulz(gls.arange(1320):view(33, 40):sin()):sum():item()
end)

add("convolution and norms", function()
  gls.seed(1)
  local model = nn.Sequential {
    nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 2),
  }
  local parameters = model:parameters()
  local optimizer = optim.GLS(parameters)
  nn.cross_entropy(model(gls.arange(144):view(4, 1, 6, 6):sin()), y):backward()
  optimizer:step()
  return total(parameters)
end)

-- ---- differentiation ----

add("forward mode", function()
  local leaf = gls.ones(3):requires_grad(true)
  local result = gls.jvp((leaf * 2):tanh():sum(), { leaf }, { gls.ones(3) }):item()
  gls.tape_release()
  return result
end)

add("gradients of gradients", function()
  gls.seed(1)
  local _ <close> = gls.scope()
  local model = nn.Sequential { nn.Linear(3, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 2) }
  local parameters, vectors = model:parameters(), {}
  for i, parameter in ipairs(parameters) do vectors[i] = gls.ones_like(parameter) end
  local function loss()
    local z = model(x)
    return nn.cross_entropy(z, y), z
  end
  return total(gls.hvp(loss, parameters, vectors)) + total(gls.ggn(loss, parameters, vectors))
end)

add("fused", function()
  local fused = gls.fuse(function(a, b) return ((a * b + a):tanh() - b):relu() end)
  local leaf = gls.arange(6):view(2, 3):requires_grad(true)
  fused(leaf, gls.ones(3)):sum():backward()
  local result = leaf.grad:sum():item()
  gls.tape_release()
  return result
end)

add("gls.fn", function()
  local square = gls.fn {
    forward = function(context, a)
      context.a = a
      return a * a
    end,
    backward = function(context, gradient) return context.a * gradient * 2 end,
  }
  local leaf = gls.arange(3):requires_grad(true)
  square(leaf):sum():backward()
  local result = leaf.grad:sum():item()
  gls.tape_release()
  return result
end)

add("tensors", function()
  local scope <close> = gls.scope()
  local a = gls.tensor { { 1, 2 }, { 3, 4 } }
  local parts = { gls.cat({ a, a[{ { 1, 1 } }] }, 1), a:t(), a[2], a:narrow(2, 1, 1), a:to "int32" }
  scope:keep(parts[1])
  local text = {}
  for i, part in ipairs(parts) do text[i] = tostring(part) end
  return table.concat(text) .. tostring(gls.eigh(a:matmul(a:t())):sum():item())
end)

add("order, indices and linear algebra", function()
  gls.seed(1)
  local a, leaf = gls.arange(12):view(4, 3):sin(), gls.arange(9):view(3, 3):sin():requires_grad(true)
  a[a:gt(0.5)] = 0
  a[gls.tensor({ 2, 3 }, { type = "int32" })] = gls.ones(3)
  local values, inverse, counts = a:unique()
  local square = leaf + gls.eye(3) * 3
  local loss = gls.solve(square, gls.ones(3)):sum() + gls.slogdet(square) + leaf[leaf:gt(0)]:sum()
    + gls.einsum("ij,kj->ik", leaf, leaf):diag():sum() + leaf:sort(1):cumsum(2):sum()
  loss:backward()
  local result = leaf.grad:sum():item() + values:sum():item() + inverse:sum():item() + counts:cumsum(1):prod():item()
  gls.tape_release()
  local _, s = gls.svd(a)
  return result + s:sum():item() + gls.multinomial(gls.ones(2, 3), 2):sum():item()
end)

-- ---- files and loaders ----

local folder = os.tmpname()
os.remove(folder)
files.make_folders(folder .. "/tree/a")
files.make_folders(folder .. "/tree/b")
local function path(name) return folder .. "/" .. name end
local images = gls.arange(96):view(2, 3, 4, 4):to "uint8"
gls.save_image(path "tree/a/1.png", images[1])
gls.save_image(path "tree/b/1.png", images[2])

add("arrays and images", function()
  gls.save_npy(path "a.npy", x)
  gls.save_image(path "a.png", images)
  return gls.load_npy(path "a.npy"):sum():item() + gls.load_image(path "a.png"):to("float32"):sum():item()
end)

add("checkpoint", function()
  gls.save(path "kept", { weight = x, list = { 1, 2.5, "three", { true } }, y = y })
  local back = gls.load(path "kept")
  return back.weight:sum():item() + back.y:to("float32"):sum():item() + back.list[2]
end)

add("folder", function()
  local set = data.folder { path = path "tree" }
  return set.images:to("float32"):sum():item() + #set.classes
end)

add("loader, augmented and drawn by weights", function()
  local sum = 0
  for batch in data.loader({ images = images, labels = y:narrow(1, 1, 2) }, {
    batch = 2, seed = 1, rotate = 20, erase = 0.5, crop = 1, weights = { 1, 3 }, scale = { 2 },
  }) do
    sum = sum + batch.x:sum():item()
  end
  return sum
end)

add("rows of a function", function()
  local sum = 0
  local set = data.set { size = 3, get = function(i) return { i, 2 }, i end }
  for batch in data.loader(set, { batch = 2, shuffle = true, seed = 1 }) do sum = sum + batch.x:sum():item() end
  return sum
end)

add("train.fit with a checkpoint and a log", function()
  gls.seed(1)
  local model = nn.Linear(3, 2)
  local state = gls.train.fit {
    model = model, optimizer = optim.SGD(model:parameters()), accumulate = 2, clip = 1,
    data = data.loader({ x = x, y = y }, { batch = 1, shuffle = true, seed = 1 }),
    loss = function(network, batch) return nn.cross_entropy(network(batch.x), batch.y), { one = 1 } end,
    checkpoint = path "run", callbacks = { require "gls.log".jsonl(path "run.jsonl", { every = 1 }) },
  }
  return state.loss + state.metrics.one
end)

add("profile and trace", function()
  local model = nn.Linear(3, 2)
  local profile = gls.profile(function() return model(x) end)
  profile:trace(path "trace.json")
  return #profile.modules
end)

add("anomaly", function()
  local good, message = pcall(gls.anomaly, function() return nn.Tanh()(x * 0):log() end)
  local named = not good and message:match "anomaly: [^,]*"
  return named or error(message, 0)
end)

add("loader", function()
  local sum = 0
  for batch in data.loader({ images = images, labels = y:narrow(1, 1, 2) }, { batch = 1, shuffle = true, seed = 1 }) do
    sum = sum + batch.x:sum():item() * batch.y:item()
  end
  return sum
end)

add("loader over tensors", function()
  local sum, set = 0, data.tensors { x = x, y = y, classes = 2 }
  for batch in data.loader(set, { batch = 3, prefetch = false, scale = 2, mean = { 1, 2, 3 } }) do
    sum = sum + batch.x:sum():item()
  end
  return sum
end)

-- Run last: the files go.
add("removing", function()
  os.execute("rm -rf '" .. folder .. "'")
  return 0
end)

return scenarios
