--- Normalisation layers. All take { epsilon = 1e-5, affine = true }; affine = false leaves out weight and bias.
-- @module gls.nn.norm
local gls = require "gls"
local number = require "gls.number"
local options = require "gls.options"
local Module = require "gls.nn.module"
local check_size = require("gls.nn.affine").check_size

local norm = {}

local function make_scale(self, size, set, without_bias)
  self.epsilon = set.epsilon
  if not set.affine then return end
  self.weight = gls.ones(size):requires_grad(true)
  if not without_bias then self.bias = gls.zeros(size):requires_grad(true) end
end

local function describe_size(self) return ("%d"):format(self.size) end

-- Refuses x of another width than the layer's, which the op knows by the weight alone. What is no such tensor at all
-- the op refuses.
local function check_width(self, x, dimension, what)
  if gls.is_tensor(x) and x:dim() >= math.abs(dimension) and x:size(dimension) ~= self.size then
    error(("x with %d %s expected, got shape %s, which has %d"):format(
      self.size, what, number.shape(x.shape), x:size(dimension)), 3)
  end
end

local BatchNorm = Module.class("BatchNorm")
norm.BatchNorm = BatchNorm

--- `nn.BatchNorm(channels, { momentum = 0.1 })`, for x (N, C) or (N, C, …): per channel mean 0 and variance 1, over the
-- batch in training, else by running statistics (Ioffe and Szegedy, 2015). In training one value a channel, as in a
-- last batch of one row, is an error: it has no variance. Under several ranks the batch is each rank's own rows.
function BatchNorm:init(channels, settings)
  check_size("nn." .. self.name, "channels", channels)
  local set = options.check("nn." .. self.name, settings, { epsilon = 1e-5, affine = true, momentum = 0.1 })
  if not (set.momentum >= 0 and set.momentum <= 1) then
    error(("nn.%s: momentum is the new batch's share in the running statistics, 0 to 1, got %g"):format(self.name,
      set.momentum), 3)
  end
  self.size, self.momentum = channels, set.momentum
  make_scale(self, channels, set)
  self:buffer("running_mean", gls.zeros(channels))
  self:buffer("running_variance", gls.ones(channels))
end

function BatchNorm:forward(x)
  check_width(self, x, 2, "channels")
  if self.training and gls.is_tensor(x) and x:dim() >= 2 and x:numel() == x:size(2) then
    error(("x (N, C, …) with more than one value a channel expected in training, got shape %s: take larger batches, "
      .. "leave out a last one of one row (drop_last = true), or model:eval()"):format(number.shape(x.shape)), 2)
  end
  return gls.batch_norm(x, self.weight, self.bias, self.running_mean, self.running_variance, self.training,
    self.momentum, self.epsilon)
end

BatchNorm.describe = describe_size

-- The same for both ranks; the names say what is meant and check it.
local function batch_norm_of(name, rank, expected)
  local class = Module.class(name, BatchNorm)
  function class:forward(x)
    if x:dim() ~= rank then
      error(("input %s expected, got shape %s"):format(expected, number.shape(x.shape)), 2)
    end
    return BatchNorm.forward(self, x)
  end
  norm[name] = class
end

--- BatchNorm for (N, C).
batch_norm_of("BatchNorm1d", 2, "(N, C)")
--- BatchNorm for images (N, C, H, W).
batch_norm_of("BatchNorm2d", 4, "(N, C, H, W)")

local LayerNorm = Module.class("LayerNorm")
norm.LayerNorm = LayerNorm

--- `nn.LayerNorm(features)`: mean 0 and variance 1 over the last dimension (Ba, Kiros and Hinton, 2016).
function LayerNorm:init(features, settings)
  check_size("nn.LayerNorm", "features", features)
  self.size = features
  make_scale(self, features, options.check("nn.LayerNorm", settings, { epsilon = 1e-5, affine = true }))
end

function LayerNorm:forward(x)
  check_width(self, x, -1, "features")
  return gls.layer_norm(x, self.weight, self.bias, self.epsilon)
end

LayerNorm.describe = describe_size

local GroupNorm = Module.class("GroupNorm")
norm.GroupNorm = GroupNorm

--- `nn.GroupNorm(groups, channels)`: over each image's groups of channels (Wu and He, 2018).
function GroupNorm:init(groups, channels, settings)
  check_size("nn.GroupNorm", "groups", groups)
  check_size("nn.GroupNorm", "channels", channels)
  if channels % groups ~= 0 then
    error(("nn.GroupNorm: %d groups do not divide %d channels"):format(groups, channels), 2)
  end
  self.groups, self.size = groups, channels
  make_scale(self, channels, options.check("nn.GroupNorm", settings, { epsilon = 1e-5, affine = true }))
end

function GroupNorm:forward(x)
  check_width(self, x, 2, "channels")
  return gls.group_norm(x, self.weight, self.bias, self.groups, self.epsilon)
end

function GroupNorm:describe() return ("%d, %d groups"):format(self.size, self.groups) end

local InstanceNorm = Module.class("InstanceNorm")
norm.InstanceNorm = InstanceNorm

--- `nn.InstanceNorm(channels)`, for x (N, C, …): mean 0 and variance 1 over every channel of every image (Ulyanov,
-- Vedaldi and Lempitsky, 2016).
function InstanceNorm:init(channels, settings)
  check_size("nn.InstanceNorm", "channels", channels)
  self.size = channels
  make_scale(self, channels, options.check("nn.InstanceNorm", settings, { epsilon = 1e-5, affine = true }))
end

function InstanceNorm:forward(x)
  if x:dim() < 3 or x:numel() == x:size(1) * x:size(2) then
    error(("x (N, C, …) with more than one value a channel expected, got shape %s"):format(number.shape(x.shape)), 2)
  end
  check_width(self, x, 2, "channels")
  return gls.group_norm(x, self.weight, self.bias, self.size, self.epsilon)
end

InstanceNorm.describe = describe_size

local RMSNorm = Module.class("RMSNorm")
norm.RMSNorm = RMSNorm

--- `nn.RMSNorm(features)`: over the root mean square of the last dimension (Zhang and Sennrich, 2019); no bias.
function RMSNorm:init(features, settings)
  check_size("nn.RMSNorm", "features", features)
  self.size = features
  make_scale(self, features, options.check("nn.RMSNorm", settings, { epsilon = 1e-5, affine = true }), true)
end

function RMSNorm:forward(x)
  check_width(self, x, -1, "features")
  return gls.rms_norm(x, self.weight, self.epsilon)
end

RMSNorm.describe = describe_size

return norm
