"""Weights of each place's own: learnt where places differ, in each layout, and shown by the file."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto

import onnxtweak
from onnxtweak import commands
from onnxtweak.errors import ModelError
from onnxtweak.model.file.tweak_metadata import tweaks_inside
from onnxtweak.settings import DataSettings, OutputSettings
from tests.support.nets import NetBuilder

QUICK = {"backend": "numpy", "device": "cpu", "hidden": 0}
# Of scores in each layout: shape of a sample of 6 channels, and the axis of the places in the hidden map.
KINDS = {
    "roll": ((6, 8, 10), 3),
    "labels": ((6, 8, 10), 2),
    "pixels": ((6, 8, 10), 2),
    "tokens": ((12, 6), 1),
    "frames": ((6, 12), 2),
}


def teach(kind: str, folder, samples: int = 60, *, differ: bool = True):
    """A model whose scores have one weight for all places, and labels that have others at each.

    roll : one score per position, [N, H, W]. labels : several labels, [N, C, H, W]; the other kinds one class
    per position.
    """
    shape, axis = KINDS[kind]
    classes = {"roll": 1, "labels": 2}.get(kind, 3)
    net, rng = NetBuilder(seed=0), np.random.default_rng(0)
    last = kind == "tokens"
    places, rank = shape[axis - 1], len(shape) + 1
    x = rng.normal(0, 1, (samples, *shape)).astype(np.float32)
    hidden = net.op("Relu", "x", name="h")
    weight = rng.normal(0, 1, (classes, 6)).astype(np.float32)
    if last:
        scores = net.op("MatMul", hidden, net.const(weight.T))
    else:
        scores = net.op("Conv", hidden, net.const(weight.reshape(classes, 6, *(1 for _ in shape[1:]))))
    logits = net.op("Squeeze", scores, net.ints(1)) if kind == "roll" else scores
    if kind in ("roll", "labels"):
        net.op("Sigmoid", logits, name="answer")
    else:
        net.op("Softmax", logits, axis=2 if last else 1, name="answer")
    channels = rank - 1 if last else 1
    H = np.moveaxis(np.maximum(x, 0), channels, -1)
    own = weight + differ * rng.normal(0, 1, (places, classes, 6)).astype(np.float32)
    at = axis if last else axis - 1  # once channels are the last axis
    own = own.reshape(*(places if a == at else 1 for a in range(rank - 1)), classes, 6)
    Z = (H[..., None, :] * own).sum(-1)
    if kind in ("roll", "labels"):
        marks = (Z > np.quantile(Z, 0.7, axis=tuple(range(rank - 1)))).astype(np.int8)
        labels = marks[..., 0] if kind == "roll" else np.moveaxis(marks, -1, 1)
    else:
        labels = Z.argmax(-1)
    declared = ["N", *shape]
    out = [None] * (rank - (kind == "roll"))
    model, data = folder / "model.onnx", folder / "data.npz"
    onnx.save(net.model({"x": (TensorProto.FLOAT, declared)}, {"answer": (TensorProto.FLOAT, out)}), model)
    np.savez(data, x=x, y=labels)
    return model, data, x, labels


def right(path, kind: str, x: np.ndarray, labels: np.ndarray) -> float:
    """How many decisions of a file's own output are right."""
    (value,) = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    shown = value > 0.5 if kind in ("roll", "labels") else value.argmax(2 if kind == "tokens" else 1)
    return float((shown == labels).mean())


@pytest.mark.parametrize("kind", KINDS)
def test_places_that_differ_get_weights_of_their_own(tmp_path, kind):
    model, data, x, labels = teach(kind, tmp_path)
    new, again, back, tweak = (tmp_path / name for name in ("new.onnx", "a.onnx", "b.onnx", "t.safetensors"))
    found = onnxtweak.fit(model, data=data, output=new, tweak=tweak, **QUICK)
    places = KINDS[kind][0][KINDS[kind][1] - 1]
    assert f"weights of their own at {places} places" in " ".join(found.notes)
    assert all(check.passed for check in found.checks)
    assert right(new, kind, x, labels) > max(0.85, right(model, kind, x, labels) + 0.1)
    onnxtweak.apply(model, tweak, again)
    assert again.read_bytes() == new.read_bytes()
    verified = commands.verify(tweaked=str(new), base=str(model), data=DataSettings((str(data),)))
    assert all(check.passed for check in verified.checks) and not verified.unchecked
    with pytest.raises(ModelError, match="weights of each place do not fit into a slot"):
        commands.slot(model=str(model), tweaks=[str(tweak)], output=OutputSettings(str(tmp_path / "s.onnx")))
    (inside,) = tweaks_inside(onnx.load(new))
    assert inside.patch["type"] == "byplace"
    onnxtweak.revert(new, back)
    assert back.read_bytes() == model.read_bytes()


@pytest.mark.parametrize("asked", [{}, {"taps": "activations"}])
def test_places_that_do_not_differ_share_theirs(tmp_path, asked):
    """And where the user says what to read, places are not tried."""
    model, data, *_ = teach("roll", tmp_path, differ=bool(asked))
    found = onnxtweak.fit(model, data=data, **asked, **QUICK)
    assert "weights of their own" not in " ".join(found.notes)
