--- Order: sorted values, the largest ones, different ones: compositions of argsort and gather. Values are
-- differentiable in both modes.
-- @module gls.tensor.order
local arguments = require "gls.tensor.arguments"
local core = require "gls.core"

local order = {}

--- x in ascending order along a dimension (-1), or descending: the values, and the int32 places (from 1) where they
-- stood. Equals stay as they stood, NaN counts as largest. `local values, places = x:sort { descending = true }`.
function order.sort(x, dimension, descending)
  arguments.tensor("sort", x)
  dimension, descending = arguments.named("sort", { "dimension", "descending" }, dimension, descending)
  dimension = arguments.dimension("sort", x, dimension, -1)
  local places = x:argsort(dimension, descending or false)
  return x:gather(dimension, places), places
end

--- The `count` largest values along a dimension (-1), the largest first, or the smallest where `largest` is false; and
-- their int32 places (from 1). `local values, places = logits:topk(5)`.
function order.topk(x, count, dimension, largest)
  arguments.tensor("topk", x)
  count, dimension, largest = arguments.named("topk", { "count", "dimension", "largest" }, count, dimension, largest)
  dimension = arguments.dimension("topk", x, dimension, -1)
  count = arguments.whole("topk", "count", count, 0)
  if count > x:size(dimension) then
    arguments.fail("topk", "count is %d: dimension %d has %d places", count, dimension, x:size(dimension))
  end
  if largest ~= nil and type(largest) ~= "boolean" then
    arguments.fail("topk", "largest must be true or false, got %s", type(largest))
  end
  local places = x:argsort(dimension, largest ~= false, count)
  return x:gather(dimension, places), places
end

--- The different values of x in ascending order; for every element the int32 place (from 1) of its value among them, in
-- x's shape; and how often each value is there (int32). NaN is one value. `local values, inverse, counts = x:unique()`.
function order.unique(x)
  arguments.tensor("unique", x)
  local flat = x:reshape(-1)
  local n, places = flat:numel(), flat:argsort()
  local sorted = flat:index_select(1, places)
  local others = math.max(n - 1, 0)
  local here, before = sorted:narrow(1, n - others + 1, others), sorted:narrow(1, 1, others)
  local differs = here:ne(before)
  if x.type == "float32" then differs = differs:logical_and(before:is_nan():logical_not()) end -- NaN are last
  local begins = core.cat { core.ones(math.min(n, 1)), differs }
  local starts = begins:nonzero():reshape(-1)
  local rank = begins:to("int32"):cumsum(1)
  local inverse = core.zeros({ n }, { type = "int32" }):scatter_add(1, places, rank)
  local ends = core.cat { starts, core.full({ 1 }, n + 1, { type = "int32" }) }
  local counts = ends:narrow(1, 2, starts:numel()) - starts
  return sorted:index_select(1, starts), inverse:reshape(x.shape), counts
end

return order
