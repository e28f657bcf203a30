"""Which nets and which digits does the slice benchmark use? MLPs trained here, a rare sub-class made here.

One digit comes in two ways: as it is, and, for 5 % of all samples, rotated, mirrored or upside down: a rare
sub-class, which a net learns less well than the rest. All random numbers are seeded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

WIDTH, LAYERS, CLASSES, PIXELS = 100, 2, 10, 28 * 28
_EPOCHS, _BATCH, _RATE = 8, 128, 1e-3
_FIRST, _SECOND = 0.9, 0.999

Layers = list[tuple[np.ndarray, np.ndarray]]


def _quarter(x: np.ndarray) -> np.ndarray:
    return np.rot90(x, axes=(1, 2))


KINDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "rotated": _quarter,
    "mirrored": lambda x: x[:, :, ::-1],
    "upside down": lambda x: x[:, ::-1],
}
# A digit and what is done to it, by seed.
CASES = ((4, "rotated"), (7, "mirrored"), (2, "upside down"), (5, "mirrored"), (3, "rotated"))


@dataclass(frozen=True)
class Digits:
    """Samples of one draw. x (N, 784) float32 in [0, 1]; y (N,) int64; rare (N,) bool : the sub-class."""

    x: np.ndarray
    y: np.ndarray
    rare: np.ndarray

    def save(self, path: str) -> None:
        """As an .npz whose column `kind` says which samples are of the sub-class."""
        np.savez(path, x=self.x, y=self.y, kind=np.where(self.rare, "rare", "usual"))


def draw(
    images: np.ndarray, labels: np.ndarray, sizes: tuple[int, int], seed: int, rng: np.random.Generator
) -> Digits:
    """sizes : how many samples, and how many of them of the sub-class of this seed; none is drawn twice."""
    digit, kind = CASES[seed]
    count, few = sizes
    rare = rng.choice(np.flatnonzero(labels == digit), few, replace=False)
    usual = rng.choice(np.setdiff1d(np.arange(len(labels)), rare), count - few, replace=False)
    rows = np.concatenate([rare, usual])
    x = images[rows].copy()
    x[:few] = KINDS[kind](x[:few])
    order = rng.permutation(count)
    flat = x[order].reshape(count, -1).astype(np.float32) / 255
    return Digits(flat, labels[rows][order].astype(np.int64), (np.arange(count) < few)[order])


def train(digits: Digits, seed: int) -> Layers:
    """Weights and biases of an MLP, trained by Adam on the cross-entropy; the rate falls to nothing."""
    rng = np.random.default_rng(seed)
    sizes = [PIXELS, *[WIDTH] * LAYERS, CLASSES]
    net: Layers = [
        ((rng.normal(size=(a, b)) * np.sqrt(2 / a)).astype(np.float32), np.zeros(b, np.float32))
        for a, b in zip(sizes, sizes[1:], strict=False)
    ]
    values = [p for layer in net for p in layer]
    mean, square = [np.zeros_like(p) for p in values], [np.zeros_like(p) for p in values]
    steps, step = _EPOCHS * (len(digits.x) // _BATCH), 0
    for _ in range(_EPOCHS):
        order = rng.permutation(len(digits.x))
        for start in range(0, len(order) - _BATCH + 1, _BATCH):
            rows, step = order[start : start + _BATCH], step + 1
            slopes = _gradients(net, digits.x[rows], digits.y[rows])
            for p, m, s, g in zip(values, mean, square, slopes, strict=True):
                m += (1 - _FIRST) * (g - m)
                s += (1 - _SECOND) * (g * g - s)
                rate = _RATE * (1 - step / (steps + 1)) / (1 - _FIRST**step)
                p -= rate * m / (np.sqrt(s / (1 - _SECOND**step)) + 1e-8)
    return net


def _gradients(net: Layers, x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    values = [x]
    for k, (w, b) in enumerate(net):
        z = values[-1] @ w + b
        values.append(np.maximum(z, 0) if k < len(net) - 1 else z)
    p = np.exp(values[-1] - values[-1].max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(y)), y] -= 1
    back, found = p / len(y), []
    for k in range(len(net) - 1, -1, -1):
        found += [back.sum(axis=0), values[k].T @ back]
        if k:
            back = (back @ net[k][0].T) * (values[k] > 0)
    return found[::-1]


def as_onnx(net: Layers) -> ModelProto:
    """The MLP as a model with input `x` (N, 784) and output `logits`."""
    nodes, initializers, value = [], [], "x"
    for k, (w, b) in enumerate(net):
        name = "logits" if k == len(net) - 1 else f"z{k + 1}"
        initializers += [numpy_helper.from_array(w, f"w{k + 1}"), numpy_helper.from_array(b, f"b{k + 1}")]
        nodes.append(helper.make_node("Gemm", [value, f"w{k + 1}", f"b{k + 1}"], [name]))
        value = f"h{k + 1}"
        if name != "logits":
            nodes.append(helper.make_node("Relu", [name], [value]))
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", PIXELS])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
