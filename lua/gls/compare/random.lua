--- Random: streams of numbers for a comparison's own draws (points of a search, seeds of runs, bootstrap samples),
-- apart from gls.seed's: the same names give the same numbers whatever else is drawn. SplitMix64 (Steele, Lea and
-- Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
-- @module gls.compare.random
local random = {}

local function mix(z)
  z = (z ~ (z >> 30)) * 0xBF58476D1CE4E5B9
  z = (z ~ (z >> 27)) * 0x94D049BB133111EB
  return z ~ (z >> 31)
end

--- A stream of its own for every list of names.
-- @param ... texts and numbers that name it
-- @treturn function gives the next number in [0, 1); called with n, a whole number from 1 to n
function random.stream(...)
  local state = mix(0xCBF29CE484222325)
  for _, name in ipairs { ... } do
    for i = 1, #tostring(name) do state = mix(state ~ tostring(name):byte(i)) end
    state = mix(state ~ 0x100) -- the end of a name: "ab", "c" is not "a", "bc"
  end
  return function(n)
    state = state + 0x9E3779B97F4A7C15
    local u = (mix(state) >> 11) * 0x1p-53
    return n and math.floor(u * n) + 1 or u
  end
end

--- A seed for gls.seed, the same for the same names.
function random.seed(...) return random.stream(...)(1 << 30) end

return random
