--- A million steps of a tiny network: microseconds a step and memory, of every tenth of them. Neither should grow but
-- for the kilobytes of live tensors that wait for Lua to collect all its garbage.
--   glsrun tests/bench/long.lua [steps] [optimizer]
local gls, nn, optim = require "gls", require "gls.nn", require "gls.optim"
local log = require "gls.log"

local steps, name = math.tointeger(tonumber(arg[1] or 1000000)), arg[2] or "Adam"
if not steps or steps < 10 then error("steps: a whole number from 10 on", 0) end

local function resident()
  local file <close> = assert(io.open "/proc/self/statm")
  local _, pages = file:read("n", "n")
  return pages * 4096 / 2 ^ 20
end

gls.threads(1)
gls.seed(1)
local model = nn.Sequential { nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2) }
local opt = optim[name](model:parameters())
local x, y = gls.randn(8, 4), gls.randn(8, 2)

print(("%12s  %14s  %12s  %12s"):format("steps", "microseconds", "live, KiB", "resident, MiB"))
for part = 1, 10 do
  local from = log.clock()
  for _ = 1, steps // 10 do
    nn.mse(model(x), y):backward()
    opt:step()
  end
  print(("%12d  %14.2f  %12.1f  %12.1f"):format(part * (steps // 10), (log.clock() - from) / (steps // 10) * 1e6,
    gls.memory().live / 1024, resident()))
end
