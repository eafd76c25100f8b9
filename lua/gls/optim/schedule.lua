--- Schedules: a factor on the learning rate as a function of the step.
-- A schedule is a function of the number of steps made so far (from 0) that gives a factor; optimizers take one as
-- their option `schedule`. Any Lua function of that form will do.
-- @module gls.optim.schedule
local options = require "gls.options"

local schedule = {}

--- Always 1.
function schedule.constant() return function() return 1 end end

local function check(where, name, value, least)
  if type(value) == "number" and value >= least and value == math.floor(value) then return end
  error(("%s: %s is %s, expected a whole number of at least %d"):format(where, name, tostring(value), least), 4)
end

local function check_factor(where, name, value)
  if type(value) == "number" and value > 0 and value <= 1 then return end
  error(("%s: %s is %s, expected a number above 0 and at most 1"):format(where, name, tostring(value)), 3)
end

-- Linear warm-up over the first steps, then the given function of the fraction done.
local function over(where, steps, warmup, after)
  check(where, "steps", steps, 1)
  check(where, "warmup", warmup, 0)
  return function(step)
    if step < warmup then return (step + 1) / warmup end
    local done = (step - warmup) / math.max(1, steps - warmup)
    return after(math.min(1, done))
  end
end

--- Half a cosine from 1 to `final` (Loshchilov and Hutter, ICLR 2017, "SGDR").
-- @tparam table given `steps` (of the whole run), `warmup` = 0 steps of linear rise, `final` = 0
function schedule.cosine(given)
  local o = options.check("schedule.cosine", given, { steps = options.required, warmup = 0, final = 0 })
  return over("schedule.cosine", o.steps, o.warmup, function(done)
    return o.final + (1 - o.final) * 0.5 * (1 + math.cos(math.pi * done))
  end)
end

--- A straight line from 1 to `final`.
-- @tparam table given `steps`, `warmup` = 0, `final` = 0
function schedule.linear(given)
  local o = options.check("schedule.linear", given, { steps = options.required, warmup = 0, final = 0 })
  return over("schedule.linear", o.steps, o.warmup, function(done) return 1 + (o.final - 1) * done end)
end

--- Times `gamma` after every `every` steps.
-- @tparam table given `every`, `gamma` = 0.1, `warmup` = 0
function schedule.step(given)
  local o = options.check("schedule.step", given, { every = options.required, gamma = 0.1, warmup = 0 })
  check("schedule.step", "every", o.every, 1)
  check("schedule.step", "warmup", o.warmup, 0)
  return function(step)
    if step < o.warmup then return (step + 1) / o.warmup end
    return o.gamma ^ (step // o.every)
  end
end

--- Times `gamma` after every step: gamma^step.
-- @tparam table given `gamma`, above 0 and at most 1
function schedule.exponential(given)
  local o = options.check("schedule.exponential", given, { gamma = options.required })
  check_factor("schedule.exponential", "gamma", o.gamma)
  return function(step) return o.gamma ^ step end
end

--- Times `gamma` when each of the milestones is reached.
-- @tparam table given `milestones` (list of steps), `gamma` = 0.1
function schedule.multi_step(given)
  local where = "schedule.multi_step"
  local o = options.check(where, given, { milestones = options.required, gamma = 0.1 })
  check_factor(where, "gamma", o.gamma)
  if type(o.milestones) ~= "table" or #options.list(where, o.milestones) == 0 then
    error(where .. ": milestones is a list of steps", 2)
  end
  for i, milestone in ipairs(o.milestones) do check(where, ("milestone %d"):format(i), milestone, 0) end
  return function(step)
    local passed = 0
    for _, milestone in ipairs(o.milestones) do
      if step >= milestone then passed = passed + 1 end
    end
    return o.gamma ^ passed
  end
end

--- Warm-up, stable, decay: a linear rise, 1, and over the last `decay` steps a line to `final` (Hu et al., "MiniCPM",
-- 2024).
-- @tparam table given `steps` (of the whole run), `warmup` = 0, `decay` = a tenth of steps, `final` = 0
function schedule.stable(given)
  local where = "schedule.stable"
  local o = options.check(where, given, { steps = options.required, warmup = 0, decay = options.none, final = 0 })
  check(where, "steps", o.steps, 1)
  check(where, "warmup", o.warmup, 0)
  local decay = o.decay or math.max(1, o.steps // 10)
  check(where, "decay", decay, 1)
  if o.warmup + decay > o.steps then
    error(("%s: warmup %d and decay %d are more than the %d steps"):format(where, o.warmup, decay, o.steps), 2)
  end
  return function(step)
    if step < o.warmup then return (step + 1) / o.warmup end
    local done = math.min(1, math.max(0, (step - (o.steps - decay)) / decay))
    return 1 + (o.final - 1) * done
  end
end

local Plateau = {}
Plateau.__index = Plateau
function Plateau:__call() return self.factor end

--- Tells a schedule of `schedule.plateau` how good the model is now, as after every epoch.
-- @tparam number value a validation loss: the smaller, the better
function Plateau:observe(value)
  local o, kept = self.options, self.kept
  if type(value) ~= "number" then error("schedule.plateau: observe(value) takes a number, got " .. type(value), 2) end
  if value < kept.best * (1 - o.threshold) then
    kept.best, kept.waited = value, 0
  else
    kept.waited = kept.waited + 1
  end
  if kept.cooling > 0 then kept.cooling, kept.waited = kept.cooling - 1, 0 end
  if kept.waited > o.patience then
    self.factor = math.max(self.factor * o.gamma, o.least)
    kept.cooling, kept.waited = o.cooldown, 0
  end
end

--- What an optimizer saves of it.
function Plateau:state_dict()
  return { factor = self.factor, best = self.kept.best, waited = self.kept.waited, cooling = self.kept.cooling }
end

--- Puts back what `state_dict` gave.
function Plateau:load_state_dict(saved)
  for _, name in ipairs { "factor", "best", "waited", "cooling" } do
    if type(saved) ~= "table" or type(saved[name]) ~= "number" then
      error("schedule.plateau: this is not what its state_dict gives", 2)
    end
  end
  self.factor = saved.factor
  self.kept = { best = saved.best, waited = saved.waited, cooling = saved.cooling }
end

--- Times `gamma` when a loss has not fallen for more than `patience` observations: `plateau:observe(loss)` after every
-- epoch. The optimizer saves it with its own state. As PyTorch's ReduceLROnPlateau, with its relative threshold, for
-- losses of at least 0.
-- @tparam[opt] table given `gamma` = 0.1, `patience` = 10, `threshold` = 1e-4 (a fall by less, relative, is none),
-- `cooldown` = 0 (observations after a change that do not count), `least` = 0 (factor that is not gone below)
-- @return a schedule with the method `observe`
function schedule.plateau(given)
  local where = "schedule.plateau"
  local o = options.check(where, given, { gamma = 0.1, patience = 10, threshold = 1e-4, cooldown = 0, least = 0 })
  check_factor(where, "gamma", o.gamma)
  check(where, "patience", o.patience, 0)
  check(where, "cooldown", o.cooldown, 0)
  return setmetatable({ options = o, factor = 1, kept = { best = math.huge, waited = 0, cooling = 0 } }, Plateau)
end

--- Linear rise over `steps`, then 1.
-- @tparam table given `steps`
function schedule.warmup(given)
  local o = options.check("schedule.warmup", given, { steps = options.required })
  check("schedule.warmup", "steps", o.steps, 0)
  return function(step) return math.min(1, (step + 1) / math.max(1, o.steps)) end
end

return require("gls.strict").module("optim.schedule", schedule)
