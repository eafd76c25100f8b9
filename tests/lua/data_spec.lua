-- Data: sets from files that the tests write themselves, damaged ones, and loaders.
local gls = require "gls"
local data = require "gls.data"
local scratch = require "tests.lua.scratch"
local files, path, write = gls.core.io, scratch.path, scratch.write

local folder
scratch.each(before_each, after_each)
before_each(function() folder = scratch.folder() end)

local function make(name) files.make_folders(path(name)) end

local function failure(f, ...)
  local good, message = pcall(f, ...)
  assert.is_false(good, "no error")
  assert.is_string(message)
  assert.falsy(message:find("%.c:%d"), message)
  return message
end

-- The message contains each of the texts.
local function fails_with(texts, f, ...)
  local message = failure(f, ...)
  for _, text in ipairs(type(texts) == "table" and texts or { texts }) do
    assert.truthy(message:find(text, 1, true), message .. "\n  does not say\n" .. text)
  end
end

-- ---- CIFAR-10 ----

local NAMES = { "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck" }

-- Record whose red, green and blue planes are red, red + 1, red + 2.
local function record(label, red)
  return string.char(label) .. string.char(red):rep(1024) .. string.char(red + 1):rep(1024)
    .. string.char(red + 2):rep(1024)
end

local function write_cifar(per_file)
  make "cifar-10-batches-bin"
  for file = 1, 6 do
    local records = {}
    for i = 1, per_file do records[i] = record((i + file) % 10, file * 10 + i) end
    local name = file < 6 and ("data_batch_%d.bin"):format(file) or "test_batch.bin"
    write("cifar-10-batches-bin/" .. name, table.concat(records))
  end
  write("cifar-10-batches-bin/batches.meta.txt", table.concat(NAMES, "\n") .. "\n\n")
end

describe("data.cifar10 from binary files", function()
  it("gives images as they lie in the five files, labels from 1, and names of classes", function()
    write_cifar(3)
    local set = data.cifar10 { dir = folder }
    assert.equal(15, #set)
    assert.same({ 15, 3, 32, 32 }, set.images.shape)
    assert.equal("uint8", set.images.type)
    assert.equal("int32", set.labels.type)
    assert.same({ 3, 4, 5, 4, 5, 6, 5, 6, 7, 6, 7, 8, 7, 8, 9 }, set.labels:tolist())
    assert.same(NAMES, set.classes)
    assert.equal("CIFAR-10", set.name)
    assert.equal(21, set.images[4][1][32][32]:item())
    assert.equal(23, set.images[4][3][1][1]:item())
    local test = data.cifar10 { dir = folder, split = "test" }
    assert.same({ 8, 9, 10 }, test.labels:tolist())
    assert.equal(61, test.images[1][1][1][1]:item())
  end)

  it("has the mean of the training images in both parts", function()
    write_cifar(3)
    local set, test = data.cifar10 { dir = folder }, data.cifar10 { dir = folder, split = "test", samples = 1 }
    -- Red is 10 f + i over files f = 1..5 and records i = 1..3: 32 in the mean.
    for channel = 1, 3 do
      assert.near((31 + channel) / 255, set.mean[channel], 1e-12)
      assert.near((31 + channel) / 255, test.mean[channel], 1e-12)
    end
    local some = data.cifar10 { dir = folder, samples = 1 }
    assert.near(some.images[1][1][1][1]:item() / 255, some.mean[1], 1e-12)
  end)

  it("takes samples by a fixed shuffle: always the same, never one twice, more than there are is an error", function()
    write_cifar(3)
    local a = data.cifar10 { dir = folder, samples = 10 }
    local b = data.cifar10 { dir = folder, samples = 10 }
    local c = data.cifar10 { dir = folder, samples = 10, seed = 2 }
    assert.equal(10, #a)
    assert.equal(a.fingerprint, b.fingerprint)
    assert.not_equal(a.fingerprint, c.fingerprint)
    local seen = {}
    for i = 1, 10 do
      local red = a.images[i][1][1][1]:item()
      assert.is_nil(seen[red])
      seen[red] = true
      assert.equal((red % 10 + red // 10) % 10 + 1, a.labels[i]:item())
    end
    fails_with("16 samples wanted, but CIFAR-10 has 15", data.cifar10, { dir = folder, samples = 16 })
    for _, samples in ipairs { 0, -1, 1.5, "x" } do
      fails_with("samples", data.cifar10, { dir = folder, samples = samples })
    end
  end)

  it("names the file and the record that is wrong", function()
    write_cifar(2)
    local bad = "cifar-10-batches-bin/data_batch_3.bin"
    write(bad, record(1, 1) .. record(10, 1))
    fails_with({ path(bad), "record 2: label 10, expected 0 to 9" }, data.cifar10, { dir = folder })
    write(bad, "")
    fails_with({ path(bad), "empty" }, data.cifar10, { dir = folder })
    local whole = record(1, 1) .. record(2, 2)
    for length = 1, #whole - 1, 61 do
      write(bad, whole:sub(1, length))
      if length ~= 3073 then fails_with({ path(bad), "truncated" }, data.cifar10, { dir = folder }) end
    end
    os.remove(path(bad))
    fails_with(path(bad), data.cifar10, { dir = folder })
    make(bad)
    fails_with({ path(bad), "folder" }, data.cifar10, { dir = folder })
  end)

  it("wants ten names of classes", function()
    write_cifar(1)
    write("cifar-10-batches-bin/batches.meta.txt", "cat\ndog\n")
    fails_with({ "batches.meta.txt", "2 names" }, data.cifar10, { dir = folder })
    os.remove(path "cifar-10-batches-bin/batches.meta.txt")
    fails_with("batches.meta.txt", data.cifar10, { dir = folder })
  end)
end)

-- ---- folders ----

local function image(name, value, height, width, channels)
  gls.save_image(path(name), gls.full({ channels or 3, height or 4, width or 5 }, value, { type = "uint8" }))
end

-- An 8×8 JPEG of one colour (200, 100, 50), by stb_image_write.
local JPEG = [[
/9j/4AAQSkZJRgABAQAAAQABAAD/2wCEAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBYQERMUFRUVDA8XGBYUGBIU
FRQBAwQEBQQFCQUFCRQNCw0UFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFP/AABEIAAgACAMBIgACEQED
EQH/xAGiAAABBQEBAQEBAQAAAAAAAAAAAQIDBAUGBwgJCgsQAAIBAwMCBAMFBQQEAAABfQECAwAEEQUSITFBBhNRYQcicRQygZGhCCNCscEVUtHwJDNi
coIJChYXGBkaJSYnKCkqNDU2Nzg5OkNERUZHSElKU1RVVldYWVpjZGVmZ2hpanN0dXZ3eHl6g4SFhoeIiYqSk5SVlpeYmZqio6Slpqeoqaqys7S1tre4
ubrCw8TFxsfIycrS09TV1tfY2drh4uPk5ebn6Onq8fLz9PX29/j5+gEAAwEBAQEBAQEBAQAAAAAAAAECAwQFBgcICQoLEQACAQIEBAMEBwUEBAABAncA
AQIDEQQFITEGEkFRB2FxEyIygQgUQpGhscEJIzNS8BVictEKFiQ04SXxFxgZGiYnKCkqNTY3ODk6Q0RFRkdISUpTVFVWV1hZWmNkZWZnaGlqc3R1dnd4
eXqCg4SFhoeIiYqSk5SVlpeYmZqio6Slpqeoqaqys7S1tre4ubrCw8TFxsfIycrS09TV1tfY2dri4+Tl5ufo6ery8/T19vf4+fr/2gAMAwEAAhEDEQA/
AKtFFFfh5/SB/9k=
]]

local function write_tree(root)
  for class, name in ipairs { "cat", "dog" } do
    make(root .. "/" .. name)
    for i = 1, 3 do image(("%s/%s/%d.png"):format(root, name, i), 10 * class + i) end
  end
end

-- Values and labels of a set whose images are of one value each.
local function content(set)
  local pairs_ = {}
  for i = 1, #set do pairs_[i] = ("%d:%d"):format(set.images[i][1][1][1]:item(), set.labels[i]:item()) end
  table.sort(pairs_)
  return table.concat(pairs_, " ")
end

describe("data.folder", function()
  local ALL = "11:1 12:1 13:1 21:2 22:2 23:2"

  it("reads a tree of class folders; classes are sorted, other files and hidden ones passed over", function()
    write_tree "tree"
    write("tree/README", "not an image")
    write("tree/cat/notes.txt", "not an image")
    make "tree/.hidden"
    local set = data.folder { path = path "tree" }
    assert.same({ "cat", "dog" }, set.classes)
    assert.same({ 6, 3, 4, 5 }, set.images.shape)
    assert.equal(ALL, content(set))
    assert.equal(set.fingerprint, data.folder { path = path "tree/" }.fingerprint)
  end)

  it("keeps what was decoded, notices changes, and rebuilds a damaged cache", function()
    write_tree "tree"
    local function read() return select(4, files.read_folder(path "tree", { path "cache" }, "t")).cached end
    assert.is_false(read())
    assert.is_true(read())
    local pipe = assert(io.popen("ls '" .. path "cache" .. "'"))
    local name = pipe:read "l"
    assert.is_nil(pipe:read "l")
    pipe:close()
    local text = scratch.read("cache/" .. name)
    for length = 0, #text - 1 do
      if length % 17 == 0 then
        write("cache/" .. name, text:sub(1, length))
        assert.is_false(read(), "a cache of " .. length .. " bytes was used")
      end
    end
    for i = 1, #text, 23 do
      write("cache/" .. name, text:sub(1, i - 1) .. string.char(text:byte(i) ~ 0x40) .. text:sub(i + 1))
      assert.is_false(read(), "a cache with byte " .. i .. " changed was used")
    end
    assert.is_true(read())
    image("tree/cat/1.png", 99)
    assert(os.execute("touch -d '2001-01-01' '" .. path "tree/cat/1.png" .. "'"))
    assert.is_false(read())
    assert.truthy(content(data.folder { path = path "tree" }):find("99:1", 1, true))
    pipe = assert(io.popen("ls '" .. path "cache" .. "' | wc -l"))
    assert.equal(1, pipe:read "n")
    pipe:close()
  end)

  it("works where nothing can be written", function()
    write_tree "tree"
    write("blocked", "a file where the cache folder would be")
    local images = files.read_folder(path "tree", { path "blocked/x", path "blocked" }, "t")
    assert.equal(6, images:size(1))
  end)

  it("takes folders for training and test, or holds out a fifth", function()
    write_tree "two/train"
    write_tree "two/val"
    image("two/val/cat/1.png", 77)
    assert.equal(ALL, content(data.folder { path = path "two", split = "train" }))
    assert.truthy(content(data.folder { path = path "two", split = "test" }):find("77:1", 1, true))
    make "two/val/emu"
    image("two/val/emu/1.png", 1)
    fails_with({ "emu", "two/train" }, data.folder, { path = path "two", split = "test" })

    write_tree "one"
    local train = data.folder { path = path "one", split = "train" }
    local test = data.folder { path = path "one", split = "test" }
    assert.equal(5, #train)
    assert.equal(1, #test)
    local both = {}
    for pair in (content(train) .. " " .. content(test)):gmatch "%S+" do both[#both + 1] = pair end
    table.sort(both)
    assert.equal(ALL, table.concat(both, " "))
  end)

  it("reads JPEG too, and calls CIFAR-10 in that form by its name", function()
    make "tree/x"
    scratch.base64("tree/x/a.JPG", JPEG)
    local set = data.folder { path = path "tree" }
    for channel, value in ipairs { 200, 100, 50 } do
      assert.near(value, set.images[1][channel][4][4]:item(), 3)
    end
    for _, name in ipairs(NAMES) do
      make("cifar10/train/" .. name)
      image("cifar10/train/" .. name .. "/1.png", 1, 32, 32)
    end
    assert.equal("CIFAR-10", data.cifar10 { dir = folder }.name)
    os.execute(("mv '%s' '%s'"):format(path "cifar10/train/cat/1.png", path "cifar10/train/cat/1.jpeg"))
    assert.equal("CIFAR-10 (JPEG)", data.cifar10 { dir = folder }.name)
  end)

  it("refuses a JPEG whose Huffman tables have more codes than there can be", function()
    make "tree/x"
    scratch.base64("tree/x/a.jpg", JPEG)
    local text = scratch.read "tree/x/a.jpg"
    local table_at = text:find("\xff\xc4", 1, true) + 5
    write("tree/x/a.jpg", text:sub(1, table_at - 1) .. ("\xff"):rep(16) .. text:sub(table_at + 16))
    fails_with({ path "tree/x/a.jpg", "Huffman" }, data.folder, { path = path "tree" })
  end)

  it("makes grey images colour where there are colour ones, and keeps grey sets grey", function()
    make "tree/a"
    image("tree/a/1.png", 7, 2, 2, 1)
    image("tree/a/2.png", 8, 2, 2, 1)
    assert.same({ 2, 1, 2, 2 }, data.folder { path = path "tree" }.images.shape)
    image("tree/a/3.png", 9, 2, 2, 3)
    local set = data.folder { path = path "tree" }
    assert.same({ 3, 3, 2, 2 }, set.images.shape)
    assert.equal("7:1 8:1 9:1", content(set))
  end)

  it("names the file whose size differs, and both sizes", function()
    write_tree "tree"
    image("tree/dog/2.png", 1, 6, 5)
    fails_with({ path "tree/dog/2.png", "5×6", "5×4", "tree/cat/1.png" }, data.folder, { path = path "tree" })
  end)

  it("names a damaged image: the first of several, whatever the number of threads", function()
    write_tree "tree"
    write("tree/dog/3.png", "nonsense")
    write("tree/cat/2.png", "nonsense")
    write("tree/cat/3.png", "")
    local threads = gls.threads()
    for count = 1, 3 do
      gls.threads(count)
      fails_with({ path "tree/cat/2.png", "not a PNG or JPEG" }, data.folder, { path = path "tree" })
    end
    gls.threads(threads)
  end)

  it("refuses a folder without classes, a class without images, and no folder", function()
    make "empty"
    fails_with({ path "empty", "no class folders" }, data.folder, { path = path "empty" })
    make "empty/cat"
    fails_with({ path "empty/cat", "no PNG or JPEG" }, data.folder, { path = path "empty" })
    fails_with(path "absent", data.folder, { path = path "absent" })
    fails_with("path", data.folder, {})
  end)
end)

-- ---- names ----

local function big(n) return string.pack(">I4", n) end

local function write_fashion(count, split)
  make "fashion-mnist"
  local pixels, labels = {}, {}
  for i = 1, count do
    pixels[i] = string.char(i % 256):rep(784)
    labels[i] = string.char(i % 10)
  end
  local prefix = "fashion-mnist/" .. (split == "test" and "t10k" or "train")
  write(prefix .. "-images-idx3-ubyte", "\0\0\8\3" .. big(count) .. big(28) .. big(28) .. table.concat(pixels))
  write(prefix .. "-labels-idx1-ubyte", "\0\0\8\1" .. big(count) .. table.concat(labels))
end

describe("data.fashion_mnist", function()
  it("reads IDX files of the data directory", function()
    write_fashion(12, "train")
    local set = data.fashion_mnist { dir = folder }
    assert.same({ 12, 1, 28, 28 }, set.images.shape)
    assert.same({ 2, 3, 4, 5, 6, 7, 8, 9, 10, 1, 2, 3 }, set.labels:tolist())
    assert.equal(10, #set.classes)
    assert.near(6.5 / 255, set.mean[1], 1e-12)
  end)

  it("notices images and labels that do not belong together", function()
    write_fashion(12, "train")
    write("fashion-mnist/train-labels-idx1-ubyte", "\0\0\8\1" .. big(2) .. "\0\1")
    fails_with({ "2 labels", "12 images" }, data.fashion_mnist, { dir = folder })
    os.remove(path "fashion-mnist/train-labels-idx1-ubyte")
    fails_with("not both", data.fashion_mnist, { dir = folder })
    write("fashion-mnist/train-labels-idx1-ubyte", "\0\0\8\1" .. big(0))
    write("fashion-mnist/train-images-idx3-ubyte", "\0\0\8\3" .. big(0) .. big(28) .. big(28))
    fails_with("empty", data.fashion_mnist, { dir = folder })
  end)
end)

describe("data.open", function()
  it("takes CIFAR-10 where it is, else Fashion-MNIST, and says which and how to get the other", function()
    write_fashion(3, "train")
    local set = data.open("auto", { dir = folder })
    assert.equal("Fashion-MNIST", set.name)
    assert.truthy(set.note:find("cifar-10-binary.tar.gz", 1, true))
    assert.truthy(set.note:find(path "fashion-mnist", 1, true))
    write_cifar(1)
    set = data.open("auto", { dir = folder })
    assert.equal("CIFAR-10", set.name)
    assert.truthy(set.note:find("fashion-mnist", 1, true))
    assert.equal("Fashion-MNIST", data.open("fashion-mnist", { dir = folder }).name)
  end)

  it("takes folder:PATH", function()
    write_tree "tree"
    assert.equal(4, #data.open("folder:" .. path "tree", { samples = 4 }))
  end)

  it("takes the context of a text alone", function()
    write("few.txt", ("a few letters "):rep(20))
    assert.equal(5, data.open("text:" .. path "few.txt", { context = 5 }).context)
    fails_with("context is of texts, not of cifar10", data.open, "cifar10", { dir = folder, context = 5 })
  end)

  it("suggests the nearest name, and says where it looked", function()
    fails_with('did you mean "cifar10"?', data.open, "cifar-10", { dir = folder })
    fails_with('did you mean "fashion-mnist"?', data.open, "fashion_mnist", { dir = folder })
    fails_with({ folder, "cifar-10-binary.tar.gz" }, data.open, "cifar10", { dir = folder })
    fails_with(path "absent", data.open, "cifar10", { dir = path "absent" })
    fails_with('split is "tain"', data.open, "cifar10", { dir = folder, split = "tain" })
    fails_with('did you mean "samples"?', data.open, "cifar10", { sample = 3 })
  end)
end)

-- ---- sets ----

describe("data.tensors", function()
  it("makes a set of one's own tensors", function()
    local set = data.tensors { x = gls.ones(4, 2), y = gls.tensor({ 1, 2, 2, 1 }, { type = "int32" }), classes = 2 }
    assert.equal(4, #set)
    assert.same({ "1", "2" }, set.classes)
    local images = data.tensors { x = gls.full({ 3, 2, 2 }, 51, { type = "uint8" }) }
    assert.same({ 3, 1, 2, 2 }, images.images.shape)
    assert.near(0.2, images.mean[1], 1e-12)
  end)

  it("names the row that is not a number, infinite, or out of range", function()
    fails_with("x: row 2 holds", data.tensors, { x = gls.tensor { { 1, 2 }, { 3, 0 / 0 } } })
    fails_with("y: row 1 holds inf", data.tensors, { x = gls.ones(1), y = gls.tensor { math.huge } })
    assert.equal(1, #data.tensors { x = gls.tensor { { 0 / 0 } }, allow_nan = true })
    local y = gls.tensor({ 1, 3, 0 }, { type = "int32" })
    fails_with("y: row 2 has label 3, expected 1 to 2", data.tensors, { x = gls.ones(3), y = y, classes = 2 })
    fails_with("x has 2 rows, y has 3", data.tensors, { x = gls.ones(2), y = y })
    fails_with("empty", data.tensors, { x = gls.zeros(0, 3) })
    fails_with("x", data.tensors, { x = 5 })
    fails_with('did you mean "allow_nan"?', data.tensors, { x = gls.ones(1), allownan = true })
  end)
end)

describe("parts of sets", function()
  it("data.split holds out rows that the rest has not; both parts have the rest's mean", function()
    local set = data.tensors { x = gls.arange(10), y = gls.arange(10) }
    local train, held = data.split(set, 0.3, 7)
    assert.equal(7, #train)
    assert.equal(3, #held)
    local seen = {}
    for _, value in ipairs(train.x:tolist()) do seen[value] = true end
    for _, value in ipairs(held.x:tolist()) do seen[value] = true end
    for value = 0, 9 do assert.is_true(seen[value]) end
    assert.same(held.x:tolist(), held.y:tolist())
    assert.same(held.x:tolist(), select(2, data.split(set, 3, 7)).x:tolist())
    assert.not_same(held.x:tolist(), select(2, data.split(set, 3, 8)).x:tolist())
    for _, share in ipairs { 0, 10, 1.5, -1, 0.001 } do fails_with("held out", data.split, set, share) end

    local bytes = gls.arange(10):view(10, 1, 1, 1):to "uint8"
    local images, others = data.split(data.tensors { x = bytes }, 0.5)
    assert.same(images.mean, others.mean)
    assert.near(images.images:float():mean():item() / 255, images.mean[1], 1e-7)
  end)

  it("set:narrow and set:take keep the mean; rows outside are errors", function()
    local set = data.tensors { x = gls.arange(6):view(6, 1, 1, 1):to "uint8" }
    assert.equal(set.mean, set:narrow(2, 3).mean)
    assert.same({ 1, 2, 3 }, set:narrow(2, 3).images:view(3):tolist())
    assert.same({ 5, 0 }, set:take { 6, 1 }.images:view(2):tolist())
    fails_with("row 7 of 6", set.take, set, { 7 })
    fails_with("row 0 of 6", set.take, set, { 0 })
    for _, range in ipairs { { 0, 1 }, { 6, 2 }, { 1, 0 }, { 1.5, 1 } } do
      fails_with("rows 1 to 6", set.narrow, set, range[1], range[2])
    end
  end)
end)

-- ---- loaders ----

describe("data.loader", function()
  -- Rows hold their own number: x = (i, i + 0.5), y = i.
  local function numbered(count)
    local y = gls.arange(1, count + 1)
    return data.tensors { x = gls.stack({ y, y + 0.5 }, 2), y = y:to "int32" }
  end

  local function rows_of(loader)
    local rows, sizes = {}, {}
    for batch in loader do
      sizes[#sizes + 1] = batch.x:size(1)
      assert.equal(#sizes, batch.number)
      local x, y, index = batch.x:tolist(), batch.y:tolist(), batch.index:tolist()
      for i = 1, #y do
        assert.same({ y[i], y[i] + 0.5 }, x[i])
        assert.equal(y[i], index[i])
        rows[#rows + 1] = index[i]
      end
    end
    return rows, sizes
  end

  it("goes through every row once, in order, the last batch smaller or dropped", function()
    local loader = data.loader(numbered(7), { batch = 3 })
    assert.equal(3, #loader)
    assert.equal(3, loader.batches)
    local rows, sizes = rows_of(loader)
    assert.same({ 1, 2, 3, 4, 5, 6, 7 }, rows)
    assert.same({ 3, 3, 1 }, sizes)
    local short = data.loader(numbered(7), { batch = 3, drop_last = true })
    rows, sizes = rows_of(short)
    assert.same({ 1, 2, 3, 4, 5, 6 }, rows)
    assert.same({ 3, 3 }, sizes)
    assert.equal(2, #short)
  end)

  it("shuffles: every row once, a new order in every epoch, the same for the same seed and epoch", function()
    local function order(seed, epochs, threads)
      gls.threads(threads or 1)
      local loader = data.loader(numbered(100), { batch = 9, shuffle = true, seed = seed })
      local result
      for _ = 1, epochs do result = rows_of(loader) end
      return result
    end
    local threads = gls.threads()
    local first, second = order(5, 1), order(5, 2)
    local sorted = { table.unpack(first) }
    table.sort(sorted)
    for i = 1, 100 do assert.equal(i, sorted[i]) end
    assert.not_same(first, second)
    assert.same(second, order(5, 2, 3))
    assert.not_same(first, order(6, 1))
    local resumed = data.loader(numbered(100), { batch = 9, shuffle = true, seed = 5 })
    resumed.epochs = 1
    assert.same(second, (rows_of(resumed)))
    gls.threads(threads)
  end)

  it("takes its seed from gls.seed", function()
    local function order()
      return (rows_of((data.loader(numbered(50), { shuffle = true }))))
    end
    gls.seed(1)
    local a, b = order(), order()
    gls.seed(1)
    assert.same(a, order())
    assert.not_same(a, b)
  end)

  -- Large enough that a thread makes the batches.
  local function pictures(count)
    local rows = gls.arange(count):view(count, 1, 1, 1)
    return { images = (rows + gls.zeros(count, 3, 32, 32)):to "uint8", labels = gls.arange(1, count + 1):to "int32" }
  end

  it("gives the same batches with and without a thread of its own", function()
    local set = pictures(400)
    local one = data.loader(set, { batch = 25, shuffle = true, seed = 3, flip = true, crop = 2 })
    local two = data.loader(set, { batch = 25, shuffle = true, seed = 3, flip = true, crop = 2, prefetch = false })
    for _ = 1, 2 do
      local x = {}
      for batch in one do x[batch.number] = batch end
      local count = 0
      for batch in two do
        count = count + 1
        assert.same(x[batch.number].index:tolist(), batch.index:tolist())
        assert.equal(0, (x[batch.number].x - batch.x):abs():max():item())
      end
      assert.equal(16, count)
    end
  end)

  it("leaves no batches behind that the script has dropped", function()
    local loader = data.loader(pictures(4000), { batch = 250, shuffle = true })
    gls.core.collect()
    local before, batch_bytes = gls.memory().live, 250 * 3072 * 4
    gls.reset_peak()
    for batch in loader do assert(batch.x) end
    assert.is_true(gls.memory().peak - before < 9 * batch_bytes, "of 16 batches all but a few should have gone")
  end)

  it("takes bytes to [0, 1], subtracts the mean of each channel, divides by scale", function()
    local images = gls.tensor({ { { { 0, 51 } }, { { 255, 102 } } } }, { type = "uint8" }) -- 1×2×1×2
    local function x(given)
      return (data.loader({ images = images }, given))().x
    end
    local function near(expected, given)
      local values = x(given):view(-1):tolist()
      for i = 1, 4 do assert.near(expected[i], values[i], 1e-6) end
    end
    near({ 0, 0.2, 1, 0.4 }, { center = false })
    near({ -0.1, 0.1, 0.3, -0.3 }, {})
    near({ -0.2, 0.2, 0.6, -0.6 }, { scale = 0.5 })
    near({ -0.5, -0.3, 0.75, 0.15 }, { mean = { 0.5, 0.25 } })
    near({ -0.5, -0.3, 0.5, -0.1 }, { mean = 0.5 })
    near({ -0.1, 0.1, 0.9, 0.3 }, { mean = { images = images, mean = { 0.1, 0.1 } } })
    assert.same({ 1, 2, 1, 2 }, x({}).shape)
    assert.same({ 1, 4 }, x({ flatten = true }).shape)
    for batch in data.loader({ images = images }, {}) do assert.is_nil(batch.y) end
  end)

  it("centres real columns when a mean is given", function()
    local set = data.tensors { x = gls.tensor { { 1, 10 }, { 3, 30 } } }
    for batch in data.loader(set, { mean = { 2, 20 }, scale = 2 }) do
      assert.same({ { -0.5, -5 }, { 0.5, 5 } }, batch.x:tolist())
    end
    fails_with("the set has no mean", data.loader, set, { center = true })
    fails_with("mean has 3 values", data.loader, set, { mean = { 1, 2, 3 } })
  end)

  it("moves and mirrors whole images", function()
    -- One bright pixel: wherever it goes, it stays one pixel, at most crop away or out of the picture.
    local images = gls.zeros(200, 1, 5, 5, { type = "uint8" })
    for i = 1, 200 do images[i][1][3][2] = 255 end
    local places = {}
    for batch in data.loader({ images = images }, { batch = 200, center = false, crop = 1, flip = true, seed = 1 }) do
      for i = 1, 200 do
        local picture = batch.x[i][1]
        assert.equal(1, picture:sum():item())
        local at = picture:view(25):argmax():item() - 1
        places[("%d %d"):format(at // 5 + 1, at % 5 + 1)] = true
      end
    end
    -- Rows 2 to 4; columns 1 to 3, mirrored 3 to 5.
    local count = 0
    for place in pairs(places) do
      count = count + 1
      assert.truthy(place:find "^[234] [12345]$", place)
    end
    assert.equal(15, count)
    -- What comes in from outside is black, before the mean is subtracted.
    local white = gls.full({ 50, 1, 4, 4 }, 255, { type = "uint8" })
    for batch in data.loader({ images = white }, { batch = 50, crop = 1, mean = 0.25, seed = 1 }) do
      assert.equal(-0.25, batch.x:min():item())
      assert.equal(0.75, batch.x:max():item())
    end
  end)

  it("can be left at any time, and begun anew", function()
    local set = pictures(200)
    local loader = data.loader(set, { batch = 25, shuffle = true })
    for stop = 1, 20 do
      local count = 0
      for _ in loader do
        count = count + 1
        if count == stop % 9 then break end
      end
      assert.equal(stop % 9 == 0 and 8 or stop % 9, count)
    end
    for _ in data.loader(set, { batch = 25 }) do break end -- luacheck: ignore 512
    assert.has_error(function()
      for _ in data.loader(set, { batch = 25 }) do error "in the loop" end
    end, "in the loop")
    do
      local left = coroutine.wrap(function()
        for _ in data.loader(set, { batch = 25 }) do coroutine.yield() end
      end)
      left()
    end
    collectgarbage()
    collectgarbage()
    do
      local scoped <close> = data.loader(set, { batch = 25 })
      scoped()
    end
  end)

  it("keeps no memory", function()
    local set = pictures(200)
    gls.collect()
    local before = gls.memory().live
    for _ = 1, 3 do
      local loader = data.loader(set, { batch = 25, shuffle = true })
      for batch in loader do if batch.number == 2 then break end end
      for batch in data.loader(set, { batch = 25, shuffle = true }) do if batch.number == 3 then break end end
      for _ in loader do end
    end
    gls.collect()
    assert.equal(before, gls.memory().live)
  end)

  it("tells two loops over one loader apart, and lets loader:epoch() have several", function()
    local loader = data.loader(numbered(6), { batch = 2 })
    fails_with("loader:epoch()", function()
      for _ in loader do
        for _ in loader do break end -- luacheck: ignore 512
      end
    end)
    local count = 0
    for _ in loader:epoch() do
      for _ in loader:epoch() do count = count + 1 end
    end
    assert.equal(9, count)
  end)

  it("refuses what makes no batch, and names what was wrong", function()
    local set = numbered(5)
    fails_with('unknown option "bacth"; did you mean "batch"?', data.loader, set, { bacth = 3 })
    for _, batch in ipairs { 0, -1, 1.5 } do fails_with("batch", data.loader, set, { batch = batch }) end
    fails_with("option batch: expected number, got string", data.loader, set, { batch = "3" })
    fails_with("drop_last", data.loader, set, { batch = 6, drop_last = true })
    fails_with("scale", data.loader, set, { scale = 0 })
    fails_with("scale", data.loader, set, { scale = 0 / 0 })
    fails_with("scale is 1e-50, too small", data.loader, set, { scale = 1e-50 })
    fails_with("scale is 1e+300, too large", data.loader, set, { scale = 1e300 })
    for _, mean in ipairs { 0 / 0, math.huge } do
      fails_with("not a finite number", data.loader, set, { mean = { mean } })
    end
    fails_with("crop", data.loader, set, { crop = 1 })
    fails_with("flip", data.loader, set, { flip = true })
    fails_with("crop", data.loader, pictures(2), { crop = 32 })
    fails_with("differ in rows", data.loader, { x = gls.ones(3), y = gls.ones(4) })
    fails_with("empty", data.loader, { x = gls.zeros(0, 4) })
    fails_with("a set expected", data.loader, 5)
    fails_with("a set expected", data.loader, {})
  end)
end)
