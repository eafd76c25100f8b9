--- Which settings train at all: final loss over learning rate × damping for GLS as first written (a fixed rate, no
-- guards), with guards at a fixed rate, and with its cure (the automatic rate), beside SGD's and Adam's over their
-- rate.
--   glsrun experiments/stability.lua --data cifar10 --samples 5000 --epochs 5
local experiment = require "gls.experiment"
local plot = require "gls.plot"
local record = require "gls.experiment.record"
local task = require "models.task"

local grid = experiment.grid
local RATES = { 0.01, 0.1, 1, 10, 100, 1000 }
local DAMPINGS = { 1e-4, 1e-3, 1e-2, 0.1, 1, 10 }

local function all(...)
  local list = {}
  for _, part in ipairs { ... } do table.move(part, 1, #part, #list + 1, list) end
  return list
end

local path = experiment.run(task("mlp", {
  name = "stability",
  title = "Stability of GLS: classifier MLP",
  trials = {
    sgd = grid { learning_rate = { 1e-3, 1e-2, 0.1, 1, 10 }, initialisation = "he" },
    adam = grid { learning_rate = { 1e-5, 1e-4, 1e-3, 1e-2, 0.1 }, initialisation = "he" },
    gls = all(
      grid { learning_rate = RATES, damping = DAMPINGS, initialisation = "he" },
      grid { learning_rate = RATES, damping = DAMPINGS, initialisation = "he", trust = 0.1, verify = true },
      grid { learning_rate = "auto", damping = DAMPINGS, initialisation = "he", delta = { 0, 0.3, 1 } }),
  },
  defaults = { samples = 2000, validation = 1000, epochs = 5, batch = 250, optimizers = { "sgd", "adam", "gls" } },
}))
if not path then return end

-- ---- heat maps of what was run ----

local directory = path:match "^(.*)/[^/]*$"

-- The last training loss of every trial of GLS that a predicate picks, by two of its settings.
local function table_of(rows, picked, x, columns, y, names)
  local found = {}
  for _, row in ipairs(rows) do
    if row.optimizer == "gls" and picked(row.settings) then
      local key = ("%g %g"):format(row.settings[x], row.settings[y])
      found[key] = row.status == "diverged" and math.huge or row.train_loss
    end
  end
  local values, diverged, count = {}, 0, 0
  for i, name in ipairs(names) do
    values[i] = {}
    for j, column in ipairs(columns) do
      local value = found[("%g %g"):format(column, name)]
      values[i][j] = value or 0 / 0
      if value then count = count + 1 end
      if value == math.huge then diverged = diverged + 1 end
    end
  end
  return values, diverged, count
end

local function texts(numbers)
  local list = {}
  for i, number in ipairs(numbers) do list[i] = ("%g"):format(number) end
  return list
end

local lines = { "", "## Heat maps", "" }
local function map(name, title, picked, x, columns, x_text)
  local rows = record.rows(directory .. "/results.jsonl")
  local values, diverged, count = table_of(rows, picked, x, columns, "damping", DAMPINGS)
  if count == 0 then return end
  lines[#lines + 1] = ("- %s: %d of %d cells diverged.\n\n  ![%s](%s.svg)\n"):format(title, diverged, count,
    title, name)
  local good, problem = pcall(plot.heat, {
    title = title, x = x_text, y = "damping ρ", columns = texts(columns), rows = texts(DAMPINGS), values = values,
    log = true, file = directory .. "/" .. name .. ".svg", note = "final training loss",
  })
  if not good then io.stderr:write(tostring(problem), "\n") end
end

map("fixed", "GLS as first written: fixed rate, no guards", function(s)
  return s.learning_rate ~= "auto" and not s.trust
end, "learning_rate", RATES, "learning rate η")
map("guarded", "Fixed rate with guards (trust region, undone steps)", function(s)
  return s.learning_rate ~= "auto" and s.trust
end, "learning_rate", RATES, "learning rate η")
map("automatic", "Automatic rate", function(s) return s.learning_rate == "auto" end, "delta", { 0, 0.3, 1 },
  "caution δ")

local summary = record.read(path)
record.write(path, summary .. table.concat(lines, "\n"))
