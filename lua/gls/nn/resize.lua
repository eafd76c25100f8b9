--- Layers that make images (N, C, H, W) larger without weights.
-- @module gls.nn.resize
local gls = require "gls"
local options = require "gls.options"
local Module = require "gls.nn.module"
local check_size = require("gls.nn.affine").check_size

local resize = {}

local Upsample = Module.class("Upsample")
resize.Upsample = Upsample

local modes = { nearest = false, bilinear = true }

--- `nn.Upsample(2, { mode = "nearest" })`: height and width times a whole factor, by the nearest pixel, or "bilinear"
-- between pixels' centres. `gls.interpolate` gives any sizes.
function Upsample:init(factor, settings)
  self.factor = check_size("nn.Upsample", "factor", factor)
  local set = options.check("nn.Upsample", settings, { mode = "nearest" })
  if modes[set.mode] == nil then
    error(('nn.Upsample: mode must be "nearest" or "bilinear", got "%s"'):format(set.mode), 2)
  end
  self.mode = set.mode
end

function Upsample:forward(x)
  local shape = x.shape
  if #shape ~= 4 then
    error(("images (N, C, H, W) expected, got shape (%s)"):format(table.concat(shape, "×")), 2)
  end
  return gls.interpolate(x, { shape[3] * self.factor, shape[4] * self.factor }, modes[self.mode])
end

function Upsample:describe() return ("%d×, %s"):format(self.factor, self.mode) end

local PixelShuffle = Module.class("PixelShuffle")
resize.PixelShuffle = PixelShuffle

--- `nn.PixelShuffle(2)`: (N, C · factor², H, W) to (N, C, H · factor, W · factor), channels become pixels (Shi et al.,
-- "Real-time single image and video super-resolution using an efficient sub-pixel convolutional neural network", 2016).
function PixelShuffle:init(factor) self.factor = check_size("nn.PixelShuffle", "factor", factor) end

function PixelShuffle:forward(x) return gls.pixel_shuffle(x, self.factor) end

function PixelShuffle:describe() return ("%d×"):format(self.factor) end

return resize
