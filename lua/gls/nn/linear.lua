--- Linear: z = x W + b, x (…, inputs), W (inputs×outputs), b (outputs).
-- @module gls.nn.linear
local gls = require "gls"
local options = require "gls.options"
local Module = require "gls.nn.module"
local Affine = require "gls.nn.affine"

local linear = gls.linear
local Linear = Module.class("Linear", Affine)

--- `nn.Linear(3072, 1024, { bias = true, init = "uniform", gain = … })`
-- @tparam integer inputs
-- @tparam integer outputs
-- @tparam[opt] table settings
function Linear:init(inputs, outputs, settings)
  Affine.check_size("nn.Linear", "inputs", inputs)
  Affine.check_size("nn.Linear", "outputs", outputs)
  local set = options.check("nn.Linear", settings, Affine.options())
  self.inputs, self.outputs = inputs, outputs
  self:make({ inputs, outputs }, outputs, set)
end

function Linear:forward(x) return linear(x, self.weight, self.bias) end

function Linear:describe() return ("%d → %d"):format(self.inputs, self.outputs) end

return Linear
