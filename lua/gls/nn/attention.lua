--- Attention of several heads (Vaswani et al., "Attention is all you need", 2017).
-- @module gls.nn.attention
local gls = require "gls"
local options = require "gls.options"
local Module = require "gls.nn.module"
local Linear = require "gls.nn.linear"
local affine = require "gls.nn.affine"
local check_size, check_dropout = affine.check_size, affine.check_dropout

local MultiHeadAttention = Module.class("MultiHeadAttention")

--- `nn.MultiHeadAttention(128, 4, { causal = true })`: x (…, n, width) to (…, n, width), every place a mixture of all.
-- @tparam integer width
-- @tparam integer heads divides the width
-- @tparam[opt] table settings { bias = true (of the projections), causal = false (a place sees those up to its own),
-- dropout = 0 (of the weights, in training; they are kept then, n × n), context = nil (width of a second sequence, of
-- which keys and values are made) }
function MultiHeadAttention:init(width, heads, settings)
  local where = "nn.MultiHeadAttention"
  check_size(where, "width", width)
  check_size(where, "heads", heads)
  local set = options.check(where, settings, { bias = true, causal = false, dropout = 0, context = options.none })
  check_dropout(where .. ": dropout", set.dropout)
  if width % heads ~= 0 then error(("%s: %d heads do not divide the width %d"):format(where, heads, width), 2) end
  self.width, self.heads, self.causal, self.dropout = width, heads, set.causal, set.dropout
  local bias = { bias = set.bias }
  if set.context then
    self.query = Linear(width, width, bias)
    self.key_value = Linear(check_size(where, "context", set.context), 2 * width, bias)
  else
    self.query_key_value = Linear(width, 3 * width, bias)
  end
  self.projection = Linear(width, width, bias)
end

-- (…, n, width) to (…, heads, n, width / heads)
local function by_head(x, heads)
  local rank = x:dim()
  local order, shape = {}, x.shape
  shape[rank], shape[rank + 1] = heads, shape[rank] // heads
  for i = 1, rank + 1 do order[i] = i end
  order[rank - 1], order[rank] = rank, rank - 1
  return x:reshape(shape):permute(order)
end

-- Refuses what gls.attention refuses, in its words: the mask, which all heads share, is tried on one of no width.
local function check_seen(query, key, value, given)
  if given.causal and query:size(-2) ~= key:size(-2) then gls.attention(query, key, value, given) end
  if not given.mask then return end
  local _ <close> = gls.no_grad()
  gls.attention(query:narrow(-1, 1, 0), key:narrow(-1, 1, 0), value:narrow(-1, 1, 0),
    { heads = 1, causal = given.causal, mask = given.mask })
end

-- softmax(q kᵀ / √d) v, with dropout of the weights.
local function with_dropout(self, query, key, value, given)
  check_seen(query, key, value, given)
  local mask = given.mask
  local q, k, v = by_head(query, self.heads), by_head(key, self.heads), by_head(value, self.heads)
  local weights = q:matmul(k:transpose(-2, -1)) / math.sqrt(self.width // self.heads)
  local hidden = self.causal and gls.ones(query:size(-2), key:size(-2)):triu(1)
  if mask then
    local unseen = mask:dim() > 2 and mask:eq(0):unsqueeze(-3) or mask:eq(0)
    hidden = hidden and hidden:logical_or(unseen) or unseen
  end
  -- Finite where hidden, and 0 after: a query that sees nothing has zeros, not NaN.
  if hidden then weights = weights:masked_fill(hidden, -1e30) end
  weights = weights:softmax()
  if hidden then weights = weights:masked_fill(hidden, 0) end
  return gls.dropout(weights, self.dropout):matmul(v):transpose(-3, -2):flatten(-2, -1)
end

--- @tparam tensor x (…, n, width)
-- @tparam[opt] tensor context (…, m, settings.context), where that was given: keys and values are made of it
-- @tparam[opt] tensor mask broadcast to (…, n, m): a key is seen where it is not 0
-- @treturn tensor (…, n, width)
function MultiHeadAttention:forward(x, context, mask)
  local given = { heads = self.heads, causal = self.causal, mask = mask }
  local width = self.width
  local mixed
  local drops = self.training and self.dropout > 0
  if self.query then
    if not context then error("nn.MultiHeadAttention: made for a second sequence, which is missing", 2) end
    local query, key_value = self.query(x), self.key_value(context)
    local key, value = key_value:narrow(-1, 1, width), key_value:narrow(-1, width + 1, width)
    mixed = drops and with_dropout(self, query, key, value, given) or gls.attention(query, key, value, given)
  else
    if context then error("nn.MultiHeadAttention: a second sequence needs the option context, its width", 2) end
    local all = self.query_key_value(x)
    if drops then
      mixed = with_dropout(self, all:narrow(-1, 1, width), all:narrow(-1, width + 1, width),
        all:narrow(-1, 2 * width + 1, width), given)
    else
      mixed = gls.attention(all, given)
    end
  end
  return self.projection(mixed)
end

function MultiHeadAttention:describe()
  return ("%d, %d heads%s"):format(self.width, self.heads, self.causal and ", causal" or "")
end

return MultiHeadAttention
