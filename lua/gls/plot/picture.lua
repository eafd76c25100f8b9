--- Picture: a PNG file shown in the terminal: by kitty's graphics protocol, as sixels, as half-block characters in
-- colours, or in grey as plain characters.
-- @module gls.plot.picture
local core = require "gls.core"
local file = require "gls.file"
local terminal = require "gls.terminal"

local picture = {}

-- ---- kitty (sw.kovidgoyal.net/kitty/graphics-protocol) ----

local DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

local function base64(text)
  local parts = {}
  for at = 1, #text, 3 do
    local a, b, c = text:byte(at, at + 2)
    local bits, part = a << 16 | (b or 0) << 8 | (c or 0), {}
    for i = 1, 4 do
      local digit = (bits >> (24 - 6 * i) & 63) + 1
      part[i] = (i == 3 and not b or i == 4 and not c) and "=" or DIGITS:sub(digit, digit)
    end
    parts[#parts + 1] = table.concat(part)
  end
  return table.concat(parts)
end

-- As PNG, in pieces of 4096 characters, as the protocol wants them.
local function kitty(pixels)
  local path = os.tmpname()
  core.save_image(path, pixels / 255)
  local data, parts, piece = base64(assert(file.read(path))), {}, 4096
  os.remove(path)
  for at = 1, #data, piece do
    parts[#parts + 1] = ("\27_G%sm=%d;%s\27\\"):format(at == 1 and "a=T,f=100," or "", at + piece <= #data and 1 or 0,
      data:sub(at, at + piece - 1))
  end
  return table.concat(parts) .. "\n"
end

-- ---- pixels ----

-- The pixels as red, green, blue (3, H, W) reals from 0 to 255, scaled to at most so wide and high by averaging; small
-- ones are made larger by a whole factor where `enlarge` says to.
local function scaled(pixels, width, height, enlarge)
  local x = pixels:float()
  if x:size(1) == 1 then x = core.expand(x, 3, x:size(2), x:size(3)):contiguous() end
  local h, w = x:size(2), x:size(3)
  local factor = math.min(width / w, height / h)
  if factor > 1 then factor = enlarge and math.max(1, factor // 1) or 1 end
  local new_h, new_w = math.max(1, math.floor(h * factor)), math.max(1, math.floor(w * factor))
  if new_h == h and new_w == w then return x end
  return core.adaptive_avg_pool2d(x:view(1, 3, h, w), { new_h, new_w }):view(3, new_h, new_w)
end

--- Makes the pixels of a small PNG file larger by a whole factor, up to so wide and high.
-- @treturn integer its width now
-- @treturn integer its height
function picture.enlarge(path, width, height)
  local _ <close> = core.no_grad()
  local _ <close> = core.scope()
  local pixels = core.load_image(path)
  if pixels:size(3) <= width and pixels:size(2) <= height then
    pixels = scaled(pixels, width, height, true)
    core.save_image(path, pixels / 255)
  end
  return pixels:size(3), pixels:size(2)
end

-- Numbers of the colours of 256: a cube of 6×6×6 from 16 on, greys from 232 on.
local function palette_index(r, g, b)
  if math.abs(r - g) < 8 and math.abs(g - b) < 8 then
    local grey = (r + g + b) / 3
    if grey < 4 then return 16 end
    if grey > 246 then return 231 end
    return 232 + math.floor((grey - 3) / 10)
  end
  local function level(value) return value < 48 and 0 or value < 115 and 1 or math.floor((value - 35) / 40) end
  return 16 + 36 * level(r) + 6 * level(g) + level(b)
end

local LEVELS = { [0] = 0, 95, 135, 175, 215, 255 }

-- Red, green and blue, from 0 to 255, of such a number.
local function palette_color(index)
  if index >= 232 then
    local grey = 8 + 10 * (index - 232)
    return grey, grey, grey
  end
  index = index - 16
  return LEVELS[index // 36], LEVELS[index // 6 % 6], LEVELS[index % 6]
end

local function whole(value) return math.floor(math.max(0, math.min(value, 255)) + 0.5) end

-- ---- half blocks: the upper half of a character has the ink's colour, the lower half the ground's ----

local function blocks(pixels, colors)
  local red, green, blue = table.unpack(pixels:tolist())
  local function color(layer, y, x)
    local r, g, b = whole(red[y][x]), whole(green[y][x]), whole(blue[y][x])
    if colors == 256 then return ("%d;5;%d"):format(layer, palette_index(r, g, b)) end
    return ("%d;2;%d;%d;%d"):format(layer, r, g, b)
  end
  local lines = {}
  for y = 1, #red, 2 do
    local line, before = {}, nil
    for x = 1, #red[1] do
      local code = color(38, y, x) .. ";" .. (red[y + 1] and color(48, y + 1, x) or "49")
      line[#line + 1] = (code ~= before and "\27[" .. code .. "m" or "") .. "▀"
      before = code
    end
    lines[#lines + 1] = table.concat(line) .. "\27[0m\n"
  end
  return table.concat(lines)
end

-- ---- sixels (DEC STD 070, chapter 9): bands of six rows, colour by colour ----

local function run_length(sixels, width)
  local parts, at = {}, 0
  while at < width do
    local bits, stop = sixels[at] or 0, at + 1
    while stop < width and (sixels[stop] or 0) == bits do stop = stop + 1 end
    if bits == 0 and stop == width then break end
    local char = string.char(63 + bits)
    parts[#parts + 1] = stop - at > 3 and ("!%d%s"):format(stop - at, char) or char:rep(stop - at)
    at = stop
  end
  return table.concat(parts)
end

local function sixel(pixels)
  local red, green, blue = table.unpack(pixels:tolist())
  local width, used, body = #red[1], {}, {}
  for top = 1, #red, 6 do
    local band, order = {}, {}
    for row = 0, math.min(5, #red - top) do
      for x = 1, width do
        local index = palette_index(red[top + row][x], green[top + row][x], blue[top + row][x])
        local sixels = band[index]
        if not sixels then
          sixels, used[index], order[#order + 1] = {}, true, index
          band[index] = sixels
        end
        sixels[x - 1] = (sixels[x - 1] or 0) | 1 << row
      end
    end
    local parts = {}
    for i, index in ipairs(order) do parts[i] = ("#%d%s"):format(index, run_length(band[index], width)) end
    body[#body + 1] = table.concat(parts, "$")
  end
  local colors = {}
  for index in pairs(used) do
    local r, g, b = palette_color(index)
    colors[#colors + 1] = ("#%d;2;%d;%d;%d"):format(index, r * 100 // 255, g * 100 // 255, b * 100 // 255)
  end
  table.sort(colors)
  return ('\27Pq"1;1;%d;%d%s%s\27\\\n'):format(width, #red, table.concat(colors), table.concat(body, "-"))
end

-- ---- plain characters ----

local RAMP = " .:-=+*#%@"

-- A character is about twice as high as wide: it has the mean of two pixels.
local function characters(pixels)
  local red, green, blue = table.unpack(pixels:tolist())
  local lines = {}
  for y = 1, #red, 2 do
    local line = {}
    for x = 1, #red[1] do
      local low = red[y + 1] and y + 1 or y
      local grey = 0.299 * (red[y][x] + red[low][x]) + 0.587 * (green[y][x] + green[low][x])
        + 0.114 * (blue[y][x] + blue[low][x])
      local place = math.min(#RAMP, math.floor(grey / 510 * #RAMP) + 1)
      line[x] = RAMP:sub(place, place)
    end
    lines[#lines + 1] = (table.concat(line):gsub("%s+$", "")) .. "\n"
  end
  return table.concat(lines)
end

-- ---- showing ----

--- A PNG file as text for the terminal.
-- @tparam string path
-- @tparam integer columns that it may take
-- @tparam integer rows
-- @tparam[opt] string way "kitty", "sixel", "blocks" or "text"; default: what the terminal has
-- @treturn string lines
function picture.of(path, columns, rows, way)
  way = way or terminal.graphics()
  local _ <close> = core.no_grad()
  local _ <close> = core.scope()
  local pixels = core.load_image(path)
  if way == "sixel" then return sixel(scaled(pixels, columns * 8, rows * 16, true)) end
  if way == "kitty" then return kitty(scaled(pixels, columns * 8, rows * 16, true)) end
  pixels = scaled(pixels, columns, rows * 2, false)
  if way == "text" then return characters(pixels) end
  return blocks(pixels, terminal.colors() == 256 and 256 or 1 << 24)
end

return picture
