--- Live: a figure that is redrawn in place while a loop goes on.
-- @module gls.plot.live
local figure = require "gls.plot.figure"
local log = require "gls.log"
local terminal = require "gls.terminal"

local Live = { __name = "plot.live" }
Live.__index = Live

-- Draws the newest data now.
function Live:redraw()
  local panel = self.make(self.data)
  self.drawn_at, self.waiting = log.clock(), false
  if self.settings.file ~= nil then
    figure.draw(self.where, { panel }, 1, self.settings)
    return
  end
  local text = figure.text(self.where, { panel }, 1, { title = "", size = self.settings.size }, true)
  if panel.close then panel.close() end
  if self.lines > 0 then io.write(("\27[%dA\27[J"):format(self.lines)) end
  io.write(text)
  io.stdout:flush()
  self.lines = terminal.is_one() and select(2, text:gsub("\n", "")) or 0
end

--- Draws new data: at once where nothing was drawn for `interval` seconds, else with one of the next calls. Without a
-- terminal and a file nothing is drawn before `finish`.
-- @param data as the kind of figure takes them
function Live:draw(data)
  self.data, self.waiting = data, true
  if self.settings.file == nil and not terminal.is_one() then return end
  if log.clock() - self.drawn_at >= self.interval then self:redraw() end
end

--- Draws what has come since the last drawing.
function Live:finish()
  if self.waiting then self:redraw() end
  self.lines = 0
end
Live.__close = Live.finish

--- A live figure: make(data) gives its panel.
return function(where, make, settings, interval)
  return setmetatable({ where = where, make = make, settings = settings, interval = interval, lines = 0,
    drawn_at = -math.huge, waiting = false }, Live)
end
