--- Lines and scatter plots: series with bands, named at their ends, or points.
-- @module gls.plot.lines
local core = require "gls.core"
local axes = require "gls.plot.axes"
local gnuplot = require "gls.plot.gnuplot"
local log = require "gls.log"
local series = require "gls.plot.series"
local quote = gnuplot.quote

local lines = {}

-- Moves positions (0 to 1, any order) as little as needed so that neighbours are `gap` apart.
local function spread(positions, gap)
  local order = {}
  for i in ipairs(positions) do order[i] = i end
  table.sort(order, function(a, b)
    if positions[a] ~= positions[b] then return positions[a] < positions[b] end
    return a > b
  end)
  -- Neighbours too close form a block around their mean; blocks that meet are joined.
  local blocks = {}
  for _, i in ipairs(order) do
    local block = { members = { i }, sum = positions[i] }
    while true do
      local size = #block.members
      block.center = math.max((size - 1) * gap / 2, math.min(block.sum / size, 1 - (size - 1) * gap / 2))
      local below = blocks[#blocks]
      if not below or below.center + (#below.members - 1) * gap / 2 + gap <= block.center - (size - 1) * gap / 2 + 1e-9
      then
        break
      end
      for _, member in ipairs(block.members) do below.members[#below.members + 1] = member end
      below.sum = below.sum + block.sum
      block = table.remove(blocks)
    end
    blocks[#blocks + 1] = block
  end
  local result = {}
  for _, block in ipairs(blocks) do
    for place, member in ipairs(block.members) do
      result[member] = block.center + (place - 1 - (#block.members - 1) / 2) * gap
    end
  end
  return result
end

-- ---- ranges ----

-- Ranges of both axes over all points and bands.
local function ranges(panel)
  local from = panel.settings.from
  local x_low, x_high, y_low, y_high = from or math.huge, -math.huge, math.huge, -math.huge
  for _, one in ipairs(panel.series) do
    for _, point in ipairs(one.points) do
      x_low, x_high = math.min(x_low, point[1]), math.max(x_high, point[1])
      y_low, y_high = math.min(y_low, point[3]), math.max(y_high, point[4])
    end
  end
  if x_low == x_high then x_low, x_high = x_low - (panel.log.x and x_low / 2 or 0.5), x_high + 0.5 end
  if panel.scatter then x_low, x_high = axes.widened(x_low, x_high, panel.log.x) end
  return x_low, x_high, axes.widened(y_low, y_high, panel.log.y)
end

-- Commands for the ranges and, where an axis is logarithmic, its ticks.
local function range_commands(panel, log_ticks)
  local x_low, x_high, y_low, y_high = ranges(panel)
  local commands = { ("set xrange [%.9g:%.9g]; set yrange [%.9g:%.9g]"):format(x_low, x_high, y_low, y_high) }
  if panel.log.x then
    commands[#commands + 1] = ("set logscale x\nset xtics (%s)"):format(log_ticks(x_low, x_high))
  end
  if panel.log.y then
    commands[#commands + 1] = ("set logscale y\nset ytics (%s)"):format(log_ticks(y_low, y_high))
  end
  return table.concat(commands, "\n"), y_low, y_high
end

local function data_blocks(panel, number)
  local text = {}
  for i, one in ipairs(panel.series) do
    text[#text + 1] = ("$panel%d_%d << END"):format(number, i)
    for _, point in ipairs(one.points) do text[#text + 1] = ("%.9g %.9g %.9g %.9g"):format(table.unpack(point)) end
    text[#text + 1] = "END"
  end
  return table.concat(text, "\n")
end

-- ---- in a file ----

local function has_band(one)
  for _, point in ipairs(one.points) do
    if point[3] ~= point[4] then return true end
  end
  return false
end

-- How a series is drawn: points in a scatter plot, a line with its points where they are few.
local function style(panel, one)
  if panel.scatter then return ("points pointtype 7 pointsize %g"):format(#one.points > 500 and 0.3 or 0.6) end
  if #one.points == 1 then return "points pointtype 7 pointsize 0.8" end
  return #one.points <= 30 and not one.dashed and not one.thin and "linespoints pointtype 7 pointsize 0.35" or "lines"
end

-- Each line is named at its end, in its colour; groups of points at the height of their middle.
local function name_commands(commands, panel, y_low, y_high, plot_height)
  local named, positions = {}, {}
  for _, one in ipairs(panel.series) do
    if one.label then
      local y = one.points[#one.points][2]
      if panel.scatter then
        y = 0
        for _, point in ipairs(one.points) do y = y + point[2] / #one.points end
      end
      named[#named + 1] = one
      positions[#positions + 1] = panel.log.y and math.log(y / y_low) / math.log(y_high / y_low)
        or (y - y_low) / (y_high - y_low)
    end
  end
  local places = spread(positions, axes.FONT * 1.3 / plot_height)
  for i, one in ipairs(named) do
    commands[#commands + 1] = ("set label %d %s at graph 1.012,%.4f left noenhanced textcolor rgb %q")
      :format(10 + i, quote(one.name), places[i], one.color)
  end
end

local function commands_of(panel, place)
  local settings = panel.settings
  local longest = 0
  for _, one in ipairs(panel.series) do
    if one.label then longest = math.max(longest, log.width(one.name)) end
  end
  local notes = axes.note_lines(settings.note, place.width - 110)
  local right = longest > 0 and 28 + math.max(30, longest * axes.FONT * 0.58) or 28
  local commands, plot_height = axes.frame(place, settings, notes, { 92, 66, right })
  local range, y_low, y_high = range_commands(panel, axes.log_ticks)
  table.insert(commands, 1, data_blocks(panel, place.number))
  commands[#commands + 1] = ("set grid xtics ytics linetype 1 linecolor rgb %q linewidth 1"):format(axes.GRID)
  commands[#commands + 1] = range
  name_commands(commands, panel, y_low, y_high, plot_height)
  local drawn = {}
  for i, one in ipairs(panel.series) do
    if has_band(one) then
      drawn[#drawn + 1] = ("$panel%d_%d using 1:3:4 with filledcurves linecolor rgb %q fillstyle transparent solid %s "
        .. "noborder"):format(place.number, i, one.color, one.dashed and "0.08" or "0.16")
    end
  end
  for i, one in ipairs(panel.series) do
    drawn[#drawn + 1] = ("$panel%d_%d using 1:2 with %s linecolor rgb %q%s%s"):format(place.number, i,
      style(panel, one), one.color,
      panel.scatter and "" or (" linewidth %s"):format(one.thin and "1" or one.dashed and "1.6" or "2.4"),
      one.dashed and #one.points > 1 and " dashtype (14,8)" or "")
  end
  commands[#commands + 1] = "plot " .. table.concat(drawn, ", \\\n  ")
  return table.concat(commands, "\n")
end

-- ---- in characters ----

-- No bands, no dashed lines, a legend.
local function characters_of(panel, columns, rows, colors)
  local settings, legend = panel.settings, false
  local drawn = {}
  for i, one in ipairs(panel.series) do
    if one.label or #panel.series == 1 then
      legend = legend or one.label
      drawn[#drawn + 1] = ("$panel1_%d using 1:2 with %s linecolor rgb %q %s"):format(i,
        (panel.scatter or #one.points == 1) and "points" or "lines", one.color,
        one.label and "title " .. quote(one.name) or "notitle")
    end
  end
  return gnuplot.characters(columns, rows, colors, table.concat({
    data_blocks(panel, 1),
    ("set title %s noenhanced"):format(quote(settings.title)),
    ("set xlabel %s noenhanced"):format(quote(settings.x)),
    ("set ylabel %s noenhanced norotate offset 1,0"):format(quote(settings.y)),
    legend and "set key outside right top noenhanced reverse Left" or "unset key",
    "set tics nomirror",
    (range_commands(panel, axes.log_ticks_in_characters)),
    "plot " .. table.concat(drawn, ", "),
  }, "\n"))
end

-- ---- panels ----

-- `log = "xy"` as { x = true, y = true }.
local function logarithmic(where, given)
  if given ~= nil and given ~= "x" and given ~= "y" and given ~= "xy" then
    core.raise(('%s: option log: "x", "y" or "xy" expected, got %s'):format(where, tostring(given)))
  end
  given = given or ""
  return { x = given:find "x" ~= nil, y = given:find "y" ~= nil }
end

--- The panel of checked settings: { width =, height =, commands = f(place), characters = f(columns, rows, colors) }.
function lines.panel(where, given, settings, scatter)
  local panel = { settings = settings, scatter = scatter, width = 960, height = 600 }
  panel.log = logarithmic(where, settings.log)
  panel.series = series.of(where, given, panel.log, scatter)
  function panel.commands(place) return commands_of(panel, place) end
  function panel.characters(columns, rows, colors) return characters_of(panel, columns, rows, colors) end
  return panel
end

return lines
