--- Number: finite or not, and numbers in words, for all that prints.
-- @module gls.number
local number = {}

--- Whether a value is a number other than ±infinity and NaN.
-- @param value
-- @treturn boolean
function number.finite(value)
  return type(value) == "number" and value == value and value ~= math.huge and value ~= -math.huge
end

-- "1.23e+05" as "1.23e5".
local function short_exponent(text)
  return (text:gsub("e([+-])0*(%d)", function(sign, digit) return "e" .. (sign == "-" and "-" or "") .. digit end))
end

--- A quantity with three significant digits, as in a table: `0.0123`, `1.23e-5`, `4.57`, `diverged`.
-- @tparam number|nil value
-- @treturn string
function number.text(value)
  if value == nil then return "–" end
  if value ~= value or value == math.huge then return "diverged" end
  if value == 0 then return "0" end
  local size = math.abs(value)
  if size < 1e-3 or size >= 1e5 then return short_exponent(("%.2e"):format(value)) end
  local decimals = 2 - math.floor(math.log(size, 10) + 1e-9)
  return (("%%.%df"):format(math.max(decimals, 0)):format(value))
end

--- A setting as people write it: `1e-3`, `0.03`, `250`; what is no number by tostring.
-- @param value
-- @treturn string
function number.setting(value)
  if type(value) ~= "number" then return tostring(value) end
  local text = ("%g"):format(value)
  if math.abs(value) < 0.01 and value ~= 0 then text = ("%.3g"):format(value) end
  if math.abs(value) < 0.01 and value ~= 0 and not text:find "e" then
    local exponent = math.floor(math.log(math.abs(value), 10) + 1e-9)
    text = ("%ge%d"):format(value / 10.0 ^ exponent, exponent)
  end
  return short_exponent(text)
end

--- A count in groups of three digits: `60 000`.
-- @tparam integer count
-- @treturn string
function number.grouped(count)
  return (("%d"):format(count):reverse():gsub("(%d%d%d)", "%1 "):reverse():gsub("^ ", ""))
end

--- The shape of a tensor: `(3×4)`.
-- @tparam table shape
-- @treturn string
function number.shape(shape) return "(" .. table.concat(shape, "×") .. ")" end

return number
