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

  it("is told by its callbacks when to end, and keeps the best model", function()
    local losses = { 5, 3, 4, 4, 4, 4, 4 }
    local seen = {}
    local function scripted(settings)
      local given = problem(settings)
      given.loss = function(model, batch)
        local loss = nn.mse(model(batch.x), batch.y)
        if model.training then return loss end
        return loss * 0 + losses[#seen + 1], { width = 2 }
      end
      given.validation, given.epochs = data.loader(data.tensors { x = gls.randn(7, 5), y = gls.randn(7, 2) }), 7
      return given
    end
    local best
    local given = scripted()
    given.callbacks = {
      train.early_stopping { patience = 2 }, train.keep_best(),
      { on_evaluation = function(_, state)
        seen[#seen + 1] = state.metrics
        if #seen == 2 then best = weights(given) end
      end },
    }
    local state = train.fit(given)
    assert.equal("stopped", state.status)
    assert.equal(5, state.epoch) -- better in the second, and three that are not
    assert.equal(3, seen[2].valid_loss)
    assert.equal(2, seen[2].valid_width)
    assert.is_true(seen[2].loss > 0)
    assert.same(best, weights(given))
    -- The same with the best model in a file, and a resumed run that had been stopped does not go on.
    local path = os.tmpname()
    os.remove(path)
    for _, again in ipairs { false, true } do
      seen = {}
      given = scripted { checkpoint = path, resume = again }
      given.callbacks = {
        train.early_stopping { patience = 2 }, train.keep_best { path = path .. ".best" },
        { on_evaluation = function(_, now) seen[#seen + 1] = now.metrics end },
      }
      assert.equal("stopped", train.fit(given).status)
      assert.equal(again and 0 or 5, #seen)
      assert.same(best, weights(given))
    end
    os.remove(path)
    os.remove(path .. ".best")
  end)

  it("averages what the loss measures over samples, in evaluation mode", function()
    local given = problem()
    given.model = nn.Sequential { nn.Linear(5, 2), nn.Dropout(0.5) }
    local found = train.evaluate {
      model = given.model, data = given.data,
      loss = function(model, batch)
        return nn.mse(model(batch.x), batch.y), { rows = batch.x:size(1), first = gls.full(1, batch.number) }
      end,
    }
    assert.is_true(given.model.training)
    assert.is_true(math.abs(found.rows - (25 * 25 + 25 * 25 + 10 * 10) / 60) < 1e-6)
    assert.is_true(math.abs(found.first - (25 + 2 * 25 + 3 * 10) / 60) < 1e-6)
    local x, y = given.data.set.x, given.data.set.y
    assert.is_true(math.abs(found.loss - nn.mse(given.model[1](x), y):item()) < 1e-6)
  end)

  it("averages a metric over the batches that give it", function()
    local given = problem { epochs = 1 }
    given.loss = function(model, batch)
      return nn.mse(model(batch.x), batch.y), batch.number > 1 and { late = batch.number } or nil
    end
    local expected = (2 * 25 + 3 * 10) / 35
    local found = train.evaluate { model = given.model, data = given.data, loss = given.loss }
    assert.is_true(math.abs(found.late - expected) < 1e-9)
    assert.is_true(math.abs(train.fit(given).metrics.late - expected) < 1e-9)
  end)

  it("takes one step for several batches: that of the mean over their samples", function()
    local whole, parts = problem { epochs = 3 }, problem { epochs = 3 }
    whole.data = data.loader(whole.data.set, { batch = 60 })
    parts.data = data.loader(parts.data.set, { batch = 25 })
    whole.optimizer = optim.SGD(whole.model:parameters(), { learning_rate = 0.1, momentum = 0.9 })
    parts.optimizer = optim.SGD(parts.model:parameters(), { learning_rate = 0.1, momentum = 0.9 })
    parts.accumulate = 4 -- more than there are
    local state = train.fit(whole)
    local same = train.fit(parts)
    assert.equal(3, same.step)
    assert.is_true(math.abs(same.loss - state.loss) < 1e-5)
    assert.is_true((whole.model.weight - parts.model.weight):abs():max():item() < 1e-5)
  end)

  it("clips the gradients' common norm", function()
    local norms = {}
    local given = problem { epochs = 1, clip = 0.01 }
    given.on_step = function(state) norms[#norms + 1] = state.gradient_norm end
    given.optimizer = optim.SGD(given.model:parameters(), { learning_rate = 1 })
    local before = given.model.weight:detach():clone()
    local bias = given.model.bias:detach():clone()
    given.data = data.loader(given.data.set, { batch = 60 })
    train.fit(given)
    local moved = ((given.model.weight - before) ^ 2):sum():item() + ((given.model.bias - bias) ^ 2):sum():item()
    assert.is_true(norms[1] > 0.1)
    assert.is_true(math.abs(math.sqrt(moved) - 0.01) < 1e-5)
  end)

  it("says how far it is, in plain lines where there is no terminal", function()
    local progress = require "gls.train.progress"
    local log = require "gls.log"
    local written = {}
    local stream = { write = function(_, text) written[#written + 1] = text end, flush = function() end }
    train.fit(problem {
      epochs = 2, callbacks = { progress.new(log.progress { stream = stream, terminal = false, interval = 0 }) },
    })
    local text = table.concat(written)
    assert.matches("epoch 1/2 · batch 2/3 · loss %S+ · %S+ samples/s · left %d", text)
    assert.matches("\nepoch 2/2  loss %S+  %S+ s\n", text)
  end)

  it("keeps the last checkpoints under their steps", function()
    local folder = os.tmpname()
    os.remove(folder)
    assert(os.execute("mkdir '" .. folder .. "'"))
    local given = problem { checkpoint = { folder .. "/run.x", steps = 2, keep = 2 }, epochs = 3 }
    train.fit(given)
    local pipe = assert(io.popen("ls '" .. folder .. "'"))
    assert.equal("run-8.x\nrun-9.x\nrun.x\n", pipe:read "a")
    pipe:close()
    assert.equal(9, gls.load(folder .. "/run.x").step)
    assert.equal(8, gls.load(folder .. "/run-8.x").step)
    -- Killed before the newest had its second name.
    os.remove(folder .. "/run-9.x")
    train.fit(problem { checkpoint = { folder .. "/run.x", steps = 2, keep = 2 }, epochs = 3, resume = true })
    assert.equal(9, gls.load(folder .. "/run-9.x").step)
    os.execute("rm -r '" .. folder .. "'")
  end)

  it("finds a learning rate, and leaves everything as it was", function()
    local given = problem()
    given.optimizer = optim.SGD(given.model:parameters(), { learning_rate = 0.5, momentum = 0.5 })
    local before, random = weights(given), gls.random_state()
    local found = train.find_learning_rate {
      model = given.model, optimizer = given.optimizer, loss = given.loss, data = given.data, least = 1e-5, most = 100,
    }
    assert.same(before, weights(given))
    assert.same(random, gls.random_state())
    assert.equal(0.5, given.optimizer.learning_rate)
    assert.equal(0, given.data.epochs)
    assert.is_true(math.abs(found.rates[1] - 1e-5) < 1e-12)
    assert.is_true(math.abs(found.rates[2] / found.rates[1] - 10 ^ (7 / 99)) < 1e-9)
    -- The loss's curvature is about 1 in every direction: rates up to 2 converge, with momentum up to 3.
    assert.is_true(found.suggestion > 0.01 and found.suggestion < 3, tostring(found.suggestion))
    assert.is_true(found.rates[#found.rates] < 100) -- it ended when the loss had risen
    assert.error_matches(function()
      train.find_learning_rate {
        model = given.model, optimizer = optim.GLS(given.model:parameters()), loss = given.loss, data = given.data,
      }
    end, "the optimizer's learning rate is auto, not a number")
  end)

  it("resumed in the middle of an epoch, with groups of batches or data that is no loader, is the whole run", function()
    local path = os.tmpname()
    os.remove(path)
    local set = problem().data.set
    local function batches() -- anew in every epoch, without a state of its own
      return function(_, last)
        local first = last and last.first + 10 or 1
        return first <= 60 and { first = first, x = set.x:narrow(1, first, 10), y = set.y:narrow(1, first, 10) } or nil
      end
    end
    for _, changes in ipairs { { accumulate = 2, data = "loader" }, { data = "function" }, { accumulate = 4 } } do
      local function run(more)
        local given = problem(more)
        given.accumulate = changes.accumulate
        given.data = changes.data == "function" and batches()
          or data.loader(set, { batch = 10, shuffle = true, seed = 4 })
        local state = train.fit(given)
        return given.model.weight:tolist(), state
      end
      local whole, state = run { epochs = 3 }
      for cut = 1, 5 do
        run { epochs = 3, checkpoint = path, callbacks = { { on_step = function(_, now) return now.step ~= cut end } } }
        local rest, same = run { epochs = 3, checkpoint = path, resume = true }
        assert.same(whole, rest)
        assert.same({ state.step, state.loss, state.first_loss }, { same.step, same.loss, same.first_loss })
        os.remove(path)
      end
    end
  end)

  it("names a file that is no checkpoint of its own", function()
    local path = os.tmpname()
    gls.save(path, { 1, 2 })
    assert.error_matches(function() train.fit(problem { checkpoint = path, resume = true }) end,
      "is not a checkpoint of train%.fit")
    os.remove(path)
  end)

  it("remembers every callback of a name in its checkpoint", function()
    local path = os.tmpname()
    local function both() return { train.keep_best(), train.keep_best { monitor = "number", mode = "max" } } end
    local first, again = both(), both()
    local function run(callbacks, resume)
      local given = problem { callbacks = callbacks, checkpoint = path, resume = resume, epochs = 2 }
      local loss = given.loss
      given.loss = function(model, batch) return loss(model, batch), { number = 7 } end
      train.fit(given)
    end
    run(first, false)
    run(again, true)
    os.remove(path)
    assert.same({ first[1].best, -7, 2, 1 }, { again[1].best, again[2].best, again[1].epoch, again[2].epoch })
  end)

  it("begins anew with callbacks of an earlier run", function()
    local stopping, best = train.early_stopping { patience = 0, mode = "max" }, train.keep_best()
    local callbacks = { stopping, best }
    assert.equal("stopped", train.fit(problem { callbacks = callbacks }).status)
    local kept = best.weights.weight
    local other = problem { callbacks = callbacks, epochs = 1 }
    other.loss = function(model, batch) return nn.mse(model(batch.x), batch.y) + 1000 end -- never better than before
    assert.equal("finished", train.fit(other).status)
    assert.not_same(kept:tolist(), weights(other))
    assert.is_true(best.best > 1000)
  end)

  it("knows before it trains whether its files can be written", function()
    local trained = false
    local function refused(settings, message)
      settings.on_step = function() trained = true end
      assert.error_matches(function() train.fit(problem(settings)) end, message)
    end
    refused({ checkpoint = "nowhere/a" }, "checkpoint: nowhere/a: cannot be written: No such file")
    refused({ checkpoint = "tests" }, "checkpoint: tests: is a folder")
    refused({ callbacks = { train.keep_best { path = "nowhere/a" } } }, "keep_best: nowhere/a: cannot be written")
    assert.is_false(trained)
  end)

  it("leaves evaluation mode, also where the loss fails", function()
    local given = problem()
    local fails = { model = given.model, loss = function() error "mine" end, data = given.data }
    assert.error_matches(function() train.evaluate(fails) end, "mine")
    assert.is_true(given.model.training)
  end)

  it("leaves the mode of every module as it was: what is frozen in evaluation mode stays so", function()
    local given = problem { epochs = 3 }
    given.model = nn.Sequential { nn.Linear(5, 2), nn.BatchNorm2d(2), nn.Dropout(0.1) }
    given.optimizer = optim.SGD(given.model:parameters())
    given.validation = given.data
    given.model[2]:eval()
    local function modes()
      local list = {}
      for _, module in given.model:modules() do list[#list + 1] = module.training end
      return list
    end
    local seen = {}
    local loss = given.loss
    given.loss = function(model, batch)
      if model.training then seen[#seen + 1] = modes() else assert.same({ false, false, false, false }, modes()) end
      return loss(model[1], batch)
    end
    train.evaluate { model = given.model, loss = given.loss, data = given.data }
    assert.same({ true, true, false, true }, modes())
    given.on_epoch = function(state)
      if state.epoch == 2 then given.model:eval() end -- and not back
    end
    train.fit(given)
    assert.equal(9, #seen)
    for _, list in ipairs(seen) do assert.same({ true, true, false, true }, list) end
    assert.same({ true, true, false, true }, modes())
    train.find_learning_rate { model = given.model, optimizer = given.optimizer, loss = given.loss, data = given.data,
      steps = 10 }
    assert.same({ true, true, false, true }, modes())
    given.model:eval() -- as a whole: fit trains it
    given.epochs = 1
    train.fit(given)
    assert.same({ true, true, true, true }, modes())
  end)

  it("says what is no data, no loss, no metric, no list of callbacks", function()
    local set = data.tensors { x = gls.ones(3, 5), y = gls.ones(3, 2) }
    local function refused(settings, message)
      local good, told = pcall(function() train.fit(problem(settings)) end)
      assert.is_false(good)
      assert.matches("^tests/lua/train_spec.lua:%d+: .*" .. message, told)
    end
    refused({ data = set }, "data is a loader %(data.loader of a set%)")
    refused({ validation = set }, "validation is a loader")
    refused({ loss = function() end }, "the loss function gives nil; expected a tensor of one element")
    refused({ loss = function(model, batch) return model(batch.x) end }, "gives a tensor of shape %(25×2%); expected")
    local function measuring(metrics) return function(model, batch) return model(batch.x):mean(), metrics end end
    refused({ loss = measuring { 3 } }, "metrics have names")
    refused({ loss = measuring { step = 300 } }, 'a metric called "step".*another name, as "my_step"')
    refused({ loss = measuring { hits = gls.ones(3) } }, "a tensor of shape %(3%) as the metric hits; expected a")
    refused({ loss = measuring(5) }, "number as its second result; expected a table")
    local nothing = problem { loss = function() end }
    for _, f in ipairs { train.evaluate, train.find_learning_rate } do
      local given = { model = nothing.model, loss = nothing.loss, data = nothing.data }
      if f == train.find_learning_rate then given.optimizer = nothing.optimizer end
      local good, told = pcall(function() f(given) end)
      assert.is_false(good)
      assert.matches("^tests/lua/train_spec.lua:%d+: .* gives nil; expected a tensor", told)
    end
    refused({ callbacks = train.early_stopping() }, "put a single one in braces")
    refused({ checkpoint = { "a", path = "b" } }, "two paths")
    assert.error_matches(function() train.early_stopping { least = 0 / 0 } end, "least is a number of at least 0")
    local search = problem { epochs = nil }
    search.epochs, search.stop = nil, 0
    assert.error_matches(function() train.find_learning_rate(search) end, "stop is above 1")
    search.stop, search.data = nil, set
    assert.error_matches(function() train.find_learning_rate(search) end, "data is a loader")
  end)

  it("says what is missing", function()
    assert.error_matches(function() train.fit { model = nn.Linear(2, 2) } end, "is required")
    for name, value in pairs { model = "x", optimizer = {}, loss = 3, epochs = 1.5, seconds = -1, on_epoch = true } do
      assert.error_matches(function() train.fit(problem { [name] = value }) end, "train.fit: " .. name .. " is an? ")
    end
    assert.error_matches(function() train.fit(problem { epoch = 3 }) end, 'did you mean "epochs"')
    for message, value in pairs {
      ["keep is a whole number"] = { checkpoint = { "x", keep = 0 } },
      ['did you mean "steps"'] = { checkpoint = { "x", step = 1 } },
      ['callback 1: on_epochs is no event; did you mean "on_epoch"'] = { callbacks = { { on_epochs = print } } },
      ["accumulate is a whole number"] = { accumulate = 0 }, ["clip is a number above 0"] = { clip = 0 },
      ['no metric "valid_los"; did you mean "valid_loss"'] = {
        epochs = 1, validation = data.loader(data.tensors { x = gls.randn(4, 5), y = gls.randn(4, 2) }),
        callbacks = { train.early_stopping { monitor = "valid_los" } },
      },
    } do
      local good, text = pcall(train.fit, problem(value))
      assert.is_false(good)
      assert.truthy(text:find(message, 1, true), text)
    end
    assert.error_matches(function() train.fit(problem { data = function() return nil end }) end, "gave no batch")
    assert.error_matches(function() train.fit(problem { resume = true }) end, "needs a checkpoint")
    assert.error_matches(function()
      train.fit(problem { checkpoint = "nowhere", optimizer = { step = function() end } })
    end, "needs optimizer with state_dict")
  end)
end)
