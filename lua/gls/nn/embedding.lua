--- Embedding: rows of a table, picked by index.
-- @module gls.nn.embedding
local gls = require "gls"
local Module = require "gls.nn.module"
local check_size = require("gls.nn.affine").check_size

local Embedding = Module.class("Embedding")

--- `nn.Embedding(vocabulary, width)`: int32 indices (…) from 1 to vocabulary give (…, width). The table begins normal
-- with deviation 1.
function Embedding:init(vocabulary, width)
  check_size("nn.Embedding", "vocabulary", vocabulary)
  check_size("nn.Embedding", "width", width)
  self.is_table = true -- optimizers of matrices leave it to their fallback
  self.vocabulary, self.width = vocabulary, width
  self.weight = gls.randn(vocabulary, width):requires_grad(true)
end

function Embedding:forward(indices)
  local shape = indices.shape
  shape[#shape + 1] = self.width
  return gls.index_select(self.weight, 1, indices:reshape(-1)):view(shape)
end

function Embedding:describe() return ("%d × %d"):format(self.vocabulary, self.width) end

return Embedding
