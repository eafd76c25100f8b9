--- LSTM over characters, as char-rnn has it: a table, layers of long short-term memory (Hochreiter and Schmidhuber,
-- "Long short-term memory", 1997; with the forget gate of Gers, Schmidhuber and Cummins, 2000), an output layer.
local gls, nn = require "gls", require "gls.nn"
local options = require "gls.options"

local LSTM = nn.class("LSTM")

function LSTM:init(inputs, width)
  self.width = width
  self.from_input = nn.Linear(inputs, 4 * width)
  self.from_state = nn.Linear(width, 4 * width, { bias = false })
  local _ <close> = gls.no_grad()
  self.from_input.bias[{ { width + 1, 2 * width } }]:fill(1) -- the forget gate begins open (Jozefowicz et al., 2015)
end

-- x (n × t × inputs) to (n × t × width), from a state of zeros.
function LSTM:forward(x)
  local n, t, width = x:size(1), x:size(2), self.width
  local h, c = gls.zeros(n, width), gls.zeros(n, width)
  local inputs, outputs = self.from_input(x), {}
  for step = 1, t do
    local gates = inputs:select(2, step) + self.from_state(h)
    local input, forget = gates:narrow(2, 1, width):sigmoid(), gates:narrow(2, width + 1, width):sigmoid()
    local output, cell = gates:narrow(2, 2 * width + 1, width):sigmoid(), gates:narrow(2, 3 * width + 1, width):tanh()
    c = forget * c + input * cell
    h = output * c:tanh()
    outputs[step] = h
  end
  return gls.stack(outputs, 2)
end

--- @tparam[opt] table given `vocabulary` = 65, `layers` = 2, `width` = 128, `dropout` = 0 (between layers)
-- @treturn table module: int32 tokens (n × t), from 1, to logits (n × t × vocabulary)
return function(given)
  local set = options.check("models.lstm", given, { vocabulary = 65, layers = 2, width = 128, dropout = 0 })
  local layers = { nn.Embedding(set.vocabulary, set.width) }
  for _ = 1, set.layers do
    layers[#layers + 1] = LSTM(set.width, set.width)
    if set.dropout > 0 then layers[#layers + 1] = nn.Dropout(set.dropout) end
  end
  layers[#layers + 1] = nn.Linear(set.width, set.vocabulary)
  return nn.Sequential(layers)
end
