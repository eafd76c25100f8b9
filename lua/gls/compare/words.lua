--- Words: a comparison's numbers as people read them, and the sentence that says what is shown and what is not.
-- @module gls.compare.words
local count = require("gls.experiment.words").count
local number = require "gls.number"

local words = {}

--- A value with its interval: `0.412 (0.405 to 0.420)`; what was never reached is said.
-- @tparam table interval `value`, `low`, `high`
-- @tparam[opt] function text of one number
-- @tparam[opt="diverged"] string never what an infinite value is called
function words.interval(interval, text, never)
  if not interval then return "–" end
  text = text or number.text
  never = never or "diverged"
  local function one(value) return value == math.huge and never or text(value) end
  if interval.value == math.huge and interval.low == math.huge then return never end
  if interval.low == interval.high then return one(interval.value) end
  return ("%s (%s to %s)"):format(one(interval.value), one(interval.low), one(interval.high))
end

--- A ratio of test losses with its interval and verdict.
function words.ratio(test)
  if not test then return "–" end
  if not test.verdict then return "1, the reference" end
  local bounds = test.low > 0 and test.high < math.huge and ("%.3f to %.3f"):format(test.low, test.high)
    or "no interval"
  return ("%.3f (%s), p %s: %s"):format(test.ratio, bounds, test.corrected < 1e-3 and "< 0.001"
    or ("%.3f"):format(test.corrected), test.verdict)
end

--- A whole number of bytes in megabytes.
function words.megabytes(bytes) return ("%.1f MB"):format(bytes / 1e6) end

--- A speed-up with its interval.
function words.speed_up(found)
  if not found then return "–" end
  if found.diverged then return ("none (diverged on %s)"):format(found.diverged) end
  return ("%s%.2f times (%.2f to %.2f)"):format(found.at_most and "at most " or "", found.value, found.low, found.high)
end

local function counted(tally)
  return ("better on %d, worse on %d, no difference shown on %d"):format(tally.better, tally.worse,
    tally["no difference"])
end

--- What is shown of a candidate and what is not.
-- @tparam string name
-- @tparam table found of analysis.of
-- @tparam table plan
-- @treturn string
function words.sentence(name, found, plan)
  local own = found.candidates[name]
  local tally = own.by_steps
  local tasks = tally.better + tally.worse + tally["no difference"]
  if tasks == 0 then return ("Nothing is shown of %s yet: no task has been run to its end."):format(name) end
  return ("**%s** against the tuned baseline that is best at that budget, on each of %s, by test loss over %d "
    .. "independent searches: **at equal steps %s; at equal seconds %s.** Speed-up to the final validation loss of the "
    .. "best at equal steps: %s in steps, %s in seconds. Not shown: anything of larger models or data, of longer "
    .. "training, of wider searches than %d trials and %d changes of schedule and decay, or of differences smaller "
    .. "than the intervals."):format(name, count(tasks, "task"), plan.studies, counted(own.by_steps),
    counted(own.by_seconds), words.speed_up(own.steps), words.speed_up(own.seconds), plan.trials, plan.retunes)
end

return words
