--- Activations as modules, and what else has no parameters: Identity, Dropout, Flatten.
-- @module gls.nn.activation
local gls = require "gls"
local number = require "gls.number"
local options = require "gls.options"
local Module = require "gls.nn.module"
local affine = require "gls.nn.affine"

local activation = {}

local function simple(name, op)
  local class = Module.class(name)
  function class.forward(_, x) return op(x) end
  activation[name] = class
end

--- max(x, 0).
simple("ReLU", gls.relu)
--- x Φ(x) (Hendrycks and Gimpel, 2016).
simple("GELU", gls.gelu)
--- x sigmoid(x) (Elfwing, Uchibe and Doya, 2018).
simple("SiLU", gls.silu)
--- Hyperbolic tangent.
simple("Tanh", gls.tanh)
--- 1 / (1 + exp(-x)).
simple("Sigmoid", gls.sigmoid)
--- log(1 + exp(x)).
simple("Softplus", gls.softplus)
--- x itself.
simple("Identity", function(x) return x end)

-- Over one dimension of x.
local function over_dimension(name, op)
  local class = Module.class(name)
  function class:init(dimension) self.dimension = dimension or -1 end
  function class:forward(x) return op(x, self.dimension) end
  function class:describe() return ("dimension %d"):format(self.dimension) end
  activation[name] = class
end

--- `nn.Softmax(-1)`: exp(x) over its sum along a dimension.
over_dimension("Softmax", gls.softmax)
--- `nn.LogSoftmax(-1)`: its logarithm.
over_dimension("LogSoftmax", gls.log_softmax)

local PReLU = Module.class("PReLU")
activation.PReLU = PReLU

--- `nn.PReLU(1, 0.25)`: x where positive, else a trained slope times x (He, Zhang, Ren and Sun, 2015): one for all, or
-- one for every channel of x (N, C, …), which must have as many; the slopes begin at the second argument.
function PReLU:init(channels, start)
  self.channels = affine.check_size("nn.PReLU", "channels", channels or 1)
  self.weight = gls.full({ self.channels }, start or 0.25):requires_grad(true)
end

function PReLU:forward(x)
  local slope = self.weight
  if self.channels > 1 then
    if x:dim() < 2 or x:size(2) ~= self.channels then
      error(("x (N, %d, …) expected, got shape %s"):format(self.channels, number.shape(x.shape)), 2)
    end
    local shape = { 1, self.channels }
    for i = 3, x:dim() do shape[i] = 1 end
    slope = slope:view(shape)
  end
  return x:relu() - slope * (-x):relu()
end

function PReLU:describe() return ("%d"):format(self.channels) end

local LeakyReLU = Module.class("LeakyReLU")
activation.LeakyReLU = LeakyReLU

--- `nn.LeakyReLU(0.01)`: x where positive, else slope x.
function LeakyReLU:init(slope) self.slope = slope or 0.01 end
function LeakyReLU:forward(x) return gls.leaky_relu(x, self.slope) end
function LeakyReLU:describe() return ("slope %g"):format(self.slope) end

local ELU = Module.class("ELU")
activation.ELU = ELU

--- `nn.ELU(1)`: x where positive, else alpha (exp(x) - 1) (Clevert, Unterthiner and Hochreiter, 2016).
function ELU:init(alpha) self.alpha = alpha or 1 end
function ELU:forward(x) return gls.elu(x, self.alpha) end
function ELU:describe() return ("alpha %g"):format(self.alpha) end

local Dropout = Module.class("Dropout")
activation.Dropout = Dropout

--- `nn.Dropout(0.5)`: in training, elements are 0 with this probability and the others scaled by 1 / (1 - probability)
-- (Srivastava et al., 2014).
function Dropout:init(probability)
  self.probability = affine.check_dropout("nn.Dropout", probability or 0.5)
end

function Dropout:forward(x)
  if not self.training or self.probability == 0 then return x end
  return gls.dropout(x, self.probability)
end

function Dropout:describe() return ("%g"):format(self.probability) end

local Flatten = Module.class("Flatten")
activation.Flatten = Flatten

--- `nn.Flatten{ first = 2, last = -1 }`: dimensions first to last as one; by default all but the batch's.
function Flatten:init(settings)
  local set = options.check("nn.Flatten", settings, { first = 2, last = -1 })
  self.first, self.last = set.first, set.last
end

function Flatten:forward(x) return gls.flatten(x, self.first, self.last) end

return activation
