--- Page: a comparison's report as one file of HTML that opens anywhere: figures inside, light and dark, tables that
-- sort.
-- @module gls.compare.page
local chart = require "gls.compare.chart"
local number = require "gls.number"
local statistics = require "gls.compare.statistics"
local summary = require "gls.compare.summary"
local words = require "gls.compare.words"

local page = {}

local escaped = chart.escaped

-- Colours of Okabe and Ito (2008) and of the palettes beside it, told apart by colour-blind readers; the candidate,
-- which comes last, has the first.
local HEAD = [[<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>%s</title>
<style>
:root { --page: #fff; --ink: #1b1b1b; --faint: #666; --grid: #e6e6e6; --panel: #f6f6f4; --s1: #d55e00; --s2: #0072b2;
  --s3: #009e73; --s4: #cc79a7; --s5: #8c6d1f; --s6: #5d3a9b; --s7: #6b6b6b; --s8: #56b4e9; --better: #00734f;
  --worse: #b03a00; }
@media (prefers-color-scheme: dark) {
  :root { --page: #151515; --ink: #e8e8e8; --faint: #a0a0a0; --grid: #333; --panel: #1f1f1f; --s1: #ff8b3d;
    --s2: #4db3ff; --s3: #2fd6a3; --s4: #ec9cc8; --s5: #d8b24a; --s6: #b196ff; --s7: #a8a8a8;
    --s8: #8fd0f5; --better: #2fd6a3; --worse: #ff8b3d; }
}
body { background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; max-width: 74rem;
  margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.7rem; line-height: 1.25; } h2 { font-size: 1.25rem; margin-top: 2.6rem; } h3 { font-size: 1rem; }
.answer { background: var(--panel); border-left: 4px solid var(--s1); padding: .8rem 1.1rem; margin: 1rem 0; }
.figures { display: flex; flex-wrap: wrap; gap: 1.2rem; } figure { flex: 1 1 30rem; margin: 0; min-width: 0; }
figcaption { color: var(--faint); font-size: .85rem; }
svg { width: 100%%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: var(--faint); }
svg .label { fill: var(--ink); } .grid { stroke: var(--grid); } .one { stroke: var(--ink); stroke-dasharray: 3 3; }
.line { stroke: var(--c); stroke-width: 2.2; fill: none; stroke-linejoin: round; }
.band { fill: var(--c); opacity: .16; } .dot { fill: var(--c); }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; margin: .5rem 0; font-size: .9rem; }
.legend i { display: inline-block; width: 1.1rem; height: .28rem; border-radius: .14rem; vertical-align: middle;
  margin-right: .4rem; background: var(--c); }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .86rem; margin: .8rem 0; }
th, td { text-align: left; padding: .35rem .7rem; border-bottom: 1px solid var(--grid); vertical-align: top; }
td:not(:first-child) { font-variant-numeric: tabular-nums; min-width: 6.5rem; }
th { cursor: pointer; user-select: none; vertical-align: bottom; } th[aria-sort=ascending]::after { content: " ▲"; }
th[aria-sort=descending]::after { content: " ▼"; } th:first-child, td:first-child { position: sticky; left: 0;
  background: var(--page); white-space: nowrap; }
.better { color: var(--better); } .worse { color: var(--worse); } .how { color: var(--faint); font-size: .88rem; }
code { font-size: .92em; }
</style>
]]

-- A click on a head sorts by that column: numbers by their first number, what has none last.
local SORT = [[<script>
for (const head of document.querySelectorAll("th")) head.addEventListener("click", () => {
  const table = head.closest("table"), body = table.tBodies[0], column = head.cellIndex;
  const up = head.getAttribute("aria-sort") !== "ascending";
  const value = row => {
    const text = row.cells[column].textContent, found = text.replace("at most ", "").match(/^-?[\d.]+(e-?\d+)?/);
    return found ? parseFloat(found[0]) : column ? Infinity : text;
  };
  for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  [...body.rows].sort((a, b) => {
    const x = value(a), y = value(b);
    return (x < y ? -1 : x > y ? 1 : 0) * (up ? 1 : -1);
  }).forEach(row => body.append(row));
});
</script>
]]

-- Backticks and asterisks of a sentence of Markdown.
local function inline(text)
  return (escaped(text):gsub("`([^`]+)`", "<code>%1</code>"):gsub("%*%*([^*]+)%*%*", "<strong>%1</strong>"))
end

local function list(lines)
  local parts = {}
  for i, line in ipairs(lines) do parts[i] = "<li>" .. inline(line) .. "</li>" end
  return '<ul class="how">' .. table.concat(parts) .. "</ul>"
end

local function html_table(head, rows)
  local parts = { '<div class="wide"><table><thead><tr>' }
  for _, text in ipairs(head) do parts[#parts + 1] = "<th>" .. escaped(text) .. "</th>" end
  parts[#parts + 1] = "</tr></thead><tbody>"
  for _, row in ipairs(rows) do
    parts[#parts + 1] = "<tr>"
    for _, text in ipairs(row) do
      local verdict = text:match ": (%l+)$"
      parts[#parts + 1] = ("<td%s>%s</td>"):format((verdict == "better" or verdict == "worse")
        and (' class="%s"'):format(verdict) or "", escaped(text))
    end
    parts[#parts + 1] = "</tr>"
  end
  parts[#parts + 1] = "</tbody></table></div>"
  return table.concat(parts)
end

-- Every entry's colour, and their names: candidates first, then baselines in their order.
local function colors_of(plan)
  local colors, names = {}, {}
  for _, baseline in ipairs { false, true } do
    for _, entry in ipairs(plan.entries) do
      if (plan.is_baseline[entry.name] or false) == baseline then
        colors[entry.name] = #names % 8 + 1
        names[#names + 1] = entry.name
      end
    end
  end
  return colors, names
end

local function legend(colors, names)
  local parts = {}
  for i, name in ipairs(names) do
    parts[i] = ('<span><i style="--c:var(--s%d)"></i>%s</span>'):format(colors[name], escaped(name))
  end
  return '<div class="legend">' .. table.concat(parts) .. "</div>"
end

local function figure(svg, caption)
  return ("<figure>%s<figcaption>%s</figcaption></figure>"):format(svg, escaped(caption))
end

-- Median and range over studies of the validation loss; place 1: by steps, 2: by seconds.
local function curve(own, place, color)
  local series = { color = color, x = {}, y = {}, low = {}, high = {} }
  local shortest = math.huge
  for _, row in ipairs(own.rows) do shortest = math.min(shortest, #row.curve) end
  for i = 1, shortest do
    local at, losses = {}, {}
    for k, row in ipairs(own.rows) do at[k], losses[k] = row.curve[i][place], row.curve[i][3] end
    series.x[i], series.y[i] = statistics.median(at), statistics.median(losses)
    series.low[i], series.high[i] = math.min(table.unpack(losses)), math.max(table.unpack(losses))
  end
  return series
end

local function curves(part, colors)
  local figures = {}
  for place, label in ipairs { "steps", "seconds of training" } do
    local series, low, high, first = {}, math.huge, 0, 0
    for i, own in ipairs(part.entries) do
      local one = curve(own, place, colors[own.entry.name])
      series[i] = one
      for k, value in ipairs(one.high) do
        if k == 1 then first = math.max(first, value) else high = math.max(high, value) end
      end
      low = math.min(low, table.unpack(one.low))
    end
    -- What rises above the untrained model's loss is cut off.
    high = math.min(math.max(high, first), first)
    figures[place] = figure(chart.lines { title = part.task.name .. " by " .. label, x = label,
      y = "validation " .. part.task.loss_name, log_y = high / low > 4, high_y = high, series = series },
      ("Validation loss by %s: median and range of the studies"):format(label))
  end
  return '<div class="figures">' .. table.concat(figures) .. "</div>"
end

local function ratio_figure(found, plan, colors, field, caption)
  local rows = {}
  for _, part in ipairs(found.tasks) do
    for _, own in ipairs(part.entries) do
      local test = not plan.is_baseline[own.entry.name] and own[field]
      if test then
        rows[#rows + 1] = { label = ("%s, %s"):format(part.task.name, own.entry.name), color = colors[own.entry.name],
          ratio = test.ratio, low = test.low, high = test.high }
      end
    end
  end
  if #rows == 0 then return "" end
  local x = "test loss / best tuned baseline's (below 1: better)"
  return figure(chart.ratios { title = caption, x = x, rows = rows }, caption)
end

local function profile_figure(found, plan, colors, field)
  local profiles = found.profiles[field]
  if not profiles then return "" end
  local greatest, series = math.max(1.5, profiles.greatest * 1.05), {}
  for _, entry in ipairs(plan.entries) do
    local one = { color = colors[entry.name], x = {}, y = {} }
    for i, point in ipairs(profiles.curves[entry.name] or { { 1, 0 } }) do one.x[i], one.y[i] = point[1], point[2] end
    one.x[#one.x + 1], one.y[#one.y + 1] = greatest, one.y[#one.y]
    series[#series + 1] = one
  end
  return figure(chart.lines { title = "performance profile, " .. field, x = "τ: times the " .. field .. " of the best",
    y = "share solved", log_x = true, low_y = 0, high_y = 1, step = true, series = series },
    ("Performance profile (Dolan and Moré 2002): the share of studies of tasks whose target is reached within τ times "
      .. "the %s of the best optimizer there"):format(field))
end

--- The report.
-- @tparam table found of analysis.of
-- @tparam table plan
-- @tparam table config
-- @treturn string HTML
function page.of(found, plan, config)
  local colors, names = colors_of(plan)
  local parts = { HEAD:format(escaped(config.title)), "<h1>" .. escaped(config.title) .. "</h1>" }
  local function add(text) parts[#parts + 1] = text end
  if config.state ~= "finished" then
    add("<p><strong>" .. escaped(config.state) .. "</strong> What was done by then:</p>")
  end
  for _, entry in ipairs(plan.entries) do
    if not plan.is_baseline[entry.name] then
      add('<p class="answer">' .. inline(words.sentence(entry.name, found, plan)) .. "</p>")
    end
  end
  add(html_table(summary.overall(found, plan)))
  add(legend(colors, names))
  add('<div class="figures">')
  for _, budget in ipairs { "steps", "seconds" } do
    add(ratio_figure(found, plan, colors, "by_" .. budget,
      ("At equal %s: geometric mean over studies and its 95 %% interval"):format(budget)))
  end
  add(profile_figure(found, plan, colors, "steps"))
  add(profile_figure(found, plan, colors, "seconds"))
  add "</div>"
  for _, part in ipairs(found.tasks) do
    add("<h2>" .. escaped(part.task.name) .. "</h2>")
    add("<p>" .. escaped(summary.describe(part.task)) .. (part.target and (" Target: validation loss %s."):format(
      number.text(part.target)) or "") .. "</p>")
    add(legend(colors, names))
    add(curves(part, colors))
    add(html_table(summary.of_task(part)))
    add(list(summary.winners(part)))
  end
  add "<h2>How</h2>"
  add(list(summary.method(plan, config)))
  add(SORT)
  return table.concat(parts, "\n") .. "\n"
end

return page
