--- Plot: figures of tensors and tables: lines, scatter plots, histograms, bars, heat maps, images, several of them in
-- panels, and live while a loop trains.
--
-- Every function takes the data first, then settings. `file` is a name that ends in .svg, .png or .pdf; without it the
-- figure is printed: as a picture where the terminal can show one (kitty's protocol, sixels), else in characters, in
-- colours where there are any. All take `title`, `note` (a line under the title, broken at its " · " when it is long),
-- `x` and `y` (texts of the axes), `size` ({ width, height }: pixels of a file, characters of a terminal) and
-- `print = false`, which gives the characters as text. gnuplot draws; where it is missing or fails its commands and
-- data are kept beside the file and named.
--
-- series  what is drawn     lines, bars, heat, image  the kinds of figures     axes  what they share
-- figure  panels, by gnuplot or as a picture in the terminal     live  while a loop trains
-- @module gls.plot
local core = require "gls.core"
local bars = require "gls.plot.bars"
local figure = require "gls.plot.figure"
local heat = require "gls.plot.heat"
local image = require "gls.plot.image"
local lines = require "gls.plot.lines"
local live = require "gls.plot.live"
local options = require "gls.options"
local series = require "gls.plot.series"

local plot = { colors = series.colors }

-- The kinds of figures: what they take beside the common settings, and the function that makes their panel.
local KINDS = {
  lines = { { log = options.none, from = options.none }, lines.panel },
  scatter = { { log = options.none, from = options.none, labels = options.none }, function(where, data, settings)
    return lines.panel(where, series.grouped(where, data, settings.labels), settings, true)
  end },
  histogram = { { bins = options.none, range = options.none }, bars.histogram },
  bars = { { names = options.none }, bars.panel },
  heat = { { columns = options.none, rows = options.none, log = false, missing = "diverged" }, heat.panel },
  image = { { columns = options.none, gap = 2, range = options.none }, image.panel },
}

local COMMON = {
  title = "", x = "", y = "", note = options.none, file = options.none, size = options.none, print = true,
}

local function check(kind, settings)
  local allowed = {}
  for name, default in pairs(COMMON) do allowed[name] = default end
  for name, default in pairs(KINDS[kind][1]) do allowed[name] = default end
  return options.check("plot." .. kind, settings, allowed)
end

local function draw(kind, data, settings)
  settings = check(kind, settings)
  local where = "plot." .. kind
  return figure.draw(where, { KINDS[kind][2](where, data, settings) }, 1, settings)
end

--- Lines, named at their ends.
-- @param data a tensor or a list of numbers (x is then 1, 2, 3, …); a tensor (n×k): a line for each column; a series
-- `{ y = …, x = …, name =, low = …, high = … (a band), dashed = false, thin = false, color = "#RRGGBB", label = true
-- unless dashed }`; a list of such; or `{ name = series }`. Values that are nil or not finite are left out.
-- @tparam[opt] table settings as all of gls.plot; `log` = "x", "y" or "xy" (points that are not positive are left out),
-- `from` (the x axis begins there or before)
-- @treturn string|nil the file; the text with `print = false`
function plot.lines(data, settings) return draw("lines", data, settings) end

--- Points.
-- @param data a tensor (n×2), or as for plot.lines
-- @tparam[opt] table settings as for plot.lines; `labels`: of one series, a colour for each label: a tensor or list of
-- as many whole numbers
-- @treturn string|nil as plot.lines
function plot.scatter(data, settings) return draw("scatter", data, settings) end

--- How often values lie where; NaN and infinities are counted in the note.
-- @param data a tensor of any shape, a list of numbers, or `{ name = values }` for several
-- @tparam[opt] table settings as all of gls.plot; `bins` (default: 2 n^(1/3), from 5 to 60), `range` ({ low, high })
-- @treturn string|nil as plot.lines
function plot.histogram(data, settings) return draw("histogram", data, settings) end

--- Bars.
-- @param data a tensor or a list of numbers, or `{ name = number }`
-- @tparam[opt] table settings as all of gls.plot; `names` (a list; default 1, 2, 3, …)
-- @treturn string|nil as plot.lines
function plot.bars(data, settings) return draw("bars", data, settings) end

--- A heat map, the number written in each cell where there are few; cells without a finite number are grey, those that
-- are nan also empty.
-- @param data a tensor (rows × columns), or a list of rows, each a list of numbers; the first row at the top
-- @tparam[opt] table settings as all of gls.plot; `columns` (names along x), `rows` (names along y, the first row is
-- then at the foot), `log` (colours by the logarithm), `missing` ("diverged": text in cells that are infinite)
-- @treturn string|nil as plot.lines
function plot.heat(data, settings) return draw("heat", data, settings) end

--- An image or a grid of images.
-- @param data a tensor (H, W), (C, H, W), (N, H, W) or (N, C, H, W), C 1 or 3; of more than 64 the first. Bytes and
-- reals in 0 to 1 are drawn as they are, others stretched from their least to their greatest, which the note tells
-- @tparam[opt] table settings as all of gls.plot; `columns` of the grid (default: as square as it goes), `gap` = 2
-- (pixels), `range` ({ black, white })
-- @treturn string|nil as plot.lines
function plot.image(data, settings) return draw("image", data, settings) end

local function make_panels(list, settings)
  if type(list) ~= "table" or #options.list("plot.panels", list) == 0 then
    core.raise("plot.panels: a list of { kind, data, settings } expected")
  end
  settings = options.check("plot.panels", settings, { title = "", columns = options.none, file = options.none,
    size = options.none, print = true })
  local columns = settings.columns or math.ceil(math.sqrt(#list))
  if math.type(columns) ~= "integer" or columns < 1 then core.raise("plot.panels: columns: a whole number expected") end
  local panels = {}
  for i, entry in ipairs(list) do
    local kind = type(entry) == "table" and entry[1]
    if not KINDS[kind] then
      core.raise(("plot.panels: panel %d: { kind, data, settings } expected, kind is %s%s"):format(i, tostring(kind),
        type(kind) == "string" and options.suggestion(kind, KINDS) or ""))
    end
    panels[i] = KINDS[kind][2](("plot.panels: panel %d"):format(i), entry[2], check(kind, entry[3]))
  end
  return figure.draw("plot.panels", panels, math.min(columns, #list), settings)
end

--- Several figures in one: `plot.panels({ { "lines", losses, { log = "y" } }, { "image", batch.x } })`.
-- @tparam table list of { kind, data, settings }: the names and arguments of the functions above
-- @tparam[opt] table settings `title`, `columns` (default: as square as it goes; characters stand one above the other),
-- `file`, `size`, `print`
-- @treturn string|nil as plot.lines
function plot.panels(list, settings) return make_panels(list, settings) end

local function make_live(kind, settings, interval)
  if not KINDS[kind] then
    core.raise(("plot.live: the kind of figure expected, got %s%s"):format(tostring(kind),
      options.suggestion(tostring(kind), KINDS)))
  end
  if interval ~= nil and type(interval) ~= "number" then core.raise("plot.live: interval: seconds expected") end
  local where = "plot." .. kind
  check(kind, settings)
  local function make(data) return KINDS[kind][2](where, data, check(kind, settings)) end
  return live(where, make, check(kind, settings), interval or 0.5)
end

--- A figure that is redrawn in place while a loop goes on: `live:draw(data)` in the loop, `live:finish()` after it (or
-- `local live <close> = …`). In a terminal it is drawn in characters; without one and without `file` it is drawn once,
-- at the end.
-- @tparam string kind "lines", "scatter", "histogram", "bars", "heat" or "image"
-- @tparam[opt] table settings of that kind
-- @tparam[opt=0.5] number interval seconds at least between two drawings
-- @treturn table with the methods `draw` and `finish`
function plot.live(kind, settings, interval) return make_live(kind, settings, interval) end

return require("gls.strict").module("plot", plot)
