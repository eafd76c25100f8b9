--- Einsum: sums of products by Einstein's notation, as NumPy writes it, by permute, matmul and sum alone.
-- @module gls.tensor.einsum
local arguments = require "gls.tensor.arguments"

local function fail(...) arguments.fail("einsum", ...) end

-- ---- the equation ----

-- The labels of one term: letters, and for "..." as many labels of their own as `hidden` says, counted from the right.
local function labels_of(term, hidden)
  local before, after = term:match "^(%a*)%.%.%.(%a*)$"
  if not before and not term:match "^%a*$" then fail('"%s" is not letters, with "..." at most once', term) end
  local labels = {}
  for letter in (before or term):gmatch "." do labels[#labels + 1] = letter end
  for i = hidden, 1, -1 do labels[#labels + 1] = "." .. i end
  for letter in (after or ""):gmatch "." do labels[#labels + 1] = letter end
  return labels
end

-- The labels of the result where none are given: hidden ones, then in alphabetical order letters that are there once.
local function implied(lists, hidden)
  local times, output, letters = {}, {}, {}
  for _, labels in ipairs(lists) do
    for _, label in ipairs(labels) do times[label] = (times[label] or 0) + 1 end
  end
  for i = hidden, 1, -1 do output[#output + 1] = "." .. i end
  for label, count in pairs(times) do
    if count == 1 and label:find "%a" then letters[#letters + 1] = label end
  end
  table.sort(letters)
  return table.move(letters, 1, #letters, #output + 1, output)
end

-- Of every operand its labels; those of the result.
local function parse(equation, operands)
  local left, right = equation:gsub("%s", ""):match "^(.-)%->(.*)$"
  left = left or equation:gsub("%s", "")
  local terms, lists, most = {}, {}, 0
  for term in (left .. ","):gmatch "([^,]*)," do terms[#terms + 1] = term end
  if #terms ~= #operands then fail('"%s" has %d terms for %d tensors', equation, #terms, #operands) end
  for i, term in ipairs(terms) do
    local rank, letters = operands[i]:dim(), #labels_of(term, 0)
    local hidden = term:find("...", 1, true) and rank - letters or 0
    if hidden < 0 or letters + hidden ~= rank then
      fail('"%s" has %d letters, tensor %d has %d dimensions', term, letters, i, rank)
    end
    lists[i], most = labels_of(term, hidden), math.max(most, hidden)
  end
  if right and most > 0 and not right:find("...", 1, true) then
    fail('the result "%s" lacks the "..." that the tensors have', right)
  end
  return lists, right and labels_of(right, most) or implied(lists, most)
end

-- ---- sets of labels ----

local function position(labels, label)
  for i, own in ipairs(labels) do
    if own == label then return i end
  end
  return nil
end

local function filter(labels, keeps)
  local kept = {}
  for _, label in ipairs(labels) do
    if keeps(label) then kept[#kept + 1] = label end
  end
  return kept
end

local function joined(...)
  local all = {}
  for _, labels in ipairs { ... } do table.move(labels, 1, #labels, #all + 1, all) end
  return all
end

local function sizes_of(labels, sizes)
  local list = {}
  for i, label in ipairs(labels) do list[i] = sizes[label] end
  return list
end

local function product(labels, sizes)
  local count = 1
  for _, label in ipairs(labels) do count = count * sizes[label] end
  return count
end

-- ---- operands: { x =, labels = } ----

-- A label that is there twice is a diagonal.
local function without_repeats(x, labels)
  local i, seen = 1, {}
  while i <= #labels do
    local first = seen[labels[i]]
    if first then
      local label = table.remove(labels, i)
      if x:size(first) ~= x:size(i) then
        fail('"%s" stands for %d and for %d in one tensor', label, x:size(first), x:size(i))
      end
      x = x:diagonal(0, first, i)
      table.remove(labels, first)
      labels[#labels + 1] = label
      i, seen = 1, {}
    else
      seen[labels[i]] = i
      i = i + 1
    end
  end
  return { x = x, labels = labels }
end

-- The sum over labels that nobody else needs.
local function summed(operand, needed)
  local dims = {}
  for i, label in ipairs(operand.labels) do
    if not needed(label) then dims[#dims + 1] = i end
  end
  if #dims == 0 then return operand end
  return { x = operand.x:sum(dims), labels = filter(operand.labels, needed) }
end

-- x with dimensions in the order of labels, of which it lacks some: 1 there. Nothing is copied.
local function arranged(operand, labels)
  local dims, x = {}, operand.x
  for _, label in ipairs(labels) do dims[#dims + 1] = position(operand.labels, label) end
  if #dims > 1 then x = x:permute(dims) end
  for i, label in ipairs(labels) do
    if not position(operand.labels, label) then x = x:unsqueeze(i) end
  end
  return x
end

-- x in a shape; as it is where that is its own, for a transposed one would be copied.
local function reshaped(x, sizes)
  local same = x:dim() == #sizes
  for i = 1, #sizes do same = same and x:size(i) == sizes[i] end
  return same and x or x:reshape(sizes)
end

-- x broadcast to sizes.
local function spread(x, sizes)
  for i, size in ipairs(sizes) do
    if x:size(i) ~= size then return x:expand(sizes) end
  end
  return x
end

-- The product of two, summed over the labels that both have and nobody else needs.
local function contracted(a, b, needed, sizes)
  a = summed(a, function(label) return needed(label) or position(b.labels, label) end)
  b = summed(b, function(label) return needed(label) or position(a.labels, label) end)
  local both = filter(a.labels, function(label) return position(b.labels, label) end)
  local batch = filter(both, needed)
  local inner = filter(both, function(label) return not needed(label) end)
  local left = filter(a.labels, function(label) return not position(b.labels, label) end)
  local right = filter(b.labels, function(label) return not position(a.labels, label) end)
  local labels = joined(batch, left, right)
  if #inner == 0 then return { x = arranged(a, labels) * arranged(b, labels), labels = labels } end
  -- As (batch, left, inner) · (batch, inner, right); a dimension of size 1 is spread over what it stands for.
  local function matrices(operand, first, second)
    local order = joined(batch, first, second)
    local x = spread(arranged(operand, order), sizes_of(order, sizes))
    local rows, columns = product(first, sizes), product(second, sizes)
    return reshaped(x, #batch == 0 and { rows, columns } or { product(batch, sizes), rows, columns })
  end
  local x = matrices(a, left, inner):matmul(matrices(b, inner, right))
  return { x = reshaped(x, sizes_of(labels, sizes)), labels = labels }
end

-- The size that every label stands for; 1 broadcasts.
local function common_sizes(operands)
  local sizes = {}
  for i, operand in ipairs(operands) do
    for k, label in ipairs(operand.labels) do
      local size, known = operand.x:size(k), sizes[label] or 1
      if size ~= known and size ~= 1 and known ~= 1 then
        fail('"%s" is %d in tensor %d, and %d before it', label:gsub("^%.%d+$", "..."), size, i, known)
      end
      sizes[label] = known == 1 and size or known
    end
  end
  return sizes
end

--- The sum of products that an equation says: `gls.einsum("ij,jk->ik", a, b)` is a matrix product, "bij,bjk->bik" a
-- batch of them, "ii->i" a diagonal, "ii" a trace, "i,j->ij" an outer product, "...ij->...ji" a transpose. Letters
-- stand for dimensions, "..." for those that are left, which broadcast; labels that are not in the result are summed
-- over; without "->" the result has those that are there once, in alphabetical order. Tensors are multiplied from left
-- to right, by matmul. Differentiable in both modes.
local function einsum(equation, ...)
  if type(equation) ~= "string" then fail("the equation is a string, got %s", type(equation)) end
  local given = { ... }
  for i = 1, select("#", ...) do arguments.tensor("einsum", given[i], ("tensor %d"):format(i)) end
  local lists, output = parse(equation, given)
  local operands = {}
  for i, x in ipairs(given) do operands[i] = without_repeats(x, lists[i]) end
  local sizes = common_sizes(operands)
  for i, label in ipairs(output) do
    if not sizes[label] then fail('"%s" of the result is in no tensor', label) end
    if position(output, label) ~= i then fail('"%s" is there twice in the result', label) end
  end
  local result = operands[1]
  for i = 2, #operands do
    result = contracted(result, operands[i], function(label)
      if position(output, label) then return true end
      for k = i + 1, #operands do
        if position(operands[k].labels, label) then return true end
      end
      return false
    end, sizes)
  end
  result = summed(result, function(label) return position(output, label) end)
  return arranged(result, output)
end

return einsum
