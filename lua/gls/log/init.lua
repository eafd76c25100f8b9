--- Log: what a long job says. A progress bar at the foot of a terminal with lines scrolling above it, plain
-- lines elsewhere; and what it writes: JSON lines, CSV, TensorBoard's files.
--
-- writer  what the logs in files share     lines  JSON lines and CSV     tensorboard, event  TensorBoard's files
-- layers  a figure of a log
-- @module gls.log
local system = require "system"
local lines = require "gls.log.lines"
local options = require "gls.options"

local log = {}

--- Seconds on a clock that never goes back.
-- @treturn number
function log.clock() return system.monotime() end

--- A number of seconds for people: `0.42 s`, `12 s`, `3:07`, `1:02:33`.
-- @tparam number seconds
-- @treturn string
function log.duration(seconds)
  if seconds ~= seconds or seconds == math.huge then return "?" end
  if seconds < 1 then return ("%.2f s"):format(seconds) end
  if seconds < 9.95 then return ("%.1f s"):format(seconds) end
  local whole = math.floor(seconds + 0.5)
  if whole < 60 then return ("%d s"):format(whole) end
  if whole < 3600 then return ("%d:%02d"):format(whole // 60, whole % 60) end
  return ("%d:%02d:%02d"):format(whole // 3600, whole // 60 % 60, whole % 60)
end

-- Columns of the terminal: stty knows them; COLUMNS and 80 where it does not.
local function terminal_width()
  local pipe = io.popen "stty size 2>/dev/null </dev/tty"
  local columns
  if pipe then
    columns = (pipe:read "a" or ""):match "%d+%s+(%d+)"
    pipe:close()
  end
  columns = tonumber(columns) or tonumber(os.getenv "COLUMNS") or 80
  return columns > 0 and columns or 80
end

-- Whether standard output is a terminal that a bar can be drawn on: the shell's test sees the same descriptor.
local function on_terminal() return os.getenv "TERM" ~= "dumb" and os.execute "test -t 1" == true end

--- Columns that a text takes (one a character; the project prints no wide ones).
-- @tparam string text UTF-8
-- @treturn integer
function log.width(text) return utf8.len(text) or #text end

-- The first characters of a text, at most so many.
local function cut(text, columns)
  if log.width(text) <= columns then return text end
  local stop = utf8.offset(text, math.max(columns, 1))
  return text:sub(1, stop and stop - 1 or columns - 1) .. "…"
end

--- A text padded to a number of columns.
-- @tparam string text
-- @tparam integer columns negative: text to the right
-- @treturn string
function log.pad(text, columns)
  local space = (" "):rep(math.abs(columns) - log.width(text))
  return columns < 0 and space .. text or text .. space
end

-- Eighths of a block, so that a bar of 20 columns moves in 160 steps.
local EIGHTHS = { [0] = "", "▏", "▎", "▍", "▌", "▋", "▊", "▉" }

local function bar_text(fraction, columns)
  local eighths = math.floor(math.max(0, math.min(fraction, 1)) * columns * 8 + 0.5)
  local text = ("█"):rep(eighths // 8) .. EIGHTHS[eighths % 8]
  return "▕" .. log.pad(text, columns) .. "▏"
end

local Progress = {}
Progress.__index = Progress

--- Where a job says how far it is.
-- @tparam[opt] table settings `quiet` (say nothing), `stream` (default standard output),
-- `terminal` (default: whether the stream is one), `interval` (seconds between two drawings of the bar; without
-- a terminal between two plain lines)
-- @return an object with `:line(text)`, `:update(fraction, text)` and `:finish()`
function log.progress(settings)
  settings = options.check("log.progress", settings, {
    quiet = false,
    stream = options.any(io.stdout),
    terminal = options.none,
    interval = options.none,
  })
  local core = package.loaded["gls.core"] -- a bar works without
  if core then core.io.outlive_readers() end
  local self = setmetatable({}, Progress)
  self.quiet = settings.quiet
  self.stream = settings.stream
  self.terminal = settings.terminal
  if self.terminal == nil then self.terminal = self.stream == io.stdout and on_terminal() end
  self.interval = settings.interval or (self.terminal and 0.1 or 10)
  self.width = self.terminal and not self.quiet and terminal_width() or 80
  self.drawn = false
  self.last = -math.huge
  return self
end

-- A vanished reader (a closed pipe) does not end a job whose results go to files: what cannot be written is lost.
function Progress:write(text)
  self.stream:write(text)
  self.stream:flush()
end

--- Writes a line, above the bar where there is one.
-- @tparam string text
function Progress:line(text)
  if self.quiet then return end
  self:clear()
  self:write(text .. "\n")
  self.last = log.clock()
end

--- Says how far the job is: redraws the bar at most every `interval` seconds; without a terminal a plain line
-- that often.
-- @tparam number fraction of the whole, 0 to 1
-- @tparam string text
function Progress:update(fraction, text)
  if self.quiet then return end
  local now = log.clock()
  if now - self.last < self.interval and self.drawn == self.terminal then return end
  self.last = now
  if not self.terminal then
    self:write(("  %3.0f %%  %s\n"):format(100 * fraction, text))
    return
  end
  local columns = math.max(8, math.min(24, self.width // 7))
  self:write("\r" .. cut(("%s %3.0f %%  %s"):format(bar_text(fraction, columns), 100 * fraction, text), self.width - 3)
    .. "\27[K")
  self.drawn = true
end

--- Takes the bar away.
function Progress:clear()
  if self.drawn then
    self:write "\r\27[K"
    self.drawn = false
  end
end

Progress.finish = Progress.clear

log.jsonl, log.csv = lines.jsonl, lines.csv
log.tensorboard, log.layers = require "gls.log.tensorboard", require "gls.log.layers"

return require("gls.strict").module("log", log)
