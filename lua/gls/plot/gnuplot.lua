--- Gnuplot: gnuplot run on commands with their data, and the file or the characters that it draws.
-- @module gls.plot.gnuplot
local core = require "gls.core"
local file = require "gls.file"

local gnuplot = {}

local FONT = 15 -- pixels

--- A text as gnuplot quotes it.
function gnuplot.quote(text) return "'" .. tostring(text):gsub("'", "''"):gsub("%c", " ") .. "'" end

local function shell(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

-- Writes commands and data beside the figure and runs gnuplot on them; they stay when that fails, so that nothing
-- has to be computed again. Gives what gnuplot printed.
local function run(path, text)
  file.replace(path, text)
  if not os.execute "command -v gnuplot >/dev/null 2>&1" then
    core.raise(("plot: gnuplot is not installed (package gnuplot-nox: apt install gnuplot-nox). The figure's data and "
      .. "commands are kept: gnuplot %s"):format(path))
  end
  local pipe = io.popen("gnuplot " .. shell(path) .. " 2>" .. shell(path .. ".log"), "r")
  local output = pipe:read "a"
  local good = pipe:close()
  local complaint = file.read(path .. ".log") or ""
  os.remove(path .. ".log")
  if not good then
    core.raise(("plot: gnuplot failed on %s, which is kept: %s"):format(path, complaint:gsub("%s+$", "")))
  end
  os.remove(path)
  return output
end

-- The terminal of a kind of file, and what its contents end with: gnuplot says nothing of a full disk, but a picture is
-- whole when it has its format's end.
local KINDS = {
  svg = { end_mark = "</svg>%s*$", terminal = function(width, height)
    return ('svg size %d,%d dynamic enhanced font "Helvetica,%d" background "#FFFFFF"'):format(width, height, FONT)
  end },
  png = { end_mark = "IEND....$", terminal = function(width, height)
    return ('pngcairo size %d,%d enhanced font "Sans,%.1f" background "#FFFFFF"'):format(width, height, FONT * 0.75)
  end },
  pdf = { end_mark = "%%%%EOF%s*$", terminal = function(width, height) -- 96 pixels are an inch
    return ('pdfcairo size %.3fin,%.3fin enhanced font "Sans,%.1f" background "#FFFFFF"'):format(width / 96,
      height / 96, FONT * 0.75)
  end },
}

--- A figure in a file, which is replaced whole.
-- @tparam string where the function that draws it, named in errors
-- @tparam string path ends in .svg, .png or .pdf
-- @tparam integer width in pixels; of PDF in 1/96 inch
-- @tparam integer height
-- @tparam string commands
-- @treturn string the path
-- @raise when gnuplot is missing or fails; its commands and data are then kept beside the figure, and named
function gnuplot.write(where, path, width, height, commands)
  local kind = type(path) == "string" and KINDS[path:match "%.(%w+)$"]
  if not kind then
    core.raise(("%s: file %q: expected a name that ends in .svg, .png or .pdf"):format(where, tostring(path)))
  end
  if path:find "%c" then core.raise(("%s: file %q: a control character in the name"):format(where, path)) end
  local temporary = path .. ".new"
  local header = ("set encoding utf8\nset terminal %s\nset output %s\n"):format(kind.terminal(width, height),
    gnuplot.quote(temporary))
  run(path:gsub("%.%w+$", "") .. ".gnuplot", header .. commands .. "\nunset output\n")
  local picture = file.read(temporary) or ""
  os.remove(temporary)
  if not picture:find(kind.end_mark) then
    core.raise(("plot: %s was not written to its end (is the disk full?); an older figure is kept"):format(temporary))
  end
  file.replace(path, picture)
  return path
end

-- gnuplot's names for so many colours in characters.
local COLORS = { [8] = " ansi", [256] = " ansi256", [1 << 24] = " ansirgb" }

--- A figure in characters.
-- @tparam integer columns
-- @tparam integer rows
-- @tparam integer colors of the terminal, 0 for none
-- @tparam string commands
-- @treturn string
function gnuplot.characters(columns, rows, colors, commands)
  local text = run(os.tmpname(), ("set encoding utf8\nset terminal dumb size %d,%d%s\n%s\n"):format(columns, rows,
    COLORS[colors] or "", commands))
  local lines = {}
  for line in text:gsub("\f", ""):gmatch "[^\n]*" do lines[#lines + 1] = line end
  local function is_blank(line) return line and not line:gsub("\27%[[%d;]*m", ""):find "%S" end
  while is_blank(lines[1]) do table.remove(lines, 1) end
  while is_blank(lines[#lines]) do lines[#lines] = nil end
  for i, line in ipairs(lines) do lines[i] = colors > 0 and line or line:gsub("%s+$", "") end
  return table.concat(lines, "\n") .. (colors > 0 and "\27[0m\n" or "\n")
end

return gnuplot
