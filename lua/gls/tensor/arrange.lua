--- Arrange: tensors in parts, rolled, repeated and spread over grids: compositions of rows of the op table, so that
-- they are differentiable in both modes as those are, and take integers.
-- @module gls.tensor.arrange
local arguments = require "gls.tensor.arguments"
local core = require "gls.core"

local fail, whole = arguments.fail, arguments.whole
local arrange = {}

--- Parts of x along a dimension (1): all of `size` places but the last, which has the rest; or of the sizes in a list,
-- which add up to the dimension's. `gls.split(x, 10)`, `x:split({ 3, 7 }, 2)`. Gives a list of views.
function arrange.split(x, size, dimension)
  arguments.tensor("split", x)
  size, dimension = arguments.named("split", { "size", "dimension" }, size, dimension)
  dimension = arguments.dimension("split", x, dimension, 1)
  local total, sizes = x:size(dimension), size
  if type(size) ~= "table" then
    size, sizes = whole("split", "size", size, 1), {}
    for start = 0, math.max(total - 1, 0), size do sizes[#sizes + 1] = math.min(size, total - start) end
  end
  local parts, sum, start = {}, 0, 1
  for i = 1, #sizes do sum = sum + whole("split", ("size %d"):format(i), sizes[i], 0) end
  if sum ~= total then
    fail("split", "the sizes %s do not add up to the %d places of dimension %d", table.concat(sizes, ", "), total,
      dimension)
  end
  for i, count in ipairs(sizes) do
    parts[i] = x:narrow(dimension, start, count)
    start = start + count
  end
  return parts
end

--- x in `count` parts along a dimension (1), the first ones one place longer where they cannot all be equal. Gives a
-- list of views: `local input, forget, cell, output = table.unpack(gates:chunk(4, 2))`.
function arrange.chunk(x, count, dimension)
  arguments.tensor("chunk", x)
  count, dimension = arguments.named("chunk", { "count", "dimension" }, count, dimension)
  dimension = arguments.dimension("chunk", x, dimension, 1)
  count = whole("chunk", "count", count, 1)
  local total, sizes = x:size(dimension), {}
  for i = 1, count do sizes[i] = total // count + (i <= total % count and 1 or 0) end
  return arrange.split(x, sizes, dimension)
end

--- The places of a dimension (1), which goes: a list of views. `gls.stack` is the way back.
function arrange.unbind(x, dimension)
  arguments.tensor("unbind", x)
  dimension = arguments.dimension("unbind", x, dimension, 1)
  local list = {}
  for i = 1, x:size(dimension) do list[i] = x:select(dimension, i) end
  return list
end

--- x with its places moved on by `shift` (negative: back), those that leave the end come in at the beginning: along
-- one dimension, along several with a list of shifts and one of dimensions, without one in row-major order.
function arrange.roll(x, shift, dimension)
  arguments.tensor("roll", x)
  shift, dimension = arguments.named("roll", { "shift", "dimension" }, shift, dimension)
  if type(shift) ~= "table" then shift = whole("roll", "shift", shift) end
  if dimension == nil and type(shift) ~= "table" then
    return x:dim() == 0 and x or arrange.roll(x:reshape(-1), shift, 1):reshape(x.shape)
  end
  local shifts = type(shift) == "table" and shift or { shift }
  local dimensions = type(dimension) == "table" and dimension or { dimension }
  if #shifts ~= #dimensions then fail("roll", "%d shifts for %d dimensions", #shifts, #dimensions) end
  for i, given in ipairs(dimensions) do
    local at = arguments.dimension("roll", x, given)
    local total = x:size(at)
    local back = total > 0 and -whole("roll", "shift", shifts[i]) % total or 0
    if back > 0 then x = core.cat({ x:narrow(at, back + 1, total - back), x:narrow(at, 1, back) }, at) end
  end
  return x
end

-- The places 1 to #counts, each as often as counts says, as int32.
local function repeated_places(counts, total)
  local starts = counts:cumsum(1) - counts + 1
  local begins = core.zeros({ total + 1 }, { type = "int32" }):scatter_add(1, starts, core.ones_like(counts))
  return begins:narrow(1, 1, total):cumsum(1)
end

--- Every place of a dimension (1) `count` times in a row, or each its own number of times with an int32 tensor or list
-- of counts: {1, 2} twice is {1, 1, 2, 2}. `x:tile` repeats the whole.
function arrange.repeat_interleave(x, count, dimension)
  arguments.tensor("repeat_interleave", x)
  count, dimension = arguments.named("repeat_interleave", { "count", "dimension" }, count, dimension)
  dimension = arguments.dimension("repeat_interleave", x, dimension, 1)
  local shape = x.shape
  if not core.is_tensor(count) and type(count) ~= "table" then
    count = whole("repeat_interleave", "count", count, 0)
    local wide = x:unsqueeze(dimension + 1).shape
    wide[dimension + 1], shape[dimension] = count, shape[dimension] * count
    return x:unsqueeze(dimension + 1):expand(wide):reshape(shape)
  end
  if type(count) == "table" then count = core.tensor(count, { type = "int32" }) end
  if count.type ~= "int32" or count:dim() ~= 1 or count:size(1) ~= shape[dimension] then
    fail("repeat_interleave", "counts are %d numbers of type int32, one for each place of dimension %d",
      shape[dimension], dimension)
  end
  if count:numel() > 0 and count:min():item() < 0 then
    fail("repeat_interleave", "a count is %d: it is 0 or more", count:min():item())
  end
  return x:index_select(dimension, repeated_places(count, count:sum():item()))
end

--- Grids of the coordinates in a list of vectors: entry i of the result varies along dimension i alone, and all have
-- one dimension for each vector. `local rows, columns = table.unpack(gls.meshgrid { y, x })`. Gives a list of views.
function arrange.meshgrid(vectors)
  if type(vectors) ~= "table" then fail("meshgrid", "a list of vectors is expected, got %s", type(vectors)) end
  local sizes, grids = {}, {}
  for i, vector in ipairs(vectors) do
    arguments.tensor("meshgrid", vector, ("vector %d"):format(i))
    if vector:dim() > 1 then fail("meshgrid", "vector %d has %d dimensions", i, vector:dim()) end
    sizes[i] = vector:numel()
  end
  for i, vector in ipairs(vectors) do
    local shape = {}
    for k = 1, #sizes do shape[k] = k == i and sizes[i] or 1 end
    grids[i] = vector:reshape(shape):expand(sizes)
  end
  return grids
end

--- Of a vector, the matrix with it on its diagonal, or `offset` places above the main one, and zeros elsewhere; of a
-- matrix, its diagonal.
function arrange.diag(x, offset)
  arguments.tensor("diag", x)
  offset = whole("diag", "offset", offset or 0)
  if x:dim() == 2 then return x:diagonal(offset) end
  if x:dim() ~= 1 then fail("diag", "a vector or a matrix is expected, got %d dimensions", x:dim()) end
  -- Rows of n + 1 with the vector in their first column, read as rows of n, have it on the diagonal.
  local n, right, below = x:numel(), math.max(offset, 0), math.max(-offset, 0)
  local square = x:unsqueeze(2):pad({ 0, n }):reshape(-1):narrow(1, 1, n * n):view(n, n)
  return offset == 0 and square or square:pad({ right, below, below, right })
end

return arrange
