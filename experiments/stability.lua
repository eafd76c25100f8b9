--- Which settings train at all: final training loss over learning rate × damping for GLS as first written (a fixed
-- rate, no guards), with guards at a fixed rate, and with its cure (the automatic rate), beside SGD's and Adam's over
-- their rate.
--   glsrun experiments/stability.lua --data cifar10 --samples 2000 --epochs 5 --batch 50
-- --model is mlp (default), deep (five layers), autoencoder, resnet (of 8 layers), transformer or lstm; --study takes
-- more rates and dampings. On the last three the matched step with an orthogonal direction is mapped too.
local experiment = require "gls.experiment"
local file = require "gls.file"
local number = require "gls.number"
local outcome = require "gls.experiment.outcome"
local plot = require "gls.plot"
local record = require "gls.experiment.record"
local task = require "models.task"

local grid = experiment.grid
local choices = experiment.choices("stability", {
  { name = "model", values = { "mlp", "deep", "autoencoder", "resnet", "transformer", "lstm" },
    help = "What is trained (default mlp)." },
  { name = "study", help = "More rates and dampings." },
})
local autoencoder = choices.model == "autoencoder"
local language = choices.model == "transformer" or choices.model == "lstm"
local large = language or choices.model == "resnet"

-- Powers of ten.
local function decades(from, to, by)
  local list = {}
  for exponent = from, to, by or 1 do list[#list + 1] = tonumber(("1e%d"):format(exponent)) end
  return list
end

-- A loss that is the mean over the 3072 values of an image has small gradients: its rates are as much larger.
local more, shift = choices.study and 1 or 0, autoencoder and 3 or 0
local RATES, DAMPINGS = decades(-2 - more + shift, 3 + more + shift), decades(-4 - 2 * more, 1)
local SGD, ADAM = decades(-3 - more + shift // 2, 2 + more + shift // 2), decades(-5 - more, more)
local DELTAS = { 0, 0.3, 1 }
local MATCHED = large and decades(-3, 0) or {}
if large and not choices.study then RATES, DAMPINGS = decades(-2, 1), decades(-3, 1, 2) end

local around = {
  initialisation = autoencoder and "orthogonal-small" or not language and "he" or nil,
  model = choices.model == "deep" and { hidden = { 512, 512, 512, 512 } } or choices.model == "resnet" and { depth = 8 }
    or nil,
}
local function trials(...)
  local list = {}
  for _, settings in ipairs { ... } do
    for _, trial in ipairs(grid(settings)) do
      for name, value in pairs(around) do trial[name] = value end
      list[#list + 1] = trial
    end
  end
  return list
end

local path = experiment.run(task(choices.model == "deep" and "mlp" or choices.model, {
  name = "stability",
  title = "Stability: " .. choices.model,
  choices = choices,
  batches = language and 100 or nil,
  trials = {
    sgd = trials { learning_rate = SGD },
    adam = trials { learning_rate = ADAM },
    gls = trials({ learning_rate = RATES, damping = DAMPINGS },
      { learning_rate = RATES, damping = DAMPINGS, trust = 0.1 },
      { learning_rate = "auto", damping = DAMPINGS, delta = DELTAS }),
    ["gls-orthogonal"] = large and trials { learning_rate = MATCHED, damping = DAMPINGS } or nil,
  },
  defaults = {
    data = language and "text" or nil, samples = not language and 2000 or nil,
    validation = language and 5000 or 1000, epochs = language and 2 or 5, batch = language and 12 or 50,
  },
}))
if not path then return end

-- ---- what was run, cell by cell ----

local directory = path:match "^(.*)/[^/]*$"
local rows = record.rows(directory .. "/results.jsonl")
local GUARDS = { "cholesky_retries", "direction_fallbacks", "skipped_steps", "trust_limits" }

-- The loss that a run ended with, infinite where it is above that of its first batch before any step.
local function final_loss(row)
  local loss = row.train_loss
  local diverged = row.status == "diverged" or not loss or (row.first_loss and loss > row.first_loss)
  return diverged and math.huge or loss
end

-- Losses over two settings of the runs that a predicate picks, and how many diverged, stalled (their loss not below
-- half of the first), and what the guards did.
local function cells(optimizer, picked, x, columns, y, names)
  local found, count, guards = {}, { cells = 0, diverged = 0, stalled = 0 }, {}
  for _, row in ipairs(rows) do
    if row.optimizer == optimizer and row.status ~= "running" and picked(row.settings) then
      found[("%g %g"):format(row.settings[x], y and row.settings[y] or 0)] = final_loss(row)
      count.cells = count.cells + 1
      if final_loss(row) == math.huge then
        count.diverged = count.diverged + 1
      elseif row.first_loss and row.train_loss > row.first_loss / 2 then
        count.stalled = count.stalled + 1
      end
      for _, guard in ipairs(GUARDS) do
        guards[guard] = (guards[guard] or 0) + ((row.counters or {})[guard] or 0)
      end
    end
  end
  local values = {}
  for i, name in ipairs(names) do
    values[i] = {}
    for j, column in ipairs(columns) do values[i][j] = found[("%g %g"):format(column, name)] or 0 / 0 end
  end
  return values, count, guards
end

local function texts(values)
  local list = {}
  for i, value in ipairs(values) do list[i] = number.setting(value) end
  return list
end

-- ---- heat maps and their table ----

local figures = {}
local lines = {
  "| what | cells | diverged | stalled | Cholesky retries, fallbacks, skipped steps, trust limits |",
  "|---|---|---|---|---|",
}
local function add_line(title, count, guards)
  local counted = {}
  for i, guard in ipairs(GUARDS) do counted[i] = ("%d"):format(guards[guard] or 0) end
  lines[#lines + 1] = ("| %s | %d | %d | %d | %s |"):format(title, count.cells, count.diverged, count.stalled,
    table.concat(counted, ", "))
end

local function draw(values, settings)
  settings.log, settings.file = true, directory .. "/" .. settings.file
  settings.note = (settings.note or "final training loss") .. " · grey: above the initial one, or not a number"
  local good, problem = pcall(plot.heat, values, settings)
  if good then
    figures[#figures + 1] = ("![%s](%s)"):format(settings.title, settings.file:match "[^/]*$")
  else
    io.stderr:write(tostring(problem), "\n")
  end
end

local function map(name, title, picked, x, columns, x_text, optimizer)
  local values, count, guards = cells(optimizer or "gls", picked, x, columns, "damping", DAMPINGS)
  if count.cells == 0 then return end
  add_line(title, count, guards)
  draw(values, { title = title, x = x_text, y = "damping ρ", columns = texts(columns), rows = texts(DAMPINGS),
    file = name })
end

map("fixed.svg", "GLS as first written: fixed rate, no guards", function(s)
  return s.learning_rate ~= "auto" and not s.trust
end, "learning_rate", RATES, "learning rate η")
map("guarded.svg", "GLS, fixed rate, trust region 0.1", function(s)
  return s.learning_rate ~= "auto" and s.trust
end, "learning_rate", RATES, "learning rate η")
map("automatic.svg", "GLS, automatic rate", function(s) return s.learning_rate == "auto" end, "delta", DELTAS,
  "caution δ")

map("matched.svg", "GLS, matched step, orthogonal direction", function() return true end, "learning_rate", MATCHED,
  "learning rate", "gls-orthogonal")

-- The others have one setting: their rates side by side, in steps of ten.
local others, columns = { rows = {}, values = {}, smallest = {} }, {}
for _, peer in ipairs { { "sgd", "SGD", SGD }, { "adam", "Adam", ADAM } } do
  local optimizer, name, rates = table.unpack(peer)
  local values, count, guards = cells(optimizer, function() return true end, "learning_rate", rates, nil, { 0 })
  if count.cells > 0 then
    local run = {}
    for _, row in ipairs(rows) do
      if row.optimizer == optimizer then run[#run + 1] = row.settings.learning_rate end
    end
    local least, most = outcome.range(run)
    add_line(("%s, %s %s%s"):format(name, least == most and "rate" or "rates", number.setting(least),
      least == most and "" or " to " .. number.setting(most)), count, guards)
    others.rows[#others.rows + 1] = name
    others.smallest[#others.smallest + 1] = ("%s %s"):format(name, number.setting(rates[1]))
    others.values[#others.values + 1] = values[1]
    for i = 1, #rates do columns[i] = ("× %g"):format(10 ^ (i - 1)) end
  end
end
if #others.rows > 0 then
  draw(others.values, { title = "SGD and Adam over their rate", x = "learning rate, times the smallest", y = "",
    columns = columns, rows = others.rows, file = "others.svg",
    note = "final training loss · smallest rates: " .. table.concat(others.smallest, ", ") })
end

local text = ("\n## Which settings train\n\nDiverged: the final training loss is above that of the first batch before "
  .. "any step, or not a number. Stalled: it is not below half of it.\n\n%s\n\n%s\n"):format(
  table.concat(lines, "\n"), table.concat(figures, "\n\n"))
file.replace(path, file.read(path) .. text)
print(text)
print(path)
