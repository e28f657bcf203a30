"""Which models mark labels at every position? Small ones that know one label badly, with marks to learn from.

Every kind is a teacher whose scores are linear in its hidden maps, with those of one label made small and
shifted, so that the maps know what the output does not say. Marks are the teacher's decisions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from tests.support.nets import NetBuilder
from tests.support.plain_session import plain_session

LABELS, WEAK = 4, 1
SINGLE = ("mask", "mask-squeezed", "frame", "frame-squeezed", "roll")
KINDS = ("pixels", "tokens", "frames", *SINGLE)


@dataclass(frozen=True)
class MarkedPositions:
    """A model and its samples. labels int8 : marks, in the shape of the output. axis : of labels in it."""

    model: Path
    data: Path
    x: np.ndarray
    labels: np.ndarray
    axis: int | None

    def shown(self, path: Path, x: np.ndarray | None = None) -> np.ndarray:
        """Which labels a file's own output marks, bool."""
        return self.value(path, x) > 0.5

    def value(self, path: Path, x: np.ndarray | None = None) -> np.ndarray:
        """A file's own output."""
        session = plain_session(str(path))
        (found,) = session.run(["answer"], {"x": self.x if x is None else x})
        return np.asarray(found)

    def rows(self, marks: np.ndarray) -> np.ndarray:
        """Marks in the output's shape as (positions, labels)."""
        last = marks[..., None] if self.axis is None else np.moveaxis(marks, self.axis, -1)
        return last.reshape(-1, last.shape[-1])


def labels_at_positions(kind: str, folder: Path, samples: int = 200, seed: int = 0) -> MarkedPositions:
    """One of `KINDS`, saved in a folder with its samples."""
    net, many = NetBuilder(seed=seed), 1 if kind in SINGLE else LABELS
    shape, hidden, (op, axis) = _FRAMES.get(kind, _maps)(net)
    rng, rank = np.random.default_rng(seed), len(shape) + 1
    x = rng.normal(0, 1, (samples, *shape)).astype(np.float32)
    weight = rng.normal(0, 1, (many, 12)).astype(np.float32)
    mixed = weight.copy()
    mixed[WEAK if many > 1 else 0] += 1.5 * rng.normal(0, 1, 12).astype(np.float32)
    declared = {"x": (TensorProto.FLOAT, ["N", *shape])}

    def scores(kernel: np.ndarray) -> str:
        laid_out = kernel.T if op == "MatMul" else kernel.reshape(many, 12, *(1 for _ in shape[1:]))
        return net.op(op, hidden, net.const(laid_out))

    own, last = scores(weight), scores(mixed)
    truth, known = (
        _run(net.model(declared, {name: (TensorProto.FLOAT, [None] * rank)}), x) for name in (own, last)
    )
    rest = tuple(other for other in range(rank) if other != axis)
    labels = (truth > np.quantile(truth, 0.75, axis=rest, keepdims=True)).astype(np.int8)
    factor, cut = 3 / known.std(axis=rest, keepdims=True), np.quantile(known, 0.75, axis=rest, keepdims=True)
    logits = net.op("Mul", net.op("Sub", last, net.const(cut)), net.const(factor))
    at: int | None = axis
    if kind in ("mask-squeezed", "frame-squeezed", "roll"):
        logits, labels = net.op("Squeeze", logits, net.ints(axis)), labels.squeeze(axis)
        rank, at = rank - 1, None
    net.op("Sigmoid", logits, name="answer")
    model, data = folder / f"{kind}.onnx", folder / f"{kind}.npz"
    names = ["N", *(many if number == at else f"size{number}" for number in range(1, rank))]
    onnx.save(net.model(declared, {"answer": (TensorProto.FLOAT, names)}), model)
    np.savez(data, x=x, y=labels)
    return MarkedPositions(model, data, x, labels, at)


Made = tuple[list[int], str, tuple[str, int]]  # shape of a sample; map of 12 channels; what follows


def _maps(net: NetBuilder) -> Made:
    fine = net.op("Relu", net.conv("x", (3, 8)))
    return [3, 8, 10], net.op("Relu", net.conv(fine, (8, 12))), ("Conv", 1)


def _tokens(net: NetBuilder) -> Made:
    return [9, 6], net.op("Relu", net.dense("x", 6, 12)), ("MatMul", 2)


def _frames(net: NetBuilder) -> Made:
    conv = net.op("Conv", "x", net.he(12, 6, 3), net.const(np.zeros(12)), pads=[1, 1], kernel_shape=[3])
    return [6, 12], net.op("Relu", conv), ("Conv", 1)


_FRAMES = {"tokens": _tokens, "frames": _frames, "frame": _tokens, "frame-squeezed": _tokens}


def _run(proto: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = plain_session(proto.SerializeToString())
    (found,) = session.run(None, {"x": x})
    return np.asarray(found)
