--- Tensor: functions of tensors that are compositions of rows of the op table: functions of gls and, where they take a
-- tensor first, methods.
-- @module gls.tensor
local core = require "gls.core"
local strict = require "gls.strict"

local functions = { einsum = strict.checked("einsum", require "gls.tensor.einsum") }
local methods = getmetatable(core.zeros(0)).methods

for _, name in ipairs { "arrange", "order", "algebra" } do
  for word, f in pairs(require("gls.tensor." .. name)) do
    functions[word] = strict.checked(word, f)
    if debug.getlocal(f, 1) ~= "vectors" then methods[word] = functions[word] end
  end
end

return functions
