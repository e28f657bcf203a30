"""Tweaked files taken back, compared and proven again."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest

from onnxtweak import commands
from onnxtweak.errors import ModelError, OutputError, VerificationError
from onnxtweak.model.edit.splice import splice
from onnxtweak.model.file.model_file import read_model
from onnxtweak.model.file.output_file import write_model
from onnxtweak.model.logits_format import LogitsFormat
from onnxtweak.settings import DataSettings, OutputSettings
from onnxtweak.types import Tap
from tests.support.nets import cnn3, mlp, random_inputs
from tests.support.tweaks import CNN3_TAPS, random_tweak, run, saved
from tests.support.weak_class import weak_mlp

MLP_TAPS = (Tap("act1", "Relu", (16,)), Tap("act2", "Relu", (12,)))


def stacked(folder, kinds=("synapses",), proto=None, taps=MLP_TAPS, **options):
    """Base and the files with one, two, ... tweaks inside, on disk."""
    files = [saved(mlp(**options) if proto is None else proto, folder)]
    classes = 4
    for number, kind in enumerate(kinds, start=1):
        tweak = random_tweak(files[-1], taps, classes, kind, seed=number)
        path = folder / f"tweaked{number}.onnx"
        path.write_bytes(splice(files[-1], tweak, scale=0.5))
        files.append(read_model(path))
    return files


def passed(outcome) -> dict[str, bool]:
    return {check.name: check.passed for check in outcome.checks}


@pytest.mark.parametrize(("steps", "left"), [(1, 2), (2, 1), (3, 0), (None, 0)])
def test_revert_gives_the_file_of_then(steps, left, tmp_path):
    files = stacked(tmp_path, ("synapses", "linear", "mlp"))
    made = commands.revert(
        tweaked=str(files[-1].path), output=OutputSettings(str(tmp_path / "back.onnx")), steps=steps
    )
    assert (tmp_path / "back.onnx").read_bytes() == files[left].data
    assert made.output.sha256 == files[left].sha256
    assert [tweak["number"] for tweak in made.tweaks] == list(range(3, left, -1))


def test_revert_takes_the_weights_along(tmp_path):
    onnx.save(mlp(), tmp_path / "base.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    base = read_model(tmp_path / "base.onnx")
    data = splice(base, random_tweak(base, MLP_TAPS, 4))
    (tmp_path / "sent").mkdir()
    write_model(base, tmp_path / "sent" / "tweaked.onnx", [data])
    (tmp_path / "back").mkdir()
    output = OutputSettings(str(tmp_path / "back" / "base.onnx"))
    made = commands.revert(tweaked=str(tmp_path / "sent" / "tweaked.onnx"), output=output)
    assert passed(made) == {"revert": True, "weights": True}
    assert (tmp_path / "back" / "base.onnx").read_bytes() == base.data
    assert (tmp_path / "back" / "w.bin").read_bytes() == (tmp_path / "w.bin").read_bytes()
    assert f"also wrote {tmp_path / 'back' / 'w.bin'}: the base's weights, copied" in made.checks[0].detail


def test_other_weights_than_the_base_s_are_noticed(tmp_path):
    onnx.save(mlp(), tmp_path / "base.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    base = read_model(tmp_path / "base.onnx")
    (tmp_path / "sent").mkdir()
    tweaked = tmp_path / "sent" / "tweaked.onnx"
    write_model(base, tweaked, [splice(base, random_tweak(base, MLP_TAPS, 4))])
    weights = np.fromfile(tmp_path / "sent" / "w.bin", np.float32)
    (weights * 1.5).tofile(tmp_path / "sent" / "w.bin")
    with pytest.raises(VerificationError, match="external weights"):
        commands.revert(tweaked=str(tweaked), output=OutputSettings(str(tmp_path / "sent" / "back.onnx")))
    assert not (tmp_path / "sent" / "back.onnx").exists()
    found = commands.diff(base=str(base.path), tweaked=str(tweaked))
    assert not found.checks[0].passed
    assert [d["where"] for d in found.differences if not d["expected"]] == ["external file w.bin"]
    assert passed(commands.verify(tweaked=str(tweaked)))["base"] is False


def test_what_cannot_be_reverted_is_refused_and_nothing_is_written(tmp_path):
    base, tweaked = stacked(tmp_path)
    back = OutputSettings(str(tmp_path / "back.onnx"))
    with pytest.raises(ModelError, match="no tweak inside"):
        commands.revert(tweaked=str(base.path), output=back)
    with pytest.raises(ModelError, match="one tweak inside"):
        commands.revert(tweaked=str(tweaked.path), output=back, steps=2)
    with pytest.raises(OutputError):
        commands.revert(tweaked=str(tweaked.path), output=OutputSettings(str(tweaked.path), force=True))
    proto = onnx.load(tweaked.path)
    proto.graph.node[0].name = "renamed"
    (tmp_path / "edited.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(VerificationError):
        commands.revert(tweaked=str(tmp_path / "edited.onnx"), output=back)
    assert not (tmp_path / "back.onnx").exists()


def test_diff_names_the_splice_and_whatever_else_there_is(tmp_path):
    base, *_, tweaked = stacked(tmp_path, ("synapses", "mlp"))
    found = commands.diff(base=str(base.path), tweaked=str(tweaked.path))
    assert passed(found) == {"unharmed": True, "revert": True, "digests": True}
    assert [tweak["number"] for tweak in found.tweaks] == [1, 2]
    assert all(difference["expected"] for difference in found.differences)
    proto = onnx.load(tweaked.path)
    proto.doc_string = "edited"
    (tmp_path / "edited.onnx").write_bytes(proto.SerializeToString())
    found = commands.diff(base=str(base.path), tweaked=str(tmp_path / "edited.onnx"))
    assert passed(found) == {"unharmed": False, "revert": False, "digests": True}
    assert [d["where"] for d in found.differences if not d["expected"]] == ["doc_string"]


def test_two_equal_files_do_not_differ(tmp_path):
    base = saved(mlp(), tmp_path)
    shutil.copy(base.path, tmp_path / "copy.onnx")
    found = commands.diff(base=str(base.path), tweaked=str(tmp_path / "copy.onnx"))
    assert found.differences == () and passed(found) == {"unharmed": True}


@pytest.mark.parametrize("kinds", [("synapses",), ("linear",), ("mlp",), ("synapses", "linear", "synapses")])
def test_verify_from_the_file_alone(kinds, tmp_path):
    base, *_, tweaked = stacked(tmp_path, kinds)
    base.path.unlink()
    found = commands.verify(tweaked=str(tweaked.path))
    assert all(passed(found).values())
    expected = {"revert", "digests", "base", "checker", "unharmed", "neutral", "reload"}
    assert set(passed(found)) == expected | ({"record"} if "synapses" in kinds else set())
    assert found.base.path == "" and found.base.sha256 == base.sha256 and not found.unchecked
    assert len(found.tweaks) == len(kinds)


@pytest.mark.parametrize(
    "options", [{"classes": 1}, {"classes": 1, "tail": "sigmoid"}, {"dtype": np.float16}]
)
def test_verify_knows_single_logits_and_other_types(options, tmp_path):
    base = saved(mlp(**options), tmp_path)
    classes = 2 if options.get("classes") == 1 else 4
    taps = tuple(replace(tap, dtype=np.dtype(options.get("dtype", "float32")).name) for tap in MLP_TAPS)
    logits_format = LogitsFormat("N1" if classes == 2 else "NC", taps[0].dtype)
    (tmp_path / "out.onnx").write_bytes(splice(base, random_tweak(base, taps, classes), logits_format))
    found = commands.verify(tweaked=str(tmp_path / "out.onnx"))
    assert passed(found)["record"] and passed(found)["neutral"] and all(passed(found).values())


def test_verify_with_samples_simulates_and_measures(tmp_path):
    model, data = weak_mlp(tmp_path)
    base = read_model(model)
    tweaked = tmp_path / "tweaked.onnx"
    tweaked.write_bytes(splice(base, random_tweak(base, MLP_TAPS, 4)))
    found = commands.verify(tweaked=str(tweaked), base=str(model), data=DataSettings((str(data),)))
    assert all(passed(found).values())
    assert passed(found)["simulation"]
    with np.load(data) as samples:
        right = run(tweaked, {"input": samples["x"]})[0].argmax(axis=1) == samples["y"]
    assert found.after.overall == pytest.approx(right.mean())
    assert found.before.overall != found.after.overall


def test_verify_names_what_was_done_to_the_file(tmp_path):
    base, tweaked = stacked(tmp_path)
    other = saved(mlp(seed=1), tmp_path, "other.onnx")
    found = commands.verify(tweaked=str(tweaked.path), base=str(other.path))
    assert [check.name for check in found.checks if not check.passed] == ["base"]
    with pytest.raises(ModelError, match="no tweak inside"):
        commands.verify(tweaked=str(base.path))
    proto = onnx.load(tweaked.path)
    weight = next(t for t in proto.graph.initializer if t.name.endswith("/weight"))
    weight.raw_data = (2 * np.frombuffer(weight.raw_data, np.float32)).tobytes()
    (tmp_path / "louder.onnx").write_bytes(proto.SerializeToString())
    found = commands.verify(tweaked=str(tmp_path / "louder.onnx"))
    # Onnx wrote the same layout, so the tweak still comes off; but it is not the one that was recorded.
    assert [check.name for check in found.checks if not check.passed] == ["digests", "unharmed", "record"]
    entry = next(e for e in proto.metadata_props if e.key == "onnxtweak.1.patch")
    entry.value = "{"
    (tmp_path / "cut.onnx").write_bytes(proto.SerializeToString())
    assert passed(commands.verify(tweaked=str(tmp_path / "cut.onnx"))) == {"record": False}


def test_verify_says_what_it_could_not_run(tmp_path):
    proto = cnn3(4, 16, (8, 8, 8))
    for axis in (2, 3):
        proto.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"size{axis}"
    _, tweaked = stacked(tmp_path, proto=proto, taps=CNN3_TAPS)
    found = commands.verify(tweaked=str(tweaked.path))
    assert all(passed(found).values())
    assert set(passed(found)) == {"revert", "digests", "base", "checker", "unharmed"}
    assert [check.name for check in found.unchecked] == ["neutral", "reload"]
    assert all("how large its input is" in check.reason for check in found.unchecked)
    np.savez(tmp_path / "d.npz", x=random_inputs(cnn3(4, 16), 9)["input"], y=np.arange(9) % 4)
    found = commands.verify(tweaked=str(tweaked.path), data=DataSettings((str(tmp_path / "d.npz"),)))
    assert passed(found)["neutral"] and passed(found)["simulation"] and found.after.samples == 9
