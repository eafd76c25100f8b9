--- gls.profile: where the time of a part of a script goes, op by op. Each moment counts once: for the op, the part of
-- the optimizer or the collection under way, else for Lua and the rest; so the rows add up to the whole.
-- @module gls.profile
local core = require "gls.core"

local Profile = {}
Profile.__index = Profile

--- Runs f(…) and measures it. The measuring thread is this one: what others do meanwhile (a loader that decodes ahead)
-- is not seen, what they compute for this one's ops is.
-- @tparam function f what to run: some training steps, after one to warm up
-- @param ... its arguments
-- @treturn table `rows`, longest first: { phase = "forward", name = "linear", calls =, seconds =, share = }; phases are
--   forward, backward, tangents (forward mode), optimizer, memory, and other (Lua and the rest); `seconds` in all.
--   tostring gives a table.
-- @raise what f raises
local function profile(f, ...)
  if type(f) ~= "function" then
    error("gls.profile: the argument is a function to run and measure, got " .. type(f), 2)
  end
  core.profile_start()
  local done, problem = pcall(f, ...)
  local rows, seconds = core.profile_stop()
  if not done then error(problem, 0) end
  local rest = seconds
  for _, row in ipairs(rows) do rest = rest - row.seconds end
  rows[#rows + 1] = { phase = "other", name = "Lua and the rest", calls = 1, seconds = rest }
  for _, row in ipairs(rows) do row.share = seconds > 0 and row.seconds / seconds or 0 end
  table.sort(rows, function(a, b) return a.seconds > b.seconds end)
  return setmetatable({ rows = rows, seconds = seconds }, Profile)
end

function Profile:__tostring()
  local lines = { ("%-12s%-30s%10s%12s%9s"):format("phase", "what", "calls", "ms", "share") }
  for _, row in ipairs(self.rows) do
    lines[#lines + 1] = ("%-12s%-30s%10d%12.3f%7.1f %%"):format(row.phase, row.name, row.calls, row.seconds * 1000,
      row.share * 100)
  end
  lines[#lines + 1] = ("%-42s%10s%12.3f%7.1f %%"):format("all", "", self.seconds * 1000, 100)
  return table.concat(lines, "\n")
end

core.docs.profile = "profile(f, …) -> profile\nRuns f(…) and measures where its time goes, op by op: " ..
  "print(profile), or profile.rows (longest first: { phase =, name =, calls =, seconds =, share = }) and " ..
  "profile.seconds."

return { profile = profile }
