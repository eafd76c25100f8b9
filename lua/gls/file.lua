--- File: whole text files, read and replaced.
-- @module gls.file
local files = require("gls.core").io

local file = {}

--- What stands at a path.
-- @tparam string path
-- @treturn string|nil "file", "folder" or "other"; nil where there is nothing
file.kind = files.kind

--- The contents of a file.
-- @tparam string path
-- @treturn string|nil contents, or nil and a message
function file.read(path)
  local handle, message = io.open(path, "rb")
  if not handle then return nil, message end
  local text = handle:read "a"
  handle:close()
  return text
end

--- Raises that a file cannot be written.
-- @tparam string path
-- @tparam string message of an io function, which may begin with the path
function file.cannot_write(path, message)
  message = tostring(message)
  if message:sub(1, #path + 2) == path .. ": " then message = message:sub(#path + 3) end
  error(("cannot write %s: %s; what was written before is kept"):format(path, message), 0)
end

--- Writes a file from its start.
-- @tparam string path
-- @tparam string text
-- @raise naming the path; a file that was begun is then gone
function file.write(path, text)
  local handle, message = io.open(path, "wb")
  if not handle then file.cannot_write(path, message) end
  local good
  good, message = handle:write(text)
  if good then good, message = handle:flush() end
  local closed, closing = handle:close()
  if good and not closed then good, message = nil, closing end
  if good then return end
  os.remove(path)
  file.cannot_write(path, message)
end

--- Puts a complete new file in an old one's place.
-- @tparam string temporary
-- @tparam string path
-- @raise naming the path; the temporary file is then gone
function file.rename(temporary, path)
  local good, message = os.rename(temporary, path)
  if good then return end
  os.remove(temporary)
  file.cannot_write(path, message)
end

--- Replaces a file as a whole: a reader sees the old contents or the new, also after a crash or a full disk.
-- @tparam string path
-- @tparam string text
-- @raise naming the path when it cannot be written
function file.replace(path, text)
  local temporary = path .. ".new"
  local good, message = pcall(file.write, temporary, text)
  if not good then error((message:gsub(temporary, path, 1, true)), 0) end
  file.rename(temporary, path)
end

return file
