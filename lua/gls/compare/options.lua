--- The command line of a comparison.
-- @module gls.compare.options
local argparse = require "argparse"
local entries = require "gls.compare.entries"
local misuse = require("gls.experiment.misuse").raise
local protocol = require "gls.compare.protocol"
local tasks = require "gls.compare.tasks"
local whole = require("gls.experiment.options").whole

local options = {}

local function split(text)
  local list = {}
  for part in text:gmatch "[^,%s]+" do list[#list + 1] = part end
  return list
end

-- Numbers of the protocol that a user may change.
local COUNTS = {
  { "studies", 1, "Independent searches of every optimizer on every task" },
  { "trials", 1, "Quasi-random points of each search" },
  { "retunes", 0, "Changes of schedule and decay around the best of them" },
}

local function parser()
  local made = argparse("glsrun experiments/compare.lua",
    "Compares an optimizer with tuned baselines. Run again with the same arguments, it goes on where it was.")
  made:help_max_width(100)
  made:add_help(false)
  made:flag("-h --help", "Show this help and end.")
  made:option("--optimizer", ("What to compare: a file that returns { name =, optimizer =, space = }, or one of %s. "
    .. "Repeatable."):format(table.concat(entries.names(), ", "))):count "*":argname "FILE"
  made:flag("--study", "All tasks at full budgets: a night and more, in place of an answer within twenty minutes.")
  made:option("--baselines", ("What it is compared with (default %s; with --study %s)."):format(
    table.concat(protocol.modes.short.baselines, ","), table.concat(protocol.modes.study.baselines, ",")), nil,
    split):argname "LIST"
  made:option("--tasks", ("Tasks that come along: %s (default %s; with --study all)."):format(
    table.concat(tasks.built_in, ", "), table.concat(protocol.modes.short.tasks, ",")), nil, split):argname "LIST"
  made:option("--task", "A task of your own, a file. Repeatable; without --tasks alone."):count "*":argname "FILE"
  for _, count in ipairs(COUNTS) do
    made:option("--" .. count[1], ("%s (default %d; with --study %d)."):format(count[3], protocol.modes.short[count[1]],
      protocol.modes.study[count[1]]), nil, whole(count[1], count[2])):argname "N"
  end
  made:option("--steps", "Steps of a run in place of the tasks' own.", nil, whole("steps", 1)):argname "N"
  made:option("--seed", "Of all seeds and points (default 1).", nil, whole("seed", 0)):argname "N"
  made:option("--data", "Images in place of the tasks' own: cifar10, fashion-mnist, folder:PATH."):argname "NAME"
  made:option("--data-dir", "Where data lies (default: GLS_DATA, else ~/.cache/glsrun)."):argname "DIR"
  made:option("--threads", "Threads (default: the number of cores).", nil, whole("threads", 1)):argname "N"
  made:option("--out", "Where results go (default runs/compare/NAME, with --study runs/compare/NAME-study). Another "
    .. "optimizer with the same --out finds the baselines' runs there."):argname "DIR"
  made:flag("--quiet", "Say nothing but the path of the report.")
  return made
end

--- Reads a command line.
-- @tparam table arguments list of strings
-- @treturn table|nil `mode`, `optimizers`, `baselines`, `tasks`, `studies`, `trials`, `retunes`, `evaluations`, `seed`,
-- …; nil after --help
-- @treturn string help
function options.parse(arguments)
  local made = parser()
  for _, argument in ipairs(arguments) do
    if argument == "-h" or argument == "--help" then return nil, made:get_help() end
  end
  local good, given = made:pparse(arguments)
  if not good then misuse("%s (--help lists the options)", given) end
  if #given.optimizer == 0 then
    misuse("--optimizer is missing: a file that returns { name =, optimizer =, space = }, or one of %s",
      table.concat(entries.names(), ", "))
  end
  local mode = given.study and "study" or "short"
  local chosen = { mode = mode, optimizers = given.optimizer, seed = given.seed or 1, data = given.data,
    data_dir = given.data_dir, threads = given.threads, out = given.out, quiet = given.quiet, steps = given.steps }
  for name, value in pairs(protocol.modes[mode]) do chosen[name] = given[name] or value end
  local list = given.tasks or #given.task == 0 and chosen.tasks or {}
  chosen.tasks = table.move(given.task, 1, #given.task, #list + 1, table.move(list, 1, #list, 1, {}))
  return chosen
end

return options
