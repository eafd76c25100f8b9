--- gls: tensors, differentiation, neural networks and optimizers. `require "gls"` gives the table with the functions
-- of the core and those of gls.tensor; nn, optim, data, train, plot, experiment, curvature, distributed and options
-- are loaded when they are first asked for.
-- @module gls
local anomaly = require "gls.anomaly"
local checkpoint = require "gls.checkpoint"
local core = require "gls.core"
local help = require "gls.help"
local products = require "gls.curvature.products"
local profile = require "gls.profile"
local pytorch = require "gls.pytorch"
local strict = require "gls.strict"
local tensor = require "gls.tensor"

local gls = {}

for name, value in pairs(core) do gls[name] = value end
for name, value in pairs(tensor) do gls[name] = value end
gls.core = core
gls.save, gls.load, gls.save_npz, gls.profile = checkpoint.save, checkpoint.load, checkpoint.save_npz, profile.profile
gls.anomaly, gls.load_pytorch = anomaly.anomaly, pytorch.load
gls.jvp, gls.hvp, gls.ggn = products.jvp, products.hvp, products.ggn
gls.documentation, gls.help = help.text, help.print
for _, name in ipairs { "hvp", "ggn", "anomaly" } do core.groups[name] = "derivatives" end
core.groups.load_pytorch = "files"

local submodules = {
  nn = true, optim = true, data = true, train = true, plot = true, experiment = true, options = true,
  curvature = true, distributed = true,
}

return strict.module("gls", gls, function(name) return submodules[name] and require("gls." .. name) or nil end)
