--- Layers: a figure of what GLS did in every layer, from the lines of a log.
-- @module gls.log.layers
local core = require "gls.core"
local file = require "gls.file"
local json = require "gls.json"
local options = require "gls.options"

local TITLES = {
  { "fraction", "fraction of the wanted change of the outputs" }, { "damping", "damping λ", "y" },
  { "step", "step η", "y" }, { "change", "root mean square of the weights' change", "y" },
}

-- Of each value, by layer: steps and numbers, where there is one.
local function series_of(path)
  local text, problem = file.read(path)
  if not text then core.raise("log.layers: " .. problem) end
  local by_value, any = {}, false
  for line in text:gmatch "([^\n]*)\n" do
    local good, row = pcall(json.decode, line)
    if not good or type(row) ~= "table" then core.raise(("log.layers: %s is no log of JSON lines"):format(path)) end
    for name, number in pairs(row) do
      local layer, value = name:match "^layer/(.+)/(%l+)$"
      if layer and type(number) == "number" then
        any = true
        by_value[value] = by_value[value] or {}
        local series = by_value[value][layer] or { name = layer, x = {}, y = {} }
        by_value[value][layer] = series
        series.x[#series.x + 1], series.y[#series.y + 1] = row.step, number
      end
    end
  end
  if not any then
    core.raise(("log.layers: %s says nothing of layers; it is written by log.jsonl(path, { layers = true }) as a "
      .. "callback of train.fit, where GLS trains"):format(path))
  end
  return by_value
end

--- A figure of what GLS did in every layer: fraction of the wanted change of the outputs, damping, step, and change of
-- the weights, over the steps.
-- @tparam string path of a log that log.jsonl(path, { layers = true }) has written
-- @tparam[opt] table given `file` = "layers.svg" (or .png, .pdf), `title` = "GLS by layer"
return function(path, given)
  if type(path) ~= "string" then core.raise("log.layers: the path of a log expected, got " .. type(path)) end
  local set = options.check("log.layers", given, { file = "layers.svg", title = "GLS by layer" })
  local by_value, panels = series_of(path), {}
  for _, entry in ipairs(TITLES) do
    local value, title, log = table.unpack(entry)
    local list = {}
    for _, series in pairs(by_value[value] or {}) do list[#list + 1] = series end
    table.sort(list, function(a, b) return a.name < b.name end)
    if #list > 0 then panels[#panels + 1] = { "lines", list, { title = title, x = "step", log = log } } end
  end
  return require("gls.plot").panels(panels, { file = set.file, title = set.title })
end
