--- Statistics of a comparison: intervals, a paired test, a correction for many tests, performance profiles. Plain
-- functions of lists of numbers; tests/lua/compare_spec.lua holds them against SciPy's values.
-- @module gls.compare.statistics
local median = require("gls.experiment.outcome").median

local statistics = { median = median }

--- The mean of a list.
function statistics.mean(values)
  local sum = 0
  for _, value in ipairs(values) do sum = sum + value end
  return sum / #values
end
local mean = statistics.mean

--- exp of the mean of logarithms.
-- @tparam table values above 0
function statistics.geometric_mean(values)
  local logs = {}
  for i, value in ipairs(values) do logs[i] = math.log(value) end
  return math.exp(mean(logs))
end

--- An interval for a statistic of independent values: the percentile bootstrap (Efron and Tibshirani, "An introduction
-- to the bootstrap", 1993, chapter 13).
-- @tparam function statistic of a function that gives the i-th resample of a list: called with `resample`, it is to
-- apply it to every list that it reads, of which those of one length are resampled alike (they are paired)
-- @tparam function stream what random.stream gave
-- @tparam[opt=0.95] number level
-- @tparam[opt=1000] integer count of resamples
-- @treturn number low
-- @treturn number high
function statistics.bootstrap(statistic, stream, level, count)
  local found = {}
  count = count or 1000
  for i = 1, count do
    local drawn = {}
    local function resample(values)
      local n = #values
      if not drawn[n] then
        drawn[n] = {}
        for k = 1, n do drawn[n][k] = stream(n) end
      end
      local result = {}
      for k, place in ipairs(drawn[n]) do result[k] = values[place] end
      return result
    end
    found[i] = statistic(resample)
  end
  table.sort(found)
  local tail = (1 - (level or 0.95)) / 2
  return found[math.max(1, math.floor(tail * count + 0.5))], found[math.min(count, math.ceil((1 - tail) * count))]
end

-- ---- Student's t ----

-- log Γ(x), x > 0: Stirling's series (DLMF 5.11.1) from 10 on, and Γ(x) = Γ(x + 1) / x below.
local function log_gamma(x)
  local shift = 0
  while x < 10 do
    shift, x = shift - math.log(x), x + 1
  end
  local r = 1 / (x * x)
  return shift + (x - 0.5) * math.log(x) - x + 0.5 * math.log(2 * math.pi)
    + (1 / 12 - r * (1 / 360 - r * (1 / 1260 - r / 1680))) / x
end

-- The regularised incomplete beta function I_x(a, b): its continued fraction (DLMF 8.17.22), by Lentz's method.
local function incomplete_beta(x, a, b)
  if x <= 0 then return 0 end
  if x >= 1 then return 1 end
  if x > (a + 1) / (a + b + 2) then return 1 - incomplete_beta(1 - x, b, a) end
  local front = math.exp(log_gamma(a + b) - log_gamma(a) - log_gamma(b) + a * math.log(x) + b * math.log(1 - x)) / a
  local c, d = 1, 1 / (1 - (a + b) * x / (a + 1))
  local value = d
  for m = 1, 500 do
    local even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
    local odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
    local before = value
    for _, term in ipairs { even, odd } do
      d, c = 1 / (1 + term * d), 1 + term / c
      value = value * c * d
    end
    if math.abs(value - before) < 1e-15 * math.abs(value) then break end
  end
  return front * value
end

--- The probability that Student's t is at least as far from 0 as t, on either side.
-- @tparam number t
-- @tparam number degrees of freedom
function statistics.t_tails(t, degrees)
  if t ~= t then return 1 end
  return incomplete_beta(degrees / (degrees + t * t), degrees / 2, 0.5)
end

--- The t beyond which both tails together have a probability.
function statistics.t_quantile(tails, degrees)
  local low, high = 0, 1
  while statistics.t_tails(high, degrees) > tails do high = high * 2 end
  for _ = 1, 100 do
    local middle = (low + high) / 2
    if statistics.t_tails(middle, degrees) > tails then low = middle else high = middle end
  end
  return (low + high) / 2
end

--- The paired t test (Student, 1908) of whether differences have a mean of 0. Differences that are all 0 give p = 1; a
-- single one shows nothing: p = 1 and an interval without ends.
-- @tparam table differences
-- @treturn table `mean`, `p` (both sides), `low`, `high` (95 % interval of the mean)
function statistics.paired_test(differences)
  local n, middle, squares = #differences, mean(differences), 0
  if n < 2 then return { mean = middle, p = 1, low = -math.huge, high = math.huge } end
  for _, value in ipairs(differences) do squares = squares + (value - middle) ^ 2 end
  local deviation = math.sqrt(squares / (n - 1) / n)
  if deviation == 0 then
    return { mean = middle, p = middle == 0 and 1 or 0, low = middle, high = middle }
  end
  local reach = statistics.t_quantile(0.05, n - 1) * deviation
  return {
    mean = middle, p = statistics.t_tails(middle / deviation, n - 1), low = middle - reach, high = middle + reach,
  }
end

--- Probabilities of several tests, corrected so that the chance of any false finding among them stays what it was for
-- one (Holm, "A simple sequentially rejective multiple test procedure", 1979).
-- @tparam table probabilities
-- @treturn table the corrected ones, in the same order
function statistics.holm(probabilities)
  local order, corrected, before = {}, {}, 0
  for i in ipairs(probabilities) do order[i] = i end
  table.sort(order, function(a, b)
    if probabilities[a] ~= probabilities[b] then return probabilities[a] < probabilities[b] end
    return a < b
  end)
  for rank, i in ipairs(order) do
    before = math.max(before, math.min(1, (#order - rank + 1) * probabilities[i]))
    corrected[i] = before
  end
  return corrected
end

--- Performance profiles (Dolan and Moré, "Benchmarking optimization software with performance profiles", 2002): of
-- every solver the share of problems that it solves within τ times the cost of the best on each.
-- @tparam table costs solver → list of costs, one a problem, math.huge where it did not solve it
-- @treturn table solver → list of `{ τ, share }`, τ rising, one for every step of the curve; the first has τ = 1
-- @treturn number the greatest finite τ
function statistics.profiles(costs)
  local _, any = next(costs)
  local ratios, greatest, result = {}, 1, {}
  for problem = 1, #any do
    local best = math.huge
    for _, list in pairs(costs) do best = math.min(best, list[problem]) end
    for solver, list in pairs(costs) do
      ratios[solver] = ratios[solver] or {}
      local cost = list[problem]
      local ratio = cost == best and 1 or cost / best
      if cost < math.huge and ratio < math.huge then
        table.insert(ratios[solver], ratio)
        greatest = math.max(greatest, ratio)
      end
    end
  end
  for solver, list in pairs(ratios) do
    table.sort(list)
    local curve, within = { { 1, 0 } }, 0
    for _, ratio in ipairs(list) do
      within = within + 1
      if ratio > curve[#curve][1] then curve[#curve + 1] = { ratio } end
      curve[#curve][2] = within / #any
    end
    result[solver] = curve
  end
  return result, greatest
end

return statistics
