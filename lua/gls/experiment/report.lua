--- Report: what an experiment leaves behind beside results.jsonl: config.json, summary.md and figures.
-- @module gls.experiment.report
local figures = require "gls.experiment.figures"
local file = require "gls.file"
local record = require "gls.experiment.record"
local summary = require "gls.experiment.summary"

local report = {}

--- Writes config.json.
-- @tparam table config
-- @tparam string directory
function report.write_config(config, directory)
  local text = record.encode(config, { "experiment", "title", "command", "state", "options" })
  file.replace(directory .. "/config.json", text .. "\n")
end

--- Writes the figures, summary.md and, last, config.json with the job's state, each whole or not at all.
-- @tparam table spec
-- @tparam table config
-- @tparam table rows
-- @tparam string directory
-- @treturn string path of summary.md
-- @treturn string the main table for a terminal
-- @treturn table files of the figures
-- @treturn string|nil why figures are missing: no gnuplot, nothing to draw
-- @raise when something cannot be written; the state is then that of an error
function report.write(spec, config, rows, directory)
  local good, files, why = pcall(figures.write, spec, config, rows, directory)
  if not good then config.state = "Ended by an error." end
  local text, terminal = summary.of(spec, config, rows, good and files or {})
  local path = directory .. "/summary.md"
  file.replace(path, text)
  report.write_config(config, directory)
  if not good then error(files, 0) end
  return path, terminal, files, why
end

return report
