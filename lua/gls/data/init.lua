--- Data: sets of images or of tensors, and the loaders that make batches of them.
--
-- A set has `images` (uint8, N×C×H×W) and `labels` (int32, N, from 1), or `x` and `y` (see data.tensors); `classes`
-- (list of names), `name`, `note` (one line: what it is and where it came from), `split`, `mean` (of the training
-- images, per channel, in [0, 1]) and `fingerprint` (crc32 of its bytes, as text). `#set` is the number of rows.
-- `set:take(rows)` and `set:narrow(first, count)` give parts of it, that keep its mean.
--
-- Files are looked for in the data directory: the option `dir`, else the environment's `GLS_DATA`, else
-- `~/.cache/glsrun`.
--
-- sources  known data sets on disk     csv, text, source  sets of one's own     set  what all sets are
-- loader   their batches               batches  the same of rows that Lua makes
-- @module gls.data
local csv = require "gls.data.csv"
local loader = require "gls.data.loader"
local options = require "gls.options"
local set = require "gls.data.set"
local source = require "gls.data.source"
local sources = require "gls.data.sources"

local data = {}

-- Where an error came from, as Lua puts it before a message.
local PLACES = { "^[^\n:]-%.lua:%d+: ", '^%[string "[^\n]-"%]:%d+: ', "^[^%s:]+:%d+: " }

-- Errors of f name the function that the user called, at the place where it was called. To be used in a tail call.
local function attempt(where, f, ...)
  local results = table.pack(pcall(f, ...))
  if results[1] then return table.unpack(results, 2, results.n) end
  local problem = results[2]
  if type(problem) ~= "string" then error(problem, 0) end
  for _, place in ipairs(PLACES) do
    local text, found = problem:gsub(place, "", 1)
    if found > 0 then
      problem = text
      break
    end
  end
  error(where .. ": " .. problem, 2)
end

local SOURCE_OPTIONS = { split = "train", dir = options.none, samples = options.none, seed = 1 }
local OPEN_OPTIONS = { context = options.none }
for name, default in pairs(SOURCE_OPTIONS) do OPEN_OPTIONS[name] = default end

--- CIFAR-10 (Krizhevsky 2009): 50 000 training and 10 000 test images of 3×32×32 in 10 classes. From the official
-- binary files (`cifar-10-batches-bin/`), or a tree `cifar10/{train,test}/<class>/*.png` or `.jpg`; a tree with
-- JPEG files has lost something, and is named "CIFAR-10 (JPEG)".
-- @tparam table given `split` ("train" or "test"), `dir`, `samples` (the first of a shuffle by `seed`, default 1:
-- the same for the same numbers; classes are not balanced)
-- @treturn table set
function data.cifar10(given)
  return attempt("data.cifar10", sources.cifar10, options.check("data.cifar10", given, SOURCE_OPTIONS))
end

--- MNIST (LeCun, Cortes, Burges 1998): 60 000 training and 10 000 test images of 1×28×28, the digits 0 to 9 as classes
-- 1 to 10. From `mnist/` in the data directory: its four IDX files, gzipped or not.
-- @tparam table given as for data.cifar10
-- @treturn table set
function data.mnist(given)
  return attempt("data.mnist", sources.mnist, options.check("data.mnist", given, SOURCE_OPTIONS))
end

--- Fashion-MNIST (Xiao, Rasul, Vollgraf 2017): 60 000 training and 10 000 test images of 1×28×28 in 10 classes. From
-- `fashion-mnist/` in the data directory (IDX files, gzipped or not), else from Debian's package
-- dataset-fashion-mnist.
-- @tparam table given as for data.cifar10
-- @treturn table set
function data.fashion_mnist(given)
  return attempt("data.fashion_mnist", sources.fashion_mnist,
    options.check("data.fashion_mnist", given, SOURCE_OPTIONS))
end

--- A tree of class folders of PNG or JPEG images, all of one size: `path/<class>/*`, or `path/train/<class>/*` and
-- `path/test/<class>/*` (also `val`, `valid`, `validation`). Labels follow the sorted names of the classes. Files are
-- decoded once; what was decoded is kept in `path/.glsrun`, or in `~/.cache/glsrun`. The images come in a fixed
-- shuffled order, for the files lie sorted by class.
-- @tparam table given `path`; `split`: "train", "test", or nil for the tree itself (in a tree without such folders
-- "train" is a fixed four fifths of it, "test" the rest); `samples`, `seed` as for data.cifar10
-- @treturn table set
function data.folder(given)
  return attempt("data.folder", sources.folder, options.check("data.folder", given,
    { path = options.required, split = options.none, samples = options.none, seed = 1 }))
end

--- A text corpus as tokens: `tokens` (int32, N, from 1), `vocabulary` (list of texts), `context`, `name`, `note`,
-- `split`, `fingerprint`; `#corpus` is N; `corpus:encode(text)` gives int32, `corpus:decode(tokens)` the text. The
-- first nine tenths are for training, the rest for validation; both have one vocabulary. data.loader gives
-- `batch.x` and `batch.y`, int32 (batch × context), y being x one token later: random windows with `shuffle = true` (an
-- epoch has as many as hold the text once), else all of the text in order, in which what is left at the end is a batch
-- (1 × rest): weigh means by `batch.y:numel()`.
-- @tparam table given `path` (UTF-8; default: tinyshakespeare.txt in the data directory, else Debian's package
-- bible-kjv-text), `dir`, `split` ("train" or "validation"), `context` (64), `level` ("characters", or "words": words,
-- marks and line ends, of which the `words` = 10000 most frequent of the training part are in the vocabulary, others
-- being `<unk>`), `samples` (the first so many tokens of the part)
-- @treturn table corpus
function data.text(given)
  return attempt("data.text", sources.text, options.check("data.text", given, sources.text_options))
end

--- A table of numbers from a CSV file (RFC 4180): `x` has a row for each record and a column for each of `columns`.
-- `columns` of the set are their names.
-- @tparam table given `path`; `target`: the column to predict, by name or number (default: none): its numbers are y
-- (N × 1), its texts become labels (int32, N, from 1) of `classes`, sorted; `classes`: true makes labels of numbers
-- too, a list or a number says that they are labels from 1 already; `columns`: names or numbers (default: all but the
-- target); `header`: whether the first line has names (default: when none of its fields is a number); `separator`
-- (","); `missing`: the number that stands for an empty field (default: an error); `name`
-- @treturn table set
-- @raise naming file, line and column of what is no number
function data.csv(given)
  return attempt("data.csv", csv.read, options.check("data.csv", given, csv.options))
end

--- A set by its name, as `--data` takes it.
-- @tparam string name "cifar10", "mnist", "fashion-mnist", "folder:PATH", "text" or "text:FILE" (data.text), or "auto":
-- CIFAR-10 where it is found, else Fashion-MNIST; the set's note says which it is and how to get the other
-- @tparam table given `split` (default "train"), `dir`, `samples`, `seed`; `context` (of a text: default 64)
-- @treturn table set
function data.open(name, given)
  if type(name) ~= "string" then
    error(("data.open: the name of a set expected, got %s"):format(type(name)), 2)
  end
  return attempt("data.open", sources.open, name, options.check("data.open", given, OPEN_OPTIONS))
end

--- A set of one's own tensors.
-- @tparam table given `x`: reals (N, …), or uint8 images (N, H, W) or (N, C, H, W); `y`: labels (int32, from 1) or
-- reals, N first, or nil; `classes`: list of names, or their number, that labels are checked against; `name`;
-- `allow_nan = true` takes values that are not finite, which are errors otherwise
-- @treturn table set with `x`, `y` (uint8 images: `images`, `labels`)
function data.tensors(given)
  return attempt("data.tensors", set.tensors, options.check("data.tensors", given, {
    x = options.required, y = options.none, classes = options.none, name = "tensors", allow_nan = false,
  }))
end

--- A set of one's own making: rows that a function gives when they are wanted (files, simulations). It is called on the
-- script's own thread; shuffling, augmentation and normalisation are the loader's as of any other set.
--
--    data.set { size = 1000, get = function(i) return image_of(i), label_of(i) end }
--
-- @tparam table given `size`: the number of rows; `get = function(i)`, which gives x (a tensor, or a list of numbers)
-- and y (a whole number: a label from 1; a number, a list, a tensor; or nil) of row i, alike in all rows; `labels`
-- (int32 (size), where rows are drawn `balanced`); `classes`; `name`
-- @treturn table set
function data.set(given)
  return attempt("data.set", source.new, options.check("data.set", given, {
    size = options.required, get = options.required, labels = options.none, classes = options.none, name = "set",
  }))
end

--- Holds out parts of a set. All parts have the mean of the first.
-- @tparam table whole set
-- @tparam number part what is held out: a share below 1, or a number of rows; a list of such for several parts
-- @tparam[opt=1] integer seed of the shuffle that chooses
-- @treturn table set what is left for training
-- @treturn table set what is held out; and so on
function data.split(whole, part, seed)
  return attempt("data.split", set.split, whole, part, seed)
end

--- Batches of a set, converted to reals and made ready ahead by a thread of its own.
--
--    for batch in data.loader(set, { batch = 250, shuffle = true }) do … end
--
-- `batch.x` is (value − mean) / scale, with bytes first taken to [0, 1]; `batch.y` the labels or `y`; `batch.index`
-- the rows' numbers in the set (int32); `batch.number` counts from 1. A loader that is kept can be iterated again:
-- every time is a new epoch, with an order of its own that depends on the seed and the number of the epoch alone.
-- `#loader` and `loader.batches`: batches in an epoch. `loader.epochs`: epochs begun; may be set, to go on where
-- another run ended; `state_dict` and `load_state_dict` do that within an epoch. `for batch in loader:epoch() do`
-- allows several at once.
-- The set's tensors must not be written to meanwhile.
-- @tparam table from set, or a table with `images` and `labels`, or `x` and `y`
-- @tparam table given `batch` (100), `shuffle` (false), `drop_last` (false: the last batch may be smaller), `flatten`
-- (false; true: x is batch × features), `center` (true: subtracts the mean, where the set has one), `mean` (instead
-- of the set's: a list, or a set to take it from), `scale` (1; or a list, one for each channel: the deviations); of
-- images, in the loader's thread, `crop` (moves each by up to so many pixels, filled with 0), `flip` (false; true:
-- mirrors half of them), `rotate` (turns each by up to so many degrees), `erase` (the probability that a rectangle of
-- it becomes 0: Zhong et al., AAAI 2020); `transform` (a function that changes a batch, or gives another, as it is
-- handed out); `weights` (a list: rows are drawn by their weights, with replacement, as many as the set has),
-- `balanced` (false; true: all classes are drawn equally often); `batches` (of a text's random windows that make an
-- epoch; default: as many as hold the text once), `seed` (drawn from gls.seed's generator), `prefetch` (true)
-- @return loader (and what a generic for needs to stop it at a break)
function data.loader(from, given)
  return attempt("data.loader", loader.new, from, options.check("data.loader", given, loader.options))
end

return require("gls.strict").module("data", data)
