--- Task: a transformer predicts the next character of a text; its output layer is its table of characters, so no
-- layer is named as head.
local task = require "models.task"

return task("transformer", {
  name = "transformer", version = 1, title = "transformer on characters",
  sets = "text", samples = 0, validation = 20000, test = 40000, context = 64,
  options = { layers = 4, heads = 4, width = 128 },
  batch = 12, steps = 1000,
  short = {
    validation = 8000, test = 40000, context = 32, batch = 16, steps = 300,
    options = { layers = 2, heads = 2, width = 48 },
  },
})
