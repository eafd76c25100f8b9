-- Weights that PyTorch has trained and saved give here the outputs that they give there: an MLP, a CNN, ResNet-20, a
-- GPT. PYTHON names a Python with torch and safetensors; without it names alone are checked.
local gls = require "gls"
local nn = require "gls.nn"
local scratch = require "tests.lua.scratch"

scratch.each(before_each, after_each)

describe("gls.load_pytorch", function()
  local function linear(names, changes)
    local tensors = { ["0.weight"] = gls.arange(0, 6):view(3, 2), ["0.bias"] = gls.ones(3) }
    for name, tensor in pairs(changes or {}) do tensors[name] = tensor end
    return gls.load_pytorch(nn.Sequential { nn.Linear(2, 3) }, tensors, names)
  end

  it("raises numbers, transposes linear weights, and maps names", function()
    assert.same({ { 0, 2, 4 }, { 1, 3, 5 } }, linear()[1].weight:tolist())
    local model = gls.load_pytorch(nn.Sequential { nn.BatchNorm(2, { affine = false }) },
      { ["net.bn.running_mean"] = gls.ones(2), ["net.bn.running_var"] = gls.full(2, 3),
        ["net.bn.num_batches_tracked"] = gls.ones(1), ["net.mask"] = gls.ones(1) },
      { names = { { "mask$", false }, { "^net%.bn", "1" } } })
    assert.same({ 3, 3 }, model[1].running_variance:tolist())
    local names = {}
    local by_function = linear { names = function(name)
      names[#names + 1] = name
      return name
    end }
    table.sort(names)
    assert.same({ "1.bias", "1.weight" }, names)
    assert.equal(5, by_function[1].weight[2][3]:item())
  end)

  it("names what does not fit", function()
    assert.error_matches(function() linear(nil, { ["1.weight"] = gls.ones(1) }) end, "unknown: 2.weight")
    assert.error_matches(function() linear { names = { { "bias", "b" } } } end, "missing: 1.bias")
    assert.error_matches(function() linear { transpose = false } end, "1.weight is float32 %(2×3%) in the model")
    assert.error_matches(function() linear { names = { { "bias", "weight" } } } end, "are both named 1.weight here")
    assert.error_matches(function() linear { names = { "bias" } } end, "names is a list of")
    assert.error_matches(function() linear { names = { bias = "b" } } end, "names is a list of")
    assert.error_matches(function() linear { names = { { "bias", "%2" } } } end, 'names: "bias": invalid capture')
    assert.error_matches(function() linear { names = function() return 5 end } end, "names gives number for %d.")
    assert.error_matches(function() linear(nil, { ["1.weight"] = 5 }) end, "got number under 1.weight")
    local _, left = linear({ strict = false }, { ["1.weight"] = gls.ones(1) })
    assert.same({ "unknown: 2.weight" }, left)
  end)

  local MODELS = [[
import torch, torch.nn as nn, torch.nn.functional as F
from safetensors.torch import save_file
torch.manual_seed(3)
torch.set_num_threads(1)

class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.more = stride, outputs - inputs
    def forward(self, x):
        h = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(h + F.pad(x[:, :, ::self.stride, ::self.stride], (0, 0, 0, 0, 0, self.more)))

class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        blocks, inputs = [], 16
        for stage, width in enumerate((16, 32, 64)):
            for i in range(3):
                blocks.append(Block(inputs, width, 2 if stage > 0 and i == 0 else 1))
                inputs = width
        self.layer1, self.layer2, self.layer3 = (nn.Sequential(*blocks[3 * i:3 * i + 3]) for i in range(3))
        self.linear = nn.Linear(64, 10)
    def forward(self, x):
        h = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.linear(h.mean((2, 3)))

class Layer(nn.Module):  # nanoGPT's names
    def __init__(self, width, heads):
        super().__init__()
        self.ln_1, self.ln_2, self.heads = nn.LayerNorm(width), nn.LayerNorm(width), heads
        self.attn = nn.ModuleDict({"c_attn": nn.Linear(width, 3 * width), "c_proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})
    def forward(self, x):
        n, t, width = x.shape
        parts = self.attn["c_attn"](self.ln_1(x)).split(width, 2)
        q, k, v = (p.view(n, t, self.heads, -1).transpose(1, 2) for p in parts)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(n, t, width)
        x = x + self.attn["c_proj"](y)
        return x + self.mlp["c_proj"](F.gelu(self.mlp["c_fc"](self.ln_2(x))))

class GPT(nn.Module):
    def __init__(self, vocabulary=17, context=12, layers=2, heads=4, width=32):
        super().__init__()
        self.transformer = nn.ModuleDict({
            "wte": nn.Embedding(vocabulary, width), "wpe": nn.Embedding(context, width),
            "h": nn.ModuleList(Layer(width, heads) for _ in range(layers)), "ln_f": nn.LayerNorm(width)})
        self.lm_head = nn.Linear(width, vocabulary, bias=False)
        self.lm_head.weight = self.transformer["wte"].weight
    def forward(self, tokens):
        t = self.transformer
        x = t["wte"](tokens) + t["wpe"](torch.arange(tokens.shape[1]))
        for layer in t["h"]: x = layer(x)
        return self.lm_head(t["ln_f"](x))

def save(name, model, x, shift=0):
    model.train()  # running statistics and all other tensors move from where they began
    with torch.no_grad():
        for p in model.parameters(): p.add_(0.1 * torch.randn_like(p))
        for _ in range(3): model(x)
    model.eval()
    state = {k: v.contiguous() for k, v in model.state_dict().items() if k != "lm_head.weight"}
    save_file(state, name)
    save_file({"x": (x + shift).contiguous(), "y": model(x).detach().contiguous()}, name + ".io")

image = torch.randn(4, 3, 16, 16)
save("mlp", nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, 5)),
     torch.randn(7, 12))
save("cnn", nn.Sequential(nn.Conv2d(3, 8, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 12, 3, stride=2),
                          nn.GroupNorm(3, 12), nn.GELU(), nn.Flatten(), nn.Linear(12 * 3 * 3, 5)), image)
save("resnet", ResNet(), image)
save("gpt", GPT(), torch.randint(0, 17, (3, 12)), 1)
]]

  -- What the models are called here, for PyTorch's names.
  local BLOCKS = 3 -- of a stage; before them come a convolution, its norm and a ReLU
  local cases = {
    { "mlp", function()
      return nn.Sequential { nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, 5) }
    end },
    { "cnn", function()
      return nn.Sequential {
        nn.Conv2d(3, 8, 5, { padding = 2 }), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 12, 3, { stride = 2 }),
        nn.GroupNorm(3, 12), nn.GELU(), nn.Flatten(), nn.Linear(12 * 3 * 3, 5),
      }
    end },
    { "resnet", function() return require "models.resnet" { depth = 20 } end, function(name)
      local stage, block, rest = name:match "^layer(%d)%.(%d+)%.(.*)"
      if stage then name = ("%d.%s"):format(3 + (stage - 1) * BLOCKS + block, rest) end
      return (name:gsub("bn", "norm"):gsub("^conv1", "1"):gsub("^norm1", "2"):gsub("^linear", "15"))
    end },
    { "gpt", function()
      return require "models.transformer" {
        vocabulary = 17, context = 12, layers = 2, heads = 4, width = 32, bias = true,
      }
    end, {
      { "^transformer%.", "" }, { "^wte", "tokens" }, { "^wpe", "positions" }, { "^ln_f", "norm" },
      { "^h%.", "blocks." },
      { "ln_", "norm" }, { "attn%.c_attn", "attention.query_key_value" }, { "attn%.c_proj", "attention.projection" },
      { "mlp%.c_fc", "wide" }, { "mlp%.c_proj", "narrow" },
    } },
  }

  it("gives the outputs of PyTorch's MLP, CNN, ResNet-20 and GPT", function()
    local python = scratch.python_with "torch, safetensors.torch"
    if not python then pending "skipped: Python has no torch and safetensors (PYTHON names another)" return end
    assert.equal("", scratch.run_python(python, MODELS))
    for _, case in ipairs(cases) do
      local name, make, names = table.unpack(case)
      gls.seed(1)
      local model = gls.load_pytorch(make(), scratch.path(name), { names = names }):eval()
      local io = gls.load(scratch.path(name .. ".io"))
      local y = model(io.x)
      local scale = io.y:abs():max():item()
      local off = (y - io.y):abs():max():item()
      assert.is_true(scale > 0.1 and off < 2e-5 * scale, ("%s: %g of %g"):format(name, off, scale))
    end
  end)
end)
