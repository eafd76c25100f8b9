--- Ledger: what a comparison has run, one line of JSON a run in results.jsonl. A run is found again by all that decides
-- what comes out of it, so that results of other tasks, data, budgets or versions of an optimizer are never mixed in.
-- @module gls.compare.ledger
local file = require "gls.file"
local record = require "gls.experiment.record"

local ledger = {}
ledger.__index = ledger

-- What a run is; the rest of a line is what came out of it.
local IDENTITY = {
  "task", "version", "data", "optimizer", "source", "phase", "study", "number", "settings", "schedule", "seed", "steps",
  "batch", "evaluations", "threads",
}

local function key(run)
  local parts = {}
  for i, field in ipairs(IDENTITY) do parts[i] = record.encode(run[field]) end
  return table.concat(parts, " ")
end

--- Opens a ledger; a last line cut short by a crash is left out.
-- @tparam string|nil path of results.jsonl; nil: nothing is written
-- @treturn table ledger
-- @raise naming file and line of what is no line of results
function ledger.open(path)
  local self = setmetatable({ rows = {}, by_key = {} }, ledger)
  local number, text = 0, path and file.read(path) or ""
  for line, ending in text:gmatch "([^\n]*)(\n?)" do
    number = number + 1
    local row = line ~= "" and record.decode(line)
    if type(row) == "table" and type(row.task) == "string" and type(row.curve) == "table" then
      self.rows[#self.rows + 1] = row
      self.by_key[key(row)] = row
    elseif line ~= "" and ending == "\n" then
      error(("%s:%d: not a line of a comparison's results"):format(path, number), 0)
    end
  end
  self.journal = path and record.results(path, self.rows)
  return self
end

--- What came out of a run, or nil when it is still to do.
function ledger:find(run) return self.by_key[key(run)] end

--- Notes what came out of a run; on disk before this returns.
-- @tparam table run
-- @tparam table outcome what trial.run gave
-- @treturn table the row, as it would be read again
function ledger:add(run, outcome)
  local row = {}
  for _, field in ipairs(IDENTITY) do row[field] = run[field] end
  for field, value in pairs(outcome) do row[field] = value end
  row = record.decode(record.encode(row)) -- so that a run gone on with decides by the same digits
  self.by_key[key(row)] = row
  if self.journal then self.journal:add(row) else self.rows[#self.rows + 1] = row end
  return row
end

--- Closes the file; more than once is fine.
function ledger:close()
  if self.journal then self.journal:close() end
end

return ledger
