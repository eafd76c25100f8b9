-- Files: arrays and images, well formed, cut short at every length, and lying about their size.
local gls = require "gls"
local scratch = require "tests.lua.scratch"
local files = gls.core.io
local path, write, read, base64, failure =
  scratch.path, scratch.write, scratch.read, scratch.base64, scratch.failure
local refuses_prefixes, names, python_with, run_python =
  scratch.refuses_prefixes, scratch.names, scratch.python_with, scratch.run_python

scratch.each(before_each, after_each)

describe("paths", function()
  it("that are links stay links: what they lead to is replaced", function()
    gls.save(path "there", { 1 })
    assert(os.execute("ln -s there '" .. path "link" .. "'"))
    gls.save(path "link", { 2 })
    assert.same({ 2 }, gls.load(path "there"))
    assert.truthy(os.execute("test -L '" .. path "link" .. "'"))
    assert(os.execute("ln -s nowhere/at/all '" .. path "loose" .. "'"))
    failure(function(file) gls.save(file, { 1 }) end, path "loose")
  end)

  it("keep the permissions of the file that is replaced", function()
    gls.save_npy(path "a", gls.zeros(1))
    assert(os.execute("chmod 640 '" .. path "a" .. "'"))
    gls.save_npy(path "a", gls.ones(1))
    assert.truthy(os.execute("test $(stat -c %a '" .. path "a" .. "') = 640"))
  end)

  it("lose the parts that a killed writer left, and no others", function()
    write("a.123.0.part", "half")
    write("a.part", "other")
    write("ab.123.0.part", "of another file")
    gls.save_npy(path "a", gls.zeros(1))
    assert.equal("a\na.part\nab.123.0.part\n", names())
  end)

  it("with a zero byte are refused", function()
    for _, f in ipairs { gls.load, gls.load_npy, gls.load_image, function(p) gls.save(p, { 1 }) end } do
      local good, message = pcall(f, path "a\0b")
      assert.is_false(good)
      assert.truthy(message:find("zero byte", 1, true), message)
    end
  end)
end)

-- ---- npy ----

-- Written by NumPy 2.4.6 (numpy.save).
local function numpy(descr, fortran, shape, elements)
  local header = ("{'descr': '%s', 'fortran_order': %s, 'shape': %s, }"):format(descr, fortran, shape)
  return "\x93NUMPY\1\0\x76\0" .. header .. (" "):rep(117 - #header) .. "\n" .. elements
end
local FLOATS = numpy("<f4", "False", "(2, 3)",
  "\0\0\xc0\x3f\0\0\0\xc0\0\0\x40\x40\0\0\x80\x40\0\0\xa0\x40\0\0\xc8\x40")

describe("gls.load_npy", function()
  it("reads what NumPy writes, in either byte and index order", function()
    local x = gls.load_npy(write("a.npy", FLOATS))
    assert.equal("float32", x.type)
    assert.same({ { 1.5, -2, 3 }, { 4, 5, 6.25 } }, x:tolist())

    local columns = numpy("<i8", "True", "(2, 3)", string.pack("<i8i8i8i8i8i8", 1, 4, 2, 5, 3, 6))
    x = gls.load_npy(write("b.npy", columns))
    assert.equal("int32", x.type)
    assert.same({ { 1, 2, 3 }, { 4, 5, 6 } }, x:tolist())

    x = gls.load_npy(write("c.npy", numpy(">f8", "False", "(2,)", "\x3f\xf0\0\0\0\0\0\0\xbf\xe0\0\0\0\0\0\0")))
    assert.same({ 1, -0.5 }, x:tolist())
    x = gls.load_npy(write("d.npy", numpy("|b1", "False", "(2,)", "\1\0")))
    assert.equal("uint8", x.type)
    assert.same({ 1, 0 }, x:tolist())
    x = gls.load_npy(write("e.npy", numpy("<i4", "False", "()", "\7\0\0\0")))
    assert.equal(0, x:dim())
    assert.equal(7, x:item())
  end)

  it("refuses what is cut short, goes on too long, or is something else", function()
    refuses_prefixes(gls.load_npy, FLOATS, "a.npy")
    local large = write("large.npy", numpy("<f8", "False", "(2,)", string.pack("<d", 1) .. string.pack("<d", -1e39)))
    assert.truthy(failure(gls.load_npy, large):find("large.npy: element 2 is -1e+39", 1, true))
    local infinite = gls.load_npy(write("infinite.npy", numpy("<f8", "False", "(1,)", string.pack("<d", 1 / 0))))
    assert.equal(1 / 0, infinite:item())
    assert.truthy(failure(gls.load_npy, write("long.npy", FLOATS .. "\0")):find("25 follow", 1, true))
    assert.truthy(failure(gls.load_npy, write("png.npy", "\x89PNG\r\n\x1a\n" .. ("x"):rep(100))):find "not an npy file")
    assert.truthy(failure(gls.load_npy, write("v9.npy", "\x93NUMPY\9\0" .. FLOATS:sub(9))):find "version 9")
    failure(gls.load_npy, path "absent.npy")
    assert.truthy(failure(gls.load_npy, scratch.folder()):find "is a folder")
  end)

  it("refuses sizes that are too large, negative or too many, before asking for memory", function()
    for _, shape in ipairs { "(4294967296, 4294967296)", "(1000000000000,)", "(99999999999999999999,)", "(-1,)",
      "(1,1,1,1,1,1,1,1,1)", "(2, 3", "2", "" } do
      failure(gls.load_npy, write("a.npy", numpy("<f4", "False", shape, ("\0"):rep(24))))
    end
  end)

  it("reads every width of integers and reals", function()
    for descr, case in pairs {
      ["<f2"] = { "\x55\x35\xff\xfb", 0.333251953125, -65504 },
      [">f2"] = { "\x35\x55\xfb\xff", 0.333251953125, -65504 },
      ["|i1"] = { "\x80\x7f", -128, 127 }, ["<i2"] = { "\0\x80\xff\x7f", -32768, 32767 },
      ["<u2"] = { "\xff\xff\1\0", 65535, 1 }, [">u4"] = { "\x7f\xff\xff\xff\0\0\0\1", 2147483647, 1 },
      ["<u8"] = { "\2\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0", 2, 1 },
    } do
      local x = gls.load_npy(write("a.npy", numpy(descr, "False", "(2,)", case[1])))
      assert.equal(descr:find "f" and "float32" or "int32", x.type)
      assert.same({ case[2], case[3] }, x:tolist())
    end
    local message = failure(gls.load_npy, write("b.npy", numpy("<u4", "False", "(1,)", "\0\0\0\x80")))
    assert.truthy(message:find("element 1 is 2147483648", 1, true), message)
  end)

  it("names element types it does not know, and integers that do not fit", function()
    for descr, name in pairs {
      ["<c8"] = "complex numbers", ["<U3"] = "texts", ["|S2"] = "texts", ["|O"] = "Python objects",
      ["<M8[s]"] = "times",
    } do
      local message = failure(gls.load_npy, write("a.npy", numpy(descr, "False", "(1,)", ("\0"):rep(8))))
      assert.truthy(message:find(("%s of type '%s'; expected f2,"):format(name, descr), 1, true), message)
    end
    local records = "\x93NUMPY\1\0\x76\0"
      .. "{'descr': [('a', '<f4'), ('b', '<i4')], 'fortran_order': False, 'shape': (1,), }"
    assert.truthy(failure(gls.load_npy, write("s.npy", records .. (" "):rep(128 - #records) .. ("\0"):rep(8)))
      :find("an array of records", 1, true))
    local message = failure(gls.load_npy,
      write("b.npy", numpy("<i8", "False", "(2,)", string.pack("<i8i8", 1, 1 << 40))))
    assert.truthy(message:find("element 2 is 1099511627776", 1, true))
  end)
end)

describe("gls.save_npy", function()
  it("writes NumPy's own bytes", function()
    gls.save_npy(path "a.npy", gls.tensor { { 1.5, -2, 3 }, { 4, 5, 6.25 } })
    assert.equal(FLOATS, read "a.npy")
  end)

  it("brings back every type, views and empty tensors", function()
    local whole = gls.arange(24):view(2, 3, 4)
    for _, x in ipairs { whole, whole:transpose(1, 3), whole:narrow(2, 2, 2), gls.tensor({ 1, -2 }, { type = "int32" }),
      gls.tensor({ 0, 255 }, { type = "uint8" }), gls.zeros(0, 5), gls.tensor(3) } do
      gls.save_npy(path "x.npy", x)
      local back = gls.load_npy(path "x.npy")
      assert.equal(x.type, back.type)
      assert.same(x.shape, back.shape)
      assert.same(x:tolist(), back:tolist())
    end
  end)

  it("leaves the old file, and nothing else, when it fails", function()
    gls.save_npy(path "a.npy", gls.zeros(2))
    failure(gls.save_npy, path "no/such/folder.npy", gls.zeros(2))
    failure(gls.save_npy, scratch.folder(), gls.zeros(2))
    failure(gls.save_npy, "/dev/null", gls.zeros(2))
    assert.equal("a.npy\n", names())
    assert.equal("other", files.kind "/dev/null")
  end)
end)

-- ---- npz ----

-- numpy.savez_compressed of NumPy 2.4: x = arange(4, int16), y = [[1, 2], [3, 4.5]] in column order.
local NPZ = [[
UEsDBC0AAAAIAAAAIQDSEDZm//////////8FABQAeC5ucHkBABAAiAAAAAAAAABMAAAAAAAAAJvsF+obEMnIUMZQrZ6SWpxcpG6loG6TaaSuo6Cell9U
UpSYF59flJIKEndLzClOBYoXZyQWpAL5GiY6mjoKtQoUAC4GBkYGJgZmBgBQSwMELQAAAAgAAAAhABlyrDz//////////wUAFAB5Lm5weQEAEACgAAAA
AAAAAFQAAAAAAAAAm+wX6hsQychQxlCtnpJanFykbqWgbpNmoa6joJ6WX1RSlJgXn1+UkgoSDykqTQUKF2ckFqQCuRpGOgpGmjoKtQrkAy4GMPhgD6E5
HCA0A5QWcgAAUEsBAi0DLQAAAAgAAAAhANIQNmZMAAAAiAAAAAUAAAAAAAAAAAAAAIABAAAAAHgubnB5UEsBAi0DLQAAAAgAAAAhABlyrDxUAAAAoAAA
AAUAAAAAAAAAAAAAAIABgwAAAHkubnB5UEsFBgAAAAACAAIAZgAAAA4BAAAAAA==
]]

describe("gls.load_npz and gls.save_npz", function()
  it("read what NumPy writes", function()
    local arrays = gls.load_npz(base64("a.npz", NPZ))
    assert.equal("int32", arrays.x.type)
    assert.same({ 0, 1, 2, 3 }, arrays.x:tolist())
    assert.same({ { 1, 2 }, { 3, 4.5 } }, arrays.y:tolist())
  end)

  it("bring back arrays by name, stored and deflated", function()
    local large = gls.arange(30000):view(100, 300)
    for _, deflated in ipairs { false, true } do
      gls.save_npz(path "a.npz", {
        large = large, turned = large:t(), ["é/x"] = gls.tensor({ 1 }, { type = "int32" }), empty = gls.zeros(0, 2),
      }, { deflated = deflated })
      local back = gls.load_npz(path "a.npz")
      assert.same(large:tolist(), back.large:tolist())
      assert.same(large:t():tolist(), back.turned:tolist())
      assert.same({ 1 }, back["é/x"]:tolist())
      assert.same({ 0, 2 }, back.empty.shape)
      assert.equal(deflated, #read "a.npz" < 200000)
    end
    gls.save_npz(path "none.npz", {})
    assert.same({}, gls.load_npz(path "none.npz"))
  end)

  it("refuse what is cut short, changed, or no archive of arrays", function()
    gls.save_npz(path "a.npz", { a = gls.ones(3), b = gls.zeros(2) })
    local text = read "a.npz"
    refuses_prefixes(gls.load_npz, text, "cut.npz")
    local at = text:find("NUMPY", 1, true) + 130
    local changed = text:sub(1, at - 1) .. string.char(text:byte(at) ~ 1) .. text:sub(at + 1)
    assert.truthy(failure(gls.load_npz, write("changed.npz", changed)):find("a.npy: damaged: its checksum", 1, true))
    local twice, other = text:gsub("b%.npy", "a.npy"), text:gsub("b%.npy", "b.txt")
    assert.truthy(failure(gls.load_npz, write("twice.npz", twice)):find("there twice", 1, true))
    assert.truthy(failure(gls.load_npz, write("other.npz", other)):find("no array", 1, true))
    failure(gls.load_npz, write("foreign.npz", ("PK"):rep(50)))
    assert.has_error(function() gls.save_npz(path "b.npz", { 1 }) end)
    assert.has_error(function() gls.save_npz(path "b.npz", { a = gls.ones(1) }, { compressed = true }) end)
  end)

  it("are read by NumPy", function()
    local python = python_with "numpy"
    if not python then pending "skipped: Python has no numpy (PYTHON names another)" return end
    gls.save_npz(path "a.npz", { w = gls.tensor { { 1.5, 2 } }, n = gls.tensor({ 3 }, { type = "uint8" }) })
    gls.save_npz(path "d.npz", { w = gls.tensor { { 1.5, 2 } } }, { deflated = true })
    assert.equal("[[1.5, 2.0]] float32 [3] uint8 [[1.5, 2.0]]\n", run_python(python, [[
import numpy
a, d = numpy.load("a.npz"), numpy.load("d.npz")
print(a["w"].tolist(), a["w"].dtype, a["n"].tolist(), a["n"].dtype, d["w"].tolist())
]]))
  end)
end)

-- ---- IDX ----

local function big(n) return string.pack(">I4", n) end

local function idx(code, sizes, elements)
  local text = "\0\0" .. string.char(code, #sizes)
  for _, size in ipairs(sizes) do text = text .. big(size) end
  return text .. elements
end

local function gzip(name)
  assert(os.execute("gzip -n '" .. path(name) .. "'"))
  return path(name .. ".gz")
end

describe("IDX files", function()
  local BYTES = idx(0x08, { 2, 3 }, "\0\1\2\3\4\255")

  it("are read plain and gzipped, in all element types", function()
    assert.same({ { 0, 1, 2 }, { 3, 4, 255 } }, files.read_idx(write("a", BYTES)):tolist())
    local x = files.read_idx(gzip "a")
    assert.equal("uint8", x.type)
    assert.same({ { 0, 1, 2 }, { 3, 4, 255 } }, x:tolist())
    assert.same({ -1, 2 }, files.read_idx(write("b", idx(0x09, { 2 }, "\xff\2"))):tolist())
    assert.same({ -2, 258 }, files.read_idx(write("c", idx(0x0B, { 2 }, "\xff\xfe\1\2"))):tolist())
    local wide = files.read_idx(write("d", idx(0x0C, { 2 }, string.pack(">i4i4", -1000000, 1))))
    assert.same({ -1000000, 1 }, wide:tolist())
    assert.same({ 1.5, -2 }, files.read_idx(write("e", idx(0x0D, { 2 }, string.pack(">ff", 1.5, -2)))):tolist())
    assert.truthy(failure(files.read_idx, write("g", idx(0x0E, { 2 }, string.pack(">dd", 1, 1e39))))
      :find("element 2 is 1e+39", 1, true))
    assert.same({ 1.5, -2 }, files.read_idx(write("f", idx(0x0E, { 2 }, string.pack(">dd", 1.5, -2)))):tolist())
  end)

  it("are refused when cut short anywhere, plain or gzipped", function()
    refuses_prefixes(files.read_idx, BYTES, "a")
    write("z", idx(0x08, { 40 }, ("ab"):rep(20)))
    refuses_prefixes(files.read_idx, (function() gzip "z" return read "z.gz" end)(), "cut.gz")
  end)

  it("are refused when damaged, too long, foreign, or claiming more than they hold", function()
    write("z", idx(0x08, { 64 }, ("abcdefgh"):rep(8)))
    gzip "z"
    local text = read "z.gz"
    failure(files.read_idx, write("crc.gz", text:sub(1, -6) .. string.char(text:byte(-5) ~ 1) .. text:sub(-4)))
    assert.truthy(failure(files.read_idx, write("long", BYTES .. "x")):find "1 bytes too many")
    write("l", BYTES .. "x")
    assert.truthy(failure(files.read_idx, gzip "l"):find "bytes follow")
    assert.truthy(failure(files.read_idx, write("foreign", "\x93NUMPY\1\0")):find "not an IDX file")
    failure(files.read_idx, write("type", idx(0x0A, { 1 }, "x")))
    failure(files.read_idx, write("rank0", "\0\0\8\0"))
    failure(files.read_idx, write("rank9", "\0\0\8\9" .. big(1):rep(9) .. "x"))
    local huge = idx(0x0E, { 0xffffffff, 0xffffffff, 0xffffffff }, "x")
    failure(files.read_idx, write("huge", huge))
    failure(files.read_idx, write("large", idx(0x08, { 0xffffffff, 1000 }, "x")))
    write("h", idx(0x08, { 0xffffffff, 1000 }, "x"))
    assert.truthy(failure(files.read_idx, gzip "h"):find "more than the file can hold")
  end)

  it("give labels from 1, checked against the number of classes", function()
    assert.same({ 1, 10 }, files.read_labels(write("a", idx(0x08, { 2 }, "\0\9")), 10):tolist())
    local message = failure(files.read_labels, write("b", idx(0x08, { 3 }, "\0\1\10")), 10)
    assert.truthy(message:find("record 3: label 10, expected 0 to 9", 1, true))
    failure(files.read_labels, write("c", BYTES), 10)
  end)
end)

-- ---- images ----

describe("gls.save_image and gls.load_image", function()
  it("bring back bytes, grey and in colour", function()
    local grey = gls.tensor({ { 0, 128, 255 }, { 1, 2, 3 } }, { type = "uint8" })
    gls.save_image(path "g.png", grey)
    local back = gls.load_image(path "g.png")
    assert.same({ 1, 2, 3 }, back.shape)
    assert.same({ grey:tolist() }, back:tolist())
    local colour = gls.arange(18):view(3, 2, 3):to "uint8"
    gls.save_image(path "c.png", colour)
    assert.same(colour:tolist(), gls.load_image(path "c.png"):tolist())
  end)

  it("refuse a PNG of which a byte is wrong or the end is missing", function()
    gls.save_image(path "g.png", gls.rand(3, 8, 8))
    local good = read "g.png"
    for at = 9, #good do
      local byte = string.char(good:byte(at) ~ 16)
      failure(gls.load_image, write("bad.png", good:sub(1, at - 1) .. byte .. good:sub(at + 1)))
    end
    refuses_prefixes(gls.load_image, good, "short.png")
    assert.same({ 3, 8, 8 }, gls.load_image(write("longer.png", good .. "more")).shape)
  end)

  it("take reals from 0 to 1, and clamp", function()
    gls.save_image(path "r.png", gls.tensor { { 0, 0.5, 1, -3, 7, math.huge } })
    assert.same({ { { 0, 128, 255, 0, 255, 255 } } }, gls.load_image(path "r.png"):tolist())
    local message = failure(gls.save_image, path "n.png", gls.tensor { { 0, 0 / 0 } })
    assert.truthy(message:find "image 1 holds NaN at channel 1, row 1, column 2")
    assert.is_nil(files.kind(path "n.png"))
  end)

  it("lay several out as a grid, with white between", function()
    local images = gls.zeros(3, 1, 2, 2)
    gls.save_image(path "grid.png", images, { columns = 2, gap = 1 })
    assert.same({ {
      { 0, 0, 255, 0, 0 }, { 0, 0, 255, 0, 0 }, { 255, 255, 255, 255, 255 },
      { 0, 0, 255, 255, 255 }, { 0, 0, 255, 255, 255 } } }, gls.load_image(path "grid.png"):tolist())
  end)

  it("refuse shapes that are no images, and unknown options", function()
    failure(gls.save_image, path "x.png", gls.zeros(4))
    failure(gls.save_image, path "x.png", gls.zeros(2, 4, 4))
    failure(gls.save_image, path "x.png", gls.zeros(0, 1, 4, 4))
    failure(gls.save_image, path "x.png", gls.tensor({ { 1 } }, { type = "int32" }))
    assert.has_error(function() gls.save_image(path "x.png", gls.zeros(2, 2), { cols = 1 }) end)
    assert.equal("", names())
  end)

  it("refuse images cut short, foreign, or of a size that cannot be meant", function()
    gls.save_image(path "a.png", gls.arange(64):view(8, 8):to "uint8")
    local text = read "a.png"
    -- The decoder is done before the closing chunk (12 bytes) and the data's two checksums (4 bytes each).
    for length = 0, #text - 24 do failure(gls.load_image, write("cut.png", text:sub(1, length))) end
    failure(gls.load_image, write("b.png", "GIF89a"))
    -- The header's width, and nothing that could fill it.
    for _, width in ipairs { 0, 100000, 0x7fffffff, 0xffffffff } do
      failure(gls.load_image, write("bomb.png", text:sub(1, 16) .. big(width) .. text:sub(21)))
    end
  end)
end)

-- Small JPEG files made by Pillow 13.0; corners of the first channel and the mean as Pillow decodes them.
local JPEGS = {
  { name = "baseline", channels = 3, corners = { 0, 85, 143, 198 }, mean = 104.72 },
  { name = "progressive", channels = 3, corners = { 0, 77, 138, 211 }, mean = 105.32 },
  { name = "restarts", channels = 1, corners = { 0, 76, 135, 209 }, mean = 104.86 },
}

local function jpeg(name)
  local file = assert(io.open("tests/fuzz/seeds/" .. name .. ".jpg", "rb"))
  local text = file:read "a"
  file:close()
  return text
end

-- Segments of a JPEG file: { marker, first byte, last byte }, a scan's with its coded bytes (ITU-T T.81, B.1.1).
local function segments(text)
  local list, at = {}, 3
  while text:byte(at + 1) ~= 0xD9 do
    local marker, last = text:byte(at + 1), at + 1 + string.unpack(">I2", text, at + 2)
    if marker == 0xDA then
      last = text:find("\xFF[^\0\xD0-\xD7]", last + 1) - 1
    end
    list[#list + 1] = { marker = marker, first = at, last = last }
    at = last + 1
  end
  return list
end

local function without(text, segment) return text:sub(1, segment.first - 1) .. text:sub(segment.last + 1) end

describe("JPEG files", function()
  it("are read as Pillow reads them", function()
    for _, good in ipairs(JPEGS) do
      local image = gls.load_image("tests/fuzz/seeds/" .. good.name .. ".jpg")
      assert.same({ good.channels, 16, 16 }, image.shape)
      local plane = image[1]:to "float32"
      for i, at in ipairs { { 1, 1 }, { 1, 16 }, { 16, 1 }, { 16, 16 } } do
        assert.near(good.corners[i], plane[at[1]][at[2]]:item(), 4)
      end
      assert.near(good.mean, plane:mean():item(), 1)
    end
  end)

  it("without a table, a scan or the frame that the decoder reads are refused, and say which", function()
    local SAYS = {
      [0xC4] = "Huffman table", [0xDB] = "quantisation table", [0xDA] = "scan", [0xDD] = "restart markers",
      [0xC0] = "before the frame header", [0xC2] = "before the frame header",
    }
    local seen = {}
    for _, good in ipairs(JPEGS) do
      local text = jpeg(good.name)
      for i, segment in ipairs(segments(text)) do
        local says = SAYS[segment.marker]
        -- A progressive file defines the same Huffman table again and again.
        if says and not (segment.marker == 0xC4 and good.name == "progressive") then
          local message = failure(gls.load_image, write("cut.jpg", without(text, segment)))
          assert.truthy(message:find(says, 1, true), ("%s, segment %d: %s"):format(good.name, i, message))
          seen[segment.marker] = true
        end
      end
    end
    for marker in pairs(SAYS) do assert.is_true(seen[marker]) end
  end)

  it("of more pixels than their bytes can hold, or fewer restarts than intervals, are refused", function()
    for _, good in ipairs(JPEGS) do
      local text = jpeg(good.name)
      for _, segment in ipairs(segments(text)) do
        if segment.marker == 0xC0 or segment.marker == 0xC2 then
          local large = text:sub(1, segment.first + 4) .. "\x1F\xF8\x1F\xF8" .. text:sub(segment.first + 9)
          local message = failure(gls.load_image, write("large.jpg", large))
          assert.truthy(message:find("8184×8184 pixels", 1, true) or message:find("restart markers", 1, true), message)
        end
      end
    end
    local text = jpeg "restarts"
    local at = text:find "\xFF\xD0"
    failure(gls.load_image, write("fewer.jpg", text:sub(1, at - 1) .. text:sub(at + 2)))
    local scan = segments(jpeg "baseline")
    scan = scan[#scan]
    local emptied = jpeg("baseline"):sub(1, scan.first + 13) .. "\xFF\xD9"
    assert.truthy(failure(gls.load_image, write("empty.jpg", emptied)):find "0 coded bytes for 16×16 pixels")
  end)

  it("with a table of too many codes, or cut short anywhere, are refused", function()
    for _, good in ipairs(JPEGS) do
      local text = jpeg(good.name)
      refuses_prefixes(gls.load_image, text, "cut.jpg")
      for _, segment in ipairs(segments(text)) do
        if segment.marker == 0xC4 then
          local codes = text:sub(1, segment.first + 4) .. ("\xFF"):rep(16) .. text:sub(segment.first + 21)
          assert.truthy(failure(gls.load_image, write("codes.jpg", codes)):find "more than 256 codes")
        end
      end
    end
  end)
end)

describe("PNG files", function()
  local function chunk(kind, content)
    return string.pack(">s4", content):sub(1, 4) .. kind .. content .. big(files.checksum(
      gls.tensor({ (kind .. content):byte(1, -1) }, { type = "uint8" })))
  end
  local function png(header, ...)
    local parts = { "\x89PNG\r\n\x1a\n", chunk("IHDR", header) }
    for _, part in ipairs { ... } do parts[#parts + 1] = part end
    return table.concat(parts) .. chunk("IEND", "")
  end
  -- Two rows of two pixels, numbers of colours of four bits, stored: RFC 1950 and 1951.
  local function stored(bytes)
    local a, b = 1, 0
    for _, byte in ipairs { bytes:byte(1, -1) } do
      a = (a + byte) % 65521
      b = (b + a) % 65521
    end
    return chunk("IDAT", "\x78\x01\1" .. string.pack("<I2I2", #bytes, ~#bytes & 0xffff) .. bytes .. big(b << 16 | a))
  end
  local PALETTE = chunk("PLTE", "\10\20\30\40\50\60\70\80\90")

  it("whose pixels have colours beyond the palette are refused", function()
    local header = big(2) .. big(2) .. "\4\3\0\0\0"
    local image = gls.load_image(write("good.png", png(header, PALETTE, stored "\0\x01\0\x20")))
    assert.same({ { { 10, 40 }, { 70, 10 } }, { { 20, 50 }, { 80, 20 } }, { { 30, 60 }, { 90, 30 } } }, image:tolist())
    local message = failure(gls.load_image, write("bad.png", png(header, PALETTE, stored "\0\x01\0\x30")))
    assert.truthy(message:find("a pixel has colour 4, the palette has 3", 1, true), message)
  end)

  it("of more pixels than their bytes can hold are refused", function()
    local header = big(8000) .. big(8000) .. "\8\0\0\0\0"
    local message = failure(gls.load_image, write("large.png", png(header, stored "\0\0")))
    assert.truthy(message:find("cannot hold as many pixels", 1, true), message)
  end)
end)
