--- Sources: where the known sets are on disk, and how their files become a set.
-- @module gls.data.sources
local core = require "gls.core"
local options = require "gls.options"
local set = require "gls.data.set"
local text = require "gls.data.text"
local files = core.io

local sources = {}

local DEBIAN_FASHION_MNIST = "/usr/share/datasets/fashion-mnist"
local FASHION_MNIST_CLASSES = {
  "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
}
local GET_CIFAR10 = "unpack cifar-10-binary.tar.gz (https://www.cs.toronto.edu/~kriz/cifar.html) in %s"
local GET_MNIST = "put its four IDX files (train-images-idx3-ubyte and so on, gzipped or not) in %s/mnist"
local GET_FASHION_MNIST = "install Debian's package dataset-fashion-mnist, or put its IDX files in %s/fashion-mnist"

local function is_file(path) return files.kind(path) == "file" end
local function is_folder(path) return files.kind(path) == "folder" end

local function home_cache()
  local cache = os.getenv "XDG_CACHE_HOME"
  if not cache or cache == "" then cache = (os.getenv "HOME" or ".") .. "/.cache" end
  return cache .. "/glsrun"
end

--- The data directory.
-- @tparam string|nil dir the user's choice
function sources.directory(dir)
  if dir ~= nil then
    if type(dir) ~= "string" then error("dir is a path, got " .. type(dir), 0) end
    if not is_folder(dir) then error(("dir: there is no folder %s"):format(dir), 0) end
    return dir
  end
  local environment = os.getenv "GLS_DATA"
  if environment and environment ~= "" then return environment end
  return (os.getenv "HOME" or ".") .. "/.cache/glsrun"
end

local function check_split(split)
  if split ~= "train" and split ~= "test" then
    error(('split is "%s", expected "train" or "test"'):format(tostring(split)), 0)
  end
end

-- Some of the rows, as the options say; all: the rows of a folder come shuffled in any case.
local function choose(images, labels, given, name, shuffled)
  if not given.samples and not shuffled then return images, labels end
  local rows = set.choose(images:size(1), given.samples, given.seed, name)
  return files.take_rows(images, rows), files.take_rows(labels, rows)
end

-- The set of the training images has the mean: their own for the training set, all of them for the test set.
local function training_mean(given, load)
  if given.split ~= "test" then return nil end
  return function()
    local of_training = {}
    for name, value in pairs(given) do of_training[name] = value end
    of_training.split, of_training.samples = "train", nil
    return load(of_training)
  end
end

local function note_of(name, path, images, given)
  return ("%s from %s, %s%d images"):format(name, path, given.split and given.split .. ", " or "", images:size(1))
end

-- ---- trees of class folders ----

local function read_tree(root, cache_base, label)
  return files.read_folder(root, { cache_base .. "/.glsrun", home_cache() }, label)
end

local function same_classes(a, b, path_a, path_b)
  if table.concat(a, "\0") == table.concat(b, "\0") then return end
  local known = {}
  for _, name in ipairs(a) do known[name] = true end
  for _, name in ipairs(b) do
    if not known[name] then error(("%s has the class %s, which %s has not"):format(path_b, name, path_a), 0) end
    known[name] = nil
  end
  error(("%s has the class %s, which %s has not"):format(path_a, next(known), path_b), 0)
end

-- ---- CIFAR-10 ----

local function find_cifar10(dir)
  for _, base in ipairs { dir .. "/cifar-10-batches-bin", dir .. "/cifar10/cifar-10-batches-bin",
    dir .. "/cifar10", dir } do
    if is_file(base .. "/data_batch_1.bin") or is_file(base .. "/test_batch.bin") then return "binary", base end
  end
  if is_folder(dir .. "/cifar10/train") then return "tree", dir .. "/cifar10" end
end

local function read_lines(path, count)
  local file, problem = io.open(path, "r")
  if not file then error(problem, 0) end
  local lines = {}
  for line in file:lines() do
    line = line:gsub("%s+$", "")
    if line ~= "" then lines[#lines + 1] = line end
  end
  file:close()
  if #lines ~= count then error(("%s: %d names of classes, expected %d"):format(path, #lines, count), 0) end
  return lines
end

local function read_cifar10(given, kind, path)
  if kind == "binary" then
    local paths = { path .. "/test_batch.bin" }
    if given.split == "train" then
      for i = 1, 5 do paths[i] = ("%s/data_batch_%d.bin"):format(path, i) end
    end
    local images, labels = files.read_cifar(paths)
    return images, labels, read_lines(path .. "/batches.meta.txt", 10), "CIFAR-10"
  end
  local root = path .. "/" .. given.split
  local images, labels, classes, facts = read_tree(root, path, "cifar10-" .. given.split)
  if #classes ~= 10 then error(("%s: %d class folders, expected the 10 of CIFAR-10"):format(root, #classes), 0) end
  local shape = table.concat(images.shape, "×", 2)
  if shape ~= "3×32×32" then error(("%s: images of %s, expected 3×32×32"):format(root, shape), 0) end
  if given.split == "test" then same_classes(files.list_folders(path .. "/train"), classes, path .. "/train", root) end
  return images, labels, classes, facts.lossy and "CIFAR-10 (JPEG)" or "CIFAR-10"
end

function sources.cifar10(given)
  check_split(given.split)
  local dir = sources.directory(given.dir)
  local kind, path = find_cifar10(dir)
  if not kind then
    error(("no CIFAR-10 in %s (cifar-10-batches-bin/ or cifar10/train/); " .. GET_CIFAR10):format(dir, dir), 0)
  end
  local images, labels, classes, name = read_cifar10(given, kind, path)
  images, labels = choose(images, labels, given, name, kind == "tree")
  return set.new {
    images = images, labels = labels, classes = classes, name = name, split = given.split,
    note = note_of(name, path, images, given), mean_of = training_mean(given, sources.cifar10),
  }
end

-- ---- MNIST and Fashion-MNIST: the same four IDX files ----

local DIGITS = { "0", "1", "2", "3", "4", "5", "6", "7", "8", "9" }
local IDX_SETS = {
  mnist = { name = "MNIST", classes = DIGITS, folders = { "%s/mnist", "%s/MNIST/raw" }, get = GET_MNIST },
  fashion_mnist = {
    name = "Fashion-MNIST", classes = FASHION_MNIST_CLASSES, get = GET_FASHION_MNIST,
    folders = { "%s/fashion-mnist", "%s/FashionMNIST/raw", DEBIAN_FASHION_MNIST },
  },
}

local function idx_path(folder, name)
  for _, path in ipairs { folder .. "/" .. name .. ".gz", folder .. "/" .. name } do
    if is_file(path) then return path end
  end
end

local function find_idx(known, dir, split)
  local prefix = split == "test" and "t10k" or "train"
  local folders = {}
  for i, folder in ipairs(known.folders) do
    folders[i] = folder:gsub("%%s", (dir:gsub("%%", "%%%%")))
    local images = idx_path(folders[i], prefix .. "-images-idx3-ubyte")
    local labels = idx_path(folders[i], prefix .. "-labels-idx1-ubyte")
    if images and labels then return folders[i], images, labels end
    if images or labels then
      error(("%s has %s-images-idx3-ubyte or %s-labels-idx1-ubyte, but not both"):format(folders[i], prefix, prefix), 0)
    end
  end
  return nil, table.concat(folders, ", ")
end

local function read_idx_set(known, given, load)
  check_split(given.split)
  local dir = sources.directory(given.dir)
  local folder, images_path, labels_path = find_idx(known, dir, given.split)
  if not folder then error(("no %s in %s; " .. known.get):format(known.name, images_path, dir), 0) end
  local images = files.read_idx(images_path)
  if images:dim() ~= 3 or images.type ~= "uint8" then
    error(("%s: %d-dimensional %s, expected images: uint8 (N, H, W)"):format(images_path, images:dim(), images.type), 0)
  end
  local labels = files.read_labels(labels_path, #known.classes)
  if labels:size(1) ~= images:size(1) then
    error(("%s has %d labels, %s has %d images"):format(labels_path, labels:size(1), images_path, images:size(1)), 0)
  end
  if images:numel() == 0 then error(("%s: the set is empty"):format(images_path), 0) end
  images = images:view(images:size(1), 1, images:size(2), images:size(3))
  images, labels = choose(images, labels, given, known.name, false)
  return set.new {
    images = images, labels = labels, classes = known.classes, name = known.name, split = given.split,
    note = note_of(known.name, folder, images, given), mean_of = training_mean(given, load),
  }
end

function sources.mnist(given) return read_idx_set(IDX_SETS.mnist, given, sources.mnist) end

function sources.fashion_mnist(given)
  return read_idx_set(IDX_SETS.fashion_mnist, given, sources.fashion_mnist)
end

-- ---- folders of one's own ----

local SPLIT_FOLDERS = { train = { "train" }, test = { "test", "val", "valid", "validation" } }

local function split_folder(path, split)
  for _, name in ipairs(SPLIT_FOLDERS[split]) do
    if is_folder(path .. "/" .. name) then return path .. "/" .. name end
  end
end

function sources.folder(given)
  local path = given.path
  if type(path) ~= "string" or path == "" then error("path is the path of a folder", 0) end
  if not is_folder(path) then error(("there is no folder %s"):format(path), 0) end
  path = #path > 1 and path:gsub("/+$", "") or path
  local root, held_out = path, false
  if given.split ~= nil then
    check_split(given.split)
    local train, test = split_folder(path, "train"), split_folder(path, "test")
    if train or test then
      root = given.split == "train" and train or given.split == "test" and test
      if not root then
        error(("%s has no folder for %s (%s)"):format(path, given.split,
          table.concat(SPLIT_FOLDERS[given.split], ", ")), 0)
      end
      if train and test then same_classes(files.list_folders(train), files.list_folders(test), train, test) end
    else
      held_out = true
    end
  end
  local base = path:match "[^/]+$" or "folder"
  local label = (base .. (given.split and not held_out and "-" .. given.split or "")):gsub("[^%w_-]", "_")
  local images, labels, classes = read_tree(root, path, label)
  local name = base
  if not held_out then
    images, labels = choose(images, labels, given, name, true)
  else
    local count = images:size(1)
    local test_count = math.max(1, count // 5)
    if test_count == count then error(("%s: one image cannot be split"):format(path), 0) end
    local order = set.choose(count, nil, 1, name)
    local rows = given.split == "train" and order:narrow(1, 1, count - test_count)
      or order:narrow(1, count - test_count + 1, test_count)
    images, labels = files.take_rows(images, rows), files.take_rows(labels, rows)
    images, labels = choose(images, labels, given, name, false)
  end
  return set.new {
    images = images, labels = labels, classes = classes, name = name, split = given.split,
    note = note_of(name, root, images, given) .. (held_out and " (a fifth of the folder is held out for test)" or ""),
    mean_of = training_mean(given, sources.folder),
  }
end

-- ---- text ----

--- What data.text takes, and defaults.
sources.text_options = {
  path = options.none, dir = options.none, split = "train", context = 64, level = "characters", words = 10000,
  samples = options.none,
}

function sources.text(given) return text.read(given, sources.directory(given.dir)) end

-- ---- by name ----

local NAMES = { "auto", "cifar10", "mnist", "fashion-mnist", "folder:PATH", "text", "text:FILE" }

local function automatic(given)
  local dir = sources.directory(given.dir)
  if find_cifar10(dir) then
    local chosen = sources.cifar10(given)
    chosen.note = chosen.note .. "; for Fashion-MNIST choose fashion-mnist"
    return chosen
  end
  if find_idx(IDX_SETS.fashion_mnist, dir, given.split) then
    local chosen = sources.fashion_mnist(given)
    chosen.note = chosen.note .. ("; for CIFAR-10 " .. GET_CIFAR10):format(dir)
    return chosen
  end
  error(("no data found. For CIFAR-10 " .. GET_CIFAR10 .. "; for Fashion-MNIST " .. GET_FASHION_MNIST)
    :format(dir, dir), 0)
end

function sources.open(name, given)
  local corpus = name == "text" and "" or name:match "^text:(.+)$"
  if corpus then
    return sources.text(options.check("data.open", {
      path = corpus ~= "" and corpus or nil, dir = given.dir, split = given.split, samples = given.samples,
      context = given.context,
    }, sources.text_options))
  end
  if given.context then error(("context is of texts, not of %s"):format(name), 0) end
  check_split(given.split)
  if name == "auto" then return automatic(given) end
  if name == "cifar10" then return sources.cifar10(given) end
  if name == "mnist" then return sources.mnist(given) end
  if name == "fashion-mnist" then return sources.fashion_mnist(given) end
  local path = name:match "^folder:(.+)$"
  if path then
    return sources.folder { path = path, split = given.split, samples = given.samples, seed = given.seed }
  end
  error(('unknown data "%s"%s'):format(name, options.suggestion(name, NAMES)), 0)
end

return sources
