-- The recipes of CONTRIBUTING.md, carried out word for word in a copy of the tree: its files are made, its rows put in
-- where it says, the copy is built (only what changed) and its examples are run.
local scratch = require "tests.lua.scratch"
local build = (os.getenv "GLSRUN" or "build/glsrun"):match "^(.*)/[^/]*$"

local quote, shell, read, write = scratch.quote, scratch.shell, scratch.read_at, scratch.write_at

-- The sections of the page, each with its steps in order: { what = "new file"|"before"|"run", path =, mark =, code = }.
local function recipes()
  local sections = {}
  local section
  local text = read "CONTRIBUTING.md"
  local position = 1
  while true do
    local from, to = text:find("[^\n]*\n?", position)
    if not from or to < from then break end
    local line = text:sub(from, to):gsub("\n$", "")
    local title, remark = line:match "^## (.*)$", line:match "^<!%-%- (.*) %-%->$"
    position = to + 1
    if title then
      section = { title = title }
      sections[title] = section
    elseif remark then
      local _, finish, code = text:find("^```%l+\n(.-\n)```\n", position)
      assert(code, "no code block follows " .. line)
      position = finish + 1
      local file, mark = remark:match "^in (%S+), before: (.*)$"
      local new_file = remark:match "^new file: (%S+)$"
      if file then
        section[#section + 1] = { what = "before", path = file, mark = mark, code = code }
      elseif new_file then
        section[#section + 1] = { what = "new file", path = new_file, code = code }
      else
        assert(remark == "run with glsrun", "unknown remark: " .. remark)
        section[#section + 1] = { what = "run", code = code }
      end
    end
  end
  return sections
end

describe("the page CONTRIBUTING.md", function()
  local copy, sections

  -- Puts the code before the line that holds the mark, which is there once.
  local function insert(path, mark, code)
    local text = read(path)
    local from = assert(text:find(mark, 1, true), path .. " has no line with " .. mark)
    assert.is_nil(text:find(mark, from + 1, true), path .. " has several lines with " .. mark)
    while from > 1 and text:sub(from - 1, from - 1) ~= "\n" do from = from - 1 end
    write(path, text:sub(1, from - 1) .. code .. text:sub(from))
  end

  local function carry_out(section)
    local files, runs = {}, 0
    for _, step in ipairs(section) do
      local path = step.path and copy .. "/" .. step.path
      if step.what == "new file" then
        assert.is_nil(io.open(path), step.path .. " is there already")
        write(path, step.code)
      elseif step.what == "before" then
        insert(path, step.mark, step.code)
      else
        runs = runs + 1
        if runs == 1 then
          local output, code = shell("cd " .. quote(copy) .. " && " .. section.make)
          assert(code == 0, output)
        end
        write(copy .. "/example.lua", step.code)
        local output, code = shell(quote(copy .. "/build/glsrun") .. " " .. quote(copy .. "/example.lua"))
        assert(code == 0, output)
        section.output = output
      end
      if step.path then files[step.path] = true end
    end
    assert.is_true(runs > 0)
    return files
  end

  local function count(set)
    local number = 0
    for _ in pairs(set) do number = number + 1 end
    return number
  end

  setup(function()
    copy = os.tmpname()
    os.remove(copy)
    -- Objects with their times, so that only what the recipe touches is built anew.
    local output, code = shell(("mkdir -p %s/build && cp -a runtime lua tests Makefile %s && cd %s && cp -a flags "
      .. "objects double %s/build"):format(quote(copy), quote(copy), quote(build), quote(copy)))
    assert(code == 0, output)
    sections = recipes()
  end)
  teardown(function() os.execute("rm -rf " .. quote(copy)) end)

  it("adds an op in one file, which passes the gradient checks", function()
    local section = sections["An op"]
    section.make = "make BUILD=build build/glsrun build/test-core-double"
    assert.equal(1, count(carry_out(section)))
    assert.matches("softsign", section.output)
    local output, code = shell("cd " .. quote(copy) .. " && build/test-core-double gradients")
    assert(code == 0, output)
  end)

  it("adds a layer in one file and one row", function()
    local section = sections["A layer"]
    section.make = "true"
    assert.equal(2, count(carry_out(section)))
  end)

  it("adds an optimizer in one file and one row", function()
    local section = sections["An optimizer"]
    section.make = "true"
    assert.equal(2, count(carry_out(section)))
  end)
end)
