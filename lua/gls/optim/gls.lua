--- GLS, gradient least squares: each affine layer's weights move so that the layer's outputs move along their negative
-- gradient, in damped least squares. Mathematics and sources: runtime/gls/step.c.
-- What it reads are the factors that backward left (gls.optim.factors), so that a change of `.grad` in place goes
-- unseen; to mask a gradient assign it, which leaves the parameter to Adam: `w.grad = w.grad * mask`.
--
-- Settings have names, forms, by what is wanted (measured in experiments/README.md): `GLS(parameters, "tokens")`, or
-- `GLS(parameters, { form = "tokens", learning_rate = 5e-3 })`, where what is given goes before the form's own:
--   "training"     the lowest training loss: the defaults, at a constant rate, damping 0.003 to 0.03
--   "validation"   images: the matched form with weight decay (a rate of 2e-3 on small CNNs), cosine schedule to zero,
--                  layers as they are initialised by themselves, horizontal flips; label smoothing of 0.1 where
--                  accuracy counts alone: as the training loss falls fast, regularisation pays here
--   "tokens"       language models: moving statistics, an orthogonal direction; warm-up and cosine to a tenth
--   "residual"     networks with batch normalisation: the same with more damping, Nesterov's momentum and steps of
--                  equal spectral norm; cosine schedule to zero
-- Where few batches come again and again, a step fits its own at the cost of others, so it goes a part of the way:
-- `{ delta = 2 }`; lower still, at two to three times Adam's time,
-- `{ statistics = { window = 1000 }, momentum = "auto", rows = 1, delta = 1 }`: a window over about all images, the
-- curvature of all rows.
-- At a fixed rate without `graft` steps go with n, the terms that the loss is the mean of: losses over classes
-- (nn.cross_entropy) count labels, other losses of one tensor (nn.mse, nn.l1, nn.huber) its first dimension, however
-- many elements each has. A loss that is written out, weighted, or the mean of one with reduction "none" has as many
-- terms as the layer that was used last has rows: as many behind a linear layer of (N × d), but N · T of (N × T × d).
-- @module gls.optim.gls
local core = require "gls.core"
local base = require "gls.optim.base"
local options = require "gls.options"
local others = require "gls.optim.others"

--- Settings.
-- @field form = nil; the name of a form, whose settings stand in for those not given
-- @field learning_rate = "auto": the exact minimiser of the loss's Gauss–Newton model along the direction, fresh at
--   every step; or a number η (0.1 to 0.3 suits cross-entropy; with `graft` see there)
-- @field damping = 0.01 ρ, relative: λ = ρ · tr(AᵀA/n) / min(rows, d)
-- @field delta = 0.3 caution of the automatic step: curvature × (1 + delta)
-- @field rows = "auto" fraction of the batch's rows that the curvature is measured on; "auto": a quarter, at least 16.
--   Where the loss is not quadratic they are drawn by their share in its curvature (late in the training of a
--   classifier few samples carry nearly all of it); where samples interact (batch normalisation) and
--   where a weight is used several times over the same samples (recurrent nets) all rows are taken
-- @field momentum = 0 β of V ← βV + (1 − β)U; or "auto": step and momentum chosen together (with learning_rate "auto")
-- @field nesterov = false; with statistics "moving", where V ← βV + (1 − β)g is the mean of gradients g that is solved
--   for: βV + (1 − β)g takes its place (Sutskever et al. 2013)
-- @field graft = nil; "sgd": each layer's step has the norm of SGD's at `learning_rate`; "rms": each step has root
--   mean square 0.2 · `learning_rate` (Liu et al. 2025), the second form: `{ graft = "rms", momentum = 0.9,
--   damping = 3, learning_rate = 1e-3 }`; "spectral": with `orthogonal`, each step's singular values are about
--   `learning_rate` · √max(1, outputs / inputs) (Jordan et al. 2024)
-- @field statistics = "batch"; "moving": AᵀA is averaged over steps (`decay` = 0.95) and factorised every
--   `refresh` = 5 steps (on the wide autoencoder 2 ended as low as 1 at four fifths of the time). For an
--   orthogonal direction layers with at least as many rows as inputs take in the batches of those steps alone, and
--   count the others in `decay`.
--   { window = r } (or "window", with `window` = 1000): AᵀA is that of the last r rows of A, of several batches; where
--   r is less than d the system solved is r × r
-- @field orthogonal = false: with graft "rms" or "spectral" the direction (with its momentum) becomes the nearest
--   orthogonal matrix, by five steps of Newton and Schulz's iteration (gls.newton_schulz; Jordan et al. 2024), so that
--   no output waits for others
-- @field weight_decay = 0 decoupled, times the learning rate, of parameters left to Adam times theirs; automatic: times
--   the schedule's factor alone, so that it is the share of the weights that goes in every step (1e-5 to 1e-3; 0.05 and
--   more is an error)
-- @field trust = "auto" κ: η²⟨U, g⟩ ≤ κ in every layer, of the step without what momentum carries on; 0 is off;
--   "auto": 0.1 in recurrent nets at an automatic rate (recurrent layers, or loops of a script in which a weight meets
--   at least three times what it has made), else off. Without it an LSTM's first steps may take its loss to ten times
--   what it was
-- @field statistics_rows = "auto" convolutions: how many patches, spread over the whole batch, the statistics are
--   made from (0: all); "auto": 5 of every image, at least 128 and at most 512. Where they are fewer than d the system
--   solved is of their number
-- @field part = 128 linear layers, where the step's length is given and has momentum (the second form, of batch
--   statistics): most rows of the batch that are solved together; the direction is the mean of what the parts would
--   give, each as a batch of its own (0: all rows together). Work goes with batch × part, not with the square of the
--   batch
-- @field others = {} names of parameters, or of modules that hold them, that are left to Adam: an LSTM's output layer
--   ends lower so (experiments/README.md, section 9)
-- @field fallback_learning_rate = 1e-3 of Adam, to which parameters without factors are left (norms, embeddings), times
--   the schedule's factor
-- @field fallback_weight_decay = nil; of that Adam, decoupled; nil: `weight_decay`
local GLS = base.class("GLS", {
  learning_rate = options.any "auto", damping = 1e-2, delta = 0.3, rows = options.any "auto", momentum = options.any(0),
  nesterov = false, graft = options.none, statistics = options.any "batch", window = 1000, decay = 0.95, refresh = 5,
  statistics_rows = options.any "auto", part = 128, orthogonal = false, weight_decay = 0,
  trust = options.any "auto", others = options.any {}, fallback_learning_rate = 1e-3,
  fallback_weight_decay = options.none, form = options.none,
})

--- The settings of each form.
GLS.forms = {
  training = { learning_rate = "auto" },
  validation = { graft = "rms", momentum = 0.9, damping = 3, learning_rate = 1e-3, weight_decay = 1 },
  tokens = {
    graft = "rms", momentum = 0.9, damping = 0.1, statistics = "moving", orthogonal = true, learning_rate = 1e-2,
    fallback_learning_rate = 3e-3, weight_decay = 0.1,
  },
  residual = {
    graft = "spectral", momentum = 0.9, nesterov = true, damping = 1, statistics = "moving", orthogonal = true,
    learning_rate = 0.1, fallback_learning_rate = 3e-3, weight_decay = 0.05,
  },
}

for method, body in pairs(base.core_methods) do GLS[method] = body end

local function is_automatic(settings) return (settings.learning_rate or "auto") == "auto" end
local function is_moving(settings) return settings.statistics == "moving" end

-- As count_parts of runtime/gls/layer.c.
local function has_parts(settings)
  local momentum, trust = settings.momentum or 0, settings.trust
  return settings.part == 0 or (settings.statistics or "batch") == "batch" and not is_automatic(settings)
    and momentum ~= 0 and settings.graft ~= "sgd" and not (type(trust) == "number" and trust > 0)
end

-- Settings that act beside certain others alone: whether they do, and what they go with.
local ACTS = {
  window = { function(settings) return settings.statistics == "window" end, 'statistics = "window"' },
  refresh = { is_moving, 'statistics = "moving"' },
  decay = { is_moving, 'statistics = "moving"' },
  delta = { is_automatic, 'learning_rate = "auto"' },
  rows = { function(settings) return settings.rows == "auto" or is_automatic(settings) end, 'learning_rate = "auto"' },
  part = { has_parts, "batch statistics, a number as learning_rate, a momentum above 0, no trust and no graft to SGD" },
}

--- The settings that would have no effect beside the others, those of the form and defaults.
-- @tparam table given as the optimizer takes them
-- @treturn table name → what it goes with
function GLS.idle(given)
  local form, found = GLS.forms[given.form] or {}, {}
  local settings = setmetatable({}, { __index = function(_, name)
    if given[name] ~= nil then return given[name] end
    return form[name]
  end })
  for name, acts in pairs(ACTS) do
    if not acts[1](settings) then found[name] = acts[2] end
  end
  return found
end

local function fail(...) error("optim.GLS: " .. string.format(...), 0) end

-- Refuses what was given and has no effect; what groups share has to have some in one of them.
local function check_idle(groups)
  local idle, counts = {}, {}
  for i, group in ipairs(groups) do
    idle[i] = GLS.idle(group.settings)
    for name in pairs(idle[i]) do counts[name] = (counts[name] or 0) + 1 end
  end
  for i, group in ipairs(groups) do
    for name, goes_with in pairs(idle[i]) do
      if group.asked[name] == "own" or group.asked[name] and counts[name] == #groups then
        fail("%s = %s has no effect here: it goes with %s", name, tostring(group.settings[name]), goes_with)
      end
    end
  end
end

-- statistics = { window = r } as statistics = "window", window = r.
local function spread_window(settings, asked)
  local given = settings.statistics
  if type(given) == "table" then
    if given.window == nil or next(given, next(given)) ~= nil then
      fail('statistics is "batch", "moving" or { window = rows }, and nothing else in the table')
    end
    if asked.window then
      fail('window = %s has no effect here: statistics = { window = %s } says it; it goes with statistics = "window"',
        tostring(settings.window), tostring(given.window))
    end
    settings.statistics, settings.window = "window", given.window
  end
  local rows = settings.window
  if settings.statistics == "window" and (type(rows) ~= "number" or rows < 1 or rows ~= math.floor(rows)
    or rows == math.huge) then
    fail("window is a whole number of rows, at least 1, got %s", tostring(rows))
  end
end

local DAMPING_MOST = 1e4 -- beyond it A U = n (G − λα) is a difference of nearly equal numbers
-- Decay that suits a learning rate of 1e-3 takes the weights away where it stands alone.
local DECAY_MOST = 0.05

local function check_rate(settings)
  local rate, momentum = settings.learning_rate, settings.momentum
  if rate ~= "auto" and not (type(rate) == "number" and rate >= 0 and rate < math.huge) then
    fail('learning_rate is %s, expected a finite number of at least 0, or "auto"', tostring(rate))
  end
  if type(momentum) ~= "number" and momentum ~= "auto" then
    fail('momentum is a number or "auto", got %s', tostring(momentum))
  end
  if type(momentum) == "number" and (momentum < 0 or momentum >= 1) then
    fail("momentum is at least 0 and below 1, got %g", momentum)
  end
end

local function check_curvature(settings)
  local rows = settings.rows
  if rows ~= "auto" and (type(rows) ~= "number" or rows <= 0 or rows > 1) then
    fail('rows is above 0 and at most 1, or "auto", got %s', tostring(rows))
  end
  if not (settings.damping > 0 and settings.damping <= DAMPING_MOST) then
    fail("damping is above 0 (1e-2 to 1e-1 is a good start) and at most %g, from where on the direction is the "
      .. "gradient's and lengths are lost to rounding, got %g", DAMPING_MOST, settings.damping)
  end
end

local function check_length(settings)
  local graft, rate = settings.graft, settings.learning_rate
  if graft and graft ~= "sgd" and graft ~= "rms" and graft ~= "spectral" then
    fail('graft is "sgd", "rms" or "spectral", got "%s"', tostring(graft))
  end
  if graft and rate == "auto" then
    fail('graft = "%s" sets the length of the step by learning_rate, which then is a number', graft)
  end
  if settings.orthogonal and graft ~= "rms" and graft ~= "spectral" then
    fail('orthogonal = true goes with graft = "rms" or "spectral"')
  end
  if rate == "auto" and type(settings.weight_decay) == "number" and settings.weight_decay >= DECAY_MOST then
    fail('weight_decay = %g takes %g %% of the weights in every step: with learning_rate = "auto" no rate is '
      .. "multiplied with it (1e-5 to 1e-3 is usual)", settings.weight_decay, 100 * settings.weight_decay)
  end
  local trust = settings.trust
  if trust ~= "auto" and (type(trust) ~= "number" or trust < 0 or trust ~= trust) then
    fail('trust is a number of at least 0, or "auto", got %s', tostring(trust))
  end
end

-- What momentum goes with.
local function check_momentum(settings)
  local momentum = settings.momentum
  if momentum == "auto" and settings.learning_rate ~= "auto" then
    fail('momentum = "auto" goes with learning_rate = "auto"')
  end
  if momentum == "auto" and settings.statistics == "moving" then
    fail('momentum = "auto" goes with statistics = "batch" or a window')
  end
  if settings.nesterov and not (settings.statistics == "moving" and momentum ~= 0) then
    fail('nesterov = true (the form "residual" has it) goes with statistics = "moving" and a momentum above 0: give '
      .. "nesterov = false")
  end
end

local function check_statistics(settings)
  local part = settings.part
  if part < 0 or part ~= math.floor(part) then fail("part is a number of rows, or 0 for all, got %g", part) end
  local patches = settings.statistics_rows
  if patches ~= "auto" and (type(patches) ~= "number" or patches < 0 or patches ~= math.floor(patches)) then
    fail('statistics_rows is a number of patches, 0 for all, or "auto", got %s', tostring(patches))
  end
  local decay = settings.decay
  if not (decay >= 0 and decay < 1) then fail("decay is at least 0 and below 1, got %g", decay) end
  if settings.statistics ~= "batch" and settings.statistics ~= "moving" and settings.statistics ~= "window" then
    fail('statistics is "batch", "moving" or { window = rows }, got "%s"', tostring(settings.statistics))
  end
end

-- In this order: of two mistakes the first is told.
local function check_settings(settings, asked)
  spread_window(settings, asked)
  check_rate(settings)
  check_curvature(settings)
  check_length(settings)
  check_momentum(settings)
  check_statistics(settings)
end

-- Parameters without factors go to the fallback; the user hears of it once: when the optimizer is made of those whose
-- module is not affine, at the first step of others (a weight that is used outside affine ops).
local function announce(group, without)
  local left = {}
  for i, name in ipairs(group.names) do
    if without(i) and not group.announced[i] then
      left[#left + 1], group.announced[i] = name, true
    end
  end
  if #left == 0 then return end
  base.say_once(("GLS: no factors for %s: left to Adam, learning rate %g"):format(table.concat(left, ", "),
    group.settings.fallback_learning_rate))
end

function GLS.check(self)
  for _, group in ipairs(self.groups) do
    if #self.groups > 1 and group.settings.learning_rate == "auto" then
      fail 'learning_rate = "auto" is one step for all; with several groups give each a number'
    end
    check_settings(group.settings, group.asked)
    others.check(self, group.settings.others)
  end
  for _, name in ipairs { "weight_decay", "fallback_learning_rate", "fallback_weight_decay" } do
    base.check_bounds(self, name)
  end
  if not self.groups[1].core then check_idle(self.groups) end -- later a learning rate may be set
end

function GLS.prepare(self)
  for _, group in ipairs(self.groups) do
    local owners = group.parameters.owners or {}
    group.announced, group.others = {}, {} -- or named by the user
    for i, name in ipairs(group.given) do
      if others.are(name, group.settings.others) then
        group.announced[i], group.others[#group.others + 1] = true, group.parameters[i]
      end
    end
    announce(group, function(i) return owners[i] and not owners[i].affine end)
    group.core = core.optimizer("gls", group.parameters)
    group.fallback = core.optimizer("adam", group.parameters)
  end
end

-- The fallback steps the parameters that GLS left: the others' gradients are gone by then.
local function step_fallback(self, group, settings)
  local left, parameters = {}, {}
  for _, i in ipairs(group.core:unhandled()) do
    left[i], parameters[#parameters + 1] = true, group.parameters[i]
  end
  if next(left) == nil then return end
  local ranks = rawget(self, "ranks")
  if ranks then ranks.sum_gradients(parameters) end
  announce(group, function(i) return left[i] and group.parameters[i].grad end)
  for i, parameter in ipairs(group.parameters) do
    if not left[i] then parameter:zero_grad() end
  end
  others.step(group.fallback, settings, self.steps + 1, settings.fallback_weight_decay or settings.weight_decay)
end

function GLS:update(group, settings)
  if settings.rows == "auto" then settings.rows = -1 end
  if settings.statistics_rows == "auto" then settings.statistics_rows = -1 end
  if settings.trust == "auto" then settings.trust = -1 end
  settings.automatic = settings.learning_rate == "auto"
  if settings.automatic then settings.learning_rate = settings.factor end
  settings.automatic_momentum = settings.momentum == "auto"
  if settings.automatic_momentum then settings.momentum = 0 end
  local ranks = rawget(self, "ranks") -- of gls.distributed
  if ranks then ranks.same(settings) end
  settings.ranks = ranks ~= nil
  for _, parameter in ipairs(group.others) do -- assigned, a gradient has no factors
    if parameter.grad then parameter.grad = parameter.grad end
  end
  group.core:step(settings)
  step_fallback(self, group, settings)
end

local COUNTS = { "cholesky_retries", "direction_fallbacks", "trust_limits", "skipped_steps" }

--- What the guards did (counts over all groups: cholesky_retries, direction_fallbacks, trust_limits, skipped_steps) and
-- the last step's `learning_rate` η and `momentum` μ (of the first group).
function GLS:report()
  local report = self.groups[1].core:report()
  for i = 2, #self.groups do
    local more = self.groups[i].core:report()
    for _, name in ipairs(COUNTS) do report[name] = report[name] + more[name] end
  end
  return report
end

--- What the last step was in each layer, from the step after the first call on, by the name of its weight: `damping` λ;
-- `fraction` of the change of the outputs that is wanted (−n G) which the direction makes (1: all of it; of a batch
-- solved in parts, of each part's own; NaN where it is not known); `step` η; `change`, the root mean square of the
-- weights' change; and how often so far λ was raised (`retries`), the gradient taken instead (`fallbacks`), the step
-- shortened (`limits`). It costs a reading more of every layer's gradient.
-- @treturn table
function GLS:layers()
  local found = {}
  for _, group in ipairs(self.groups) do
    for _, layer in ipairs(group.core:layers()) do
      found[group.names[layer.place]], layer.place = layer, nil
    end
  end
  return found
end

function GLS:state_dict()
  local tensors = base.core_methods.state_dict(self).tensors
  for _, group in ipairs(self.groups) do others.save(tensors, group.fallback, group.names) end
  return self:saved(tensors)
end

function GLS:load_state(group, i, slot, tensor) -- luacheck: ignore self
  local fallback = others.slot(slot)
  if fallback then group.fallback:set_state(fallback, i, tensor) else group.core:set_state(slot, i, tensor) end
end

return GLS
