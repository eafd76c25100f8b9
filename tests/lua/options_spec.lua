-- Options: tables of named settings, and an experiment's command line, checked.
local choices = require "gls.experiment.choices"
local command = require "gls.experiment.options"
local nn = require "gls.nn"
local options = require "gls.options"
local plan = require "gls.experiment.plan"
local runner = require "gls.experiment.runner"
local task = require "models.task"
local words = require "gls.experiment.words"
local fails_with = require("tests.lua.failing").says

describe("gls.options.check", function()
  local allowed = { batch = 50, shuffle = false, seed = options.none, rate = options.any(1), path = options.required }

  it("fills in defaults and leaves what was given alone", function()
    local given = { path = "x", rate = "auto" }
    assert.same({ batch = 50, shuffle = false, rate = "auto", path = "x" }, options.check("f", given, allowed))
    assert.same({ path = "x", rate = "auto" }, given)
  end)

  it("says what is unknown, missing, or of the wrong type", function()
    fails_with('f: unknown option "shufle"; did you mean "shuffle"?', options.check, "f", { shufle = 1 }, allowed)
    fails_with('f: unknown option "zzz"; known: batch, path', options.check, "f", { zzz = 1 }, allowed)
    fails_with('f: option "path" is required', options.check, "f", nil, allowed)
    fails_with("f: option batch: expected number, got string", options.check, "f", { batch = "x", path = 1 }, allowed)
    fails_with("f: options have names", options.check, "f", { 3 }, allowed)
    fails_with("f: expected a table of options, got number", options.check, "f", 3, allowed)
  end)
end)

-- The trials of a command line.
local function trials(...)
  local given = {
    name = "tiny", title = "Tiny", defaults = {
      data = "auto", samples = 0, validation = 0, test = 0, epochs = 1, batch = 1, optimizers = { "adamw", "gls" },
      seeds = { 1 }, all_seeds = false, select = "train",
    },
    trials = {
      adamw = { { learning_rate = 0.1, schedule = "cosine", warmup = 4, final = 0.5, decayed = "matrices" } },
      gls = { {} },
    },
  }
  return (plan.make(given, command.parse(given, { ... })))
end

local function texts(...)
  local list = {}
  for i, trial in ipairs(trials(...)) do list[i] = trial.optimizer .. " " .. words.describe(trial.settings) end
  return list
end

local function fails(text, ...)
  local good, problem = pcall(trials, ...)
  assert.is_false(good, text)
  assert.is_truthy(tostring(problem):find(text, 1, true), tostring(problem))
end

describe("an experiment's options", function()
  local function optimizer_of(trial) return runner.optimizer(trial, nn.Linear(3, 2):parameters(), 10) end

  it("reach the optimizer, but for those around it", function()
    local found = trials("--set", "gls.decay=0.75", "--set", "gls.statistics=moving")
    assert.equal(0.75, optimizer_of(found[2]).groups[1].settings.decay)
    assert.equal(2, #optimizer_of(found[1]).groups) -- matrices, and what is not decayed
    fails('setting gls.decayed: 5: expected "matrices"', "--set", "gls.decayed=5")
    fails("setting gls.data: flip: expected a table", "--set", "gls.data=flip")
    fails("setting gls.average: 1: expected a number", "--set", "gls.average=1")
  end)

  it("show of a schedule what is applied", function()
    local only = { "--optimizers", "adamw", "--schedule" }
    assert.same({ "adamw 0.1, constant, decayed matrices, warmup 4, weight decay 0.01" },
      texts(only[1], only[2], only[3], "constant"))
    local schedule = optimizer_of(trials(only[1], only[2], only[3], "constant")[1]).schedule
    assert.same({ 0.25, 1, 1 }, { schedule(0), schedule(3), schedule(9) })
    assert.equal(3, #texts(only[1], only[2], only[3], "constant,cosine", "--set", "adamw.final=0:0.1"))
    fails("adamw.final goes with --schedule cosine or linear", "--schedule", "constant", "--set", "adamw.final=0.1")
    fails("setting adamw.warmup: -3: expected a whole number of steps", "--set", "adamw.warmup=-3")
    fails("setting adamw.final: foo: expected a number", "--set", "adamw.final=foo")
    fails('unknown schedule "false"', "--set", "adamw.schedule=false")
  end)

  it("count wherever they are given", function()
    assert.same({ "gls 0.1, constant", "gls 0.2, constant", "gls 0.3, constant" },
      texts("--optimizers", "gls", "--lr", "gls=0.1:0.2", "--lr", "gls=0.3"))
    assert.equal(2, #texts("--optimizers", "gls", "--set", "gls.damping=1", "--set", "gls.damping=2"))
    fails("by --lr and by --set", "--lr", "gls=0.1", "--set", "gls.learning_rate=0.2")
    fails("1 is there twice", "--seeds", "1,2,1")
    fails("at least 1", "--epochs", "-1")
  end)

  it("say what a form of GLS needs", function()
    fails('tokens takes a number as learning rate, and here it is "auto": say --lr gls=0.01', "--set",
      "gls.form=tokens")
    assert.equal(2, #trials("--set", "gls.form=tokens", "--lr", "gls=0.01"))
  end)

  it("are errors without the flag that they go with", function()
    local declared = { { name = "study", help = "" }, { name = "time", with = "study", help = "" } }
    assert.is_true(choices.read("tiny", declared, { "--time", "--study" }).time)
    local good, problem = pcall(choices.read, "tiny", declared, { "--time" })
    assert.same({ false, "option --time goes with --study" }, { good, tostring(problem) })
  end)

  it("name data that a model cannot take", function()
    for name, set in pairs {
      mlp = { name = "Hamlet", vocabulary = { "a" } }, transformer = { name = "MNIST", images = {} },
    } do
      local good, problem = pcall(task(name, {}).model, set, {})
      assert.is_false(good)
      assert.is_truthy(tostring(problem):find("option --data: " .. set.name .. " is no", 1, true), tostring(problem))
    end
  end)
end)
