-- What the tests of derivatives share.
local assert = require "luassert"
local gls = require "gls"
local derivatives = {}

function derivatives.leaf(list) return gls.tensor(list, { requires_grad = true }) end

--- Holds got to tolerance = 1e-4 times the largest of what is expected, and of least = 1e-3.
function derivatives.near(expected, got, tolerance, least)
  assert.same(expected.shape, got.shape)
  local scale = math.max(least or 1e-3, expected:abs():max():item())
  assert.is_true((expected - got):abs():max():item() <= (tolerance or 1e-4) * scale)
end

return derivatives
