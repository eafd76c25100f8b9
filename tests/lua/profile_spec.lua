-- gls.profile: the rows add up to the whole, and say what ran.
local gls = require "gls"
local nn, optim = gls.nn, gls.optim

local function training(make)
  gls.seed(1)
  local model = nn.Sequential { nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 5) }
  local optimizer = make(model:parameters())
  local x, y = gls.randn(16, 20), gls.randint(1, 5, 16)
  return function(steps)
    for _ = 1, steps do
      local loss = nn.cross_entropy(model(x), y)
      loss:backward()
      optimizer:step()
    end
  end, model[1].weight
end

local function calls(profile, phase, name)
  for _, row in ipairs(profile.rows) do
    if row.phase == phase and row.name == name then return row.calls end
  end
end

describe("gls.profile", function()
  it("adds up to the whole and counts calls", function()
    local step = training(function(parameters) return optim.Adam(parameters) end)
    step(1)
    local profile = gls.profile(step, 7)
    local sum, share = 0, 0
    for i, row in ipairs(profile.rows) do
      sum, share = sum + row.seconds, share + row.share
      assert.is_true(row.seconds >= 0, row.name)
      assert.is_true(i == 1 or row.seconds <= profile.rows[i - 1].seconds)
    end
    assert.is_true(math.abs(sum - profile.seconds) < 1e-9 and math.abs(share - 1) < 1e-9)
    assert.equal(14, calls(profile, "forward", "linear"))
    assert.equal(28, calls(profile, "backward", "linear")) -- both biases are sums of their own
    assert.equal(7, calls(profile, "backward", "relu"))
    assert.equal(14, calls(profile, "optimizer", "weight gradient with update"))
    assert.is_nil(calls(profile, "tangents", "linear"))
    assert.truthy(tostring(profile):find("cross_entropy", 1, true))
  end)

  it("sees the parts of a GLS step", function()
    local step = training(function(parameters) return optim.GLS(parameters) end)
    local profile = gls.profile(step, 3)
    for _, name in ipairs { "statistics", "directions", "weights" } do
      assert.is_true((calls(profile, "optimizer", name) or 0) >= 3, name)
    end
    assert.equal(3, calls(profile, "optimizer", "factorisations"))
    assert.is_true((calls(profile, "tangents", "linear") or 0) >= 3)
  end)

  it("hands on errors, and measures again after one", function()
    assert.has_error(function() gls.profile(function() error("mine", 0) end) end, "mine")
    assert.has_error(function() gls.profile(3) end)
    local profile = gls.profile(function() return gls.zeros(3) + gls.zeros(3) end)
    assert.equal(1, calls(profile, "forward", "add"))
  end)

  it("does not change what is computed", function()
    local one, profiled = training(function(parameters) return optim.GLS(parameters) end)
    gls.profile(one, 3)
    local two, plain = training(function(parameters) return optim.GLS(parameters) end)
    two(3)
    assert.equal(0, (profiled - plain):abs():max():item())
  end)
end)
