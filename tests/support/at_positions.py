"""Which models decide at every position? Small ones whose scores lack a class, with labels to learn it from.

Every kind is a teacher, scaled so that its classes are as frequent, with the scores of one class made small:
what they lack is linear in its hidden maps. Labels are the teacher's decisions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from tests.support.nets import NetBuilder
from tests.support.plain_session import plain_session

CLASSES, LACKING = 5, 2
KINDS = ("pixels", "pixels-argmax", "pixels-last", "tokens", "frames")


@dataclass(frozen=True)
class Positions:
    """A model and its samples. labels (N, positions ...) int64. class_axis : of the model's scores."""

    model: Path
    data: Path
    x: np.ndarray
    labels: np.ndarray
    class_axis: int


def model_at_positions(kind: str, folder: Path, samples: int = 240, seed: int = 0) -> Positions:
    """One of `KINDS`, saved in a folder with its samples."""
    net = NetBuilder(seed=seed)
    shape, scores, axis = {"tokens": _tokens, "frames": _frames}.get(kind, _pixels)(net, kind)
    x = np.random.default_rng(seed).normal(0, 1, (samples, *shape)).astype(np.float32)
    rank = len(shape) + 1
    declared = {"x": (TensorProto.FLOAT, ["N", *shape])}
    Z = _run(net.model(declared, {scores: (TensorProto.FLOAT, [None] * rank)}), x)
    rest = tuple(other for other in range(rank) if other != axis)
    factor = 1 / Z.std(axis=rest, keepdims=True)
    shift = -(Z * factor).mean(axis=rest, keepdims=True)
    labels = (Z * factor + shift).argmax(axis).astype(np.int64)
    lacking = [slice(None)] * rank
    lacking[axis] = slice(LACKING, LACKING + 1)
    factor[tuple(lacking)] *= 0.3
    shift[tuple(lacking)] -= 1
    logits = net.op("Add", net.op("Mul", scores, net.const(factor)), net.const(shift))
    if kind == "pixels-argmax":
        net.op("ArgMax", logits, axis=axis, keepdims=0, name="answer")
        outputs = {"answer": (TensorProto.INT64, [None] * (rank - 1))}
    else:
        net.op("Softmax", logits, axis=axis, name="answer")
        outputs = {"answer": (TensorProto.FLOAT, [None] * rank)}
    model, data = folder / f"{kind}.onnx", folder / f"{kind}.npz"
    onnx.save(net.model(declared, outputs), model)
    np.savez(data, x=x, y=labels)
    return Positions(model, data, x, labels, axis)


def _pixels(net: NetBuilder, kind: str) -> tuple[list[int], str, int]:
    """Scores from a fine map and one of half its resolution."""
    fine = net.op("Relu", net.conv("x", (3, 8)))
    coarse = net.op("Relu", net.conv(fine, (8, 12), stride=2))
    sizes = net.const([1, 1, 2, 2], np.float32), net.const(np.zeros(0), np.float32)
    both = net.op("Concat", fine, net.op("Resize", coarse, sizes[1], sizes[0], mode="linear"), axis=1)
    scores = net.conv(both, (20, CLASSES), kernel=1)
    if kind == "pixels-last":
        return [3, 8, 8], net.op("Transpose", scores, perm=[0, 2, 3, 1]), 3
    return [3, 8, 8], scores, 1


def _tokens(net: NetBuilder, kind: str) -> tuple[list[int], str, int]:
    return [9, 6], net.dense(net.op("Relu", net.dense("x", 6, 16)), 16, CLASSES), 2


def _frames(net: NetBuilder, kind: str) -> tuple[list[int], str, int]:
    weight, bias = net.he(14, 6, 3), net.const(np.zeros(14))
    hidden = net.op("Relu", net.op("Conv", "x", weight, bias, pads=[1, 1], kernel_shape=[3]))
    return [6, 12], net.op("Conv", hidden, net.he(CLASSES, 14, 1), kernel_shape=[1]), 1


def _run(proto: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = plain_session(proto.SerializeToString())
    return session.run(None, {"x": x})[0]
