"""Which binary models have a hidden neuron that tells more, and a cut that is far off? One for every tail."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto

from tests.support.nets import NetBuilder, Outputs

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
INPUTS = 6
TAILS = ("logit", "p", "pair", "logits", "softmax", "label")


def samples(n: int, seed: int, telling: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (n, 6) float32 and labels (n,), a fifth of them 1. Some inputs tell; the model reads one."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.2).astype(np.int64)
    x = rng.normal(size=(n, INPUTS))
    x[:, :telling] += 1.6 * y[:, None]
    return x.astype(np.float32), y


def detector(folder: Path, tail: str, n: int = 3000, telling: int = 2) -> tuple[Path, Path]:
    """Paths of a model (.onnx) and of its samples (.npz with x, y)."""
    folder.mkdir(parents=True, exist_ok=True)
    model, data = folder / "model.onnx", folder / "data.npz"
    model.write_bytes(detector_model(tail).SerializeToString())
    x, y = samples(n, 0, telling)
    np.savez(data, x=x, y=y)
    return model, data


def detector_model(tail: str) -> ModelProto:
    """The model alone."""
    net = NetBuilder()
    both = np.concatenate([np.eye(INPUTS), -np.eye(INPUTS)], axis=1)
    hidden = net.op("Relu", net.op("MatMul", "input", net.const(both)), name="hidden")
    wide = tail in ("logits", "softmax")
    weight = np.zeros((2 * INPUTS, 2 if wide else 1))
    weight[0, -1], weight[INPUTS, -1] = 1.2, -1.2
    bias = [0.4, 0.1] if wide else [-0.3]
    z = net.op("Add", net.op("MatMul", hidden, net.const(weight)), net.const(bias), name="z")
    outputs: Outputs = {"out": (FLOAT, ("N", 1))}
    if tail == "p":
        net.op("Sigmoid", z, name="out")
    elif tail == "pair":
        p = net.op("Sigmoid", z)
        net.op("Concat", net.op("Sub", net.const(1.0), p), p, axis=1, name="out")
        outputs = {"out": (FLOAT, ("N", 2))}
    elif tail == "label":
        net.op("Cast", net.op("Greater", net.op("Sigmoid", z), net.const(0.5)), to=INT64, name="out")
        outputs = {"out": (INT64, ("N", 1))}
    elif wide:
        net.op("Softmax" if tail == "softmax" else "Identity", z, name="out")
        outputs = {"out": (FLOAT, ("N", 2))}
    else:
        net.op("Identity", z, name="out")
    return net.model({"input": (FLOAT, ("N", INPUTS))}, outputs)


def decided(out: np.ndarray, tail: str) -> np.ndarray:
    """Classes (n,) as a user reads them off the output, at the model's own cut."""
    if tail in ("pair", "logits", "softmax"):
        return out.argmax(axis=1)
    cut = {"logit": 0.0, "p": 0.5, "label": 0}[tail]
    return (out[:, 0] > cut).astype(np.int64)
