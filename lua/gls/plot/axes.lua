--- Axes: what the kinds of figures share: the place of a panel in its figure, ticks, margins, titles and notes.
-- @module gls.plot.axes
local log = require "gls.log"
local quote = require("gls.plot.gnuplot").quote

local axes = { INK = "#222222", FAINT = "#666666", GRID = "#E4E4E4", FONT = 15 }

--- The place of a panel: a rectangle in a figure, with the share of the figure at which a pixel of the panel lies.
-- @tparam integer number of the panel, which keeps the names of its data apart
-- @tparam table box { left, bottom, width, height } in pixels
-- @tparam integer width of the figure
-- @tparam integer height
function axes.place(number, box, width, height)
  return {
    number = number, width = box[3], height = box[4],
    x = function(pixels) return (box[1] + pixels) / width end,
    y = function(pixels) return (box[2] + pixels) / height end,
  }
end

-- ---- ticks ----

-- 0.002, 20, 3·10^{-5}
local function tick_text(mantissa, exponent)
  if exponent >= -3 and exponent <= 3 then return ("%g"):format(mantissa * 10.0 ^ exponent) end
  if mantissa == 1 then return ("10^{%d}"):format(exponent) end
  return ("%g·10^{%d}"):format(mantissa, exponent)
end

--- Labelled and unlabelled ticks of a logarithmic axis: powers of ten where there are three, else 1, 2, 5.
function axes.log_ticks(low, high)
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

--- The same in characters, which know no exponents.
function axes.log_ticks_in_characters(low, high)
  return (axes.log_ticks(low, high):gsub("10^{(%-?%d+)}", "1e%1"):gsub("·1e", "e"))
end

--- Names as ticks at 1, 2, 3, …; of many only as many as `most`.
function axes.named_ticks(names, most)
  local list, step = {}, math.max(1, math.ceil(#names / most))
  for i = 1, #names, step do list[#list + 1] = ("%s %d"):format(quote(names[i]), i) end
  return table.concat(list, ", ")
end

--- The range low to high with a margin.
function axes.widened(low, high, logarithmic)
  if logarithmic then
    local margin = math.max((high / low) ^ 0.05, 1.02)
    return math.max(low / margin, 1e-307), math.min(high * margin, 1e307)
  end
  local margin = math.max((high - low) * 0.05, math.abs(high) * 1e-3, 1e-12)
  return low - margin, high + margin
end

-- ---- around the axes ----

--- A note in lines that fit into so many pixels, broken at its middle dots.
function axes.note_lines(note, width)
  local lines, room = {}, width // (axes.FONT * 0.47)
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

--- Commands for margins in pixels of the panel, its title and note from the top downwards, and the texts of its axes:
-- the margin that SVG keeps for an xlabel is not the one that PNG keeps.
-- @tparam table place
-- @tparam table settings `title`, `x`, `y`
-- @tparam table notes lines
-- @tparam table margin { left, bottom, right }; the top follows from title and notes
-- @treturn table list of commands
-- @treturn number height of the axes in pixels
function axes.frame(place, settings, notes, margin)
  local left, bottom, right = table.unpack(margin)
  local head = settings.title ~= "" and 32 or 2
  local top = head + 22 + 20 * #notes
  local INK, FAINT, FONT = axes.INK, axes.FAINT, axes.FONT
  local commands = {
    ("set lmargin at screen %.4f; set rmargin at screen %.4f"):format(place.x(left), place.x(place.width - right)),
    ("set bmargin at screen %.4f; set tmargin at screen %.4f"):format(place.y(bottom), place.y(place.height - top)),
    "unset key",
    ("set border 3 linecolor rgb %q linewidth 1"):format(FAINT),
    ("set tics nomirror out scale 0.6 textcolor rgb %q"):format(INK),
    ("set label 1 %s at screen %.4f,%.4f left noenhanced font ',%d' textcolor rgb %q"):format(quote(settings.title),
      place.x(left), place.y(place.height - 26), math.floor(FONT * 1.2), INK),
    ("set label 2 %s at graph 0.5, screen %.4f center noenhanced textcolor rgb %q"):format(quote(settings.x),
      place.y(15), INK),
    ("set ylabel %s textcolor rgb %q offset 0.5,0 noenhanced"):format(quote(settings.y), INK),
  }
  for i, line in ipairs(notes) do
    commands[#commands + 1] = ("set label %d %s at screen %.4f,%.4f left noenhanced font ',%d' textcolor rgb %q")
      :format(2 + i, quote(line), place.x(left), place.y(place.height - head - 19 * i), math.floor(FONT * 0.85), FAINT)
  end
  return commands, place.height - bottom - top
end

return axes
