-- Tables: sets from CSV files, and MNIST's files.
local gls = require "gls"
local says = require("tests.lua.failing").says
local scratch = require "tests.lua.scratch"
local data, path, write = gls.data, scratch.path, scratch.write

scratch.each(before_each, after_each)

local function fails(text, given) says(text, data.csv, given) end

local FLOWERS = "length,width,kind\n5.125,3.5,setosa\n6,2.25e0,\"virginica, old\"\r\n-1,.5,setosa\n"

describe("data.csv", function()
  it("reads numbers by the names of the first line; texts to predict become labels, sorted", function()
    local set = data.csv { path = write("flowers.csv", FLOWERS), target = "kind" }
    assert.same({ { 5.125, 3.5 }, { 6, 2.25 }, { -1, 0.5 } }, set.x:tolist())
    assert.equal("int32", set.y.type)
    assert.same({ 1, 2, 1 }, set.y:tolist())
    assert.same({ "setosa", "virginica, old" }, set.classes)
    assert.same({ "length", "width" }, set.columns)
    assert.equal("flowers.csv", set.name)
    local batches = data.loader(set, { batch = 2 })
    assert.equal(2, #batches)
  end)

  it("has numbers to predict as a column, or as labels when asked", function()
    local file = write("a.csv", "1;10;3\n2;20;1\n3;30;3\n")
    local set = data.csv { path = file, separator = ";", target = 2 }
    assert.same({ { 1, 3 }, { 2, 1 }, { 3, 3 } }, set.x:tolist())
    assert.same({ { 10 }, { 20 }, { 30 } }, set.y:tolist())
    set = data.csv { path = file, separator = ";", target = 2, classes = true, columns = { 3 } }
    assert.same({ { 3 }, { 1 }, { 3 } }, set.x:tolist())
    assert.same({ 1, 2, 3 }, set.y:tolist())
    assert.same({ "10", "20", "30" }, set.classes)
    assert.same({ 3, 1, 3 }, data.csv { path = file, separator = ";", target = 3, classes = 3 }.y:tolist())
    assert.is_nil(data.csv { path = file, separator = ";" }.y)
    assert.equal(2, #data.csv { path = file, separator = ";", header = true })
  end)

  it("takes quotes as RFC 4180 has them", function()
    local set = data.csv { path = write("q.csv", '"a ""b""",c\n"1",x\n2,"y\nz"\n'), target = "c" }
    assert.same({ 'a "b"' }, set.columns)
    assert.same({ "x", "y\nz" }, set.classes)
  end)

  it("names file, line and column of what is wrong", function()
    fails("a.csv: line 3: column w is \"x\", expected a number", { path = write("a.csv", "v,w\n1,2\n3,x\n") })
    fails("b.csv: line 2: column w is empty, expected a number (missing =", { path = write("b.csv", "v,w\n1,\n") })
    assert.same({ { 1, -1 } }, data.csv { path = path "b.csv", missing = -1 }.x:tolist())
    fails("c.csv: line 3: 1 fields, expected 2", { path = write("c.csv", "v,w\n1,2\n3\n") })
    fails('no column lenght; did you mean "length"', { path = write("d.csv", FLOWERS), target = "lenght" })
    fails("two columns are named \"v\"", { path = write("e.csv", "v,v\n1,2\n") })
    fails("f.csv: no rows", { path = write("f.csv", "v,w\n") })
    fails("g.csv: the file is empty", { path = write("g.csv", "") })
    fails("h.csv: line 2: a quote without an end", { path = write("h.csv", 'v,w\n1,"2\n') })
    fails("i.csv: line 2: more after a quoted field", { path = write("i.csv", 'v,w\n1,"2"3\n') })
    fails("j.csv: line 2: column w is \"0x10\"", { path = write("j.csv", "v,w\n1,0x10\n") })
    fails("absent.csv", { path = path "absent.csv" })
    for _, number in ipairs { "1e39", "-3.40282357e38", "1e400" } do -- float32's greatest is 3.40282347e38
      fails("k.csv: line 2: column w is " .. number .. ", more than float32 holds", {
        path = write("k.csv", "v,w\n1," .. number .. "\n") })
    end
    local most = data.csv { path = write("l.csv", "v,w\n3.4028235e38,-3.4028235e38\n") }.x
    assert.same({ 0x1.fffffep127, -0x1.fffffep127 }, most[1]:tolist())
  end)
end)

describe("data.mnist", function()
  it("reads the four IDX files of its folder, digits being classes 1 to 10", function()
    assert(os.execute("mkdir '" .. path "mnist" .. "'"))
    local function idx(code, sizes, elements)
      local text = "\0\0" .. string.char(code, #sizes)
      for _, size in ipairs(sizes) do text = text .. string.pack(">I4", size) end
      return text .. elements
    end
    for prefix, value in pairs { train = 3, t10k = 5 } do
      write("mnist/" .. prefix .. "-images-idx3-ubyte", idx(8, { 2, 2, 2 }, string.char(value):rep(8)))
      write("mnist/" .. prefix .. "-labels-idx1-ubyte", idx(8, { 2 }, "\0\9"))
    end
    local set = data.open("mnist", { dir = scratch.folder() })
    assert.equal("MNIST", set.name)
    assert.same({ 2, 1, 2, 2 }, set.images.shape)
    assert.same({ 1, 10 }, set.labels:tolist())
    assert.equal("9", set.classes[10])
    local test = data.mnist { dir = scratch.folder(), split = "test" }
    assert.equal(5, test.images[1][1][1][1]:item())
    assert.near(3 / 255, test.mean[1], 1e-12)
    os.remove(path "mnist/train-labels-idx1-ubyte")
    assert.has_error(function() data.mnist { dir = scratch.folder() } end)
  end)
end)
