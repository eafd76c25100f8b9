--- Progress: what train.fit says while it runs: a bar with rate, remaining time and losses, and a line an epoch.
-- @module gls.train.progress
local log = require "gls.log"
local number = require "gls.number"

local progress = {}
local Progress = { for_one_rank = true } -- to train.fit
Progress.__index = Progress

--- A callback of train.fit.
-- @param[opt] line where it is said (log.progress); default: standard output
function progress.new(line) return setmetatable({ log = line or log.progress() }, Progress) end

function Progress:on_begin(state)
  self.began, self.at = log.clock(), state.epoch
  self.part = 0
end

-- Epochs done, with the part of the present one.
local function done(state)
  return state.epoch - 1 + (state.batches and math.min(state.batch / state.batches, 1) or 0)
end

function Progress:on_step(state)
  local taken, at = log.clock() - self.began, done(state)
  self.first = self.first or at
  local left = at > self.first and taken / (at - self.first) * (state.epochs - at) or math.huge
  self.log:update(at / state.epochs, ("epoch %d/%d · batch %d%s · loss %s · %s samples/s · left %s"):format(state.epoch,
    state.epochs, state.batch, state.batches and "/" .. state.batches or "", number.text(state.loss),
    number.text(state.samples / taken), log.duration(left)))
end

-- "loss 0.123  valid_loss 0.2", the loss first.
local function losses(metrics)
  local names, parts = {}, {}
  for name in pairs(metrics) do names[#names + 1] = name end
  table.sort(names, function(a, b)
    if (a == "loss") ~= (b == "loss") then return a == "loss" end
    return a < b
  end)
  for i, name in ipairs(names) do parts[i] = name .. " " .. number.text(metrics[name]) end
  return table.concat(parts, "  ")
end

function Progress:on_epoch(state)
  self.log:line(("epoch %d/%d  %s  %s"):format(state.epoch, state.epochs, losses(state.metrics),
    log.duration(state.seconds)))
end

function Progress:on_interrupt(state)
  self.log:line(("interrupted in epoch %d, after batch %d"):format(state.epoch, state.batch))
end

function Progress:on_end(state)
  self.log:finish()
  if state.status ~= "finished" then self.log:line(("%s in epoch %d"):format(state.status, state.epoch)) end
end

return progress
