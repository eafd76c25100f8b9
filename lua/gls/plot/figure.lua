--- Figure: panels drawn in a file, or in characters or as a picture in the terminal.
-- A panel is { width =, height = (pixels), settings =, commands = f(place), characters = f(columns, rows, colors),
-- close = f() or nil }.
-- @module gls.plot.figure
local core = require "gls.core"
local axes = require "gls.plot.axes"
local gnuplot = require "gls.plot.gnuplot"
local picture = require "gls.plot.picture"
local terminal = require "gls.terminal"

local figure = {}

-- Title of a figure with several panels, in pixels.
local HEAD = 44

-- Panels in a grid: each column as wide as its widest, each row as high as its highest panel, or as fits `size`.
local function layout(panels, columns, size, title)
  local widths, heights = {}, {}
  for i, panel in ipairs(panels) do
    local column, row = (i - 1) % columns + 1, (i - 1) // columns + 1
    widths[column] = math.max(widths[column] or 0, panel.width)
    heights[row] = math.max(heights[row] or 0, panel.height)
  end
  local head, width, height = title ~= "" and HEAD or 0, 0, 0
  for _, value in ipairs(widths) do width = width + value end
  for _, value in ipairs(heights) do height = height + value end
  local scale_x, scale_y = 1, 1
  if size then scale_x, scale_y = size[1] / width, (size[2] - head) / height end
  local boxes, top = {}, head
  for row = 1, #heights do
    local left = 0
    for column = 1, #widths do
      boxes[#boxes + 1] = { left, top, widths[column] * scale_x, heights[row] * scale_y }
      left = left + widths[column] * scale_x
    end
    top = top + heights[row] * scale_y
  end
  width, height = math.ceil(width * scale_x), math.ceil(top)
  for _, box in ipairs(boxes) do box[2] = height - box[2] - box[4] end -- gnuplot counts from the foot
  return boxes, width, height
end

local function commands_of(panels, columns, size, title)
  local boxes, width, height = layout(panels, columns, size, title)
  if #panels == 1 then return panels[1].commands(axes.place(1, boxes[1], width, height)), width, height end
  local text = { "set multiplot" }
  if title ~= "" then
    text[2] = ("set label 99 %s at screen 0.5,%.4f center noenhanced font ',%d'"):format(gnuplot.quote(title),
      1 - 26 / height, math.floor(axes.FONT * 1.35))
  end
  for i, panel in ipairs(panels) do
    text[#text + 1] = panel.commands(axes.place(i, boxes[i], width, height))
    text[#text + 1] = "reset; unset label"
  end
  text[#text + 1] = "unset multiplot"
  return table.concat(text, "\n"), width, height
end

local function characters_of(panels, size, colors, title)
  local texts = { title ~= "" and title .. "\n" or nil }
  for _, panel in ipairs(panels) do
    texts[#texts + 1] = panel.characters(size[1], math.max(8, size[2]), colors)
  end
  return table.concat(texts, "\n")
end

-- A figure as a picture in a terminal that can show one.
local function picture_of(where, panels, columns, settings, room)
  local commands, width, height = commands_of(panels, columns, nil, settings.title)
  local path = os.tmpname() .. ".png"
  gnuplot.write(where, path, width, height, commands)
  local text = picture.of(path, math.min(room[1], width // 8), math.max(room[2], 24))
  os.remove(path)
  return text
end

--- The text of panels for the terminal.
-- @tparam string where the function that draws
-- @tparam table panels
-- @tparam integer columns of the grid, in a picture
-- @tparam table settings `title` of several, `size` in characters, `print`
-- @tparam[opt] boolean plain in characters even where the terminal shows pictures
-- @treturn string
function figure.text(where, panels, columns, settings, plain)
  local wide, high = terminal.size()
  local room = settings.size or { math.min(wide, 120), math.max(12, math.min(high - 2, 24)) }
  local shown = settings.print ~= false
  local graphics = shown and not plain and terminal.is_one() and terminal.graphics()
  if graphics == "kitty" or graphics == "sixel" then return picture_of(where, panels, columns, settings, room) end
  return characters_of(panels, room, shown and terminal.colors() or 0, settings.title)
end

local function check_size(where, size)
  if size ~= nil and not (type(size) == "table" and math.type(size[1]) == "integer" and math.type(size[2]) == "integer"
      and size[1] > 0 and size[2] > 0) then
    core.raise(where .. ": size is { width, height }, pixels of a file or characters of a terminal")
  end
end

--- Draws panels where the settings say: `file`, else the terminal; closes them.
-- @treturn string|nil the file; the text where `print` is false
function figure.draw(where, panels, columns, settings)
  local closing <close> = setmetatable({}, { __close = function() -- luacheck: ignore closing
    for _, panel in ipairs(panels) do
      if panel.close then panel.close() end
    end
  end })
  check_size(where, settings.size)
  local title = #panels > 1 and settings.title or ""
  if settings.file ~= nil then
    local commands, width, height = commands_of(panels, columns, settings.size, title)
    return gnuplot.write(where, settings.file, width, height, commands)
  end
  local text = figure.text(where, panels, columns, { title = title, size = settings.size, print = settings.print })
  if settings.print == false then return text end
  io.write(text)
end

return figure
