--- Chart: figures as SVG inside a page of HTML: their colours are the page's variables (--ink, --faint, --grid and
-- --s1, --s2, … of the series), so that one figure serves light and dark. (gls.plot makes files, by gnuplot.)
-- @module gls.compare.chart
local number = require "gls.number"

local chart = {}

local WIDTH, HEIGHT = 560, 300
local LEFT, RIGHT, TOP, BOTTOM = 62, 14, 12, 44

local ENTITIES = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }

--- A text as HTML and SVG have it.
function chart.escaped(text) return (text:gsub('[&<>"]', ENTITIES)) end
local escaped = chart.escaped

local function text_at(x, y, anchor, class, text)
  return ('<text x="%.1f" y="%.1f" text-anchor="%s" class="%s">%s</text>'):format(x, y, anchor, class, escaped(text))
end

-- ---- axes ----

-- Round numbers between two, about so many.
local function linear_ticks(low, high, wanted)
  local step = 10.0 ^ math.floor(math.log((high - low) / wanted, 10))
  for _, factor in ipairs { 1, 2, 5, 10 } do
    if (high - low) / (step * factor) <= wanted then
      step = step * factor
      break
    end
  end
  local ticks = {}
  for i = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) do ticks[#ticks + 1] = i * step end
  return ticks
end

-- Powers of ten, and their multiples where those are few.
local function log_ticks(low, high)
  local ticks, decades = {}, math.log(high / low, 10)
  if decades <= 0.5 then return linear_ticks(low, high, 5) end
  local mantissas = decades > 2.5 and { 1 } or decades > 0.9 and { 1, 2, 5 } or { 1, 1.5, 2, 3, 5, 7 }
  local every = math.max(1, math.ceil(decades / 6))
  for exponent = math.floor(math.log(low, 10)), math.ceil(math.log(high, 10)) do
    for _, mantissa in ipairs(exponent % every == 0 and mantissas or {}) do
      local value = mantissa * 10.0 ^ exponent
      if value >= low * 0.9999 and value <= high * 1.0001 then ticks[#ticks + 1] = value end
    end
  end
  return ticks
end

-- From a range to positions; `from` and `to` in the figure's units.
local function axis(low, high, is_log, from, to)
  if high <= low then high = is_log and low * 1.1 or low + 1 end
  local function place(value)
    local share = is_log and math.log(value / low) / math.log(high / low) or (value - low) / (high - low)
    return from + (to - from) * share
  end
  return { place = place, ticks = is_log and log_ticks(low, high) or linear_ticks(low, high, 5) }
end

local function frame(parts, left, height, x, y, x_label, y_label)
  local bottom = height - BOTTOM
  for _, value in ipairs(y and y.ticks or {}) do
    local at = y.place(value)
    parts[#parts + 1] = ('<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" class="grid"/>'):format(left, WIDTH - RIGHT, at, at)
    parts[#parts + 1] = text_at(left - 6, at + 4, "end", "tick", number.setting(value))
  end
  for _, value in ipairs(x.ticks) do
    local at = x.place(value)
    parts[#parts + 1] = ('<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" class="grid"/>'):format(at, at, TOP, bottom)
    parts[#parts + 1] = text_at(at, bottom + 16, "middle", "tick", number.setting(value))
  end
  parts[#parts + 1] = text_at((left + WIDTH - RIGHT) / 2, height - 6, "middle", "label", x_label)
  if y_label then
    parts[#parts + 1] = ('<text transform="translate(14 %.1f) rotate(-90)" text-anchor="middle" class="label">%s'
      .. "</text>"):format((TOP + bottom) / 2, escaped(y_label))
  end
end

local function whole(parts, height, title)
  return ('<svg viewBox="0 0 %d %d" role="img" aria-label="%s">%s</svg>'):format(WIDTH, height, escaped(title),
    table.concat(parts))
end

local function path(points, class, color)
  return ('<path d="M%s" class="%s" style="--c:var(--s%d)"/>'):format(table.concat(points, "L"), class, color)
end

-- ---- figures ----

--- Lines with bands.
-- @tparam table given `title`, `x`, `y` (labels), `log_x`, `log_y`, `low_y`, `high_y` (limits of y in place of the
-- values'), `step` (points are joined by steps), `series`: list of `{ color = number, x =, y =, low =, high = }`
-- (lists)
-- @treturn string svg
function chart.lines(given)
  local x_low, x_high, y_low, y_high = math.huge, -math.huge, given.low_y or math.huge, given.high_y or -math.huge
  for _, one in ipairs(given.series) do
    for i, x in ipairs(one.x) do
      x_low, x_high = math.min(x_low, x), math.max(x_high, x)
      if not given.low_y then y_low = math.min(y_low, one.low and one.low[i] or one.y[i]) end
      if not given.high_y then y_high = math.max(y_high, one.high and one.high[i] or one.y[i]) end
    end
  end
  local x = axis(x_low, x_high, given.log_x, LEFT, WIDTH - RIGHT)
  local y = axis(y_low, y_high, given.log_y, HEIGHT - BOTTOM, TOP)
  local parts = {}
  frame(parts, LEFT, HEIGHT, x, y, given.x, given.y)
  local function point(px, py)
    return ("%.1f %.1f"):format(x.place(px), y.place(math.max(y_low, math.min(y_high, py))))
  end
  for _, one in ipairs(given.series) do
    if one.low then
      local edge = {}
      for i = 1, #one.x do edge[#edge + 1] = point(one.x[i], one.high[i]) end
      for i = #one.x, 1, -1 do edge[#edge + 1] = point(one.x[i], one.low[i]) end
      parts[#parts + 1] = path(edge, "band", one.color)
    end
  end
  for _, one in ipairs(given.series) do
    local line = {}
    for i = 1, #one.x do
      if given.step and i > 1 then line[#line + 1] = point(one.x[i], one.y[i - 1]) end
      line[#line + 1] = point(one.x[i], one.y[i])
    end
    parts[#parts + 1] = path(line, "line", one.color)
  end
  return whole(parts, HEIGHT, given.title)
end

--- Ratios with their intervals, one a row, on a logarithmic axis with a line at 1.
-- @tparam table given `title`, `x` (label), `rows`: list of `{ label =, color =, ratio =, low =, high = }`
-- @treturn string svg
function chart.ratios(given)
  local low, high = 0.95, 1.05
  for _, row in ipairs(given.rows) do
    low = math.max(0.05, math.min(low, row.ratio, row.low))
    high = math.min(20, math.max(high, row.ratio, row.high))
  end
  local left, step = 190, 24 -- names stand in place of an axis
  local height = TOP + step * #given.rows + BOTTOM + 6
  local x = axis(low / 1.02, high * 1.02, true, left, WIDTH - RIGHT)
  local parts = {}
  frame(parts, left, height, x, nil, given.x)
  parts[#parts + 1] = ('<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" class="one"/>'):format(x.place(1), x.place(1), TOP,
    height - BOTTOM)
  for i, row in ipairs(given.rows) do
    local y = TOP + step * (i - 0.5)
    local function clamped(value) return x.place(math.max(low, math.min(high, value))) end
    parts[#parts + 1] = text_at(left - 8, y + 4, "end", "tick", row.label)
    parts[#parts + 1] = ('<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" class="line" style="--c:var(--s%d)"/>'):format(
      clamped(row.low), clamped(row.high), y, y, row.color)
    parts[#parts + 1] = ('<circle cx="%.1f" cy="%.1f" r="4.5" class="dot" style="--c:var(--s%d)"/>'):format(
      clamped(row.ratio), y, row.color)
  end
  return whole(parts, height, given.title)
end

return chart
