-- The documents: their links lead somewhere, their examples run, their commands are what the scripts understand.
-- GLSRUN names the program to try.
local scratch = require "tests.lua.scratch"
local glsrun = os.getenv "GLSRUN" or "build/glsrun"

local quote, shell, read = scratch.quote, scratch.shell, scratch.read_at

local function exists(path)
  local file <close> = io.open(path)
  return file ~= nil
end

local pages = {}
for path in shell "find . -name '*.md' -not -path './build/*' -not -path './runs/*' | sort":gmatch "%./([^\n]+)" do
  pages[#pages + 1] = path
end

-- The page without its blocks of code, and the blocks: a list of { language =, text = }.
local function take_apart(text)
  local blocks = {}
  local prose = ("\n" .. text):gsub("\n```(%l*)\n(.-)\n```", function(language, code)
    blocks[#blocks + 1] = { language = language, text = code .. "\n" }
    return "\n"
  end)
  return prose, blocks
end

-- A heading's name in a link, as GitHub makes it.
local function anchor(heading)
  local plain = heading:gsub("%[([^%]]*)%]%b()", "%1")
  return (plain:lower():gsub("[%p]", function(c) return c:find "[-_]" and c or "" end):gsub(" ", "-"))
end

local function anchors(text)
  local known = {}
  for heading in take_apart(text):gmatch "\n#+ ([^\n]+)" do known[anchor(heading)] = true end
  return known
end

describe("the links of", function()
  for _, path in ipairs(pages) do
    it(path .. " lead somewhere", function()
      local text = read(path)
      local folder = path:match "^(.*/)[^/]*$" or ""
      for target in take_apart(text):gsub("`[^`\n]*`", ""):gmatch "%]%(([^)%s]+)%)" do
        if not target:find "^%l+:" then
          local file, part = target:match "^([^#]*)#?(.*)$"
          local place = file == "" and path or folder .. file
          assert(exists(place), ("%s: there is no %s"):format(path, target))
          assert(part == "" or anchors(read(place))[part], ("%s: no heading for %s"):format(path, target))
        end
      end
    end)
  end

  it("the documents name every figure that is kept", function()
    local all = {}
    for _, path in ipairs(pages) do all[#all + 1] = read(path) end
    all = table.concat(all)
    for figure in shell "find experiments tests -name '*.svg' -o -name '*.png'":gmatch "/(figures/[^\n]+)" do
      assert(all:find(figure, 1, true), figure .. " is in no document")
    end
  end)
end)

describe("the examples of", function()
  scratch.each(setup, teardown)

  -- A page's blocks are one script, read from top to bottom: an example may use what those above it have made.
  -- CONTRIBUTING.md's are carried out by contributing_spec.lua.
  for _, path in ipairs(pages) do
    local parts = {}
    local _, blocks = take_apart(read(path))
    for _, block in ipairs(blocks) do
      if block.language == "lua" then parts[#parts + 1] = block.text end
    end
    if #parts > 0 and path ~= "CONTRIBUTING.md" then
      it(path .. " run", function()
        local script = scratch.write(path:gsub("/", "_") .. ".lua", table.concat(parts, "\n"))
        local program = quote(glsrun:find "^/" and glsrun or os.getenv "PWD" .. "/" .. glsrun)
        local output, code = shell(("cd %s && OMP_NUM_THREADS=2 timeout 120 %s %s"):format(
          quote(scratch.folder()), program, quote(script)))
        assert(code == 0, output)
      end)
    end
  end
end)

describe("the commands of", function()
  local targets = {}
  for names in read "Makefile":gmatch "\n([%l ]+):[^=]" do
    for name in names:gmatch "%l+" do targets[name] = true end
  end
  local help = {}
  local function options_of(script)
    if not help[script] then
      help[script] = script == "tests/bench/run" and shell "lua5.4 tests/bench/run --help"
        or shell(quote(glsrun) .. " " .. script .. " --help")
    end
    return help[script]
  end

  -- Everything is checked before data is opened, and in an empty folder there is none.
  local function check_experiment(command, script)
    if command:find "--help" then
      assert(options_of(script):find("Usage", 1, true), script)
      return
    end
    local folder = os.tmpname()
    os.remove(folder)
    local arguments = command:match "^glsrun (.*)$"
    local output, code = shell(("mkdir %s && %s %s --data-dir %s --out %s/out; e=$?; rm -rf %s; [ $e -eq 0 ]"):format(
      folder, quote(glsrun), arguments:gsub(" ?%-%-out [^ ]+", "") .. (arguments:find "--data " and "" or
      " --data cifar10"), folder, folder, folder))
    assert(code ~= 0 and output:find("no CIFAR-10 in", 1, true), command .. ":\n" .. output)
  end

  local function check(path, command)
    for word in command:gmatch "%S+" do
      local script = word:match "^(%l+/[%w/_-]+%.lua)$" or word:match "^(tests/[%w/_-]+)$"
      if script then assert(exists(script), ("%s: %s: there is no %s"):format(path, command, script)) end
    end
    local script = command:match "^glsrun (experiments/[%w_]+%.lua)"
    if script then
      check_experiment(command, script)
    elseif command:find "^tests/bench/run" then
      for option in command:gmatch "%-%-[%l-]+" do
        assert(options_of "tests/bench/run":find(option, 1, true), ("%s: %s: no %s"):format(path, command, option))
      end
    elseif command:find "^make" then
      for word in command:gsub("^make ?", ""):gsub(" &&.*", ""):gmatch "%S+" do
        assert(word:find "=" or word:find "^build/" or targets[word], ("%s: %s: no target %s"):format(path, command,
          word))
      end
    elseif command:find "^%-%-%l" then -- options alone: of an experiment whose command stands near
      for option in command:gmatch "%-%-%l[%l-]*" do
        local known = false
        for _, name in ipairs { "mlp", "autoencoder", "generalization", "stability", "step_size", "compare" } do
          known = known or options_of("experiments/" .. name .. ".lua"):find(option, 1, true) ~= nil
        end
        assert(known or options_of "tests/bench/run":find(option, 1, true), ("%s: %s: no %s"):format(path, command,
          option))
      end
    end
  end

  for _, path in ipairs(pages) do
    it(path .. " are understood", function()
      local prose, blocks = take_apart(read(path))
      for span in prose:gmatch "`([^`\n]+)`" do check(path, span) end
      for _, block in ipairs(blocks) do
        if block.language == "" then
          for line in block.text:gsub(" *\\\n *", " "):gmatch "[^\n]+" do check(path, (line:gsub("%s+#.*$", ""))) end
        end
      end
    end)
  end
end)

describe("runtime/README.md", function()
  local text = read "runtime/README.md"

  it("names functions, fields and files that are there", function()
    local sources = shell "cat $(find runtime -name '*.[ch]')"
    local files = shell "find runtime lua tests -type f" .. "\n"
    for span in take_apart(text):gmatch "`([^`\n]+)`" do
      local file = span:match "^[%l_/]+%.[chlua]+$"
      local word = span:match "^[%l%d]+_[%l%d_]+$" or span:match "^%u+_[%u%d_]+$"
      if file then assert(files:find("/" .. file .. "\n", 1, true) or files:find(file, 1, true), span) end
      if word then assert(sources:find("%f[%w_]" .. word .. "%f[^%w_]"), span .. " is nowhere in runtime/") end
    end
  end)
end)

describe("lua/README.md", function()
  local text = read "lua/README.md"
  local places = {
    gls = require "gls", nn = require "gls.nn", optim = require "gls.optim", data = require "gls.data",
    train = require "gls.train", plot = require "gls.plot",
  }

  it("names functions, layers and optimizers that are there", function()
    for span in take_apart(text):gmatch "`([^`\n]+)`" do
      local place, name = span:match "^(%l+)%.([%a_][%w_]*)"
      if places[place] then assert.is_not_nil(rawget(places[place], name) or places[place][name], span) end
      if span:find "^%u%l+%w*$" or span:find "^%u%u%u+$" and span ~= "LICENSE" then
        assert(rawget(places.nn, span) or rawget(places.optim, span) or os.getenv(span) or span == "GLS", span)
      end
    end
  end)
end)

describe("README.md", function()
  it("is a page: at most 150 lines", function()
    local _, lines = read "README.md":gsub("\n", "\n")
    assert(lines <= 150, lines .. " lines")
  end)
end)
