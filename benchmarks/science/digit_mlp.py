"""How is an MLP trained without a framework, on digits or a table, and written as an ONNX file?"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

Layers = list[tuple[np.ndarray, np.ndarray]]

WIDTH, CLASSES, SIDE = 100, 10, 28
_EPOCHS, _BATCH, _RATE = 8, 128, 1e-3


def train(x: np.ndarray, y: np.ndarray, layers: int, seed: int, classes: int = CLASSES) -> Layers:
    """Weights and biases of an MLP, trained by Adam on the cross-entropy. x (N, features) float32, y (N,)."""
    rng = np.random.default_rng(seed)
    sizes = [x.shape[1], *[WIDTH] * layers, classes]
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


def _gradients(net: Layers, x: np.ndarray, y: np.ndarray) -> Layers:
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


def as_onnx(net: Layers) -> ModelProto:
    """The MLP as a model with input `x` (N, features) and output `logits` (N, classes)."""
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
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", len(net[0][0])])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", len(net[-1][1])])],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
