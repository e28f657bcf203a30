"""Lock-samples as they would look if the same befell them as the must-samples, end to end."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from onnxtweak import commands
from onnxtweak.method.listed.repair import HeldOut, teach
from onnxtweak.settings import DataSettings, EngineSettings, OutputSettings
from tests.support.nets import NetBuilder
from tests.support.plain_session import plain_session

WIDTH, CLASSES, HIDDEN, MUST = 40, 8, 60, 24


def samples(count, seed):
    """Patterns of the classes in noise, and their labels."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, count)
    pattern = np.random.default_rng(7).random((CLASSES, WIDTH))
    return (pattern[y] + 0.25 * rng.normal(size=(count, WIDTH))).astype(np.float32), y


def veiled(x):
    """Low contrast under waves of random strength: the model takes it for other classes."""
    waves = np.sin(np.outer(np.arange(1, 11), np.linspace(0, 6, WIDTH))) + 1
    strength = np.random.default_rng(3).random((len(x), 10))
    return (0.4 * x + 0.3 * strength @ waves).astype(np.float32)


@pytest.fixture(scope="module", params=["float32", "uint8"])
def made(request, tmp_path_factory):
    """A model that knows the patterns, for real numbers or bytes; veiled samples that it has wrong."""
    folder, kind = tmp_path_factory.mktemp("imitated"), request.param
    rng, pattern = np.random.default_rng(0), np.random.default_rng(7).random((CLASSES, WIDTH))
    first = np.concatenate([pattern - pattern.mean(axis=0), rng.normal(size=(HIDDEN, WIDTH)) / 6])
    net = NetBuilder()
    scale = 1.0 if kind == "float32" else 1 / 60
    cast = net.op("Cast", "x", to=TensorProto.FLOAT)
    scaled = net.op("Mul", cast, net.const(scale, name="scale"))
    hidden = net.op("Relu", net.op("MatMul", scaled, net.const(first.T, name="first")))
    second = np.concatenate([6 * np.eye(CLASSES), np.zeros((HIDDEN, CLASSES))])
    net.op("MatMul", hidden, net.const(second, name="second"), name="logits")
    taken = TensorProto.FLOAT if kind == "float32" else TensorProto.UINT8
    proto = net.model({"x": (taken, ["N", WIDTH])}, {"logits": (TensorProto.FLOAT, ["N", CLASSES])})
    onnx.save(proto, folder / "model.onnx")

    def stored(x):
        return x if kind == "float32" else np.clip(np.rint(60 * x), 0, 255).astype(np.uint8)

    x, y = samples(450, 1)
    others, of_others = samples(1600, 2)
    spoiled = stored(veiled(others))
    wrong = np.flatnonzero(shown(folder / "model.onnx", spoiled) != of_others)
    assert len(wrong) > 400
    np.savez(folder / "must.npz", x=spoiled[wrong[:MUST]], y=of_others[wrong[:MUST]])
    np.savez(folder / "lock.npz", x=stored(x), y=y)
    return folder, spoiled[wrong[MUST:]], of_others[wrong[MUST:]]


def shown(path, x):
    session = plain_session(str(path))
    return session.run(None, {"x": x})[0].argmax(axis=1)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr("onnxtweak.method.listed.taught._ROUNDS", 5)


def fit(folder, out, **engine):
    lists = DataSettings(must=(str(folder / "must.npz"),), lock=(str(folder / "lock.npz"),))
    return commands.fit(
        model=str(folder / "model.onnx"),
        data=lists,
        engine=EngineSettings(backend="numpy", **engine),
        output=OutputSettings(str(out)),
    )


def test_imitations_put_right_what_was_not_listed(made, tmp_path, monkeypatch):
    folder, others, labels = made
    found = fit(folder, tmp_path / "with.onnx")
    assert found.listed.must.infeasible == 0
    assert any("imitations" in note for note in found.notes)
    assert "imitations" in {name for name, _ in found.run.passes}
    assert found.listed.bias["right"] < MUST
    right = (shown(tmp_path / "with.onnx", others) == labels).mean()
    assert right > 0.85
    if others.dtype == np.uint8:
        again = fit(folder, tmp_path / "again.onnx", batch=17)
        assert again.output.sha256 == found.output.sha256
    else:
        monkeypatch.setattr("onnxtweak.stages.lists.make_right.imitate", lambda *_: None)
        fit(folder, tmp_path / "without.onnx")
        assert right > (shown(tmp_path / "without.onnx", others) == labels).mean() + 0.06
    plan = commands.forecast(
        "fit",
        model=str(folder / "model.onnx"),
        data=DataSettings(must=(str(folder / "must.npz"),), lock=(str(folder / "lock.npz"),)),
        engine=EngineSettings(backend="numpy"),
    )
    assert "imitations" in {step.name for step in plan.steps}


class _Asked(Exception):
    """There is no need to go on."""


def test_units_may_read_an_input_of_real_numbers(made, tmp_path, monkeypatch):
    folder, others, labels = made
    hidden, numbers, asked = HIDDEN + CLASSES, others.dtype.kind == "f", []

    def all_columns(must, guarded, temperature, imitated, widths, least, kept):
        asked.append(widths)
        if not numbers:
            raise _Asked
        return teach(must, guarded, temperature, imitated, widths[-1:], HeldOut(0.0, 1.0), kept)

    monkeypatch.setattr("onnxtweak.stages.lists.make_right.teach", all_columns)
    with nullcontext() if numbers else pytest.raises(_Asked):
        found = fit(folder, tmp_path / "out.onnx")
    assert asked == [(hidden, hidden + WIDTH) if numbers else (hidden,)]
    if not numbers:
        return
    assert found.listed.form.startswith("hidden units that imitations teach")
    assert found.listed.must.infeasible == 0
    readers = [node for node in onnx.load(tmp_path / "out.onnx").graph.node if "x" in node.input]
    assert len(readers) == 2
    assert (shown(tmp_path / "out.onnx", others) == labels).mean() > 0.65


def test_identifiers_are_not_imitated(tmp_path):
    net = NetBuilder()
    table = np.random.default_rng(0).normal(size=(50, 12)).astype(np.float32)
    rows = net.op("Gather", net.const(table, name="table"), "x", axis=0)
    hidden = net.op("Relu", net.op("ReduceMean", rows, axes=[1], keepdims=0))
    net.op(
        "MatMul", hidden, net.const(np.random.default_rng(1).normal(size=(12, 3)), name="w"), name="logits"
    )
    proto = net.model({"x": (TensorProto.INT64, ["N", 5])}, {"logits": (TensorProto.FLOAT, ["N", 3])})
    onnx.save(proto, tmp_path / "model.onnx")
    x = np.random.default_rng(2).integers(0, 50, (300, 5))
    y = shown(tmp_path / "model.onnx", x)
    np.savez(tmp_path / "must.npz", x=x[:20], y=(y[:20] + 1) % 3)
    np.savez(tmp_path / "lock.npz", x=x[20:], y=y[20:])
    found = fit(tmp_path, tmp_path / "out.onnx")
    assert "imitations" not in {name for name, _ in found.run.passes}
