--- Optimizers in Lua, each against another implementation on twenty steps of a small problem, and what they share.
local gls, nn, optim = require "gls", require "gls.nn", require "gls.optim"
local fit = require("gls.train").fit
local says = require("tests.lua.failing").says

local function matrix(rows, columns, seed)
  local values = {}
  for i = 0, rows - 1 do
    values[i + 1] = {}
    for j = 0, columns - 1 do
      values[i + 1][j + 1] = math.sin(12.9898 * i + 78.233 * j + seed) * 43758.5453 % 1 - 0.5
    end
  end
  return gls.tensor(values)
end

-- W (rows × columns) after twenty steps on ½ ‖X W Y − T‖², T another one at every step; `turned`: the parameter is Wᵀ,
-- as nn.Linear has it where the other implementation's rows are outputs.
local function trajectory(class, settings, rows, columns, turned)
  local x, y = matrix(8, rows, 0.3), matrix(columns, 5, 1.1)
  local w = matrix(rows, columns, 0.7) * 0.5
  w = (turned and w:t():clone() or w):requires_grad(true)
  local opt = class({ w }, settings)
  for step = 0, 19 do
    local difference = x:matmul(turned and w:t() or w):matmul(y) - matrix(8, 5, 2.2 + step)
    local loss = (difference * difference):sum() * 0.5
    loss:backward()
    opt:step()
  end
  return turned and w:detach():t() or w:detach()
end

local function near(w, expected, tolerance)
  local k, worst = 0, 0
  for i = 1, w:size(1) do
    for j = 1, w:size(2) do
      k = k + 1
      worst = math.max(worst, math.abs(w[i][j]:item() - expected[k]))
    end
  end
  assert.equal(#expected, k)
  assert.is_true(worst < tolerance, ("differs by %g"):format(worst))
end

describe("on a recorded trajectory", function()
  -- PyTorch 2.15, torch.optim.Muon(lr=0.05, momentum=0.95, weight_decay=0.1) in float64, its Newton–Schulz iteration
  -- without the rounding to bfloat16.
  it("Muon does as PyTorch's", function()
    near(trajectory(optim.Muon, { learning_rate = 0.05, weight_decay = 0.1 }, 6, 4, true), {
      0.1247558, -0.3377044, 0.2909544, -0.0789277, 0.0882269, 0.2349520, 0.0344725, -0.0215036, -0.1645599,
      -0.0554155, -0.1517516, -0.0755413, 0.2414740, 0.3345437, -0.1644066, -0.1983812, 0.1135539, -0.0689494,
      0.2181269, 0.0188102, -0.1872666, -0.0749537, 0.1021935, -0.0048508 }, 1e-5)
    near(trajectory(optim.Muon, { learning_rate = 0.05, weight_decay = 0.1 }, 4, 6, true), {
      0.1761997, 0.0553672, 0.1783668, 0.0244549, -0.1260781, 0.1653637, 0.0814848, 0.1296846, -0.0646705,
      -0.0324784, 0.0550544, -0.0338917, -0.1540446, 0.0572936, 0.1712729, -0.0108073, -0.1833889, -0.1363860,
      0.2306948, 0.2455382, -0.1872884, -0.1077418, 0.2007366, 0.1055560 }, 1e-5)
  end)

  -- The same with nesterov=False, weight_decay=0, adjust_lr_fn="match_rms_adamw".
  it("Muon's matched step does as PyTorch's", function()
    near(trajectory(optim.Muon, { learning_rate = 0.05, nesterov = false, matched = true }, 6, 4, true), {
      -0.0279402, -0.0546137, 0.1530175, 0.0148990, -0.0577081, 0.0584454, 0.0575460, 0.0372148, -0.0719346,
      -0.0542243, 0.0150115, 0.0797252, 0.1876513, 0.0987838, -0.1721803, -0.1145532, 0.1400614, -0.0917992,
      0.1682197, 0.0187905, -0.1707076, -0.1216346, 0.2249865, -0.0238036 }, 1e-5)
  end)

  -- pytorch_optimizer 4.1.0, a port of the authors' soap.py: SOAP(lr=0.05, betas=(0.9, 0.95), shampoo_beta=0.95,
  -- weight_decay=0, precondition_frequency=3) in float64; then with max_precondition_dim=4.
  it("SOAP does as its authors' port", function()
    local settings = { learning_rate = 0.05, beta1 = 0.9, beta2 = 0.95, refresh = 3 }
    near(trajectory(optim.SOAP, settings, 4, 4), {
      0.0813665, -0.0890277, 0.1190407, 0.1273189, -0.0456530, 0.1831689, -0.0848645, 0.0050165, -0.0655584,
      -0.0112842, -0.1184660, -0.0106499, 0.1518051, 0.2175815, -0.0824948, -0.1222864 }, 1e-5)
    settings.widest = 4
    near(trajectory(optim.SOAP, settings, 4, 6), {
      0.0466594, -0.0039292, 0.2833688, 0.1731616, -0.1288988, 0.2262016, 0.0058924, 0.1378119, -0.1933819,
      -0.0261585, 0.0861098, 0.0155395, -0.1484814, 0.0490574, 0.0546483, 0.0031234, -0.2084554, -0.0791012,
      0.2433091, 0.1740253, -0.3416839, -0.2002472, 0.2350084, 0.0980334 }, 1e-5)
  end)

  -- pytorch_optimizer 4.1.0: Shampoo(lr=0.5, momentum=0, preconditioning_compute_steps=1, matrix_eps=1e-6) in float64.
  it("Shampoo does as another implementation of algorithm 1", function()
    local settings = { learning_rate = 0.5, momentum = 0, decay = 1, graft = "none", refresh = 1 }
    near(trajectory(optim.Shampoo, settings, 6, 4), {
      0.0503825, -0.2901331, 0.3649416, 0.0486937, -0.1868090, 0.2914056, 0.0073279, 0.0749650, -0.2253507,
      -0.0539325, -0.1664703, -0.1485818, 0.0983191, 0.2644360, -0.0804301, -0.1457733, -0.0009934, 0.0186804,
      0.1290921, 0.0569643, -0.1532407, -0.1247065, 0.1384112, 0.0752101 }, 1e-5)
  end)
end)

describe("K-FAC", function()
  -- kfac_jax 0.0.7, of the method's authors, in float64: estimation_mode="fisher_empirical", curvature_ema=0.95,
  -- inverse_update_period=1, damping 0.01, learning rate 0.02, momentum 0.9, nothing adaptive; then with
  -- norm_constraint=1e-4. Weights and biases after twenty steps.
  it("does as its authors'", function()
    local y = gls.tensor({ 1, 2, 3, 1, 2, 3, 3, 2 }, { type = "int32" })
    for constraint, expected in pairs {
      [0] = {
        -1.5465093, 1.1128219, 1.8927097, 0.3946508, 0.5815426, -0.4439384, 0.4358819, 0.6024113, -0.4046659,
        -0.8899660, -0.2113687, 1.9425538, 0.4461859, -0.2980888, 0.2470179, 0.9144240, 0.7355077, 0.2481444,
        -0.9239424, 1.4816184, -0.1030471, -0.6169581, -0.3928466, -0.3083193, 0.0938209, 1.2617649, -0.5906133,
        -2.0542271, -0.3089770, 0.1938560, 0.1516312 },
      [1e-4] = {
        -1.3515409, 0.8581169, 1.3740046, 0.2994077, 0.2047074, -0.4018718, 0.0658164, 0.4484741, -0.5322534,
        -0.7154234, 0.1805781, 1.4188602, 0.0540156, -0.2229015, 0.1907903, 0.7979749, 0.6420502, 0.1691404,
        -0.7514808, 1.0880182, -0.0881705, -0.2382345, -0.3728914, -0.4164515, 0.1819979, 0.7998990, -0.8294489,
        -1.3535256, -0.0403124, 0.0685547, 0.0082679 },
    } do
      local model = nn.Sequential { nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3) }
      for i, start in ipairs { { matrix(3, 4, 0.7), matrix(1, 4, 0.9) }, { matrix(4, 3, 1.3), matrix(1, 3, 1.5) } } do
        local _ <close> = gls.no_grad()
        model[2 * i - 1].weight:copy(start[1] * 2)
        model[2 * i - 1].bias:copy(start[2][1])
      end
      local opt = optim.KFAC(model:parameters(),
        { learning_rate = 0.02, damping = 0.01, refresh = 1, constraint = constraint })
      for step = 0, 19 do
        nn.cross_entropy(model(matrix(8, 3, 0.3) * 4 + matrix(8, 3, 5 + step) * 0.3), y):backward()
        opt:step()
      end
      near(optim.flat.values(model:parameters()):view(1, -1), expected, 2e-4)
    end
  end)

  it("takes statistics from labels that the model draws", function()
    gls.seed(1)
    local x, y = gls.randn(32, 5), gls.randint(1, 3, 32)
    local model = nn.Sequential { nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3) }
    local opt = optim.KFAC(model:parameters(), { learning_rate = 0.1, refresh = 1 })
    local first, last
    for _ = 1, 40 do
      local logits = model(x)
      local drawn = (logits:detach() - (-gls.rand_like(logits):log()):log()):argmax(2)
      opt:observe(nn.cross_entropy(logits, drawn))
      local loss = nn.cross_entropy(logits, y)
      loss:backward()
      opt:step()
      first, last = first or loss:item(), loss:item()
    end
    assert.is_true(last < 0.5 * first, ("from %g to %g"):format(first, last))
  end)

  it("uses the gradient that passes no layer, and one that is changed in place", function()
    local function trained(penalty, change)
      gls.seed(1)
      local layer = nn.Linear(3, 2, { bias = false })
      local opt = optim.KFAC(layer:parameters())
      local x, y, before = gls.randn(8, 3), gls.randn(8, 2), layer.weight:detach():clone()
      for _ = 1, 40 do
        (nn.mse(layer(x), y) + layer.weight:square():sum() * penalty):backward()
        if change then layer.weight.grad:fill(0) end
        opt:step()
      end
      return layer.weight:square():sum():item(), (layer.weight - before):abs():max():item()
    end
    local without, little, much = trained(0), trained(1), trained(100)
    assert.is_true(little < 0.2 * without and much < 0.2 * little, ("%g, %g, %g"):format(without, little, much))
    assert.equal(0, select(2, trained(1, true)))
  end)

  it("bounds the step of all groups together", function()
    local function moved(split)
      gls.seed(3)
      local model = nn.Sequential { nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2) }
      local x, y, before = gls.randn(16, 3), gls.randn(16, 2), model[1].weight:detach():clone()
      local groups = { { parameters = model[1]:parameters() }, { parameters = model[3]:parameters() } }
      local opt = optim.KFAC(split and groups or model:parameters())
      nn.mse(model(x), y):backward()
      opt:step()
      return (model[1].weight - before):norm():item()
    end
    assert.equal(moved(false), moved(true))
  end)

  it("descends in layers of one and two dimensions of filters, as a little step of any weight shows", function()
    for _, layer in ipairs { nn.Linear(4, 3), nn.Conv1d(2, 3, 2), nn.Conv2d(2, 3, 2) } do
      gls.seed(2)
      local shape = ({ [2] = { 6, 4 }, [3] = { 6, 2, 5 }, [4] = { 6, 2, 5, 5 } })[layer.weight:dim()]
      local x = gls.randn(table.unpack(shape))
      local target = layer(x):detach() + gls.randn(table.unpack(layer(x).shape))
      -- with so much damping the step is along the gradient
      local opt = optim.KFAC(layer:parameters(), { damping = 1e6, constraint = 0, learning_rate = 1e5 })
      local before = layer.weight:detach():clone()
      nn.mse(layer(x), target):backward()
      local gradient = layer.weight.grad:clone()
      opt:step()
      local step = before - layer.weight:detach()
      local cosine = (step * gradient):sum():item() / (step:norm():item() * gradient:norm():item())
      assert.is_true(cosine > 0.99, ("%d: %g"):format(layer.weight:dim(), cosine))
    end
  end)

  it("leaves transposed and grouped convolutions to AdamW, and names what else has no factors", function()
    gls.seed(3)
    local model = nn.Sequential { nn.Conv2d(2, 4, 3, { groups = 2 }), nn.Tanh(), nn.ConvTranspose2d(4, 2, 3),
      nn.Flatten(), nn.Linear(72, 2) }
    local x, y = gls.randn(8, 2, 6, 6), gls.randint(1, 2, 8)
    local before = {}
    for i, parameter in ipairs(model:parameters()) do before[i] = parameter:detach():clone() end
    local opt = optim.KFAC(model:parameters(), { learning_rate = 0.05 })
    for _ = 1, 3 do
      nn.cross_entropy(model(x), y):backward()
      opt:step()
    end
    for i, parameter in ipairs(model:parameters()) do
      assert.is_true((parameter - before[i]):abs():max():item() > 0, model:parameters().names[i])
    end
    local Own = nn.class("Own")
    function Own:init() self.filters = gls.randn(4, 1, 3, 3):requires_grad(true) end
    for _, case in ipairs {
      { "filters: a convolution in 2 groups is not one affine map", function(own)
        return gls.conv2d(x, own.filters, { groups = 2 })
      end },
      { "filters has a gradient but no factors: it is used outside an affine layer", function(own)
        return own.filters * 2
      end },
    } do
      local own = Own()
      opt = optim.KFAC(own:parameters())
      case[2](own):square():sum():backward()
      local ok, message = pcall(function() opt:step() end)
      assert.is_false(ok)
      assert.matches("^[^:]*optimizers_spec.lua:%d+: optim.KFAC: " .. case[1], message)
      assert.matches("in others", message)
    end
  end)

  it("steps filters and their biases", function()
    gls.seed(2)
    local model = nn.Sequential { nn.Conv2d(2, 3, 3, { padding = 1 }), nn.ReLU(), nn.Flatten(), nn.Linear(108, 2) }
    local x, y = gls.randn(8, 2, 6, 6), gls.randint(1, 2, 8)
    local opt = optim.KFAC(model:parameters(), { learning_rate = 0.05 })
    local first, last
    for _ = 1, 30 do
      local loss = nn.cross_entropy(model(x), y)
      loss:backward()
      opt:step()
      first, last = first or loss:item(), loss:item()
    end
    assert.is_true(last < 0.2 * first, ("from %g to %g"):format(first, last))
  end)
end)

describe("GLS with an orthogonal direction", function()
  -- NumPy, float64: S the running mean of AᵀA/n (0.95; a plain mean for the first 19 steps), M ← 0.9 M + 0.1 AᵀG,
  -- U = (S + 0.1 tr S / min(n, d) I)⁻¹ M, five steps of Newton and Schulz from U/‖U‖, W ← (1 − ηλ) W − η 0.2 √(entries)
  -- O/‖O‖ with η = 0.05, λ = 0.01.
  it("does as the same equations in NumPy", function()
    for _, case in ipairs {
      { 6, 4, {
        0.0098142, 0.2037926, 0.1089245, 0.1072638, -0.0837041, -0.1551553, 0.0312215, -0.0129302, -0.1778139,
        -0.1331543, 0.0892607, -0.0322222, -0.0603010, 0.0684663, -0.0323796, -0.0347385, 0.0493721, -0.0855920,
        -0.0817491, 0.1058714, 0.0235304, 0.0267203, 0.0743624, -0.0773304 } },
      { 4, 6, {
        0.0221545, 0.1731123, 0.0794083, 0.0536917, 0.0276444, -0.2001518, -0.0567540, -0.1954419, 0.0849045,
        -0.0024997, 0.0631850, 0.0537299, -0.0982322, -0.0985166, 0.0759649, 0.0471658, 0.0167820, 0.0331672,
        -0.0143410, 0.0419398, 0.0022414, -0.0080266, 0.0576390, 0.0490043 } },
    } do
      local rows, columns = case[1], case[2]
      local layer = nn.Linear(rows, columns, { bias = false })
      layer.weight:detach():copy(matrix(rows, columns, 0.7) * 0.5)
      local opt = optim.GLS(layer:parameters(), { statistics = "moving", refresh = 1, momentum = 0.9, graft = "rms",
        orthogonal = true, damping = 0.1, learning_rate = 0.05, weight_decay = 0.01 })
      for step = 0, 19 do
        nn.mse(layer(matrix(8, rows, 0.3 + step)), matrix(8, columns, 2.2 + step)):backward()
        opt:step()
      end
      near(layer.weight:detach(), case[3], 2e-4)
    end
  end)

  it("makes steps of equal spectral norm with graft spectral, wide, tall and of a convolution", function()
    gls.seed(5)
    local rate = 0.01
    for _, layer in ipairs { nn.Linear(12, 30, { bias = false }), nn.Linear(30, 12, { bias = false }),
      nn.Conv2d(2, 5, 3, { bias = false }) } do
      local x = layer.weight:dim() == 4 and gls.randn(40, 2, 6, 6) or gls.randn(40, layer.weight:size(1))
      local opt = optim.GLS(layer:parameters(), { form = "residual", weight_decay = 0, learning_rate = rate })
      local before = layer.weight:detach():clone()
      layer(x):square():mean():backward()
      opt:step()
      local change = layer.weight:detach() - before
      local inputs, outputs = change:size(1), change:size(2)
      if change:dim() == 4 then
        outputs, inputs = change:size(1), change:numel() // change:size(1)
        change = change:reshape(outputs, inputs)
      end
      local _, values = gls.svd(change)
      values = values / (rate * math.sqrt(math.max(1, outputs / inputs)))
      assert(math.abs(values:square():mean():sqrt():item() - 1) < 1e-3, tostring(values))
      assert(values:min():item() > 0.6 and values:max():item() < 1.4, tostring(values)) -- the iteration is not exact
    end
  end)

  it("needs a step of given length", function()
    assert.has_error(function() optim.GLS(nn.Linear(2, 2):parameters(), { orthogonal = true }) end,
      'optim.GLS: orthogonal = true goes with graft = "rms" or "spectral"')
  end)

  it("refuses a decay that the automatic rate would leave whole, and a negative trust region", function()
    for message, settings in pairs {
      ["optim.GLS: decay is at least 0 and below 1, got 7"] = { decay = 7, statistics = "moving" },
      ["optim.GLS: weight_decay = 0.1 takes 10 % of the weights in every step"] = { weight_decay = 0.1 },
      ['optim.GLS: trust is a number of at least 0, or "auto", got -1'] = { trust = -1 },
    } do
      local good, problem = pcall(optim.GLS, nn.Linear(3, 2):parameters(), settings)
      assert(not good and tostring(problem):find(message, 1, true), problem)
    end
  end)
end)

describe("GLS's forms", function()
  local function trained(settings)
    gls.seed(4)
    local model = nn.Sequential { nn.Linear(5, 6), nn.LayerNorm(6), nn.Linear(6, 3) }
    local opt = optim.GLS(model:parameters(), settings)
    for _ = 1, 4 do
      nn.mse(model(gls.randn(12, 5)), gls.randn(12, 3)):backward()
      opt:step()
    end
    return optim.flat.values(model:parameters())
  end
  local function same(a, b) assert.equal(0, (trained(a) - trained(b)):abs():max():item()) end

  it("step as the settings that the manual gives them", function()
    same("training", nil)
    same("validation", { graft = "rms", momentum = 0.9, damping = 3, learning_rate = 1e-3, weight_decay = 1 })
    same("tokens", { graft = "rms", momentum = 0.9, damping = 0.1, statistics = "moving", orthogonal = true,
      learning_rate = 1e-2, fallback_learning_rate = 3e-3, weight_decay = 0.1 })
    same("residual", { graft = "spectral", momentum = 0.9, nesterov = true, damping = 1, statistics = "moving",
      orthogonal = true, learning_rate = 0.1, fallback_learning_rate = 3e-3, weight_decay = 0.05 })
  end)

  it("give way to what is given beside them, in groups too", function()
    same({ form = "validation", momentum = 0.5 },
      { graft = "rms", momentum = 0.5, damping = 3, learning_rate = 1e-3, weight_decay = 1 })
    local opt = optim.GLS({ { parameters = nn.Linear(2, 2):parameters(), learning_rate = 0.5 },
      { parameters = nn.Linear(2, 2):parameters(), form = "validation" } }, { form = "tokens" })
    assert.equal(0.5, opt.groups[1].settings.learning_rate)
    assert.equal(0.1, opt.groups[1].settings.damping)
    assert.equal(3, opt.groups[2].settings.damping)
    assert.equal(0.1, optim.GLS.forms.tokens.damping) -- as it was
  end)

  it("are named when another is asked for", function()
    local parameters = nn.Linear(2, 2):parameters()
    assert.has_error(function() optim.GLS(parameters, "token") end,
      'optim.GLS: unknown form "token"; did you mean "tokens"?')
    assert.has_error(function() optim.GLS(parameters, { form = 3 }) end,
      'optim.GLS: unknown form "3"; known: residual, tokens, training, validation')
    assert.has_error(function() optim.Adam(parameters, "tokens") end,
      "optim.Adam: the second argument is a table of settings, got string")
  end)
end)

describe("gls.newton_schulz", function()
  it("brings all singular values near 1, of tall and wide matrices alike", function()
    gls.seed(3)
    for _, shape in ipairs { { 5, 9 }, { 9, 5 }, { 7, 7 }, { 1, 4 } } do
      local x = gls.newton_schulz(gls.randn(shape[1], shape[2]))
      local gram = shape[1] <= shape[2] and x:matmul(x:t()) or x:t():matmul(x)
      local values = gls.eigh(gram)
      assert.is_true(values:min():item() > 0.4 and values:max():item() < 1.5, tostring(values))
    end
    assert.same({ 0, 3 }, gls.newton_schulz(gls.zeros(0, 3)).shape)
    assert.has_error(function() gls.newton_schulz(gls.zeros(3)) end)
  end)
end)

describe("RMSprop", function()
  -- PyTorch 2.15, torch.optim.RMSprop(lr=0.01, alpha=0.9, momentum=0.5) in float64.
  it("does as PyTorch's", function()
    near(trajectory(optim.RMSprop, { learning_rate = 0.01, decay = 0.9, momentum = 0.5 }, 3, 2),
      { 0.0199449, 0.0618153, -0.0688418, 0.0816129, -0.1301573, -0.0905327 }, 1e-5)
  end)
end)

describe("Lion", function()
  -- optax 0.2.8: lion(0.03, b1=0.9, b2=0.95, weight_decay=0.1) in float64.
  it("does as optax's", function()
    near(trajectory(optim.Lion, { learning_rate = 0.03, beta2 = 0.95, weight_decay = 0.1 }, 3, 2),
      { 0.1875594, -0.1838374, 0.0489683, 0.3139573, -0.0020028, -0.1139671 }, 1e-5)
  end)
end)

describe("L-BFGS", function()
  -- Rosenbrock's function (1960) in two or more dimensions, as SciPy has it.
  local function rosenbrock(x)
    local n = x:numel() - 1
    local a, b = x:narrow(1, 1, n), x:narrow(1, 2, n)
    return ((b - a:square()):square() * 100 + (1 - a):square()):sum()
  end

  -- PyTorch 2.15, torch.optim.LBFGS(lr=1, max_iter=1, max_eval=25, history_size=4, line_search_fn="strong_wolfe") in
  -- float64: the loss before each of twenty steps.
  it("does as PyTorch's, step by step", function()
    for _, case in ipairs {
      { { -1.2, 1 }, { 24.2, 4.1469, 4.1256, 4.1211, 4.1118, 4.085, 4.0222, 3.907, 3.737, 3.265, 2.7441, 2.2417, 2.1206,
        1.6514, 1.3732, 1.0269, 0.82046, 0.74567, 0.49326, 0.4297 } },
      { { 0.5, -0.3, 0.8 }, { 82.6, 13.006, 2.2541, 1.9597, 1.8302, 1.711, 1.5821, 1.2091, 0.83771, 0.64097, 0.59419,
        0.51254, 0.44678, 0.30221, 0.19774, 0.15539, 0.07072, 0.0493, 0.032032, 0.030158 } },
    } do
      local x = gls.tensor(case[1]):requires_grad(true)
      local opt = optim.LBFGS({ x }, { iterations = 1, history = 4 })
      for step, expected in ipairs(case[2]) do
        local loss = opt:step(function() return rosenbrock(x) end)
        assert.is_true(math.abs(loss - expected) < 1e-2 * expected,
          ("step %d: %g, not %g"):format(step, loss, expected))
      end
    end
  end)

  it("ends at the minimum, and goes on after its memory was put back as if never stopped", function()
    local x = gls.tensor { -1.2, 1 }:requires_grad(true)
    local function loss() return rosenbrock(x) end
    local opt = optim.LBFGS({ x }, { iterations = 10, evaluations = 20 })
    opt:step(loss)
    local y = x:detach():clone():requires_grad(true)
    local other = optim.LBFGS({ y }, { iterations = 10, evaluations = 20 })
    other:load_state_dict(opt:state_dict())
    for _ = 1, 4 do
      assert.equal(opt:step(loss), other:step(function() return rosenbrock(y) end))
    end
    assert.is_true((x - 1):abs():max():item() < 1e-3)
  end)

  it("trains a network on a whole set, without step(closure) says so", function()
    gls.seed(1)
    local x = gls.randn(50, 4)
    local target = x:matmul(gls.randn(4, 2)):tanh()
    local model = nn.Sequential { nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2) }
    local opt = optim.LBFGS(model:parameters(), { iterations = 60, evaluations = 90 })
    local function loss() return nn.mse(model(x), target) end
    local before = opt:step(loss)
    assert.is_true(loss():item() < 1e-3 * before)
    assert.has_error(function() opt:step() end,
      "optim.LBFGS: step(closure) needs a function that computes the loss, without backward")
  end)

  it("takes no clip, its own or train.fit's, and an average around it gives its result", function()
    local layer = nn.Linear(2, 1)
    assert.error_matches(function() optim.LBFGS(layer:parameters(), { clip = 1 }) end, "optim.LBFGS takes no clip")
    local opt = optim.LBFGS(layer:parameters())
    assert.error_matches(function() opt.clip = 1 end, "clip is set when the optimizer is made")
    local average = optim.average(opt, layer:parameters(), 0.9)
    for _, optimizer in ipairs { opt, average, optim.average(average, layer:parameters(), 0.9) } do
      assert.error_matches(function()
        fit { model = layer, optimizer = optimizer, loss = function() end, data = function() end, clip = 1 }
      end, "train.fit: clip: optim.LBFGS makes its own gradients")
    end
    local x = gls.tensor { 5, -3 }:requires_grad(true)
    assert.equal(34, optim.average(optim.LBFGS({ x }), { x }, 0.9):step(function() return x:square():sum() end))
  end)

  it("stops where the loss is not finite, the best point kept", function()
    local x = gls.tensor { 1 }:requires_grad(true)
    local opt = optim.LBFGS({ x }, { iterations = 3 })
    opt:step(function() return (x - 2):square():sum() + (x - 1.5):relu():sum() * math.huge end)
    assert.is_true(x:item() >= 1 and x:item() <= 1.5)
  end)
end)

describe("flat", function()
  it("gives values and gradients in order, and writes them back", function()
    local a, b = gls.tensor { { 1, 2 }, { 3, 4 } }:requires_grad(true), gls.tensor { 5 }:requires_grad(true)
    assert.same({ 5 }, optim.flat.values { a, b }.shape)
    a:square():sum():backward()
    local gradient = optim.flat.gradients { a, b }
    assert.equal(8, gradient[4]:item())
    assert.equal(0, gradient[5]:item())
    optim.flat.assign({ a, b }, gls.range(1, 5) * 10)
    assert.equal(30, a[2][1]:item())
    assert.equal(50, b:item())
    assert.has_error(function() optim.flat.assign({ a }, gls.range(1, 5)) end,
      "flat.assign: the parameters have 4 values, the vector's shape is (5)")
  end)
end)

describe("optimizers of matrices", function()
  local function model()
    gls.seed(4)
    return nn.Sequential { nn.Embedding(7, 6), nn.Linear(6, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 7) }
  end
  local x = gls.tensor({ 1, 5, 2, 7, 3, 3 }, { type = "int32" })
  local y = gls.tensor({ 2, 6, 3, 1, 4, 4 }, { type = "int32" })

  local function train(net, opt, steps)
    local loss
    for _ = 1, steps do
      loss = nn.cross_entropy(net(x), y)
      loss:backward()
      opt:step()
    end
    return loss:item()
  end

  for _, name in ipairs { "Muon", "SOAP", "Shampoo", "KFAC" } do
    it(name .. " moves every parameter, and goes on after its state was put back as if never stopped", function()
      local settings = { learning_rate = 0.02, others = { "5" } }
      local net = model()
      local before = {}
      for i, parameter in ipairs(net:parameters()) do before[i] = parameter:detach():clone() end
      local opt = optim[name](net:parameters(), settings)
      local first = train(net, opt, 1)
      train(net, opt, 11)
      for i, parameter in ipairs(net:parameters()) do
        assert.is_true((parameter - before[i]):abs():max():item() > 0, net:parameters().names[i])
      end
      local other = model()
      other:load_state_dict(net:state_dict())
      local again = optim[name](other:parameters(), settings)
      again:load_state_dict(opt:state_dict())
      local last = train(net, opt, 8)
      assert.equal(last, train(other, again, 8))
      assert.is_true(last < 0.7 * first, ("from %g to %g"):format(first, last))
    end)
  end

  it("leave to AdamW the bias that is named, with its weight's statistics without it", function()
    local net = model()
    local opt = optim.KFAC(net:parameters(), { others = { "2.bias" }, fallback_learning_rate = 0 })
    local weight, bias = net[2].weight:detach():clone(), net[2].bias:detach():clone()
    train(net, opt, 2)
    assert.is_true((net[2].weight - weight):abs():max():item() > 0)
    assert.equal(0, (net[2].bias - bias):abs():max():item())
    assert.same({ 6, 6 }, opt:state_dict().tensors["inputs.2.weight"].shape)
  end)

  it("leave to AdamW what is no matrix, a table, or named", function()
    local net = model()
    local opt = optim.Muon(net:parameters(), { others = { "5" }, fallback_learning_rate = 0 })
    local before = {}
    for i, parameter in ipairs(net:parameters()) do before[i] = parameter:detach():clone() end
    train(net, opt, 1)
    local moved = {}
    for i, parameter in ipairs(net:parameters()) do
      if (parameter - before[i]):abs():max():item() > 0 then moved[#moved + 1] = net:parameters().names[i] end
    end
    assert.same({ "2.weight" }, moved)
  end)

  it("take others that are in one group of several, and refuse what is in none that has them", function()
    local net = model()
    local groups = optim.decay_matrices(net:parameters())
    local opt = optim.Muon(groups, { others = { "5.weight" }, fallback_learning_rate = 0 })
    local before = net[5].weight:detach():clone()
    train(net, opt, 1)
    assert.equal(0, (net[5].weight - before):abs():max():item())
    local ok, message = pcall(optim.Muon, {
      { parameters = net[2]:parameters() }, { parameters = net[5]:parameters(), others = { "bia" } } })
    assert.is_false(ok)
    assert.matches('others names "bia", of which there is no parameter; did you mean "bias"', message, 1, true)
    assert.is_false((pcall(optim.Muon, optim.decay_matrices(net:parameters()), { others = { "6" } })))
  end)

  it("say once of a list made by hand that its tables are not known", function()
    local script = os.tmpname()
    local file <close> = assert(io.open(script, "w"))
    file:write [[
      local nn, optim = require "gls.nn", require "gls.optim"
      local model = nn.Sequential { nn.Embedding(7, 6), nn.Linear(6, 8) }
      local list = {}
      for _, parameter in model:named_parameters() do list[#list + 1] = parameter end
      optim.Muon(model:parameters())
      for _ = 1, 2 do optim.Muon(list) end
      optim.Muon(list, { others = { "1" } })
    ]]
    file:close()
    local pipe <close> = assert(io.popen(("unset LD_PRELOAD; '%s' '%s' 2>&1"):format(os.getenv "GLSRUN"
      or "build/glsrun", script)))
    local said = pipe:read "a"
    os.remove(script)
    local text = "Muon: no modules are known for %s (a list without the owners that model:parameters() has): taken for "
      .. "weight matrices; name tables of embeddings among them in others\n"
    assert.equal(text:format "1, 2" .. text:format "2", said)
  end)

  it("see filters as matrices: one row an output", function()
    gls.seed(2)
    local conv = nn.Conv2d(3, 4, 3, { bias = false })
    local before = conv.weight:detach():clone()
    local opt = optim.Muon(conv:parameters(), { learning_rate = 1 })
    conv(gls.randn(2, 3, 8, 8)):square():mean():backward()
    opt:step()
    local step = (before - conv.weight:detach()):reshape(4, -1)
    local gram = step:matmul(step:t())
    for i = 1, 4 do -- singular values of 0.68 to 1.13 (Jordan, 2024)
      assert.is_true(gram[i][i]:item() > 0.4 and gram[i][i]:item() < 1.4, tostring(gram))
    end
  end)

  it("refuse what makes no sense", function()
    local net = model()
    local function fails(text, class, settings) says(text, class, net:parameters(), settings) end
    fails("others names \"head\"", optim.Muon, { others = { "head" } })
    fails("others[1] is a Linear; expected its name", optim.Muon, { others = { net[5] } })
    fails("others[1] is a tensor; expected its name", optim.Muon, { others = { net[5].weight } })
    fails("others[2] is a number; expected its name", optim.Muon, { others = { "5", 5 } })
    fails("others is a list", optim.Muon, { others = "5" })
    fails("did you mean \"momentum\"", optim.Muon, { momentun = 0.9 })
    fails("damping is above 0", optim.KFAC, { damping = 0 })
    fails("graft is", optim.Shampoo, { graft = "adam" })
    fails("momentum is 1", optim.Muon, { momentum = 1 })
    fails("refresh", optim.SOAP, { refresh = 0 })
    fails("learning_rate", optim.SOAP, { learning_rate = -1 })
  end)
end)
