--- Words: settings of trials as people read them.
-- @module gls.experiment.words
local number = require "gls.number"
local optimizers = require "gls.experiment.optimizers"
local record = require "gls.experiment.record"

local words = {}

--- Settings in words: `1e-3, cosine, orthogonal, damping 0.01`. What every trial of the optimizer has is left out
-- when it is among `same`.
-- @tparam table settings
-- @tparam[opt] table same name → true for settings not to be named
-- @treturn string
function words.describe(settings, same)
  same = same or {}
  local parts = {}
  if settings.learning_rate ~= nil and not same.learning_rate then parts[1] = number.setting(settings.learning_rate) end
  for _, name in ipairs { "schedule", "initialisation" } do
    if settings[name] and not same[name] then parts[#parts + 1] = tostring(settings[name]) end
  end
  local names = {}
  for name in pairs(settings) do
    if name ~= "learning_rate" and name ~= "schedule" and name ~= "initialisation" and not same[name] then
      names[#names + 1] = name
    end
  end
  table.sort(names)
  for _, name in ipairs(names) do
    local value = settings[name]
    if type(value) == "table" and #value > 0 then
      local texts = {}
      for i, element in ipairs(value) do texts[i] = number.setting(element) end
      parts[#parts + 1] = name:gsub("_", " ") .. " " .. table.concat(texts, "-")
    elseif type(value) == "table" then
      parts[#parts + 1] = words.describe(value)
    else
      parts[#parts + 1] = (name:gsub("_", " ")) .. " " .. number.setting(value)
    end
  end
  return #parts > 0 and table.concat(parts, ", ") or "as it is"
end

--- A count in words: `1 epoch`, `3 epochs`.
-- @tparam integer count
-- @tparam string noun of one
-- @treturn string
function words.count(count, noun) return ("%d %s%s"):format(count, noun, count == 1 and "" or "s") end

--- Settings that all trials of all optimizers share (the learning rate is always told).
-- @tparam table trials list of `{ settings = … }`
-- @treturn table name → value
function words.shared(trials)
  local shared = {}
  for name, value in pairs(trials[1].settings) do
    if name ~= "learning_rate" then shared[name] = value end
  end
  for _, trial in ipairs(trials) do
    for name, value in pairs(shared) do
      local own = trial.settings[name]
      local same = own == value
      if type(own) == "table" and type(value) == "table" then same = record.encode(own) == record.encode(value) end
      if not same then shared[name] = nil end
    end
  end
  return shared
end

--- The settings in which an optimizer's trials differ, in few words: without what they all share, and what the
-- optimizer's name implies; of a single trial all settings but these.
-- @tparam table trial `optimizer`, `settings`
-- @tparam table trials list of trials, of this optimizer and others
-- @tparam[opt] table hidden name → true for settings that are told elsewhere
-- @treturn string
function words.brief(trial, trials, hidden)
  local same, own, rates = {}, {}, {}
  for name, value in pairs(optimizers.known[trial.optimizer].settings) do
    same[name] = name ~= "learning_rate" and trial.settings[name] == value
  end
  for _, other in ipairs(trials) do
    if other.optimizer == trial.optimizer then
      own[#own + 1] = other
      rates[other.settings.learning_rate or false] = true
    end
  end
  if #own > 1 then
    for name in pairs(words.shared(own)) do same[name] = true end
    same.learning_rate = next(rates, next(rates)) == nil
  end
  for name in pairs(hidden or {}) do same[name] = true end
  return words.describe(trial.settings, same)
end

return words
