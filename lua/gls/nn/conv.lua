--- Conv2d: two-dimensional convolution (cross-correlation) of images (N, C, H, W).
-- @module gls.nn.conv
local gls = require "gls"
local options = require "gls.options"
local Module = require "gls.nn.module"
local Affine = require "gls.nn.affine"

local Conv2d = Module.class("Conv2d", Affine)

local function pair(where, what, value, least)
  if type(value) == "number" then value = { value, value } end
  if type(value) ~= "table" or #value ~= 2 then
    error(("%s: %s must be a whole number or a list of two"):format(where, what), 3)
  end
  for i = 1, 2 do
    if math.type(value[i]) ~= "integer" or value[i] < least then
      error(("%s: %s must be whole numbers from %d, got %s"):format(where, what, least, tostring(value[i])), 3)
    end
  end
  return { value[1], value[2] }
end

--- `nn.Conv2d(3, 16, 3, { stride = 1, padding = 1, dilation = 1, groups = 1, bias = true, init = …, gain = … })`
-- @tparam integer inputs channels
-- @tparam integer outputs channels
-- @param kernel height and width of the window: a number or a list of two, as are stride, padding and dilation
-- @tparam[opt] table settings
function Conv2d:init(inputs, outputs, kernel, settings)
  local where = "nn.Conv2d"
  Affine.check_size(where, "inputs", inputs)
  Affine.check_size(where, "outputs", outputs)
  local set = options.check(where, settings, Affine.options {
    stride = options.any(1), padding = options.any(0), dilation = options.any(1), groups = 1,
  })
  Affine.check_size(where, "groups", set.groups)
  if inputs % set.groups ~= 0 or outputs % set.groups ~= 0 then
    error(("%s: groups = %d must divide inputs %d and outputs %d"):format(where, set.groups, inputs, outputs), 2)
  end
  self.inputs, self.outputs = inputs, outputs
  self.kernel = pair(where, "kernel", kernel, 1)
  self.settings = {
    stride = pair(where, "stride", set.stride, 1), padding = pair(where, "padding", set.padding, 0),
    dilation = pair(where, "dilation", set.dilation, 1), groups = set.groups,
  }
  self.affine = set.groups == 1 -- each group is an affine map of its own: no factors for GLS
  self:make({ outputs, inputs // set.groups, self.kernel[1], self.kernel[2] }, outputs, set)
end

function Conv2d:forward(x) return gls.conv2d(x, self.weight, self.bias, self.settings) end

function Conv2d:describe()
  local set = self.settings
  local text = ("%d → %d, kernel %d×%d"):format(self.inputs, self.outputs, self.kernel[1], self.kernel[2])
  for _, name in ipairs { "stride", "padding", "dilation" } do
    local a, b = set[name][1], set[name][2]
    local usual = name == "padding" and 0 or 1
    if a ~= usual or b ~= usual then text = text .. (", %s %s"):format(name, a == b and a or a .. "×" .. b) end
  end
  if set.groups ~= 1 then text = text .. (", groups %d"):format(set.groups) end
  return text
end

return Conv2d
