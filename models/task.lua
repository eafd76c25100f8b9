--- Task: what experiments train a model on: how the data is presented, the loss, the model built for it.
local nn = require "gls.nn"
local misuse = require "gls.experiment.misuse"
local options = require "gls.options"

-- The images of a set, or the vocabulary of a text.
local function images_of(set)
  if set.images then return set.images end
  misuse.raise("option --data: %s is no set of images; this model takes cifar10, fashion-mnist, mnist or folder:PATH",
    tostring(set.name))
end

local function vocabulary_of(set)
  if set.vocabulary then return #set.vocabulary end
  misuse.raise("option --data: %s is no text; this model takes text or text:FILE", tostring(set.name))
end

-- What a model has to know of a set.
local sizes = {}
function sizes.flat(set) return { inputs = images_of(set)[1]:numel() } end
function sizes.image(set)
  local images = images_of(set)
  return { channels = images:size(2), height = images:size(3), width = images:size(4) }
end
function sizes.channels(set) return { channels = images_of(set):size(2) } end
function sizes.rows(set) return { inputs = images_of(set):size(2) * set.images:size(4) } end
function sizes.tokens(set) return { vocabulary = vocabulary_of(set) } end
function sizes.window(set) return { vocabulary = vocabulary_of(set), context = set.context } end

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

local function check_table(name, value)
  if value == nil or type(value) == "table" then return end
  error(("%s is a table of options, in the script, got %s"):format(name, tostring(value)), 0)
end

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
    check_table("model", settings.model)
    check_table("loss", settings.loss)
    for key, value in pairs(settings.model or {}) do given[key] = value end
    return build(given)
  end
  for key, value in pairs(task[2]) do
    if fields[key] == nil then fields[key] = value end
  end
  return fields
end
