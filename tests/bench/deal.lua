--- Deal: what it is worth that ranks deal out the work that all of them need (runtime/gls/deal.c), against all of it
-- everywhere, in turns: the processor's seconds of a step of rank 0, which do not hang on how many ranks share one.
--   mpirun -n 4 glsrun tests/bench/deal.lua [ROWS of a rank]
local gls, nn, optim = require "gls", require "gls.nn", require "gls.optim"
local distributed = require "gls.distributed"

local FORMS = {
  { "automatic", {} },
  { "moving", { statistics = "moving", graft = "rms", momentum = 0.9, learning_rate = 1e-3 } },
}
local SPEEDS, STEPS = { 1, 1e9 }, 6 -- at 1 byte a second nothing is dealt out

local rank, size = distributed.rank(), distributed.size()
if size == 1 then error("deal: it takes mpirun -n 2 at least", 0) end
local x = gls.rand(math.tointeger(tonumber(arg[1] or 500)), 3072):sub(0.5)

local function seconds_of_step(model, optimizer)
  local _ <close> = gls.scope()
  local began = os.clock()
  local loss = nn.mse(model(x), x) / size
  loss:backward()
  optimizer:step()
  return os.clock() - began
end

for _, form in ipairs(FORMS) do
  local models, optimizers, times = {}, {}, { {}, {} }
  for side = 1, 2 do
    gls.seed(1)
    models[side] = require "models.autoencoder"()
    optimizers[side] = distributed.optimizer(optim.GLS(models[side]:parameters(), form[2]))
  end
  for step = 1, STEPS do
    for side = 1, 2 do
      require("gls.mpi").speed(SPEEDS[side])
      local seconds = seconds_of_step(models[side], optimizers[side])
      if step > 1 then table.insert(times[side], seconds) end
    end
  end
  for side = 1, 2 do table.sort(times[side]) end
  local middle = STEPS // 2
  if rank == 0 then
    print(("| %s, %d ranks | %.2f | %.2f |"):format(form[1], size, times[1][middle], times[2][middle]))
  end
end
distributed.stop()
