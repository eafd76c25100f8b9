--- Line search: a step t > 0 along a direction of descent at which φ(t) = f(x + t d) fulfils the strong Wolfe
-- conditions
--     φ(t) ≤ φ(0) + c₁ t φ'(0)   and   |φ'(t)| ≤ c₂ |φ'(0)|
-- (Nocedal and Wright, "Numerical optimization", 2006, algorithms 3.5 and 3.6; interpolation and its safeguards as in
-- Schmidt's minFunc, 2005, which PyTorch's L-BFGS follows too).
-- @module gls.optim.line_search

-- The minimiser of the cubic through two points' values and slopes, held within the bounds (equation 3.59).
local function interpolate(a, b, low, high)
  if a.t > b.t then a, b = b, a end
  low, high = low or a.t, high or b.t
  local d1 = a.slope + b.slope - 3 * (a.value - b.value) / (a.t - b.t)
  local square = d1 * d1 - a.slope * b.slope
  if square < 0 or square ~= square then return (low + high) / 2 end
  local d2 = math.sqrt(square)
  local t = b.t - (b.t - a.t) * (b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2)
  return math.min(math.max(t, low), high)
end

-- Points: tables { t, value, slope, … } as `evaluate` gives them.
local function search(start, evaluate, t, most, smallest)
  local c1, c2 = 1e-4, 0.9
  local function too_high(point) -- NaN is
    return point.value > start.value + c1 * point.t * start.slope or point.value ~= point.value
  end
  local function flat_enough(point) return math.abs(point.slope) <= -c2 * start.slope end

  -- 1. bracket (algorithm 3.5)
  local before, point, count = start, evaluate(t), 1
  while not (too_high(point) or (count > 2 and point.value >= before.value)) do
    if flat_enough(point) then return point end
    if point.slope >= 0 then break end
    if count >= most then
      before = start
      break
    end
    local next_t = interpolate(before, point, point.t + 0.01 * (point.t - before.t), 10 * point.t)
    before, point, count = point, evaluate(next_t), count + 1
  end
  local low, high = before, point
  if high.value < low.value then low, high = high, low end

  -- 2. zoom (algorithm 3.6): low is the best point so far, and φ falls from it towards high
  local slow = false
  while count < most and math.abs(high.t - low.t) >= smallest do
    t = interpolate(low, high)
    local left, right = math.min(low.t, high.t), math.max(low.t, high.t)
    local margin = 0.1 * (right - left)
    if math.min(right - t, t - left) < margin then -- close to an end twice, or at it: a tenth away from it
      if slow or t >= right or t <= left then
        t = right - t < t - left and right - margin or left + margin
        slow = false
      else
        slow = true
      end
    else
      slow = false
    end
    point, count = evaluate(t), count + 1
    if too_high(point) or point.value >= low.value then
      high = point
      if high.value < low.value then low, high = high, low end
    else
      if flat_enough(point) then return point end
      if point.slope * (high.t - low.t) >= 0 then high = low end
      low = point
    end
  end
  return low
end

--- @function search
-- @tparam table start `{ t = 0, value = φ(0), slope = φ'(0) < 0 }`
-- @tparam function evaluate t → `{ t =, value =, slope = }`, and what else the caller wants of a point
-- @tparam number t the first step to try
-- @tparam integer most evaluations
-- @tparam number smallest length of a bracket that is still searched
-- @treturn table the point found; the best one seen where the evaluations do not suffice
return search
