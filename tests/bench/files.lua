--- Files that the loading benchmarks read: made anew in a scratch folder. Run by glsrun: files.lua FOLDER.
local gls = require "gls"
local folder = assert(arg[1], "usage: glsrun files.lua FOLDER")

local function make(path) assert(os.execute(("mkdir -p '%s'"):format(path))) end

-- CIFAR-10's layout: a byte of label, 3072 of image.
local binary = folder .. "/binary/cifar-10-batches-bin"
make(binary)
gls.seed(1)
for file = 1, 6 do
  local out = assert(io.open(file < 6 and ("%s/data_batch_%d.bin"):format(binary, file) or binary .. "/test_batch.bin",
    "wb"))
  for image = 1, 1000 do
    out:write(string.char(image % 10), string.rep(string.char((image * 7 + file) % 256), 3072))
  end
  assert(out:close())
end
local names = assert(io.open(binary .. "/batches.meta.txt", "w"))
for class = 1, 10 do names:write("class", class, "\n") end
assert(names:close())

-- Class folders of small JPEG images, smooth as photographs are.
for class = 1, 10 do
  local path = ("%s/folder/class%d"):format(folder, class)
  make(path)
  for image = 1, 100 do
    local coarse = gls.rand(3, 4, 4):view(3, 4, 1, 4, 1):expand(3, 4, 8, 4, 8):reshape(3, 32, 32)
    gls.save_image(("%s/%d.jpg"):format(path, image), coarse)
  end
end
