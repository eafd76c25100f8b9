--- Pooling of images (N, C, H, W).
-- @module gls.nn.pool
local gls = require "gls"
local options = require "gls.options"
local Module = require "gls.nn.module"

local pool = {}

local function describe_window(self)
  local kernel = self.kernel
  return ("kernel %s"):format(type(kernel) == "table" and table.concat(kernel, "×") or ("%d×%d"):format(kernel, kernel))
end

local MaxPool2d = Module.class("MaxPool2d")
pool.MaxPool2d = MaxPool2d

--- `nn.MaxPool2d(2, { stride = kernel, padding = 0 })`: the largest value of each window.
function MaxPool2d:init(kernel, settings)
  if kernel == nil then error("nn.MaxPool2d: a kernel size expected", 2) end
  local set = options.check("nn.MaxPool2d", settings, { stride = options.any(0), padding = options.any(0) })
  self.kernel, self.stride, self.padding = kernel, set.stride, set.padding
end

function MaxPool2d:forward(x) return gls.max_pool2d(x, self.kernel, self.stride, self.padding) end

MaxPool2d.describe = describe_window

local AvgPool2d = Module.class("AvgPool2d")
pool.AvgPool2d = AvgPool2d

--- `nn.AvgPool2d(2, { stride = kernel, padding = 0, count_padding = true })`: the mean of each window.
function AvgPool2d:init(kernel, settings)
  if kernel == nil then error("nn.AvgPool2d: a kernel size expected", 2) end
  local set = options.check("nn.AvgPool2d", settings,
    { stride = options.any(0), padding = options.any(0), count_padding = true })
  self.kernel, self.stride, self.padding, self.count_padding = kernel, set.stride, set.padding, set.count_padding
end

function AvgPool2d:forward(x)
  return gls.avg_pool2d(x, self.kernel, self.stride, self.padding, self.count_padding)
end

AvgPool2d.describe = describe_window

local AdaptiveAvgPool2d = Module.class("AdaptiveAvgPool2d")
pool.AdaptiveAvgPool2d = AdaptiveAvgPool2d

--- `nn.AdaptiveAvgPool2d(1)`: the means of a grid of the given height and width.
function AdaptiveAvgPool2d:init(sizes) self.sizes = sizes or 1 end

function AdaptiveAvgPool2d:forward(x) return gls.adaptive_avg_pool2d(x, self.sizes) end

function AdaptiveAvgPool2d:describe()
  local sizes = self.sizes
  return "to " .. (type(sizes) == "table" and table.concat(sizes, "×") or ("%d×%d"):format(sizes, sizes))
end

return pool
