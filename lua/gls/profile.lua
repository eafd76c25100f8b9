--- gls.profile: where the time of a part of a script goes, op by op and module by module. Each moment counts once: for
-- the op, the part of the optimizer or the collection under way, else for Lua and the rest; so the rows add up to the
-- whole.
-- @module gls.profile
local core = require "gls.core"
local system = require "system"

local Profile = {}
Profile.__index = Profile

local EVENTS = 200000

-- ---- the machine's limits ----

local limits

-- The best of some runs: least seconds.
local function least_seconds(f)
  local best = math.huge
  for _ = 1, 8 do
    local began = system.monotime()
    f()
    best = math.min(best, system.monotime() - began)
  end
  return best
end

-- What the machine does at most, measured once: operations a second of a large product, bytes a second of a long copy.
local function limits_of_machine()
  if limits then return limits end
  local _ <close> = core.no_grad()
  local _ <close> = core.scope()
  local SIDE, LENGTH = 768, 1 << 23
  local a, b, long, copy = core.ones(SIDE, SIDE), core.ones(SIDE, SIDE), core.ones(LENGTH), core.ones(LENGTH)
  limits = {
    flops = 2 * SIDE ^ 3 / least_seconds(function() core.matmul(a, b) end),
    bytes = 8 * LENGTH / least_seconds(function() copy:copy(long) end),
  }
  return limits
end

-- The part of its time in which the machine, at its limit, could have done the same; nil where nothing was counted.
local function reached(row)
  if row.seconds <= 0 or row.flops == 0 and row.bytes == 0 then return nil end
  return math.max(row.flops / limits.flops, row.bytes / limits.bytes) / row.seconds
end

-- ---- rows ----

-- The sums of entries with the same key, longest first.
local function grouped(entries, key_of)
  local rows, by_key = {}, {}
  for _, entry in ipairs(entries) do
    local key = key_of(entry)
    local row = by_key[key]
    if not row then
      row = { calls = 0, seconds = 0, flops = 0, bytes = 0 }
      rows[#rows + 1], by_key[key] = row, row
    end
    for _, name in ipairs { "calls", "seconds", "flops", "bytes" } do row[name] = row[name] + entry[name] end
    row.of = row.of or entry
  end
  return rows
end

local function finished(rows, seconds)
  for _, row in ipairs(rows) do
    row.share, row.limit = seconds > 0 and row.seconds / seconds or 0, reached(row)
  end
  table.sort(rows, function(a, b) return a.seconds > b.seconds end)
  return rows
end

-- Phases in which nothing but Lua runs are one row of ops.
local function rows_of(entries, seconds)
  local rest, ops, modules = seconds, {}, {}
  for _, entry in ipairs(entries) do
    if entry.phase ~= "module" then
      rest = rest - entry.seconds
      ops[#ops + 1] = entry
    end
    if entry.phase == "module" then entry.module = entry.name end
    if entry.module then modules[#modules + 1] = entry end
  end
  local rows = grouped(ops, function(entry) return entry.phase .. "\0" .. entry.name end)
  for _, row in ipairs(rows) do row.phase, row.name, row.of = row.of.phase, row.of.name, nil end
  rows[#rows + 1] = { phase = "other", name = "Lua and the rest", calls = 1, seconds = rest, flops = 0, bytes = 0 }
  local by_module = grouped(modules, function(entry) return entry.module end)
  for _, row in ipairs(by_module) do row.name, row.of = row.of.module, nil end
  return finished(rows, seconds), finished(by_module, seconds)
end

-- ---- measuring ----

local tracer
local under_way = false

local function start(events)
  if under_way then core.raise "gls.profile: a profile is under way already (glsrun --profile is one of the script)" end
  limits_of_machine()
  tracer = tracer or require "gls.nn.module"
  tracer.trace(true)
  core.profile_start(events)
  under_way = true
end

local function stop()
  tracer.trace(false)
  under_way = false
  local entries, seconds = core.profile_stop()
  local rows, modules = rows_of(entries, seconds)
  return setmetatable({ rows = rows, modules = modules, seconds = seconds, limits = limits }, Profile)
end

--- Runs f(…) and measures it. The measuring thread is this one: what others do meanwhile (a loader that decodes ahead)
-- is not seen, what they compute for this one's ops is.
-- @tparam function f what to run: some training steps, after one to warm up
-- @param ... its arguments
-- @treturn table `rows`, longest first: { phase = "forward", name = "linear", calls =, seconds =, share =, flops =,
--   bytes =, limit = }; phases are forward, backward, tangents (forward mode), optimizer, memory, and other (Lua and
--   the rest); `modules`, the same by module (its ops forward and backward, and the Lua of its forward alone);
--   `seconds` in all. flops: floating-point operations; bytes: what is read and written, each array once; limit: the
--   share of the time that the machine would have needed at its limit, which is measured once (`limits`: flops and
--   bytes a second). tostring gives two tables; `profile:trace(path)` writes a file for ui.perfetto.dev or
--   chrome://tracing.
-- @raise what f raises; where a profile is under way already
local function profile(f, ...)
  if type(f) ~= "function" then
    error("gls.profile: the argument is a function to run and measure, got " .. type(f), 2)
  end
  start(EVENTS)
  local done, problem = pcall(f, ...)
  local made = stop()
  if not done then error(problem, 0) end
  return made
end

--- Writes the spans one by one, until the next profile begins, as JSON for ui.perfetto.dev or chrome://tracing. The
-- first 200 000 are kept.
-- @tparam string path
-- @treturn integer how many are written
-- @treturn integer how many found no room
function Profile:trace(path) -- luacheck: ignore self
  if type(path) ~= "string" then core.raise("profile:trace: the path of a file expected, got " .. type(path)) end
  return core.profile_trace(path)
end

-- ---- printing ----

local UNITS = { { 1e12, "T" }, { 1e9, "G" }, { 1e6, "M" }, { 1e3, "k" } }

local function quantity(value)
  if value == 0 then return "" end
  for _, unit in ipairs(UNITS) do
    if value >= unit[1] then return ("%.3g %s"):format(value / unit[1], unit[2]) end
  end
  return ("%.3g"):format(value)
end

local LINE = "%-10s%-30s%9s%12s%9s%10s%10s%8s"

local function lines_of(lines, rows)
  for _, row in ipairs(rows) do
    lines[#lines + 1] = LINE:format(row.phase or "module", row.name, row.calls, ("%.3f"):format(row.seconds * 1000),
      ("%.1f %%"):format(row.share * 100), quantity(row.flops), quantity(row.bytes),
      row.limit and ("%.0f %%"):format(row.limit * 100) or "")
  end
end

function Profile:__tostring()
  local head = LINE:format("phase", "what", "calls", "ms", "share", "flops", "bytes", "limit")
  local lines = { head }
  lines_of(lines, self.rows)
  lines[#lines + 1] = LINE:format("all", "", "", ("%.3f"):format(self.seconds * 1000), "100.0 %", "", "", "")
  if #self.modules > 0 then
    lines[#lines + 1], lines[#lines + 2] = "", head
    lines_of(lines, self.modules)
  end
  lines[#lines + 1] = ("limit: the share of %sflop/s or %sB/s, what this machine does at most, whichever is nearer")
    :format(quantity(self.limits.flops), quantity(self.limits.bytes))
  return table.concat(lines, "\n")
end

--- What `glsrun --profile` does: calls a script, and at its end, or where it fails, writes the trace and prints the
-- tables to standard error.
-- @tparam string path of the trace
-- @tparam function script
-- @param ... its arguments
local function run(path, script, ...)
  start(EVENTS)
  local _ <close> = setmetatable({}, { __close = function()
    local made = stop()
    local good, count, lost = pcall(made.trace, made, path)
    io.stdout:flush()
    io.stderr:write(tostring(made), "\n", good
      and ("trace: %s, %d spans%s (open it in ui.perfetto.dev)\n"):format(path, count,
        lost > 0 and (", %d more found no room"):format(lost) or "") or "trace: " .. tostring(count) .. "\n")
  end })
  script(...)
end

core.docs.profile = "profile(f, …) -> profile\nRuns f(…) and measures where its time goes, op by op and module by " ..
  "module: print(profile), or profile.rows and\nprofile.modules (longest first: { phase =, name =, calls =, " ..
  "seconds =, share =, flops =, bytes =, limit = }) and\nprofile.seconds. profile:trace(path) writes a file for " ..
  "ui.perfetto.dev."

return { profile = profile, run = run }
