-- The prompt in a terminal, tmux: typed, completed, pasted, interrupted, plotted; and what it shows, on the screen.
local glsrun = os.getenv "GLSRUN" or "build/glsrun"
local quote = require("tests.lua.scratch").quote

local function shell(command)
  local pipe = assert(io.popen("unset LD_PRELOAD; " .. command .. " 2>&1"))
  local text = pipe:read "a"
  pipe:close()
  return text
end

local function is_there(command) return os.execute("command -v " .. command .. " > /dev/null 2>&1") == true end

describe("the prompt in tmux", function()
  local folder, tmux
  local skipped = not is_there "tmux" and "tmux is not installed (make test installs it)"

  setup(function()
    folder = os.tmpname()
    os.remove(folder)
    assert(os.execute("mkdir " .. quote(folder)))
    tmux = "tmux -f /dev/null -S " .. quote(folder .. "/socket") .. " "
  end)
  teardown(function()
    if not skipped then shell(tmux .. "kill-server") end
    os.execute("rm -rf " .. quote(folder))
  end)

  -- The screen, without blank lines at its end; "-e" with colours.
  local function screen(flag) return (shell(tmux .. "capture-pane -p " .. (flag or "")):gsub("%s+$", "")) end

  -- Waits until a text or, with `pattern`, a pattern is on the screen.
  local function wait(text, flag, pattern)
    local seen
    for _ = 1, 300 do
      seen = screen(flag)
      if seen:find(text, 1, not pattern) then return seen end
      os.execute "sleep 0.1"
    end
    error(("the screen does not show %q:\n%s"):format(text, seen), 2)
  end

  local function keys(...)
    for _, key in ipairs { ... } do shell(tmux .. "send-keys " .. key) end
  end

  -- Types a line on an empty screen, once there is a prompt: what is typed before it is not the editor's.
  local function line(text)
    wait(">$", nil, true)
    keys "C-l"
    keys("-l -- " .. quote(text), "Enter")
  end

  local function open(environment, columns)
    shell(tmux .. "kill-server")
    local from = glsrun:sub(1, 1) == "/" and glsrun or io.popen("pwd"):read "l" .. "/" .. glsrun
    local command = ("cd %s && env HOME=%s XDG_STATE_HOME= XDG_CONFIG_HOME= NO_COLOR= COLORTERM=truecolor "
      .. "OMP_NUM_THREADS=1 %s %s"):format(quote(folder), quote(folder), environment or "", quote(from))
    for _ = 1, 20 do -- the server before may still be going
      if shell(tmux .. ("new-session -d -x %d -y 30 "):format(columns or 100) .. quote(command)) == "" then break end
      os.execute "sleep 0.1"
    end
    wait "name? explains a name."
  end

  local function example(name, run)
    it(name, function()
      if skipped then
        pending(skipped)
        return
      end
      run()
    end)
  end

  example("indents what goes on, and takes back what closes it", function()
    open()
    line "for i = 1, 2 do"
    wait "\n>>"
    keys("-l -- " .. quote "print(#[[", "Enter")
    wait ">>   print(#[["
    keys("-l -- 'x]])'", "Enter", "-l -- end", "Enter")
    assert.matches("for i = 1, 2 do\n>>   print%(#%[%[\n>> x%]%]%)\n>> end\n1\n1\n>", wait "1\n1\n>")
    keys "Up" -- one entry of the history, whole
    wait "> for i = 1, 2 do\n  print(#[[\nx]])\nend"
    keys "C-c"
  end)

  example("completes results of calls, and lists in columns of the terminal's width", function()
    open(nil, 60)
    line "('x'):upp\t() .. gls.zeros(3):nume\t()"
    wait "\nX3\n"
    line "calls = 0 function counted() calls = calls + 1 return { first_field = 7 } end"
    line "counted()"
    wait "first_field = 7"
    line "counted().fir\t + calls"
    wait "\n9\n" -- Tab has called nothing: two calls were typed
    line "trap = setmetatable({}, { __index = function() calls = 100 end })"
    keys("-l -- trap.one.", "Tab", "C-c")
    line "calls + 1000"
    wait "\n1002"
    keys("C-l", "-l -- gls.log", "Tab")
    local listed = wait "logsumexp"
    assert.matches("\nlog +log1p +log", listed)
    for row in listed:gmatch "[^\n]+" do assert(#row <= 60, row) end
    keys "C-c"
  end)

  example("takes a pasted block as one", function()
    open()
    local path = folder .. "/block"
    local file = assert(io.open(path, "w"))
    file:write "local sum = 0\nfor i = 1, 3 do\n\tsum = sum + i\nend\nprint('sum', sum)\n"
    file:close()
    shell(tmux .. "load-buffer " .. quote(path))
    shell(tmux .. "paste-buffer -p")
    assert.not_matches(">>", wait "\nsum     6")
  end)

  example("comes back at Ctrl-C, says which gradients wait, and keeps the variables of the calls", function()
    open()
    line("p = gls.ones(2):requires_grad(true) function train_it() local step = 0 while true do "
      .. "step = step + 1 (p * p):sum():backward() if step == 3 then print 'three' while true do end end end end")
    line "train_it()"
    wait "\nthree"
    keys "C-c"
    wait "gradients of 3 backward passes wait"
    line "locals(1).step + 40"
    wait "\n43\n"
    line "nothing_here"
    wait("\27[31mprompt:1: there is no variable nothing_here", "-e")
  end)

  example("shows tensors, modules and optimizers with what one asks first", function()
    open()
    line "x = gls.zeros(50, 40); x[1][1] = 4; x[{ 2, { 1, 3 } }] = 0/0; x[3][1] = 1/0; x"
    wait "min 0, mean 0.002004, max 4, std 0.08951, 3 NaN, 1 infinite" -- of the 1996 finite values
    line "model = nn.Sequential { nn.Linear(4, 3), nn.LayerNorm(3) }; y = model(gls.ones(5, 4)); model"
    assert.matches("1: Linear 4 → 3  weight %(4×3%), bias %(3%)  %[15%]  gave %(5×3%)", wait "21 parameters")
    line "opt = optim.GLS(model:parameters(), { learning_rate = 0.1 }); y:sum():backward(); opt:step(); opt"
    local shown = wait "last report: "
    assert.matches("1%.weight +%(4×3%) +GLS\n", shown)
    assert.matches("2%.weight +%(3%) +Adam\n", shown)
    assert.matches("learning_rate", shown:match "last report: .*")
  end)

  example("plots: lines in characters, images in half blocks, live in place", function()
    open()
    line "plot.lines({ 1, 2, 4 }, { title = 'growth', size = { 50, 10 } })"
    local shown = wait "growth"
    assert.not_matches("\nnil", shown)
    line "plot.image(gls.tensor { { { 255, 0 } }, { { 0, 255 } }, { { 0, 0 } } } / 255)"
    wait("\27[38;2;255;0;0m", "-e")
    assert.matches("38;2;0;255;0m", screen "-e")
    line "l = plot.live('bars', {}, 0) for i = 1, 5 do l:draw { a = i } end l:finish() print 'done'"
    shown = wait "\ndone"
    assert.equal(1, select(2, shown:gsub("█", ""):gsub("\na ", "")))
    assert.matches("\na  5\n", (shown:gsub("█", "")))
  end)

  example("shows a set and a batch as pictures with their classes", function()
    open()
    line("s = data.tensors { x = gls.randint(0, 255, 6, 3, 8, 8):byte(), y = gls.tensor({ 1, 2, 1, 2, 1, 2 }, "
      .. "{ type = 'int32' }), classes = { 'cat', 'dog' }, name = 'pets' }; s")
    local shown = wait "\ncat      dog"
    assert.matches("pets: 6 rows of uint8 3×8×8\n", shown)
    assert.equal(4 * 53, select(2, shown:gsub("▀", ""))) -- 6 images of 8 columns with gaps, two rows a character
    line "for batch in data.loader(s, { batch = 2 }) do b = batch break end; b"
    assert.matches("x = tensor %(2×3×8×8%) float32\n", wait "▀\n1        2")
  end)

  example("pages long help", function()
    if not is_there "less" then
      pending "less is not installed"
      return
    end
    open()
    line "gls.help 'arithmetic and activations'"
    wait("gelu  .*\n:$", nil, true) -- a page of it, and less's own prompt
    keys "q"
    wait "> gls.help 'arith"
  end)

  example("is plain with NO_COLOR and in a dumb terminal", function()
    for _, environment in ipairs { "NO_COLOR=1", "TERM=dumb" } do
      open(environment)
      line "{ 'text', plot.image(gls.zeros(2, 2), { print = false }) }"
      wait '{ "text", "\\n" }'
      line "nothing_here"
      wait "no variable"
      assert.not_matches("\27%[%d*;?3%dm", screen "-e")
    end
  end)
end)
