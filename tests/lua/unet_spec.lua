-- U-Net: learns, has right gradients, names wrong sides.
local gls, nn, optim = require "gls", require "gls.nn", require "gls.optim"

describe("models.unet", function()
  local unet = require "models.unet"

  it("learns to take noise from real images", function()
    gls.seed(2)
    local set = require("gls.data").fashion_mnist { samples = 4 }
    local clean = set.images:to "float32" / 255
    local noisy = clean + gls.randn_like(clean) * 0.3
    local model = unet { channels = 1, width = 8, depth = 2 }
    local opt = optim.Adam(model:parameters(), { learning_rate = 1e-2 })
    local last
    for _ = 1, 40 do
      local loss = nn.mse(model(noisy), clean)
      last = loss:item()
      loss:backward()
      opt:step()
    end
    local untouched = nn.mse(noisy, clean):item()
    assert.is_true(last < 0.5 * untouched, ("%g, of noise %g"):format(last, untouched))
  end)

  it("has the gradient that differences give", function()
    gls.seed(3)
    local model, x = unet { channels = 2, outputs = 3, width = 4, depth = 1 }, gls.randn(2, 2, 4, 6)
    local list, directions = model:parameters(), {}
    local function loss() return (model(x) ^ 2):mean() end
    loss():backward()
    local slope = 0
    for i, parameter in ipairs(list) do
      directions[i] = gls.randn_like(parameter):detach()
      slope = slope + (parameter.grad * directions[i]):sum():item()
    end
    local function moved(step)
      local _ <close> = gls.no_grad()
      for i, parameter in ipairs(list) do parameter:copy(parameter + directions[i] * step) end
      return loss():item()
    end
    local step = 1e-4
    local above = moved(step)
    local below = moved(-2 * step)
    local difference = (above - below) / (2 * step)
    assert.is_true(math.abs(difference - slope) < 0.02 * math.abs(slope), ("%g, not %g"):format(slope, difference))
  end)

  it("names sides that cannot be halved", function()
    local ok, message = pcall(unet { depth = 2 }, gls.zeros(1, 3, 6, 8))
    assert.is_false(ok)
    assert.matches("images of 6×8 are halved to 4 of their sides: both must be multiples of it", message, 1, true)
  end)
end)
