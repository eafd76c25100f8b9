-- Options: tables of named settings, checked.
local options = require "gls.options"

local function fails_with(text, f, ...)
  local good, message = pcall(f, ...)
  assert.is_false(good, "no error")
  assert.is_truthy(message:find(text, 1, true), message)
end

describe("gls.options.check", function()
  local allowed = { batch = 50, shuffle = false, seed = options.none, rate = options.any(1), path = options.required }

  it("fills in defaults and leaves what was given alone", function()
    local given = { path = "x", rate = "auto" }
    assert.same({ batch = 50, shuffle = false, rate = "auto", path = "x" }, options.check("f", given, allowed))
    assert.same({ path = "x", rate = "auto" }, given)
  end)

  it("says what is unknown, missing, or of the wrong type", function()
    fails_with('f: unknown option "shufle"; did you mean "shuffle"?', options.check, "f", { shufle = 1 }, allowed)
    fails_with('f: unknown option "zzz"; known: batch, path', options.check, "f", { zzz = 1 }, allowed)
    fails_with('f: option "path" is required', options.check, "f", nil, allowed)
    fails_with("f: option batch: expected number, got string", options.check, "f", { batch = "x", path = 1 }, allowed)
    fails_with("f: options have names", options.check, "f", { 3 }, allowed)
    fails_with("f: expected a table of options, got number", options.check, "f", 3, allowed)
  end)
end)
