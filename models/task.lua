--- Task: what experiments train a model on: how the images are presented, the loss, the model built for them.
local nn = require "gls.nn"
local options = require "gls.options"

local function classifier(flatten)
  return {
    loss_name = "cross-entropy", classify = true, data = { flatten = flatten, center = true, scale = 0.25 },
    loss = function(logits, batch, given) return nn.cross_entropy(logits, batch.y, given) end,
  }
end

-- What a model has to know of the images.
local function sizes(task, set)
  local images = set.images
  local given = task.data.flatten and { inputs = images[1]:numel() }
    or { channels = images:size(2), height = images:size(3), width = images:size(4) }
  if task.classify then given.outputs = #set.classes end
  return given
end

local tasks = {
  mlp = classifier(true),
  cnn = classifier(false),
  autoencoder = {
    loss_name = "half mean of squares", data = { flatten = true, center = true },
    loss = function(output, batch) return nn.mse(output, batch.x) * 0.5 end,
  },
}

--- An experiment on a model: the given fields of gls.experiment.run, with `model`, `loss`, `loss_name`, `classify` and
-- `data` filled in. A trial's settings `initialisation` and `model` (a table of the model's own options) reach it.
-- @tparam string name of the model: "mlp", "cnn", "autoencoder"
-- @tparam table fields `name`, `title`, `trials`, `defaults`, …
-- @treturn table fields, completed
return function(name, fields)
  local task = tasks[name]
  if not task then
    error(('unknown model "%s"%s'):format(tostring(name), options.suggestion(tostring(name), tasks)), 2)
  end
  local build = require("models." .. name)
  fields.model = function(set, settings)
    local given = sizes(task, set)
    given.initialisation = settings.initialisation
    for key, value in pairs(settings.model or {}) do given[key] = value end
    return build(given)
  end
  for key, value in pairs(task) do
    if fields[key] == nil then fields[key] = value end
  end
  return fields
end
