--- Terminal: what standard output can show: colours, pictures, how much at once; and long texts a page at a time.
-- @module gls.terminal
local log = require "gls.log"

local terminal = {}

-- What the environment and the shell say is asked once.
local known = {}
local function once(name, find)
  if known[name] == nil then known[name] = find() end
  return known[name]
end

--- What the environment has under a name; nil where that is empty.
function terminal.environment(name)
  local value = os.getenv(name)
  return value ~= "" and value or nil
end
local environment = terminal.environment

--- Whether standard output is a terminal that follows control sequences; a pipe, a file and TERM=dumb are none.
-- @treturn boolean
function terminal.is_one()
  return once("is_one", function()
    local term = environment "TERM"
    return term ~= nil and term ~= "dumb" and os.execute "test -t 1" == true
  end)
end

--- How many colours to use: 0 (no terminal, or NO_COLOR is set: no-color.org), 8, 256 or 2^24.
-- @treturn integer
function terminal.colors()
  return once("colors", function()
    if not terminal.is_one() or environment "NO_COLOR" then return 0 end
    local term, color = environment "TERM", environment "COLORTERM"
    if color == "truecolor" or color == "24bit" or term:find "direct" or term:find "kitty" or term:find "ghostty" then
      return 1 << 24
    end
    if term:find "256" then return 256 end
    return term:find "^vt%d" and 0 or 8
  end)
end

-- Columns and rows as stty knows them; else those of the environment, else 80 and 24.
local function size()
  local pipe = io.popen "stty size 2>/dev/null </dev/tty"
  local rows, columns
  if pipe then
    rows, columns = (pipe:read "a" or ""):match "(%d+)%s+(%d+)"
    pipe:close()
  end
  rows = tonumber(rows) or tonumber(environment "LINES")
  columns = tonumber(columns) or tonumber(environment "COLUMNS")
  return columns and columns > 0 and columns or 80, rows and rows > 0 and rows or 24
end

--- Columns and rows, now; 80 and 24 where there is no terminal.
-- @treturn integer
-- @treturn integer
function terminal.size()
  if not terminal.is_one() then return 80, 24 end
  return size()
end

--- A text in a colour (an SGR code, "31" is red), where there are colours.
-- @tparam string code
-- @tparam string text
-- @treturn string
function terminal.paint(code, text)
  return terminal.colors() > 0 and ("\27[%sm%s\27[0m"):format(code, text) or text
end

-- What the terminal answers when it is asked for an image in kitty's protocol (which one that has it confirms) and for
-- its attributes (4 among them: sixels; xterm's control sequences, "Primary DA"), which every terminal tells. Read for
-- at most half a second, with echo off.
local function answer()
  local pipe = io.popen [[{ saved=$(stty -g) && stty -icanon -echo min 0 time 5 &&
    printf '\033_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\033\\\033[c' >/dev/tty
    while part=$(dd bs=64 count=1) && [ -n "$part" ]; do
      printf %s "$part"
      case $part in *c) break ;; esac
    done
    stty "$saved"; } 2>/dev/null </dev/tty]]
  local text = pipe and pipe:read "a" or ""
  if pipe then pipe:close() end
  return text
end

--- How pictures are shown: "kitty" (its graphics protocol), "sixel", "blocks" (two pixels a character, in colours) or
-- "text" (grey as characters). GLS_GRAPHICS in the environment chooses; else a terminal is asked, once.
-- @treturn string
function terminal.graphics()
  return once("graphics", function()
    local chosen = environment "GLS_GRAPHICS"
    if chosen == "kitty" or chosen == "sixel" or chosen == "blocks" or chosen == "text" then return chosen end
    if terminal.colors() == 0 then return "text" end
    local text = answer()
    if text:find("_Gi=31;OK", 1, true) then return "kitty" end
    local attributes = text:match "\27%[%?([%d;]+)c"
    if attributes and (";" .. attributes .. ";"):find(";4;", 1, true) then return "sixel" end
    return terminal.colors() >= 256 and "blocks" or "text"
  end)
end

--- Seconds that programs had which the user works in: a pager, an editor.
terminal.handed_over = 0

--- Runs a program that the user works in.
-- @tparam string command
-- @return as os.execute
function terminal.hand_over(command)
  io.stdout:flush()
  local before = log.clock()
  local good, how, code = os.execute(command)
  terminal.handed_over = terminal.handed_over + log.clock() - before
  return good, how, code
end

--- Prints a text; on a terminal with fewer rows through `less -R`, where it is installed.
-- @tparam string text
function terminal.page(text)
  text = text:gsub("\n*$", "\n")
  local _, lines = text:gsub("\n", "")
  if terminal.is_one() and select(2, terminal.size()) <= lines and os.execute "command -v less >/dev/null 2>&1" then
    local name = os.tmpname()
    local file = assert(io.open(name, "w"))
    file:write(text)
    file:close()
    terminal.hand_over("LESSCHARSET=utf-8 less -R < " .. name)
    os.remove(name)
    return
  end
  io.write(text)
end

return terminal
