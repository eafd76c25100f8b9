--- U-Net: a value for every pixel, from the image at several scales (Ronneberger, Fischer and Brox, "U-Net:
-- convolutional networks for biomedical image segmentation", MICCAI 2015), with padded convolutions: sides stay.
local gls, nn = require "gls", require "gls.nn"
local options = require "gls.options"

local function convolutions(inputs, outputs)
  return nn.Sequential {
    nn.Conv2d(inputs, outputs, 3, { padding = 1 }), nn.ReLU(),
    nn.Conv2d(outputs, outputs, 3, { padding = 1 }), nn.ReLU(),
  }
end

-- One scale: convolutions down, all smaller scales below, and convolutions over both on the way up.
local Scale = nn.class("Scale")

function Scale:init(inputs, width, depth)
  self.down = convolutions(inputs, width)
  if depth == 0 then return end
  self.pool = nn.MaxPool2d(2)
  self.below = Scale(width, 2 * width, depth - 1)
  self.larger = nn.ConvTranspose2d(2 * width, width, 2, { stride = 2 })
  self.up = convolutions(2 * width, width)
end

function Scale:forward(x)
  local here = self.down(x)
  if not self.below then return here end
  return self.up(gls.cat({ here, self.larger(self.below(self.pool(here))) }, 2))
end

local UNet = nn.class("UNet")

function UNet:init(set)
  self.side = 1 << set.depth
  self.scales = Scale(set.channels, set.width, set.depth)
  self.head = nn.Conv2d(set.width, set.outputs, 1)
end

function UNet:forward(x)
  local height, width = x:size(3), x:size(4)
  if height % self.side ~= 0 or width % self.side ~= 0 then
    error(("images of %d×%d are halved to %d of their sides: both must be multiples of it"):format(height, width,
      self.side), 2)
  end
  return self.head(self.scales(x))
end

--- @tparam[opt] table given `channels` = 3, `outputs` = channels (values of a pixel), `width` = 16 (channels of the
-- largest scale, twice as many of each next), `depth` = 3 (how often sides are halved), `initialisation` = "he"
-- @treturn table module: images (n × channels × h × w) to (n × outputs × h × w); h and w multiples of 2^depth
return function(given)
  local set = options.check("models.unet", given,
    { channels = 3, outputs = options.none, width = 16, depth = 3, initialisation = "he" })
  set.outputs = set.outputs or set.channels
  return require "models.initialise"(UNet(set), set.initialisation)
end
