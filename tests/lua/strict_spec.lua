-- What is wrong with a call or a name is said, at the user's line, with what would be right; and everything public has
-- its help.
local gls = require "gls"
local nn, optim, data, plot = require "gls.nn", require "gls.optim", require "gls.data", require "gls.plot"
local options = require "gls.options"

-- The message of the error that f raises.
local function message_of(f, ...)
  local good, message = pcall(f, ...)
  assert.is_false(good)
  return tostring(message)
end

describe("a name that is not there", function()
  it("is an error that suggests the nearest, in every module and on tensors", function()
    local x = gls.ones(2)
    for _, case in ipairs {
      { function() return gls.zero end, 'gls has no "zero"; did you mean "zeros"?' },
      { function() return nn.Liner end, 'nn has no "Liner"; did you mean "Linear"?' },
      { function() return nn.init.orthogonl end, 'nn.init has no "orthogonl"; did you mean "orthogonal"?' },
      { function() return optim.Adamw end, 'optim has no "Adamw"; did you mean "AdamW"?' },
      { function() return optim.schedule.cosin end, 'optim.schedule has no "cosin"; did you mean "cosine"?' },
      { function() return data.cifar_10 end, 'data has no "cifar_10"; did you mean "cifar10"?' },
      { function() return plot.line end, 'plot has no "line"; did you mean "lines"?' },
      { function() return x.shpae end, 'a tensor has no field or method "shpae"; did you mean "shape"?' },
      { function() return x:rehsape(1, 2) end, 'a tensor has no field or method "rehsape"; did you mean "reshape"?' },
    } do
      local message = message_of(case[1])
      assert.truthy(message:find(case[2], 1, true), message)
      assert.matches("strict_spec%.lua:%d+: ", message)
    end
  end)

  it("can be asked for with rawget, and is no error where Lua and its libraries look", function()
    assert.is_nil(rawget(gls, "zero"))
    assert.is_nil(gls._VERSION)
    assert.is_nil(gls.ones(1).__pairs)
    assert.is_false((pcall(require, "gls.nothing")))
    assert.is_nil(nn.Linear(2, 2).nothing) -- a user's own class may ask for fields that it has not set
  end)
end)

describe("arguments that a function does not take", function()
  local x = gls.ones(2)
  it("are refused by functions in C, rows and Lua, with the call as it should be", function()
    for _, case in ipairs {
      { function() return gls.ones(1):item(2) end, "item: too many arguments; the call is x:item() -> number" },
      { function() x:requires_grad(true, 1) end, "requires_grad: too many arguments" },
      { function() return gls.arange(1, 2, 3, 4) end, "arange: too many arguments" },
      { function() return gls.seed(1, 2) end, "seed: too many arguments; the call is seed(n)" },
      { function() return x:relu(3) end, "relu: too many arguments" },
      { function() return nn.mse(x, x, {}, 1) end, "nn.mse: too many arguments; the call is nn.mse(" },
      { function() return nn.ReLU(0.1) end, "nn.ReLU: too many arguments; the call is nn.ReLU()" },
      { function() return nn.Sequential(nn.ReLU(), nn.ReLU()) end, "nn.Sequential: " },
      { function() return nn.ReLU():parameters(1) end, "model:parameters: too many arguments; the call is model:" },
      { function() return nn.ReLU():eval(true) end, "model:eval: too many arguments; the call is model:eval()" },
      { function() return nn.Linear(2, 2):initialize("orthogonal", 1, 2) end, ":initialize: too many arguments" },
      { function() return data.tensors({ x = x }):take({ 1 }, 2) end, "set:take: too many arguments" },
      { function() return data.loader(data.tensors { x = x }, {}):epoch(1) end, "loader:epoch: too many arguments" },
      { function() return optim.SGD({ gls.ones(1):requires_grad(true) }):step(nil, 2) end, "optimizer:step: too many" },
      { function() return optim.Adam({ x }, {}, 1) end, "optim.Adam: too many arguments" },
      { function() return optim.clip_gradients({ x }, 1, 2) end, "optim.clip_gradients: too many arguments" },
    } do
      local message = message_of(case[1])
      assert.truthy(message:find(case[2], 1, true), message)
      assert.matches("strict_spec%.lua:%d+: ", message)
    end
  end)

  it("may be nil at the end, as an option that is not given", function()
    assert.equal(1, gls.ones(1):item(nil))
    assert.equal(0, nn.mse(x, x, nil, nil):item())
  end)

  it("of the wrong kind are named by their place", function()
    assert.truthy(message_of(gls.seed, "x"):find("seed: argument 1 must be a whole number, got string", 1, true))
    assert.truthy(message_of(x.fill, x, {}):find("fill: argument 2 must be a number, got table", 1, true))
  end)
end)

describe("lists with a nil inside", function()
  local missing = nil
  it("are refused by containers, optimizers and ops", function()
    local x, y = gls.ones(2):requires_grad(true), gls.ones(2):requires_grad(true)
    for _, case in ipairs {
      { function() return nn.Sequential { nn.ReLU(), missing, nn.ReLU() } end,
        "nn.Sequential: entry 2 of the list is nil" },
      { function() return optim.SGD({ x, missing, y }, {}) end, "optim.SGD: entry 2 of the list is nil" },
      { function() return optim.clip_gradients({ x, missing, y, missing }, 1) end,
        "clip_gradients: parameters: entry 2 of the list is nil" },
      { function() return gls.cat({ x, missing, y, missing }, 1) end, "cat: entry 2 of the list is nil" },
      { function() return gls.tensor { 1, missing, 3, missing } end, "tensor: entry 2 of the list is nil" },
      { function() return x:view { 1, missing, 2, missing } end, "view: entry 2 of the list is nil" },
      { function() return gls.zeros { 2, missing, 2, missing } end, "sizes: entry 2 of the list is nil" },
    } do
      local message = message_of(case[1])
      assert.truthy(message:find(case[2], 1, true), message)
      assert.matches("strict_spec%.lua:%d+: ", message)
    end
  end)
end)

describe("an error inside a model", function()
  local Block = nn.class "Block"
  function Block:init(width) self.norm = nn.LayerNorm(width + 1) end
  function Block:forward(x)
    return self.norm(x) -- the place
  end
  local line = debug.getinfo(Block.forward, "S").linedefined + 1

  it("names the user's line in forward, also one that ends in a tail call", function()
    local model = nn.Sequential { nn.Linear(4, 4), nn.Sequential { Block(4) } }
    local message = message_of(model, gls.randn(3, 4))
    assert.truthy(message:find(("strict_spec.lua:%d: 2.1.norm (LayerNorm): "):format(line), 1, true), message)
    local Plain = nn.class "Plain"
    function Plain:init() self.block = Block(4) end
    function Plain:forward(x)
      local y = self.block.norm(x)
      return y
    end
    line = debug.getinfo(Plain.forward, "S").linedefined + 1
    message = message_of(nn.Sequential { Plain() }, gls.randn(3, 4))
    assert.truthy(message:find(("strict_spec.lua:%d: "):format(line), 1, true), message)
  end)

  it("names the line of a constructor inside a constructor", function()
    local Wrong = nn.class "Wrong"
    function Wrong:init() self.inner = nn.Linear("x", 2) end
    local message = message_of(function() return nn.Sequential { Wrong() } end)
    assert.truthy(message:find(("strict_spec.lua:%d: nn.Linear"):format(
      debug.getinfo(Wrong.init, "S").linedefined), 1, true), message)
  end)

  it("names the line of a function's backward", function()
    local f = gls.fn {
      forward = function(_, x) return x * 2 end,
      backward = function(_, g) return g:matmul(g, g, g) end,
    }
    local message = message_of(function() f(gls.ones(2):requires_grad(true)):sum():backward() end)
    assert.matches("strict_spec%.lua:%d+: .*strict_spec%.lua:%d+: matmul", message)
    local wrong = function() return gls.ones(5) end
    f = gls.fn { forward = function(_, x) return x * 2 end, backward = wrong }
    message = message_of(function() f(gls.ones(2):requires_grad(true)):sum():backward() end)
    local begins = debug.getinfo(wrong, "S").linedefined
    assert.truthy(message:find(("strict_spec.lua:%d: fn: result 1 of backward has type float32 and shape (5)"):format(
      begins), 1, true), message)
  end)
end)

describe("help", function()
  it("has a text for every public name", function()
    local roots = { gls = gls, nn = nn, optim = optim, data = data, plot = plot, ["optim.schedule"] = optim.schedule,
      ["nn.init"] = nn.init, train = require "gls.train", log = require "gls.log" }
    for root, names in pairs(roots) do
      for name, value in pairs(names) do
        local own = type(value) == "function" and root ~= "gls" or gls.core.docs[name]
          or type(value) == "table" and rawget(value, "init")
        if own then
          local good, text = pcall(gls.documentation, root .. "." .. name)
          assert(good and #text > 20, ("no help for %s.%s: %s"):format(root, name, text))
        end
      end
    end
  end)

  it("lists every public name in a group, which has a page", function()
    local help, pages = require "gls.help", {}
    local overview = " " .. help.overview():gsub("%s+", " ") .. " "
    for _, known in ipairs(help.names()) do
      pages[known.group] = pages[known.group] or "\n" .. gls.documentation(known.group)
      assert.truthy(overview:find(" " .. known.name .. " ", 1, true), known.name)
      assert.truthy(pages[known.group]:find("\n" .. known.name .. "  ", 1, true), known.name)
    end
    for group in pairs(pages) do assert.truthy(overview:find(group, 1, true), group) end
    for _, row in ipairs(gls.op_names()) do assert.not_equal("the runtime", gls.core.groups[row], row) end
    assert.matches("\nsplit +Parts of x along a dimension", pages["arranging"])
    assert.matches("\nsum +sum over dims", pages["reductions"])
    assert.matches('did you mean "reductions"', message_of(gls.documentation, "reduction"))
  end)

  it("is what stands above the definition, and finds a value and a last name too", function()
    assert.matches("z = x W %+ b.*inputs %(integer%)", gls.documentation "nn.Linear")
    assert.equal(gls.documentation "nn.Linear", gls.documentation(nn.Linear))
    assert.equal(gls.documentation "nn.Linear", gls.documentation "Linear")
    assert.matches("cosine", gls.documentation "optim.schedule.cosine")
    assert.matches("Kingma", gls.documentation "optim.Adam")
    assert.equal(gls.documentation "gls.relu", gls.documentation "x:relu")
    assert.matches('nothing named "conv2"; did you mean "conv2d"', message_of(gls.documentation, "conv2"))
  end)

  it("of an optimizer has every setting with its default, and the forms", function()
    local count = 0
    for name, class in pairs(optim) do
      local known = type(class) == "table" and rawget(class, "defaults")
      if known then
        count = count + 1
        local text, values = gls.documentation("optim." .. name), options.check(name, {}, known)
        for setting in pairs(known) do
          local value, found = values[setting], false
          if type(value) == "table" then value = "{}" end
          if type(value) == "string" and value ~= "{}" then value = ('"%s"'):format(value) end
          for shown in text:gmatch("%f[%w_]" .. setting .. "`? = ([^%s,;:)]+)") do
            found = found or shown == tostring(value) or value ~= nil and tonumber(shown) == value
          end
          assert.is_true(found, ("%s: %s = %s"):format(name, setting, tostring(value)))
        end
      end
    end
    assert.equal(11, count)
    for form in pairs(optim.GLS.forms) do assert.matches("\n  " .. form .. " = {", gls.documentation "optim.GLS") end
  end)
end)
