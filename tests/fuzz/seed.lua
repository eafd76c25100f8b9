-- Seed: small good files for every reader under libFuzzer, into the folder that is named: FOLDER/READER/*.
local gls = require "gls"
local files = gls.core.io

local folder = assert(arg[1], "the folder to write to")

local function path(reader, name)
  files.make_folders(folder .. "/" .. reader)
  return folder .. "/" .. reader .. "/" .. name
end

local function write(reader, name, text)
  local file = assert(io.open(path(reader, name), "wb"))
  file:write(text)
  file:close()
end

-- numpy.save of two arrays, in column order and big-endian
gls.save_npy(path("npy", "reals"), gls.arange(6):view(2, 3))
gls.save_npy(path("npy", "bytes"), gls.tensor({ 1, 2 }, { type = "uint8" }))
for name, descr in pairs { columns = "<i8", swapped = ">f8", half = "<f2", short = "<u2" } do
  local header = ("{'descr': '%s', 'fortran_order': True, 'shape': (2, 1), }\n"):format(descr)
  write("npy", name, "\x93NUMPY\1\0" .. string.pack("<s2", header) .. ("\0\1"):rep(tonumber(descr:sub(3))))
end

for code, size in pairs { [8] = 1, [9] = 1, [11] = 2, [12] = 4, [13] = 4, [14] = 8 } do
  local text = string.pack(">BBBBI4I4", 0, 0, code, 2, 2, 3) .. ("\1"):rep(6 * size)
  write("idx", "type" .. code, text)
  write("gzip", "type" .. code, text)
end
write("idx", "labels", string.pack(">BBBBI4", 0, 0, 8, 1, 3) .. "\0\9\5")
write("cifar", "two", ("\3" .. ("\100"):rep(3072)):rep(2))

gls.save_image(path("image", "grey.png"), gls.rand(1, 5, 7))
gls.save_image(path("image", "colour.png"), gls.rand(3, 6, 4))
gls.save_image(path("image", "grid.png"), gls.rand(3, 1, 4, 4))

local arrays = { a = gls.rand(2, 3), b = gls.tensor({ 1, 2 }, { type = "int32" }), empty = gls.zeros(0, 2) }
gls.save_npz(path("npz", "stored"), arrays)
gls.save_npz(path("npz", "deflated"), arrays, { deflated = true })

-- As libedit writes them: a mark, then a line each, with spaces and the like as octal numbers.
write("history", "lines", "_HiStOrY_V2_\nx\\040=\\0401\nfor\\040i=1,2\\040do\\012print(i)\\012end\n")

-- A cache of the tree that readers.c makes: 2 grey images of 2×3 pixels. What comes before is put right there.
write("folder", "cache", ("\0"):rep(16) .. string.pack("<i8i8i8i8i8", 2, 1, 2, 3, 0) .. ("\100"):rep(12))
