--- VAE: a variational autoencoder: an encoder that gives the mean and spread of a code, a decoder of a code drawn from
-- them, and the loss of both (Kingma and Welling, "Auto-encoding variational Bayes", ICLR 2014).
local gls, nn = require "gls", require "gls.nn"
local options = require "gls.options"

local VAE = nn.class("VAE")

local function perceptron(inputs, hidden, outputs)
  return nn.Sequential { nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs) }
end

function VAE:init(set)
  self.code, self.beta = set.code, set.beta
  self.encoder = perceptron(set.inputs, set.hidden, 2 * set.code)
  self.decoder = perceptron(set.code, set.hidden, set.inputs)
end

-- Logits of the pixels of a drawn code (in evaluation mode of its mean), the code's mean and logarithm of variance.
function VAE:forward(x)
  local mean, log_variance = table.unpack(self.encoder(x):chunk(2, 2))
  local code = mean
  if self.training then code = mean + (log_variance * 0.5):exp() * gls.randn_like(mean) end
  return self.decoder(code), mean, log_variance
end

--- Minus the evidence lower bound (their appendix B), a mean over images x (n × inputs, 0 to 1): the cross-entropy of
-- the pixels, and `beta` times the divergence of the code from a standard normal one.
function VAE:loss(x)
  local logits, mean, log_variance = self(x)
  local pixels = nn.binary_cross_entropy(logits, x, { reduction = "sum" })
  local divergence = (mean:square() + log_variance:exp() - log_variance - 1):sum() * 0.5
  return (pixels + divergence * self.beta) / x:size(1)
end

--- Images of n drawn codes, n × inputs, 0 to 1.
function VAE:sample(n) return self.decoder(gls.randn(n, self.code)):sigmoid() end

--- @tparam[opt] table given `inputs` = 784 (pixels), `hidden` = 400, `code` = 20 (numbers of a code), `beta` = 1
-- (weight of the divergence: Higgins et al., ICLR 2017), `initialisation` = "he"
-- @treturn table module: `model:loss(x)` trains it, `model:sample(n)` draws images
return function(given)
  local set = options.check("models.vae", given,
    { inputs = 784, hidden = 400, code = 20, beta = 1, initialisation = "he" })
  return require "models.initialise"(VAE(set), set.initialisation)
end
