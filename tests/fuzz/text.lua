-- Text: what only Lua reads (config.json and results.jsonl of an experiment, the JSON in checkpoints), from damaged
-- bytes: read, or refused by an error that names the file. `glsrun tests/fuzz/text.lua SECONDS [SEED]`.
local gls = require "gls"
local files = gls.core.io
local choices = require "gls.experiment.choices"
local json = require "gls.json"
local record = require "gls.experiment.record"

local seconds, seed = tonumber(arg[1]) or 10, tonumber(arg[2]) or os.time()
math.randomseed(seed)

local folder = os.tmpname()
os.remove(folder)
-- In memory where that is possible: a disk is a hundred times slower.
if files.kind "/dev/shm" == "folder" then folder = folder:gsub("^.*/", "/dev/shm/gls-") end
files.make_folders(folder)

local CONFIG = record.encode {
  experiment = "mlp", data = { name = "cifar10", fingerprint = "01234567" }, versions = { glsrun = "0.1" },
  options = {
    data = "auto", epochs = 10, batch = 100, seeds = { 1, 2 }, optimizers = { "adam", "gls" }, threads = 2,
    lr = { { name = "adam", values = { 1e-3, 1e-2 } } }, set = { { name = "gls", values = { damping = 0.01 } } },
    seconds = 1.5, all_seeds = false, choices = { model = "mlp" },
  },
}
local ROW = record.encode {
  experiment = "mlp", optimizer = "adam", settings = { learning_rate = 1e-3 }, seed = 1, epoch = 1, step = 10,
  seconds = 0.5, train_loss = 2.3, valid_loss = 2.4, valid_accuracy = 0.1, status = "running", peak_bytes = 1 << 20,
} .. "\n"

-- Texts that parsers stumble over.
local PIECES = {
  "null", "[]", "{}", "1e999", "-1e999", "NaN", "0x1p3", "9007199254740993", '"\\ud800"', '"\\u0000"', "\0", "\xff",
  "\n",
  ("["):rep(2000), '{"a":', "true", '""', "-0", "1.5",
  ",", '"optimizer":',
}

local function damage(text)
  for _ = 1, math.random(4) do
    local at, to = math.random(#text + 1), math.random(#text + 1)
    if at > to then at, to = to, at end
    local kind = math.random(5)
    if kind == 1 then text = text:sub(1, at - 1) .. string.char(math.random(0, 255)) .. text:sub(at + 1)
    elseif kind == 2 then text = text:sub(1, at - 1) .. text:sub(to)
    elseif kind == 3 then text = text:sub(1, to) .. text:sub(at)
    elseif kind == 4 then text = text:sub(1, at - 1) .. PIECES[math.random(#PIECES)] .. text:sub(at)
    else text = text:gsub("%f[%w.][%w.+-]+", function(word)
      if math.random(8) == 1 then return PIECES[math.random(#PIECES)] end
      return word
    end)
    end
    text = text:sub(1, 1 << 16)
  end
  return text
end

-- A checkpoint whose header and the value in it are damaged, the lengths and checksums being right.
gls.save(folder .. "/good", {
  weight = gls.rand(2, 3), labels = gls.tensor({ 1, 2 }, { type = "int32" }), step = 3, [1] = "x", odd = "\xff",
  list = { 1.5, "x", { true } }, nothing = 0 / 0,
})
local CHECKPOINT = (function()
  local file = assert(io.open(folder .. "/good", "rb"))
  local text = file:read "a"
  file:close()
  return text
end)()

local function damage_checkpoint(text)
  local header = text:sub(9, 8 + string.unpack("<I8", text))
  local elements = text:sub(9 + #header)
  if math.random(2) == 1 then
    local entries = json.decode(header)
    local metadata = entries.__metadata__
    entries.__metadata__ = nil
    metadata.value = damage(metadata.value)
    if utf8.len(metadata.value) then
      metadata.crc32 = ("%08x"):format(files.crc32(json.encode(entries) .. metadata.value)) .. metadata.crc32:sub(9)
      entries.__metadata__ = metadata
      header = json.encode(entries)
    end
  else
    header = damage(header)
  end
  return string.pack("<s8", header) .. elements
end

local readers = {
  { file = "checkpoint", text = CHECKPOINT, damage = damage_checkpoint,
    read = function() return gls.load(folder .. "/checkpoint") end },
  { file = "config.json", text = CONFIG, read = function() return choices.recorded("mlp", folder) end },
  { file = "results.jsonl", text = ROW:rep(3), read = function() return record.rows(folder .. "/results.jsonl") end },
}

local finish, failed = os.time() + seconds, false
while os.time() < finish and not failed do
  for _, reader in ipairs(readers) do
    local path = folder .. "/" .. reader.file
    local file = assert(io.open(path, "wb"))
    local text = (reader.damage or damage)(reader.text)
    file:write(text)
    file:close()
    local good, problem = pcall(reader.read)
    reader.inputs, reader.taken = (reader.inputs or 0) + 1, (reader.taken or 0) + (good and 1 or 0)
    problem = tostring(problem)
    if not good and not problem:find(folder, 1, true) then
      print(("fuzz: %s FAILED (seed %d): %s\n%q"):format(reader.file, seed, problem, text))
      failed = true
    end
  end
end
os.execute("rm -rf '" .. folder .. "'")
for _, reader in ipairs(readers) do
  if not failed then
    print(("fuzz: %s passed (%d inputs, %d read)"):format(reader.file, reader.inputs, reader.taken))
  end
end
os.exit(not failed)
