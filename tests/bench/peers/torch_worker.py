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
OPTIMIZERS = {
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


def training_step(workload, memory_format=None):
    model = MODELS[workload["model"]]()
    batch, images = workload["batch"], workload["model"] == "cnn"
    data = []
    for _ in range(workload["batches"]):
        x = torch.rand(batch, 3, 32, 32) if images else torch.rand(batch, 3072)
        y = x if workload["model"] == "autoencoder" else torch.randint(0, 10, (batch,))
        x = x - 0.5
        data.append((x.to(memory_format=memory_format) if images else x, y))
    if images:
        model = model.to(memory_format=memory_format)
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
    if workload["model"] == "cnn":
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
    f.__name__: f for f in (step, linear, matmul, conv2d, max_pool, batch_norm, cross_entropy, chain, reduce, tiny,
                            copy, batches, binary, folder)})
