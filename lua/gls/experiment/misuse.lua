--- Misuse: errors that are the user's to mend, told without a traceback.
-- @module gls.experiment.misuse
local misuse = {}

local usage_error = { __tostring = function(self) return self.message end }

--- Raises an error whose message is all: no traceback helps who mistyped an option.
-- @tparam string format
-- @param ... its values
function misuse.raise(format, ...) error(setmetatable({ message = format:format(...) }, usage_error), 0) end

--- Whether an error is Ctrl-C's, which passes through everything.
-- @param problem
-- @treturn boolean
function misuse.is_interrupt(problem) return tostring(problem):find("interrupted!", 1, true) ~= nil end

--- What xpcall is given: a traceback for errors that are nobody's to mend but the program's.
-- @param problem
-- @return the problem, with a traceback where it is a text and not Ctrl-C's
function misuse.traceback(problem)
  if type(problem) ~= "string" or misuse.is_interrupt(problem) then return problem end
  return debug.traceback(problem, 2)
end

--- A message without the file and line that it begins with.
-- @param problem
-- @treturn string
function misuse.without_place(problem) return (tostring(problem):gsub("^[^%s:]+%.lua:%d+: ", "")) end

--- Calls a function whose failures are the user's to mend (a directory, a file of data).
-- @tparam function f
-- @param ... its arguments
-- @return its results
function misuse.attempt(f, ...)
  local results = table.pack(pcall(f, ...))
  if results[1] then return table.unpack(results, 2, results.n) end
  local problem = results[2]
  if type(problem) ~= "string" or misuse.is_interrupt(problem) then error(problem, 0) end
  misuse.raise("%s", misuse.without_place(problem))
end

return misuse
