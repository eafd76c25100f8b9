--- Circumstances: the command, machine and versions that a job's results are noted with.
-- @module gls.experiment.circumstances
local gls = require "gls"
local file = require "gls.file"

local circumstances = {}

local function first_match(path, pattern)
  return ((file.read(path) or ""):match(pattern))
end

--- The machine, and how many threads are used of it.
-- @treturn table `cpu`, `system`, `memory_bytes`, `threads`
function circumstances.machine()
  return {
    cpu = first_match("/proc/cpuinfo", "model name%s*:%s*([^\n]+)") or "unknown processor",
    system = first_match("/etc/os-release", 'PRETTY_NAME="([^"]+)"'),
    memory_bytes = (tonumber(first_match("/proc/meminfo", "MemTotal:%s*(%d+)")) or 0) * 1024,
    threads = gls.threads(),
  }
end

--- Versions of what computes.
-- @treturn table `text`, `lua`, `glsrun`, `blas`
function circumstances.versions()
  local parts = { _VERSION }
  if gls.version then table.insert(parts, 1, "glsrun " .. tostring(gls.version)) end
  local blas = gls.core and gls.core.blas and gls.core.blas()
  if blas then parts[#parts + 1] = tostring(blas) end
  return { text = table.concat(parts, ", "), lua = _VERSION, glsrun = gls.version, blas = blas }
end

--- The command line of a script in experiments/.
-- @tparam string name of the script
-- @tparam table arguments list of strings
-- @treturn string
function circumstances.command(name, arguments)
  local parts = { "glsrun experiments/" .. name .. ".lua" }
  for _, argument in ipairs(arguments) do
    parts[#parts + 1] = argument:find "^[%w_,.:=/@+-]+$" and argument or "'" .. argument:gsub("'", "'\\''") .. "'"
  end
  return table.concat(parts, " ")
end

return circumstances
