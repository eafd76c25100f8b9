--- LSTM over characters, as char-rnn has it: a table, layers of long short-term memory, an output layer.
local nn = require "gls.nn"
local options = require "gls.options"

--- @tparam[opt] table given `vocabulary` = 65, `layers` = 2, `width` = 128, `dropout` = 0 (between layers)
-- @treturn table module: int32 tokens (n × t), from 1, to logits (n × t × vocabulary)
return function(given)
  local set = options.check("models.lstm", given, { vocabulary = 65, layers = 2, width = 128, dropout = 0 })
  return nn.Sequential {
    nn.Embedding(set.vocabulary, set.width),
    nn.LSTM(set.width, set.width, { layers = set.layers, dropout = set.dropout }),
    nn.Linear(set.width, set.vocabulary),
  }
end
