-- Logs of runs: JSON lines and CSV as others read them, TensorBoard's event files as TensorBoard itself reads them.
local gls = require "gls"
local data, nn, optim, train = require "gls.data", require "gls.nn", require "gls.optim", require "gls.train"
local event = require "gls.log.event"
local json = require "gls.json"
local log = require "gls.log"
local scratch = require "tests.lua.scratch"
local path, read = scratch.path, scratch.read

scratch.each(before_each, after_each)

-- A run of 12 steps in 4 epochs with logs; `cut` ends it after a step, as a crash would.
local function run(callbacks, settings)
  gls.seed(3)
  local model = nn.Linear(4, 3)
  local x, y = gls.randn(25, 4), gls.randint(1, 3, { 25 })
  local given = {
    model = model, optimizer = optim.Adam(model:parameters(), { learning_rate = 0.5,
      schedule = optim.schedule.linear { steps = 12 } }),
    data = data.loader(data.tensors { x = x, y = y }, { batch = 10 }), epochs = 4,
    validation = data.loader(data.tensors { x = x, y = y }),
    loss = function(network, batch)
      local output = network(batch.x)
      return nn.cross_entropy(output, batch.y), { accuracy = output:argmax(2):eq(batch.y):mean() }
    end,
    callbacks = callbacks,
  }
  for name, value in pairs(settings or {}) do given[name] = value end
  return train.fit(given)
end

local function rows_of(name)
  local rows = {}
  for line in read(name):gmatch "[^\n]+" do rows[#rows + 1] = json.decode(line) end
  return rows
end

describe("log.jsonl", function()
  it("has a line every so many steps, and one an epoch", function()
    local state = run { log.jsonl(path "run.jsonl", { every = 2 }) }
    local rows = rows_of "run.jsonl"
    assert.equal(6 + 4, #rows)
    assert.equal(2, rows[1].step)
    assert.is_true(math.abs(rows[1].learning_rate - 0.5 * 11 / 12) < 1e-9)
    local last = rows[#rows]
    assert.same({ 12, 4 }, { last.step, last.epoch })
    assert.equal(state.metrics.loss, last.loss)
    assert.equal(state.metrics.valid_accuracy, last.valid_accuracy)
  end)

  it("writes null for what is not finite, and refuses what is no number", function()
    local writer = log.jsonl(path "a")
    writer:scalars(1, { x = 0 / 0, y = math.huge, z = 3 })
    writer:close()
    assert.equal('{"step":1,"x":null,"y":null,"z":3}\n', read "a")
    assert.error_matches(function() writer:scalars(1, { x = "text" }) end, "x is string; expected numbers by name")
    assert.error_matches(function() writer:scalars(1.5, {}) end, "the step is a whole number")
    assert.error_matches(function() log.jsonl(path "nowhere/a"):scalars(1, {}) end, "nowhere/a")
  end)
end)

describe("a log that was closed", function()
  it("goes on where it is written to again, as after training", function()
    for _, kind in ipairs { "jsonl", "csv" } do
      local writer = log[kind](path("run." .. kind))
      run { writer }
      local before = read("run." .. kind)
      writer:scalars(12, { test_loss = 0.5 })
      writer:close()
      local after = read("run." .. kind)
      assert.is_true(#after > #before)
      assert.equal(select(2, before:gsub("\n", "")) + 1, (select(2, after:gsub("\n", ""))))
      assert(io.open(path "empty.csv", "w")):close() -- of a run that was killed as it began
      local again = log.csv(path "empty.csv")
      again:on_begin { resumed = true, step = 3, optimizer = {} }
      again:scalars(4, { loss = 1 })
      again:close()
      assert.equal("step,loss\n4,1\n", read "empty.csv")
      run { writer } -- another run replaces it
      assert.equal(#before // 100, #read("run." .. kind) // 100)
    end
  end)
end)

describe("log.csv", function()
  it("has a column for every name, also for those that come later", function()
    local writer = log.csv(path "a.csv")
    writer:scalars(1, { loss = 0.5 })
    writer:scalars(2, { loss = 0.25, ['odd,"name"'] = 1 / 0 })
    writer:scalars(3, { ['odd,"name"'] = 7 })
    writer:close()
    assert.equal('step,loss,"odd,""name"""\n1,0.5,\n2,0.25,inf\n3,,7\n', read "a.csv")
    -- The library's own reader.
    local set = data.csv { path = path "a.csv", missing = 0, columns = { "step", "loss" } }
    assert.same({ { 1, 0.5 }, { 2, 0.25 }, { 3, 0 } }, set.x:tolist())
  end)
end)

describe("the log of a run that is resumed", function()
  it("is that of the run that was not cut, without the seconds", function()
    local function without_seconds(text)
      return (text:gsub('"seconds":[^,}]+', ""):gsub("(,%d,[^,\n]*,)[^,\n]*", "%1"))
    end
    run { log.jsonl(path "whole.jsonl", { every = 1 }), log.csv(path "whole.csv", { every = 0 }) }
    local function logs() return log.jsonl(path "cut.jsonl", { every = 1 }), log.csv(path "cut.csv", { every = 0 }) end
    -- Written up to step 8, kept up to step 6: what a kill leaves.
    local jsonl, csv = logs()
    local killed = pcall(run, { jsonl, csv, { on_step = function(_, state)
      if state.step == 8 then error "killed" end
    end } }, { checkpoint = { path "kept", steps = 3 } })
    assert.is_false(killed)
    assert.equal(6, gls.load(path "kept").step)
    assert.equal(8 + 2, #rows_of "cut.jsonl")
    jsonl, csv = logs()
    run({ jsonl, csv }, { checkpoint = { path "kept", steps = 3 }, resume = true })
    assert.equal(without_seconds(read "whole.jsonl"), without_seconds(read "cut.jsonl"))
    assert.equal(without_seconds(read "whole.csv"), without_seconds(read "cut.csv"))
    assert.equal(5, select(2, read "cut.csv":gsub("\n", "")))
  end)
end)

describe("the layers of GLS", function()
  it("are logged, with the fraction of the wanted change that the direction makes", function()
    gls.seed(2)
    for _, settings in ipairs {
      { learning_rate = 0.5, damping = 0.3 },                                       -- dual: fewer rows than inputs
      { learning_rate = 0.5, damping = 0.3, rows_of_batch = 60 },                   -- primal
      { learning_rate = 0.5, damping = 0.3, graft = "rms", momentum = 0.9, first = true }, -- dual, A U not formed
    } do
      local rows, first = settings.rows_of_batch or 12, settings.first
      settings.rows_of_batch, settings.first = nil, nil
      local layer = nn.Linear(20, 3)
      local optimizer = optim.GLS(layer:parameters(), settings)
      assert.same({}, optimizer:layers())
      local x, y = gls.randn(rows, 20), gls.randint(1, 3, { rows })
      nn.cross_entropy(layer(x), y):backward()
      local factors = gls.factors(layer.weight)[1]
      local a, g = gls.cat({ factors.a, gls.ones(rows, 1) }, 2), factors.g
      local before = gls.cat({ layer.weight:detach():clone(), layer.bias:detach():view(1, 3) }, 1)
      optimizer:step()
      local report = optimizer:layers().weight
      local after = gls.cat({ layer.weight:detach(), layer.bias:detach():view(1, 3) }, 1)
      local moved = before - after
      assert.is_true(math.abs(report.change - ((moved ^ 2):mean():item()) ^ 0.5) < 1e-5)
      -- U from the definition: (AᵀA/n + λI)⁻¹ AᵀG, by its normal equations' residual; the mean loss's n is the rows.
      local direction = moved / report.step / (first and 0.1 or 1) -- V = (1 − β) U in the first step
      local residual = a:t():matmul(a:matmul(direction)) / rows + direction * report.damping - a:t():matmul(g)
      assert.is_true(residual:abs():max():item() < 1e-4 * a:t():matmul(g):abs():max():item())
      local wanted = g * rows
      local fraction = ((a:matmul(direction) * wanted):sum() / (wanted * wanted):sum()):item()
      assert.is_true(math.abs(report.fraction - fraction) < 1e-3, ("%g, %g"):format(report.fraction, fraction))
      assert.is_true(fraction > 0.05 and fraction < 1)
      assert.same({ 0, 0, 0 }, { report.retries, report.fallbacks, report.limits })
    end
  end)

  it("are drawn from the log", function()
    local model = nn.Sequential { nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3) }
    run({ log.jsonl(path "run.jsonl", { every = 1, layers = true }) },
      { model = model, optimizer = optim.GLS(model:parameters()) })
    local rows = rows_of "run.jsonl"
    assert.is_true(rows[1]["layer/1.weight/fraction"] > 0 and rows[1]["layer/3.weight/damping"] > 0)
    log.layers(path "run.jsonl", { file = path "layers.svg" })
    local figure = read "layers.svg"
    assert.truthy(figure:find("fraction of the wanted change", 1, true) and figure:find("3.weight", 1, true))
    run { log.jsonl(path "other.jsonl", { layers = true }) }
    assert.error_matches(function() log.layers(path "other.jsonl") end, "says nothing of layers")
    assert.error_matches(function() log.layers(path "absent") end, "absent")
  end)
end)

describe("log.tensorboard", function()
  it("makes records with Castagnoli's checksum", function()
    -- RFC 3720, appendix B.4: 32 bytes of zeros, of ones, and rising ones.
    assert.equal(0x8A9136AA, event.crc32c(("\0"):rep(32)))
    assert.equal(0x62A8AB43, event.crc32c(("\xff"):rep(32)))
    local rising = {}
    for i = 0, 31 do rising[#rising + 1] = string.char(i) end
    assert.equal(0x46DD794E, event.crc32c(table.concat(rising)))
  end)

  local function picture() return gls.tensor { { 0, 1 }, { 0.5, 0 }, { 1, 1 } } end

  -- Written by tensorboard 2.21.0 (EventFileWriter, of event_pb2 messages with wall_time 1.5): the version, and at step
  -- 7 the scalar a = 0.25 and a histogram h of min 0, max 2, num 3, sum 3, sum_squares 5, limits [1, 2], counts [2, 1].
  local GOLDEN = [[
GAAAAAAAAACjf0siCQAAAAAAAPg/Gg1icmFpbi5FdmVudDoyKihkbGYAAAAAAAAAcjuHagkAAAAAAAD4PxAHKlkKCAoBYRUAAIA+Ck0KAWgqSBEAAAAA
AAAAQBkAAAAAAAAIQCEAAAAAAAAIQCkAAAAAAAAUQDIQAAAAAAAA8D8AAAAAAAAAQDoQAAAAAAAAAEAAAAAAAADwP/4QZvU=
]]

  it("writes the bytes that TensorBoard's own writer does", function()
    local histogram = { min = 0, max = 2, count = 3, sum = 3, squares = 5, limits = { 1, 2 }, counts = { 2, 1 } }
    local made = event.record(event.version(1.5))
      .. event.record(event.summary(1.5, 7, { event.scalar("a", 0.25), event.histogram("h", histogram) }))
    scratch.base64("golden", GOLDEN)
    assert.equal(read "golden", made)
  end)

  it("is read by TensorBoard", function()
    local writer = log.tensorboard(path "board")
    for step = 1, 3 do writer:scalars(step, { ["train/loss"] = 1 / step }) end
    writer:histogram(3, "weights", gls.tensor { -1, 0, 0.5, 3, 0 / 0 })
    writer:image(3, "picture", picture())
    writer:close()
    run({ log.tensorboard(path "run", { every = 1, histograms = true }) }, { checkpoint = path "kept", epochs = 2 })
    run({ log.tensorboard(path "run", { every = 1 }) }, { checkpoint = path "kept", epochs = 3, resume = true })
    local python = scratch.python_with "tensorboard"
    if not python then pending "skipped: Python has no tensorboard (PYTHON names another)" return end
    assert.equal("[1, 2, 3] [1.0, 0.5, 0.3333]\n-1.0 3.0 4.0 2.5 10.25 4.0\n3 2 True 1.0\n"
      .. "[1, 2, 3, 4, 5, 6, 7, 8, 9]\n[3, 6, 9] ['bias', 'weight']\n", scratch.run_python(python, [[
import logging; logging.disable(logging.WARNING)
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator("board").Reload()
scalars = events.Scalars("train/loss")
print([e.step for e in scalars], [round(e.value, 4) for e in scalars])
h = events.Histograms("weights")[0].histogram_value
print(h.min, h.max, h.num, h.sum, h.sum_squares, sum(h.bucket))
image = events.Images("picture")[0]
wrong = events.Scalars("weights/not_finite")[0].value
print(image.height, image.width, image.encoded_image_string[:4] == b"\x89PNG", wrong)
events = EventAccumulator("run").Reload()
print([e.step for e in events.Scalars("batch_loss")])
print([e.step for e in events.Scalars("valid_loss")], sorted(events.Tags()["histograms"]))
]]))
  end)
end)
