-- Figures: what a reader of them sees is checked in the SVG's text, and that a failure keeps the data.
local plot = require "gls.plot"

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "a"
  file:close()
  return text
end

describe("a list with a hole", function()
  it("is refused, not drawn shorter", function()
    local one = { name = "a", x = { 1 }, y = { 1 } }
    assert.error_matches(function() require("gls.plot").lines { series = { one, nil, one }, print = false } end,
      "plot.lines: series: entry 2 of the list is nil")
    assert.error_matches(function()
      require("gls.plot").heat { columns = { "a", nil, "c" }, rows = {}, values = {}, file = "x.svg" }
    end, "plot.heat: columns: entry 2")
    assert.error_matches(function() require("gls.experiment").grid { damping = { 1, nil, 3 } } end,
      "experiment.grid: damping: entry 2")
  end)
end)

describe("plot.lines", function()
  local directory
  before_each(function()
    directory = os.tmpname()
    os.remove(directory)
    assert(os.execute("mkdir '" .. directory .. "'"))
  end)
  after_each(function() os.execute("rm -r '" .. directory .. "'") end)

  local series = {
    { name = "adam", x = { 1, 2, 3 }, y = { 1, 0.1, 0.01 }, low = { 0.9, 0.08, 0.005 }, high = { 1.1, 0.2, 0.02 } },
    { name = "gls", x = { 1, 2, 3 }, y = { 0.5, 1e-3, 1e-5 } },
    { name = "gls", x = { 1, 2, 3 }, y = { 0.6, 0.5, 0.7 }, dashed = true },
  }

  it("writes an SVG with title, axes and each solid line's name once, in its colour", function()
    local file = plot.lines {
      title = "Loss & co. it's", x = "epoch", y = "cross-entropy", log = "y", series = series,
      file = directory .. "/figure.svg",
    }
    local text = read(file)
    assert.truthy(text:find("Loss &amp; co. it's", 1, true))
    assert.truthy(text:find("cross-entropy", 1, true))
    local _, names = text:gsub(">gls<", "")
    assert.equal(1, names)
    assert.truthy(text:find(plot.colors.adam:lower(), 1, true) or text:find(plot.colors.adam, 1, true)
      or text:find("rgb%(%s*0,%s*114,%s*178%)"))
    assert.truthy(text:find "dasharray")
    assert.is_nil(io.open(directory .. "/figure.gnuplot"))
  end)

  it("writes a PNG", function()
    local file = plot.lines { series = series, log = "y", file = directory .. "/figure.png" }
    assert.equal("\137PNG", read(file):sub(1, 4))
  end)

  it("draws in characters", function()
    local text = plot.lines { title = "sketch", series = series, log = "y", print = false, columns = 70, rows = 20 }
    assert.truthy(text:find("sketch", 1, true))
    assert.truthy(text:find("adam", 1, true))
  end)

  it("leaves out what cannot be drawn, and says when nothing is left", function()
    plot.lines {
      log = "y", file = directory .. "/holes.svg",
      series = { { name = "a", x = { 1, 2, 3, 4 }, y = { 1, 0 / 0, -1, 1 / 0 } } },
    }
    assert.error_matches(function()
      plot.lines { log = "y", file = directory .. "/none.svg", series = { { name = "a", x = { 1 }, y = { 0 } } } }
    end, "no series has a point")
  end)

  it("names a wrong option and a wrong kind of file", function()
    assert.error_matches(function() plot.lines { titel = "x", series = series } end, 'did you mean "title"')
    assert.error_matches(function() plot.lines { series = series, file = "a.gif" } end, "%.svg or %.png")
  end)

  it("keeps the data and names the package when gnuplot is missing", function()
    local script = ([[
      package.path = %q
      local plot = require "gls.plot"
      local good, message = pcall(plot.lines, {
        series = { { name = "a", x = { 1, 2 }, y = { 3, 4 } } }, file = %q })
      io.write(tostring(good), message)
    ]]):format(package.path, directory .. "/figure.svg")
    local path = directory .. "/script.lua"
    local file = assert(io.open(path, "w"))
    file:write(script)
    file:close()
    -- A PATH with nothing in it but sh, which Lua's own os.execute finds by its absolute name.
    local pipe = assert(io.popen("PATH=/nonexistent /usr/bin/lua5.4 '" .. path .. "'"))
    local output = pipe:read "a"
    pipe:close()
    assert.truthy(output:find("^false"))
    assert.truthy(output:find("gnuplot%-nox"))
    assert.truthy(output:find(directory .. "/figure.gnuplot", 1, true))
    assert.truthy(read(directory .. "/figure.gnuplot"):find("1 3 3 3", 1, true))
  end)
end)

describe("a figure", function()
  it("that gnuplot could not write to its end leaves the older one", function()
    local directory = os.tmpname()
    os.remove(directory)
    assert(os.execute("mkdir '" .. directory .. "'"))
    local function write(name, text)
      local file = assert(io.open(directory .. "/" .. name, "w"))
      file:write(text)
      file:close()
    end
    -- As on a full disk: the picture is cut, and nothing is said.
    write("gnuplot", "#!/bin/sh\ncat \"$1\" >/dev/null\nprintf '<svg>half' >'" .. directory .. "/figure.svg.new'\n")
    assert(os.execute("chmod +x '" .. directory .. "/gnuplot'"))
    write("figure.svg", "older")
    write("script.lua", ([[
      package.path = %q
      local plot = require "gls.plot"
      print(pcall(plot.lines, { file = %q, series = { { name = "a", x = { 1, 2 }, y = { 1, 2 } } } }))
    ]]):format(package.path, directory .. "/figure.svg"))
    local pipe = assert(io.popen(("PATH='%s':$PATH lua5.4 '%s/script.lua'"):format(directory, directory)))
    local output = pipe:read "a"
    pipe:close()
    assert.truthy(output:find("^false"), output)
    assert.truthy(output:find("not written to its end", 1, true), output)
    assert.equal("older", read(directory .. "/figure.svg"))
    assert.is_nil(io.open(directory .. "/figure.svg.new"))
    os.execute("rm -r '" .. directory .. "'")
  end)

  it("of numbers at the edge of what there is comes to an end", function()
    local file = os.tmpname() .. ".svg"
    plot.lines { log = "y", file = file, series = { { name = "a", x = { 1, 2 }, y = { 1e-300, 1e300 } } } }
    plot.lines { log = "y", file = file, series = { { name = "a", x = { 1, 2 }, y = { 1e300, 1.5e308 } } } }
    os.remove(file)
  end)
end)

describe("plot.heat", function()
  it("leaves cells empty that have no number at all", function()
    local file = os.tmpname() .. ".svg"
    plot.heat { columns = { "a", "b" }, rows = { "c" }, values = { { 0.25, 0 / 0 } }, file = file }
    local text = read(file)
    assert.truthy(text:find(">0.25<", 1, true))
    assert.is_nil(text:find(">diverged<", 1, true))
    os.remove(file)
  end)

  it("writes each cell's number, and a word where there is none", function()
    local file = os.tmpname() .. ".svg"
    plot.heat {
      title = "map", x = "learning rate", y = "damping", columns = { "0.1", "1" }, rows = { "1e-3", "1e-2" },
      values = { { 0.25, 1 / 0 }, { 100, 0.0075 } }, log = true, file = file,
    }
    local text = read(file)
    for _, shown in ipairs { ">0.25<", ">1e+2<", ">0.0075<", ">diverged<", ">learning rate<" } do
      assert.truthy(text:find(shown, 1, true), shown)
    end
    os.remove(file)
  end)

  it("counts rows", function()
    assert.error_matches(function()
      plot.heat { columns = { "a" }, rows = { "b", "c" }, values = { { 1 } }, file = "x.svg" }
    end, "2 names of rows")
  end)
end)
