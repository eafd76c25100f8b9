--- Task: long short-term memory predicts the next character of a text.
local task = require "models.task"

return task("lstm", {
  name = "lstm", version = 1, title = "LSTM on characters",
  sets = "text", samples = 0, validation = 20000, test = 40000, context = 64,
  options = { layers = 2, width = 128 }, head = { "3" },
  batch = 12, steps = 1000,
  short = {
    validation = 8000, test = 40000, context = 32, batch = 16, steps = 200,
    options = { layers = 1, width = 64 },
  },
})
