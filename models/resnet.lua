--- ResNet for small images: 6n + 2 layers, three stages of n residual blocks each (He, Zhang, Ren and Sun, "Deep
-- residual learning for image recognition", CVPR 2016, section 4.2), shortcuts without parameters (option A).
local nn = require "gls.nn"
local options = require "gls.options"

local norms = {
  batch = function(channels) return nn.BatchNorm2d(channels) end,
  group = function(channels) return nn.GroupNorm(math.min(8, channels), channels) end,
}

local Block = nn.class("Block")

function Block:init(inputs, outputs, stride, norm)
  self.stride, self.more = stride, outputs - inputs
  self.conv1 = nn.Conv2d(inputs, outputs, 3, { stride = stride, padding = 1, bias = false })
  self.norm1 = norm(outputs)
  self.conv2 = nn.Conv2d(outputs, outputs, 3, { padding = 1, bias = false })
  self.norm2 = norm(outputs)
end

-- Every second row and column, and channels of zeros.
function Block:shortcut(x)
  if self.stride > 1 then x = x[{ {}, {}, { 1, -1, self.stride }, { 1, -1, self.stride } }] end
  return self.more > 0 and x:pad { 0, 0, 0, 0, 0, self.more } or x
end

function Block:forward(x)
  local h = self.norm1(self.conv1(x)):relu()
  return (self.norm2(self.conv2(h)) + self:shortcut(x)):relu()
end

--- @tparam[opt] table given `depth` = 20 (6n + 2), `width` = 16 (channels of the first stage), `norm` = "batch" or
-- "group", `channels` = 3, `outputs` = 10 (classes), `initialisation` = "he"
-- @treturn table module: images (n × channels × h × w) to logits (n × outputs)
return function(given)
  local set = options.check("models.resnet", given,
    { depth = 20, width = 16, norm = "batch", channels = 3, outputs = 10, initialisation = "he" })
  local n, norm = (set.depth - 2) / 6, norms[set.norm]
  if n < 1 or n ~= math.floor(n) then error(("models.resnet: depth is 6n + 2, not %g"):format(set.depth), 2) end
  if not norm then
    error(('models.resnet: unknown norm "%s"%s'):format(set.norm, options.suggestion(set.norm, norms)), 2)
  end
  local layers = { nn.Conv2d(set.channels, set.width, 3, { padding = 1, bias = false }), norm(set.width), nn.ReLU() }
  local channels = set.width
  for stage = 1, 3 do
    local outputs = set.width << (stage - 1)
    for block = 1, n do
      layers[#layers + 1] = Block(channels, outputs, (stage > 1 and block == 1) and 2 or 1, norm)
      channels = outputs
    end
  end
  layers[#layers + 1] = nn.AdaptiveAvgPool2d(1)
  layers[#layers + 1] = nn.Flatten()
  layers[#layers + 1] = nn.Linear(channels, set.outputs)
  return require "models.initialise"(nn.Sequential(layers), set.initialisation)
end
