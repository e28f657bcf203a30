"""`apply --slot` and `apply --shadow` from tweak files to proven files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnxruntime as ort
import pytest

from onnxtweak import commands
from onnxtweak.cli.main import main
from onnxtweak.errors import ModelError, OutputError, UsageError
from onnxtweak.model.edit.revert import revert
from onnxtweak.model.edit.splice import splice
from onnxtweak.model.edit.tweak_file import save
from onnxtweak.model.file.model_file import read_model
from onnxtweak.settings import DataSettings, OutputSettings
from onnxtweak.types import Tap
from tests.support.nets import cnn3, mlp, random_inputs
from tests.support.plain_session import plain_session
from tests.support.tweaks import CNN3_TAPS, random_tweak, run, saved
from tests.support.weak_class import weak_mlp

TAPS = (Tap("act1", "Relu", (16,)), Tap("act2", "Relu", (12,)))


@pytest.fixture
def files(tmp_path):
    """A base and three tweaks of it: on both taps, on one, and a linear one with a bias."""
    base = saved(mlp(), tmp_path)
    made = {
        "both": random_tweak(base, TAPS, 4),
        "one": random_tweak(base, TAPS[1:], 4, seed=2),
        "linear": random_tweak(base, TAPS[:1], 4, "linear", seed=3),
    }
    for name, tweak in made.items():
        save(tweak, tmp_path / f"{name}.safetensors")
    return base, made


def call(loaded, feeds, path) -> np.ndarray:
    adapter = ort.LoraAdapter()
    adapter.Load(str(path))
    options = ort.RunOptions()
    options.add_active_adapter(adapter)
    return loaded.run(None, feeds, options)[0]


def test_a_slot_takes_each_tweak_in_turn(files, tmp_path):
    base, made = files
    names = [str(tmp_path / f"{name}.safetensors") for name in made]
    applied = commands.slot(
        model=str(base.path), tweaks=names, output=OutputSettings(str(tmp_path / "slot.onnx"))
    )
    assert [check.name for check in applied.checks].count("slot") == 3
    assert all(check.passed for check in applied.checks)
    assert [adapter.path for adapter in applied.adapters] == [
        str(tmp_path / f"{name}.onnx_adapter") for name in made
    ]
    feeds = random_inputs(base.proto, 5)
    loaded = plain_session(tmp_path / "slot.onnx")
    untouched = run(base.path, feeds)[0]
    for name in (*made, *reversed(made)):
        output = OutputSettings(str(tmp_path / "constant.onnx"), force=True)
        commands.apply(model=str(base.path), tweak=str(tmp_path / f"{name}.safetensors"), output=output)
        out = call(loaded, feeds, tmp_path / f"{name}.onnx_adapter")
        np.testing.assert_allclose(out, run(tmp_path / "constant.onnx", feeds)[0], rtol=1e-5, atol=1e-5)
        assert not np.array_equal(out, untouched)
        np.testing.assert_array_equal(loaded.run(None, feeds)[0], untouched)


def test_an_adapter_for_a_slot_that_is_there(files, tmp_path):
    base, _ = files
    slot, both = tmp_path / "slot.onnx", str(tmp_path / "both.safetensors")
    commands.slot(model=str(base.path), tweaks=[both], output=OutputSettings(str(slot)))
    before = slot.read_bytes()
    output = OutputSettings(str(tmp_path / "half.onnx_adapter"))
    made = commands.slot(model=str(slot), tweaks=[both], output=output, scale=0.5)
    assert slot.read_bytes() == before and made.output == made.adapters[0]
    loaded = plain_session(slot)
    feeds = random_inputs(base.proto, 3)
    full, half = (call(loaded, feeds, tmp_path / f"{n}.onnx_adapter") for n in ("both", "half"))
    none = loaded.run(None, feeds)[0]
    np.testing.assert_allclose(half - none, (full - none) / 2, atol=1e-5)
    with pytest.raises(ModelError, match="but the slot takes none"):
        commands.slot(model=str(slot), tweaks=[str(tmp_path / "linear.safetensors")], output=output)


def test_what_does_not_belong_together_is_refused_and_nothing_is_written(files, tmp_path):
    base, made = files
    save(replace(made["one"], base_sha256="0" * 64), tmp_path / "alien.safetensors")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "one.onnx_adapter").write_bytes(b"mine")
    trials = [
        (["alien"], tmp_path / "slot.onnx", ModelError),
        (["one", "one"], tmp_path / "slot.onnx", UsageError),
        (["one"], tmp_path / "taken" / "slot.onnx", OutputError),
        (["one"], base.path, OutputError),
    ]
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for names, place, error in trials:
        with pytest.raises(error):
            commands.slot(
                model=str(base.path),
                tweaks=[str(tmp_path / f"{name}.safetensors") for name in names],
                output=OutputSettings(str(place)),
            )
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_shadow_shows_both_in_one_pass_and_is_verified(tmp_path):
    model, data = weak_mlp(tmp_path)
    file = read_model(model)
    save(random_tweak(file, TAPS, 4), tmp_path / "t.safetensors")
    output = OutputSettings(str(tmp_path / "shadow.onnx"))
    made = commands.apply(model=str(model), tweak=str(tmp_path / "t.safetensors"), output=output, shadow=True)
    assert "shadow" in [check.name for check in made.checks] and all(check.passed for check in made.checks)
    assert revert((tmp_path / "shadow.onnx").read_bytes()) == model.read_bytes()
    feeds = random_inputs(file.proto, 4)
    plain = OutputSettings(str(tmp_path / "plain.onnx"))
    commands.apply(model=str(model), tweak=str(tmp_path / "t.safetensors"), output=plain)
    untouched, shown = run(tmp_path / "shadow.onnx", feeds)
    np.testing.assert_array_equal(untouched, run(model, feeds)[0])
    np.testing.assert_array_equal(shown, run(tmp_path / "plain.onnx", feeds)[0])
    found = commands.verify(tweaked=str(tmp_path / "shadow.onnx"), data=DataSettings((str(data),)))
    assert all(check.passed for check in found.checks)
    assert {"simulation", "record"} <= {check.name for check in found.checks}
    assert found.before.overall != found.after.overall


def test_a_tensor_tapped_pooled_and_by_position_serves_constants_shadows_and_slots(tmp_path):
    """As `fit` makes them of channel means and penultimate positions."""
    base, path = saved(cnn3(10, 16, (8, 8, 8)), tmp_path), str(tmp_path / "t.safetensors")
    tweak = random_tweak(base, [CNN3_TAPS[1], replace(CNN3_TAPS[1], pool="none")], 10, "linear")
    save(tweak, path)
    constant, shadow, slot = (tmp_path / f"{name}.onnx" for name in ("constant", "shadow", "slot"))
    made = [
        commands.apply(model=str(base.path), tweak=path, output=OutputSettings(str(constant))),
        commands.apply(model=str(base.path), tweak=path, output=OutputSettings(str(shadow)), shadow=True),
        commands.slot(model=str(base.path), tweaks=[path], output=OutputSettings(str(slot))),
    ]
    assert all(check.passed for applied in made for check in applied.checks)
    assert constant.read_bytes() == splice(base, tweak)
    feeds = random_inputs(base.proto, 4)
    expected = run(constant, feeds)[0]
    np.testing.assert_array_equal(run(shadow, feeds)[-1], expected)
    loaded = plain_session(slot)
    filled = call(loaded, feeds, tmp_path / "t.onnx_adapter")
    np.testing.assert_allclose(filled, expected, rtol=1e-5, atol=1e-5)


def test_the_command_line_writes_slots_and_shadows(files, tmp_path, capsys):
    base, made = files
    tweaks = [str(tmp_path / f"{name}.safetensors") for name in made]
    assert main(["apply", str(base.path), *tweaks, "--slot", "-o", str(tmp_path / "s.onnx")]) == 0
    assert capsys.readouterr().out.count("onnx_adapter") == 3
    assert main(["apply", str(base.path), tweaks[0], "--shadow", "-o", str(tmp_path / "h.onnx")]) == 0
    assert main(["verify", str(tmp_path / "s.onnx")]) == 0
    assert main(["verify", str(tmp_path / "h.onnx")]) == 0
    assert main(["revert", str(tmp_path / "s.onnx"), "-o", str(tmp_path / "b.onnx")]) == 0
    assert (tmp_path / "b.onnx").read_bytes() == base.data
    for wrong in ([*tweaks], [tweaks[0], "--slot", "--shadow"]):
        assert main(["apply", str(base.path), *wrong, "-o", str(tmp_path / "x.onnx")]) == 2
    assert not (tmp_path / "x.onnx").exists()
