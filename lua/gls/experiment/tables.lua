--- Tables of texts, as Markdown and for a terminal.
-- @module gls.experiment.tables
local log = require "gls.log"

local tables = {}

local function widths_of(head, rows)
  local widths = {}
  for i, text in ipairs(head) do widths[i] = log.width(text) end
  for _, row in ipairs(rows) do
    for i, text in ipairs(row) do widths[i] = math.max(widths[i], log.width(text)) end
  end
  return widths
end

--- Markdown, padded, so that it can be read as it is.
-- @tparam table head texts
-- @tparam table rows lists of texts
-- @treturn string
function tables.markdown(head, rows)
  local widths, rule = widths_of(head, rows), {}
  local function line(cells)
    local padded = {}
    for i, text in ipairs(cells) do padded[i] = log.pad(text, widths[i]) end
    return "| " .. table.concat(padded, " | ") .. " |"
  end
  for i in ipairs(head) do rule[i] = ("-"):rep(widths[i]) end
  local lines = { line(head), "|-" .. table.concat(rule, "-|-") .. "-|" }
  for _, row in ipairs(rows) do lines[#lines + 1] = line(row) end
  return table.concat(lines, "\n")
end

--- The same without rules, for a terminal: the first two columns to the left, numbers to the right.
-- @tparam table head texts
-- @tparam table rows lists of texts
-- @treturn string
function tables.plain(head, rows)
  local widths, lines = widths_of(head, rows), {}
  for _, row in ipairs { head, table.unpack(rows) } do
    local padded = {}
    for i, text in ipairs(row) do padded[i] = log.pad(text, i <= 2 and widths[i] or -widths[i]) end
    lines[#lines + 1] = "  " .. table.concat(padded, "  "):gsub("%s+$", "")
  end
  return table.concat(lines, "\n")
end

return tables
