--- Lines: logs that are read by everything: JSON lines (an object a line), and CSV (RFC 4180) with a line of names.
-- @module gls.log.lines
local core = require "gls.core"
local file = require "gls.file"
local finite = require("gls.number").finite
local json = require "gls.json"
local writer = require "gls.log.writer"

local lines = {}

local function open(self, mode)
  local handle, problem = io.open(self.path, mode)
  if not handle then core.raise(("%s: %s"):format(self.where, problem)) end
  self.handle = handle
end

local function append(self, text)
  local good, problem = self.handle:write(text, "\n")
  if good then good, problem = self.handle:flush() end
  if not good then core.raise(("%s: %s: %s"):format(self.where, self.path, problem)) end
end

local function close(self)
  self.handle:close()
  self.handle = nil
end

-- The lines that are kept of a file; one without an end was cut short.
local function kept_lines(path, keeps)
  local kept = {}
  for line in (file.read(path) or ""):gmatch "([^\n]*)\n" do
    if keeps(line) then kept[#kept + 1] = line end
  end
  return kept
end

-- ---- JSON lines ----

local Jsonl = writer.class()

function Jsonl:begin(last)
  if last then
    local kept = kept_lines(self.path, function(line)
      local good, row = pcall(json.decode, line)
      return good and type(row) == "table" and math.type(row.step) == "integer" and row.step <= last
    end)
    kept[#kept + 1] = ""
    file.replace(self.path, table.concat(kept, "\n"))
  end
  open(self, last and "a" or "w")
end

function Jsonl:add(step, values)
  local row = { step = step }
  for name, value in pairs(values) do row[name] = finite(value) and value or json.null end
  append(self, json.encode(row))
end

Jsonl.finish = close

--- A log with an object of JSON a line: `{"batch_loss":0.5,"epoch":1,"step":10}`; what is not finite is null. It is for
-- `writer:scalars(step, { name = number })`, and a callback of train.fit, which writes every so many steps the batch's
-- loss, the learning rate, the seconds of training (and the norm of the gradients), and after every epoch its metrics.
-- A file that is there is replaced; in a run that is resumed it goes on, without the lines after the checkpoint.
-- @tparam string path
-- @tparam[opt] table given `every` = 10 steps (0: epochs alone); `layers` = false (true: what GLS reports of every
-- layer)
-- @return a writer, with `scalars` and `close`
function lines.jsonl(path, given) return writer.new(Jsonl, "log.jsonl", path, given) end

-- ---- CSV ----

local Csv = writer.class()

local function field(text) return text:find '[",\r\n]' and '"' .. text:gsub('"', '""') .. '"' or text end

local function header(columns)
  local names = {}
  for i, name in ipairs(columns) do names[i] = field(name) end
  return table.concat(names, ",")
end

-- Names of the columns of a first line that `header` made.
local function columns_of(line)
  local columns = {}
  line = line .. ","
  local at = 1
  while at <= #line do
    local quoted, after = line:match('^"(.-)"(),', at)
    while quoted and select(2, quoted:gsub('"', "")) % 2 == 1 do -- a doubled quote is none's end
      local more, next_after = line:match('^(.-)"(),', after)
      if not more then break end
      quoted, after = quoted .. '"' .. more, next_after
    end
    local name = quoted and quoted:gsub('""', '"')
    if not name then name, after = line:match("^([^,]*)(),", at) end
    columns[#columns + 1] = name
    at = after + 1
  end
  return columns
end

local function text_of(value)
  if math.type(value) == "integer" then return tostring(value) end
  if value ~= value then return "nan" end
  if value == math.huge or value == -math.huge then return value > 0 and "inf" or "-inf" end
  return ("%.9g"):format(value)
end

function Csv:begin(last)
  self.columns = { "step" }
  if last and file.kind(self.path) then
    local first = true
    local kept = kept_lines(self.path, function(line)
      if first then
        first, self.columns = false, columns_of(line)
        return true
      end
      local step = math.tointeger(tonumber(line:match "^(%d+),"))
      return step ~= nil and step <= last
    end)
    if first then kept[1] = header(self.columns) end -- killed before it had a line
    kept[#kept + 1] = ""
    file.replace(self.path, table.concat(kept, "\n"))
    open(self, "a")
    return
  end
  open(self, "w")
  append(self, header(self.columns))
end

-- New names are further columns, empty in the rows before.
local function widen(self, names)
  table.sort(names)
  for _, name in ipairs(names) do self.columns[#self.columns + 1] = name end
  close(self)
  local more = (","):rep(#names)
  local all = kept_lines(self.path, function() return true end)
  all[1] = header(self.columns)
  for i = 2, #all do all[i] = all[i] .. more end
  all[#all + 1] = ""
  file.replace(self.path, table.concat(all, "\n"))
  open(self, "a")
end

function Csv:add(step, values)
  local known, new = {}, {}
  for _, name in ipairs(self.columns) do known[name] = true end
  for name in pairs(values) do
    if not known[name] then new[#new + 1] = name end
  end
  if #new > 0 then widen(self, new) end
  local row = { tostring(step) }
  for i = 2, #self.columns do
    local value = values[self.columns[i]]
    row[i] = value ~= nil and text_of(value) or ""
  end
  append(self, table.concat(row, ","))
end

Csv.finish = close

--- A log as a table with the columns `step` and whatever else was written; otherwise as log.jsonl.
-- @tparam string path
-- @tparam[opt] table given as for log.jsonl
-- @return a writer, with `scalars` and `close`
function lines.csv(path, given) return writer.new(Csv, "log.csv", path, given) end

return lines
