--- Pooling of images (N, C, H, W) and of sequences (N, C, L).
-- @module gls.nn.pool
local gls = require "gls"
local options = require "gls.options"
local Module = require "gls.nn.module"

local pool = {}

local function describe_sizes(self)
  local kernel = self.kernel
  if type(kernel) == "table" then return "kernel " .. table.concat(kernel, "×") end
  return "kernel " .. (self.dimensions == 2 and ("%d×%d"):format(kernel, kernel) or kernel)
end

-- op: of x, kernel and settings; known: the settings besides stride and padding.
local function new_class(name, op, dimensions, known)
  local Pool = Module.class(name)
  Pool.describe, Pool.dimensions = describe_sizes, dimensions

  function Pool:init(kernel, settings)
    if kernel == nil then error(("nn.%s: a kernel size expected"):format(name), 2) end
    local all = { stride = options.any(0), padding = options.any(0) }
    for key, default in pairs(known) do all[key] = default end
    self.kernel, self.settings = kernel, options.check("nn." .. name, settings, all)
  end

  function Pool:forward(x) return op(x, self.kernel, self.settings) end

  return Pool
end

--- `nn.MaxPool2d(2, { stride = kernel, padding = 0 })`: the largest value of each window.
pool.MaxPool2d = new_class("MaxPool2d", gls.max_pool2d, 2, {})

--- `nn.MaxPool1d(2, { stride = kernel, padding = 0 })`: the same of sequences (N, C, L).
pool.MaxPool1d = new_class("MaxPool1d", gls.max_pool1d, 1, {})

--- `nn.AvgPool2d(2, { stride = kernel, padding = 0, count_padding = true })`: the mean of each window.
pool.AvgPool2d = new_class("AvgPool2d", gls.avg_pool2d, 2, { count_padding = true })

--- `nn.AvgPool1d(2, { stride = kernel, padding = 0, count_padding = true })`: the same of sequences (N, C, L).
pool.AvgPool1d = new_class("AvgPool1d", gls.avg_pool1d, 1, { count_padding = true })

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
