--- Tensor: functions of tensors that are compositions of rows of the op table: functions of gls and, where they take a
-- tensor first, methods.
--
-- arrange, order, algebra, einsum  by kind     arguments  how they read what they are given
-- @module gls.tensor
local core = require "gls.core"
local strict = require "gls.strict"

local functions = { einsum = require "gls.tensor.einsum" }
local methods = getmetatable(core.zeros(0)).methods
core.groups.einsum = "products and convolutions"

for name, group in pairs { arrange = "arranging", order = "order", algebra = "linear algebra" } do
  for word, f in pairs(require("gls.tensor." .. name)) do
    functions[word], core.groups[word] = strict.checked(word, f), group
    if debug.getlocal(f, 1) ~= "vectors" then methods[word] = functions[word] end
  end
end

return functions
