--- Repl: the Lua side of the prompt, for runtime/cli/repl.c.
-- @module gls.repl
local core = require "gls.core"
local session = require "gls.repl.session"

local repl = { complete = require "gls.repl.complete" }

local passes_before = 0

--- What to run for a text typed at the prompt, as session.compile gives it.
function repl.compile(text)
  passes_before = core.backward_passes()
  return session.compile(text)
end

--- Says after an error what it has left behind.
function repl.failed()
  local passes = core.backward_passes()
  if passes > passes_before then
    print(("(gradients of %d backward %s wait for a step; opt:zero_grad() or model:zero_grad() forgets them)"):format(
      passes, passes == 1 and "pass" or "passes"))
  end
end

--- Opens the prompt: gls, nn, optim and data become globals, where a script has not set them.
-- @tparam string version of the program
function repl.start(version)
  local modules = { gls = "gls", nn = "gls.nn", optim = "gls.optim", data = "gls.data" }
  for name, module in pairs(modules) do
    if rawget(_G, name) == nil then rawset(_G, name, require(module)) end
  end
  print(("glsrun %s, %s, %d threads. gls, nn, optim and data are loaded."):format(version, _VERSION,
    core.threads()))
  print "Tab completes, Ctrl-C stops, Ctrl-D leaves; name? gives help, who() lists variables."
end

return repl
