-- The training loop: what it leaves, when it ends, and that a resumed run is the run that was not cut.
local gls = require "gls"
local data = require "gls.data"
local nn = require "gls.nn"
local optim = require "gls.optim"
local train = require "gls.train"

-- A regression that a linear layer can learn: y = x w.
local function problem(settings)
  gls.seed(3)
  local x = gls.randn(60, 5)
  local y = x:matmul(gls.randn(5, 2))
  local model = nn.Linear(5, 2)
  local optimizer = optim.Adam(model:parameters(), { learning_rate = 0.02 })
  local given = {
    model = model, optimizer = optimizer, epochs = 6,
    data = data.loader(data.tensors { x = x, y = y }, { batch = 25, shuffle = true }),
    loss = function(network, batch) return nn.mse(network(batch.x), batch.y) end,
  }
  for name, value in pairs(settings or {}) do given[name] = value end
  return given
end

local function weights(given) return given.model.weight:detach():tolist() end

describe("train.fit", function()
  it("trains for the epochs asked, with a last batch that is smaller", function()
    local losses, steps = {}, 0
    local state = train.fit(problem {
      epochs = 30, on_step = function() steps = steps + 1 end,
      on_epoch = function(now) losses[#losses + 1] = now.loss end,
    })
    assert.equal("finished", state.status)
    assert.equal(30, #losses)
    assert.equal(90, state.step)
    assert.equal(90, steps)
    assert.is_true(losses[30] < losses[1] / 2)
    assert.is_true(state.seconds > 0)
  end)

  it("counts a batch's loss by its samples", function()
    local given = problem { epochs = 1 }
    given.optimizer = { step = function() end }
    local values = { 4, 4, 1 }
    local place = 0
    given.loss = function(model, batch)
      place = place + 1
      return nn.mse(model(batch.x), batch.y) * 0 + values[place]
    end
    -- 25, 25 and 10 samples
    assert.is_true(math.abs(train.fit(given).loss - (4 * 50 + 1 * 10) / 60) < 1e-6)
  end)

  it("ends at once when a loss is not finite, before the weights take it", function()
    local given, before = problem(), nil
    local steps = 0
    given.loss = function(model, batch)
      steps = steps + 1
      local loss = nn.mse(model(batch.x), batch.y)
      if steps < 5 then return loss end
      before = weights(given)
      return loss * (0 / 0)
    end
    local state = train.fit(given)
    assert.equal("diverged", state.status)
    assert.equal(2, state.epoch)
    assert.equal(5, state.step)
    assert.same(before, weights(given))
  end)

  it("stops when on_epoch says so", function()
    local state = train.fit(problem { on_epoch = function(now) return now.epoch < 2 end })
    assert.equal("stopped", state.status)
    assert.equal(2, state.epoch)
  end)

  it("ends after the epoch in which time is up", function()
    local state = train.fit(problem { seconds = 1e-9 })
    assert.equal("out of time", state.status)
    assert.equal(1, state.epoch)
  end)

  it("resumed from a checkpoint, gives the weights of the whole run to the last bit", function()
    local path = os.tmpname()
    os.remove(path)
    local whole = problem()
    train.fit(whole)
    train.fit(problem { epochs = 3, checkpoint = path, resume = true })
    local rest = problem { checkpoint = path, resume = true }
    local state = train.fit(rest)
    assert.equal(6, state.epoch)
    assert.equal(18, state.step)
    assert.same(weights(whole), weights(rest))
    os.remove(path)
  end)

  it("names a file that is no checkpoint of its own", function()
    local path = os.tmpname()
    gls.save(path, { 1, 2 })
    assert.error_matches(function() train.fit(problem { checkpoint = path, resume = true }) end,
      "is not a checkpoint of train%.fit")
    os.remove(path)
  end)

  it("says what is missing", function()
    assert.error_matches(function() train.fit { model = nn.Linear(2, 2) } end, "is required")
    for name, value in pairs { model = "x", optimizer = {}, loss = 3, epochs = 1.5, seconds = -1, on_epoch = true } do
      assert.error_matches(function() train.fit(problem { [name] = value }) end, "train.fit: " .. name .. " is an? ")
    end
    assert.error_matches(function() train.fit(problem { epoch = 3 }) end, 'did you mean "epochs"')
    assert.error_matches(function() train.fit(problem { data = function() return nil end }) end, "gave no batch")
    assert.error_matches(function() train.fit(problem { resume = true }) end, "needs a checkpoint")
    assert.error_matches(function()
      train.fit(problem { checkpoint = "nowhere", optimizer = { step = function() end } })
    end, "needs optimizer with state_dict")
  end)
end)
