--- Display: what the runtime's own objects look like at the prompt: tensors with their statistics, modules with the
-- shapes that they gave, optimizers with what each layer gets, sets and batches as pictures.
-- @module gls.repl.display
local core = require "gls.core"
local number = require "gls.number"
local log = require "gls.log"
local picture = require "gls.plot.picture"
local set = require "gls.data.set"
local terminal = require "gls.terminal"

local display = {}

local WARNING, FAINT = "31", "2"


local function short(value) return ("%.4g"):format(value) end

-- ---- tensors ----

local LARGE = 1000 -- elements of which tostring shows not all

-- Least, mean, greatest and standard deviation of the finite values; NaN and infinities counted.
local function statistics(x)
  local _ <close> = core.no_grad()
  local _ <close> = core.scope()
  x = x:detach():float()
  local finite = core.is_finite(x)
  local count = math.tointeger(finite:sum():item() // 1)
  local nan, text = 0, "no finite value"
  if count < x:numel() then nan = math.tointeger(core.is_nan(x):sum():item() // 1) end
  local infinite = x:numel() - count - nan
  if count > 0 then
    local low, high, mean, deviation
    if count == x:numel() then
      low, high, mean = x:min():item(), x:max():item(), x:mean():item()
      deviation = math.sqrt(((x - mean) ^ 2):mean():item())
    else
      low = core.where(finite, x, core.full_like(x, math.huge)):min():item()
      high = core.where(finite, x, core.full_like(x, -math.huge)):max():item()
      local known = core.where(finite, x, core.zeros_like(x))
      mean = known:sum():item() / count
      deviation = math.sqrt((core.where(finite, known - mean, core.zeros_like(x)) ^ 2):sum():item() / count)
    end
    text = ("min %s, mean %s, max %s, std %s"):format(short(low), short(mean), short(high), short(deviation))
  end
  local wrong = {}
  if nan > 0 then wrong[#wrong + 1] = ("%s NaN"):format(number.grouped(nan)) end
  if infinite > 0 then wrong[#wrong + 1] = ("%s infinite"):format(number.grouped(infinite)) end
  if #wrong == 0 then return text end
  return text .. ", " .. terminal.paint(WARNING, table.concat(wrong, ", "))
end

--- A tensor: tostring's lines, and of a large one its statistics.
function display.tensor(x)
  local text = tostring(x):gsub("\n+$", "")
  if x:numel() > LARGE then text = text .. "\n" .. statistics(x) end
  return text
end

-- ---- optimizers ----

-- Who steps the parameters of a group: place → name of a method, for those that the optimizer's own does not.
local function others_of(optimizer, group)
  local others = {}
  if group.other_names then -- an optimizer of matrices
    local known = {}
    for _, name in ipairs(group.other_names) do known[name] = true end
    for i, name in ipairs(group.names) do
      if known[name] then others[i] = "AdamW" end
    end
  elseif optimizer.name == "GLS" then
    local owners = group.parameters.owners or {}
    for i in ipairs(group.names) do
      if owners[i] and not owners[i].affine then others[i] = "Adam" end
    end
    for _, i in ipairs(optimizer.steps > 0 and group.core:unhandled() or {}) do others[i] = "Adam" end
  end
  return others
end

local function pairs_text(values)
  local parts = {}
  for key, value in pairs(values) do
    if type(value) ~= "table" and type(value) ~= "userdata" then
      if type(value) == "function" then value = "a function" end
      parts[#parts + 1] = key .. " " .. (math.type(value) == "float" and short(value) or tostring(value))
    end
  end
  table.sort(parts)
  return table.concat(parts, ", ")
end

local function is_optimizer(value)
  local metatable = type(value) == "table" and getmetatable(value)
  return type(metatable) == "table" and rawget(metatable, "class") ~= nil and rawget(value, "groups") ~= nil
end

--- An optimizer: its groups with their settings, each parameter with who steps it, the last report.
function display.optimizer(optimizer)
  local steps = optimizer.steps
  local lines = { ("%s, %d %s"):format(tostring(optimizer), steps, steps == 1 and "step" or "steps") }
  for i, group in ipairs(optimizer.groups) do
    if #optimizer.groups > 1 then lines[#lines + 1] = ("group %d: %s"):format(i, pairs_text(group.settings)) end
    local others, shapes, width, widest = others_of(optimizer, group), {}, 0, 0
    for k, name in ipairs(group.names) do
      shapes[k] = number.shape(group.parameters[k].shape)
      width, widest = math.max(width, log.width(name)), math.max(widest, log.width(shapes[k]))
    end
    for k, name in ipairs(group.names) do
      lines[#lines + 1] = ("  %s  %s  %s"):format(log.pad(name, width), log.pad(shapes[k], widest),
        others[k] or optimizer.name)
    end
  end
  local report = optimizer:report()
  if next(report) ~= nil then lines[#lines + 1] = "last report: " .. pairs_text(report) end
  return table.concat(lines, "\n")
end

-- ---- sets and batches ----

local PICTURES = 8 -- of a set or a batch, in one row

-- Values as save_image takes them: what is outside 0 to 1 is stretched.
local function drawable(images)
  if images.type == "uint8" then return images end
  local low, high = images:min():item(), images:max():item()
  if low >= 0 and high <= 1 then return images end
  return (images - low) / math.max(high - low, 1e-30)
end

-- The first images in a row, and under them their names as far as those fit; nil where a tensor is no images.
local function row_of_images(images, labels, classes)
  local channels = images:dim() == 4 and images:size(2)
  if channels ~= 1 and channels ~= 3 or images:size(1) == 0 then return nil end
  local _ <close> = core.no_grad()
  local _ <close> = core.scope()
  local columns, rows = terminal.size()
  local count = math.min(PICTURES, images:size(1))
  local first = drawable(images:detach():narrow(1, 1, count):contiguous())
  local way, cell = terminal.graphics(), images:size(4) + 1
  if way == "blocks" or way == "text" then -- as many as fit, at their size; a larger one is made smaller
    count = math.max(1, math.min(count, (columns + 1) // cell))
    first = first:narrow(1, 1, count):contiguous()
  end
  local path = os.tmpname()
  local good, message = pcall(core.save_image, path, first, { columns = count, gap = 1 })
  local text = good and picture.of(path, columns, math.min(rows - 4, 40))
    or terminal.paint(WARNING, (tostring(message):gsub("^.-: ", "", 1)))
  os.remove(path)
  local names = {}
  for i = 1, labels and labels:dim() == 1 and labels.type == "int32" and good and count or 0 do
    local label = labels[i]:item()
    names[i] = classes and classes[label] or tostring(label)
  end
  if (way == "blocks" or way == "text") and count * cell <= columns + 1 then
    for i, name in ipairs(names) do names[i] = log.pad(name:sub(1, cell - 1), cell) end
    return text .. (table.concat(names):gsub("%s+$", ""))
  end
  return text .. table.concat(names, ", ")
end

--- A set: what it is, and its first images.
function display.set(value)
  local text = tostring(value)
  if value.note and value.note ~= value.name then text = text .. "\n" .. terminal.paint(FAINT, value.note) end
  local images = value.images and row_of_images(value.images, value.labels, value.classes)
  return text .. (images and "\n" .. images or "")
end

-- Whether a value is a batch as loaders give it.
local function is_batch(value)
  return type(value) == "table" and getmetatable(value) == nil and core.is_tensor(rawget(value, "x"))
    and (core.is_tensor(rawget(value, "y")) or rawget(value, "number") ~= nil)
end

--- A batch: its tensors, and its first images.
function display.batch(value)
  local lines, names = {}, {}
  for name in next, value do names[#names + 1] = tostring(name) end
  table.sort(names)
  for _, name in ipairs(names) do
    local field = value[name]
    if core.is_tensor(field) then
      lines[#lines + 1] = ("%s = %s"):format(name, tostring(field):match "^[^\n]*")
      if field:numel() > LARGE and name == "x" then lines[#lines] = lines[#lines] .. ": " .. statistics(field) end
    else
      lines[#lines + 1] = ("%s = %s"):format(name, tostring(field))
    end
  end
  lines[#lines + 1] = row_of_images(value.x, value.y)
  return table.concat(lines, "\n")
end

--- The function of this module that describes a value, or nil.
function display.of(value)
  if core.is_tensor(value) then return display.tensor end
  if set.is(value) then return display.set end
  if is_optimizer(value) then return display.optimizer end
  return is_batch(value) and display.batch or nil
end

return display
