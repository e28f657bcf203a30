"""Which nets and which digits does the must-and-lock benchmark use? MLPs trained here, corruptions made here.

The nets are fully connected with hidden layers of 100 ReLU units, as provable repair is measured on
(three and nine layers); the corruptions are in the manner of MNIST-C. All random numbers are seeded.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

WIDTH, CLASSES, PIXELS = 100, 10, 28
_EPOCHS, _BATCH, _RATE = 8, 128, 1e-3


def train(x: np.ndarray, y: np.ndarray, layers: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights and biases of an MLP, trained by Adam on the cross-entropy. x (N, 784) float32, y (N,)."""
    rng = np.random.default_rng(seed)
    sizes = [x.shape[1], *[WIDTH] * layers, CLASSES]
    net = [
        (
            (rng.normal(size=(a, b)) * np.sqrt(2 / a)).astype(np.float32),
            np.zeros(b, np.float32),
        )
        for a, b in zip(sizes, sizes[1:], strict=False)
    ]
    first = [[np.zeros_like(p) for p in pair] for pair in net]
    second = [[np.zeros_like(p) for p in pair] for pair in net]
    steps = _EPOCHS * (len(x) // _BATCH)
    step = 0
    for _ in range(_EPOCHS):
        order = rng.permutation(len(x))
        for start in range(0, len(x) - _BATCH + 1, _BATCH):
            rows = order[start : start + _BATCH]
            step += 1
            rate = _RATE * (1 - step / (steps + 1))
            for k, grads in enumerate(_gradients(net, x[rows], y[rows])):
                for p, g in enumerate(grads):
                    first[k][p] = 0.9 * first[k][p] + 0.1 * g
                    second[k][p] = 0.999 * second[k][p] + 0.001 * g * g
                    moved = first[k][p] / (1 - 0.9**step)
                    net[k][p][...] -= rate * moved / (np.sqrt(second[k][p] / (1 - 0.999**step)) + 1e-8)
    return net


def _gradients(
    net: list[tuple[np.ndarray, np.ndarray]], x: np.ndarray, y: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    values = [x]
    for k, (w, b) in enumerate(net):
        z = values[-1] @ w + b
        values.append(np.maximum(z, 0) if k < len(net) - 1 else z)
    p = np.exp(values[-1] - values[-1].max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(y)), y] -= 1
    back, found = p / len(y), []
    for k in range(len(net) - 1, -1, -1):
        found.append((values[k].T @ back, back.sum(axis=0)))
        if k:
            back = (back @ net[k][0].T) * (values[k] > 0)
    return found[::-1]


def as_onnx(net: list[tuple[np.ndarray, np.ndarray]]) -> ModelProto:
    """The MLP as a model with input `x` (N, 784) and output `logits`."""
    nodes, initializers, value = [], [], "x"
    for k, (w, b) in enumerate(net):
        last = k == len(net) - 1
        name = "logits" if last else f"z{k + 1}"
        initializers += [numpy_helper.from_array(w, f"w{k + 1}"), numpy_helper.from_array(b, f"b{k + 1}")]
        nodes.append(helper.make_node("Gemm", [value, f"w{k + 1}", f"b{k + 1}"], [name]))
        if not last:
            nodes.append(helper.make_node("Relu", [name], [f"h{k + 1}"]))
        value = f"h{k + 1}"
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", PIXELS * PIXELS])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def fog(x: np.ndarray, rng: np.random.Generator, severity: float) -> np.ndarray:
    """Plasma noise of many wavelengths laid over the digits. x (N, 28, 28) in [0, 1]."""
    clouds = np.zeros_like(x)
    for octave in range(1, 5):
        cells = 2**octave
        grid = rng.random((len(x), cells + 1, cells + 1), np.float32)
        at = np.linspace(0, cells, PIXELS, dtype=np.float32) * 0.9999
        low, part = at.astype(int), (at - at.astype(int)).astype(np.float32)
        rows = grid[:, low] * (1 - part)[None, :, None] + grid[:, low + 1] * part[None, :, None]
        clouds += (rows[:, :, low] * (1 - part) + rows[:, :, low + 1] * part) / 2**octave
    clouds = clouds / clouds.max(axis=(1, 2), keepdims=True)
    return np.clip((x + severity * clouds) / (1 + severity), 0, 1)


def blur(x: np.ndarray, rng: np.random.Generator, severity: float) -> np.ndarray:
    """Motion blur: the mean along a line of `severity` pixels in a random direction."""
    found = np.zeros_like(x)
    angle = rng.random(len(x)) * np.pi
    steps = np.linspace(-severity / 2, severity / 2, 2 * int(severity) + 1)
    rows, columns = np.mgrid[:PIXELS, :PIXELS]
    for step in steps:
        down = np.clip(rows + np.rint(step * np.sin(angle))[:, None, None].astype(int), 0, PIXELS - 1)
        right = np.clip(columns + np.rint(step * np.cos(angle))[:, None, None].astype(int), 0, PIXELS - 1)
        found += x[np.arange(len(x))[:, None, None], down, right]
    return found / len(steps)


def noise(x: np.ndarray, rng: np.random.Generator, severity: float) -> np.ndarray:
    """Gaussian noise of this deviation."""
    return np.clip(x + severity * rng.normal(size=x.shape).astype(np.float32), 0, 1)


def contrast(x: np.ndarray, rng: np.random.Generator, severity: float) -> np.ndarray:
    """Contrast lowered to 1 - severity around the mean of each image, and brighter by half of it."""
    mean = x.mean(axis=(1, 2), keepdims=True)
    return np.clip((x - mean) * (1 - severity) + mean + severity / 2, 0, 1)


CORRUPTIONS: dict[str, Callable[[np.ndarray, np.random.Generator, float], np.ndarray]] = {
    "fog": fog,
    "blur": blur,
    "noise": noise,
    "contrast": contrast,
}
