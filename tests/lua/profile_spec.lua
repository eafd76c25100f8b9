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

  local function find(rows, name, phase)
    for _, row in ipairs(rows) do
      if row.name == name and (not phase or row.phase == phase) then return row end
    end
  end

  it("counts operations and bytes, by op and by module", function()
    local step = training(function(parameters) return optim.Adam(parameters) end)
    local profile = gls.profile(step, 5)
    -- 16 rows of 20 · 30 and 30 · 5 weights, a multiplication and an addition each
    local products = 2 * 16 * (20 * 30 + 30 * 5)
    assert.equal(5 * products, find(profile.rows, "linear", "forward").flops)
    -- x, W and z of both, 4 bytes each
    assert.equal(5 * 4 * (16 * 20 + 20 * 30 + 16 * 30 + 16 * 30 + 30 * 5 + 16 * 5),
      find(profile.rows, "linear", "forward").bytes)
    assert.equal(5 * 16 * 30, find(profile.rows, "relu", "forward").flops)
    -- The gradient of the data through the second layer, and of both weights in the optimizer's step.
    assert.equal(5 * products, find(profile.rows, "weight gradient with update").flops)
    local first, second = find(profile.modules, "1"), find(profile.modules, "3")
    assert.equal(5 * 2 * 16 * 20 * 30, first.flops) -- forward; its weight's gradient is the optimizer's
    assert.equal(5 * 4 * 16 * 30 * 5, second.flops) -- and its input's gradient
    assert.equal(0, find(profile.modules, "Sequential").flops)
    assert.is_true(find(profile.rows, "linear", "forward").limit > 0)
    assert.is_true(profile.limits.flops > 1e8 and profile.limits.bytes > 1e8)
    assert.matches("\nmodule +3 ", tostring(profile))
  end)

  it("counts what convolutions, factorisations and solves compute", function()
    local x, w = gls.randn(2, 3, 8, 8), gls.randn(4, 3, 3, 3)
    local profile = gls.profile(function() return gls.conv2d(x, w, nil, { padding = 1 }) end)
    assert.equal(2 * (2 * 4 * 8 * 8) * (3 * 3 * 3), find(profile.rows, "conv2d").flops)
    local step = training(function(parameters) return optim.GLS(parameters) end)
    profile = gls.profile(step, 1)
    for _, name in ipairs { "statistics", "factorisations", "directions", "weights" } do
      assert.is_true(find(profile.rows, name, "optimizer").flops > 0, name)
    end
  end)

  it("writes every span in the trace that Perfetto opens", function()
    local path = os.tmpname()
    local step = training(function(parameters) return optim.Adam(parameters) end)
    local profile = gls.profile(step, 2)
    local count, lost = profile:trace(path)
    local file <close> = assert(io.open(path))
    local trace = require "gls.json".decode(file:read "a")
    os.remove(path)
    assert.equal(0, lost)
    assert.equal(count, #trace.traceEvents)
    local linear, modules = 0, {}
    for _, event in ipairs(trace.traceEvents) do
      assert.equal("X", event.ph)
      assert.is_true(event.ts >= 0 and event.dur >= 0)
      if event.name == "linear" and event.cat == "forward" then linear = linear + 1 end
      if event.cat == "module" then modules[event.name] = event end
      if event.name == "relu" then assert.equal("2", event.args.module) end
    end
    assert.equal(4, linear)
    local whole, inner = modules.Sequential, modules["3"] -- of the last step
    assert.is_true(inner.ts >= whole.ts and inner.ts + inner.dur <= whole.ts + whole.dur + 0.002)
  end)

  it("is what glsrun --profile does around a script, also one that fails", function()
    local glsrun = os.getenv "GLSRUN" or "build/glsrun"
    local script, trace = os.tmpname(), os.tmpname()
    local file <close> = assert(io.open(script, "w"))
    file:write [[
      local gls = require "gls"
      print(gls.nn.Linear(2, 3)(gls.ones(4, 2)):sum():item() ~= 0, ...)
      if ... == "fail" then error "mine" end
    ]]
    file:flush()
    local function run(arguments)
      local pipe = assert(io.popen(("'%s' --profile='%s' '%s' %s 2>&1; echo \"code $?\""):format(glsrun, trace, script,
        arguments)))
      local text = pipe:read "a"
      pipe:close()
      return text
    end
    local text = run "a b"
    assert.matches("^true\ta\tb\nphase", text)
    assert.matches("forward +linear +1 .*\nmodule +Linear .*spans.*code 0\n$", text)
    assert.matches("forward +linear +1 .*mine.*code 1\n$", run "fail")
    local written <close> = assert(io.open(trace))
    assert.is_true(#require "gls.json".decode(written:read "a").traceEvents > 2)
    os.remove(script)
    os.remove(trace)
  end)

  it("is not begun within another, which would lose what it has", function()
    local step = training(function(parameters) return optim.Adam(parameters) end)
    local profile = gls.profile(function()
      step(2)
      assert.error_matches(function() gls.profile(step, 1) end, "a profile is under way already")
    end)
    assert.equal(2, calls(profile, "backward", "relu"))
    assert.error_matches(function() profile:trace() end, "the path of a file expected, got nil")
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
