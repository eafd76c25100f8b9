--- Batches: what data.loader asks, in place of the core's loader, of sets whose rows Lua makes.
-- @module gls.data.batches
local batches = {}

--- A number of batches, and passes over them.
-- @tparam integer count
-- @tparam function begin begin(seed, epoch) gives an epoch's function: number of a batch, from 1 → x, y, rows
-- @treturn table with `batches()` and `start(self, seed, epoch, first)`: first is how many batches are passed over
function batches.of(count, begin)
  local Batches = {}
  function Batches.batches() return count end
  function Batches.start(_, seed, epoch, first)
    local make, number, running = begin(seed, epoch), first, {}
    function running.next()
      if number == count then return nil end
      number = number + 1
      return make(number)
    end
    function running.stop() number = count end
    return setmetatable(running, { __close = running.stop })
  end
  return Batches
end

return batches
