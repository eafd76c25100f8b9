--- Ranks: what two processes of one thread gain over one process, of one thread and of two, in turns; what they send,
-- counted by Open MPI and by the formula; and from both a model of many machines. It wants two cores for itself.
--   glsrun tests/bench/ranks.lua [--rounds 3] [--seconds 1.2] [--only autoencoder]
-- Where the step of one process is known: glsrun tests/bench/ranks.lua --model SECONDS BYTES BUCKETS
local gls, nn, optim = require "gls", require "gls.nn", require "gls.optim"
local distributed = require "gls.distributed"
local log = require "gls.log"

-- ---- what is trained ----

local function images(channels)
  return function(rows)
    local x = channels and gls.rand(rows, 3, 32, 32) or gls.rand(rows, 3072)
    return { x = x:sub(0.5), y = channels and gls.randint(1, 10, rows) or x }
  end
end

local VOCABULARY, CONTEXT = 65, 64
local MODELS = {
  autoencoder = { make = function() return require "models.autoencoder"() end, batch = images(false), loss = nn.mse },
  cnn = { make = function() return require "models.cnn"() end, batch = images(true), loss = nn.cross_entropy },
  gpt = {
    make = function()
      return require "models.transformer" { vocabulary = VOCABULARY, layers = 4, heads = 4, width = 128,
        context = CONTEXT }
    end,
    batch = function(rows)
      local tokens = gls.randint(1, VOCABULARY, rows, CONTEXT + 1)
      return { x = tokens:narrow(2, 1, CONTEXT):contiguous(), y = tokens:narrow(2, 2, CONTEXT):contiguous() }
    end,
    loss = nn.cross_entropy,
  },
}
local OPTIMIZERS = {
  Adam = function(parameters) return optim.Adam(parameters, { learning_rate = 1e-4 }) end,
  GLS = function(parameters) return optim.GLS(parameters) end,
  ["GLS tokens"] = function(parameters) return optim.GLS(parameters, "tokens") end,
}
local ROWS = { -- rows of a rank
  { "autoencoder", "Adam", 1000 }, { "autoencoder", "GLS", 1000 }, { "cnn", "Adam", 250 }, { "cnn", "GLS", 250 },
  { "gpt", "Adam", 12 }, { "gpt", "GLS tokens", 12 },
}

-- ---- one turn: this script again, as a process or under mpirun ----

-- Prints the median seconds of a step, and a step's sums, their bytes, and the seconds waited for them, of rank 0.
local function work(name, optimizer_name, rows, threads, seconds, steps)
  gls.threads(threads)
  gls.seed(1)
  local what = MODELS[name]
  local model = what.make()
  distributed.broadcast(model)
  local optimizer = distributed.optimizer(OPTIMIZERS[optimizer_name](model:parameters()))
  gls.seed(2 + distributed.rank())
  local batches, size = { what.batch(rows), what.batch(rows) }, distributed.size()
  local function step(i)
    local _ <close> = gls.scope()
    local batch = batches[i % 2 + 1]
    local loss = what.loss(model(batch.x), batch.y) / size
    loss:backward()
    optimizer:step()
    distributed.total { loss:item() }
  end
  for i = 1, 2 do step(i) end -- in the first the order of the buckets is found
  local mpi = size > 1 and require "gls.mpi"
  if mpi then mpi.counters() end
  local times, began = {}, log.clock()
  repeat
    local before = log.clock()
    step(#times)
    times[#times + 1] = log.clock() - before
  until #times >= steps and distributed.tell(log.clock() - began >= seconds)
  if distributed.rank() == 0 then
    local counted, count = mpi and mpi.counters() or { sums = 0, bytes = 0, waited = 0 }, #times
    table.sort(times)
    print(("turn %.9g %.9g %.9g %.9g %d"):format(times[(count + 1) // 2], counted.sums / count, counted.bytes / count,
      counted.waited / count, model:parameter_count()))
  end
  distributed.stop()
end

-- The numbers of the processors that this process may use.
local function processors()
  local list, numbers = nil, {}
  for line in io.lines "/proc/self/status" do list = list or line:match "^Cpus_allowed_list:%s*(.*)$" end
  for first, last in list:gmatch "(%d+)%-?(%d*)" do
    for number = tonumber(first), tonumber(last) or tonumber(first) do numbers[#numbers + 1] = number end
  end
  return numbers
end

local function turn(row, ranks, threads, rows, seconds, steps, options)
  local environment = ("OMP_NUM_THREADS=%d OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 "):format(threads)
  local program = ("%s %s --work %s '%s' %d %d %g %d"):format(os.getenv "GLSRUN" or "build/glsrun", arg[0], row[1],
    row[2], rows, threads, seconds, steps)
  local parts, numbers = {}, processors()
  for rank = 1, ranks > 1 and ranks or 0 do -- each on its own processor
    parts[rank] = ("-n 1 taskset -c %d %s"):format(numbers[(rank - 1) % #numbers + 1], program)
  end
  local command = environment .. (ranks == 1 and program
    or ("mpirun --bind-to none --oversubscribe %s %s"):format(options or "", table.concat(parts, " : ")))
  local pipe = assert(io.popen(command .. " 2>&1"))
  local printed = pipe:read "a"
  pipe:close()
  local found = {}
  for number in (printed:match "turn ([^\r\n]+)" or error(command .. ":\n" .. printed, 0)):gmatch "%S+" do
    found[#found + 1] = tonumber(number)
  end
  return { seconds = found[1], sums = found[2], bytes = found[3], waited = found[4], parameters = found[5] }
end

-- Bytes and messages that rank 0 sends in a step, as Open MPI's own monitoring counts them; nil where it is not there.
local function counted_by_mpi(row)
  local path = os.tmpname()
  local function total(steps) -- of all the run
    turn(row, 2, 1, row[3], 0, steps, "--mca pml_monitoring_enable 2 --mca pml_monitoring_enable_output 3 "
      .. "--mca pml_monitoring_filename " .. path)
    local file = io.open(path .. ".0.prof")
    if not file then return nil end
    local bytes, messages = file:read "a":match "\nI\t0\t1\t(%d+) bytes\t(%d+) msgs"
    file:close()
    return tonumber(bytes), tonumber(messages)
  end
  local bytes, messages = total(2)
  local more_bytes, more_messages = total(6)
  os.execute(("rm -f '%s' '%s'.*.prof"):format(path, path))
  if not bytes or not more_bytes then return nil end
  return (more_bytes - bytes) / 4, (more_messages - messages) / 4
end

-- ---- the table ----

local function median(list)
  table.sort(list)
  local n = #list
  return (list[(n + 1) // 2] + list[n // 2 + 1]) / 2
end

local function milliseconds(seconds) return ("%.3g"):format(1e3 * seconds) end

-- The four sides of a row in turns: medians, and medians of the ratios of neighbouring turns.
local function measure(row, settings)
  local rows = row[3]
  local times, ratios, ranks = { {}, {}, {}, {} }, { {}, {}, {} }, nil
  local waited = {}
  for _ = 1, settings.rounds do
    local one = turn(row, 1, 1, rows, settings.seconds, 3)
    local twice = turn(row, 1, 1, 2 * rows, settings.seconds, 3)
    local threads = turn(row, 1, 2, 2 * rows, settings.seconds, 3)
    ranks = turn(row, 2, 1, rows, settings.seconds, 3)
    for i, side in ipairs { one, twice, threads, ranks } do table.insert(times[i], side.seconds) end
    table.insert(ratios[1], one.seconds / ranks.seconds)
    table.insert(ratios[2], twice.seconds / ranks.seconds / 2)
    table.insert(ratios[3], threads.seconds / ranks.seconds)
    table.insert(waited, ranks.waited)
  end
  for i = 1, 4 do times[i] = median(times[i]) end
  for i = 1, 3 do ratios[i] = median(ratios[i]) end
  return times, ratios, ranks, median(waited)
end

local HEADER = "| step, rows a rank | 1 × 1, ms | 1 × 1, twice the rows | 1 × 2, twice the rows | 2 × 1 | "
  .. "efficiency, equal rows a rank | efficiency, equal batch | 1 × 2 over 2 × 1 | waited, ms | sent, MB | formula | "
  .. "messages |\n|---|---|---|---|---|---|---|---|---|---|---|---|"

local function run(settings)
  if #processors() < 2 then print "One core alone: bytes and messages mean something, times nothing." end
  print(HEADER)
  local step
  for _, row in ipairs(ROWS) do
    if not settings.only or settings.only == row[1] then
      local times, ratios, ranks, waited = measure(row, settings)
      local bytes, messages = counted_by_mpi(row)
      -- Of a ring: 2 (p − 1)/p times the bytes of the gradients; GLS sends other things.
      local formula = row[2] == "Adam" and ("%.3g"):format(2 * (2 - 1) / 2 * 4 * ranks.parameters / 1e6) or ""
      print(("| %s, %s, %d | %s | %s | %s | %s | %.2f | %.2f | %.2f | %s | %s | %s | %s |"):format(row[1], row[2],
        row[3], milliseconds(times[1]), milliseconds(times[2]), milliseconds(times[3]), milliseconds(times[4]),
        ratios[1], ratios[2], ratios[3], milliseconds(waited), bytes and ("%.3g"):format(bytes / 1e6) or "?",
        formula, messages and ("%.0f"):format(messages) or "?"))
      io.flush()
      if row[1] == "autoencoder" and row[2] == "Adam" then
        step = { seconds = times[1], bytes = ranks.bytes, buckets = ranks.sums }
      end
    end
  end
  return step
end

-- ---- the model of many machines ----

-- Thakur, Rabenseifner and Gropp, "Optimization of collective communication operations in MPICH", IJHPCA 2005: n bytes
-- summed over p ranks around a ring take 2 (p − 1) α + 2 (p − 1)/p n β + (p − 1)/p n γ; by halving and doubling
-- (Rabenseifner) 2 log₂ p α + the same. α: seconds a message, β: seconds a byte on the way, γ: seconds a byte added.
local NETWORKS = {
  { name = "10 Gbit/s", delay = 30e-6, byte = 8 / 10e9 / 0.9 }, -- Ethernet and TCP, 0.9 of the rate
  { name = "100 Gbit/s", delay = 5e-6, byte = 8 / 100e9 / 0.9 },
}
local ADDED = 1 / 5e9

local function sum_seconds(network, ranks, bytes, messages)
  local delays = 2 * (ranks < 16 and ranks - 1 or math.log(ranks, 2))
  local share = (ranks - 1) / ranks
  return messages * delays * network.delay + share * bytes * (2 * network.byte + ADDED)
end

-- The efficiency at equal rows a rank: the step alone over the step with what of the sums backward does not hide. Two
-- sums of a few numbers (the loss, the flags) are waited for. Of the others nothing is hidden, or all but the last
-- bucket as far as backward, two thirds of a step, is long enough.
local function efficiency(network, ranks, step, hides)
  local few = 2 * sum_seconds(network, ranks, 100, 1)
  local all = sum_seconds(network, ranks, step.bytes, step.buckets)
  local hidden = hides and math.min(2 / 3 * step.seconds, all * (1 - 1 / step.buckets)) or 0
  return step.seconds / (step.seconds + few + all - hidden)
end

local function print_model(step)
  print(("\nA step of %s ms, %.3g MB of gradients in %.0f sums. Efficiency of p ranks, nothing hidden to all hidden:\n")
    :format(milliseconds(step.seconds), step.bytes / 1e6, step.buckets))
  print "| network | seconds of a step | 4 ranks | 16 | 64 | 256 |"
  print "|---|---|---|---|---|---|"
  for _, network in ipairs(NETWORKS) do
    for _, cores_of_rank in ipairs { 1, 8 } do -- a rank of more cores has less time to send the same
      local own = { seconds = step.seconds / cores_of_rank, bytes = step.bytes, buckets = step.buckets }
      local parts = {}
      for i, ranks in ipairs { 4, 16, 64, 256 } do
        parts[i] = ("%.0f to %.0f %%"):format(100 * efficiency(network, ranks, own, false),
          100 * efficiency(network, ranks, own, true))
      end
      print(("| %s | %s%s | %s |"):format(network.name, ("%.3g"):format(own.seconds),
        cores_of_rank > 1 and (", ranks %d times as fast"):format(cores_of_rank) or "", table.concat(parts, " | ")))
    end
  end
end

-- ---- the command line ----

if arg[1] == "--work" then
  return work(arg[2], arg[3], math.tointeger(tonumber(arg[4])), math.tointeger(tonumber(arg[5])), tonumber(arg[6]),
    math.tointeger(tonumber(arg[7])))
elseif arg[1] == "--model" then
  return print_model { seconds = assert(tonumber(arg[2])), bytes = assert(tonumber(arg[3])),
    buckets = assert(tonumber(arg[4])) }
end
local settings = { rounds = 3, seconds = 1.2 }
for i = 1, #arg, 2 do
  local name = arg[i]:match "^%-%-(%l+)$"
  if name ~= "rounds" and name ~= "seconds" and name ~= "only" then error("unknown option " .. arg[i], 0) end
  settings[name] = name == "only" and arg[i + 1] or assert(tonumber(arg[i + 1]), name)
end
local step = run(settings)
if step then print_model(step) end
