"""Which models mark several labels at once? Small ones that know some labels badly, with marks to learn from.

Each is a teacher whose scores are linear in its hidden units; the scores of some labels are spoilt by those
of others and shifted, so that the hidden units know what the outputs do not say. Marks are the teacher's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.support.nets import NetBuilder
from tests.support.plain_session import plain_session

LABELS, WEAK = 6, (1, 4)
KINDS = ("sigmoid", "logits", "flags", "thresholds")


@dataclass(frozen=True)
class Marked:
    """A model and its samples. labels (N, LABELS) int8 : marks. output, cut : where it shows them."""

    model: Path
    data: Path
    x: np.ndarray
    labels: np.ndarray
    output: str
    cut: float

    def shown(self, path: Path) -> np.ndarray:
        """Which labels a file's own output marks, (N, LABELS) bool."""
        session = plain_session(str(path))
        (value,) = session.run([self.output], {"x": self.x})
        found: np.ndarray = value > self.cut
        return found


def several_labels(
    kind: str,
    folder: Path,
    samples: int = 900,
    seed: int = 0,
    unknown: float = 0,
    dtype: type = np.float32,
) -> Marked:
    """One of `KINDS`, saved in a folder with its samples. unknown : share of the marks that are -1."""
    net, rng = NetBuilder(seed=seed, dtype=dtype), np.random.default_rng(seed)
    floats = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    hidden = net.op("Relu", net.gemm("x", 8, 24))
    scores = net.gemm(hidden, 24, LABELS)
    x = rng.normal(0, 1, (samples, 8)).astype(dtype)
    inputs = {"x": (floats, ["N", 8])}
    Z = _run(net.model(inputs, {scores: (floats, ["N", LABELS])}), x)
    factor, shift = 3 / Z.std(axis=0), np.zeros(LABELS)
    cuts = np.quantile(Z, np.linspace(0.6, 0.8, LABELS), axis=0).diagonal()
    labels = (Z > cuts).astype(np.int8)
    mix = np.diag(factor)
    for c in WEAK:
        mix[(c + 1) % LABELS, c] = factor[(c + 1) % LABELS]
        shift[c] = -2
    mixed = net.op("MatMul", net.op("Sub", scores, net.const(cuts)), net.const(mix))
    logits = net.op("Add", mixed, net.const(shift))
    if kind == "logits":
        logits = net.op("Identity", logits, name="answer")
        outputs, cut = {"answer": (floats, ["N", LABELS])}, 0.0
    else:
        net.op("Sigmoid", logits, name="answer")
        outputs, cut = {"answer": (floats, ["N", LABELS])}, 0.5
    if kind in ("flags", "thresholds"):
        at = np.full(LABELS, 0.5) if kind == "flags" else np.linspace(0.3, 0.6, LABELS)
        net.op("Cast", net.op("Greater", "answer", net.const(at)), to=TensorProto.INT64, name="flags")
        outputs = {"flags": (TensorProto.INT64, ["N", LABELS]), **outputs}
    if unknown:
        labels[rng.random(labels.shape) < unknown] = -1
    model, data = folder / f"{kind}.onnx", folder / f"{kind}.npz"
    onnx.save(net.model(inputs, outputs), model)
    np.savez(data, x=x, y=labels)
    flags = "flags" in outputs
    return Marked(model, data, x, labels, "flags" if flags else "answer", 0 if flags else cut)


def _run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = plain_session(model.SerializeToString())
    (found,) = session.run(None, {"x": x})
    return np.asarray(found)
