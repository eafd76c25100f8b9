--- Bars and histograms.
-- @module gls.plot.bars
local core = require "gls.core"
local axes = require "gls.plot.axes"
local finite = require("gls.number").finite
local gnuplot = require "gls.plot.gnuplot"
local log = require "gls.log"
local options = require "gls.options"
local series = require "gls.plot.series"
local terminal = require "gls.terminal"
local quote = gnuplot.quote

local bars = {}

-- ---- in characters: a line for each bar ----

local EIGHTHS = { [0] = "", "▏", "▎", "▍", "▌", "▋", "▊", "▉" }

-- The bar from 0 to value, where a column is `unit`; below 0 it is drawn with minus signs.
local function bar(value, unit, color, colors)
  if value < 0 then return ("-"):rep(math.max(1, math.floor(-value / unit + 0.5))) end
  local eighths = math.floor(value / unit * 8 + 0.5)
  if value > 0 and eighths == 0 then eighths = 1 end
  local text = ("█"):rep(eighths // 8) .. EIGHTHS[eighths % 8]
  if colors < 1 << 24 or text == "" then return text end
  local red, green, blue = color:match "#(%x%x)(%x%x)(%x%x)"
  return terminal.paint(("38;2;%d;%d;%d"):format(tonumber(red, 16), tonumber(green, 16), tonumber(blue, 16)), text)
end

-- Lines "name ██▌ value" for parallel lists.
local function bar_lines(names, values, color, columns, colors)
  local widest, texts, widest_text, largest = 0, {}, 0, 0
  for i, value in ipairs(values) do
    texts[i] = ("%.4g"):format(value)
    widest, widest_text = math.max(widest, log.width(names[i])), math.max(widest_text, #texts[i])
    if finite(value) then largest = math.max(largest, math.abs(value)) end
  end
  local unit = largest / math.max(8, columns - widest - widest_text - 3)
  local lines = {}
  for i, value in ipairs(values) do
    local drawn = finite(value) and largest > 0 and bar(value, unit, color, colors) or ""
    lines[i] = ("%s %s %s"):format(log.pad(names[i], -widest), drawn, texts[i])
  end
  return lines
end

local function characters_of(panel, columns, colors)
  local settings, lines = panel.settings, {}
  if settings.title ~= "" then lines[1] = settings.title end
  for _, one in ipairs(panel.list) do
    if #panel.list > 1 then lines[#lines + 1] = one.name end
    for _, line in ipairs(bar_lines(one.names, one.values, one.color, columns, colors)) do lines[#lines + 1] = line end
  end
  if settings.note then lines[#lines + 1] = settings.note end
  return table.concat(lines, "\n") .. "\n"
end

-- ---- in a file ----

-- Boxes from `left` to `right` of each bar. Ticks are the names, where bars have names; else the numbers along x.
local function commands_of(panel, place)
  local settings = panel.settings
  local x_low, x_high, y_low, y_high, longest = math.huge, -math.huge, 0, 0, 0
  local blocks, drawn = {}, {}
  for i, one in ipairs(panel.list) do
    blocks[#blocks + 1] = ("$panel%d_%d << END"):format(place.number, i)
    for k, value in ipairs(one.values) do
      local left, right = one.edges[k][1], one.edges[k][2]
      x_low, x_high = math.min(x_low, left), math.max(x_high, right)
      if finite(value) then
        y_low, y_high = math.min(y_low, value), math.max(y_high, value)
        blocks[#blocks + 1] = ("%.9g %.9g %.9g %.9g"):format((left + right) / 2, value, left, right)
      end
      if panel.named then longest = math.max(longest, log.width(one.names[k])) end
    end
    blocks[#blocks + 1] = "END"
    drawn[i] = ("$panel%d_%d using 1:2:3:4:(0):2 with boxxyerrorbars fillstyle %s border rgb '#FFFFFF' "
      .. "linecolor rgb %q"):format(place.number, i, #panel.list > 1 and "transparent solid 0.55" or "solid 0.9",
      one.color)
  end
  if y_low == y_high then y_high = y_low + 1 end
  local room = (place.width - 120) / math.max(1, #panel.list[1].values)
  local turned = panel.named and longest * axes.FONT * 0.55 > room
  local bottom = 66 + (turned and math.min(longest * axes.FONT * 0.42, 150) or 0)
  local several, right = #panel.list > 1, 28
  for _, one in ipairs(several and panel.list or {}) do
    right = math.max(right, 28 + log.width(one.name) * axes.FONT * 0.6)
  end
  local commands = axes.frame(place, settings, axes.note_lines(settings.note, place.width - 110), { 92, bottom, right })
  table.insert(commands, 1, table.concat(blocks, "\n"))
  commands[#commands + 1] = ("set grid ytics linetype 1 linecolor rgb %q linewidth 1"):format(axes.GRID)
  local margin = (y_high - y_low) * 0.05
  commands[#commands + 1] = ("set xrange [%.9g:%.9g]; set yrange [%.9g:%.9g]"):format(x_low, x_high,
    y_low < 0 and y_low - margin or 0, y_high > 0 and y_high + margin or 0)
  if panel.named then
    local most = turned and (place.width - 120) / (axes.FONT * 1.2) or math.huge
    commands[#commands + 1] = ("set xtics %s (%s) noenhanced scale 0"):format(turned and "rotate by 35 right" or "",
      axes.named_ticks(panel.list[1].names, most))
  end
  for i, one in ipairs(several and panel.list or {}) do
    commands[#commands + 1] = ("set label %d %s at graph 1.012,%.4f left noenhanced textcolor rgb %q"):format(10 + i,
      quote(one.name), 1 - i * 0.06, one.color)
  end
  commands[#commands + 1] = "plot " .. table.concat(drawn, ", \\\n  ")
  return table.concat(commands, "\n")
end

local function panel_of(settings, list, named)
  series.give_colors(list)
  local panel = { settings = settings, list = list, named = named, width = 960, height = 600 }
  function panel.commands(place) return commands_of(panel, place) end
  function panel.characters(columns, _, colors) return characters_of(panel, columns, colors) end
  return panel
end

-- ---- bars ----

--- The panel of plot.bars.
function bars.panel(where, given, settings)
  local names, values = settings.names, {}
  if series.is_numbers(given) then
    values = options.list(where, series.numbers(where, given))
  elseif type(given) == "table" and names == nil then
    names = series.names_of(given)
    for i, name in ipairs(names) do values[i], names[i] = given[name], tostring(name) end
    series.numbers(where, values)
  else
    core.raise(where .. ": a tensor, a list of numbers with `names`, or a table { name = number } expected")
  end
  if #values == 0 then core.raise(where .. ": there are no bars to draw") end
  if names and #names ~= #values then
    core.raise(("%s: %d names for %d bars"):format(where, #names, #values))
  end
  local one = { name = "", names = {}, values = values, edges = {} }
  for i in ipairs(values) do
    one.names[i], one.edges[i] = tostring(names and names[i] or i), { i - 0.4, i + 0.4 }
  end
  return panel_of(settings, { one }, true)
end

-- ---- histograms ----

-- The finite numbers, the least and the greatest, and the others in words.
local function finite_of(numbers)
  local kept, low, high, nan, infinite = {}, math.huge, -math.huge, 0, 0
  for _, value in next, numbers do
    if finite(value) then
      kept[#kept + 1] = value
      low, high = math.min(low, value), math.max(high, value)
    elseif value ~= value then
      nan = nan + 1
    else
      infinite = infinite + 1
    end
  end
  return kept, low, high, nan, infinite
end

-- Bins by default: Rice's rule, 2 n^(1/3).
local function bin_count(where, given, count)
  if given == nil then return math.max(5, math.min(60, math.ceil(2 * count ^ (1 / 3)))) end
  if math.type(given) ~= "integer" or given < 1 or given > 10000 then
    core.raise(("%s: bins: a whole number from 1 to 10000 expected, got %s"):format(where, tostring(given)))
  end
  return given
end

--- The panel of plot.histogram.
function bars.histogram(where, given, settings)
  local list, nan, infinite, count, low, high = {}, 0, 0, 0, math.huge, -math.huge
  local function add(name, values)
    local kept, least, greatest, nans, infinities = finite_of(series.numbers(where, values))
    list[#list + 1] = { name = name, kept = kept }
    nan, infinite, count = nan + nans, infinite + infinities, math.max(count, #kept)
    low, high = math.min(low, least), math.max(high, greatest)
  end
  if series.is_numbers(given) or type(given) ~= "table" then
    add("", given)
  else
    for _, name in ipairs(series.names_of(given)) do add(tostring(name), given[name]) end
  end
  if count == 0 then core.raise(where .. ": there is no finite number to count") end
  local range = settings.range or { low, high }
  if type(range) ~= "table" or not (finite(range[1]) and finite(range[2]) and range[1] <= range[2]) then
    core.raise(where .. ": range is { low, high }")
  end
  low, high = range[1], range[2]
  if low == high then low, high = low - 0.5, high + 0.5 end
  local bins, outside = bin_count(where, settings.bins, count), 0
  local width = (high - low) / bins
  for _, one in ipairs(list) do
    one.values, one.names, one.edges = {}, {}, {}
    for i = 1, bins do
      one.values[i], one.edges[i] = 0, { low + (i - 1) * width, low + i * width }
      one.names[i] = ("%.3g"):format(low + (i - 0.5) * width)
    end
    for _, value in ipairs(one.kept) do
      if value < low or value > high then
        outside = outside + 1
      else
        local bin = math.min(bins, math.floor((value - low) / width) + 1)
        one.values[bin] = one.values[bin] + 1
      end
    end
    one.kept = nil
  end
  local left = {}
  if nan > 0 then left[#left + 1] = nan .. " NaN" end
  if infinite > 0 then left[#left + 1] = infinite .. " infinite" end
  if outside > 0 then left[#left + 1] = outside .. " outside the range" end
  if #left > 0 then
    settings.note = (settings.note and settings.note .. " · " or "") .. "left out: " .. table.concat(left, ", ")
  end
  if settings.y == "" then settings.y = "count" end
  return panel_of(settings, list, false)
end

return bars
