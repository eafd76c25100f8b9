-- ResNet-20 here and in PyTorch, from the same weights and batches: the same losses for a hundred steps. The rate is
-- small, for with a larger one batch normalisation makes of the last bit more than a thousandth in a hundred steps (at
-- 1e-3 it is 0.0016). Needs a Python with PyTorch (PYTHON names one) and takes a minute.
local gls, nn, optim = require "gls", require "gls.nn", require "gls.optim"
local scratch = require "tests.lua.scratch"

scratch.each(before_each, after_each)

local STEPS, BATCH, IMAGES = 100, 32, 320

-- He et al. 2016, section 4.2, with option A; SGD with momentum.
local SCRIPT = [[
import sys, numpy, torch
from torch import nn
from torch.nn import functional as F
torch.set_num_threads(1)
class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.stride, self.more = stride, outputs - inputs
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
    def forward(self, x):
        h = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        return (h + F.pad(x[:, :, ::self.stride, ::self.stride], (0, 0, 0, 0, 0, self.more))).relu()
layers, channels = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()], 16
for stage in range(3):
    for block in range(3):
        layers.append(Block(channels, 16 << stage, 2 if stage and not block else 1))
        channels = 16 << stage
model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
given = numpy.load("given.npz")
with torch.no_grad():
    for name, parameter in model.named_parameters():
        place, rest = name.split(".", 1)
        value = torch.from_numpy(given[f"{int(place) + 1}.{rest}"])
        parameter.copy_(value.t() if value.dim() == 2 else value)
images, labels = torch.from_numpy(given["images"]), torch.from_numpy(given["labels"]).long() - 1
optimizer = torch.optim.SGD(model.parameters(), lr=0.0005, momentum=0.9)
for x, y in list(zip(images.split(BATCH), labels.split(BATCH))) * (STEPS * BATCH // len(labels)):
    loss = F.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item())
]]

describe("ResNet-20", function()
  it("has PyTorch's losses for a hundred steps", function()
    local python = scratch.python_with "numpy, torch"
    if not python then pending "skipped: Python has no PyTorch (PYTHON names another)" return end
    gls.seed(1)
    local model = require "models.resnet" { depth = 20 }
    local labels = gls.randint(1, 10, IMAGES)
    local images = gls.randn(10, 3, 32, 32):index_select(1, labels) * 0.5 + gls.randn(IMAGES, 3, 32, 32)
    local given, parameters = { images = images, labels = labels }, model:parameters()
    for i, name in ipairs(parameters.names) do given[name] = parameters[i]:detach() end
    gls.save_npz(scratch.path "given.npz", given)
    local text = scratch.run_python(python, (SCRIPT:gsub("BATCH", BATCH):gsub("STEPS", STEPS)))
    local opt, step, worst, first = optim.SGD(parameters, { learning_rate = 5e-4, momentum = 0.9 }), 0, 0, nil
    for line in text:gmatch "[^\n]+" do
      local expected = assert(tonumber(line), text)
      local start = step * BATCH % IMAGES + 1
      local loss = nn.cross_entropy(model(images:narrow(1, start, BATCH)), labels:narrow(1, start, BATCH))
      worst = math.max(worst, math.abs(loss:item() - expected))
      first, step = first or expected, step + 1
      assert(worst < 1e-3, ("step %d: %.6f, PyTorch %.6f"):format(step, loss:item(), expected))
      if step == STEPS then assert(expected < 0.6 * first, text) end -- it trained
      loss:backward()
      opt:step()
    end
    assert.equal(STEPS, step)
  end)
end)
