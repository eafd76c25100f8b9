"""Writes table.h: what ops give at the edges of the numbers, and their derivatives there, by PyTorch in float64 from the
same float32 inputs. python3 tests/core/edges/make.py > tests/core/edges/table.h   (PyTorch 2.15)"""
import math
import torch
from torch.nn import functional as F

big = float(torch.finfo(torch.float32).max)
tiny = 2.0 ** -149
EDGES = torch.tensor([0.0, -0.0, tiny, -tiny, 1.0, 1e20, -1e20, big, -big, math.inf, -math.inf, math.nan]).tolist()

# name, sample (tests/core/samples.h; its first input becomes the edges), PyTorch's function of x
ELEMENTWISE = [
    ("affine", "12 scale=-2 shift=1", lambda x: -2 * x + 1), ("neg", "12", torch.neg), ("abs", "12", torch.abs),
    ("square", "12", torch.square), ("reciprocal", "12", torch.reciprocal), ("sign", "12", torch.sign),
    ("power", "12 exponent=0.5", lambda x: x ** 0.5), ("power", "12 exponent=2", lambda x: x ** 2),
    ("power", "12 exponent=3", lambda x: x ** 3), ("power", "12 exponent=-1", lambda x: x ** -1.0),
    ("power", "12 exponent=0", lambda x: x ** 0), ("power", "12 exponent=1", lambda x: x ** 1),
    ("clamp", "12 min=0 max=1", lambda x: torch.clamp(x, 0, 1)), ("floor", "12", torch.floor),
    ("ceil", "12", torch.ceil), ("round", "12", torch.round), ("exp", "12", torch.exp), ("expm1", "12", torch.expm1),
    ("log", "12", torch.log), ("log1p", "12", torch.log1p), ("sqrt", "12", torch.sqrt), ("rsqrt", "12", torch.rsqrt),
    ("sin", "12", torch.sin), ("cos", "12", torch.cos), ("tan", "12", torch.tan), ("asin", "12", torch.asin),
    ("acos", "12", torch.acos), ("atan", "12", torch.atan), ("sinh", "12", torch.sinh), ("cosh", "12", torch.cosh),
    ("asinh", "12", torch.asinh), ("acosh", "12", torch.acosh), ("atanh", "12", torch.atanh), ("erf", "12", torch.erf),
    ("tanh", "12", torch.tanh), ("sigmoid", "12", torch.sigmoid), ("softplus", "12", F.softplus), ("relu", "12", F.relu),
    ("leaky_relu", "12", F.leaky_relu), ("elu", "12", F.elu), ("gelu", "12", F.gelu),
    ("gelu", "12 tanh=1", lambda x: F.gelu(x, approximate="tanh")), ("silu", "12", F.silu),
    ("is_nan", "12", lambda x: torch.isnan(x).double()), ("is_inf", "12", lambda x: torch.isinf(x).double()),
    ("is_finite", "12", lambda x: torch.isfinite(x).double()), ("logical_not", "12", lambda x: (x == 0).double()),
]
# beside y, each pair of edges; x is a column, y a row: values alone
PAIRS = [
    ("add", torch.add), ("sub", torch.sub), ("mul", torch.mul), ("div", torch.div), ("pow", torch.pow),
    ("maximum", torch.maximum), ("minimum", torch.minimum), ("remainder", torch.remainder), ("atan2", torch.atan2),
    ("eq", torch.eq), ("ne", torch.ne), ("lt", torch.lt),
    ("le", torch.le), ("gt", torch.gt), ("ge", torch.ge), ("logical_and", torch.logical_and),
    ("logical_or", torch.logical_or),
]
# rows (e, 1, 2) for each edge e: the first of the output, and its derivative by e
ROWS = [
    ("sum", "12x3 dims=2", lambda x: x.sum(1)), ("mean", "12x3 dims=2", lambda x: x.mean(1)),
    ("max", "12x3 dims=2", lambda x: x.amax(1)), ("min", "12x3 dims=2", lambda x: x.amin(1)),
    ("variance", "12x3 dims=2", lambda x: x.var(1, unbiased=False)), ("norm", "12x3 dims=2", lambda x: x.norm(dim=1)),
    ("std", "12x3 dims=2", lambda x: x.std(1, unbiased=False)), ("prod", "12x3 dims=2", lambda x: x.prod(1)),
    ("cumsum", "12x3 dimension=2", lambda x: x.cumsum(1)), ("softmax", "12x3", lambda x: x.softmax(1)),
    ("log_softmax", "12x3", lambda x: x.log_softmax(1)), ("logsumexp", "12x3", lambda x: x.logsumexp(1)),
    ("layer_norm", "12x3 - -", lambda x: F.layer_norm(x, (3,))),
    ("group_norm", "12x3 - - groups=1", lambda x: F.group_norm(x, 1)),
    ("rms_norm", "12x3 -", lambda x: F.rms_norm(x, (3,), eps=1e-5)),
    ("any", "12x3 dims=2", lambda x: (x != 0).any(1).double()), ("all", "12x3 dims=2", lambda x: (x != 0).all(1).double()),
]
# one prediction e, target 1 (of classes: the row (e, 1, 2), label 1)
LOSSES = [
    ("mse", "1 1", lambda x: F.mse_loss(x[:, 0], x.new_ones(len(x)), reduction="none")),
    ("l1", "1 1", lambda x: F.l1_loss(x[:, 0], x.new_ones(len(x)), reduction="none")),
    ("huber", "1 1", lambda x: F.huber_loss(x[:, 0], x.new_ones(len(x)), reduction="none")),
    ("binary_cross_entropy", "1 1",
     lambda x: F.binary_cross_entropy_with_logits(x[:, 0], x.new_ones(len(x)), reduction="none")),
    ("cross_entropy", "1x3 labels1:1", lambda x: F.cross_entropy(x, torch.zeros(len(x), dtype=torch.long), reduction="none")),
]

def number(value):
    if math.isnan(value):
        return "NAN"
    if math.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    text = "%.9g" % value
    return text + ".0" if text.lstrip("-").isdigit() else text

def emit(kind, name, sample, values, slopes):
    print('    {%s, "%s", "%s", {%s}, {%s}},' % (kind, name, sample, ", ".join(map(number, values)),
                                                 ", ".join(map(number, slopes))))

def derivative(function, x):
    x = x.clone().requires_grad_(True)
    y = function(x)
    first = y if y.dim() < 2 or x.dim() < 2 else y[:, 0]
    slope = torch.autograd.grad(first.sum(), x)[0] if first.requires_grad else torch.zeros_like(x)
    return first.detach(), slope if x.dim() == 1 else slope[:, 0]

print("/* Edges: written by make.py beside this file, which says how; not by hand. */\n// clang-format off")
print("static const struct edge edges[] = {")
flat = torch.tensor(EDGES, dtype=torch.float64)
rows = torch.stack([flat, torch.ones(12, dtype=torch.float64), torch.full((12,), 2.0, dtype=torch.float64)], 1)
for name, sample, function in ELEMENTWISE:
    emit("EDGE_ELEMENTS", name, sample, *[t.tolist() for t in derivative(function, flat)])
for name, sample, function in ROWS:
    emit("EDGE_ROWS", name, sample, *[t.tolist() for t in derivative(function, rows)])
for name, sample, function in LOSSES:
    emit("EDGE_LOSS", name, sample, *[t.tolist() for t in derivative(function, rows)])
for name, function in PAIRS:
    for i, x in enumerate(EDGES):
        y = function(torch.full((12,), x, dtype=torch.float64), flat)
        emit("EDGE_PAIRS", name, str(i), y.double().tolist(), [])
print("};\n// clang-format on")
