"""Benchmarks in PyTorch, eager, as its documentation writes training loops."""
import time

import numpy
import torch
from torch import nn
from torch.nn import functional as F

from worker import THREADS, serve

torch.set_num_threads(THREADS)
torch.set_flush_denormal(True)
torch.manual_seed(1)

MODELS = {
    "mlp": lambda: nn.Sequential(
        nn.Linear(3072, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10)),
    "autoencoder": lambda: nn.Sequential(
        nn.Linear(3072, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(),
        nn.Linear(1024, 3072)),
    "cnn": lambda: nn.Sequential(
        nn.Conv2d(3, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(4096, 128), nn.ReLU(), nn.Linear(128, 10)),
}


def fused_attention(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def own_attention(q, k, v):
    t = q.shape[-2]
    future = torch.ones(t, t, dtype=torch.bool).triu(1)
    return (q @ k.transpose(-2, -1) / q.shape[-1]**0.5).masked_fill(future, -torch.inf).softmax(-1) @ v


def heads_of(packed, heads):
    n, t, width = packed.shape
    return packed.view(n, t, 3, heads, width // 3 // heads).permute(2, 0, 3, 1, 4)


class Block(nn.Module):
    def __init__(self, width, heads, attend):
        super().__init__()
        self.heads, self.attend = heads, attend
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.packed, self.projection = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.wide, self.narrow = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x):
        mixed = self.attend(*heads_of(self.packed(self.norm1(x)), self.heads))
        x = x + self.projection(mixed.transpose(1, 2).reshape(x.shape))
        return x + self.narrow(F.gelu(self.wide(self.norm2(x))))


class GPT(nn.Module):
    def __init__(self, w, attend):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(w["vocabulary"], w["width"]), nn.Embedding(w["context"], w["width"])
        self.blocks = nn.Sequential(*(Block(w["width"], w["heads"], attend) for _ in range(w["layers"])))
        self.norm = nn.LayerNorm(w["width"])
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, std=0.02)

    def forward(self, x):
        h = self.blocks(self.tokens(x) + self.positions(torch.arange(x.shape[1])))
        return (self.norm(h) @ self.tokens.weight.t()).transpose(1, 2)


class LSTM(nn.Module):
    def __init__(self, w):
        super().__init__()
        self.tokens = nn.Embedding(w["vocabulary"], w["width"])
        self.layers = nn.LSTM(w["width"], w["width"], w["layers"], batch_first=True)
        self.head = nn.Linear(w["width"], w["vocabulary"])

    def forward(self, x):
        return self.head(self.layers(self.tokens(x))[0]).transpose(1, 2)


class GRU(nn.Module):
    def __init__(self, w):
        super().__init__()
        self.layer, self.head = nn.GRU(w["inputs"], w["width"], batch_first=True), nn.Linear(w["width"], 10)

    def forward(self, x):
        return self.head(self.layer(x)[0][:, -1])


class Residual(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.stride, self.more = stride, outputs - inputs
        self.conv1, self.norm1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.norm2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)

    def forward(self, x):
        h = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        if self.stride > 1:
            x = x[:, :, ::self.stride, ::self.stride]
        return F.relu(h + (F.pad(x, (0, 0, 0, 0, 0, self.more)) if self.more else x))


def resnet(depth):
    layers, channels = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()], 16
    for stage in range(3):
        for block in range((depth - 2) // 6):
            layers.append(Residual(channels, 16 << stage, 2 if stage and not block else 1))
            channels = 16 << stage
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


def tokens(w):
    x = torch.randint(0, w["vocabulary"], (w["batch"], w["context"] + 1))
    return x[:, :-1].contiguous(), x[:, 1:].contiguous()


# Of every model the ways to write it, and a batch.
FAMILIES = {
    "transformer": ([lambda w: GPT(w, own_attention), lambda w: GPT(w, fused_attention)], tokens),
    "lstm": ([LSTM], tokens),
    "gru": ([GRU], lambda w: (torch.rand(w["batch"], w["context"], w["inputs"]), torch.randint(0, 10, (w["batch"],)))),
}
OPTIMIZERS = {
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.1, fused=True),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=1e-3, fused=True),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=1e-4, fused=True),
}


def faster(steps):
    """Of several ways to do the same, the one whose best of five is best."""
    def best(step):
        times = []
        for _ in range(6):
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
        return min(times[1:])
    return min(steps, key=best)


def memory_formats(make):
    return faster([make(torch.contiguous_format), make(torch.channels_last)])


def family_step(workload, make, batch):
    return trainer(workload, make(workload), [batch(workload) for _ in range(workload["batches"])])


def training_step(workload, memory_format=None):
    is_resnet = workload["model"] == "resnet"
    model = resnet(workload["depth"]) if is_resnet else MODELS[workload["model"]]()
    batch, images = workload["batch"], is_resnet or workload["model"] == "cnn"
    data = []
    for _ in range(workload["batches"]):
        x = torch.rand(batch, 3, 32, 32) if images else torch.rand(batch, 3072)
        y = x if workload["model"] == "autoencoder" else torch.randint(0, 10, (batch,))
        x = x - 0.5
        data.append((x.to(memory_format=memory_format) if images else x, y))
    if images:
        model = model.to(memory_format=memory_format)
    return trainer(workload, model, data)


def trainer(workload, model, data):
    optimizer = OPTIMIZERS[workload["optimizer"]](model.parameters())
    loss_of = F.mse_loss if workload["model"] == "autoencoder" else F.cross_entropy
    at = 0

    def step():
        nonlocal at
        x, y = data[at]
        at = (at + 1) % len(data)
        optimizer.zero_grad()
        loss_of(model(x), y).backward()
        optimizer.step()
    return step


def step(workload):
    if workload["optimizer"] not in OPTIMIZERS:
        raise ValueError("not in PyTorch")
    if workload["model"] in FAMILIES:
        ways, batch = FAMILIES[workload["model"]]
        return faster([family_step(workload, make, batch) for make in ways])
    if workload["model"] in ("cnn", "resnet"):
        return memory_formats(lambda form: training_step(workload, form))
    return training_step(workload)


def timed(workload, forward, leaves):
    if not workload.get("backward"):
        def inference():
            with torch.no_grad():
                return forward()
        return inference
    for leaf in leaves:
        leaf.requires_grad_()
    seed = torch.randn_like(forward())

    def both():
        forward().backward(seed)
        for leaf in leaves:
            leaf.grad = None
    return both


def layer_step(workload, layer, x):
    return timed(workload, lambda: layer(x), [x, *layer.parameters()])


def linear(w):
    return layer_step(w, nn.Linear(w["inputs"], w["outputs"]), torch.randn(w["rows"], w["inputs"]))


def matmul(w):
    x, y = torch.randn(w["m"], w["k"]), torch.randn(w["k"], w["n"])
    return timed(w, lambda: x @ y, [x, y])


def conv2d(w):
    def make(form):
        layer = nn.Conv2d(w["inputs"], w["outputs"], w["kernel"], stride=w["stride"], padding=w["kernel"] // 2,
                          groups=w["groups"])
        x = torch.randn(w["images"], w["inputs"], w["side"], w["side"])
        return layer_step(w, layer.to(memory_format=form), x.to(memory_format=form))
    return memory_formats(make)


def attention(w):
    all = torch.randn(w["batch"], w["context"], 3 * w["heads"] * w["size"])

    def way(attend):
        def forward():
            return attend(*heads_of(all, w["heads"])).transpose(1, 2).flatten(2)
        return timed(w, forward, [all])
    return faster([way(own_attention), way(fused_attention)])


def max_pool(w):
    def make(form):
        x = torch.randn(w["images"], w["channels"], w["side"], w["side"])
        return layer_step(w, nn.MaxPool2d(2), x.to(memory_format=form))
    return memory_formats(make)


def batch_norm(w):
    def make(form):
        x = torch.randn(w["images"], w["channels"], w["side"], w["side"])
        return layer_step(w, nn.BatchNorm2d(w["channels"]), x.to(memory_format=form))
    return memory_formats(make)


def cross_entropy(w):
    x, y = torch.randn(w["rows"], w["classes"]), torch.randint(0, w["classes"], (w["rows"],))
    return timed(w, lambda: F.cross_entropy(x, y), [x])


def chain(w):
    x, y = torch.randn(w["count"]), torch.randn(w["count"])
    return timed(w, lambda: torch.relu(torch.tanh(x * y + x) * 0.5 - y), [x, y])


REDUCTIONS = {
    "sum": lambda x: x.sum(),
    "sum of rows": lambda x: x.sum(0),
    "max of columns": lambda x: x.amax(1),
    "variance": lambda x: x.var(1),
}


def reduce(w):
    x = torch.randn(w["rows"], w["columns"])
    return timed(w, lambda: REDUCTIONS[w["what"]](x), [x])


def tiny(w):
    x = torch.randn(8)

    def forward():
        y = x
        for _ in range(w["count"]):
            y = y + x
        return y
    return timed(w, forward, [x]) if w.get("backward") else forward


def copy(w):
    source, target = torch.zeros(w["count"]), torch.zeros(w["count"])
    return lambda: target.copy_(source)


def batches(w):
    images = torch.randint(0, 256, (w["images"], 3, 32, 32), dtype=torch.uint8)
    labels, mean = torch.randint(0, 10, (w["images"],)), torch.full((3, 1, 1), 0.5)

    def epoch():
        order = torch.randperm(len(images))
        for rows in order.split(w["batch"]):
            x, y = images[rows].float().div_(255).sub_(mean).flatten(1), labels[rows]
        return x, y
    return epoch


def binary(w):
    def read():
        files = [numpy.fromfile(f"{w['folder']}/cifar-10-batches-bin/data_batch_{i}.bin", numpy.uint8)
                 for i in range(1, 6)]
        rows = torch.from_numpy(numpy.concatenate(files)).view(-1, 3073)
        images, labels = rows[:, 1:].reshape(-1, 3, 32, 32).contiguous(), rows[:, 0].long()
        return images, labels, images.float().mean((0, 2, 3))
    return read


def folder(w):
    from concurrent.futures import ThreadPoolExecutor
    from pathlib import Path

    from PIL import Image

    def decode(path):
        return numpy.asarray(Image.open(path).convert("RGB"))

    def read():
        files = sorted(Path(w["folder"]).glob("*/*.jpg"))
        with ThreadPoolExecutor(THREADS) as pool:
            return torch.from_numpy(numpy.stack(list(pool.map(decode, files)))).permute(0, 3, 1, 2).contiguous()
    return read


serve(f"PyTorch {torch.__version__}", {
    f.__name__: f for f in (step, linear, matmul, conv2d, attention, max_pool, batch_norm, cross_entropy, chain, reduce,
                            tiny, copy, batches, binary, folder)})
