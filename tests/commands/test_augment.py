"""Augmentation with active neurons, end to end, and asked for the impossible."""

from __future__ import annotations

import numpy as np
import pytest

from onnxtweak import commands
from onnxtweak.errors import InputError
from onnxtweak.settings import AugmentSettings, DataSettings, OutputSettings, TapSettings
from tests.support.plain_session import plain_session
from tests.support.weak_class import weak_cnn, weak_mlp

QUICK = AugmentSettings(hidden=8, iterations=3000, batch=32, rate=3e-3)


def run(model, samples, /, written=None, **changes):
    """Augmentation with quick settings; `changes` replace keyword arguments."""
    arguments = {
        "model": str(model),
        "data": DataSettings(data=(str(samples),)),
        "settings": QUICK,
        "output": OutputSettings(None if written is None else str(written)),
    }
    return commands.augment(**{**arguments, **changes})


@pytest.fixture(scope="module")
def mlp(tmp_path_factory):
    return weak_mlp(tmp_path_factory.mktemp("mlp"), n=2400)


def test_all_classes_do_better_and_the_file_is_what_the_tables_foretold(mlp, tmp_path):
    model, data = mlp
    result = run(model, data, tmp_path / "out.onnx")
    assert result.after.overall > result.before.overall
    assert [c.name for c in result.checks] == [
        "neutral",
        "simulation",
        "checker",
        "unharmed",
        "answer",
        "reload",
    ]
    assert all(check.passed for check in result.checks)
    assert result.tweak["kind"] == "augment" and result.tweak["synapses"] is None
    assert result.targets == result.classes
    assert result.bias_control.overall >= result.before.overall - 0.05
    with np.load(data) as held:
        x, y = held["x"], held["y"]
    session = plain_session(tmp_path / "out.onnx")
    predicted = session.run(None, {session.get_inputs()[0].name: x})[0].argmax(axis=1)
    assert (predicted == y).mean() > result.before.overall


def test_the_seed_decides_the_bytes(mlp, tmp_path):
    model, data = mlp
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(model, data, tmp_path / name, data=DataSettings(data=(str(data),), seed=seed))
    first, again, other = ((tmp_path / name).read_bytes() for name in "abc")
    assert first == again != other


def test_a_saved_augmentation_is_applied_to_the_same_bytes(mlp, tmp_path):
    model, data = mlp
    output = OutputSettings(str(tmp_path / "a.onnx"), str(tmp_path / "a.safetensors"))
    run(model, data, output=output)
    commands.apply(
        model=str(model),
        tweak=str(tmp_path / "a.safetensors"),
        output=OutputSettings(str(tmp_path / "b.onnx")),
    )
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


@pytest.mark.parametrize("pool", ["none", "mean"])
def test_neurons_are_positions_or_channels(tmp_path, pool):
    result = run(
        *weak_cnn(tmp_path), taps=TapSettings(pool=(pool,)), settings=AugmentSettings(neurons=12, hidden=4)
    )
    assert result.choice.neurons == (16 if pool == "mean" else 352)
    assert set(result.choice.n) <= {0, 12}


def test_the_base_is_kept_where_validation_does_not_improve(mlp, tmp_path):
    model, data = mlp
    result = run(
        model, data, tmp_path / "out.onnx", settings=AugmentSettings(hidden=2, iterations=1, rate=0.0)
    )
    assert set(result.choice.scale) == {0.0}
    assert (tmp_path / "out.onnx").read_bytes() == model.read_bytes()
    assert any("the base was best" in note for note in result.notes)
    assert result.after.overall == result.before.overall


def test_a_limit_on_single_classes_holds_on_validation(mlp, tmp_path):
    """Validation doubles as test here, so that the result shows it."""
    model, data = mlp
    with np.load(data) as held:
        np.savez(tmp_path / "fit.npz", x=held["x"][:1600], y=held["y"][:1600])
        np.savez(tmp_path / "rest.npz", x=held["x"][1600:], y=held["y"][1600:])
    rest = (str(tmp_path / "rest.npz"),)
    settings = DataSettings(data=(str(tmp_path / "fit.npz"),), val=rest, test=rest)
    drops = {}
    for limit in (None, 2.0):
        augment = AugmentSettings(**{**vars(QUICK), "max_class_drop": limit})
        result = run(model, data, data=settings, settings=augment)
        drops[limit] = (result.before.per_class - result.after.per_class).max() * 100
    assert drops[None] > 2.0 >= drops[2.0]


def test_classes_without_samples_are_left_alone(mlp, tmp_path):
    model, data = mlp
    with np.load(data) as held:
        x, y = held["x"], held["y"]
    np.savez(tmp_path / "fewer.npz", x=x[y != 0], y=y[y != 0])
    result = run(model, tmp_path / "fewer.npz")
    assert result.targets == result.classes[1:]
    assert any("1 class without fit samples" in note for note in result.notes)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"settings": AugmentSettings(neurons=10_000)}, "10,000 neurons asked for, but only"),
    ],
)
def test_bad_requests_are_refused_and_nothing_is_written(mlp, tmp_path, changes, said):
    with pytest.raises(InputError) as caught:
        run(*mlp, tmp_path / "out.onnx", **changes)
    assert said in str(caught.value) and caught.value.hint
    assert not (tmp_path / "out.onnx").exists()
