-- The program glsrun as a user meets it: options, scripts, standard input, exit codes, interrupts and the prompt.
-- GLSRUN names the program to try.
local scratch = require "tests.lua.scratch"
local glsrun = os.getenv "GLSRUN" or "build/glsrun"
local quote, read, write = scratch.quote, scratch.read_at, scratch.write_at

-- A program built with the sanitizers brings its own library; the one set for this Lua is not for its children.
local function shell(command)
  local pipe = assert(io.popen("unset LD_PRELOAD; " .. command .. "; echo \":$?\""))
  local text = pipe:read "a"
  pipe:close()
  local output, code = text:match "^(.*):(%d+)\n$"
  return output, tonumber(code)
end

describe("glsrun", function()
  it("tells of a file that may not grow on, and leaves nothing of it", function()
    local name = os.tmpname()
    local script = ('local g = require "gls" g.save("%s.gls", g.ones(100000))'):format(name)
    local output, code = shell(("(ulimit -f 16; '%s' -e '%s') 2>&1; ls '%s'*"):format(glsrun, script, name))
    assert.equal(0, code)
    assert.truthy(output:find("File too large", 1, true), output)
    assert.equal(name, output:match "([^\n]*)\n$")
    os.remove(name)
  end)

  it("goes on with a job whose reader has gone", function()
    local name = os.tmpname()
    shell(([[ '%s' -e 'require("gls") local p = require("gls.log").progress()
      for i = 1, 50 do p:line(("x"):rep(4000)) end
      io.open("%s", "w"):write("done"):close()' | head -n 1 >/dev/null; sleep 0.2]]):format(glsrun, name))
    assert.equal("done", read(name))
    os.remove(name)
  end)

  local folder, home

  setup(function()
    folder = os.tmpname()
    os.remove(folder)
    assert(os.execute("mkdir " .. quote(folder)))
    home = "HOME=" .. quote(folder) .. " XDG_STATE_HOME= TERM=vt100 "
  end)
  teardown(function() os.execute("rm -rf " .. quote(folder)) end)

  -- Standard output and errors together, and the exit code. Arguments as the shell reads them.
  local function run(arguments, input)
    local command = home .. quote(glsrun) .. " " .. arguments .. " 2>&1"
    if input then
      write(folder .. "/input", input)
      return shell(command .. " < " .. quote(folder .. "/input"))
    end
    return shell(command .. " < /dev/null")
  end

  local function script(text)
    local path = folder .. "/script.lua"
    write(path, text)
    return quote(path)
  end

  describe("options", function()
    it("-e runs code, several in their order", function()
      local output, code = run [[-e 'x = 1' -e 'print(x + 1)']]
      assert.equal("2\n", output)
      assert.equal(0, code)
    end)

    it("-l requires a library into a global, also under another name", function()
      assert.equal("table\ttable\n", (run [[-l gls -l g=gls -e 'print(type(gls), type(g)) assert(gls == g)']]))
    end)

    it("loads Debian's Lua packages, C modules among them", function()
      assert.equal('[1,2]\n', (run [[-e 'print(require("cjson").encode{1, 2}) require "argparse"']]))
    end)

    it("-v tells the versions of the program, Lua and OpenBLAS, and does not open the prompt", function()
      local output, code = run("-v", "print(1)")
      assert.matches("^glsrun %d+%.%d+%.%d+, Lua 5%.4%.%d+\nOpenBLAS %d", output)
      assert.not_matches("\n1\n", output)
      assert.equal(0, code)
    end)

    it("lets idle threads give the processor away, unless the user has chosen", function()
      local asked = "-e 'print(os.getenv \"GOMP_SPINCOUNT\", os.getenv \"OMP_WAIT_POLICY\")'"
      local function with(choice) -- these tests may themselves run in glsrun, which has chosen for its children
        local clean = "env -u GOMP_SPINCOUNT -u OMP_WAIT_POLICY "
        return (shell(clean .. choice .. " " .. quote(glsrun) .. " " .. asked))
      end
      assert.equal("10000\tnil\n", with "")
      assert.equal("7\tnil\n", with "GOMP_SPINCOUNT=7")
      assert.equal("nil\tactive\n", with "OMP_WAIT_POLICY=active")
    end)

    it("names OpenBLAS's kernels for instructions that are there, unless the user has", function()
      local function kernels(choice)
        return shell("env -u OPENBLAS_CORETYPE " .. choice .. " " .. quote(glsrun) .. " -v"):match "kernels for (%w+)"
      end
      local file <close> = assert(io.open "/proc/cpuinfo")
      if file:read("a"):find "avx2" then assert.not_equal("Prescott", kernels "") end
      assert.equal("Prescott", kernels "OPENBLAS_CORETYPE=Prescott")
    end)

    it("has all processors where the user binds threads to them", function()
      local count = "-e 'print(require(\"gls\").threads())'"
      local function with(binding)
        local clean = "env -u GOMP_SPINCOUNT -u OMP_WAIT_POLICY -u OMP_NUM_THREADS "
        return (shell(clean .. binding .. " " .. quote(glsrun) .. " " .. count))
      end
      assert.equal(with "", with "OMP_PROC_BIND=true")
    end)

    it("--help names every option", function()
      local output, code = run "--help"
      for _, option in ipairs { "%-e", "%-l", "%-i", "%-v", "%-W", "%-%-help" } do assert.matches(option, output) end
      assert.equal(0, code)
    end)

    it("refuses what it does not know, and options that lack their argument", function()
      local output, code = run "--colour"
      assert.matches("unknown option '%-%-colour'", output)
      assert.equal(1, code)
      output, code = run "-e"
      assert.matches("option '%-e' needs an argument", output)
      assert.equal(1, code)
    end)

    it("-W turns warnings on", function()
      assert.equal("", (run [[-e 'warn "careful"']]))
      assert.matches("careful", (run [[-W -e 'warn "careful"']]))
    end)
  end)

  describe("a script", function()
    it("gets its arguments in arg and in ...", function()
      local path = script [[print(arg[0] == debug.getinfo(1, "S").source:sub(2), arg[1], arg[2], #arg, ...)]]
      assert.equal("true\t-e\ttwo words\t2\t-e\ttwo words\n", (run(path .. " -e 'two words'")))
    end)

    it("finds the files beside it, before the models and after the library", function()
      for _, name in ipairs { "two words", "größe" } do
        local place = folder .. "/" .. name
        os.execute("mkdir -p " .. quote(place .. "/models") .. " " .. quote(place .. "/gls"))
        write(place .. "/part.lua", "return 'beside'")
        write(place .. "/models/mlp.lua", "return 'mine'")
        write(place .. "/gls/nn.lua", "return 'not the library'")
        write(place .. "/main.lua", "print(require 'part', require 'models.mlp', type(require 'gls.nn'))")
        assert.equal("beside\tmine\ttable\n", (run(quote(place .. "/main.lua"))))
      end
    end)

    it("opens no file in the place of standard output or errors that its caller has closed", function()
      local path = script [[local file = assert(io.open(arg[1], "w")) print "lost" io.stderr:write "lost"
        file:write "kept" file:close()]]
      shell(home .. quote(glsrun) .. " " .. path .. " " .. quote(folder .. "/kept") .. " <&- >&- 2>&-")
      assert.equal("kept", read(folder .. "/kept"))
    end)

    it("writes numbers with a point where the environment asks for a comma", function()
      local locales = folder .. "/locales"
      os.execute("mkdir -p " .. quote(locales))
      if not os.execute("localedef -i de_DE -f UTF-8 " .. quote(locales .. "/de_DE.UTF-8") .. " 2>/dev/null") then
        pending "no locale with a comma can be made here (localedef, Debian's package locales)"
        return
      end
      local figure = folder .. "/figure.svg"
      local path = script([[local gls, plot = require "gls", require "gls.plot"
        plot.lines({ name = "s", x = { 0, 0.25, 0.5 }, y = { 0.5, 1.25, 2.5 } },
          { file = arg[1], title = "t", x = "x", y = "y" })
        print(1.5, gls.tensor { 0.5 }, require("gls.number").text(0.25))]])
      local output = shell(home .. "LC_ALL=de_DE.UTF-8 LOCPATH=" .. quote(locales) .. " " .. quote(glsrun) .. " " ..
        path .. " " .. quote(figure) .. " 2>&1")
      assert.equal("1.5\ttensor (1) float32\n  0.5000\t0.250\n", output)
      local text = read(figure)
      assert.matches(">%s*0%.5<", text)
      assert.not_matches(">%s*%d+,%d", text)
    end)

    it("finds gls and the models from any working directory", function()
      local path = script [[print(require("gls").zeros(2, 3):numel(), type(require "models.mlp"))]]
      local from = glsrun:sub(1, 1) == "/" and glsrun or io.popen("pwd"):read "l" .. "/" .. glsrun
      local output = shell("cd / && " .. home .. quote(from) .. " " .. path .. " 2>&1")
      assert.matches("^6\t%a+\n$", output)
    end)

    it("may be the one that README.md shows", function()
      local file = assert(io.open "README.md")
      local program = file:read("a"):match "\n```lua\n(.-)\n```"
      file:close()
      local output, code = run(script(program))
      assert(code == 0, output)
      local losses = {}
      for number in output:gmatch "[^\n]+" do losses[#losses + 1] = assert(tonumber(number)) end
      assert.equal(5000 // 250, #losses)
      assert.is_true(losses[#losses] < losses[1] / 2)
    end)

    it("comes from standard input, with - or where that is no terminal", function()
      assert.equal("7\n", (run("", "print(3 + 4)")))
      assert.equal("7 x\n", (run("- x", "print(3 + 4 .. ' ' .. ...)")))
    end)

    it("may have a name that looks like an option, after --", function()
      write(folder .. "/-odd.lua", "print 'odd'")
      local from = glsrun:sub(1, 1) == "/" and glsrun or io.popen("pwd"):read "l" .. "/" .. glsrun
      assert.equal("odd\n", (shell("cd " .. quote(folder) .. " && " .. quote(from) .. " -- -odd.lua 2>&1")))
    end)
  end)

  describe("errors", function()
    it("end the program with a traceback and exit code 1", function()
      local output, code = run(script "local function inner() error 'boo' end\ninner()\n")
      assert.matches("script%.lua:1: boo\nstack traceback:.*in upvalue 'inner'.*script%.lua:2: in main chunk",
        (output:gsub("in local 'inner'", "in upvalue 'inner'")))
      assert.equal(1, code)
    end)

    it("of endless recursion too, soon", function()
      local output, code = shell("timeout 60 " .. quote(glsrun) .. " "
        .. script "local function f() return 1 + f() end\nf()\n" .. " 2>&1")
      assert.matches("script%.lua:1: stack overflow\nstack traceback:.*%(over %d+ more%)", output)
      assert.equal(1, code)
    end)

    it("of syntax, missing files and missing libraries do too", function()
      assert.equal(1, select(2, run [[-e 'x =']]))
      local output, code = run "nowhere.lua"
      assert.matches("cannot open nowhere%.lua", output)
      assert.equal(1, code)
      output, code = run "-l gls.nothing"
      assert.matches("module 'gls%.nothing' not found", output)
      assert.equal(1, code)
      assert.equal(1, select(2, run("", "error 'boo'")))
    end)

    it("have no frames of the library in their traceback, unless asked for", function()
      local path = script [[local gls, nn = require "gls", require "gls.nn"
local function loss(x) local l = nn.mse(x, gls.zeros(3)) return l end
gls.no_grad(function() loss(gls.zeros(2)) end)]]
      local output = run(path)
      assert.matches("script%.lua:2: in .*script%.lua:3: in main chunk", output)
      assert.not_matches("gls/nn/", output)
      assert.not_matches("%[C%]", output)
      assert.matches("GLS_TRACEBACK=full", output)
      output = shell(home .. "GLS_TRACEBACK=full " .. quote(glsrun) .. " " .. path .. " 2>&1")
      assert.matches("gls/nn/loss%.lua:%d+: in ", output)
    end)

    it("may be any value", function()
      assert.matches("error object is a table value", (run [[-e 'error {}']]))
      local path = script "error(setmetatable({}, { __tostring = function() return 'polite' end }))"
      assert.matches(": polite\n$", (run(path)))
    end)

    it("of the core name the operation, and no C file", function()
      local output, code = run [[-e 'local gls = require "gls"; return gls.zeros(2, 3):matmul(gls.zeros(4, 5))']]
      assert.matches("matmul", output)
      assert.not_matches("%.c:%d", output)
      assert.equal(1, code)
    end)

    it("leave os.exit its code", function() assert.equal(7, select(2, run [[-e 'os.exit(7)']])) end)
  end)

  -- The shell that popen starts is a child of the program, whose Ctrl-C it sends.
  local interrupt = [[io.popen("kill -INT $PPID"):close() for _ = 1, math.huge do end]]

  describe("Ctrl-C", function()
    it("ends a script with an error; so do the signals that ask a job to end, each with its exit code", function()
      for name, number in pairs { INT = 2, TERM = 15, HUP = 1 } do
        local output, code = run(script((interrupt:gsub("%-INT", "-" .. name))))
        assert.matches("script%.lua:1: interrupted!\nstack traceback:", output)
        assert.equal(128 + number, code)
      end
    end)

    it("is heard inside coroutines", function()
      local output, code = run(script("coroutine.wrap(function() coroutine.wrap(function() " .. interrupt ..
        " end)() end)()"))
      assert.matches("interrupted!", output)
      assert.equal(130, code)
    end)

    it("is ignored where the caller has said so: nohup", function()
      local path = script [[io.popen("kill -HUP $PPID"):close() for _ = 1, 1e5 do end print "on"]]
      assert.equal("on\n", (shell("trap '' HUP; " .. home .. quote(glsrun) .. " " .. path)))
    end)

    it("can be caught by the script, which goes on", function()
      local path = script("local ok, message = pcall(function() " .. interrupt .. " end)\nprint(ok, message)")
      local output, code = run(path)
      assert.matches("^false\t.*interrupted!\n$", output)
      assert.equal(0, code)
    end)

    it("a second time ends it without asking", function()
      local path = script("pcall(function() " .. interrupt .. " end)\n" .. interrupt)
      assert.equal(130, select(2, run(path)))
    end)

    it("at the prompt ends what catches it, the second time", function()
      local twice = [[io.popen("(for i in 1 2; do sleep 0.2; kill -INT $PPID; done) 2>&1 &"):close()
        while true do pcall(function() for _ = 1, math.huge do end end) end]]
      local output, code = run("-i", twice:gsub("\n", " ") .. "\n'here ' .. 'again'\n")
      assert.matches("interrupted!", output)
      assert.matches("here again", output)
      assert.equal(0, code)
    end)

    it("returns to the prompt, every time", function()
      local output, code = run("-i", interrupt .. "\n" .. interrupt .. "\n'still ' .. 'here'\n")
      assert.equal(2, select(2, output:gsub("interrupted!", "")))
      assert.matches("still here", output)
      assert.equal(0, code)
    end)
  end)

  describe("the prompt", function()
    it("opens after the script with -i, and has its globals, and gls, nn, optim and data", function()
      local output, code = run("-i " .. script "answer = 42", "answer\ntype(gls), type(nn), type(optim), type(data)\n")
      assert.matches("> 42\n", output)
      assert.matches("table\ntable\ntable\ntable\n", output)
      assert.equal(0, code)
    end)

    it("leaves a script's own global of such a name alone", function()
      assert.matches("> mine\n", (run([[-i -e 'data = "mine"']], "data\n")))
    end)

    it("prints the values of expressions, reads chunks over several lines, and survives errors", function()
      local output = run("-i", "1 + 1, nil\nfor i = 1, 2 do\nprint('line ' .. i)\nend\nerror 'boo'\nx =\n3\nx\n")
      assert.matches("> 2\nnil\n", output)
      assert.matches("line 1\nline 2\n", output)
      assert.matches("prompt:1: boo\nstack traceback:", output)
      assert.matches("> 3\n", output)
    end)

    it("keeps top-level locals from line to line, and shows the value of the last expression", function()
      local output = run("-i", table.concat({
        "local x, f <const> = 20, function(a) return a + 1 end",
        "x = x + 1; f(x)",
        "local function count() x = x + 1 return x end",
        "count()", "x",
        "local type = 'mine'", "gls.ones(1).type",
        "local y", "y",
        "do local x = 'inner' end x",
        "y = 5;", "41 + y;", "_ + _2",
      }, "\n"))
      assert.equal("> > 22\n> > 22\n> 22\n> > float32\n> > nil\n> 22\n> > > ",
        output:match "name%? explains a name.\n(.*)68\n")
    end)

    it("names a variable that is not there, and the nearest that is; one set to nil is no mistake", function()
      local output = run("-i",
        "weight = 1\nwieght\nnothing = nil\nnothing == nil\nfunction f() return wieght end f()\n")
      assert.equal(2, select(2, output:gsub("prompt:1: there is no variable wieght; did you mean weight%?", "")))
      assert.matches("> true\n", output)
    end)

    it("has help, source, the shell, a list of variables, and an end", function()
      local output, code = run("-i",
        "nn.Linear?\nnn.Linear??\n!echo sh''ell\nmine = { 1 }\nwho()\nexit\n'not reached'\n")
      assert.matches("z = x W %+ b", output)
      assert.matches("function Linear:forward%(x%)", output)
      assert.matches("\nshell\n", (output:gsub("> ", "\n")))
      assert.matches("mine%s+{ 1 }", output)
      assert.not_matches("not reached", output)
      assert.equal(0, code)
    end)

    it("says after an error that gradients wait for a step, once one does", function()
      local output = run("-i",
        "p = gls.ones(1):requires_grad(true)\n(p * 2):sum():backward(); error 'boo'\nerror 'again'\n")
      assert.equal(1, select(2, output:gsub("gradients of 1 backward pass wait, and the next", "")))
    end)

    it("shows tables inside tables to a depth, and those that hold themselves", function()
      local output = run("-i", "t = { a = { b = { c = { d = {} } } } }\nt\nt.a.again = t\nt.a\n")
      assert.matches("{ a = { b = { c = { d = {} } } } }", output)
      assert.matches("again = { a = { a table that this one is in } }", output)
    end)

    it("shows a tensor's shape and a table one level deep", function()
      local output = run("-i", "gls.zeros(2, 3)\n{ 1, 'two', key = {} }\n")
      assert.matches("2×3", output)
      assert.matches('{ 1, "two", key = {} }\n', output)
    end)

    -- Types keys on a terminal, each lot after the screen shows what it has to wait for; for Ctrl-D that is a prompt:
    -- before it the terminal would take it, not the program.
    local function type_keys(steps)
      local log, keys = folder .. "/screen", folder .. "/keys"
      assert(os.execute("rm -f " .. quote(log) .. " " .. quote(keys) .. "; mkfifo " .. quote(keys)))
      -- exec: the shell would otherwise get Ctrl-C too.
      local command = "timeout 60 script -qfec " .. quote("exec " .. quote(glsrun)) .. " " .. quote(log)
      assert(os.execute("unset LD_PRELOAD; " .. home .. command .. " < " .. quote(keys) .. " > /dev/null 2>&1 &"))
      local terminal = assert(io.open(keys, "w"))
      terminal:setvbuf "no"
      local function screen()
        local file = io.open(log)
        local text = file and file:read "a" or ""
        if file then file:close() end
        return (text:gsub("\r", ""):gsub("\27%[%?2004[hl]", ""):gsub("\27%[%d*m", "")) -- paste mode, colours
      end
      local seen = 1
      for _, step in ipairs(steps) do
        local from, to
        for _ = 1, 600 do
          from, to = screen():find(step.after, seen, true)
          if from then break end
          os.execute "sleep 0.05"
        end
        assert(from, ("the screen does not show %q:\n%s"):format(step.after, screen()))
        seen = to + 1
        if step.keys then terminal:write(step.keys) end
      end
      terminal:close()
      return screen()
    end

    it("on a terminal takes a pasted block as one, and text in UTF-8 whatever the locale", function()
      home = home .. "LC_ALL=C "
      type_keys {
        { after = "> ", keys = "\27[200~local a = 1\rlocal b = 2\ra, b = b, a\r\27[201~" },
        { after = "> ", keys = "'a is ' .. a\n" },
        { after = "\na is 2\n", keys = "#'größe' + 60\n" },
        { after = "\n67\n", keys = "\27[200~for i = 1, 2 do\rio.write('i', i, ' ')\rend\27[201~ print 'typed'\n" },
        { after = "\ni1 i2 typed\n" },
        { after = "> ", keys = "\4" },
        { after = 'COMMAND_EXIT_CODE="0"' },
      }
      home = home:gsub("LC_ALL=C ", "")
    end)

    it("on a terminal completes fields, options, modules and files", function()
      write(folder .. "/digits.txt", "")
      type_keys {
        { after = "> ", keys = "model = nn.Sequential { nn.Linear(2, 3) }\n" },
        { after = "> ", keys = "model[1]:desc\t() .. '!'\n" },
        { after = "\n2 → 3!\n",
          keys = "optim.Adam(model:parameters(), { eps\t1e-3 }).groups[1].settings.epsilon + 6\n" },
        { after = "\n6.001\n", keys = "require 'gls.opti\tons'.nearest('ab', { 'abc' })\n" },
        { after = "\nabc\n", keys = "'" .. folder .. "/dig\t'\n" },
        { after = "digits.txt\n" },
        { after = "> ", keys = "\4" },
        { after = 'COMMAND_EXIT_CODE="0"' },
      }
    end)

    it("leaves a history alone that is not its own", function()
      local path = folder .. "/.local/state/glsrun/history"
      os.execute("mkdir -p " .. quote(path:match "^(.*)/"))
      for _, damage in ipairs { "a letter\n", "_HiStOrY_V2_\nx\0y\n", "_HiStOrY_V2_\nx\\04\n", "_HiStOrY_V2_\nx" } do
        write(path, damage)
        type_keys {
          { after = "left alone" },
          { after = "> ", keys = "1 + 1\n" },
          { after = "\n2\n" },
          { after = "> ", keys = "\4" },
          { after = 'COMMAND_EXIT_CODE="0"' },
        }
        assert.equal(damage, read(path))
      end
      os.remove(path)
      assert(os.execute("mkfifo " .. quote(path)))
      type_keys { { after = "left alone" }, { after = "> ", keys = "\4" }, { after = 'COMMAND_EXIT_CODE="0"' } }
      os.remove(path)
    end)

    it("on a terminal edits lines, completes names, drops a line at Ctrl-C, keeps its history in a file", function()
      type_keys {
        { after = "> ", keys = "6 * 9\1(1 + \5)\n" },
        { after = "\n55\n", keys = "string.rev\t('olleh')\n" },
        { after = "\nhello\n", keys = "half of a line" },
        { after = "line", keys = "\3'after ' .. 'it'\n" },
        { after = "\nafter it\n", keys = "print('run' .. 'ning') repeat until false\n" },
        { after = "\nrunning\n", keys = "\3" },
        { after = "interrupted!", keys = "'and on'\n" },
        { after = "\nand on\n" },
        { after = "> ", keys = "\4" },
        { after = 'COMMAND_EXIT_CODE="0"' },
      }
      local history = read(folder .. "/.local/state/glsrun/history")
      assert.matches("olleh", history)
      assert.not_matches("half", history)
    end)
  end)
end)
