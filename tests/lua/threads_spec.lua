-- Threads and memory that the environment allows: whatever OpenMP gives is what computes, results do not depend on it,
-- and where OpenBLAS has no room for its buffers the program says so and ends. GLSRUN names the program to try.
local gls, nn, optim = require "gls", require "gls.nn", require "gls.optim"
local glsrun = os.getenv "GLSRUN" or "build/glsrun"

local function run(setting, code)
  local command = ("unset LD_PRELOAD; %s timeout 60 %s -e '%s' 2>&1; echo :$?"):format(setting, glsrun, code)
  local pipe = assert(io.popen(command))
  local text, status = pipe:read("a"):match "^(.*):(%d+)\n$"
  pipe:close()
  return text, tonumber(status)
end

local linear_algebra = [[
  local gls = require "gls"
  local x = gls.randn(300, 300)
  gls.orthogonal(x) gls.eigh(x + x:t()) gls.cholesky(x:matmul(x:t()) + gls.eye(300) * 300)
  print(gls.threads())]]

describe("threads", function()
  it("are as many as OpenMP gives", function()
    for _, setting in ipairs { "OMP_DYNAMIC=true", "OMP_THREAD_LIMIT=1", "OMP_NUM_THREADS=3 OMP_THREAD_LIMIT=2" } do
      local text, status = run(setting, linear_algebra)
      assert.equal(0, status, setting .. ": " .. text)
    end
  end)

  it("are bounded", function()
    local text, status = run("OMP_NUM_THREADS=100000", linear_algebra)
    assert.equal(0, status, text)
    assert.is_true(tonumber(text) <= 1024, text)
    assert.has_error(function() gls.threads(100000) end)
    assert.has_error(function() gls.threads(0) end)
  end)

  it("do not change results", function()
    local threads = gls.threads()
    finally(function() gls.threads(threads) end)
    local x = gls.randn(90, 90)
    local batch, target = gls.randn(40, 30), gls.randn(40, 10)
    local first
    for count = 1, 3 do
      gls.threads(count)
      gls.seed(1)
      local values, vectors = gls.eigh(x + x:t())
      local results = { gls.orthogonal(x), values, vectors }
      local model = nn.Sequential { nn.Linear(30, 50), nn.Tanh(), nn.Linear(50, 10) }
      local tokens = optim.GLS(model:parameters(), { form = "tokens", refresh = 2 })
      for _ = 1, 4 do
        nn.mse(model(batch), target):backward()
        tokens:step()
      end
      for _, parameter in ipairs(model:parameters()) do results[#results + 1] = parameter:clone() end
      first = first or results
      for i, result in ipairs(results) do
        local difference = (result:detach() - first[i]:detach()):abs():max():item()
        assert.equal(0, difference, ("result %d on %d threads"):format(i, count))
      end
    end
  end)
end)

describe("address space", function()
  it("that is too small ends the program", function()
    -- before main, when the runtime is opened; the sanitizers take more than any limit leaves
    if os.getenv "SANITIZE" and os.getenv "SANITIZE" ~= "" then return end
    for _, processors in ipairs { "", "taskset -c 0" } do -- OpenBLAS wants as much on one
      for _, megabytes in ipairs { 100, 200, 450 } do
        local limit = ("ulimit -v %d; OMP_NUM_THREADS=2 %s"):format(megabytes * 1000, processors)
        local text, status = run(limit, linear_algebra)
        assert.equal(1, status, text)
        assert.matches("out of memory", text)
      end
    end
  end)
end)
