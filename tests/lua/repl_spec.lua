-- The prompt's Lua side over a pipe: its functions, what is typed beside Lua, and what Tab and Return decide.
local scratch = require "tests.lua.scratch"
local glsrun = os.getenv "GLSRUN" or "build/glsrun"
local quote, write = scratch.quote, scratch.write

describe("the prompt", function()
  local folder
  scratch.each(setup, teardown)
  setup(function()
    folder = scratch.folder()
    assert(os.execute("mkdir " .. quote(folder .. "/glsrun")))
  end)

  -- What a session prints: its input is lines; `environment` goes before the program.
  local function session(lines, environment)
    local input = write("input", lines)
    local pipe = assert(io.popen(("unset LD_PRELOAD; env HOME=%s XDG_CONFIG_HOME=%s %s %s -i < %s 2>&1"):format(
      quote(folder), quote(folder), environment or "", quote(glsrun), quote(input))))
    local text = pipe:read "a"
    pipe:close()
    return (text:gsub("^.-explains a name%.\n", ""))
  end

  it("says what it has, lists names by pattern, and keeps the lines of a command", function()
    local text = session "?\n*max_pool*?\nlines = !echo one; echo two\n#lines, lines[2]\n*nothing_like_it*?\n"
    assert.matches("timeit%(%)", text)
    assert.matches("> max_pool1d\nmax_pool2d\n.*> > 2\ntwo\n", text)
    assert.matches("no name like %*nothing_like_it%*", text)
  end)

  it("runs scripts whose top-level locals stay, with their own arg", function()
    local path = write("script.lua", "#!/usr/bin/env glsrun\nlocal count <const> = 40\nmine = arg[1]\nreturn ...\n")
    local text = session(("run(%q, 'first')\ncount + 2, mine\narg[1]\nrun 'nowhere.lua'\n"):format(path))
    assert.matches("^> first\n> 42\nfirst\n> %-i\n", text)
    assert.matches("run: nowhere%.lua: No such file", text)
  end)

  it("runs a file of the user's own first", function()
    write("glsrun/prompt.lua", "local answer = 42\n")
    local text = session "answer\n"
    os.remove(folder .. "/glsrun/prompt.lua")
    assert.equal("> 42\n> ", text)
  end)

  it("keeps the variables of the calls of an error, innermost first, until the next", function()
    local text = session(table.concat({
      "function inner(a) local b = a * 2; error 'boo' end",
      "function outer(c) inner(c + 1) return c end",
      "outer(20)", "locals(1).a, locals(1).b, locals(2).c", "locals(9)", "locals(1).a",
    }, "\n") .. "\n")
    assert.matches("prompt:1: boo.*> 21\n42\n20\n", text)
    assert.matches("calls 1 to 2", text)
  end)

  it("writes and edits what was typed", function()
    write("editor", "#!/bin/sh\nsed -i s/one/two/ \"$1\"\n")
    os.execute("chmod +x " .. quote(folder .. "/editor"))
    local path = folder .. "/typed.lua"
    local text = session(("x = 'one'\nedit()\nx\nhistory(%q)\n"):format(path),
      "VISUAL= EDITOR=" .. quote(folder .. "/editor"))
    assert.matches("> x = 'two'\n> two\n", text)
    local file = assert(io.open(path))
    assert.matches("^x = 'one'\nedit%(%)\nx = 'two'\nx\n", file:read "a")
    file:close()
  end)

  it("goes on on the next line where an expression or a statement is open, and says what is none", function()
    assert.matches("^> [>. ]*3\n", session "1 +\n2\n")
    assert.matches("^> [>. ]*3\n> *$", session "x = 1; x +\n2\n")
    assert.matches("^> [>. ]*true\n", session "not\nfalse\n")
    assert.matches("^> [>. ]*7\n", session "if true then\nprint(7)\nend\n")
    assert.matches("^> prompt:1: unexpected symbol.*> 2", session "1 + )\n2\n")
  end)

  it("says which entry there is not, and what help is", function()
    local text = session("x = 1\nedit(99)\nhelp\n", "EDITOR=true VISUAL=true")
    assert.matches("edit: there is no entry 99; history%(%) lists them, 1 to 2", text)
    assert.matches("timeit%(%)", text)
  end)

  it("reads a module anew into the table that others hold", function()
    local path = write("part.lua", "return { f = function() return 1 end, old = true }\n")
    local text = session(("package.path = %q .. package.path\np = require 'part'\np.f()\n"
      .. "io.open(%q, 'w'):write('return { f = function() return 2 end }'):close();\n"
      .. "reload 'part' == p, p.f(), p.old\nreload 'never'\n"):format(folder .. "/?.lua;", path))
    assert.matches("> 1\n.*> true\n2\nnil\n", text)
    assert.matches("no loaded module never", text)
  end)

  it("times a function or a text", function()
    local text = session "n = 0; timeit(function() n = n + 1 end)\nn > 1000\ntimeit '1 +'\n"
    assert.matches("^> [%d.]+ %S+ a call: the best of 5 runs of %d+; median", text)
    assert.matches("> true\n", text)
  end)

  it("changes the working directory", function()
    assert.matches("^> /\n> /\n> .*cd: /nowhere/at/all: No such file", session "cd '/'\ncd()\ncd '/nowhere/at/all'\n")
  end)

  it("shows nothing of functions that return nothing, and nothing twice", function()
    local text = session("(function() end)()\nprint 'once'\nplot.bars { a = 1 }\n_ == nil\n"
      .. "show { 1 }\n(function() local t = { 7 } return t, nil, nil, t end)()\n")
    assert.equal(1, select(2, text:gsub("once", "")))
    assert.equal(1, select(2, text:gsub("a [^ ]+ 1\n", "")))
    assert.matches("1\n> true\n> { 1 }\n> { 7 }\n> $", text)
  end)
end)

describe("what is typed", function()
  local chunk = require "gls.repl.chunk"

  it("is indented by what is open, but not inside a string", function()
    for text, spaces in pairs {
      ["x = 1"] = 0, ["for i = 1, 2 do"] = 2, ["while true do if x then"] = 4, ["f({"] = 4,
      ["if x then\n  y = 1\nelse"] = 2, ["repeat"] = 2, ["function f() return { 1 }"] = 2, ["x = [[ for do"] = 0,
      ["if x then end"] = 0, ["-- do\nx = {"] = 2,
    } do
      assert.equal((" "):rep(spaces), chunk.indentation(text), text)
    end
  end)

  it("goes back with what closes a block", function()
    for line, spaces in pairs {
      ["  end"] = 2, ["    end)"] = 2, ["  else"] = 2, ["  elseif x then"] = 2, ["  until x"] = 2, ["  }"] = 2,
      ["  ending = 1"] = 0, ["end"] = 0, ["  x = 1"] = 0, [""] = 0,
    } do
      assert.equal(spaces, chunk.outdent(line), line)
    end
  end)
end)

describe("Tab", function()
  local gls, nn, optim = require "gls", require "gls.nn", require "gls.optim"
  local session = require "gls.repl.session"
  local complete = require "gls.repl.complete"

  setup(function()
    session.environment.gls, session.environment.nn, session.environment.optim = gls, nn, optim
    session.environment.model = nn.Sequential { nn.Linear(2, 3) }
  end)
  teardown(function() _G.gls, _G.nn, _G.optim, _G.model = nil, nil, nil, nil end)

  it("completes what a call gives, as far as it is known without the call", function()
    for typed, rest in pairs {
      ["gls.zeros(3):nume"] = "l", ["gls.zeros(3):t():nume"] = "l", ["x = gls.ones(2).sha"] = "pe",
      ["model(gls.ones(1, 2)):nume"] = "l", ["nn.Linear(2, 3):descr"] = "ibe", ["model[1]:descr"] = "ibe",
      ["model.1.weig"] = "ht", ["model[1].weight:nume"] = "l", ["optim.SGD(model:parameters(), {}):zero"] = "_grad",
      ["require 'gls.number'.group"] = "ed", ["require('gls.number').group"] = "ed", ["('x'):upp"] = "er",
      ["a .. gls.ones(1):nume"] = "l", ["f(gls.ones(1):nume"] = "l",
      ["gls.ones(1):item():nume"] = "", ["nobody(1).x"] = "", ["1.x"] = "", [").x"] = "", ["(:x"] = "",
    } do
      assert.equal(rest, (complete(typed)), typed)
    end
  end)

  it("completes what a call has given that was typed", function()
    session.compile "model:parameters();"()
    assert.equal("mes", (complete "model:parameters().na"))
    assert.equal("mes", (complete "model : parameters ( ).na"))
    assert.equal("l", (complete "model:parameters()[1]:nume"))
  end)
end)
