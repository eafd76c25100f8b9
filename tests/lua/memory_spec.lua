--- What training keeps in memory: nothing that grows with its steps.
local gls = require "gls"
local nn = require "gls.nn"
local optim = require "gls.optim"

describe("memory of training", function()
  it("does not grow with the passes whose gradients are accumulated", function()
    local model = nn.Sequential { nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 256) }
    local x = gls.randn(200, 256)
    local function live_after(passes)
      for _ = 1, passes do nn.mse(model(x), x):backward() end
      return gls.memory().live
    end
    local few = live_after(5)
    assert.is_true(live_after(60) < 2 * few)
    gls.tape_release()
  end)

  -- In a process of its own: other tests leave Lua a large heap, in which it collects at other times.
  local TRAINING = [[
    local gls, nn, optim = require "gls", require "gls.nn", require "gls.optim"
    gls.seed(1)
    gls.threads(1) -- the models are too small for more
    local classifies, trained, chosen = %q == "MLP"
    if classifies then
      trained = nn.Sequential { nn.Linear(192, 48), nn.ReLU(), nn.Linear(48, 24), nn.ReLU(), nn.Linear(24, 10) }
    else
      trained = nn.Sequential { nn.Linear(192, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(),
        nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 192) }
    end
    chosen = optim.%s(trained:parameters(), %s)
    local function resident()
      local file <close> = assert(io.open("/proc/self/statm"))
      local _, pages = file:read("n", "n")
      return pages * 4096
    end
    local function step()
      local x, y = gls.randn(40, 192), gls.randint(1, 10, 40)
      local output = trained(x)
      local loss = classifies and nn.cross_entropy(output, y) or nn.mse(output, x)
      loss:backward()
      chosen:step()
    end
    -- Prints peak bytes and resident size of the steps from one to another.
    local function measure(from, to)
      gls.collect() -- every stretch begins with no step's tensors waiting
      gls.reset_peak()
      for _ = from, to do step() end
      print(gls.memory().peak, resident())
    end
    measure(1, 1)
    measure(2, 2)
    measure(3, 500)
    measure(501, 1000)
  ]]
  local glsrun = os.getenv "GLSRUN" or "build/glsrun"
  local sanitized = (os.getenv "SANITIZE" or "") ~= "" -- the sanitizer keeps what is freed for a while
  local optimizers = {
    { "SGD", "SGD", "{ learning_rate = 1e-3 }" }, { "Adam", "Adam", "{}" }, { "GLS", "GLS", "{}" },
    { "matched GLS", "GLS", '{ graft = "rms", momentum = 0.9, damping = 1, learning_rate = 1e-4 }' },
  }
  for _, model in ipairs { "MLP", "autoencoder" } do
    for _, optimizer in ipairs(optimizers) do
      it(("is flat from the second step to the thousandth: %s, %s"):format(model, optimizer[1]), function()
        local path = os.tmpname()
        local script = assert(io.open(path, "w"))
        script:write(TRAINING:format(model, optimizer[2], optimizer[3]))
        script:close()
        local pipe = assert(io.popen(("unset LD_PRELOAD; '%s' '%s' 2>&1"):format(glsrun, path)))
        local said = pipe:read "a"
        pipe:close()
        os.remove(path)
        local numbers = {}
        for number in said:gmatch "%d+" do numbers[#numbers + 1] = math.tointeger(number) end
        assert.equal(8, #numbers, said)
        local _, _, second, second_size, half, half_size, whole, whole_size = table.unpack(numbers)
        -- tensors of earlier steps wait for Lua's collector until they are a megabyte, and the last step's are there
        assert.is_true(half <= second + 1.5 * 2^20, ("peak %d to step 500, %d in the second"):format(half, second))
        assert.is_true(whole <= half, ("peak %d to step 1000, %d to step 500"):format(whole, half))
        if not sanitized then
          assert.is_true(half_size <= second_size + 2^21, ("resident %d, %d at step 2"):format(half_size, second_size))
          assert.is_true(whole_size <= half_size + 2^16, ("resident %d, %d at step 500"):format(whole_size, half_size))
        end
      end)
    end
  end
end)

describe("memory of training on batches of megabytes", function()
  it("is flat from the second step on: what a step makes before its first recorded op does not grow old", function()
    gls.seed(1)
    local model = nn.Sequential { nn.Linear(3072, 1024), nn.ReLU(), nn.Linear(1024, 8) }
    local optimizer = optim.SGD(model:parameters(), { learning_rate = 1e-3 })
    local function peak(steps)
      gls.collect()
      gls.reset_peak()
      for _ = 1, steps do
        local x, y = gls.rand(400, 3072) - 0.5, gls.randn(400, 8)
        local output = model(x)
        local loss = nn.mse(output, y)
        loss:backward()
        optimizer:step()
      end
      return gls.memory().peak
    end
    peak(1)
    local first, later = peak(3), peak(60) -- a step's tensors that variables held are there in the next one
    assert.is_true(later <= first, ("peak %d in later steps, %d in the first"):format(later, first))
  end)
end)
