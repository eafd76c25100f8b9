--- Source: the text of Lua functions, from their files.
-- @module gls.source
local source = {}

local files = {} -- path → its lines

--- The lines of a file; none where it cannot be read.
function source.lines(path)
  if files[path] then return files[path] end
  local lines = {}
  local file = io.open(path)
  if file then
    for line in file:lines() do lines[#lines + 1] = line end
    file:close()
  end
  files[path] = lines
  return lines
end

--- The file of a function, its first and its last line; nil for one that is in C or was not read from a file.
function source.of(f)
  local known = debug.getinfo(f, "S")
  local path = known.what ~= "C" and known.source:match "^@(.*)"
  if path then return path, known.linedefined, known.lastlinedefined end
end

--- Where f has called what is known by a name in a tail call, which leaves no frame: "file:7: ". The line of the one
-- `return` that speaks of the name, else that where f begins.
-- @tparam function f
-- @tparam string name
-- @treturn string
function source.tail_call(f, name)
  local path, first, last = source.of(f)
  if not path then return "" end
  local found, count = first, 0
  for i = first, last do
    local line = source.lines(path)[i] or ""
    if line:find "%f[%w_]return%f[^%w_]" and line:find("%f[%w_]" .. name .. "%f[^%w_]") then
      found, count = i, count + 1
    end
  end
  return ("%s:%d: "):format(debug.getinfo(f, "S").short_src, count == 1 and found or first)
end

return source
