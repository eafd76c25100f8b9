-- Products with derivatives (gls.jvp, gls.hvp, gls.ggn) and gls.curvature, against matrices that are formed.
local gls, nn = require "gls", require "gls.nn"
local curvature = require "gls.curvature"

local derivatives = require "tests.lua.derivatives"
local leaf, near = derivatives.leaf, derivatives.near
local fails = require("tests.lua.failing").matches

-- A small network with its data: the loss, the outputs, parameters, their number.
local function problem()
  gls.seed(4)
  local model = nn.Sequential { nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3) }
  local x, y = gls.randn(10, 3), gls.randint(1, 3, 10)
  local parameters, count = {}, 0
  for i, parameter in ipairs(model:parameters()) do parameters[i], count = parameter, count + parameter:numel() end
  local function loss()
    local z = model(x)
    return nn.cross_entropy(z, y), z
  end
  return loss, parameters, count, model, x
end

local function flat(list)
  local parts = {}
  for i, tensor in ipairs(list) do parts[i] = tensor:detach():reshape(-1) end
  return gls.cat(parts)
end

-- Row k of the identity as tensors of the parameters' shapes.
local function unit(parameters, k)
  local list = {}
  for i, parameter in ipairs(parameters) do
    local part = gls.zeros(parameter:numel())
    if k >= 1 and k <= parameter:numel() then part[k] = 1 end
    list[i], k = part:reshape(parameter.shape), k - parameter:numel()
  end
  return list
end

-- A matrix from its products with unit vectors.
local function matrix(parameters, count, product)
  local rows = {}
  for k = 1, count do rows[k] = flat(product(unit(parameters, k))) end
  return gls.stack(rows)
end

describe("products", function()
  after_each(function() gls.tape_release() end)

  it("hvp is A v for ½ xᵀ A x", function()
    local a = gls.tensor { { 2, -1, 0 }, { -1, 3, 0.5 }, { 0, 0.5, -1 } }
    local function quadratic(x) return x:matmul(a):matmul(x) / 2 end
    local v = gls.tensor { 1, 2, -1 }
    near(a:matmul(v), gls.hvp(quadratic, gls.tensor { 0.3, 0.1, 5 }, v))
    local x = leaf { 1, 2, 3 }
    near(a:matmul(v), gls.hvp(quadratic(x), x, v))
    assert.is_nil(x.grad)
  end)

  -- H v against the difference of gradients along v.
  local function check_product(model, loss, tolerance)
    local parameters, v = {}, {}
    for i, p in ipairs(model:parameters()) do parameters[i], v[i] = p, gls.randn_like(p) end
    local exact, step = flat(gls.hvp(loss, parameters, v)), 1e-3
    local function at(distance)
      local before = {}
      for i, p in ipairs(parameters) do
        before[i] = p:detach():clone()
        p:detach():copy(before[i] + v[i] * distance)
      end
      local gradient = flat(gls.grad(loss(), parameters))
      for i, p in ipairs(parameters) do p:detach():copy(before[i]) end
      return gradient
    end
    near((at(step) - at(-step)) / (2 * step), exact, tolerance)
  end

  it("hvp is the difference of gradients along v, of a convolutional network with norms", function()
    gls.seed(2)
    local model = nn.Sequential {
      nn.Conv2d(2, 4, 3, { padding = 1, stride = 2 }), nn.BatchNorm2d(4), nn.GELU(), nn.Flatten(), nn.LayerNorm(36),
      nn.Linear(36, 3),
    }
    local x, y = gls.randn(6, 2, 6, 6), gls.randint(1, 3, 6)
    check_product(model, function() return nn.cross_entropy(model(x), y) end, 0.02)
  end)

  it("hvp is that of language models, with attention and with recurrence", function()
    gls.seed(2)
    local tokens, wanted = gls.randint(1, 7, 3, 6), gls.randint(1, 7, 3, 6)
    for _, model in ipairs {
      require "models.transformer" { vocabulary = 7, layers = 1, heads = 2, width = 8, context = 6 },
      require "models.lstm" { vocabulary = 7, layers = 1, width = 6 },
    } do
      model:eval()
      check_product(model, function() return nn.cross_entropy(model(tokens), wanted) end, 0.03)
    end
  end)

  it("ggn is Jᵀ H J, J and H formed", function()
    local loss, parameters, count, model, x = problem()
    local outputs = 30
    local got = matrix(parameters, count, function(v) return gls.ggn(loss, parameters, v) end)
    local z = model(x)
    local rows = {}
    for k = 1, outputs do
      local seed = gls.zeros(outputs)
      seed[k] = 1
      rows[k] = flat(gls.grad(z, parameters, { seeds = seed:reshape(10, 3) }))
    end
    local jacobian = gls.stack(rows)
    -- of the mean cross-entropy: (diag p − p pᵀ) / rows, row by row
    local p, hessian = z:detach():softmax(), gls.zeros(outputs, outputs)
    for r = 1, 10 do
      local block = (gls.eye(3) * p[r] - p[r]:reshape(3, 1) * p[r]:reshape(1, 3)) / 10
      hessian[{ { 3 * r - 2, 3 * r }, { 3 * r - 2, 3 * r } }] = block
    end
    near(jacobian:t():matmul(hessian):matmul(jacobian), got)
  end)

  it("jvp takes functions, gives lists for lists, and can be differentiated", function()
    local x, t = gls.tensor { 0.3, 0.8 }, gls.tensor { 1, -2 }
    near(t * x:cos(), gls.jvp(function(a) return a:sin() end, x, t))
    local both = gls.jvp(function(a, b) return { a * b, a + b } end, { x, x }, { t, t })
    near(2 * x * t, both[1])
    near(2 * t, both[2])
    local w = leaf { 0.3, 0.8 }
    local change = gls.jvp(w ^ 3, w, t, { create_graph = true }) -- 3 w² t
    near(6 * w:detach() * t, gls.grad(change:sum(), w))
    local tangent = leaf { 1, 1 }
    near(3 * w:detach() ^ 2, gls.grad(gls.jvp(w ^ 3, w, tangent, { create_graph = true }):sum(), tangent))
  end)

  it("compose: the gradient of vᵀ H v, and of vᵀ G v", function()
    local w, v = leaf { 0.5, -1 }, gls.tensor { 2, 3 }
    -- of Σ w⁴: H = diag 12 w²
    local bent = gls.hvp(function(a) return (a ^ 4):sum() end, w, v, { create_graph = true })
    near(24 * w:detach() * v ^ 2, gls.grad((bent * v):sum(), w))
    -- z = w², loss Σ z²: J = 2 w, H = 2, G = diag 8 w²
    local function loss(a)
      local z = a ^ 2
      return (z ^ 2):sum(), z
    end
    near(8 * w:detach() ^ 2 * v, gls.ggn(loss, w, v))
    bent = gls.ggn(loss, w, v, { create_graph = true })
    near(16 * w:detach() * v ^ 2, gls.grad((bent * v):sum(), w))
  end)

  it("are zero of what is linear", function()
    local x = leaf { 1, 2 }
    assert.same({ 0, 0 }, gls.hvp(function(a) return (a * 3):sum() end, x, gls.ones(2)):tolist())
  end)

  it("say what is wrong", function()
    local x = leaf { 1, 2 }
    local function f(a) return (a ^ 2):sum() end
    fails("curvature_spec.lua:%d+: hvp: 1 inputs, but 2 vectors", function() gls.hvp(f, { x }, { x, x }) end)
    fails("hvp: vectors are a tensor or a list of tensors, not nil", gls.hvp, f, x)
    fails("seed 1 has type float32 and shape %(3%)", gls.hvp, f, x, gls.ones(3))
    fails("output 1 has shape %(2%)", gls.hvp, x ^ 2, x, gls.ones(2))
    fails("the second is nil", gls.ggn, f, x, gls.ones(2))
    fails("ggn: a function", gls.ggn, f(x), x, gls.ones(2))
    fails('did you mean "create_graph"', gls.hvp, f, x, gls.ones(2), { creat_graph = true })
    fails("inputs are a tensor or a list of tensors, not number", gls.jvp, f, 3, gls.ones(2))
  end)

  it("take no more memory from call to call", function()
    local loss, parameters, _, model = problem()
    local v = {}
    for i, p in ipairs(model:parameters()) do v[i] = gls.randn_like(p) end
    gls.collect()
    local live
    for call = 1, 30 do
      for _, tensor in ipairs(gls.hvp(loss, parameters, v)) do tensor:release() end
      for _, tensor in ipairs(gls.ggn(loss, parameters, v)) do tensor:release() end
      if call == 2 then live = gls.memory().live end
    end
    assert.equal(live, gls.memory().live)
    assert.equal(0, gls.tape_size())
  end)
end)

describe("curvature", function()
  local loss, parameters, count, hessian, gauss_newton
  setup(function()
    loss, parameters, count = problem()
    hessian = matrix(parameters, count, function(v) return gls.hvp(loss, parameters, v) end)
    gauss_newton = matrix(parameters, count, function(v) return gls.ggn(loss, parameters, v) end)
  end)
  after_each(function()
    assert.equal(0, gls.tape_size())
    gls.seed(1)
  end)

  it("finds the leading eigenvalues of the matrix that is formed", function()
    local all = gls.eigh(hessian):tolist() -- rising
    local largest = all[#all]
    local found = curvature.eigenvalues(loss, parameters, { count = 3, vectors = true, tolerance = 1e-5 })
    assert.equal(3, #found)
    for k = 1, 3 do
      assert.is_true(math.abs(found[k] - all[#all + 1 - k]) < 1e-4 * largest)
      local vector = flat(found.vectors[k])
      assert.is_true((hessian:matmul(vector) - found[k] * vector):norm():item() < 1e-3 * largest)
      assert.is_true(math.abs(vector:norm():item() - 1) < 1e-4)
    end
    local smallest = curvature.eigenvalues(loss, parameters, { count = 2, which = "smallest" })
    assert.is_true(math.abs(smallest[1] - all[1]) < 2e-3 * largest)
    local size = curvature.eigenvalues(loss, parameters, { count = 1, which = "magnitude" })
    assert.is_true(math.abs(size[1]) > 0.99 * math.max(largest, -all[1]))
    assert.is_true(math.abs(curvature.sharpness(loss, parameters) - largest) < 2e-3 * largest)
    local positive = gls.eigh(gauss_newton):tolist()
    local newton = curvature.eigenvalues(loss, parameters, { count = 1, matrix = "ggn" })[1]
    assert.is_true(math.abs(newton - positive[#positive]) < 2e-3 * positive[#positive])
  end)

  it("finds eigenvalues that come several times, and no more than there are", function()
    local x = leaf { 1, 2, 3 }
    local found = curvature.eigenvalues(function() return (x ^ 2 * gls.tensor { 1, 1, 2 }):sum() end, { x })
    assert.equal(3, #found)
    for k, value in ipairs { 4, 2, 2 } do assert.is_true(math.abs(found[k] - value) < 1e-3) end
    assert.equal(0, curvature.sharpness(function() return (x * 2):sum() end, { x }))
  end)

  it("estimates the trace within its error", function()
    local exact = hessian:diag():sum():item()
    gls.seed(5)
    local estimate, deviation = curvature.trace(loss, parameters, { samples = 400 })
    assert.is_true(math.abs(estimate - exact) < 4 * deviation)
    assert.is_true(deviation < 0.1 * math.abs(exact))
    local x = leaf { 1, 2 } -- of a diagonal matrix every sample is the trace
    local of_diagonal, none = curvature.trace(function() return (x ^ 2):sum() end, { x }, { samples = 3 })
    assert.is_true(math.abs(of_diagonal - 4) < 1e-5 and none < 1e-5)
  end)

  it("takes the mean over several losses", function()
    local x = leaf { 1, 2 }
    local function first() return (x ^ 2):sum() end
    local function second() return 2 * (x ^ 2):sum() end
    assert.is_true(math.abs(curvature.sharpness({ first, second }, { x }) - 3) < 1e-4)
  end)

  it("gives a density with the matrix's moments", function()
    local density = curvature.density(loss, parameters, { probes = 60, iterations = count })
    local sum, mean, square, area = 0, 0, 0, 0
    for i, weight in ipairs(density.weights) do
      sum = sum + weight
      mean = mean + weight * density.nodes[i]
      square = square + weight * density.nodes[i] ^ 2
    end
    for k = 2, #density.x do
      area = area + (density.x[k] - density.x[k - 1]) * (density.y[k] + density.y[k - 1]) / 2
    end
    assert.is_true(math.abs(sum - 1) < 1e-3 and math.abs(area - 1) < 1e-2)
    local trace, squares = hessian:diag():sum():item() / count, (hessian ^ 2):sum():item() / count
    assert.is_true(math.abs(mean - trace) < 0.25 * trace)
    assert.is_true(math.abs(square - squares) < 0.35 * squares)
    local text = curvature.plot(density, { print = false })
    assert.matches("eigenvalue", text)
  end)

  it("says what is wrong", function()
    fails("spec.lua:%d+: curvature.eigenvalues: loss 1 is a function", function()
      curvature.eigenvalues(loss(), parameters)
    end)
    gls.tape_release()
    fails('matrix is "hessian" or "ggn", not "fisher"', curvature.trace, loss, parameters, { matrix = "fisher" })
    fails("count is 0", curvature.eigenvalues, loss, parameters, { count = 0 })
    fails('not "biggest"', curvature.eigenvalues, loss, parameters, { which = "biggest" })
    fails("parameters are a list of tensors %(.*%), not a tensor", curvature.trace, loss, parameters[1])
    fails("parameter 2 is a tensor, not number", curvature.trace, loss, { parameters[1], 2 })
    fails("a density, as curvature.density gives it", curvature.plot, {})
    fails("there are no parameters", curvature.sharpness, loss, {})
    fails("there is no loss", curvature.sharpness, {}, parameters)
    fails("gives the outputs second", curvature.sharpness, function() return (loss()) end, parameters,
      { matrix = "ggn" })
    gls.tape_release()
    fails("bandwidth is 0", curvature.density, loss, parameters, { bandwidth = 0, iterations = 3 })
  end)
end)
