--- Convolutions (cross-correlations) of images (N, C, H, W) and of sequences (N, C, L), and their transposes.
-- @module gls.nn.conv
local gls = require "gls"
local options = require "gls.options"
local Module = require "gls.nn.module"
local Affine = require "gls.nn.affine"

local conv = {}

-- A whole number, or a list of one for each of `count` dimensions, as such a list.
local function sizes(where, what, value, least, count)
  if type(value) == "number" then
    local all = {}
    for i = 1, count do all[i] = value end
    value = all
  end
  if type(value) ~= "table" or #value ~= count then
    error(("%s: %s must be a whole number%s"):format(where, what, count == 2 and " or a list of two" or ""), 3)
  end
  for i = 1, count do
    if math.type(value[i]) ~= "integer" or value[i] < least then
      error(("%s: %s must be whole numbers from %d, got %s"):format(where, what, least, tostring(value[i])), 3)
    end
  end
  return { table.unpack(value) }
end

-- What all four share: `count` dimensions, and whether it is transposed.
local function new_class(name, op, count, transposed)
  local Conv = Module.class(name, Affine)
  local where = "nn." .. name

  function Conv:init(inputs, outputs, kernel, settings)
    Affine.check_size(where, "inputs", inputs)
    Affine.check_size(where, "outputs", outputs)
    local known = { stride = options.any(1), padding = options.any(0), dilation = options.any(1), groups = 1 }
    if transposed then known.output_padding = options.any(0) end
    local set = options.check(where, settings, Affine.options(known))
    Affine.check_size(where, "groups", set.groups)
    if inputs % set.groups ~= 0 or outputs % set.groups ~= 0 then
      error(("%s: groups = %d must divide inputs %d and outputs %d"):format(where, set.groups, inputs, outputs), 2)
    end
    self.inputs, self.outputs = inputs, outputs
    self.kernel = sizes(where, "kernel", kernel, 1, count)
    self.settings = { groups = set.groups }
    for key, least in pairs { stride = 1, padding = 0, dilation = 1, output_padding = transposed and 0 or nil } do
      local list = sizes(where, key, set[key], least, count)
      self.settings[key] = count == 1 and list[1] or list
    end
    -- Factors for GLS: each group is an affine map of its own, and a transposed one adds up what overlaps.
    self.affine = set.groups == 1 and not transposed
    local first, second = outputs, inputs
    if transposed then first, second = inputs, outputs end
    self:make({ first, second // set.groups, table.unpack(self.kernel) }, outputs, set)
  end

  function Conv:forward(x) return op(x, self.weight, self.bias, self.settings) end

  function Conv:describe()
    local set = self.settings
    local text = ("%d → %d, kernel %s"):format(self.inputs, self.outputs, table.concat(self.kernel, "×"))
    for _, key in ipairs { "stride", "padding", "dilation", "output_padding" } do
      local value = set[key]
      local a, b = value, value
      if type(value) == "table" then a, b = value[1], value[2] end
      local usual = (key == "stride" or key == "dilation") and 1 or 0
      if a and (a ~= usual or b ~= usual) then
        text = text .. (", %s %s"):format(key:gsub("_", " "), a == b and a or a .. "×" .. b)
      end
    end
    if set.groups ~= 1 then text = text .. (", groups %d"):format(set.groups) end
    return text
  end

  return Conv
end

--- `nn.Conv2d(3, 16, 3, { stride = 1, padding = 1, dilation = 1, groups = 1, bias = true, init = …, gain = … })`:
-- images (N, inputs, H, W) to (N, outputs, …).
-- @tparam integer inputs channels
-- @tparam integer outputs channels
-- @param kernel height and width of the window: a number or a list of two, as are stride, padding and dilation
-- @tparam[opt] table settings
conv.Conv2d = new_class("Conv2d", gls.conv2d, 2)

--- `nn.Conv1d(3, 16, 5, { stride = 1, padding = 2, … })`: the same of sequences (N, inputs, L), with numbers for sizes.
conv.Conv1d = new_class("Conv1d", gls.conv1d, 1)

--- `nn.ConvTranspose2d(16, 3, 2, { stride = 2, padding = 0, output_padding = 0, … })`: images (N, inputs, H, W) to
-- larger ones (N, outputs, …), each side (side − 1) stride − 2 padding + dilation (kernel − 1) + 1 + output_padding,
-- which is below the stride. The weight is (inputs, outputs / groups, …). It has no factors: optim.GLS leaves it to its
-- fallback.
conv.ConvTranspose2d = new_class("ConvTranspose2d", gls.conv_transpose2d, 2, true)

--- `nn.ConvTranspose1d(16, 3, 4, { stride = 2, … })`: the same of sequences (N, inputs, L).
conv.ConvTranspose1d = new_class("ConvTranspose1d", gls.conv_transpose1d, 1, true)

return conv
