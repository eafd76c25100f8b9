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

--- Linear rise over `steps`, then 1.
-- @tparam table given `steps`
function schedule.warmup(given)
  local o = options.check("schedule.warmup", given, { steps = options.required })
  check("schedule.warmup", "steps", o.steps, 0)
  return function(step) return math.min(1, (step + 1) / math.max(1, o.steps)) end
end

return schedule
