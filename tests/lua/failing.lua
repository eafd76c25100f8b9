-- Failing calls: that f(…) raises an error whose message is as it should be.
local assert = require "luassert"
local failing = {}

local function message_of(expected, f, ...)
  local good, message = pcall(f, ...)
  assert.is_false(good, "no error that says " .. expected)
  assert.is_string(message)
  return message
end

function failing.matches(pattern, f, ...) assert.matches(pattern, message_of(pattern, f, ...)) end

--- The text as it stands, not as a pattern.
function failing.says(text, f, ...)
  local message = message_of(text, f, ...)
  assert.truthy(message:find(text, 1, true), message .. "\n  does not say\n" .. text)
end

return failing
