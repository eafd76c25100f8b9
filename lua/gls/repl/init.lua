--- Repl: the Lua side of the prompt, for runtime/cli/repl.c.
--
-- chunk, session  what is typed, and what it means     show, display  what values look like
-- complete  what Tab offers                            tools  functions of the prompt
-- @module gls.repl
local chunk = require "gls.repl.chunk"
local core = require "gls.core"
local file = require "gls.file"
local gls = require "gls"
local session = require "gls.repl.session"
local tools = require "gls.repl.tools"

local repl = { complete = require "gls.repl.complete", caught = tools.caught, indentation = chunk.indentation,
  outdent = chunk.outdent }

session.summary = tools.summary
for name in pairs(tools.documentation) do rawset(session.environment, name, tools[name]) end

local passes_before = 0

--- What to run for a text typed at the prompt, as session.compile gives it.
function repl.compile(text)
  passes_before = core.backward_passes()
  local f = session.compile(text)
  if f and text:find "%S" then session.note(text) end
  return f
end

--- Says after an error what it has left behind.
function repl.failed()
  local passes = core.backward_passes()
  if passes > passes_before then
    print(("(gradients of %d backward %s wait, and the next backward adds to them; opt:zero_grad() or "
      .. "model:zero_grad() forgets them)"):format(passes, passes == 1 and "pass" or "passes"))
  end
end

-- The user's own file of things to do first.
local function run_startup()
  local config, home = os.getenv "XDG_CONFIG_HOME", os.getenv "HOME"
  if not config or config == "" then config = home and home .. "/.config" end
  local path = config and config .. "/glsrun/prompt.lua"
  if path and file.kind(path) == "file" then tools.run(path) end
end

--- Opens the prompt: gls, nn, optim, data, train and plot become globals, where a script has not set them; runs
-- ~/.config/glsrun/prompt.lua where it is there.
-- @tparam string version of the program
-- @tparam function change_folder changes the working directory and gives it
function repl.start(version, change_folder)
  local modules = { gls = "gls", nn = "gls.nn", optim = "gls.optim", data = "gls.data", train = "gls.train",
    plot = "gls.plot" }
  for name, module in pairs(modules) do
    if rawget(_G, name) == nil then rawset(_G, name, require(module)) end
    if name ~= "gls" then gls[name] = require(module) end -- for Tab
  end
  require("gls.nn.module").remember_shapes()
  rawset(session.environment, "cd", change_folder)
  print(("glsrun %s, %s, %d threads. gls, nn, optim, data, train and plot are loaded."):format(version, _VERSION,
    core.threads()))
  print "Tab completes, Ctrl-C stops, Ctrl-D leaves; ? says what there is, name? explains a name."
  run_startup()
end

return repl
