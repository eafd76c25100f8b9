--- Image: an image or a grid of images.
-- @module gls.plot.image
local axes = require "gls.plot.axes"
local core = require "gls.core"
local gnuplot = require "gls.plot.gnuplot"
local picture = require "gls.plot.picture"

local image = {}

local MOST = 64 -- images of a grid that are drawn by default

-- Images as (H, W), (C, H, W) or (N, C, H, W), as save_image takes them; (N, H, W) with N other than 1 and 3 are grey.
local function images_of(where, x)
  if not core.is_tensor(x) then core.raise(("%s: a tensor expected, got %s"):format(where, type(x))) end
  x = x:detach()
  local rank = x:dim()
  if rank == 3 and x:size(1) ~= 1 and x:size(1) ~= 3 then x = x:unsqueeze(2) end
  local channels = x:dim() >= 3 and x:size(-3) or 1
  if rank < 2 or rank > 4 or channels ~= 1 and channels ~= 3 or x:numel() == 0 then
    core.raise(("%s: images are (H, W), (C, H, W), (N, H, W) or (N, C, H, W) with C 1 or 3, got (%s)"):format(where,
      table.concat(x.shape, "×")))
  end
  return x
end

-- Values as save_image takes them: bytes as they are, others in 0 to 1: stretched between the least and the greatest,
-- or those of `range`, unless all are there already; and a note of it.
local function stretched(where, x, range)
  if x.type == "uint8" and not range then return x, nil end
  x = x:float()
  local known = core.is_finite(x)
  if known:all():item() == 0 then
    local count = x:numel() - known:sum():item()
    core.raise(("%s: %d values are NaN or infinite"):format(where, count))
  end
  if range then
    local low, high = range[1], range[2]
    if type(low) ~= "number" or type(high) ~= "number" or low >= high then
      core.raise(where .. ": range is { low, high }")
    end
    return (x - low) / (high - low), nil
  end
  local low, high = x:min():item(), x:max():item()
  if low >= 0 and high <= 1 then return x, nil end
  if low == high then return x * 0 + 0.5, ("all values are %.4g"):format(low) end
  return (x - low) / (high - low), ("black %.4g, white %.4g"):format(low, high)
end

local function commands_of(panel, place)
  local settings = panel.settings
  local commands, height = axes.frame(place, settings, axes.note_lines(settings.note, place.width - 40), { 24, 40, 24 })
  local width = place.width - 48
  commands[#commands + 1] = "unset border; unset tics; unset colorbox"
  -- As large as it goes with square pixels: the axes are wider or higher than the image.
  local scale = math.min(width / panel.pixels_wide, height / panel.pixels_high)
  local x, y = width / scale, height / scale
  commands[#commands + 1] = ("set xrange [%g:%g]; set yrange [%g:%g]"):format(-0.5, x - 0.5,
    panel.pixels_high - y - 0.5, panel.pixels_high - 0.5)
  commands[#commands + 1] = ("plot %s binary filetype=png with rgbimage"):format(gnuplot.quote(panel.path))
  return table.concat(commands, "\n")
end

local function characters_of(panel, columns, rows)
  local settings = panel.settings
  return (settings.title ~= "" and settings.title .. "\n" or "") .. picture.of(panel.path, columns, rows)
    .. (settings.note and settings.note .. "\n" or "")
end

--- The panel of plot.image; `close` removes its file.
function image.panel(where, given, settings)
  local _ <close> = core.no_grad()
  local _ <close> = core.scope()
  local x = images_of(where, given)
  local notes = { settings.note }
  if x:dim() == 4 and x:size(1) > MOST then
    notes[#notes + 1] = ("the first %d of %d"):format(MOST, x:size(1))
    x = x:narrow(1, 1, MOST)
  end
  x, notes[#notes + 1] = stretched(where, x, settings.range)
  settings.note = #notes > 0 and table.concat(notes, " · ") or nil
  local panel = { settings = settings, path = os.tmpname() }
  function panel.close() os.remove(panel.path) end
  local good, message = pcall(core.save_image, panel.path, x, { columns = settings.columns, gap = settings.gap })
  if not good then
    panel.close()
    core.raise((tostring(message):gsub("^" .. panel.path:gsub("%p", "%%%0"), where)))
  end
  local saved = core.load_image(panel.path)
  local high, wide = saved:size(2), saved:size(3)
  local scale = math.max(1, math.min(960 / wide, 640 / high) // 1)
  panel.width = math.max(240, math.floor(wide * scale) + 48)
  panel.height = math.floor(high * scale) + 40 + 24 + (settings.title ~= "" and 30 or 0)
    + (settings.note and 20 or 0)
  function panel.commands(place)
    -- Viewers of SVG and PDF smooth what they enlarge: small pixels are enlarged before.
    panel.pixels_wide, panel.pixels_high = picture.enlarge(panel.path, 960, 640)
    return commands_of(panel, place)
  end
  function panel.characters(columns, rows) return characters_of(panel, columns, rows) end
  return panel
end

return image
