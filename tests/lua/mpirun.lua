-- What tests of several processes share. Where gls.mpi is not built, or mpirun is not there, they say so.
local scratch = require "tests.lua.scratch"

local mpirun = { program = os.getenv "GLSRUN" or "build/glsrun" }

--- Before every command. Root has to say that it means it; what Open MPI leaves unfreed is its own; ranks that wait
-- leave the processor to others.
mpirun.environment = "ASAN_OPTIONS=detect_leaks=0 OMP_NUM_THREADS=1 "
  .. "OMPI_MCA_mpi_yield_when_idle=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 "

local is_there = package.searchpath("gls.mpi", package.cpath) ~= nil
  and os.execute(mpirun.environment .. "mpirun --oversubscribe -n 1 true > /dev/null 2>&1") == true

--- A test that needs them, by busted's `it` and `pending`.
function mpirun.test(it, pending, name, f)
  if is_there then return it(name, f) end
  pending(name .. ": skipped: gls.mpi is not built or mpirun is not there (libopenmpi-dev, openmpi-bin)")
end

--- Runs a command, for 60 seconds or so many.
-- @treturn boolean|nil whether all ended well
-- @treturn string what was printed
function mpirun.execute(command, seconds)
  local line = ("%s timeout %d %s > %s 2>&1"):format(mpirun.environment, seconds or 60, command, scratch.path "printed")
  local good = os.execute(line)
  return good, (scratch.read "printed":gsub("\r", ""))
end

--- The same for a script on so many ranks; on one without mpirun.
function mpirun.run(ranks, text, seconds)
  local launcher = ranks == 1 and "" or ("mpirun --oversubscribe -n %d "):format(ranks)
  return mpirun.execute(launcher .. mpirun.program .. " " .. scratch.write("script.lua", text), seconds)
end

return mpirun
