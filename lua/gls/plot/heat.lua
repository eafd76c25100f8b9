--- Heat: heat maps of tables of numbers, in the colours of viridis (van der Walt and Smith 2015).
-- @module gls.plot.heat
local axes = require "gls.plot.axes"
local core = require "gls.core"
local finite = require("gls.number").finite
local gnuplot = require "gls.plot.gnuplot"
local log = require "gls.log"
local options = require "gls.options"
local picture = require "gls.plot.picture"
local quote = gnuplot.quote

local heat = {}

-- Viridis at nine places.
local VIRIDIS = {
  { 0.267, 0.005, 0.329 }, { 0.283, 0.141, 0.458 }, { 0.254, 0.265, 0.530 }, { 0.207, 0.372, 0.553 },
  { 0.164, 0.471, 0.558 }, { 0.128, 0.567, 0.551 }, { 0.267, 0.749, 0.441 }, { 0.628, 0.855, 0.250 },
  { 0.993, 0.906, 0.144 },
}
local MISSING = 0.81 -- the grey of cells without a number
local LIGHT = 0.6 -- viridis is light above this share
local WRITTEN = 400 -- cells at most that have their number written in them
local LARGEST = 4 -- pixels a cell at most, in a terminal

-- Red, green and blue of a share from 0 to 1.
local function color_of(share)
  local place = share * (#VIRIDIS - 1)
  local i = math.min(math.floor(place) + 1, #VIRIDIS - 1)
  local rest, result = place - (i - 1), {}
  for c = 1, 3 do result[c] = VIRIDIS[i][c] + rest * (VIRIDIS[i + 1][c] - VIRIDIS[i][c]) end
  return result
end

local function number_text(value) return (("%.2g"):format(value):gsub("e([+-])0", "e%1")) end

-- ---- values ----

-- Rows of numbers of a tensor or a list of lists; the first at the top as the user wishes.
local function rows_of(where, given)
  if core.is_tensor(given) then
    if given:dim() ~= 2 then
      core.raise(("%s: a tensor of %d dimensions, expected 2"):format(where, given:dim()))
    end
    local _ <close> = core.no_grad()
    return given:detach():tolist()
  end
  if type(given) ~= "table" then
    core.raise(("%s: a tensor or a list of rows expected, got %s"):format(where, type(given)))
  end
  for i, row in ipairs(options.list(where .. ": values", given)) do
    if type(row) ~= "table" then core.raise(("%s: row %d is a %s, a list expected"):format(where, i, type(row))) end
  end
  return given
end

local function check_names(where, what, names, count)
  if not names then return end
  options.list(where .. ": " .. what, names)
  if #names ~= count then
    core.raise(("%s: %d names of %s, but %d %s of values"):format(where, #names, what, count, what))
  end
end

-- ---- as pixels ----

-- The rows in the order in which they stand, from the top.
local function places(panel)
  local order = {}
  for i = 1, panel.height_in_cells do order[i] = panel.top and i or panel.height_in_cells + 1 - i end
  return order
end

-- A PNG file with so many pixels a cell; `close` of the panel removes it.
local function png_of(panel, pixels)
  local layers = { {}, {}, {} }
  for _, i in ipairs(places(panel)) do
    local lines = { {}, {}, {} }
    for j = 1, panel.width_in_cells do
      local value = panel.values[i][j]
      local color = panel.drawable(value) and color_of(panel.share(value)) or { MISSING, MISSING, MISSING }
      for c = 1, 3 do
        for _ = 1, pixels do lines[c][#lines[c] + 1] = color[c] end
      end
    end
    for c = 1, 3 do
      for _ = 1, pixels do layers[c][#layers[c] + 1] = lines[c] end
    end
  end
  local _ <close> = core.scope()
  panel.path = panel.path or os.tmpname()
  core.save_image(panel.path, core.tensor(layers))
  return panel.path
end

-- ---- in a file ----

local function palette()
  local list = {}
  for i, color in ipairs(VIRIDIS) do list[i] = ("%d %.3f %.3f %.3f"):format(i - 1, table.unpack(color)) end
  return "set palette defined (" .. table.concat(list, ", ") .. ")"
end

local function commands_of(panel, place)
  local settings = panel.settings
  local cells, blank, texts = {}, {}, {}
  for i = 1, panel.height_in_cells do
    local y = panel.top and panel.height_in_cells + 1 - i or i
    for j = 1, panel.width_in_cells do
      local value = panel.values[i][j]
      local at, text, color = ("%d %d"):format(j, y), settings.missing, "#444444"
      if panel.drawable(value) then
        cells[#cells + 1] = ("%s %.9g"):format(at, panel.scale(value))
        text, color = number_text(value), panel.share(value) > LIGHT and "#111111" or "#FFFFFF"
      else
        blank[#blank + 1] = at
        if value ~= value then text = "" end
      end
      if panel.written then
        texts[#texts + 1] = ("set label %d %s at %d,%d center noenhanced front font ',%d' textcolor rgb %q")
          :format(100 + #texts, quote(text), j, y, math.floor(axes.FONT * 0.8), color)
      end
    end
  end
  local data = ("$cells%d << END\n%s\nEND\n$blank%d << END\n%s\nEND"):format(place.number, table.concat(cells, "\n"),
    place.number, table.concat(blank, "\n"))
  local commands = axes.frame(place, settings, axes.note_lines(settings.note, place.width - 140), { 120, 76, 110 })
  table.insert(commands, 1, data)
  for _, command in ipairs {
    table.concat(texts, "\n"), "set border 0; set tics scale 0",
    ("set xrange [0.5:%g]; set yrange [0.5:%g]"):format(panel.width_in_cells + 0.5, panel.height_in_cells + 0.5),
    palette(), ("set cbrange [%.9g:%.9g]; set format cb %q"):format(panel.low, panel.high,
      settings.log and "10^{%g}" or "%g"),
    ("set cbtics %s"):format(settings.log and panel.high - panel.low >= 2 and math.ceil((panel.high - panel.low) / 8)
      or "autofreq"),
  } do commands[#commands + 1] = command end
  local function ticks(axis, names, count, room, turned)
    local list = {}
    for i = 1, count do list[turned and count + 1 - i or i] = names and names[i] or tostring(i) end
    commands[#commands + 1] = ("set %stics (%s) noenhanced"):format(axis, axes.named_ticks(list, room))
  end
  ticks("x", settings.columns, panel.width_in_cells, (place.width - 230) / 40, false)
  ticks("y", settings.rows, panel.height_in_cells, (place.height - 130) / 20, panel.top)
  local box, drawn = "using 1:2:($1-0.5):($1+0.5):($2-0.5):($2+0.5)", {}
  local style = " with boxxyerror fillstyle solid border rgb '#FFFFFF' linecolor "
  if #cells > 0 and panel.written then
    drawn[1] = ("$cells%d "):format(place.number) .. box .. ":3" .. style .. "palette"
  end
  if #blank > 0 and panel.written then
    drawn[#drawn + 1] = ("$blank%d "):format(place.number) .. box .. style .. "rgb '#CFCFCF'"
  end
  if not panel.written then -- a picture, and a point outside of it for the scale's sake
    local pixels = math.max(1, math.ceil(700 / panel.width_in_cells))
    drawn[1] = ("%s binary filetype=png origin=(%.9g,%.9g) dx=%.9g dy=%.9g with rgbimage"):format(
      quote(png_of(panel, pixels)), 0.5 + 0.5 / pixels, 0.5 + 0.5 / pixels, 1 / pixels, 1 / pixels)
    drawn[2] = ("$cells%d using (0):(0):3 every ::0::0 with points palette"):format(place.number)
  end
  commands[#commands + 1] = "plot " .. table.concat(drawn, ", ")
  return table.concat(commands, "\n")
end

-- ---- in characters ----

-- A table of the numbers, in their colours where there are any; nil where it is too wide.
local function table_of(panel, columns, colors)
  local settings, name_width, cell = panel.settings, 0, 0
  for i = 1, panel.height_in_cells do
    name_width = math.max(name_width, log.width(settings.rows and settings.rows[i] or tostring(i)))
    for j = 1, panel.width_in_cells do
      local value = panel.values[i][j]
      cell = math.max(cell, #(finite(value) and number_text(value) or tostring(value)) + 2)
    end
  end
  for j = 1, panel.width_in_cells do
    cell = math.max(cell, math.min(12, log.width(settings.columns and settings.columns[j] or tostring(j)) + 2))
  end
  if name_width + cell * panel.width_in_cells > columns then return nil end
  local heads = { (" "):rep(name_width) }
  for j = 1, panel.width_in_cells do
    heads[j + 1] = log.pad(" " .. (settings.columns and settings.columns[j] or tostring(j)), cell)
  end
  local lines = { (table.concat(heads):gsub("%s+$", "")) }
  for _, i in ipairs(places(panel)) do
    local line = { log.pad(settings.rows and settings.rows[i] or tostring(i), name_width) }
    for j = 1, panel.width_in_cells do
      local value = panel.values[i][j]
      local text = log.pad(" " .. (finite(value) and number_text(value) or tostring(value)), cell)
      if colors == 1 << 24 and panel.drawable(value) then
        local color = color_of(panel.share(value))
        text = ("\27[48;2;%d;%d;%d;%sm%s\27[0m"):format(color[1] * 255 // 1, color[2] * 255 // 1, color[3] * 255 // 1,
          panel.share(value) > LIGHT and "30" or "97", text)
      end
      line[#line + 1] = text
    end
    lines[#lines + 1] = (table.concat(line):gsub("%s+$", ""))
  end
  return table.concat(lines, "\n") .. "\n"
end

-- A picture with some pixels a cell, and what the darkest and the lightest stand for.
local function picture_of(panel, columns, rows)
  local pixels = math.max(1, math.min(LARGEST, columns // panel.width_in_cells, 2 * rows // panel.height_in_cells))
  local text = picture.of(png_of(panel, pixels), columns, rows)
  local low, high = panel.low, panel.high
  if panel.settings.log then low, high = 10.0 ^ low, 10.0 ^ high end
  return text .. ("dark %.4g, light %.4g\n"):format(low, high)
end

local function characters_of(panel, columns, rows, colors)
  local settings = panel.settings
  local text = panel.written and panel.height_in_cells <= rows and table_of(panel, columns, colors)
    or picture_of(panel, columns, rows - 3)
  return (settings.title ~= "" and settings.title .. "\n" or "") .. text
    .. (settings.note and settings.note .. "\n" or "")
end

--- The panel of plot.heat.
function heat.panel(where, given, settings)
  local values = rows_of(where, given)
  local panel = { settings = settings, values = values, height_in_cells = #values }
  panel.width_in_cells = settings.columns and #settings.columns or values[1] and #values[1] or 0
  check_names(where, "rows", settings.rows, #values)
  check_names(where, "columns", settings.columns, panel.width_in_cells)
  if panel.height_in_cells == 0 or panel.width_in_cells == 0 then core.raise(where .. ": there are no values") end
  panel.top = settings.rows == nil
  function panel.scale(value) return settings.log and math.log(value, 10) or value end
  function panel.drawable(value) return finite(value) and not (settings.log and value <= 0) end
  local low, high = math.huge, -math.huge
  for _, row in ipairs(values) do
    for j = 1, panel.width_in_cells do
      if panel.drawable(row[j]) then
        low, high = math.min(low, panel.scale(row[j])), math.max(high, panel.scale(row[j]))
      end
    end
  end
  if low > high then low, high = 0, 1 elseif low == high then low, high = low - 0.5, high + 0.5 end
  panel.low, panel.high = low, high
  function panel.share(value) return (panel.scale(value) - low) / (high - low) end
  panel.written = panel.width_in_cells * panel.height_in_cells <= WRITTEN and panel.width_in_cells <= 20
  panel.width = math.max(560, math.min(240 + 82 * panel.width_in_cells, panel.written and 1400 or 960))
  local notes = axes.note_lines(settings.note, panel.width - 140)
  panel.height = math.max(320, math.min(130 + 20 * #notes + 48 * panel.height_in_cells, panel.written and 1100 or 720))
  function panel.close()
    if panel.path then os.remove(panel.path) end
  end
  function panel.commands(place) return commands_of(panel, place) end
  function panel.characters(columns, rows, colors) return characters_of(panel, columns, rows, colors) end
  return panel
end

return heat
