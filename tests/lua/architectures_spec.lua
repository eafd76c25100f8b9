--- Twelve architectures as a user would write them, on a handful of real images, a page of text or an equation: the
-- loss falls by a factor in a few steps, and the gradient of one parameter is that of central differences.
local gls, nn, optim, data = require "gls", require "gls.nn", require "gls.optim", require "gls.data"

local set = data.fashion_mnist { samples = 64 }
local images = set.images:select(2, 1):to "float32" / 255 -- 64 × 28 × 28
local small = images:unsqueeze(2):avg_pool2d(2)            -- 64 × 1 × 14 × 14
local flat, labels = small:flatten(2), set.labels

-- Each gives a list of modules, or one, and the loss of one step; then how often and with what it is stepped, and by
-- what the loss is divided at least.
local architectures = {}

architectures["GRU over the rows of an image"] = { steps = 40, factor = 2, function()
  local inputs, hidden, head = nn.Linear(28, 96), nn.Linear(32, 96), nn.Linear(32, 10)
  return { hidden, inputs, head }, function()
    local h = gls.zeros(images:size(1), 32)
    for _, row in ipairs(images:unbind(2)) do
      local x, g = inputs(row):chunk(3, 2), hidden(h):chunk(3, 2)
      local reset, update = (x[1] + g[1]):sigmoid(), (x[2] + g[2]):sigmoid()
      local candidate = (x[3] + reset * g[3]):tanh()
      h = candidate + update * (h - candidate)
    end
    return nn.cross_entropy(head(h), labels)
  end
end }

architectures["U-Net that takes noise away"] = { steps = 40, factor = 3, function()
  local noisy = small + gls.randn_like(small) * 0.3
  local down = nn.Sequential { nn.Conv2d(1, 8, 3, { padding = 1 }), nn.ReLU() }
  local below = nn.Sequential {
    nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, { padding = 1 }), nn.ReLU(), nn.ConvTranspose2d(16, 8, 2, { stride = 2 }),
  }
  local up = nn.Sequential { nn.Conv2d(16, 8, 3, { padding = 1 }), nn.ReLU(), nn.Conv2d(8, 1, 1) }
  return { down, below, up }, function()
    local here = down(noisy)
    return nn.mse(up(gls.cat({ here, below(here) }, 2)), small)
  end
end }

architectures["mixture of experts, two of four for every image"] = { steps = 40, factor = 4, function()
  local experts, gate = {}, nn.Linear(196, 4)
  for i = 1, 4 do experts[i] = nn.Sequential { nn.Linear(196, 16), nn.ReLU(), nn.Linear(16, 10) } end
  return { experts[1], experts[2], experts[3], experts[4], gate }, function()
    local best, places = gate(flat):topk(2)
    local weights = gls.zeros(flat:size(1), 4):scatter_add(2, places, best:softmax())
    local outputs = {}
    for i, expert in ipairs(experts) do outputs[i] = expert(flat) end
    return nn.cross_entropy(gls.einsum("ne,neo->no", weights, gls.stack(outputs, 2)), labels)
  end
end }

architectures["hypernetwork that makes the weights of another"] = { steps = 40, factor = 4, function()
  local coarse = small:avg_pool2d(2):flatten(2) -- 64 × 49
  local hyper = nn.Sequential { nn.Linear(49, 8), nn.Tanh(), nn.Linear(8, 49 * 10) }
  return hyper, function()
    local weights = hyper(coarse):view(-1, 49, 10) -- for every image its own
    return nn.cross_entropy(gls.einsum("ni,nio->no", coarse, weights), labels)
  end
end }

architectures["Siamese network over pairs"] = { steps = 40, factor = 2, function()
  local encoder = nn.Sequential { nn.Linear(196, 32), nn.ReLU(), nn.Linear(32, 8) }
  local other = gls.randperm(64)
  local alike = labels:eq(labels[other]) * 2 - 1
  return encoder, function()
    return nn.cosine(encoder(flat), encoder(flat[other]), alike, { margin = 0.2 })
  end
end }

architectures["variational autoencoder"] = { steps = 40, factor = 2, function()
  local model = require "models.vae" { inputs = 196, hidden = 64, code = 4 }
  return model, function() return model:loss(flat) end
end }

architectures["GPT over characters"] = { steps = 40, factor = 1.4, function()
  local text = data.text { path = "LICENSE", context = 32 }
  local x, y = text.tokens:narrow(1, 1, 384):view(12, 32), text.tokens:narrow(1, 2, 384):view(12, 32)
  local model = require "models.transformer" {
    vocabulary = #text.vocabulary, context = 32, layers = 2, heads = 2, width = 32,
  }
  return model, function() return nn.cross_entropy(model(x), y) end
end }

architectures["ResNet"] = { steps = 20, factor = 4, function()
  local model = require "models.resnet" { depth = 8, width = 8, channels = 1 }
  return model, function() return nn.cross_entropy(model(small), labels) end
end }

architectures["logistic regression by L-BFGS"] = {
  steps = 1, factor = 100,
  optimizer = function(parameters) return optim.LBFGS(parameters, { iterations = 40, evaluations = 60 }) end,
  function()
    local model = nn.Linear(196, 10)
    return model, function() return nn.cross_entropy(model(flat), labels) + model.weight:square():sum() * 1e-6 end
  end,
}

-- Conjugate gradients solve for the step; the Hessian is known by its products alone (Martens, 2010).
architectures["Newton's method by Hessian products"] = {
  steps = 4, factor = 20,
  optimizer = function(parameters)
    local w = parameters[1]
    return { step = function(_, loss)
      local residual, direction = -gls.grad(loss(), w), gls.zeros_like(w)
      local search = residual
      for _ = 1, 20 do
        local product, size = gls.hvp(loss, w, search) + search * 1e-3, residual:square():sum()
        local length = size / (search * product):sum()
        direction, residual = direction + search * length, residual - product * length
        search = residual + search * (residual:square():sum() / size)
      end
      gls.no_grad(function() w:copy(w + direction) end)
      gls.tape_release()
    end }
  end,
  function()
    local model = nn.Linear(196, 10, { bias = false })
    return model, function() return nn.cross_entropy(model(flat), labels) end
  end,
}

-- u″ + u = 0, u(0) = 0, u′(0) = 1: the sine.
architectures["physics-informed network"] = { steps = 150, factor = 1000, function()
  local u = nn.Sequential { nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1) }
  local t = gls.linspace(0, 2, 32):view(32, 1):requires_grad(true)
  return u, function()
    local y = u(t)
    local dy = gls.grad(y:sum(), t, { create_graph = true })
    local ddy = gls.grad(dy:sum(), t, { create_graph = true })
    return (ddy + y):square():mean() + (y[1]:square() + (dy[1] - 1):square()):sum()
  end
end }

-- A walk along four classes of images: one action goes back, the other on; the last class pays 1 and ends it. What the
-- future is worth is said by a copy that follows every tenth step (Mnih et al., 2015).
architectures["Q-learning from images"] = { steps = 100, factor = 5, function()
  local model, calls = nn.Sequential { nn.Linear(196, 32), nn.ReLU(), nn.Linear(32, 2) }, 0
  local copy, places = model:clone(), {}
  for class = 1, 4 do places[class] = flat[labels:eq(class)][1] end
  local images_of = gls.stack(places)
  local state, action = gls.range(1, 3):int():repeat_interleave(2), gls.tensor({ 1, 2 }, { type = "int32" }):tile(3)
  local after = (state + action * 2 - 3):clamp(1, 4)
  return model, function()
    calls = calls + 1
    if calls % 10 == 0 then copy:load_state_dict(model:state_dict()) end
    local future = gls.no_grad(function() return copy(images_of[after]):max(2) end)
    local value = model(images_of[state]):gather(2, action:unsqueeze(2)):squeeze(2)
    return nn.mse(value, gls.where(after:eq(4), 1, future * 0.9))
  end
end }

-- ---- what holds for all ----

-- The derivative of the loss along a direction by central differences.
local function slope(loss, parameter, direction, step)
  local values = {}
  local start = parameter:detach():clone()
  for i, sign in ipairs { 1, -1 } do
    parameter:detach():copy(start + direction * (sign * step))
    gls.seed(3) -- the same random numbers every time
    values[i] = loss():item()
    gls.tape_release()
  end
  parameter:detach():copy(start)
  return (values[1] - values[2]) / (2 * step)
end

local names = {}
for name in pairs(architectures) do names[#names + 1] = name end
table.sort(names)

describe("an architecture in script", function()
  for _, name in ipairs(names) do
    local entry = architectures[name]
    it("learns and has the right gradient: " .. name, function()
      gls.seed(2)
      local modules, loss = entry[1]()
      local parameters = (nn.is_module(modules) and modules or nn.ModuleList(modules)):parameters()

      -- The gradient of the first parameter, along a random half of its entries.
      local parameter = parameters[1]
      gls.seed(3)
      local value = loss()
      value:backward()
      local direction = parameter.grad * gls.rand_like(parameter):gt(0.5)
      direction = direction / direction:norm()
      local expected = (parameter.grad * direction):sum():item()
      for _, each in ipairs(parameters) do each:zero_grad() end
      gls.tape_release()
      local measured = slope(loss, parameter, direction, 1e-3)
      assert.is_true(math.abs(measured - expected) < 0.02 * expected, ("%g, not %g"):format(expected, measured))

      local opt = entry.optimizer and entry.optimizer(parameters) or optim.Adam(parameters, { learning_rate = 1e-2 })
      for _ = 1, entry.steps do
        if entry.optimizer then
          opt:step(loss)
        else
          loss():backward()
          opt:step()
        end
      end
      local first, last = value:item(), loss():item()
      gls.tape_release()
      assert.is_true(last * entry.factor < first, ("from %g to %g"):format(first, last))
    end)
  end
end)
