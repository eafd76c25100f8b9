--- Memory of training at full size: peak bytes of tensors and resident size from step to step, of the classifier
-- (3072-512-256-10) and the autoencoder (3072-1024-1024-1024-3072) with every optimizer, batch 250. It should not grow
-- after the second step.
--   glsrun tests/bench/memory.lua [STEPS]        (default 1000)
local gls = require "gls"
local models = { mlp = require "models.mlp", autoencoder = require "models.autoencoder" }
local nn, optim = gls.nn, gls.optim

local STEPS = tonumber(arg[1]) or 1000
local BATCH = 250
local MARKS = { 2 }
for _, mark in ipairs { 10, 100, STEPS // 2, STEPS } do
  if mark > MARKS[#MARKS] and mark <= STEPS then MARKS[#MARKS + 1] = mark end
end

local optimizers = {
  { "SGD", optim.SGD, { learning_rate = 1e-3 } },
  { "Adam", optim.Adam, { learning_rate = 1e-4 } },
  { "GLS", optim.GLS, {} },
  { "GLS, automatic momentum", optim.GLS, { momentum = "auto" } },
  { "GLS, matched", optim.GLS, { graft = "rms", momentum = 0.9, damping = 3, learning_rate = 1e-4 } },
  { "GLS, window of 1000", optim.GLS, { statistics = { window = 1000 } } },
}

local function resident()
  local file <close> = assert(io.open("/proc/self/statm"))
  local _, pages = file:read("n", "n")
  return pages * 4096
end

local function train(name, class, settings)
  gls.collect()
  gls.seed(1)
  local model = models[name]()
  local optimizer = class(model:parameters(), settings)
  local cells, done = {}, 0
  for _, mark in ipairs(MARKS) do
    gls.collect() -- every stretch begins with no step's tensors waiting
    gls.reset_peak()
    for _ = done + 1, mark do
      local x, y = gls.rand(BATCH, 3072) - 0.5, gls.randint(1, 10, BATCH)
      local output = model(x)
      local loss = name == "mlp" and nn.cross_entropy(output, y) or nn.mse(output, x)
      loss:backward()
      optimizer:step()
    end
    done = mark
    cells[#cells + 1] = ("%.1f, %.1f"):format(gls.memory().peak / 2^20, resident() / 2^20)
  end
  return cells
end

local head = {}
for i, mark in ipairs(MARKS) do head[i] = ("to step %d"):format(mark) end
print(("| MiB of tensors at the peak, resident | %s |"):format(table.concat(head, " | ")))
print(("|---%s|"):format(("|---"):rep(#MARKS)))
for _, name in ipairs { "mlp", "autoencoder" } do
  for _, optimizer in ipairs(optimizers) do
    print(("| %s, %s | %s |"):format(name, optimizer[1],
      table.concat(train(name, optimizer[2], optimizer[3]), " | ")))
    io.stdout:flush()
  end
end
