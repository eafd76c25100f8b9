-- Experiments as a user meets them: the command line, the files left behind, what happens when a job is cut short.
local gls = require "gls"
local experiment = require "gls.experiment"
local choices = require "gls.experiment.choices"
local figures = require "gls.experiment.figures"
local file = require "gls.file"
local nn = require "gls.nn"
local number = require "gls.number"
local options = require "gls.experiment.options"
local outcome = require "gls.experiment.outcome"
local plan = require "gls.experiment.plan"
local record = require "gls.experiment.record"
local study = require "gls.experiment.study"
local summary = require "gls.experiment.summary"
local task = require "models.task"
local words = require "gls.experiment.words"

local directory

-- Two classes of 4×4 images, dark and light, as a tree of class folders.
setup(function()
  directory = os.tmpname()
  os.remove(directory)
  gls.seed(1)
  for _, split in ipairs { "train", "test" } do
    for class, level in pairs { dark = 0.2, light = 0.7 } do
      local folder = ("%s/data/%s/%s"):format(directory, split, class)
      assert(os.execute("mkdir -p '" .. folder .. "'"))
      for i = 1, split == "train" and 20 or 6 do
        gls.save_image(("%s/%02d.png"):format(folder, i), gls.rand(3, 4, 4) * 0.3 + level - 0.15)
      end
    end
  end
end)
teardown(function() os.execute("rm -r '" .. directory .. "'") end)

local function spec(changes)
  local given = {
    name = "tiny", title = "A tiny classifier", loss_name = "cross-entropy", classify = true,
    data = { flatten = true, center = true, scale = 0.25 },
    model = function(set) return nn.Linear(set.images[1]:numel(), #set.classes) end,
    loss = function(logits, batch) return nn.cross_entropy(logits, batch.y) end,
    trials = {
      sgd = experiment.grid { learning_rate = { 0.001, 0.01 } },
      adam = experiment.grid { learning_rate = { 1e-3, 1e-2 } },
      gls = experiment.grid { damping = { 0.01, 0.1 } },
      ["gls-graft"] = experiment.grid { learning_rate = { 0.001, 0.01 } },
    },
    defaults = { epochs = 4, batch = 10, validation = 0, optimizers = { "sgd", "adam", "gls" }, seeds = { 1, 2 } },
  }
  for name, value in pairs(changes or {}) do given[name] = value end
  return given
end

local function arguments(out, ...)
  return { "--quiet", "--data", "folder:" .. directory .. "/data", "--out", directory .. "/" .. out, ... }
end

-- Runs quietly, its standard output in a file.
local function run(given, list)
  local path = os.tmpname()
  local before = io.output()
  io.output(path)
  local good, result = pcall(experiment.run, given, list)
  io.output():close()
  io.output(before)
  local printed = assert(file.read(path))
  os.remove(path)
  return good, good and result or tostring(result), printed
end

describe("a job", function()
  local good, path, printed
  setup(function() good, path, printed = run(spec(), arguments "whole") end)

  it("prints the path of the summary as its last line", function()
    assert.is_true(good, path)
    assert.equal(directory .. "/whole/summary.md", path)
    assert.equal(path .. "\n", printed)
  end)

  it("leaves a line for each epoch of each run: all settings once, the best of each with every seed", function()
    local rows = record.rows(directory .. "/whole/results.jsonl")
    assert.equal(4 * (6 + 3), #rows)
    local seeds = {}
    for _, row in ipairs(rows) do
      assert.equal("tiny", row.experiment)
      for _, field in ipairs { "step", "seconds", "train_loss", "batch_loss", "first_loss", "valid_loss",
        "valid_accuracy", "peak_bytes" } do
        assert.equal("number", type(row[field]), field)
      end
      assert.is_true(row.valid_accuracy >= 0 and row.valid_accuracy <= 1)
      seeds[row.seed] = (seeds[row.seed] or 0) + 1
    end
    assert.same({ 24, 12 }, seeds)
    assert.equal(4 * 4, rows[4].step)
    assert.same({ "running", "finished" }, { rows[3].status, rows[4].status })
  end)

  it("leaves a summary of the best settings, relative to Adam, and figures", function()
    local text = assert(file.read(path))
    for _, name in ipairs { "| sgd ", "| adam ", "| gls ", "Each optimizer had 2 trials.", "folder:" } do
      assert.truthy(text:find(name, 1, true), name)
    end
    for _, name in ipairs { "loss_vs_epoch", "loss_vs_seconds", "settings_train", "settings_valid" } do
      local figure = name .. ".svg"
      assert.truthy((file.read(directory .. "/whole/" .. figure) or ""):find("^<%?xml"), figure)
      assert.truthy(text:find("(" .. figure .. ")", 1, true))
    end
  end)

  it("notes settings, data and machine", function()
    local config = assert(record.decode(file.read(directory .. "/whole/config.json")))
    assert.equal("finished", config.state)
    assert.equal(40, config.data.train_images)
    assert.equal(12, config.data.validation_images)
    assert.truthy(config.data.fingerprint:match "^%x+$")
    assert.equal(10, config.options.batch)
    assert.same({ sgd = 2, adam = 2, gls = 2 }, config.trials)
    assert.equal(gls.threads(), config.machine.threads)
  end)

  it("reports the best settings on test images that no choice saw", function()
    local found, written = run(spec(), arguments("tested", "--validation", "8", "--test", "4", "--select", "valid"))
    assert.is_true(found, written)
    local config = assert(record.decode(file.read(directory .. "/tested/config.json")))
    assert.same({ 8, 4 }, { config.data.validation_images, config.data.test_images })
    local without, _, rows = run(spec(), arguments("untested", "--validation", "8", "--select", "valid")), nil,
      record.rows(directory .. "/tested/results.jsonl")
    assert.is_true(without)
    for i, row in ipairs(record.rows(directory .. "/untested/results.jsonl")) do
      assert.is_nil(row.test_loss)
      assert.equal(row.valid_loss, rows[i].valid_loss, "the validation images are the same with and without a test")
      assert.is_true(rows[i].test_loss > 0 and rows[i].test_accuracy * 4 % 1 == 0)
    end
    local text = assert(file.read(written))
    for _, name in ipairs { "8 for validation, 4 for the test,", "| test loss ", "| test accuracy ", "no part in" } do
      assert.truthy(text:find(name, 1, true), name)
    end
    assert.falsy(file.read(path):find("| test loss", 1, true))
    for _, wrong in ipairs { { "--test", "4" }, { "--validation", "8", "--test", "5" } } do
      local good_one, message = run(spec(), arguments("mistested", table.unpack(wrong)))
      assert.is_false(good_one)
      assert.truthy(message:find(wrong[3] and "13 samples wanted" or "option --test", 1, true), message)
    end
  end)

  it("gives the same losses to the last bit again", function()
    assert.is_true((run(spec(), arguments "again")))
    local a, b = record.rows(directory .. "/whole/results.jsonl"), record.rows(directory .. "/again/results.jsonl")
    assert.equal(#a, #b)
    for i, row in ipairs(a) do
      assert.same({ row.optimizer, row.seed, row.train_loss, row.valid_loss },
        { b[i].optimizer, b[i].seed, b[i].train_loss, b[i].valid_loss })
    end
  end)

  it("is not written over another", function()
    local fine, message = run(spec(), arguments "whole")
    assert.is_false(fine)
    assert.truthy(message:find("holds results already", 1, true))
  end)
end)

describe("jobs side by side", function()
  it("begun in the same second have a directory each", function()
    local parent = directory .. "/side"
    local paths = {}
    for i = 1, 3 do paths[i] = record.new_directory(parent) end
    assert.is_true(paths[1] ~= paths[2] and paths[2] ~= paths[3] and paths[1] ~= paths[3])
    for _, path in ipairs(paths) do assert.equal("folder", file.kind(path)) end
  end)

  it("are refused a directory that another writes to, until that one has ended", function()
    local path = directory .. "/taken"
    record.make_directory(path)
    local lock = record.lock_directory(path)
    local list = arguments("taken", "--optimizers", "sgd", "--trials", "1", "--seeds", "1")
    local good, message = run(spec(), list)
    assert.is_false(good)
    assert.truthy(message:find("another job writes its results to " .. path, 1, true), message)
    lock:close()
    good, message = run(spec(), list)
    assert.is_true(good, message)
  end)
end)

describe("a job cut short", function()
  -- A Ctrl-C arrives as this error, in the middle of whatever runs.
  local function interrupted_after(steps)
    local made = 0
    return spec { loss = function(logits, batch)
      made = made + 1
      if made > steps then error "interrupted!" end
      return nn.cross_entropy(logits, batch.y)
    end }
  end

  it("keeps what was measured, says so, and goes on where it was", function()
    assert.is_true((run(spec(), arguments "uncut")))
    -- Losses of an epoch: 4 batches of training, 1 evaluation on each set.
    local good, message = run(interrupted_after(6 * 4 * 2 + 9), arguments "cut")
    assert.is_false(good)
    assert.truthy(message:find("--resume " .. directory .. "/cut", 1, true))
    local rows = record.rows(directory .. "/cut/results.jsonl")
    assert.equal(4 + 4 + 1, #rows)
    assert.equal("running", rows[9].status)
    local text = assert(file.read(directory .. "/cut/summary.md"))
    for _, part in ipairs { "**Interrupted.**", "| gls, cut short |", ": sgd 1 of 2, adam 1 of 2, gls 1 of 2." } do
      assert.truthy(text:find(part, 1, true), part)
    end
    assert.is_nil(text:find("adam, cut short", 1, true))

    assert.is_true((run(spec(), { "--quiet", "--resume", directory .. "/cut" })))
    local whole, rest = record.rows(directory .. "/uncut/results.jsonl"), record.rows(directory .. "/cut/results.jsonl")
    assert.equal(#whole, #rest)
    for i, row in ipairs(whole) do
      assert.same({ row.optimizer, row.seed, row.epoch, row.train_loss },
        { rest[i].optimizer, rest[i].seed, rest[i].epoch, rest[i].train_loss })
    end
  end)

  it("in the middle of a run goes on there, with the same numbers", function()
    local script = directory .. "/signal.lua"
    file.replace(script, ([[
      package.path = %q
      local gls, nn = require "gls", require "gls.nn"
      local experiment = require "gls.experiment"
      local steps, at = 0, tonumber(os.getenv "AT")
      local given = {
        name = "tiny", title = "t", loss_name = "l", data = { flatten = true, flip = true },
        model = function(set) return nn.Sequential { nn.Linear(set.images[1]:numel(), 2), nn.Dropout(0.2) } end,
        loss = function(logits, batch)
          steps = steps + 1
          if steps == at then io.popen("kill -TERM $PPID"):close() end
          return nn.cross_entropy(logits, batch.y)
        end,
        trials = { adam = { { learning_rate = 0.01, schedule = "cosine" }, { learning_rate = 0.001, average = 0.9 } } },
        defaults = { epochs = 4, batch = 10, validation = 0 },
      }
      experiment.run(given)
      io.stderr:write(steps, " losses")
    ]]):format(package.path))
    local function glsrun(at, ...)
      local pipe = assert(io.popen(("AT=%d '%s' '%s' '%s' 2>&1; echo \"code $?\""):format(at,
        os.getenv "GLSRUN" or "build/glsrun", script, table.concat({ ... }, "' '"))))
      local text = pipe:read "a"
      pipe:close()
      return text
    end
    assert.matches("48 lossescode 0", glsrun(0, table.unpack(arguments "signal-whole")))
    -- Of an epoch 4 are steps, and 1 is measured on each set: the second run's third epoch, its third step.
    local text = glsrun(4 * 6 + 2 * 6 + 3, table.unpack(arguments "signal-cut"))
    assert.matches("interrupted; .*code 143", text)
    assert.equal(4 + 2, #record.rows(directory .. "/signal-cut/results.jsonl"))
    assert.matches("9 lossescode 0", glsrun(0, "--quiet", "--resume", directory .. "/signal-cut"))
    local whole = record.rows(directory .. "/signal-whole/results.jsonl")
    local rest = record.rows(directory .. "/signal-cut/results.jsonl")
    assert.equal(8, #rest)
    for i, row in ipairs(whole) do
      for _, rows in ipairs { row, rest[i] } do rows.seconds, rows.peak_bytes = nil, nil end
      assert.same(row, rest[i])
    end
    local pipe <close> = assert(io.popen("ls '" .. directory .. "/signal-cut'"))
    assert.is_nil(pipe:read "a":find("run-", 1, true)) -- its checkpoint is gone
  end)

  it("is resumed only as it was begun", function()
    local good, message = run(spec(), { "--quiet", "--resume", directory .. "/cut", "--epochs", "7" })
    assert.is_false(good)
    assert.truthy(message:find("--epochs 7 is not what", 1, true))
    good, message = run(spec { name = "other" }, { "--resume", directory .. "/cut" })
    assert.is_false(good)
    assert.truthy(message:find("holds results of the experiment tiny", 1, true))
    local path = directory .. "/cut/config.json"
    local whole = file.read(path)
    for _, change in ipairs {
      { '"epochs": %d+', '"epochs": "many"' }, { '"seeds": %b[]', '"seeds": {"a": 1}' },
      { '"data": {', '"data": 7, "was": {' },
    } do
      local text, count = whole:gsub(change[1], change[2], 1)
      assert.equal(1, count)
      file.replace(path, text)
      good, message = run(spec(), { "--quiet", "--resume", directory .. "/cut" })
      assert.is_false(good)
      local expected = "config.json is not what an experiment writes: " .. change[2]:match "%a+"
      assert.truthy(message:find(expected, 1, true), message)
    end
    file.replace(path, whole)
  end)

  it("passes on an error of the script after writing what there is", function()
    local given = spec { model = function(_, settings)
      if settings.learning_rate == 0.01 then return nn.Linear(3, 2) end
      return nn.Linear(48, 2)
    end }
    local good, message = run(given, arguments("broken", "--optimizers", "sgd"))
    assert.is_false(good)
    assert.truthy(message:find("48", 1, true) and message:find("3", 1, true), message)
    assert.equal(4, #record.rows(directory .. "/broken/results.jsonl"))
    assert.truthy(file.read(directory .. "/broken/summary.md"):find("Ended by an error", 1, true))
  end)
end)

describe("a run that diverges", function()
  it("is recorded and ended, and the others go on", function()
    local given = spec { trials = { sgd = { { learning_rate = 1e38 }, { learning_rate = 0.001 } } } }
    local good, path = run(given, arguments("diverged", "--optimizers", "sgd"))
    assert.is_true(good, path)
    local rows = record.rows(directory .. "/diverged/results.jsonl")
    assert.equal("diverged", rows[1].status)
    assert.is_nil(rows[1].train_loss)
    local _, trials = outcome.runs(rows)
    assert.equal(0.001, outcome.best(trials, "sgd", { select = "train", seeds = { 1 } }).settings.learning_rate)
    assert.truthy(file.read(path):find("| diverged", 1, true))
    local config = record.decode(file.read(directory .. "/diverged/config.json"))
    local drawn, why = figures.write(given, config, { rows[1] }, directory)
    assert.same({ {}, "no figures: no epoch ended with a loss to draw" }, { drawn, why })
  end)

  it("leaves a summary without pictures where all have", function()
    local given = spec { trials = { sgd = { { learning_rate = 1e38 } } } }
    local good, path = run(given, arguments("all-diverged", "--optimizers", "sgd"))
    assert.is_true(good, path)
    assert.is_nil(file.read(path):find("![", 1, true))
  end)
end)

describe("a disk that is full", function()
  it("is told with the file's name", function()
    local journal = require("gls.core").io.journal "/dev/full"
    assert.error_matches(function() journal:append "x\n" end, "/dev/full: cannot be written: No space left on device")
    journal:close()
  end)

  -- A gnuplot that ends well with half a picture, as the true one does on a full disk.
  it("is an error of the job when a figure cannot be written", function()
    local bin, script = directory .. "/bin", directory .. "/figures.lua"
    record.make_directory(bin)
    file.replace(bin .. "/gnuplot", [[#!/bin/sh
      echo '<?xml' > "$(sed -n "s/^set output '\(.*\)'/\1/p" "$1" | head -n 1)"
    ]])
    assert(os.execute(("chmod +x '%s/gnuplot'"):format(bin)))
    file.replace(script, ([[
      package.path = %q
      package.cpath = %q
      local experiment, nn = require "gls.experiment", require "gls.nn"
      local good, problem = pcall(experiment.run, {
        name = "tiny", title = "Tiny", classify = true, data = { flatten = true },
        model = function(set) return nn.Linear(set.images[1]:numel(), #set.classes) end,
        loss = function(logits, batch) return nn.cross_entropy(logits, batch.y) end,
        trials = { sgd = { { learning_rate = 0.1 } } }, defaults = { epochs = 1, batch = 10, validation = 0 },
      }, { "--quiet", "--data", "folder:%s/data", "--out", "%s/no_figures" })
      print(good, problem)
    ]]):format(package.path, package.cpath, directory, directory))
    local pipe = assert(io.popen(("unset LD_PRELOAD; PATH='%s':$PATH '%s' '%s' 2>&1"):format(bin,
      os.getenv "GLSRUN" or "build/glsrun", script)))
    local said = pipe:read "a"
    pipe:close()
    assert.matches("^false.*loss_vs_epoch%.svg.* was not written to its end", said)
    local config = record.decode(file.read(directory .. "/no_figures/config.json"))
    assert.equal("Ended by an error.", config.state)
    assert.truthy(file.read(directory .. "/no_figures/summary.md"))
    assert.equal(1, #record.rows(directory .. "/no_figures/results.jsonl"))
  end)

  it("is told before a run begins when --out cannot be made", function()
    local list = arguments "x"
    list[5] = "/proc/nothing/here"
    local good, message = run(spec(), list)
    assert.is_false(good)
    assert.truthy(message:find("cannot make the directory /proc/nothing", 1, true))
  end)
end)

describe("results.jsonl", function()
  it("is read up to a line that a crash cut, but not past a foreign one", function()
    local path = directory .. "/torn.jsonl"
    local handle = assert(io.open(path, "w"))
    local row = '{"optimizer": "sgd", "settings": {}, "seed": 1, "epoch": 1, "seconds": 1, "status": "running"}\n'
    handle:write(row, '{"optimizer": "sg')
    handle:close()
    assert.equal(1, #record.rows(path))
    handle = assert(io.open(path, "w"))
    handle:write "hello\n{}\n"
    handle:close()
    assert.error_matches(function() record.rows(path) end, "not a line of results")
    for field, value in pairs { optimizer = "sdg", epoch = 0, status = "done", settings = { learning_rate = "x" },
      train_loss = "low", seconds = "1", seed = 1.5, counters = { steps = "many" } } do
      local wrong = { optimizer = "sgd", settings = {}, seed = 1, epoch = 1, seconds = 1, status = "running" }
      wrong[field] = value
      handle = assert(io.open(path, "w"))
      handle:write(row, record.encode(wrong), "\n")
      handle:close()
      assert.error_matches(function() record.rows(path) end, "not a line of results: " .. field)
    end
  end)
end)

describe("the command line", function()
  local function texts_of(...)
    local given = spec()
    given.defaults.samples, given.defaults.test, given.defaults.select = 0, 0, "train"
    local chosen = options.parse(given, { ... })
    local texts = {}
    for i, trial in ipairs((plan.make(given, chosen))) do
      texts[i] = trial.optimizer .. " " .. words.describe(trial.settings)
    end
    return texts
  end

  it("takes the experiment's own trials, one of each optimizer in turn", function()
    assert.same({ "sgd 1e-3, constant", "adam 1e-3, constant", "sgd 0.01, constant", "adam 0.01, constant" },
      texts_of("--optimizers", "sgd,adam"))
  end)

  it("replaces learning rates, other settings and schedules", function()
    assert.same({ "adam 0.1, constant", "adam 0.2, constant", "adam 0.3, constant" },
      texts_of("--optimizers", "adam", "--lr", "adam=0.1:0.2:0.3"))
    assert.same({ "gls auto, cosine, damping 1" },
      texts_of("--optimizers", "gls", "--set", "gls.damping=1", "--schedule", "cosine"))
    assert.same({ "gls auto, constant, damping 1, delta 2", "gls 0.3, constant, damping 1" }, -- where delta acts
      texts_of("--optimizers", "gls", "--set", "gls.damping=1", "--lr", "gls=auto:0.3", "--set", "gls.delta=2"))
    assert.equal(4, #texts_of("--optimizers", "sgd", "--schedule", "constant,cosine"))
    assert.equal(3, #texts_of("--optimizers", "sgd", "--schedule", "constant,cosine", "--trials", "3"))
    assert.equal(2, #texts_of("--optimizers", "sgd", "--trials", "9"))
    assert.same({ "gls 0.3, constant, damping 0.01", "gls 0.3, constant, damping 0.1" },
      texts_of("--optimizers", "gls", "--lr", "gls=0.3"))
  end)

  it("gives GLS at SGD's step size the rates that SGD is given", function()
    assert.same({ "sgd 0.5, constant", "gls-graft 0.5, constant, damping 3, graft sgd" },
      texts_of("--optimizers", "sgd,gls-graft", "--lr", "sgd=0.5"))
  end)

  it("knows an optimizer of the script's own", function()
    local seen = {}
    local Own = require("gls.optim").class("Own", { learning_rate = 1, power = 1 })
    function Own:update_parameter(parameter, gradient, _, settings) -- luacheck: ignore self
      seen[settings.power] = (seen[settings.power] or 0) + 1
      parameter:copy(parameter - gradient * settings.learning_rate)
    end
    experiment.optimizer("own", Own, { power = 2 })
    local trials = { own = experiment.grid { learning_rate = 0.01 } }
    local given = spec { trials = trials, defaults = { epochs = 1, batch = 10, validation = 0 } }
    local _, path = run(given, arguments "own-optimizer")
    assert.truthy(file.read(path):find "\n| own +| 0.01 ")
    assert.same({ [2] = 2 * 4 }, seen) -- a weight and a bias, 40 images in batches of 10
  end)

  it("tells a model's widths in a trial's settings", function()
    assert.equal("1e-3, hidden 64-32", words.describe { learning_rate = 1e-3, model = { hidden = { 64, 32 } } })
  end)

  it("says what it does not understand", function()
    for text, pattern in pairs {
      ["--epoch 3"] = "Did you mean '%-%-epochs'",
      ["--epochs 0"] = "at least 1",
      ["--samples many"] = "whole number",
      ["--optimizers sgd,gsl"] = 'did you mean "gls"',
      ["--lr adam=fast"] = "learning rate is a number",
      ["--lr sdg=1"] = 'did you mean "sgd"',
      ["--lr momentum=1"] = "not among %-%-optimizers",
      ["--lr adam=auto"] = "for gls alone",
      ["--set gls=1"] = "OPTIMIZER%.SETTING",
      ["--set gls.dampin=1"] = 'did you mean "damping"',
      ["--set gls.rows=3"] = "rows is above 0",
      ["--set gls.window=50:100"] = 'gls%.window has no effect here: it goes with statistics = "window"',
      ["--lr gls=0.1 --set gls.delta=1"] = 'gls%.delta has no effect here: it goes with learning_rate = "auto"',
      ["--seeds 1,x"] = "whole numbers",
      ["--seconds 0"] = "above 0",
      ["--select loss"] = "train or valid",
      ["--data nowhere"] = "nowhere",
      ["--batch 41"] = "more than the 40 training images",
      ["--samples 41"] = "option %-%-samples: 41 samples wanted.*has 40; %-%-samples 0 takes all",
      ["--validation 13"] = "option %-%-validation: 13 samples wanted.*has 12; %-%-validation 0 takes all",
      ["--threads 100000"] = "^option %-%-threads: 100000: a number of threads from 1",
      ["--set gls.initialisation=foo"] = "^option %-%-set gls%.initialisation=foo: unknown initialisation",
      ["--set gls.model=5"] = "^option %-%-set gls%.model=5: model is a table",
      ["--set gls.loss=5"] = "^option %-%-set gls%.loss=5: loss is a table",
    } do
      local list = arguments "wrong"
      if text:find "^%-%-data" then list[2], list[3] = "--out", directory .. "/wrong" end
      for word in text:gmatch "%S+" do list[#list + 1] = word end
      local good, message = run(task("mlp", spec()), list)
      assert.is_false(good, text)
      assert.truthy(message:find(pattern), text .. ": " .. message)
    end
    local given = spec { context = 256 }
    given.defaults.data = "text"
    local good, message = run(given, arguments "wrong")
    assert.is_false(good)
    assert.matches("^option %-%-data: folder:.* is no text", message)
    assert.is_nil(file.read(directory .. "/wrong/config.json"))
  end)
end)

describe("options of an experiment's own", function()
  local DECLARED = {
    { name = "model", values = { "wide", "deep" }, help = "What is trained." },
    { name = "study", help = "All of it." },
    { name = "cells", values = { "a", "b", "c" }, list = true, help = "Which cells." },
  }
  local function read(...) return choices.read("tiny", DECLARED, { ... }) end

  it("are read before the others, with defaults", function()
    assert.same({ model = "wide", study = false, cells = { "a", "b", "c" } }, read("--epochs", "3"))
    assert.same({ model = "deep", study = true, cells = { "c", "a" } },
      read("--study", "--model", "deep", "--cells=c,a"))
  end)

  it("say what they do not understand", function()
    for argument, pattern in pairs { ["--model=deap"] = 'did you mean "deep"', ["--cells=a,x"] = '"x"',
      ["--model"] = "name is missing" } do
      local good, message = pcall(read, argument)
      assert.is_false(good)
      assert.truthy(tostring(message):find(pattern), tostring(message))
    end
  end)

  it("are described, noted, told in the command, and kept by a job that goes on", function()
    local list = arguments("own", "--epochs", "1", "--optimizers", "sgd", "--model", "deep", "--study")
    local good, path = run(spec { choices = choices.read("tiny", DECLARED, list) }, list)
    assert.is_true(good, path)
    assert.truthy(file.read(path):find("--model deep --study", 1, true))
    local again = { "--quiet", "--resume", directory .. "/own" }
    local chosen = choices.read("tiny", DECLARED, again)
    assert.same({ model = "deep", study = true, cells = { "a", "b", "c" } }, chosen)
    assert.is_true((run(spec { choices = chosen }, again)))
    assert.is_nil(file.read(path):find("Resumed", 1, true))
    local other = table.move({ "--lr", "sgd=0.5" }, 1, 2, 4, table.move(again, 1, 3, 1, {}))
    for _ = 1, 2 do assert.is_true((run(spec { choices = chosen }, other))) end -- has rows of its own, once
    assert.truthy(file.read(path):find("has 3 finished runs, of settings that the last", 1, true), file.read(path))
    assert.matches("%-%-study`\n%- Resumed by: `[^\n]*%-%-lr sgd=0.5`\n%- Data", file.read(path))
    again[4], again[5] = "--model", "wide"
    local fine, message = run(spec { choices = choices.read("tiny", DECLARED, again) }, again)
    assert.is_false(fine)
    assert.truthy(message:find("--model wide is not what", 1, true), message)
    local given = spec { choices = chosen }
    given.defaults.samples, given.defaults.test, given.defaults.select = 0, 0, "train"
    local _, help = options.parse(given, { "--help" })
    assert.truthy(help:find("wide|deep", 1, true) and help:find("What is trained.", 1, true), help)
  end)
end)

describe("a study", function()
  local DECLARED = {
    { name = "study", help = "" }, { name = "time", help = "" },
    { name = "cells", values = { "short", "long" }, list = true, help = "" },
  }
  local function study_of(...)
    local list = arguments("study", "--study", "--optimizers", "adam,gls", "--seeds", "1", ...)
    local before, path = io.output(), os.tmpname()
    local say = print
    io.output(path)
    _G.print = function() end -- luacheck: ignore 122
    local good, result = pcall(study.run, {
      name = "tiny", title = "Tiny", peers = { "adam", "gls" }, run = experiment.run,
      choices = choices.read("tiny", DECLARED, list),
      cells = {
        { name = "short", text = "two epochs", epochs = 2 },
        { name = "long", text = "four epochs", epochs = 4, settings = { schedule = "cosine" } },
      },
      spec = function(cell)
        local given = spec()
        given.defaults.epochs = cell.epochs
        for _, trials in pairs(given.trials) do
          for _, trial in ipairs(trials) do
            for name, value in pairs(cell.settings or {}) do trial[name] = value end
          end
        end
        return given
      end,
    }, list)
    _G.print = say -- luacheck: ignore 122
    io.output():close()
    io.output(before)
    os.remove(path)
    assert(good, result)
    return assert(file.read(result))
  end
  local function rows_of(cell) return record.rows(directory .. "/study/" .. cell .. "/results.jsonl") end

  it("runs the cells asked for, goes on with the others, and times steps", function()
    local text = study_of("--cells", "short")
    assert.truthy(text:find("| two epochs | 0 | 2 | 10 |", 1, true), text)
    assert.is_nil(text:find("four epochs", 1, true))
    assert.equal(2 * 4, #rows_of "short")
    text = study_of()
    assert.truthy(text:find("| four epochs | 0 | 4 | 10 |", 1, true), text)
    assert.equal(2 * 4, #rows_of "short")
    assert.equal("cosine", rows_of("long")[1].settings.schedule)
    text = study_of("--time")
    local timing = record.decode(file.read(directory .. "/study/short/timing.json"))
    assert.is_true(timing.step_seconds[1] > 0 and timing.step_seconds[2] > 0)

    local last = {}
    for _, row in ipairs(rows_of "short") do
      if row.epoch == 2 and row.train_loss < (last[row.optimizer] or math.huge) then
        last[row.optimizer] = row.train_loss
      end
    end
    assert.truthy(text:find("| " .. number.text(last.adam / last.gls) .. " | "
      .. number.text(timing.step_seconds[2] / timing.step_seconds[1]) .. " |", 1, true), text)
  end)
end)

describe("what a summary is made of", function()
  local function row(optimizer, rate, seed, epoch, loss, more)
    local made = {
      optimizer = optimizer, settings = { learning_rate = rate }, seed = seed, epoch = epoch, seconds = epoch * 2.0,
      train_loss = loss, valid_loss = loss + 1, status = epoch == 2 and "finished" or "running",
    }
    for name, value in pairs(more or {}) do made[name] = value end
    return made
  end

  it("chooses by the first seed, or by the medians of all", function()
    local rows = {}
    for seed, losses in ipairs { { 0.1, 0.2 }, { 0.5, 0.2 }, { 0.6, 0.2 } } do
      rows[#rows + 1] = row("sgd", 1, seed, 2, losses[1])
      rows[#rows + 1] = row("sgd", 2, seed, 2, losses[2])
    end
    local _, trials = outcome.runs(rows)
    local function rate(all)
      local how = { select = "train", seeds = { 1, 2, 3 }, all_seeds = all }
      return outcome.best(trials, "sgd", how).settings.learning_rate
    end
    assert.equal(1, rate(false))
    assert.equal(2, rate(true))
  end)

  it("has the loss when Adam had ended, and the best setting of each form of GLS", function()
    local function runs_of(optimizer, settings, seconds, losses)
      local list = {}
      for epoch, loss in ipairs(losses) do
        list[epoch] = row(optimizer, nil, 1, epoch, loss, { settings = settings, seconds = epoch * seconds })
      end
      return table.unpack(list)
    end
    local rows = {}
    local function add(...) for _, one in ipairs { ... } do rows[#rows + 1] = one end end
    add(runs_of("adam", { learning_rate = 1 }, 1.0, { 0.9, 0.8 })) -- ends after 2 seconds
    add(runs_of("gls", { damping = 1 }, 0.9, { 0.5, 0.4 }))        -- ends before it
    add(runs_of("gls", { damping = 2 }, 0.9, { 0.5, 0.45 }))
    add(runs_of("gls", { damping = 1, statistics = "window", window = 7 }, 1.9, { 0.3, 0.1 }))
    add(runs_of("gls", { damping = 1, statistics = { window = 7 }, momentum = "auto" }, 2.1, { 0.2, 0.05 }))
    local _, trials = outcome.runs(rows)
    local choices_of = { optimizers = { "adam", "gls" }, select = "train", seeds = { 1 } }
    local names, at_end = {}, {}
    for i, best in ipairs(outcome.best_settings(trials, choices_of)) do
      names[i], at_end[i] = best.name, outcome.losses_at_end(best.trial, trials[1])
    end
    assert.same({ "adam", "gls", "gls, window 7", "gls, window 7, momentum auto" }, names)
    assert.same({ { 0.8 }, { 0.4 }, { 0.3 }, {} }, at_end) -- the last one's first epoch was not over
    local config = {
      options = choices_of, trials = { adam = 1, gls = 4 }, state = "finished", command = "", versions = { text = "" },
      data = { name = "none", note = "none", train_images = 1000, validation_images = 0 },
      machine = { cpu = "", threads = 1 },
    }
    choices_of.batch, choices_of.epochs = 1, 2
    local text, terminal = summary.of({ title = "Forms", loss_name = "loss" }, config, rows)
    assert.truthy(terminal:find("gls, window 7 +damping 1 +0%.100 +0%.125 +1%.90 +1%.90 +0%.300 +1%.10"), terminal)
    assert.truthy(text:find("| 0.300 +| 0.375 +|"), text)
  end)

  it("leaves out of a setting's words what all have, tables too", function()
    local function trial(rate, crop)
      return { optimizer = "adam", settings = { learning_rate = rate, data = { flip = true, crop = crop } } }
    end
    local plain = { trial(1), trial(2) }
    assert.equal("2", words.brief(plain[2], plain))
    local differing = { trial(1), trial(2, 4) }
    assert.equal("2, crop 4, flip true", words.brief(differing[2], differing))
  end)

  it("takes the best validation loss with its epoch, and the final training loss", function()
    local runs = outcome.runs {
      row("sgd", 1, 1, 2, 0.3, { valid_loss = 5 }), row("sgd", 1, 1, 1, 0.4, { valid_loss = 2, valid_accuracy = 0.5 }),
    }
    assert.same({ 0.3, 2, 1, 0.5, 2.0, 5 }, {
      runs[1].final_train, runs[1].best_valid, runs[1].best_valid_epoch, runs[1].best_accuracy, runs[1].epoch_seconds,
      runs[1].final_valid,
    })
  end)

  it("takes the test's loss at the epoch of the best validation loss", function()
    local runs = outcome.runs {
      row("sgd", 1, 1, 1, 0.5, { valid_loss = 3, test_loss = 4 }),
      row("sgd", 1, 1, 2, 0.4, { valid_loss = 2, test_loss = 3, test_accuracy = 0.25 }),
      row("sgd", 1, 1, 3, 0.3, { valid_loss = 5, test_loss = 1 }),
    }
    assert.same({ 3, 0.25 }, { runs[1].test_loss, runs[1].test_accuracy })
  end)
end)
