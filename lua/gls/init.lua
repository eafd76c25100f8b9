--- gls: tensors, differentiation, neural networks and optimizers. `require "gls"` gives the table with the core's
-- functions; nn, optim, data, train, plot, log, experiment, save and load are loaded when they are first asked for.
-- @module gls
local checkpoint = require "gls.checkpoint"
local core = require "gls.core"
local options = require "gls.options"
local profile = require "gls.profile"

local gls = {}

for name, value in pairs(core) do gls[name] = value end
gls.core = core
gls.save, gls.load, gls.profile = checkpoint.save, checkpoint.load, profile.profile

local submodules = {
  nn = true, optim = true, data = true, train = true, plot = true, log = true, experiment = true,
  options = true,
}

-- Functions that live in a submodule: gls.save is gls.checkpoint's.
local elsewhere = { save = "gls.checkpoint", load = "gls.checkpoint" }

--- The help text of a function, tensor method or op: the call, what it gives, and shapes it is checked with.
-- @tparam string name "conv2d", "zeros", "item" …
-- @treturn string
-- @raise when there is none, with the nearest name
function gls.documentation(name)
  local doc = core.docs[name]
  if doc then return doc end
  local suggestion = options.suggestion(tostring(name), core.docs)
  error(('help: there is nothing named "%s"%s'):format(tostring(name), suggestion), 2)
end

--- Prints the help of one name, or a list of all.
-- @tparam[opt] string name
function gls.help(name)
  if name ~= nil then
    if type(name) == "function" then
      for known, value in pairs(gls) do
        if value == name then name = known break end
      end
    end
    print(gls.documentation(name))
    return
  end
  local names, width = {}, 0
  for known in pairs(core.docs) do
    names[#names + 1] = known
    width = math.max(width, #known)
  end
  table.sort(names)
  for _, known in ipairs(names) do
    local call, rest = core.docs[known]:match("^([^\n]*)\n?([^\n]*)")
    print(("%-" .. width .. "s  %s"):format(known, rest ~= "" and rest or call))
  end
end

return setmetatable(gls, {
  __index = function(self, name)
    local value
    if elsewhere[name] then
      value = require(elsewhere[name])[name]
    elseif submodules[name] then
      value = require("gls." .. name)
    end
    rawset(self, name, value)
    return value
  end,
})
