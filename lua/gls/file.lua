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

--- Replaces a file as a whole: a reader sees the old contents or the new, also after a crash or a full disk. It is on
-- disk when this returns; permissions stay.
-- @tparam string path
-- @tparam string text
-- @raise naming the path when it cannot be written; the old file is then as it was
file.replace = files.replace_file

return file
