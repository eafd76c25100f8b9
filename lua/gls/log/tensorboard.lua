--- TensorBoard: a log that TensorBoard shows: scalars, histograms, images.
-- @module gls.log.tensorboard
local system = require "system"
local core = require "gls.core"
local event = require "gls.log.event"
local file = require "gls.file"
local finite = require("gls.number").finite
local writer = require "gls.log.writer"

local BUCKETS = 30

local Board = writer.class()

local function write(self, message)
  local good, problem = self.handle:write(event.record(message))
  if good then good, problem = self.handle:flush() end
  if not good then core.raise(("%s: %s: %s"):format(self.where, self.file, problem)) end
end

-- A file of the present second that is not there yet; TensorBoard reads a folder's files in the order of their names.
local function new_name(folder)
  local stem, number = ("%s/events.out.tfevents.%d.glsrun"):format(folder, os.time()), 0
  while file.kind(("%s.%03d"):format(stem, number)) do number = number + 1 end
  return ("%s.%03d"):format(stem, number)
end

function Board:begin(last)
  core.io.make_folders(self.path)
  self.file = new_name(self.path)
  local handle, problem = io.open(self.file, "wb")
  if not handle then core.raise(("%s: %s"):format(self.where, problem)) end
  self.handle = handle
  write(self, event.version(system.gettime()))
  if last and last < math.maxinteger then write(self, event.restart(system.gettime(), last + 1)) end
end

local function add(self, step, values) write(self, event.summary(system.gettime(), step, values)) end

function Board:add(step, values)
  local names, list = {}, {}
  for name in pairs(values) do names[#names + 1] = name end
  table.sort(names)
  for i, name in ipairs(names) do list[i] = event.scalar(name, values[name]) end
  add(self, step, list)
end

function Board:finish()
  self.handle:close()
  self.handle = nil
end

local function check(self, what, name, tensor)
  if type(name) ~= "string" then
    core.raise(("%s: %s: a name expected, got %s"):format(self.where, what, type(name)))
  end
  if not core.is_tensor(tensor) or tensor:numel() == 0 then
    core.raise(("%s: %s %s: a tensor with elements expected"):format(self.where, what, name))
  end
  writer.open(self)
end

-- Of what is finite, in buckets of one width.
local function histogram_of(values)
  local low, high = values:min():item(), values:max():item()
  local made = {
    min = low, max = high, count = values:numel(), sum = values:sum():item(), squares = (values * values):sum():item(),
    limits = {}, counts = {},
  }
  local buckets, below = low < high and BUCKETS or 1, 0
  for i = 1, buckets do
    local limit = i == buckets and high or low + (high - low) * i / buckets
    local up_to = i == buckets and made.count or values:le(limit):sum():item()
    made.limits[i], made.counts[i], below = limit, up_to - below, up_to
  end
  return made
end

--- Writes how the values of a tensor are distributed. Where some are not finite, the scalar `NAME/not_finite` counts
-- them, and the histogram is of the others.
-- @tparam integer step
-- @tparam string name
-- @param tensor of any shape and type
function Board:histogram(step, name, tensor)
  check(self, "histogram", name, tensor)
  local _ <close> = core.no_grad()
  local _ <close> = core.scope()
  local values = tensor:detach():to("float32"):reshape(-1)
  local list = {}
  if not finite(values:sum():item()) then
    local good = {}
    for _, value in ipairs(values:tolist()) do
      if finite(value) then good[#good + 1] = value end
    end
    list[1] = event.scalar(name .. "/not_finite", values:numel() - #good)
    values = #good > 0 and core.tensor(good) or nil
  end
  if values then list[#list + 1] = event.histogram(name, histogram_of(values)) end
  add(self, step, list)
end

--- Writes a picture.
-- @tparam integer step
-- @tparam string name
-- @param tensor as gls.save_image takes it: (H, W), (C, H, W) or (N, C, H, W), a grid; bytes, or reals from 0 to 1
function Board:image(step, name, tensor)
  check(self, "image", name, tensor)
  local path = os.tmpname()
  local png = path .. ".png"
  local good, problem = pcall(core.save_image, png, tensor)
  local content = good and file.read(png)
  os.remove(png)
  os.remove(path)
  if not good then
    local _, stop = problem:find(png .. ": ", 1, true)
    core.raise(("%s: image %s: %s"):format(self.where, name, problem:sub((stop or 0) + 1)))
  end
  add(self, step, { event.image(name, content) })
end

function Board:on_epoch(state)
  writer.methods.on_epoch(self, state)
  if not self.set.histograms then return end
  for name, parameter in state.model:named_parameters() do self:histogram(state.step, name, parameter) end
end

--- A log that TensorBoard shows (`tensorboard --logdir runs`): a folder with an event file. As log.jsonl, a callback of
-- train.fit; besides `scalars`, `writer:histogram(step, name, tensor)` and `writer:image(step, name, tensor)`.
-- @tparam string folder made when it is not there; every log is a file of its own in it
-- @tparam[opt] table given as for log.jsonl; `histograms` = false (true: of all parameters, after every epoch)
-- @return a writer, with `scalars`, `histogram`, `image` and `close`
return function(folder, given)
  return writer.new(Board, "log.tensorboard", folder, given, { histograms = false })
end
