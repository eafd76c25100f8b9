--- Recurrent layers over sequences, all times in one call: LSTM and GRU.
-- @module gls.nn.recurrent
local gls = require "gls"
local number = require "gls.number"
local options = require "gls.options"
local Module = require "gls.nn.module"
local Linear = require "gls.nn.linear"
local affine = require "gls.nn.affine"
local check_size, check_dropout = affine.check_size, affine.check_dropout

local recurrent = {}

-- One layer of cells: the input's part of the gates, made for all times at once, and the state's.
local Layer = Module.class("Layer")

function Layer:init(inputs, gates, width, state_bias)
  self.from_input = Linear(inputs, gates * width)
  self.from_state = Linear(width, gates * width, { bias = state_bias })
end

-- All states of every time.
function Layer:forward(x, op, state, mask)
  return op(self.from_input(x), self.from_state.weight, self.from_state.bias, state, mask)
end

local Recurrent = Module.class("Recurrent")

function Recurrent:make(inputs, width, settings)
  local where = "nn." .. self.name
  check_size(where, "inputs", inputs)
  check_size(where, "width", width)
  local set = options.check(where, settings, { layers = 1, dropout = 0 })
  check_size(where, "layers", set.layers)
  check_dropout(where .. ": dropout", set.dropout)
  self.width, self.dropout, self.layers = width, set.dropout, {}
  for i = 1, set.layers do
    self.layers[i] = Layer(i == 1 and inputs or width, self.gates, width, self.state_bias)
  end
end

--- @tparam tensor x (batch, times, inputs)
-- @param[opt] state what comes before the first time, zeros if absent: for every layer (batch, width), of an LSTM
-- (batch, 2 · width), h beside c; a list of them, or one tensor with a first dimension more
-- @tparam[opt] tensor mask (batch, times): at times where it is 0 the state, and the output, stay as they are, so that
-- the last output is that of the last time shown
-- @treturn tensor (batch, times, width): h of the last layer
-- @treturn table for every layer the state after the last time, to go on from (`detach` it where a step has ended)
function Recurrent:forward(x, state, mask)
  local after = {}
  local count = gls.is_tensor(state) and state:dim() > 0 and state:size(1) or type(state) == "table" and #state
  if state ~= nil and count ~= #self.layers then
    error(("nn.%s: the state has an entry for each of the %d layers, got %s"):format(self.name, #self.layers,
      count or type(state)), 2)
  end
  if gls.is_tensor(x) and x:dim() == 3 and x:size(2) == 0 then
    error(("x (batch, times, inputs) with at least one time expected, got shape %s"):format(number.shape(x.shape)), 2)
  end
  for i, layer in ipairs(self.layers) do
    if i > 1 and self.training and self.dropout > 0 then x = gls.dropout(x, self.dropout) end
    local all = layer(x, self.op, state and state[i], mask)
    after[i] = all:select(2, -1)
    x = self.states > 1 and all:narrow(3, 1, self.width) or all
  end
  return x, after
end

function Recurrent:describe()
  return ("%d → %d, %d layer%s"):format(self.layers[1].from_input.inputs, self.width, #self.layers,
    #self.layers > 1 and "s" or "")
end

local LSTM = Module.class("LSTM", Recurrent)
recurrent.LSTM = LSTM
LSTM.op, LSTM.gates, LSTM.states, LSTM.state_bias = gls.lstm, 4, 2, false

--- `nn.LSTM(64, 128, { layers = 2, dropout = 0 })`: long short-term memory (Hochreiter and Schmidhuber, 1997; Gers,
-- Schmidhuber and Cummins, 2000); dropout is between layers. Gates lie in PyTorch's order: input, forget, cell, output.
-- The forget gate's bias begins at 1 (Jozefowicz et al., 2015), all else as nn.Linear.
-- @tparam integer inputs
-- @tparam integer width
-- @tparam[opt] table settings
function LSTM:init(inputs, width, settings)
  self:make(inputs, width, settings)
  local _ <close> = gls.no_grad()
  for _, layer in ipairs(self.layers) do layer.from_input.bias:narrow(1, width + 1, width):fill(1) end
end

local GRU = Module.class("GRU", Recurrent)
recurrent.GRU = GRU
GRU.op, GRU.gates, GRU.states, GRU.state_bias = gls.gru, 3, 1, true

--- `nn.GRU(28, 128, { layers = 1, dropout = 0 })`: gated recurrent units (Cho et al., 2014), the reset gate after the
-- product; dropout is between layers. Gates lie in PyTorch's order: reset, update, new. Weights begin as nn.Linear's.
-- @tparam integer inputs
-- @tparam integer width
-- @tparam[opt] table settings
function GRU:init(inputs, width, settings) self:make(inputs, width, settings) end

return recurrent
