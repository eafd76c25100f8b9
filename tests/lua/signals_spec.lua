-- Signals in the middle of training: the step under way is finished and its checkpoint written, the exit code is the
-- shell's for the signal, and the resumed run is the run that was not interrupted. GLSRUN names the program.
local gls = require "gls"
local scratch = require "tests.lua.scratch"
local path, write = scratch.path, scratch.write
local glsrun = os.getenv "GLSRUN" or "build/glsrun"

scratch.each(before_each, after_each)

-- Trains for 5 epochs of 6 batches; in the step whose number is the first argument it sends itself the signal that is
-- the second, before the step's loss is there.
local SCRIPT = [[
local gls = require "gls"
local data, nn, optim, train = gls.data, gls.nn, gls.optim, gls.train
local at, name, file = tonumber(arg[1]), arg[2], arg[3]
gls.seed(5)
local x, y = gls.randn(60, 5), gls.randint(1, 3, { 60 })
local model = nn.Sequential { nn.Linear(5, 20), nn.ReLU(), nn.Dropout(0.1), nn.Linear(20, 3) }
local step = 0
local function kill() io.popen("kill -" .. name .. " $PPID"):close() end
train.fit {
  model = model, optimizer = optim.Adam(model:parameters()), epochs = 5, resume = true, checkpoint = file,
  data = data.loader(data.tensors { x = x, y = y }, { batch = 10, shuffle = true }),
  validation = data.loader(data.tensors { x = x, y = y }, { batch = 10 }),
  loss = function(network, batch)
    if network.training then step = step + 1 end
    if network.training and step == at then kill() end
    if not network.training and at == -1 and batch.number == 2 then kill() end
    return nn.cross_entropy(network(batch.x), batch.y)
  end,
  callbacks = { { on_step = function(_, state) print("step", state.step) end } },
}
print "at the end"
]]

local function run(at, name, file)
  local pipe = assert(io.popen(("'%s' '%s' %d %s '%s' 2>&1; echo \"code $?\""):format(glsrun, path "script.lua", at,
    name, path(file))))
  local text = pipe:read "a"
  pipe:close()
  return text
end

local function same(a, b)
  for name, tensor in pairs(a) do assert.same(tensor:tolist(), b[name]:tolist(), name) end
end

describe("a signal in the middle of a step of train.fit", function()
  it("ends the program after the step, with its checkpoint written and the signal's exit code", function()
    write("script.lua", SCRIPT)
    assert.matches("step\t30\nat the end\ncode 0\n$", run(0, "INT", "whole"))
    local whole = gls.load(path "whole")
    for name, code in pairs { INT = 130, TERM = 143, HUP = 129 } do
      local text = run(8, name, name)
      assert.matches("step\t8\n.*interrupted!", text)
      assert.matches("\ncode " .. code .. "\n$", text)
      assert.is_nil(text:find("step\t9", 1, true))
      assert.is_nil(text:find("at the end", 1, true))
      local kept = gls.load(path(name))
      assert.same({ 1, 2, 8 }, { kept.epoch, kept.batch, kept.step })
      run(0, "INT", name)
      same(whole.model, gls.load(path(name)).model)
      same(whole.optimizer.tensors, gls.load(path(name)).optimizer.tensors)
    end
  end)

  it("does not wait for the end of the validation, which the resumed run does anew", function()
    write("script.lua", SCRIPT)
    run(0, "INT", "whole")
    local text = run(-1, "TERM", "cut")
    assert.matches("step\t6\n.*interrupted!.*code 143\n$", text)
    local kept = gls.load(path "cut")
    assert.same({ 0, 6, 6, true }, { kept.epoch, kept.batch, kept.step, kept.trained })
    run(0, "INT", "cut")
    same(gls.load(path "whole").model, gls.load(path "cut").model)
    assert.same(gls.load(path "whole").metrics, gls.load(path "cut").metrics)
  end)

  it("a second time is not waited for", function()
    write("script.lua", [[
      local gls = require "gls"
      local nn, optim = gls.nn, gls.optim
      local model = nn.Linear(2, 2)
      gls.train.fit {
        model = model, optimizer = optim.SGD(model:parameters()),
        loss = function()
          for _ = 1, 2 do io.popen("kill -INT $PPID"):close() end
          for _ = 1, math.huge do end
        end,
        data = function(_, last) return not last and { x = gls.ones(1, 2) } or nil end,
      }
    ]])
    local pipe = assert(io.popen(("timeout 20 '%s' '%s' 2>&1; echo \"code $?\""):format(glsrun, path "script.lua")))
    local text = pipe:read "a"
    pipe:close()
    assert.matches("interrupted!.*code 130\n$", text)
  end)
end)
