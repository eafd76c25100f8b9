-- What a loader does to rows: augmentation, normalisation, drawing by weights; sets whose rows a function gives; and
-- going on in the middle of an epoch.
local gls = require "gls"
local data = require "gls.data"

local function images(count, channels, side, make)
  local bytes = gls.zeros({ count, channels, side, side }, { type = "uint8" })
  if make then make(bytes) end
  return data.tensors { x = bytes, y = gls.arange(1, count + 1):to "int32" }
end

local function only_batch(set, given)
  given.batch, given.seed = #set, given.seed or 7
  local loader = data.loader(set, given)
  return loader()
end

describe("a loader", function()
  it("normalises by a mean and a deviation of each channel", function()
    local set = images(2, 3, 2, function(bytes)
      for c = 1, 3 do bytes[{ {}, c }] = 51 * c end -- 0.2, 0.4, 0.6
    end)
    local x = only_batch(set, { mean = { 0.1, 0.2, 0.3 }, scale = { 0.5, 1, -2 } }).x
    for c, expected in ipairs { 0.2, 0.2, -0.15 } do
      assert.is_true((x[{ {}, c }] - expected):abs():max():item() < 1e-6)
    end
    local plain = data.tensors { x = gls.tensor { { 1, 2 }, { 3, 4 } } }
    local flat = only_batch(plain, { mean = { 1, 2 }, scale = { 2, 4 } })
    assert.same({ { 0, 0 }, { 1, 0.5 } }, flat.x:tolist())
    assert.error_matches(function() data.loader(set, { scale = { 1, 2 } }) end, "scale has 2 values, expected 1 or one")
    assert.error_matches(function() data.loader(set, { scale = { 1, 0, 1 } }) end, "scale is 0")
  end)

  it("turns images about their middle, by at most the angle given", function()
    -- One bright pixel, 3 to the right of the middle of 9 × 9: turned, its weight lies at a distance of 3, within the
    -- angle, but for what bilinear interpolation spreads.
    local set = images(200, 1, 9, function(bytes) bytes[{ {}, 1, 5, 8 }] = 255 end)
    local x = only_batch(set, { center = false, rotate = 30 }).x
    local widest, sides = 0, { 0, 0 }
    for i = 1, 200 do
      local sum, right, down = 0, 0, 0
      for row, line in ipairs(x[i][1]:tolist()) do
        for column, value in ipairs(line) do
          sum, right, down = sum + value, right + value * (column - 5), down + value * (row - 5)
        end
      end
      assert.is_true(math.abs(sum - 1) < 0.35, sum)
      right, down = right / sum, down / sum
      local angle = math.deg(math.atan(down, right))
      assert.is_true(math.abs(math.sqrt(right ^ 2 + down ^ 2) - 3) < 0.25 and math.abs(angle) < 33)
      widest = math.max(widest, math.abs(angle))
      sides[angle < 0 and 1 or 2] = sides[angle < 0 and 1 or 2] + 1
    end
    assert.is_true(widest > 24 and sides[1] > 60 and sides[2] > 60)
    assert.error_matches(function() data.loader(set, { rotate = 200 }) end, "rotate is 200, expected 0 to 180")
  end)

  it("turns nothing by a quarter but to where it belongs", function()
    -- Constant images stay constant inside whatever the angle.
    local set = images(20, 2, 9, function(bytes) bytes:fill(255) end)
    local x = only_batch(set, { center = false, rotate = 180 }).x
    assert.is_true((x[{ {}, {}, { 3, 7 }, { 3, 7 } }] - 1):abs():max():item() < 1e-5)
  end)

  it("erases one rectangle of some images", function()
    local set = images(400, 2, 10, function(bytes) bytes:fill(255) end)
    local x = only_batch(set, { center = false, erase = 0.25 }).x
    local erased, area = 0, 0
    for i = 1, 400 do
      local zero = x[i]:eq(0)
      local count = zero[1]:sum():item()
      if count > 0 then
        erased, area = erased + 1, area + count / 100
        local rows, columns = zero[1]:max(2):sum():item(), zero[1]:max(1):sum():item()
        assert.equal(rows * columns, count)
        assert.equal(count, zero[2]:sum():item())
      end
    end
    assert.is_true(erased > 70 and erased < 130) -- 100 ± 3.5 deviations
    assert.is_true(area / erased > 0.1 and area / erased < 0.25) -- the mean of 0.02 to 0.33 is 0.175
    assert.error_matches(function() data.loader(set, { erase = 1.5 }) end, "erase is 1.5, expected a probability")
  end)

  it("draws the same augmentation for the same epoch, with and without a thread ahead", function()
    local set = images(96, 3, 40, function(bytes) bytes:copy(gls.randint(0, 255, bytes.shape):to "uint8") end)
    local function sums(prefetch)
      local list = {}
      local loader = data.loader(set, {
        batch = 20, shuffle = true, crop = 4, flip = true, rotate = 15, erase = 0.5, seed = 3, prefetch = prefetch,
      })
      for _ = 1, 2 do
        for batch in loader do list[#list + 1] = batch.x:sum():item() end
      end
      return list
    end
    assert.same(sums(true), sums(false))
  end)

  it("hands batches through a function of the user's", function()
    local set = data.tensors { x = gls.ones(4, 2) }
    local loader = data.loader(set, { batch = 2, transform = function(batch) batch.x = batch.x * batch.number end })
    local seen = {}
    for batch in loader do seen[#seen + 1] = batch.x:sum():item() end
    assert.same({ 4, 8 }, seen)
    for batch in data.loader(set, { transform = function() return { x = 1 } end }) do assert.same({ x = 1 }, batch) end
    local wrong = data.loader(set, { transform = function() return 3 end })
    assert.error_matches(function() wrong() end, "transform gives a batch")
  end)

  it("draws rows by weights, with replacement", function()
    local set = data.tensors { x = gls.arange(1, 5):view(4, 1) }
    local counts, loader = { 0, 0, 0, 0 }, data.loader(set, { batch = 3, weights = { 1, 0, 2, 5 }, seed = 1 })
    for _ = 1, 500 do
      for batch in loader do
        for _, row in ipairs(batch.index:tolist()) do counts[row] = counts[row] + 1 end
      end
    end
    -- 2000 draws; 250 ± 15, 0, 500 ± 19, 1250 ± 22: within four deviations
    assert.equal(0, counts[2])
    assert.is_true(math.abs(counts[1] - 250) < 60 and math.abs(counts[3] - 500) < 77, table.concat(counts, " "))
    for message, weights in pairs { ["3 weights, the set has 4"] = { 1, 1, 1 }, ["weight 2 is %-1"] = { 1, -1, 1, 1 },
      ["add up to 0"] = { 0, 0, 0, 0 } } do
      assert.error_matches(function() data.loader(set, { weights = weights }) end, message)
    end
  end)

  it("draws all classes equally often", function()
    local y = gls.ones({ 100 }, { type = "int32" })
    y[{ { 91, 100 } }] = 2
    local seen, loader = { 0, 0 }, data.loader(data.tensors { x = gls.zeros(100, 1), y = y },
      { batch = 50, balanced = true, seed = 2 })
    for _ = 1, 40 do
      for batch in loader do
        for _, label in ipairs(batch.y:tolist()) do seen[label] = seen[label] + 1 end
      end
    end
    assert.is_true(math.abs(seen[1] - 2000) < 130, seen[1]) -- 4000 draws, deviation 32
    local without = data.tensors { x = gls.zeros(3, 1) }
    assert.error_matches(function() data.loader(without, { balanced = true }) end, "labels")
  end)

  it("goes on in the middle of an epoch", function()
    local function numbers(loader, stop)
      local list = {}
      for batch in loader do
        list[#list + 1] = batch.index:tolist()
        if #list == stop then break end
      end
      return list
    end
    local corpus_path = os.tmpname()
    local file <close> = assert(io.open(corpus_path, "w"))
    file:write(("the quick brown fox jumps over the lazy dog. "):rep(40))
    file:flush()
    for _, make in ipairs {
      function() return data.loader(data.tensors { x = gls.zeros(20, 2) }, { batch = 3, shuffle = true }) end,
      function() return data.loader(data.tensors { x = gls.zeros(700, 500) }, { batch = 150, shuffle = true }) end,
      function()
        local own = data.set { size = 20, get = function() return { 1 } end }
        return data.loader(own, { batch = 3, shuffle = true })
      end,
      function() return data.loader(data.text { path = corpus_path, context = 8 }, { batch = 4, shuffle = true }) end,
    } do
      local whole, cut = make(), make()
      cut:load_state_dict { seed = whole.seed, epochs = 0, batch = 0 }
      numbers(whole)
      local second, third = numbers(whole), numbers(whole)
      numbers(cut)
      local first_part = numbers(cut, 2)
      local saved = cut:state_dict()
      assert.matches("^batches of %d+ rows shuffled$", saved.rows)
      assert.same({ seed = whole.seed, epochs = 2, batch = 2, batches = #whole, rows = saved.rows }, saved)
      local other = make()
      other:load_state_dict(saved)
      for i, list in ipairs(numbers(other)) do first_part[2 + i] = list end
      assert.same(second, first_part)
      assert.same(third, numbers(other))
      assert.error_matches(function() other:load_state_dict { seed = 1, epochs = 1, batch = 10000 } end, "after batch")
    end
    os.remove(corpus_path)
  end)

  it("does not go on amid an epoch of other batches, whose rest would be other rows", function()
    local set = data.tensors { x = gls.zeros(20, 2) }
    local function of(size) return (data.loader(set, { batch = size })) end
    local loader = of(2)
    local amid
    for batch in loader do
      if batch.number == 4 then amid = loader:state_dict() end
    end
    assert.error_matches(function() of(4):load_state_dict(amid) end, "an epoch of 10 batches, this loader's have 5")
    of(4):load_state_dict(loader:state_dict()) -- between two epochs it does
    for shuffle, words in pairs {
      [true] = "batches of 2 rows in the set's order, this loader has batches of 2 rows shuffled",
      [false] = "batches of 2 rows shuffled, this loader has batches of 2 rows in the set's order",
    } do
      local other = data.loader(set, { batch = 2, shuffle = not shuffle })
      for batch in other do
        if batch.number == 4 then amid = other:state_dict() end
      end
      local changed = data.loader(set, { batch = 2, shuffle = shuffle })
      assert.error_matches(function() changed:load_state_dict(amid) end, words)
      changed:load_state_dict(other:state_dict())
      amid.rows = nil -- of an older version
      changed:load_state_dict(amid)
    end
  end)
end)

describe("data.set", function()
  local function squares(changes)
    local given = { size = 10, name = "squares", get = function(i) return { i, i * i }, i % 3 + 1 end }
    for name, value in pairs(changes or {}) do given[name] = value end
    return data.set(given)
  end

  it("holds labels to the classes", function()
    local function run(changes)
      for _ in data.loader(squares(changes)) do end
    end
    run { classes = 3 }
    assert.same({ "1", "2" }, squares({ classes = 2 }).classes)
    assert.error_matches(function() run { classes = 2 } end, "get%(2%) gives the label 3, expected 1 to 2")
    assert.error_matches(function() run { classes = 3, get = function() return { 1 }, 1.5 end } end, "y is not labels")
    assert.error_matches(function() run { classes = "3" } end, "classes is a list of names, or their number")
  end)

  it("makes rows when they are wanted", function()
    local set = squares()
    assert.equal(10, #set)
    local rows, seen = {}, 0
    for batch in data.loader(set, { batch = 4, shuffle = true, mean = { 1, 2 }, scale = 2 }) do
      assert.equal("int32", batch.y.type)
      for i, row in ipairs(batch.index:tolist()) do
        assert.same({ (row - 1) / 2, (row * row - 2) / 2 }, batch.x[i]:tolist())
        assert.equal(row % 3 + 1, batch.y[i]:item())
        rows[row], seen = true, seen + 1
      end
    end
    assert.equal(10, seen)
    assert.equal(10, #rows)
    local part = set:take { 3, 5 }:narrow(2, 1)
    for batch in data.loader(part) do assert.same({ { 5, 25 } }, batch.x:tolist()) end
  end)

  it("takes images, and augments them anew in every batch", function()
    local set = data.set { size = 64, get = function(i)
      local image = gls.zeros({ 1, 9, 9 }, { type = "uint8" })
      image[1][5][5] = 255
      return image, i * 1.5
    end }
    local places = {}
    for batch in data.loader(set, { batch = 8, crop = 3, center = false, seed = 1 }) do
      assert.same({ 8, 1 }, batch.y.shape)
      for i = 1, 8 do
        assert.equal(1, batch.x[i]:sum():item())
        places[batch.x[i]:reshape(-1):argmax(1):item()] = true
      end
    end
    local count = 0
    for _ in pairs(places) do count = count + 1 end
    assert.is_true(count > 20) -- of 49; one batch's alone would be 8
  end)

  it("can be balanced and split", function()
    local set = squares { labels = gls.tensor({ 1, 1, 1, 1, 1, 1, 1, 1, 1, 2 }, { type = "int32" }) }
    local last = 0
    local loader = data.loader(set, { batch = 10, balanced = true, seed = 4 })
    for _ = 1, 100 do
      for batch in loader do last = last + batch.index:eq(10):sum():item() end
    end
    assert.is_true(math.abs(last - 500) < 64) -- 1000 draws, deviation 16
    local parts = { data.split(set, { 2, 0.3 }) }
    assert.same({ 5, 2, 3 }, { #parts[1], #parts[2], #parts[3] })
  end)

  it("says which row is unlike the others", function()
    local function first(changes)
      local loader = data.loader(squares(changes), { batch = 3 })
      return loader()
    end
    for message, get in pairs {
      ["x of float32 (2) for row 1, of float32 (3) for row 2"] = function(i)
        return i == 2 and { 1, 2, 3 } or { 1, 2 }
      end,
      ["get(1) gives string as x"] = function() return "text" end,
      ["a y for some rows only: row 2 is unlike row 1"] = function(i) return { 1 }, i == 1 and 1 or nil end,
    } do
      local good, text = pcall(first, { get = get })
      assert.is_false(good)
      assert.truthy(text:find(message, 1, true), text)
    end
    assert.error_matches(function() squares { size = 0 } end, "size is 0")
    assert.error_matches(function() squares { get = 3 } end, "get is a function")
    assert.error_matches(function() squares { sizes = 3 } end, 'did you mean "size"')
  end)
end)

describe("data.split", function()
  it("gives as many parts as are asked for, that share no row", function()
    local set = data.tensors { x = gls.arange(1, 21):view(20, 1) }
    local training, validation, test = data.split(set, { 0.2, 3 })
    assert.same({ 13, 4, 3 }, { #training, #validation, #test })
    assert.same({ "train", "validation", "test" }, { training.split, validation.split, test.split })
    local seen = {}
    for _, part in ipairs { training, validation, test } do
      for _, value in ipairs(part.x:view(-1):tolist()) do
        assert.is_nil(seen[value])
        seen[value] = true
      end
    end
    assert.error_matches(function() data.split(set, { 0.5, 0.5 }) end, "20 of 20 rows held out")
  end)
end)
