"""Benchmarks in JAX: everything under jit, with donated buffers where a step replaces its own state."""
import functools

import jax
import jax.numpy as jnp
from jax import lax, nn, random

from worker import serve

KEYS = iter(random.split(random.key(1), 4096))


def normal(*shape):
    return random.normal(next(KEYS), shape)


def dense(inputs, outputs):
    return {"w": normal(inputs, outputs) * (2 / inputs) ** 0.5, "b": jnp.zeros(outputs)}


def filters(inputs, outputs, kernel):
    return {"w": normal(kernel, kernel, inputs, outputs) * (2 / (inputs * kernel**2)) ** 0.5, "b": jnp.zeros(outputs)}


def perceptron(parameters, x):
    for layer in parameters[:-1]:
        x = nn.relu(x @ layer["w"] + layer["b"])
    return x @ parameters[-1]["w"] + parameters[-1]["b"]


def convolve(x, w, stride=1, groups=1):
    return lax.conv_general_dilated(x, w, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"),
                                    feature_group_count=groups)


def pool(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def cnn(parameters, x):
    for layer in parameters[:2]:
        x = pool(nn.relu(convolve(x, layer["w"]) + layer["b"]))
    return perceptron(parameters[2:], x.reshape(len(x), -1))


def matrix(*shape):
    return normal(*shape) * 0.02


def layer_norm(scale, x):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) * lax.rsqrt(variance + 1e-5) * scale


def attend(packed, heads):
    n, t, width = packed.shape
    q, k, v = jnp.moveaxis(packed.reshape(n, t, 3, heads, width // 3 // heads), 2, 0)
    return nn.dot_product_attention(q, k, v, is_causal=True).reshape(n, t, width // 3)


def make_gpt(w):
    d = w["width"]
    block = lambda: {"n1": jnp.ones(d), "n2": jnp.ones(d), "a": matrix(d, 3 * d), "p": matrix(d, d),
                     "wide": matrix(d, 4 * d), "narrow": matrix(4 * d, d)}
    return {"t": matrix(w["vocabulary"], d), "p": matrix(w["context"], d), "n": jnp.ones(d),
            "blocks": [block() for _ in range(w["layers"])]}


def gpt(w):
    def forward(parameters, x):
        h = parameters["t"][x] + parameters["p"]
        for b in parameters["blocks"]:
            h = h + attend(layer_norm(b["n1"], h) @ b["a"], w["heads"]) @ b["p"]
            h = h + nn.gelu(layer_norm(b["n2"], h) @ b["wide"], approximate=False) @ b["narrow"]
        return layer_norm(parameters["n"], h) @ parameters["t"].T
    return forward


def recurrent(inputs, width, gates):
    return {"x": matrix(inputs, gates * width), "h": matrix(width, gates * width), "b": jnp.zeros(gates * width)}


def lstm_layer(p, x):
    def cell(state, x):
        h, c = state
        i, f, g, o = jnp.split(x + h @ p["h"], 4, -1)
        c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
        h = nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h
    zero = jnp.zeros((x.shape[0], p["h"].shape[0]))
    return lax.scan(cell, (zero, zero), jnp.moveaxis(x @ p["x"] + p["b"], 1, 0))[1].swapaxes(0, 1)


def gru_last(p, x):
    def cell(h, x):
        (xr, xz, xn), (hr, hz, hn) = jnp.split(x, 3, -1), jnp.split(h @ p["h"] + p["c"], 3, -1)
        r, z = nn.sigmoid(xr + hr), nn.sigmoid(xz + hz)
        h = (1 - z) * jnp.tanh(xn + r * hn) + z * h
        return h, None
    return lax.scan(cell, jnp.zeros((x.shape[0], p["h"].shape[0])), jnp.moveaxis(x @ p["x"] + p["b"], 1, 0))[0]


def make_lstm(w):
    d = w["width"]
    return {"t": matrix(w["vocabulary"], d), "layers": [recurrent(d, d, 4) for _ in range(w["layers"])],
            "head": dense(d, w["vocabulary"])}


def lstm(w):
    def forward(parameters, x):
        h = parameters["t"][x]
        for p in parameters["layers"]:
            h = lstm_layer(p, h)
        return h @ parameters["head"]["w"] + parameters["head"]["b"]
    return forward


def make_gru(w):
    return {"layer": recurrent(w["inputs"], w["width"], 3) | {"c": jnp.zeros(3 * w["width"])},
            "head": dense(w["width"], 10)}


def gru(w):
    return lambda parameters, x: gru_last(parameters["layer"], x) @ parameters["head"]["w"] + parameters["head"]["b"]


def tokens(w):
    x = random.randint(next(KEYS), (w["batch"], w["context"] + 1), 0, w["vocabulary"])
    return x[:, :-1], x[:, 1:]


def rows(w):
    return (random.uniform(next(KEYS), (w["batch"], w["context"], w["inputs"])),
            random.randint(next(KEYS), (w["batch"],), 0, 10))


FAMILIES = {"transformer": (make_gpt, gpt, tokens), "lstm": (make_lstm, lstm, tokens), "gru": (make_gru, gru, rows)}


def layers(*sizes):
    return [dense(d, m) for d, m in zip(sizes, sizes[1:])]


MODELS = {
    "mlp": (lambda: layers(3072, 512, 256, 10), perceptron),
    "autoencoder": (lambda: layers(3072, 1024, 1024, 1024, 3072), perceptron),
    "cnn": (lambda: [filters(3, 32, 5), filters(32, 64, 5), *layers(4096, 128, 10)], cnn),
}


def cross_entropy_of(logits, labels):
    return -jnp.take_along_axis(nn.log_softmax(logits), labels[..., None], -1).mean()


def sgd(parameters, state, gradients):
    return jax.tree.map(lambda w, g: w - 1e-3 * g, parameters, gradients), state


def adam(parameters, state, gradients):
    count, first, second = state
    count = count + 1
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradients)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradients)
    rate = 1e-4 * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
    return jax.tree.map(lambda w, m, v: w - rate * m / (jnp.sqrt(v) + 1e-8), parameters, first, second), (
        count, first, second)


def adamw(parameters, state, gradients):
    parameters = jax.tree.map(lambda w: w * (1 - 1e-4 * 0.1), parameters)
    return adam(parameters, state, gradients)


OPTIMIZERS = {"sgd": sgd, "adam": adam, "adamw": adamw}


def fixed_batches(w):
    shape = (32, 32, 3) if w["model"] == "cnn" else (3072,)
    data = []
    for _ in range(w["batches"]):
        x = random.uniform(next(KEYS), (w["batch"], *shape))
        labels = random.randint(next(KEYS), (w["batch"],), 0, 10)
        data.append((x - 0.5, x if w["model"] == "autoencoder" else labels))
    return data


def step(w):
    if w["optimizer"] not in OPTIMIZERS or w["model"] == "resnet":
        raise ValueError("not in JAX")
    update, autoencoder = OPTIMIZERS[w["optimizer"]], w["model"] == "autoencoder"
    if w["model"] in FAMILIES:
        make, model, batch = FAMILIES[w["model"]]
        parameters, forward = make(w), model(w)
        data = [batch(w) for _ in range(w["batches"])]
    else:
        make, forward = MODELS[w["model"]]
        parameters, data = make(), fixed_batches(w)
    state = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, parameters), jax.tree.map(jnp.zeros_like, parameters))
    if w["optimizer"] == "sgd":
        state = ()

    def loss_of(parameters, x, y):
        out = forward(parameters, x)
        return ((out - y) ** 2).mean() if autoencoder else cross_entropy_of(out, y)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def train(parameters, state, x, y):
        loss, gradients = jax.value_and_grad(loss_of)(parameters, x, y)
        return *update(parameters, state, gradients), loss

    at = 0

    def run():
        nonlocal parameters, state, at
        parameters, state, loss = train(parameters, state, *data[at])
        at = (at + 1) % len(data)
        return loss
    return run


def timed(w, forward, *leaves):
    if not w.get("backward"):
        compiled = jax.jit(forward)
        return lambda: compiled(*leaves)
    seed = normal(*jax.eval_shape(forward, *leaves).shape)

    @jax.jit
    def both(leaves, seed):
        out, back = jax.vjp(forward, *leaves)
        return out, back(seed)
    return lambda: both(leaves, seed)


def linear(w):
    layer = dense(w["inputs"], w["outputs"])
    return timed(w, lambda x, w, b: x @ w + b, normal(w["rows"], w["inputs"]), layer["w"], layer["b"])


def matmul(w):
    return timed(w, jnp.matmul, normal(w["m"], w["k"]), normal(w["k"], w["n"]))


def conv2d(w):
    layer = filters(w["inputs"] // w["groups"], w["outputs"], w["kernel"])
    x = normal(w["images"], w["side"], w["side"], w["inputs"])
    return timed(w, lambda x, k, b: convolve(x, k, w["stride"], w["groups"]) + b, x, layer["w"], layer["b"])


def attention(w):
    packed = normal(w["batch"], w["context"], 3 * w["heads"] * w["size"])
    return timed(w, lambda x: attend(x, w["heads"]), packed)


def max_pool(w):
    return timed(w, pool, normal(w["images"], w["side"], w["side"], w["channels"]))


def batch_norm(w):
    def forward(x, scale, shift):
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        return (x - mean) * lax.rsqrt(variance + 1e-5) * scale + shift
    c = w["channels"]
    return timed(w, forward, normal(w["images"], w["side"], w["side"], c), jnp.ones(c), jnp.zeros(c))


def cross_entropy(w):
    labels = random.randint(next(KEYS), (w["rows"],), 0, w["classes"])
    return timed(w, lambda x: cross_entropy_of(x, labels), normal(w["rows"], w["classes"]))


def chain(w):
    return timed(w, lambda x, y: nn.relu(jnp.tanh(x * y + x) * 0.5 - y), normal(w["count"]), normal(w["count"]))


REDUCTIONS = {
    "sum": lambda x: x.sum(),
    "sum of rows": lambda x: x.sum(0),
    "max of columns": lambda x: x.max(1),
    "variance": lambda x: x.var(1, ddof=1),
}


def reduce(w):
    return timed(w, REDUCTIONS[w["what"]], normal(w["rows"], w["columns"]))


def finish(result):
    jax.block_until_ready(result)


serve(f"JAX {jax.__version__}", {
    f.__name__: f for f in (step, linear, matmul, conv2d, attention, max_pool, batch_norm, cross_entropy, chain,
                            reduce)}, finish)
