--- GPT: a decoder-only transformer over tokens, as GPT-2 and nanoGPT have it (Radford et al., "Language models are
-- unsupervised multitask learners", 2019): layer norm before attention and before the perceptron, positions learned,
-- the output layer tied to the tokens' table.
local gls, nn = require "gls", require "gls.nn"
local options = require "gls.options"

local Block = nn.class("Block")

function Block:init(width, heads, set)
  self.norm1 = nn.LayerNorm(width)
  self.attention = nn.MultiHeadAttention(width, heads, { bias = set.bias, dropout = set.dropout, causal = true })
  self.norm2 = nn.LayerNorm(width)
  self.wide = nn.Linear(width, 4 * width, { bias = set.bias })
  self.narrow = nn.Linear(4 * width, width, { bias = set.bias })
  self.dropout = nn.Dropout(set.dropout)
end

function Block:forward(x)
  x = x + self.dropout(self.attention(self.norm1(x)))
  return x + self.dropout(self.narrow(self.wide(self.norm2(x)):gelu()))
end

local GPT = nn.class("GPT")

function GPT:init(set)
  self.context = set.context
  self.tokens, self.positions = nn.Embedding(set.vocabulary, set.width), nn.Embedding(set.context, set.width)
  self.dropout, self.norm = nn.Dropout(set.dropout), nn.LayerNorm(set.width)
  self.blocks = {}
  for i = 1, set.layers do self.blocks[i] = Block(set.width, set.heads, set) end
  nn.initialize(self, function(weight) weight:copy(gls.randn(weight.shape) * 0.02) end)
  local _ <close> = gls.no_grad()
  for _, table in ipairs { self.tokens, self.positions } do table.weight:copy(table.weight * 0.02) end
  for _, block in ipairs(self.blocks) do -- the residual's layers, smaller the deeper the network is
    for _, last in ipairs { block.attention.projection, block.narrow } do
      last.weight:copy(last.weight / math.sqrt(2 * set.layers))
    end
  end
end

function GPT:forward(x)
  local t = x:size(2)
  if t > self.context then error(("%d tokens, the context is %d"):format(t, self.context), 2) end
  local h = self.dropout(self.tokens(x) + self.positions(gls.range(1, t):to "int32"))
  for _, block in ipairs(self.blocks) do h = block(h) end
  return self.norm(h):matmul(self.tokens.weight:t())
end

--- @tparam[opt] table given `vocabulary` (default 65), `context` (most tokens of a row, default 64), `layers` = 4,
-- `heads` = 4, `width` = 128, `bias` = false (of linear layers), `dropout` = 0: nanoGPT's configuration for a CPU
-- @treturn table module: int32 tokens (n × t), from 1, to logits (n × t × vocabulary)
return function(given)
  local set = options.check("models.transformer", given,
    { vocabulary = 65, context = 64, layers = 4, heads = 4, width = 128, bias = false, dropout = 0 })
  if set.width % set.heads ~= 0 then
    error(("models.transformer: %d heads do not divide the width %d"):format(set.heads, set.width), 2)
  end
  return GPT(set)
end
