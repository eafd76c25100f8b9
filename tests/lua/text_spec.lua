-- Text: a corpus as tokens, and its windows.
local gls = require "gls"
local fails = require("tests.lua.failing").says
local scratch = require "tests.lua.scratch"
local data, files, write = gls.data, gls.core.io, scratch.write

scratch.each(before_each, after_each)

describe("data.text", function()
  it("numbers the characters in their order, for both parts alike: nine tenths and the rest", function()
    local path = write("a.txt", "banana é\nban") -- 12 characters: 10 and 2
    local set = data.text { path = path, context = 4 }
    assert.same({ "\n", " ", "a", "b", "n", "é" }, set.vocabulary)
    assert.equal("int32", set.tokens.type)
    assert.same({ 4, 3, 5, 3, 5, 3, 2, 6, 1, 4 }, set.tokens:tolist())
    assert.equal(10, #set)
    assert.equal("train", set.split)
    local held = data.text { path = path, context = 1, split = "validation" }
    assert.same({ 3, 5 }, held.tokens:tolist())
    assert.same(set.vocabulary, held.vocabulary)
    assert.equal("banana é\nb", set:decode(set.tokens))
    assert.same({ 4, 6 }, set:encode("bé"):tolist())
    assert.equal("ab", set:decode(gls.tensor({ { 3 }, { 4 } }, { type = "int32" })))
    fails('encode: the vocabulary has no "z"', set.encode, set, "baz")
    fails("token 7, the vocabulary has 1 to 6", set.decode, set, { 7 })
  end)

  it("does not take a byte-order mark for a character", function()
    local set = data.text { path = write("mark.txt", "\xEF\xBB\xBF" .. ("ab"):rep(10)), context = 3 }
    assert.same({ "a", "b" }, set.vocabulary)
  end)

  it("by words: the most frequent of the training part, marks and line ends by themselves", function()
    local path = write("a.txt", "the cat, the dog\nthe end and so on and on. new")
    local set = data.text { path = path, context = 2, level = "words", words = 3 }
    assert.same({ "<unk>", "the", "and", "on" }, set.vocabulary)
    assert.equal("the <unk> <unk> the <unk> <unk> the <unk> and <unk> on and on", set:decode(set.tokens))
    set = data.text { path = path, context = 2, level = "words" }
    assert.same({ "<unk>", "the", "and", "on", "\n", ",", "cat", "dog", "end", "so" }, set.vocabulary)
    assert.same({ 2, 7, 1 }, set:encode("the cat sat"):tolist())
  end)

  it("is found by name: tinyshakespeare.txt in the data directory, or a file", function()
    write("tinyshakespeare.txt", ("To be, or not to be. "):rep(10))
    local set = data.open("text", { dir = scratch.folder() })
    assert.equal("tinyshakespeare", set.name)
    assert.equal(64, set.context)
    assert.equal(189, #set)
    local path = write("b.txt", ("abc"):rep(300))
    assert.equal(810, #data.open("text:" .. path))
    assert.equal(90, #data.open("text:" .. path, { split = "validation" }))
    assert.equal(100, #data.open("text:" .. path, { samples = 100 }))
    fails("811 samples wanted, but b.txt has 810 tokens", data.open, "text:" .. path, { samples = 811 })
  end)

  it("is Debian's bible-kjv-text where there is nothing else", function()
    if files.kind "/usr/lib/bible.data" ~= "file" then
      pending "skipped: Debian's package bible-kjv-text is not installed"
      return
    end
    local set = data.text { dir = scratch.folder() }
    assert.equal("bible-kjv-text", set.name)
    -- As Debian's program bible prints Genesis 1:1 and 2.
    assert.equal("In the beginning God created the heaven and the earth.\nAnd the earth was without form",
      set:decode(set.tokens:narrow(1, 1, 85)))
    local all = set:decode(set.tokens)
    assert.falsy(all:find "%d:%d")
  end)

  it("refuses what is no text, too short, or asked for wrongly", function()
    fails("b.txt: not UTF-8 at byte 3", data.text, { path = write("b.txt", "ab\xff") })
    local short = write("short.txt", ("a"):rep(70))
    fails("short.txt: 63 tokens in the train part, a window and the token after it take 65", data.text,
      { path = short })
    fails("absent.txt", data.text, { path = scratch.path "absent.txt" })
    fails('split is "valid"', data.text, { path = short, split = "valid" })
    fails('level is "bytes"', data.text, { path = short, level = "bytes" })
    fails("context is 0", data.text, { path = short, context = 0 })
    fails('unknown option "contxt"', data.text, { path = short, contxt = 3 })
  end)
end)

describe("batches of text", function()
  local function corpus(length, context)
    local content = {}
    for i = 1, length do content[i] = utf8.char(0x100 + i) end -- so token i is i
    return data.text { path = write("a.txt", table.concat(content)), context = context }
  end

  it("in order hold all of it once, y being x one token later", function()
    local set, xs, ys, shapes = corpus(50, 4), {}, {}, {} -- 45 tokens: 44 predicted, 11 windows
    for batch in data.loader(set, { batch = 3 }) do
      assert.equal("int32", batch.x.type)
      shapes[#shapes + 1] = table.concat(batch.x.shape, "×")
      for _, x in ipairs(batch.x:view(-1):tolist()) do xs[#xs + 1] = x end
      for _, y in ipairs(batch.y:view(-1):tolist()) do ys[#ys + 1] = y end
    end
    assert.equal("3×4 3×4 3×4 2×4", table.concat(shapes, " "))
    assert.equal(44, #xs)
    for i = 1, 44 do
      assert.equal(i, xs[i])
      assert.equal(i + 1, ys[i])
    end
    set, shapes = corpus(52, 4), {} -- 46 tokens: 45 predicted, 11 windows and a rest of 1
    local loader = data.loader(set, { batch = 3 })
    for batch in loader do shapes[#shapes + 1] = table.concat(batch.y.shape, "×") end
    assert.equal("3×4 3×4 3×4 2×4 1×1", table.concat(shapes, " "))
    assert.equal(5, #loader)
    assert.equal(3, #data.loader(set, { batch = 3, drop_last = true }))
  end)

  it("have as many batches in an epoch as are asked for", function()
    local set = corpus(50, 4)
    local count = 0
    for _ in data.loader(set, { batch = 5, shuffle = true, batches = 7 }) do count = count + 1 end
    assert.equal(7, count)
    fails("batches is a number of random windows", data.loader, set, { batches = 7 })
    fails("batches is for random windows of a text", data.loader, { x = gls.zeros(4, 2) }, { batches = 7 })
    assert.same({ 3, 4, 5 }, set:narrow(3, 3).tokens:tolist())
    assert.equal(set.vocabulary, set:narrow(3, 3).vocabulary)
  end)

  it("shuffled are random windows: the same for a seed, others in every epoch, every place possible", function()
    local set, seen = corpus(50, 4), {}
    local function starts(seed, epochs)
      local list, loader = {}, data.loader(set, { batch = 5, shuffle = true, seed = seed })
      for _ = 1, epochs do
        for batch in loader do
          assert.same({ 5, 4 }, batch.x.shape)
          for i = 1, 5 do
            local first = batch.x[i][1]:item()
            for k = 1, 4 do
              assert.equal(first + k - 1, batch.x[i][k]:item())
              assert.equal(first + k, batch.y[i][k]:item())
            end
            assert.equal(first, batch.index[i]:item())
            list[#list + 1], seen[first] = first, true
          end
        end
      end
      return list
    end
    local a = starts(1, 40)
    assert.equal(2 * 5 * 40, #a) -- 45 tokens are two batches of 5 × 4
    assert.same(a, starts(1, 40))
    assert.not_same(a, starts(2, 40))
    for first = 1, 41 do assert.is_true(seen[first], "no window begins at " .. first) end
    assert.is_nil(seen[42])
  end)

  it("refuse what is for images", function()
    local set = corpus(50, 4)
    for name, value in pairs { flatten = true, flip = true, crop = 1, scale = 2, mean = 1, center = true } do
      fails("for images", data.loader, set, { [name] = value })
    end
    fails("batch is 0", data.loader, set, { batch = 0 })
  end)
end)
