--- Task: what experiments train a model on: how the data is presented, the loss, the model built for it.
local nn = require "gls.nn"
local options = require "gls.options"

-- What a model has to know of a set.
local sizes = {}
function sizes.flat(set) return { inputs = set.images[1]:numel() } end
function sizes.image(set)
  local images = set.images
  return { channels = images:size(2), height = images:size(3), width = images:size(4) }
end
function sizes.channels(set) return { channels = set.images:size(2) } end
function sizes.rows(set) return { inputs = set.images:size(2) * set.images:size(4) } end
function sizes.tokens(set) return { vocabulary = #set.vocabulary } end
function sizes.window(set) return { vocabulary = #set.vocabulary, context = set.context } end

local function classifier(flatten)
  return {
    loss_name = "cross-entropy", classify = true, data = { flatten = flatten, center = true, scale = 0.25 },
    loss = function(logits, batch, given) return nn.cross_entropy(logits, batch.y, given) end,
  }
end

local language = {
  loss_name = "cross-entropy", data = {},
  loss = function(logits, batch) return nn.cross_entropy(logits, batch.y) end,
}

-- Of every model its sizes and its experiment's fields.
local tasks = {
  mlp = { sizes.flat, classifier(true) },
  cnn = { sizes.image, classifier(false) },
  resnet = { sizes.channels, classifier(false) },
  gru = { sizes.rows, classifier(false) },
  transformer = { sizes.window, language },
  lstm = { sizes.tokens, language },
  autoencoder = { sizes.flat, {
    loss_name = "half mean of squares", data = { flatten = true, center = true },
    loss = function(output, batch) return nn.mse(output, batch.x) * 0.5 end,
  } },
}

--- An experiment on a model: the given fields of gls.experiment.run, with `model`, `loss`, `loss_name`, `classify` and
-- `data` filled in. A trial's settings `initialisation` and `model` (a table of the model's own options) reach it.
-- @tparam string name of the model: "mlp", "cnn", "resnet", "gru", "autoencoder", "transformer", "lstm"
-- @tparam table fields `name`, `title`, `trials`, `defaults`, …
-- @treturn table fields, completed
return function(name, fields)
  local task = tasks[name]
  if not task then
    error(('unknown model "%s"%s'):format(tostring(name), options.suggestion(tostring(name), tasks)), 2)
  end
  local build, sizes_of = require("models." .. name), task[1]
  fields.model = function(set, settings)
    local given = sizes_of(set)
    if fields.classify then given.outputs = #set.classes end
    given.initialisation = settings.initialisation
    for key, value in pairs(settings.model or {}) do given[key] = value end
    return build(given)
  end
  for key, value in pairs(task[2]) do
    if fields[key] == nil then fields[key] = value end
  end
  return fields
end
