--- File: whole files, read and replaced.
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

--- Whether a file could be written, asked before the work whose result it is to hold.
-- @tparam string path
-- @treturn boolean|nil true, or nil and a message
function file.writable(path)
  local kind = file.kind(path)
  if kind and kind ~= "file" then
    return nil, ("%s: is %s"):format(path, kind == "folder" and "a folder" or "not a regular file")
  end
  local probe = path .. ".0.part" -- a name that file.replace takes away, were this killed before it does
  local handle, message = io.open(probe, "wb")
  if not handle then return nil, ("%s: cannot be written%s"):format(path, message:sub(#probe + 1)) end
  handle:close()
  os.remove(probe)
  return true
end

--- Replaces a file as a whole: a reader sees the old contents or the new, also after a crash or a full disk. It is on
-- disk when this returns; permissions stay.
-- @tparam string path
-- @tparam string text
-- @raise naming the path when it cannot be written; the old file is then as it was
file.replace = files.replace_file

return file
