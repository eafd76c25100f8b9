-- Checkpoints: nested values in safetensors files, damaged ones, and those that Python writes and reads.
local gls = require "gls"
local scratch = require "tests.lua.scratch"
local path, write, read, base64, failure =
  scratch.path, scratch.write, scratch.read, scratch.base64, scratch.failure
local refuses_prefixes, names, python_with, run_python =
  scratch.refuses_prefixes, scratch.names, scratch.python_with, scratch.run_python

scratch.each(before_each, after_each)

-- ---- checkpoints ----

describe("gls.save and gls.load", function()
  it("refuse objects, and say what to save of them", function()
    local nn, optim = require "gls.nn", require "gls.optim"
    local model = nn.Sequential { nn.Linear(2, 2) }
    for _, value in ipairs { model, { model = model }, { optimizer = optim.SGD(model:parameters()) } } do
      assert.error_matches(function() gls.save(path "object", value) end, "object.*save its state_dict%(%)")
    end
    assert.error_matches(function() gls.save(path "object", { setmetatable({}, { __name = "mine" }) }) end,
      "1 is an object %(mine%), which a file cannot hold$")
  end)

  local value = {
    epoch = 3, rate = 1e-3, name = "a\0b", done = false, list = { 1, 2.5, "three" }, [1] = "one", [2.5] = "x",
    big = math.maxinteger, infinite = math.huge, exact = 0.1, empty = {},
  }

  it("bring back nested tables, with tensors, to the last bit", function()
    local weight = gls.randn(3, 4)
    gls.save(path "c", {
      value = value, again = weight,
      model = {
        weight = weight, turned = weight:t(), labels = gls.tensor({ 1, 2 }, { type = "int32" }),
        bytes = gls.tensor({ 7 }, { type = "uint8" }),
      },
    })
    local back = gls.load(path "c")
    assert.same(value, back.value)
    assert.equal("integer", math.type(back.value.epoch))
    assert.same(weight:tolist(), back.model.weight:tolist())
    assert.same(weight:t():tolist(), back.model.turned:tolist())
    assert.equal("int32", back.model.labels.type)
    assert.equal("uint8", back.model.bytes.type)
    assert.equal(back.model.weight, back.again)
  end)

  it("bring back lists with holes", function()
    for _, list in ipairs { { 1, nil, 3, [10] = 4 }, { 1, nil, 3 }, { nil, 2 }, { 1, 2, [0] = 0 }, { [3] = 3 } } do
      gls.save(path "c", { list })
      assert.same(list, gls.load(path "c")[1])
    end
  end)

  it("bring back a single value of any kind", function()
    for _, single in ipairs { 1, "x", true } do
      gls.save(path "c", single)
      assert.equal(single, gls.load(path "c"))
    end
    gls.save(path "c", nil)
    assert.is_nil(gls.load(path "c"))
    gls.save(path "c", gls.full(2, 5))
    assert.same({ 5, 5 }, gls.load(path "c"):tolist())
  end)

  it("write the same bytes for the same value", function()
    gls.save(path "a", { value, x = gls.ones(2) })
    gls.save(path "b", { value, x = gls.ones(2) })
    assert.equal(read "a", read "b")
  end)

  it("refuse what a file cannot hold, by its path in the table, and keep the old file", function()
    gls.save(path "c", "old")
    local good, message = pcall(gls.save, path "c", { model = { f = print } })
    assert.is_false(good)
    assert.truthy(message:find("model.f is a function", 1, true), message)
    local loop = {}
    loop.self = loop
    assert.has_error(function() gls.save(path "c", loop) end)
    assert.has_error(function() gls.save(path "c", { [print] = 1 }) end)
    local released = gls.ones(2)
    released:release()
    assert.has_error(function() gls.save(path "c", { released }) end)
    failure(gls.save, path "absent/c", 1)
    assert.equal("old", gls.load(path "c"))
    assert.equal("c\n", names())
  end)

  it("notice a file cut short anywhere, and a change of any byte", function()
    gls.save(path "c", { a = gls.ones(2), n = 5 })
    local text = read "c"
    refuses_prefixes(gls.load, text, "cut")
    local last = select(2, text:find "}%s*")
    for i = 1, #text do
      -- Blanks that fill up the header say nothing, and the marks of JSON's blanks are four.
      for _, mask in ipairs { 1, 0x80, 0xff } do
        local changed = text:sub(1, i - 1) .. string.char(text:byte(i) ~ mask) .. text:sub(i + 1)
        local good, back = pcall(gls.load, write("changed", changed))
        if good then
          -- One bit of a key of the metadata's: the file is then another program's, and gives its tensors.
          assert.truthy(i <= last and back.a and back.n == nil, "byte " .. i)
        end
      end
    end
    failure(gls.load, write("long", text .. "x"))
    assert.truthy(failure(gls.load, write("foreign", ("x"):rep(100))):find "no safetensors file")
    assert.truthy(failure(gls.load, write("cut", text:sub(1, -2))):find "truncated")
    failure(gls.load, path "absent")
    failure(gls.load, scratch.folder())
  end)

  it("bring back every kind of key and text, integers of 64 bits, and numbers that are not finite", function()
    local odd = {
      [1] = "one", [3] = "three", [-1] = "minus", [2.5] = "x", [true] = "yes", ["$tensor"] = "dollar",
      low = math.mininteger,
      latin = "caf\xe9", quoted = '"\\\n\t\127', zero = -0.0, small = 5e-324, minus = -math.huge, whole = 3.0,
    }
    gls.save(path "c", { odd, { odd } })
    local back = gls.load(path "c")[2][1]
    assert.same(odd, back)
    assert.equal("float", math.type(back.whole))
    assert.equal(-math.huge, 1 / back.zero)
    gls.save(path "c", { 0 / 0 })
    assert.is_true(gls.load(path "c")[1] ~= gls.load(path "c")[1])
  end)

  it("say that a file is of an older version", function()
    local message = failure(gls.load, write("old", "GLSCKPT\1" .. ("\0"):rep(40)))
    assert.truthy(message:find("a checkpoint of an older glsrun", 1, true), message)
  end)

  it("say that the disk is full, and keep the old file", function()
    -- A limit on the size of files stands for a full disk: what was written before stays.
    gls.save(path "c", "old")
    local script = write("fill.lua", ([[
      local gls = require "gls"
      local good, message = pcall(gls.save, %q, { x = gls.zeros(1000000) })
      io.stdout:write(tostring(good), " ", tostring(message))
    ]]):format(path "c"))
    -- plain Lua cannot load a module that has the sanitizers in it
    local lua = (os.getenv "SANITIZE" or "") ~= "" and os.getenv "GLSRUN" or "lua5.4"
    local pipe = assert(io.popen("trap '' XFSZ; ulimit -f 100; '" .. lua .. "' '" .. script .. "' 2>&1"))
    local output = pipe:read "a"
    pipe:close()
    assert.truthy(output:find("^false .*" .. path("c"):gsub("%p", "%%%0") .. ": cannot be written"), output)
    assert.equal("old", gls.load(path "c"))
    assert.equal("c\nfill.lua\n", names())
  end)
end)

-- ---- safetensors of other programs ----

-- Written by safetensors 0.8.0 with PyTorch 2.15 (save_file): half [0.1, -65504] F16, brain [3.14159] BF16,
-- layer.weight arange(6).reshape(2, 3) / 4 F32, wide 1.5 F64 (), long [[-5, 2147483647]] I64, short [-300] I16,
-- byte [255] U8, tiny [-128] I8, flags [true, false] BOOL, none (0, 3) F32, u16 [65535] U16; metadata format = "pt",
-- by = "é".
local SAFETENSORS = [[
uAIAAAAAAAB7Il9fbWV0YWRhdGFfXyI6eyJmb3JtYXQiOiJwdCIsImJ5Ijoiw6kifSwibG9uZyI6eyJkdHlwZSI6Ikk2NCIsInNoYXBlIjpbMSwyXSwi
ZGF0YV9vZmZzZXRzIjpbMCwxNl19LCJ3aWRlIjp7ImR0eXBlIjoiRjY0Iiwic2hhcGUiOltdLCJkYXRhX29mZnNldHMiOlsxNiwyNF19LCJsYXllci53
ZWlnaHQiOnsiZHR5cGUiOiJGMzIiLCJzaGFwZSI6WzIsM10sImRhdGFfb2Zmc2V0cyI6WzI0LDQ4XX0sIm5vbmUiOnsiZHR5cGUiOiJGMzIiLCJzaGFw
ZSI6WzAsM10sImRhdGFfb2Zmc2V0cyI6WzQ4LDQ4XX0sImJyYWluIjp7ImR0eXBlIjoiQkYxNiIsInNoYXBlIjpbMV0sImRhdGFfb2Zmc2V0cyI6WzQ4
LDUwXX0sImhhbGYiOnsiZHR5cGUiOiJGMTYiLCJzaGFwZSI6WzJdLCJkYXRhX29mZnNldHMiOls1MCw1NF19LCJ1MTYiOnsiZHR5cGUiOiJVMTYiLCJz
aGFwZSI6WzFdLCJkYXRhX29mZnNldHMiOls1NCw1Nl19LCJzaG9ydCI6eyJkdHlwZSI6IkkxNiIsInNoYXBlIjpbMV0sImRhdGFfb2Zmc2V0cyI6WzU2
LDU4XX0sInRpbnkiOnsiZHR5cGUiOiJJOCIsInNoYXBlIjpbMV0sImRhdGFfb2Zmc2V0cyI6WzU4LDU5XX0sImJ5dGUiOnsiZHR5cGUiOiJVOCIsInNo
YXBlIjpbMV0sImRhdGFfb2Zmc2V0cyI6WzU5LDYwXX0sImZsYWdzIjp7ImR0eXBlIjoiQk9PTCIsInNoYXBlIjpbMl0sImRhdGFfb2Zmc2V0cyI6WzYw
LDYyXX19ICD7/////////////38AAAAAAAAAAAAA+D8AAAAAAACAPgAAAD8AAEA/AACAPwAAoD9JQGYu//v//9T+gP8BAA==
]]

describe("safetensors files", function()
  it("of PyTorch are read: all types, and the metadata", function()
    local tensors, metadata = gls.load(base64("a.safetensors", SAFETENSORS))
    assert.same({ format = "pt", by = "é" }, metadata)
    local expected = {
      half = { 0.0999755859375, -65504 }, brain = { 3.140625 }, short = { -300 }, byte = { 255 }, tiny = { -128 },
      ["layer.weight"] = { { 0, 0.25, 0.5 }, { 0.75, 1, 1.25 } }, long = { { -5, 2147483647 } }, flags = { 1, 0 },
      u16 = { 65535 },
    }
    for name, value in pairs(expected) do assert.same(value, tensors[name]:tolist()) end
    assert.equal(1.5, tensors.wide:item())
    assert.same({ 0, 3 }, tensors.none.shape)
    assert.equal("int32", tensors.long.type)
    assert.equal("uint8", tensors.flags.type)
  end)

  -- A file of a header and elements.
  local function file(header, elements)
    return write("x.safetensors", string.pack("<s8", header) .. (elements or ""))
  end

  it("with overlapping offsets, gaps, wrong sizes or types are refused, and say which tensor", function()
    local function entry(dtype, shape, first, after)
      return ('{"dtype":"%s","shape":%s,"data_offsets":[%d,%d]}'):format(dtype, shape, first, after)
    end
    local function two(a, b) return ('{"a":%s,"b":%s}'):format(a, b) end
    local F32 = entry("F32", "[2]", 0, 8)
    assert.same({ 0, 0 }, gls.load(file(two(F32, entry("U8", "[1]", 8, 9)), ("\0"):rep(9))).a:tolist())
    for says, case in pairs {
      ['elements of "b" begin at 4, expected 8'] = { two(F32, entry("F32", "[1]", 4, 8)), 8 },
      ['elements of "b" begin at 12, expected 8'] = { two(F32, entry("F32", "[1]", 12, 16)), 16 },
      ['elements of "a" begin at 8, expected 0'] = { '{"a":' .. entry("F32", "[1]", 8, 4) .. "}", 8 },
      ["a: (3) of type F32 takes 12 bytes, its offsets say 8"] = { '{"a":' .. entry("F32", "[3]", 0, 8) .. "}", 8 },
      ["truncated: 8 bytes of elements, the file has 7"] = { '{"a":' .. F32 .. "}", 7 },
      ["1 bytes follow the tensors"] = { '{"a":' .. F32 .. "}", 9 },
      ["a: elements of type F8_E5M2; expected F16"] = { '{"a":' .. entry("F8_E5M2", "[8]", 0, 8) .. "}", 8 },
      ["a: 9 dimensions, expected at most 8"] = { '{"a":' .. entry("U8", "[1,1,1,1,1,1,1,1,8]", 0, 8) .. "}", 8 },
      ['the entry of "a" is no tensor'] = { '{"a":' .. entry("U8", "[-8]", 0, 8) .. "}", 8 },
      ['the key "a" a second time'] = { '{"a":' .. F32 .. ',"a":' .. F32 .. "}", 8 },
      ["its header is not JSON"] = { '{"a":' .. F32, 8 },
      ["does not fit in memory"] = { '{"a":' .. entry("F64", "[4611686018427387904,8]", 0, 8) .. "}", 8 },
    } do
      local message = failure(gls.load, file(case[1], ("\0"):rep(case[2])))
      assert.truthy(message:find(says, 1, true), message .. "\n  does not say\n" .. says)
    end
    local wide = failure(gls.load, file('{"w":' .. entry("F64", "[]", 0, 8) .. "}", string.pack("<d", 1e300)))
    assert.truthy(wide:find("w: element 1 is 1e+300, which float32 does not hold", 1, true), wide)
    local large = failure(gls.load, write("large", string.pack("<I8", 100000001) .. "{}"))
    assert.truthy(large:find("a header of 100000001 bytes, expected 2 to 100000000", 1, true), large)
  end)

  it("are aligned, and read and written by Python's safetensors", function()
    gls.save(path "c.safetensors",
      { bytes = gls.tensor({ 1, 2, 3 }, { type = "uint8" }), w = gls.tensor { { 1.5, -2 } } })
    local header = string.unpack("<I8", read "c.safetensors")
    assert.equal(0, header % 8)
    local python = python_with "numpy, safetensors.numpy"
    if not python then pending "skipped: Python has no safetensors (PYTHON names another)" return end
    assert.equal("[1, 2, 3] uint8 [[1.5, -2.0]] float32 1\n", run_python(python, [[
import numpy
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
t = load_file("c.safetensors")
print(t["bytes"].tolist(), t["bytes"].dtype, t["w"].tolist(), t["w"].dtype,
      safe_open("c.safetensors", "np").metadata()["glsrun"])
save_file({"back": t["w"] * 2, "n": numpy.array([7], dtype=numpy.int64)}, "back.safetensors", metadata={"k": "v"})
]]))
    local back, metadata = gls.load(path "back.safetensors")
    assert.same({ { 3, -4 } }, back.back:tolist())
    assert.same({ 7 }, back.n:tolist())
    assert.same({ k = "v" }, metadata)
  end)
end)
