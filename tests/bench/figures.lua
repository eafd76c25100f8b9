#!/usr/bin/env lua5.4
--- Draws the figures of tests/bench/README.md from its tables: a bar a row, our time over the faster peer's. The bar is
-- the second run on two threads, the thin line reaches from run to run.
--   lua5.4 tests/bench/figures.lua [svg|png]       writes tests/bench/figures/steps and ops
local here = arg[0]:match "^(.*)/[^/]*$" or "."
local extension = arg[1] or "svg"

local INK, FAINT, GRID = "#222222", "#666666", "#E4E4E4"
local FASTER, SLOWER, LIGHTER = "#0072B2", "#D55E00", "#56B4E9" -- Okabe and Ito (2008)
local WIDTH, BAR, TOP, BOTTOM = 960, 21, 84, 62

local function quote(text) return "'" .. text:gsub("'", "''") .. "'" end

-- The cells of the table whose first row begins with the title: a list of rows, without the two of the head.
local function read_table(text, title)
  local rows = {}
  local from = assert(text:find("\n| " .. title, 1, true), "no table " .. title)
  for line in text:sub(from + 1):gmatch "([^\n]*)\n" do
    if line:sub(1, 1) ~= "|" then break end
    local cells = {}
    for cell in line:sub(2):gmatch "%s*(.-)%s*|" do cells[#cells + 1] = cell end
    rows[#rows + 1] = cells
  end
  return table.move(rows, 3, #rows, 1, {})
end

-- "0.71, 0.72" or "0.98, 1.05; 0.97": the two runs on two threads, or nothing.
local function two_runs(cell)
  local first, second = cell:match "^([%d.]+), ([%d.]+)"
  return tonumber(first), tonumber(second)
end

-- bars: list of { name =, first =, second =, color = }, from top to bottom; one without a name belongs to that above.
local function draw(file, title, note, bars)
  local height = TOP + BOTTOM + BAR * #bars
  local data, ticks, highest, longest = {}, {}, 1.2, 0
  for i, bar in ipairs(bars) do
    local y = #bars - i + 1
    data[i] = ("%.9g %d %.9g %.9g %d"):format(bar.second, y, math.min(bar.first, bar.second),
      math.max(bar.first, bar.second), tonumber(bar.color:sub(2), 16))
    if bar.name then
      ticks[#ticks + 1] = ("%s %d"):format(quote(bar.name), y)
      longest = math.max(longest, utf8.len(bar.name))
    end
    highest = math.max(highest, bar.first + 0.05, bar.second + 0.05)
  end
  local terminal = extension == "png" and ('pngcairo size %d,%d font "Sans,10.5"'):format(WIDTH, height)
    or ('svg size %d,%d dynamic font "Helvetica,14" background "#FFFFFF"'):format(WIDTH, height)
  local function label(number, text, y, more)
    return ("set label %d %s at screen %.4f,%.4f left noenhanced %s"):format(number, quote(text), 20 / WIDTH,
      1 - y / height, more)
  end
  local commands = {
    "set encoding utf8", "set terminal " .. terminal, "set output " .. quote(file), "$bars << END",
    table.concat(data, "\n"), "END", "unset key",
    label(1, title, 24, ("font ',17' textcolor rgb %q"):format(INK)),
    label(2, note, 48, ("font ',12' textcolor rgb %q"):format(FAINT)),
    ("set lmargin at screen %.4f; set rmargin at screen %.4f"):format((30 + 8 * longest) / WIDTH, 1 - 30 / WIDTH),
    ("set bmargin at screen %.4f; set tmargin at screen %.4f"):format(BOTTOM / height, 1 - (TOP - 14) / height),
    ("set border 1 linecolor rgb %q"):format(FAINT),
    ("set grid xtics linetype 1 linecolor rgb %q"):format(GRID),
    ("set tics nomirror out scale 0.5 textcolor rgb %q"):format(INK),
    ("set xrange [0:%.9g]; set xtics 0.2 format '%%.1f'"):format(highest),
    ("set yrange [0.4:%.1f]; set ytics (%s) noenhanced scale 0"):format(#bars + 0.6, table.concat(ticks, ", ")),
    ("set xlabel 'our time / the faster peer%ss' textcolor rgb %q"):format("''", INK),
    ("set arrow 1 from 1, graph 0 to 1, graph 1 nohead linecolor rgb %q linewidth 1.5 front"):format(INK),
    "plot $bars using (0):2:(0):1:($2-0.4):($2+0.4):5 with boxxyerror fillstyle solid noborder linecolor rgb variable, "
      .. ("$bars using 1:2:3:4 with xerrorbars pointtype -1 linecolor rgb %q linewidth 1.2"):format(INK),
  }
  local gnuplot = assert(io.popen("gnuplot", "w"))
  gnuplot:write(table.concat(commands, "\n"), "\n")
  assert(gnuplot:close(), "gnuplot failed")
  print(file)
end

local page <close> = assert(io.open(here .. "/README.md"))
local text = page:read "a"
local note = "PyTorch and JAX, two threads, AMD Zen 4; below 1 we are faster; thin lines: run to run"

local steps = {}
for i, cells in ipairs(read_table(text, "training step")) do
  local first, second = two_runs(cells[5])
  steps[i] = { name = cells[1], first = first, second = second, color = second > 1 and SLOWER or FASTER }
end
draw(("%s/figures/steps.%s"):format(here, extension), "Training steps: our time over the faster peer's", note, steps)

local ops = {}
for _, cells in ipairs(read_table(text, "single ops")) do
  for column = 2, 3 do
    local first, second = two_runs(cells[column])
    if first then
      ops[#ops + 1] = { name = column == 2 and cells[1], first = first, second = second,
        color = second > 1 and SLOWER or column == 2 and FASTER or LIGHTER }
    end
  end
end
draw(("%s/figures/ops.%s"):format(here, extension), "Single ops: our time over the faster peer's",
  note .. "; light: with backward", ops)
