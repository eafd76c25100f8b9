--- GRU over the rows of an image, from the top down: what the last state says is its class (Le, Jaitly and Hinton, "A
-- simple way to initialize recurrent networks of rectified linear units", 2015, go pixel by pixel).
local nn = require "gls.nn"
local options = require "gls.options"

local RowReader = nn.class("RowReader")

function RowReader:init(set)
  self.gru = nn.GRU(set.inputs, set.width, { layers = set.layers, dropout = set.dropout })
  self.head = nn.Linear(set.width, set.outputs)
end

function RowReader:forward(x)
  if x:dim() == 4 then x = x:transpose(2, 3):flatten(3) end -- the channels of a row side by side
  return self.head((self.gru(x)):select(2, -1))
end

--- @tparam[opt] table given `inputs` (values of a row, default 28), `width` = 128, `layers` = 1, `outputs` (classes,
-- default 10), `dropout` = 0 (between layers), `initialisation` = "default"
-- @treturn table module: images (n × channels × h × w), or their rows (n × h × inputs), to logits (n × outputs)
return function(given)
  local set = options.check("models.gru", given,
    { inputs = 28, width = 128, layers = 1, outputs = 10, dropout = 0, initialisation = "default" })
  return require "models.initialise"(RowReader(set), set.initialisation)
end
