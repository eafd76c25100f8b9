-- Figures: what a reader of them sees is checked in the SVG's text, and that a failure keeps the data.
local plot = require "gls.plot"
local glsrun = os.getenv "GLSRUN" or "build/glsrun"
local read = require("tests.lua.scratch").read_at

describe("a list with a hole", function()
  it("is refused, not drawn shorter", function()
    local one = { name = "a", x = { 1 }, y = { 1 } }
    assert.error_matches(function() require("gls.plot").lines({ one, nil, one }, { print = false }) end,
      "plot.lines: entry 2 of the list is nil")
    assert.error_matches(function()
      require("gls.plot").heat({ { 1, 2, 3 } }, { columns = { "a", nil, "c" }, file = "x.svg" })
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
    local file = plot.lines(series, {
      title = "Loss & co. it's", x = "epoch", y = "cross-entropy", log = "y", file = directory .. "/figure.svg",
    })
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
    local file = plot.lines(series, { log = "y", file = directory .. "/figure.png" })
    assert.equal("\137PNG", read(file):sub(1, 4))
  end)

  it("draws in characters", function()
    local text = plot.lines(series, { title = "sketch", log = "y", print = false, size = { 70, 20 } })
    assert.truthy(text:find("sketch", 1, true))
    assert.truthy(text:find("adam", 1, true))
  end)

  it("leaves out what cannot be drawn, and says when nothing is left", function()
    plot.lines({ name = "a", x = { 1, 2, 3, 4 }, y = { 1, 0 / 0, -1, 1 / 0 } },
      { log = "y", file = directory .. "/holes.svg" })
    assert.error_matches(function()
      plot.lines({ name = "a", x = { 1 }, y = { 0 } }, { log = "y", file = directory .. "/none.svg" })
    end, "no series has a point")
  end)

  it("names a wrong option and a wrong kind of file", function()
    assert.error_matches(function() plot.lines(series, { titel = "x" }) end, 'did you mean "title"')
    assert.error_matches(function() plot.lines(series, { file = "a.gif" }) end, "%.svg, %.png or %.pdf")
  end)

  it("keeps the data and names the package when gnuplot is missing", function()
    local script = ([[
      package.path = %q
      local plot = require "gls.plot"
      local good, message = pcall(plot.lines, { name = "a", x = { 1, 2 }, y = { 3, 4 } }, { file = %q })
      io.write(tostring(good), message)
    ]]):format(package.path, directory .. "/figure.svg")
    local path = directory .. "/script.lua"
    local file = assert(io.open(path, "w"))
    file:write(script)
    file:close()
    -- A PATH with nothing in it but sh, which Lua's own os.execute finds by its absolute name.
    local pipe = assert(io.popen("unset LD_PRELOAD; PATH=/nonexistent '" .. glsrun .. "' '" .. path .. "'"))
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
      print(pcall(plot.lines, { 1, 2 }, { file = %q }))
    ]]):format(package.path, directory .. "/figure.svg"))
    local pipe = assert(io.popen(("unset LD_PRELOAD; PATH='%s':$PATH '%s' '%s/script.lua'"):format(directory,
      glsrun, directory)))
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
    plot.lines({ 1e-300, 1e300 }, { log = "y", file = file })
    plot.lines({ 1e300, 1.5e308 }, { log = "y", file = file })
    os.remove(file)
  end)
end)

describe("plot.heat", function()
  it("leaves cells empty that have no number at all", function()
    local file = os.tmpname() .. ".svg"
    plot.heat({ { 0.25, 0 / 0 } }, { columns = { "a", "b" }, rows = { "c" }, file = file })
    local text = read(file)
    assert.truthy(text:find(">0.25<", 1, true))
    assert.is_nil(text:find(">diverged<", 1, true))
    os.remove(file)
  end)

  it("writes each cell's number, and a word where there is none", function()
    local file = os.tmpname() .. ".svg"
    plot.heat({ { 0.25, 1 / 0 }, { 100, 0.0075 } }, {
      title = "map", x = "learning rate", y = "damping", columns = { "0.1", "1" }, rows = { "1e-3", "1e-2" },
      log = true, file = file,
    })
    local text = read(file)
    for _, shown in ipairs { ">0.25<", ">1e+2<", ">0.0075<", ">diverged<", ">learning rate<" } do
      assert.truthy(text:find(shown, 1, true), shown)
    end
    os.remove(file)
  end)

  it("counts rows", function()
    assert.error_matches(function()
      plot.heat({ { 1 } }, { columns = { "a" }, rows = { "b", "c" }, file = "x.svg" })
    end, "2 names of rows")
  end)
end)

describe("what is drawn", function()
  local gls = require "gls"
  local function text(kind, data, settings)
    settings = settings or {}
    settings.print = false
    return plot[kind](data, settings)
  end

  it("may be a tensor or a list, with or without x, one series or several", function()
    local size = { 60, 12 }
    local plain = text("lines", { 1, 2, 4 }, { size = size })
    assert.equal(plain, text("lines", gls.tensor { 1, 2, 4 }, { size = size }))
    assert.equal(plain, text("lines", { x = { 1, 2, 3 }, y = gls.tensor { 1, 2, 4 } }, { size = size }))
    assert.not_equal(plain, text("lines", { x = { 1, 2, 9 }, y = { 1, 2, 4 } }, { size = size }))
    local two = text("lines", { b = { 1, 2 }, a = { 3, 4 } }, { size = size })
    assert.equal(two, text("lines", { { name = "a", y = { 3, 4 } }, { name = "b", y = { 1, 2 } } }, { size = size }))
    local columns = text("lines", gls.tensor { { 3, 1 }, { 4, 2 } }, { size = size })
    assert.equal((two:gsub("a", "1"):gsub("b", "2")), (columns:gsub("a", "1")))
  end)

  it("names what it cannot draw", function()
    assert.error_matches(function() plot.lines "x" end, "plot.lines: a tensor, a list of numbers")
    assert.error_matches(function() plot.lines({ x = gls.ones(2), y = gls.ones(3) }) end, "x has 2 numbers, y has 3")
    assert.error_matches(function() plot.scatter(gls.ones(2, 3)) end, "points are %(n×2%), got 3 columns")
    assert.error_matches(function() plot.bars({ 1, 2 }, { names = { "a" } }) end, "1 names for 2 bars")
    assert.error_matches(function() plot.histogram { 0 / 0 } end, "no finite number")
    assert.error_matches(function() plot.image(gls.ones(2, 5, 5, 5)) end, "images are .* got %(2×5×5×5%)")
    assert.error_matches(function() plot.image(gls.ones(4, 4) * (0 / 0)) end, "16 values are NaN")
    assert.error_matches(function() plot.panels { { "line", { 1 } } } end, 'did you mean "lines"')
    assert.error_matches(function() plot.live "bar" end, 'did you mean "bars"')
    assert.error_matches(function() plot.lines({ 1, 2 }, { log = "z" }) end, '"x", "y" or "xy" expected, got z')
  end)

  it("counts in histograms: every value once, both ends included, and tells what is left out", function()
    local drawn = text("histogram", { 0, 0.5, 1, 1, 1.5, 2, 0 / 0, 1 / 0 }, { bins = 2 })
    local counts = {}
    for count in drawn:gmatch "(%d+)\n" do counts[#counts + 1] = tonumber(count) end
    assert.same({ 2, 4 }, counts) -- [0, 1) and [1, 2]
    assert.matches("left out: 1 NaN, 1 infinite", drawn)
  end)

  it("has bars in proportion", function()
    local drawn = text("bars", { a = 1, b = 0.5 }, { size = { 41, 10 } })
    local long, short = drawn:match "a ([^ ]*) 1\n", drawn:match "b ([^ ]*) 0.5\n"
    assert.equal(#long, 2 * #short)
  end)

  it("is one file in SVG, PNG and PDF", function()
    local directory = os.tmpname()
    os.remove(directory)
    assert(os.execute("mkdir '" .. directory .. "'"))
    local images = gls.rand(6, 3, 8, 8)
    for extension, start in pairs { svg = "<%?xml", png = "\137PNG", pdf = "%%PDF" } do
      local path = directory .. "/figure." .. extension
      assert.equal(path, plot.panels({
        { "lines", gls.rand(5), { title = "first" } }, { "scatter", gls.rand(9, 2), { labels = gls.randint(1, 2, 9) } },
        { "histogram", gls.randn(99) }, { "bars", { 1, -2 }, { names = { "a", "b" } } },
        { "heat", gls.rand(30, 40) }, { "image", images },
      }, { title = "six", file = path }))
      assert.matches("^" .. start, read(path))
      if extension == "svg" then
        assert.matches(">first<", read(path))
        assert.matches(">six<", read(path))
        local _, pictures = read(path):gsub("<image", "")
        assert.equal(2, pictures)
      end
    end
    local pipe = io.popen("ls '" .. directory .. "'") -- nothing else is left
    assert.equal("figure.pdf\nfigure.png\nfigure.svg\n", pipe:read "a")
    pipe:close()
    os.execute("rm -r '" .. directory .. "'")
  end)

  it("is redrawn live in a file, the last data at the end", function()
    local path = os.tmpname() .. ".svg"
    do
      local live <close> = plot.live("lines", { file = path }, 1000)
      live:draw { { name = "one", y = { 1, 2 } } }
      assert.matches(">one<", read(path))
      live:draw { { name = "two", y = { 1, 2 } } }
      assert.matches(">one<", read(path))
    end
    assert.matches(">two<", read(path))
    os.remove(path)
  end)
end)

describe("a picture in the terminal", function()
  local gls, picture = require "gls", require "gls.plot.picture"
  local path = os.tmpname()
  -- 2×3 pixels: red green blue / white black grey
  local pixels = gls.tensor { { { 255, 0, 0 }, { 255, 0, 128 } }, { { 0, 255, 0 }, { 255, 0, 128 } },
    { { 0, 0, 255 }, { 255, 0, 128 } } }
  setup(function() gls.save_image(path, pixels / 255) end)
  teardown(function() os.remove(path) end)

  it("has two pixels a character as half blocks", function()
    local text = picture.of(path, 80, 24, "blocks")
    local colors = {}
    for upper, lower in text:gmatch "\27%[38;2;([%d;]+);48;2;([%d;]+)m▀" do
      colors[#colors + 1] = upper .. "/" .. lower
    end
    assert.same({ "255;0;0/255;255;255", "0;255;0/0;0;0", "0;0;255/128;128;128" }, colors)
  end)

  -- Decoded as DEC STD 070 has it: colours by number, bits of a character from the top, ! repeats, $ goes back, - down.
  it("can be read back from sixels", function()
    local text = picture.of(path, 1, 1, "sixel") -- 8×16 pixels of room: each pixel twice as large
    local width, height, body = text:match '^\27Pq"1;1;(%d+);(%d+)(.*)\27\\\n$'
    assert.same({ "6", "4" }, { width, height })
    local colors, screen, color, x, top = {}, {}, nil, 0, 0
    body = body:gsub("#(%d+);2;(%d+);(%d+);(%d+)", function(n, r, g, b)
      colors[n] = ("%s,%s,%s"):format(r, g, b)
      return ""
    end)
    while body ~= "" do
      local number, rest = body:match "^#(%d+)(.*)$"
      local count, char, after = body:match "^!(%d+)(.)(.*)$"
      if number then
        color, body = colors[number], rest
      elseif body:find "^%$" then
        x, body = 0, body:sub(2)
      elseif body:find "^%-" then
        x, top, body = 0, top + 6, body:sub(2)
      else
        if not count then count, char, after = 1, body:sub(1, 1), body:sub(2) end
        for _ = 1, tonumber(count) do
          for bit = 0, 5 do
            if char:byte() - 63 & 1 << bit ~= 0 then screen[(top + bit) * 6 + x] = color end
          end
          x = x + 1
        end
        body = after
      end
    end
    local expected = { "100,0,0", "0,100,0", "0,0,100", "100,100,100", "0,0,0", "50,50,50" }
    for row = 0, 3 do
      for column = 0, 5 do
        local wanted = expected[(row // 2) * 3 + column // 2 + 1]
        assert.equal(wanted, screen[row * 6 + column], ("row %d, column %d"):format(row, column))
      end
    end
  end)

  it("is the PNG file itself for kitty, in base64", function()
    local text = picture.of(path, 1, 1, "kitty")
    local data = text:match "^\27_Ga=T,f=100,m=0;([%w+/=]+)\27\\\n$"
    assert.is_truthy(data)
    local copy = os.tmpname()
    local pipe = assert(io.popen("base64 -d > '" .. copy .. "'", "w"))
    pipe:write(data)
    pipe:close()
    local back = gls.load_image(copy)
    os.remove(copy)
    assert.same({ 3, 4, 6 }, back.shape)
    assert.equal(0, (back:float()[{ {}, { 1, 4, 2 }, { 1, 6, 2 } }] - pixels):abs():max():item())
  end)

  it("is plain characters over a pipe", function()
    assert.equal("not\n", picture.of(path, 80, 24, "text"):gsub("[^\n]+", "not"))
    assert.not_matches("[\27\128-\255]", picture.of(path, 80, 24, "text"))
  end)
end)
