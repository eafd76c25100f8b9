--- gls.anomaly: the first number that is not finite, named with the op that made it.
-- @module gls.anomaly
local core = require "gls.core"

local anomaly = {}

local function set(on)
  local before = core.set_anomaly(on)
  if before ~= on then require("gls.nn.module").trace(on) end
  return before
end

local function restore(before, ok, ...)
  set(before)
  if not ok then error((...), 0) end
  return ...
end

--- Looks through the result of every op, and every gradient, for NaN and infinities. The first is an error that names
-- the op, the module's path, the step (counted from when it was turned on), and what the op was given: sizes, least,
-- greatest and mean values, and how many of those were not finite already. An infinity that an op was given (a mask of
-- −∞) is none. Off by default, for every result is read once more, on one thread: a training step of an MLP takes 1 per
-- cent longer, one of a ResNet 15.
-- @param what true, false, or a function that is run with it on
-- @param ... the function's arguments
-- @return whether it was on; of a function its results
-- @usage gls.anomaly(true)
function anomaly.anomaly(what, ...)
  if type(what) == "boolean" then return set(what) end
  if type(what) ~= "function" then core.raise("gls.anomaly: true, false or a function expected, got " .. type(what)) end
  return restore(set(true), pcall(what, ...))
end

core.docs.anomaly = "anomaly(what, …) -> boolean or results\nanomaly(true): the first NaN or infinity that an op or " ..
  "its gradient gives is an error that names op,\nmodule, step and the statistics of its inputs; anomaly(false): no " ..
  "longer. Gives what was. Of a function: runs it\nso. It costs a reading of every result."

return anomaly
