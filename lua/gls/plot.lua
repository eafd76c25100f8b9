--- Plot: figures by gnuplot, as SVG, PNG or characters in a terminal. Lines with bands and labels at their ends,
-- and heat maps. Colours are those of Okabe and Ito (2008), told apart by colour-blind readers; an optimizer has
-- the same colour in every figure.
-- @module gls.plot
local file = require "gls.file"
local finite = require("gls.number").finite
local log = require "gls.log"
local options = require "gls.options"

local plot = {}

--- Colours of names that are compared often; another name takes the next colour that its figure leaves free.
plot.colors = {
  sgd = "#6B6B6B",
  momentum = "#E69F00",
  adam = "#0072B2",
  adamw = "#56B4E9",
  gls = "#D55E00",
  ["gls-matched"] = "#009E73",
  ["gls-graft"] = "#CC79A7",
  ["gls-moving"] = "#8C6D1F",
  ["gls-window"] = "#5D3A9B",
}
local FREE = { "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#6B6B6B", "#000000" }

local INK, FAINT, GRID = "#222222", "#666666", "#E4E4E4"
local WIDTH, HEIGHT, FONT = 960, 600, 15

local function quote(text) return "'" .. tostring(text):gsub("'", "''"):gsub("%c", " ") .. "'" end
local function shell(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

-- ---- running gnuplot ----

-- Writes commands and data beside the figure and runs gnuplot on them; they stay when that fails, so that nothing
-- has to be computed again. Gives what gnuplot printed.
local function run(path, text)
  file.replace(path, text)
  if not os.execute "command -v gnuplot >/dev/null 2>&1" then
    error(("plot: gnuplot is not installed (package gnuplot-nox: apt install gnuplot-nox). The figure's data and "
      .. "commands are kept: gnuplot %s"):format(path), 0)
  end
  local pipe = io.popen("gnuplot " .. shell(path) .. " 2>" .. shell(path .. ".log"), "r")
  local output = pipe:read "a"
  local good = pipe:close()
  local complaint = file.read(path .. ".log") or ""
  os.remove(path .. ".log")
  if not good then
    error(("plot: gnuplot failed on %s, which is kept: %s"):format(path, complaint:gsub("%s+$", "")), 0)
  end
  os.remove(path)
  return output
end

-- What gnuplot drew; it says nothing of a full disk: a picture is whole when it has its format's end.
local function take_picture(temporary, extension)
  local text = file.read(temporary) or ""
  os.remove(temporary)
  if extension == "svg" and text:find("</svg>%s*$") or extension == "png" and text:sub(-8, -5) == "IEND" then
    return text
  end
  error(("plot: %s was not written to its end (is the disk full?); an older figure is kept"):format(temporary), 0)
end

-- A figure in a file: commands(terminal) gives the text after the terminal's choice. The file is replaced whole.
local function figure(where, path, width, height, commands)
  local extension = type(path) == "string" and path:match "%.(%w+)$"
  local temporary = path .. ".new"
  local terminal
  if extension == "svg" then
    terminal = ('svg size %d,%d dynamic enhanced font "Helvetica,%d" background "#FFFFFF"'):format(width, height, FONT)
  elseif extension == "png" then
    terminal = ('pngcairo size %d,%d enhanced font "Sans,%.1f" background "#FFFFFF"'):format(width, height, FONT * 0.75)
  else
    error(("%s: file %q: expected a name that ends in .svg or .png"):format(where, path), 0)
  end
  local header = ("set encoding utf8\nset terminal %s\nset output %s\n"):format(terminal, quote(temporary))
  if path:find "%c" then error(("%s: file %q: a control character in the name"):format(where, path), 0) end
  run(path:gsub("%.%w+$", "") .. ".gnuplot", header .. commands .. "\nunset output\n")
  file.replace(path, take_picture(temporary, extension))
  return path
end

-- ---- axes ----

-- 0.002, 20, 3·10^{-5}
local function tick_text(mantissa, exponent)
  if exponent >= -3 and exponent <= 3 then return ("%g"):format(mantissa * 10.0 ^ exponent) end
  if mantissa == 1 then return ("10^{%d}"):format(exponent) end
  return ("%g·10^{%d}"):format(mantissa, exponent)
end

-- Labelled and unlabelled ticks of a logarithmic axis: powers of ten where there are three, else 1, 2, 5.
local function log_ticks(low, high)
  local ticks = {}
  local decades = math.log(high / low, 10)
  local step = math.max(1, math.ceil(decades / 10))
  local labelled = { [1] = true }
  if decades < 3 then labelled[2], labelled[5] = true, true end
  if decades < 0.8 then labelled[3], labelled[7] = true, true end
  for exponent = math.floor(math.log(low, 10)), math.ceil(math.log(high, 10)) do
    for mantissa = 1, 9 do
      local value = mantissa * 10.0 ^ exponent
      if value >= low * 0.9999 and value <= high * 1.0001 then
        if labelled[mantissa] and exponent % step == 0 then
          ticks[#ticks + 1] = ('"%s" %.6e'):format(tick_text(mantissa, exponent), value)
        elseif decades < 8 then
          ticks[#ticks + 1] = ('"" %.6e 1'):format(value)
        end
      end
    end
  end
  return table.concat(ticks, ", ")
end

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

-- ---- lines ----

local SERIES = {
  name = options.required, x = options.required, y = options.required,
  low = options.none, high = options.none, dashed = false, color = options.none, label = options.none, thin = false,
}

-- Checked series with points (x, y, low, high) that can be drawn, and a colour each.
local function prepare(settings)
  local result, taken = {}, {}
  local logarithmic = settings.log and settings.log:find "y" ~= nil
  for i, given in ipairs(options.list("plot.lines: series", settings.series)) do
    local where = "plot.lines: series " .. i
    local series = options.check(where, given, SERIES)
    if type(series.x) ~= "table" or type(series.y) ~= "table" then
      error(where .. " (" .. tostring(series.name) .. "): x and y are lists of numbers", 3)
    end
    local points = {}
    for j = 1, math.max(#series.x, #series.y) do
      local x, y = series.x[j], series.y[j]
      local low, high = series.low and series.low[j], series.high and series.high[j]
      if finite(x) and finite(y) and not (logarithmic and y <= 0) then
        if not (finite(low) and finite(high)) or (logarithmic and low <= 0) then low, high = y, y end
        points[#points + 1] = { x, y, low, high }
      end
    end
    series.points = points
    series.color = series.color or plot.colors[series.name]
    if series.color then taken[series.color] = true end
    if series.label == nil then series.label = not series.dashed end
    if #points > 0 then result[#result + 1] = series end
  end
  local by_name, free = {}, {}
  for _, color in ipairs(FREE) do
    if not taken[color] then free[#free + 1] = color end
  end
  for _, series in ipairs(result) do
    if not series.color then
      by_name[series.name] = by_name[series.name] or table.remove(free, 1) or "#000000"
      series.color = by_name[series.name]
    end
  end
  return result, logarithmic
end

-- Ranges of both axes over all points and bands.
local function ranges(prepared, logarithmic, from)
  local x_low, x_high, y_low, y_high = from or math.huge, -math.huge, math.huge, -math.huge
  for _, series in ipairs(prepared) do
    for _, point in ipairs(series.points) do
      x_low, x_high = math.min(x_low, point[1]), math.max(x_high, point[1])
      y_low, y_high = math.min(y_low, point[3]), math.max(y_high, point[4])
    end
  end
  if x_low == x_high then x_low, x_high = x_low - 0.5, x_high + 0.5 end
  if logarithmic then
    local margin = math.max((y_high / y_low) ^ 0.05, 1.02)
    y_low, y_high = math.max(y_low / margin, 1e-307), math.min(y_high * margin, 1e307)
  else
    local margin = math.max((y_high - y_low) * 0.05, math.abs(y_high) * 1e-3, 1e-12)
    y_low, y_high = y_low - margin, y_high + margin
  end
  return x_low, x_high, y_low, y_high
end

local function data_blocks(prepared)
  local lines = {}
  for i, series in ipairs(prepared) do
    lines[#lines + 1] = ("$series%d << END"):format(i)
    for _, point in ipairs(series.points) do
      lines[#lines + 1] = ("%.9g %.9g %.9g %.9g"):format(table.unpack(point))
    end
    lines[#lines + 1] = "END"
  end
  return table.concat(lines, "\n")
end

-- A note in lines that fit, broken at its middle dots.
local function note_lines(note, width)
  local lines, room = {}, width // (FONT * 0.47)
  for part in ((note or "") .. " · "):gmatch "(.-) · " do
    local line = lines[#lines]
    if line and log.width(line) + log.width(part) + 3 <= room then
      lines[#lines] = line .. " · " .. part
    elseif part ~= "" then
      lines[#lines + 1] = part
    end
  end
  return lines
end

-- Title and note, from the top of a figure downwards, and the text under the x axis: the margin that SVG keeps for an
-- xlabel is not the one that PNG keeps.
local function heading(commands, settings, notes, left, width, height)
  commands[#commands + 1] = ("set label 1 %s at screen %.4f,%.4f left noenhanced font ',%d' textcolor rgb %q")
    :format(quote(settings.title), left / width, 1 - 26 / height, math.floor(FONT * 1.2), INK)
  commands[#commands + 1] = ("set label 2 %s at graph 0.5, screen %.4f center noenhanced textcolor rgb %q")
    :format(quote(settings.x), 15 / height, INK)
  for i, line in ipairs(notes) do
    commands[#commands + 1] = ("set label %d %s at screen %.4f,%.4f left noenhanced font ',%d' textcolor rgb %q")
      :format(2 + i, quote(line), left / width, 1 - (32 + 19 * i) / height, math.floor(FONT * 0.85), FAINT)
  end
end

local function has_band(series)
  for _, point in ipairs(series.points) do
    if point[3] ~= point[4] then return true end
  end
  return false
end

local function line_commands(settings, prepared, logarithmic)
  local x_low, x_high, y_low, y_high = ranges(prepared, logarithmic, settings.from)
  local longest = 0
  for _, series in ipairs(prepared) do
    if series.label then longest = math.max(longest, log.width(series.name)) end
  end
  local notes = note_lines(settings.note, WIDTH - 110)
  local left, bottom, top = 92, 66, 54 + 20 * #notes
  local right = 28 + math.max(30, longest * FONT * 0.58)
  local plot_height = HEIGHT - bottom - top
  local commands = {
    data_blocks(prepared),
    ("set lmargin at screen %.4f; set rmargin at screen %.4f"):format(left / WIDTH, 1 - right / WIDTH),
    ("set bmargin at screen %.4f; set tmargin at screen %.4f"):format(bottom / HEIGHT, 1 - top / HEIGHT),
    "unset key",
    ("set border 3 linecolor rgb %q linewidth 1"):format(FAINT),
    ("set grid xtics ytics linetype 1 linecolor rgb %q linewidth 1"):format(GRID),
    ("set tics nomirror out scale 0.6 textcolor rgb %q"):format(INK),
    ("set xrange [%.9g:%.9g]; set yrange [%.9g:%.9g]"):format(x_low, x_high, y_low, y_high),
    ("set ylabel %s textcolor rgb %q offset 0.5,0 noenhanced"):format(quote(settings.y), INK),
  }
  heading(commands, settings, notes, left, WIDTH, HEIGHT)
  local function height(y)
    if logarithmic then return math.log(y / y_low) / math.log(y_high / y_low) end
    return (y - y_low) / (y_high - y_low)
  end
  if logarithmic then
    commands[#commands + 1] = "set logscale y"
    commands[#commands + 1] = "set ytics (" .. log_ticks(y_low, y_high) .. ")"
  end
  -- Each line is named at its end, in its colour.
  local labelled, positions = {}, {}
  for _, series in ipairs(prepared) do
    if series.label then
      labelled[#labelled + 1] = series
      positions[#positions + 1] = height(series.points[#series.points][2])
    end
  end
  local places = spread(positions, FONT * 1.3 / plot_height)
  for i, series in ipairs(labelled) do
    commands[#commands + 1] = ("set label %d %s at graph 1.012,%.4f left noenhanced textcolor rgb %q")
      :format(10 + i, quote(series.name), places[i], series.color)
  end
  local drawn = {}
  for i, series in ipairs(prepared) do
    if has_band(series) then
      drawn[#drawn + 1] = ("$series%d using 1:3:4 with filledcurves linecolor rgb %q fillstyle transparent solid %s "
        .. "noborder"):format(i, series.color, series.dashed and "0.08" or "0.16")
    end
  end
  for i, series in ipairs(prepared) do
    local style = #series.points <= 30 and not series.dashed and not series.thin
        and "linespoints pointtype 7 pointsize 0.35" or "lines"
    if #series.points == 1 then style = "points pointtype 7 pointsize 0.8" end
    drawn[#drawn + 1] = ("$series%d using 1:2 with %s linecolor rgb %q linewidth %s%s"):format(i, style, series.color,
      series.thin and "1" or series.dashed and "1.6" or "2.4",
      series.dashed and #series.points > 1 and " dashtype (14,8)" or "")
  end
  commands[#commands + 1] = "plot " .. table.concat(drawn, ", \\\n  ")
  return table.concat(commands, "\n")
end

-- The same in characters: no bands, no dashed lines, a legend.
local function character_commands(settings, prepared, logarithmic)
  local x_low, x_high, y_low, y_high = ranges(prepared, logarithmic, settings.from)
  local commands = {
    data_blocks(prepared),
    ("set terminal dumb size %d,%d%s"):format(settings.columns, settings.rows, settings.ansi and " ansirgb" or ""),
    ("set title %s noenhanced"):format(quote(settings.title)),
    ("set xlabel %s noenhanced"):format(quote(settings.x)),
    ("set ylabel %s noenhanced norotate offset 1,0"):format(quote(settings.y)),
    "set key outside right top noenhanced reverse Left",
    ("set xrange [%.9g:%.9g]; set yrange [%.9g:%.9g]"):format(x_low, x_high, y_low, y_high),
    "set tics nomirror",
  }
  if logarithmic then
    commands[#commands + 1] = "set logscale y"
    local ticks = log_ticks(y_low, y_high):gsub("10^{(%-?%d+)}", "1e%1"):gsub("·1e", "e")
    commands[#commands + 1] = "set ytics (" .. ticks .. ")"
  end
  local drawn = {}
  for i, series in ipairs(prepared) do
    if series.label then
      drawn[#drawn + 1] = ("$series%d using 1:2 with %s linecolor rgb %q title %s"):format(i,
        #series.points == 1 and "points" or "lines", series.color, quote(series.name))
    end
  end
  commands[#commands + 1] = "plot " .. table.concat(drawn, ", ")
  return table.concat(commands, "\n") .. "\n"
end

--- Lines, named at their ends.
-- @tparam table settings
-- `title`, `x`, `y` (texts of the axes), `from` (the x axis begins there or before), `note` (a line under the
-- title, broken at its " · " when it is long), `log = "y"` (points that are not positive are left out), `series`: a
-- list of `{ name =, x = {…}, y = {…}, low = {…}, high = {…} (a band), dashed = false, thin = false,
-- color = "#RRGGBB", label = true unless dashed }`; values that are nil or not finite are left out. `file`: a name
-- ending in .svg or .png; without it the figure is printed in characters, `columns` × `rows` (default 80 × 24,
-- `ansi = true` with colours).
-- @treturn string the file; without one the characters, not printed when `print = false`
-- @raise when gnuplot is missing or fails; its commands and data are then kept beside the file and named
function plot.lines(settings)
  settings = options.check("plot.lines", settings, {
    title = "", x = "", y = "", from = options.none, note = options.none, log = options.none,
    series = options.required, file = options.none, columns = 80, rows = 24, ansi = false, print = true,
  })
  local prepared, logarithmic = prepare(settings)
  if #prepared == 0 then error("plot.lines: no series has a point that can be drawn", 2) end
  if settings.file then
    return figure("plot.lines", settings.file, WIDTH, HEIGHT, line_commands(settings, prepared, logarithmic))
  end
  local path = os.tmpname()
  local output = run(path, "set encoding utf8\n" .. character_commands(settings, prepared, logarithmic))
  output = output:gsub("\f", ""):gsub("^%s*\n", ""):gsub("%s+$", "\n")
  if settings.print then io.write(output) end
  return output
end

-- ---- heat map ----

-- Viridis (van der Walt and Smith 2015) at nine places.
local VIRIDIS = {
  { 0.267, 0.005, 0.329 }, { 0.283, 0.141, 0.458 }, { 0.254, 0.265, 0.530 }, { 0.207, 0.372, 0.553 },
  { 0.164, 0.471, 0.558 }, { 0.128, 0.567, 0.551 }, { 0.267, 0.749, 0.441 }, { 0.628, 0.855, 0.250 },
  { 0.993, 0.906, 0.144 },
}

--- A heat map of a table of numbers, each written in its cell; cells without a finite number are grey, those that are
-- nan also empty.
-- @tparam table settings
-- `title`, `note`, `x`, `y` (texts of the axes), `columns`, `rows` (lists of the names along x and y), `values`
-- (a list of rows, the first at the foot, each a list of numbers), `log = true` (colours by the logarithm),
-- `missing` (text in cells that are infinite, default "diverged"), `file` (a name ending in .svg or .png)
-- @treturn string the file
-- @raise as `plot.lines`
function plot.heat(settings)
  settings = options.check("plot.heat", settings, {
    title = "", x = "", y = "", note = options.none, columns = options.required, rows = options.required,
    values = options.required, log = false, missing = "diverged", file = options.required,
  })
  for _, name in ipairs { "columns", "rows", "values" } do options.list("plot.heat: " .. name, settings[name]) end
  local column_count, row_count = #settings.columns, #settings.rows
  if #settings.values ~= row_count then
    error(("plot.heat: %d names of rows, but %d rows of values"):format(row_count, #settings.values), 2)
  end
  local function scale(value) return settings.log and math.log(value, 10) or value end
  local low, high = math.huge, -math.huge
  local function drawable(value) return finite(value) and not (settings.log and value <= 0) end
  for i = 1, row_count do
    for j = 1, column_count do
      local value = settings.values[i][j]
      if drawable(value) then low, high = math.min(low, scale(value)), math.max(high, scale(value)) end
    end
  end
  if low > high then low, high = 0, 1 elseif low == high then low, high = low - 0.5, high + 0.5 end
  local cells, blank, texts = { "$cells << END" }, { "$blank << END" }, {}
  for i = 1, row_count do
    for j = 1, column_count do
      local value = settings.values[i][j]
      local place = ("%d %d"):format(j, i)
      local text, color = settings.missing, "#444444"
      if drawable(value) then
        cells[#cells + 1] = ("%s %.9g"):format(place, scale(value))
        -- Viridis is light at its upper end.
        text = ("%.2g"):format(value):gsub("e([+-])0", "e%1")
        color = (scale(value) - low) / (high - low) > 0.6 and "#111111" or "#FFFFFF"
      else
        blank[#blank + 1] = place
        if value ~= value then text = "" end
      end
      texts[#texts + 1] = ("set label %d %s at %d,%d center noenhanced front font ',%d' textcolor rgb %q")
        :format(100 + #texts, quote(text), j, i, math.floor(FONT * 0.8), color)
    end
  end
  cells[#cells + 1], blank[#blank + 1] = "END", "END"
  local function ticks(names)
    local list = {}
    for i, name in ipairs(names) do list[i] = ("%s %d"):format(quote(name), i) end
    return table.concat(list, ", ")
  end
  local palette = {}
  for i, color in ipairs(VIRIDIS) do palette[i] = ("%d %.3f %.3f %.3f"):format(i - 1, table.unpack(color)) end
  local box = "using 1:2:($1-0.5):($1+0.5):($2-0.5):($2+0.5)"
  local drawn = {}
  local style = " with boxxyerror fillstyle solid border rgb '#FFFFFF' linecolor "
  if #cells > 2 then drawn[1] = "$cells " .. box .. ":3" .. style .. "palette" end
  if #blank > 2 then drawn[#drawn + 1] = "$blank " .. box .. style .. "rgb '#CFCFCF'" end
  local width = math.max(560, math.min(240 + 82 * column_count, 1400))
  local notes = note_lines(settings.note, width - 140)
  local top = 54 + 20 * #notes
  local height = math.max(320, math.min(76 + top + 48 * row_count, 1100))
  local commands = {
    table.concat(cells, "\n"), table.concat(blank, "\n"), table.concat(texts, "\n"),
    "unset key; unset grid",
    ("set border 0; set tics nomirror scale 0 textcolor rgb %q"):format(INK),
    ("set lmargin at screen %.4f; set rmargin at screen %.4f"):format(120 / width, 1 - 110 / width),
    ("set bmargin at screen %.4f; set tmargin at screen %.4f"):format(76 / height, 1 - top / height),
    ("set xrange [0.5:%g]; set yrange [0.5:%g]"):format(column_count + 0.5, row_count + 0.5),
    "set xtics (" .. ticks(settings.columns) .. ") noenhanced; set ytics (" .. ticks(settings.rows) .. ") noenhanced",
    ("set ylabel %s noenhanced"):format(quote(settings.y)),
    "set palette defined (" .. table.concat(palette, ", ") .. ")",
    ("set cbrange [%.9g:%.9g]; set format cb %q"):format(low, high, settings.log and "10^{%g}" or "%g"),
    ("set cbtics %s"):format(settings.log and high - low >= 2 and math.ceil((high - low) / 8) or "autofreq"),
  }
  heading(commands, settings, notes, 120, width, height)
  commands[#commands + 1] = "plot " .. table.concat(drawn, ", ")
  return figure("plot.heat", settings.file, width, height, table.concat(commands, "\n"))
end

return require("gls.strict").module("plot", plot)
