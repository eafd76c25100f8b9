-- Scratch: a folder for every test, files in it, and what the tests of files and of programs have in common.
local scratch = {}

local folder

--- Makes a new folder before every test of the file that calls this, and removes it afterwards; or, given setup and
-- teardown, one for all tests of a block.
function scratch.each(before_each, after_each)
  before_each(function()
    folder = os.tmpname()
    os.remove(folder)
    assert(os.execute("mkdir '" .. folder .. "'"))
  end)
  after_each(function() os.execute("rm -rf '" .. folder .. "'") end)
end

function scratch.folder() return folder end

function scratch.path(name) return folder .. "/" .. name end

--- A file anywhere; scratch.write and scratch.read are for those in the folder.
function scratch.write_at(path, text)
  local file <close> = assert(io.open(path, "wb"))
  assert(file:write(text))
  return path
end

function scratch.read_at(path)
  local file <close> = assert(io.open(path, "rb"))
  return (assert(file:read "a"))
end

function scratch.write(name, text) return scratch.write_at(scratch.path(name), text) end

function scratch.read(name) return scratch.read_at(scratch.path(name)) end

--- A text as one word of a shell command.
function scratch.quote(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

--- What a command prints, errors too, and its exit code; without the tests' own search paths and preloaded library.
function scratch.shell(command)
  local pipe = assert(io.popen("unset LD_PRELOAD LUA_PATH LUA_CPATH; { " .. command .. "; } 2>&1; echo \":$?\""))
  local text = pipe:read "a"
  pipe:close()
  local output, code = text:match "^(.*):(%d+)\n$"
  return output, tonumber(code)
end

--- A file of bytes in base 64.
function scratch.base64(name, text)
  scratch.write(name .. ".64", text)
  local from, to = scratch.path(name .. ".64"), scratch.path(name)
  assert(os.execute(("base64 -d '%s' > '%s'"):format(from, to)))
  os.remove(from)
  return to
end

--- The message of a failing call; it names the file, and no C source.
function scratch.failure(f, file, ...)
  local good, message = pcall(f, file, ...)
  assert(not good, "accepted: " .. file)
  assert(type(message) == "string" and message:find(file, 1, true), message)
  assert(not message:find("%.c:%d"), message)
  return message
end

--- Every proper prefix of a good file is refused.
function scratch.refuses_prefixes(f, text, name)
  for length = 0, #text - 1 do scratch.failure(f, scratch.write(name, text:sub(1, length))) end
end

function scratch.names()
  local pipe = assert(io.popen("ls -A '" .. folder .. "'"))
  local text = pipe:read "a"
  pipe:close()
  return text
end

--- Python with modules, for what other programs write and read: the environment's PYTHON, else python3; or nil.
function scratch.python_with(modules)
  local python = os.getenv "PYTHON" or "python3"
  return os.execute(("'%s' -c 'import %s' > '%s/python' 2>&1"):format(python, modules, folder)) and python
end

--- What a Python script prints, run in the folder.
function scratch.run_python(python, script)
  local command = "cd '%s' && '%s' '%s' 2>&1"
  local pipe = assert(io.popen(command:format(folder, python, scratch.write("script.py", script))))
  local output = pipe:read "a"
  pipe:close()
  return output
end

return scratch
