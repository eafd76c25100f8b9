-- The comparison of optimizers: its statistics against SciPy's, its protocol, and the tool itself on a task whose
-- answers are known: no difference where there is none, planted differences found again.
local gls = require "gls"
local nn, optim = require "gls.nn", require "gls.optim"
local analysis = require "gls.compare.analysis"
local compare = require "gls.compare"
local entries = require "gls.compare.entries"
local ledger = require "gls.compare.ledger"
local log = require "gls.log"
local protocol = require "gls.compare.protocol"
local random = require "gls.compare.random"
local scratch = require "tests.lua.scratch"
local space = require "gls.compare.space"
local statistics = require "gls.compare.statistics"
local tasks = require "gls.compare.tasks"
local trial = require "gls.compare.trial"
local words = require "gls.compare.words"

scratch.each(before_each, after_each)

local function near(expected, value, tolerance)
  assert(math.abs(value - expected) <= (tolerance or 1e-9) * math.abs(expected),
    ("%.17g, expected %.17g"):format(value, expected))
end

-- ---- statistics ----

-- Expected values are SciPy 1.17.1's: stats.t.sf and isf, ttest_1samp, bootstrap (percentile, 200 000 resamples),
-- gmean, qmc.Halton(scramble=False).
describe("statistics agree with SciPy:", function()
  it("tails and quantiles of Student's t", function()
    for _, case in ipairs {
      { 2, 4, 0.11611652351681556 }, { 0.5, 1, 0.7048327646991335 }, { 12.7062047, 1, 0.05000000014176587 },
      { 3.5, 9, 0.006723515763058959 }, { 1e-3, 30, 0.9992087357664851 }, { 40, 4, 2.3340163226012678e-06 },
      { 2.5, 200, 0.013223172641700783 },
    } do near(case[3], statistics.t_tails(case[1], case[2])) end
    for _, case in ipairs {
      { 0.05, 1, 12.706204736174705 }, { 0.05, 4, 2.7764451051977943 }, { 0.01, 9, 3.2498355415921263 },
      { 0.5, 30, 0.6827556933212927 },
    } do near(case[3], statistics.t_quantile(case[1], case[2])) end
  end)

  it("the paired test", function()
    local test = statistics.paired_test { 0.031, -0.012, 0.044, 0.027, 0.009 }
    near(0.0198, test.mean)
    near(0.11140204628279968, test.p)
    near(-0.007195842777964784, test.low)
    near(0.04679584277796478, test.high)
  end)

  it("bootstrap intervals", function()
    local x = { 0.41, 0.45, 0.43, 0.39, 0.52, 0.47, 0.44 }
    local function of(f)
      return statistics.bootstrap(function(resample) return f(resample(x)) end, random.stream "x", 0.95, 20000)
    end
    local low, high = of(statistics.median)
    assert.same({ 0.41, 0.47 }, { low, high })
    low, high = of(statistics.mean)
    near(0.41714, low, 3e-3) -- the resamples are others
    near(0.47429, high, 3e-3)
    near(1.2805791649874942, statistics.geometric_mean { 1.5, 2, 0.7 })
  end)

  it("Halton's sequence, moved by a shift", function()
    local shift = random.stream "h"
    local moved = { shift(), shift(), shift() }
    local points = space.points({ a = space.uniform(0, 1), b = space.uniform(0, 1), c = space.uniform(0, 1) }, 5,
      random.stream "h")
    for i, expected in ipairs { { 0.5, 1 / 3, 0.2 }, { 0.25, 2 / 3, 0.4 }, { 0.75, 1 / 9, 0.6 }, { 0.125, 4 / 9, 0.8 },
      { 0.625, 7 / 9, 0.04 } } do
      for k, name in ipairs { "a", "b", "c" } do
        assert(math.abs(points[i][name] - (expected[k] + moved[k]) % 1) < 6e-4) -- three digits are kept
      end
    end
  end)

  it("points of a narrow range lie in it, apart from each other", function()
    for _, range in ipairs { { 0.99, 0.9999 }, { 1000, 1004 }, { 1e-4, 1.0004e-4 } } do
      for _, kind in ipairs { "uniform", "log" } do
        local seen = {}
        for _, point in ipairs(space.points({ a = space[kind](range[1], range[2]) }, 20, random.stream "n")) do
          assert(point.a >= range[1] and point.a <= range[2] and not seen[point.a], point.a)
          seen[point.a] = true
        end
      end
    end
  end)
end)

describe("statistics:", function()
  -- R's p.adjust(p, "holm") by its formula, worked out by hand.
  it("Holm's correction", function()
    local corrected = statistics.holm { 0.04, 0.01, 0.03, 0.6 }
    for i, expected in ipairs { 0.09, 0.04, 0.09, 0.6 } do near(expected, corrected[i]) end
    assert.same({ 1, 1 }, statistics.holm { 0.7, 0.9 })
  end)

  -- By hand: best costs 10, 20, 5 and none; ratios of a 1, 2, –, –; of b 1.5, 1, 1, –.
  it("performance profiles", function()
    local curves, greatest = statistics.profiles {
      a = { 10, 40, math.huge, math.huge }, b = { 15, 20, 5, math.huge },
    }
    assert.same({ { 1, 0.25 }, { 2, 0.5 } }, curves.a)
    assert.same({ { 1, 0.5 }, { 1.5, 0.75 } }, curves.b)
    assert.equal(2, greatest)
    assert.same({ { 1, 1 } }, statistics.profiles({ a = { 0, 1 }, b = { 0, 2 } }).a)
  end)

  it("show nothing of one study, and nothing of equal ones", function()
    assert.equal(1, statistics.paired_test({ 0.5 }).p)
    assert.equal(1, statistics.paired_test({ 0, 0, 0 }).p)
  end)
end)

-- ---- a task whose answer is known ----

-- Linear regression with noise: a run takes milliseconds.
local function regression(changes)
  gls.seed(7)
  local function set(rows)
    local x = gls.randn(rows, 8)
    return { x = x, y = x:matmul(gls.range(1, 8):view(8, 1) * 0.2) + gls.randn(rows, 1) * 0.5 }
  end
  local task = {
    name = "regression", version = 1, title = "noisy linear regression", fingerprint = "seed 7", note = "made here",
    sets = { train = set(256), valid = set(128), test = set(128) }, options = {}, head = {}, data = {}, augment = {},
    classify = false, loss_name = "mean of squares", batch = 16, steps = 40,
    model = function() return nn.Linear(8, 1) end,
    loss = function(output, batch) return nn.mse(output, batch.y) end,
  }
  for name, value in pairs(changes or {}) do task[name] = value end
  return task
end

local function adam(name, changes)
  local entry = {
    name = name, optimizer = optim.Adam, space = { learning_rate = space.log(0.02, 0.5) }, defaults = {},
    schedule = "cosine", weight_decay = false, source = "test",
  }
  for key, value in pairs(changes or {}) do entry[key] = value end
  return entry
end

local function plan_of(candidate, changes)
  local plan = {
    entries = { adam "adam", candidate }, is_baseline = { adam = true }, tasks = { regression() }, studies = 5,
    trials = 3, retunes = 1, evaluations = 10, seed = 1,
  }
  for name, value in pairs(changes or {}) do plan[name] = value end
  return plan
end

local quiet = log.progress { quiet = true }

local function answer(plan, results)
  results = results or ledger.open()
  protocol.run(plan, results, compare.executor(plan, results, quiet))
  return analysis.of(plan, results), results
end

describe("the tool", function()
  it("finds no difference between an optimizer and itself, in at least 19 of 20 repetitions", function()
    local differences = 0
    for seed = 1, 20 do
      local found = answer(plan_of(adam "again", { seed = seed, evaluations = 2,
        tasks = { regression { steps = 20 } } }))
      local test = found.tasks[1].by_name.again.by_steps
      assert(test.ratio ~= 1, "the two had the same points: nothing was tried")
      if test.verdict ~= "no difference" then differences = differences + 1 end
    end
    assert(differences <= 1, differences .. " differences")
  end)

  it("finds Adam at a tenth of its rate worse", function()
    local slow = adam("tenth", { optimizer = function(parameters, settings)
      settings.learning_rate = (settings.learning_rate or 1e-3) / 10
      return optim.Adam(parameters, settings)
    end })
    local found = answer(plan_of(slow))
    local test = found.tasks[1].by_name.tenth.by_steps
    assert.equal("worse", test.verdict)
    assert(test.low > 1 and test.ratio > test.low)
    assert.equal(1, found.candidates.tenth.by_steps.worse)
  end)

  -- Gradient descent of small steps on all of the data follows the gradient's flow: at half the rate it takes twice the
  -- steps, whatever the loss.
  it("recovers a planted speed-up of two, and its half", function()
    local function sgd(name, rate)
      return adam(name, { optimizer = optim.SGD, space = { learning_rate = rate }, schedule = "constant" })
    end
    for _, case in ipairs { { 0.02, 2, "better" }, { 0.005, 0.5, "worse" } } do
      local plan = plan_of(sgd("planted", case[1]), { retunes = 0, trials = 1, evaluations = 100, studies = 4 })
      plan.entries[1] = sgd("adam", 0.01)
      plan.tasks[1] = regression { batch = 256, steps = 200, target = 1.2 }
      local found = answer(plan)
      local own = found.candidates.planted
      assert(math.abs(own.steps.value / case[2] - 1) < 0.04, own.steps.value)
      assert(own.steps.low <= own.steps.value and own.steps.value <= own.steps.high and not own.steps.at_most)
      assert.equal(1, own.by_steps[case[3]])
    end
  end)

  it("says of a target that is not reached that the speed-up is at most so much", function()
    local found = answer(plan_of(adam("stuck", { optimizer = optim.SGD, space = { learning_rate = 1e-9 } }),
      { studies = 2 }))
    local own = found.tasks[1].by_name.stuck
    assert.equal(math.huge, own.steps.value)
    assert.is_true(found.candidates.stuck.steps.at_most)
    assert.equal(0, found.profiles.steps.curves.stuck[1][2])
  end)

  it("counts a target that is met before the first step as one step", function()
    local plan = plan_of(adam("still", { optimizer = optim.SGD, space = { learning_rate = 0 } }), { studies = 2 })
    plan.tasks[1] = regression { target = 1e9 }
    local own = answer(plan).candidates.still
    assert.same({ 1, 1, 1 }, { own.steps.value, own.steps.low, own.steps.high })
  end)

  it("counts a diverged run, and takes the untrained model's loss for its", function()
    local found, results = answer(plan_of(adam("wild", { optimizer = optim.SGD, space = { learning_rate = 1e30 } }),
      { studies = 2 }))
    local own = found.tasks[1].by_name.wild
    assert.equal(1, own.diverged.value)
    assert.equal(0, found.tasks[1].by_name.adam.diverged.value)
    assert.equal(math.huge, own.steps.value)
    for _, unit in ipairs { "steps", "seconds" } do -- it was over at once, which is no speed-up
      assert.same({ diverged = "regression" }, found.candidates.wild[unit])
    end
    assert.equal("none (diverged on regression)", words.speed_up(found.candidates.wild.steps))
    for _, row in ipairs(results.rows) do
      if row.optimizer == "wild" and row.phase == "final" then
        assert.equal("diverged", row.status)
        assert(row.test_loss > 1 and row.test_loss < 100)
      end
    end
  end)
end)

describe("the protocol", function()
  -- How many steps a second takes is never the same, so without the runs that hang on it.
  local function chosen(results)
    local list = {}
    for _, row in ipairs(results.rows) do
      if row.phase ~= "seconds" then
        list[#list + 1] = { row.optimizer, row.phase, row.study, row.number, row.settings, row.schedule, row.seed,
          row.valid_loss }
      end
    end
    return list
  end

  it("decides nothing by the test data", function()
    local plan = plan_of(adam "again", { studies = 2 })
    local _, results = answer(plan)
    local other = regression()
    other.sets.test = { x = other.sets.test.x * 3, y = other.sets.test.y - 100 }
    plan.tasks = { other }
    local _, others = answer(plan)
    assert.same(chosen(results), chosen(others))
  end)

  it("gives all optimizers the same number of runs, and in a study the same seeds", function()
    local plan = plan_of(adam("again", { weight_decay = true, space = { learning_rate = 0.1 } }),
      { studies = 2, trials = 2, retunes = 6 })
    local _, results = answer(plan)
    local counts, seeds = {}, {}
    for _, row in ipairs(results.rows) do
      if row.phase ~= "seconds" then
        local key = row.optimizer .. " " .. row.phase
        counts[key] = (counts[key] or 0) + 1
        local place = row.phase .. row.study .. " " .. row.number
        assert.equal(seeds[place] or row.seed, row.seed)
        seeds[place] = row.seed
      end
    end
    for phase, count in pairs { trial = 4, retune = 12, final = 2, untuned = 2 } do
      assert.equal(count, counts["adam " .. phase])
      assert.equal(count, counts["again " .. phase])
    end
    assert.not_equal(seeds["trial1 1"], seeds["final1 1"]) -- the winner's seed is fresh
  end)

  it("goes on where it was cut short, and comes to the same", function()
    local plan = plan_of(adam "again", { studies = 2 })
    local path = scratch.path "results.jsonl"
    for _, most in ipairs { 3, 11, math.huge } do
      local results, done = ledger.open(path), 0
      local function add(_, run, outcome)
        if done >= most then error "cut short" end
        done = done + 1
        return results:add(run, outcome)
      end
      local function find(_, run) return results:find(run) end
      local execute = compare.executor(plan, { find = find, add = add }, quiet)
      assert.equal(most == math.huge, (pcall(protocol.run, plan, results, execute)))
      results:close()
      if most == 3 then -- as a crash in the middle of a line leaves it
        local file <close> = assert(io.open(path, "a"))
        file:write '{"task": "regression", "cur'
      end
    end
    local whole, again = select(2, answer(plan)), ledger.open(path)
    again:close()
    assert.same(chosen(whole), chosen(again))
  end)
end)

-- ---- the command ----

local MINE = [[
local optim, compare = require "gls.optim", require "gls.compare"
return { name = "mine", optimizer = optim.Adam, space = { learning_rate = compare.log(0.02, 0.5) } }
]]

local TASK = [[
local gls, nn = require "gls", require "gls.nn"
local function open()
  gls.seed(3)
  local function set(rows)
    local x = gls.randn(rows, 4)
    return { x = x, y = x:sum(2):view(rows, 1) + gls.randn(rows, 1) * 0.3 }
  end
  return { train = set(64), valid = set(32), test = set(32), fingerprint = "3" }
end
return { name = "tiny", version = 1, title = "a tiny regression", open = open, batch = 8, steps = 20,
  model = function() return nn.Linear(4, 1) end, loss = function(output, batch) return nn.mse(output, batch.y) end }
]]

-- Runs the command; its standard output goes to a file.
local function run(...)
  local before = io.output()
  io.output(scratch.path "printed")
  local good, result = pcall(compare.run, { "--quiet", "--studies", "2", "--trials", "2", "--retunes", "1",
    "--baselines", "momentum,adamw", "--out", scratch.path "out", ... })
  io.output():close()
  io.output(before)
  return good, good and result or tostring(result)
end

describe("the command", function()
  it("writes lines, a summary and a page, and finds its runs again", function()
    local mine, task = scratch.write("mine.lua", MINE), scratch.write("tiny.lua", TASK)
    local good, path = run("--optimizer", mine, "--task", task)
    assert(good, path)
    assert.equal(path .. "\n", scratch.read "printed")
    local results, summary, page = scratch.read "out/results.jsonl", scratch.read "out/summary.md",
      scratch.read "out/report.html"
    for _, text in ipairs { "mine", "momentum", "adamw", "a tiny regression, version 1", "Not shown" } do
      assert(summary:find(text, 1, true), text)
      assert(page:find(text, 1, true), text)
    end
    assert(not page:find "https?:", "the page asks for something outside")
    assert(page:find("<svg", 1, true) and page:find("prefers-color-scheme: dark", 1, true))
    assert(run("--optimizer", mine, "--task", task))
    local function untimed(text)
      local lines = {}
      for line in text:gmatch "[^\n]+" do
        if not line:find('"phase": "seconds"', 1, true) then lines[#lines + 1] = line end
      end
      return lines
    end
    assert.same(untimed(results), untimed(scratch.read "out/results.jsonl"))
    -- An optimizer whose text has changed is another one.
    scratch.write("mine.lua", MINE:gsub("0%.5", "0.4"))
    assert(run("--optimizer", mine, "--task", task))
    assert(#untimed(results) < #untimed(scratch.read "out/results.jsonl"))
  end)

  it("says what is wrong with an optimizer, a task or an option", function()
    local task = scratch.write("tiny.lua", TASK)
    local function refuses(expected, text, ...)
      local mine = scratch.write("mine.lua", text)
      local good, message = run("--optimizer", mine, "--task", task, ...)
      assert.is_false(good)
      assert(message:find(expected, 1, true), message)
    end
    refuses('unknown option "spce"; did you mean "space"?', (MINE:gsub("space", "spce")))
    refuses('the optimizer has no setting "learning_rat"; did you mean "learning_rate"?',
      (MINE:gsub("learning_rate", "learning_rat")))
    refuses("optimizer is a class", (MINE:gsub("optim%.Adam", "3")))
    refuses("is that of a built-in optimizer", (MINE:gsub('"mine"', '"muon"')))
    refuses("the smaller first", (MINE:gsub("0%.02, 0%.5", "0.5, 0.02")))
    refuses("above 0", (MINE:gsub("0%.02", "-1")))
    refuses("above 0", (MINE:gsub("0%.02, 0%.5", "1e-320, 1e308")))
    refuses("compare.choice: value 2 is inf", (MINE:gsub("log%b()", "choice { 1, math.huge }")))
    refuses("mine.lua returns number", "return 3")
    refuses("space: learning_rate is inf, expected a finite number", (MINE:gsub("compare%.log%b()", "math.huge")))
    refuses("a function that gives nil, expected an object with step()", (MINE:gsub("optim%.Adam", "function() end")))
    refuses("two tasks are called tiny", MINE, "--task", task)
    refuses("mine.lua:1: ", "local optim compare")
    refuses('--baselines: no optimizer is called "adam"', MINE, "--baselines", "adam")
    refuses('unknown task "mpl"; did you mean "mlp"?', MINE, "--tasks", "mpl")
    refuses("fewer than the 20 evaluations", MINE, "--steps", "10")
    refuses("expected a whole number", MINE, "--trials", "0")
    scratch.write("tiny.lua", (TASK:gsub("batch = 8", "batch = 0.5")))
    refuses("batch is a whole number from 1", MINE)
    scratch.write("tiny.lua", (TASK:gsub("open = open", "open = open, sets = {}")))
    refuses("either sets or open", MINE)
  end)
end)

describe("the tasks that come along", function()
  it("train, at both budgets, with every built-in optimizer", function()
    for _, part in ipairs { "train/a", "train/b", "test/a", "test/b" } do
      assert(os.execute(("mkdir -p '%s'"):format(scratch.path(part))))
      for i = 1, 2 do gls.save_image(scratch.path(("%s/%d.png"):format(part, i)), gls.rand(3, 16, 16)) end
    end
    scratch.write("tinyshakespeare.txt", ("to be or not to be, that is the question\n"):rep(60))
    for _, name in ipairs(tasks.built_in) do
      for _, mode in ipairs { "short", "study" } do
        local task = tasks.load(name, mode)
        task.samples, task.batch = 0, 2
        task.validation, task.test = task.sets == "text" and 80 or 2, task.sets == "text" and 80 or 2
        tasks.open(task, scratch.folder(), task.sets ~= "text" and "folder:" .. scratch.folder() or nil)
        for _, optimizer in ipairs(mode == "short" and entries.names() or { "muon" }) do
          local entry = entries.named(optimizer)
          local settings = space.points(entry.space, 1, random.stream(optimizer))[1]
          local row = trial.run(entry, task, { settings = settings, schedule = entry.schedule, seed = 1, steps = 2,
            evaluations = 2, test = true })
          assert(row.done >= 1 and #row.curve >= 2 and row.test_loss > 0, name .. " " .. optimizer)
        end
      end
    end
  end)
end)
