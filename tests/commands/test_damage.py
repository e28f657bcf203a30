"""`verify` and `diff` find what was done to a patch after it was written; only what was compared counts."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest

from onnxtweak import commands
from onnxtweak.cli.main import main
from onnxtweak.errors import ModelError
from onnxtweak.model.edit.tweak_file import load, save
from onnxtweak.model.file.model_file import parse
from onnxtweak.patch import no_patch
from onnxtweak.settings import (
    AugmentSettings,
    DataSettings,
    EngineSettings,
    OutputSettings,
    TapSettings,
    TargetSettings,
)
from tests.support.damage import bits_flipped, without_digests
from tests.support.weak_class import carry_out, more_samples, weak_mlp
from tests.support.weak_class import run as outputs

ONE_THREAD = EngineSettings(threads=1)
KINDS = ("join", "fit", "augment", "shadow", "slot", "stacked")


@pytest.fixture(scope="module")
def mlp(tmp_path_factory):
    """With labels that hidden neurons tell more of than the last layer does."""
    model, data = weak_mlp(tmp_path_factory.mktemp("mlp"), n=2400)
    with np.load(data) as file:
        x = file["x"]
    np.savez(data, x=x, y=taught(model, x))
    return model, data


def taught(model, x):
    """Labels (N,) of x as the model's network gives them with another last layer."""
    teacher = onnx.load(model)
    last = next(tensor for tensor in teacher.graph.initializer if tensor.name == "weight_8")
    weight = onnx.numpy_helper.to_array(last)
    noise = np.random.default_rng(0).normal(size=weight.shape) * weight.std()
    last.CopyFrom(onnx.numpy_helper.from_array((weight + noise).astype(weight.dtype), last.name))
    return outputs(teacher, x).argmax(axis=1)


@pytest.fixture(scope="module")
def files(mlp, tmp_path_factory):
    """A folder of files made of the same small network, by how they were made, with their tweak files."""
    model, data = mlp
    folder = tmp_path_factory.mktemp("tweaked")

    def written(name):
        return OutputSettings(str(folder / f"{name}.onnx"), tweak=str(folder / f"{name}.safetensors"))

    carry_out(commands.join, model, data, output=written("join"))
    hidden = TapSettings(("act1", "act2"))
    carry_out(commands.fit, model, data, output=written("fit"), taps=hidden, targets=TargetSettings())
    quick = AugmentSettings(hidden=8, iterations=3000, batch=32, rate=3e-3)
    asked = {"model": str(model), "data": DataSettings((str(data),))}
    commands.augment(**asked, settings=quick, output=written("augment"))
    tweak = str(folder / "join.safetensors")
    shadow, slot = (OutputSettings(str(folder / f"{name}.onnx")) for name in ("shadow", "slot"))
    commands.apply(model=str(model), tweak=tweak, output=shadow, shadow=True)
    commands.slot(model=str(model), tweaks=[tweak], output=slot)
    carry_out(commands.join, folder / "fit.onnx", data, output=written("stacked"))
    return folder


def failed(outcome):
    return [check.name for check in outcome.checks if not check.passed]


def said(outcome, name):
    return next(check.detail for check in outcome.checks if check.name == name)


def edited(file, place, edit):
    """The file with its arrays changed by `edit`, stored as they were."""
    proto = onnx.load(file)
    for tensor in proto.graph.initializer:
        edit(tensor)
    place.write_bytes(proto.SerializeToString())
    return place


@pytest.mark.parametrize("kind", KINDS)
def test_no_flipped_bit_passes(kind, files, mlp, tmp_path):
    base = files / "fit.onnx" if kind == "stacked" else mlp[0]
    file, damaged = files / f"{kind}.onnx", tmp_path / "damaged.onnx"
    sound = commands.verify(tweaked=str(file), engine=ONE_THREAD)
    assert failed(sound) == [] and sound.unchecked == ()
    assert failed(commands.diff(base=str(base), tweaked=str(file))) == []
    parsed = 0
    for data in bits_flipped(base.read_bytes(), file.read_bytes(), 20):
        damaged.write_bytes(data)
        try:
            found = commands.verify(tweaked=str(damaged), engine=ONE_THREAD)
        except ModelError:
            with pytest.raises(ModelError):
                commands.diff(base=str(base), tweaked=str(damaged))
            continue
        parsed += 1
        compared = commands.diff(base=str(base), tweaked=str(damaged))
        assert failed(found) and failed(compared)
        assert not all(difference["expected"] for difference in compared.differences)
    assert parsed > 10


@pytest.mark.parametrize(
    ("kind", "array", "change"),
    [
        ("join", "weight", lambda values: values * -5),
        ("fit", "weight", lambda values: values * -5),
        ("fit", "bias", lambda values: values + np.eye(4)[1] * 1e6),
        ("augment", "w2", lambda values: values * -5),
        ("augment", "b2", lambda values: values + np.eye(4)[1] * 1e6),
    ],
)
def test_other_weights_are_named_and_cost_accuracy(kind, array, change, files, mlp, tmp_path):
    name = f"onnxtweak/1/{array}"

    def edit(tensor):
        if tensor.name == name:
            values = np.frombuffer(tensor.raw_data, np.float32)
            tensor.raw_data = change(values).astype(np.float32).tobytes()

    place = edited(files / f"{kind}.onnx", tmp_path / "damaged.onnx", edit)
    model, data = mlp
    found = commands.verify(tweaked=str(place), data=DataSettings((str(data),)), engine=ONE_THREAD)
    assert {"digests", "unharmed", "accuracy"} <= set(failed(found))
    assert said(found, "digests") == f"array {name} of tweak 1 was changed"
    compared = commands.diff(base=str(model), tweaked=str(place))
    strange = [d["where"] for d in compared.differences if not d["expected"]]
    assert strange == [f"graph.initializer[{name}]"]


def test_accuracy_is_compared_with_what_was_recorded(files, mlp, tmp_path):
    model, _ = mlp
    x, _ = more_samples(model, 700, seed=5)
    np.savez(tmp_path / "later.npz", x=x, y=taught(model, x))
    later = DataSettings((str(tmp_path / "later.npz"),))
    for kind in ("join", "fit", "augment", "shadow", "stacked"):
        found = commands.verify(tweaked=str(files / f"{kind}.onnx"), data=later, engine=ONE_THREAD)
        assert failed(found) == [] and "expected at least" in said(found, "accuracy")
    place = edited(
        files / "fit.onnx",
        tmp_path / "worse.onnx",
        lambda tensor: (
            tensor.name == "onnxtweak/1/weight"
            and setattr(tensor, "raw_data", (-5 * np.frombuffer(tensor.raw_data, np.float32)).tobytes())
        ),
    )
    found = commands.verify(tweaked=str(place), data=later, engine=ONE_THREAD)
    assert "accuracy" in failed(found) and found.after.overall < found.before.overall - 0.1
    assert f"overall {found.before.overall * 100:.1f} -> {found.after.overall * 100:.1f} %" in said(
        found, "accuracy"
    )


@pytest.mark.parametrize(
    ("boast", "edit"),
    [
        ("all", lambda counts: [*counts[:2], counts[2] + 30, counts[3]]),
        ("targets", lambda targets: {"2": [*targets["2"][:2], targets["2"][2] + 30, targets["2"][3]]}),
    ],
)
def test_on_the_validation_samples_the_recorded_counts_come_out_again(boast, edit, mlp, tmp_path):
    model, data = mlp
    x, y = more_samples(model, 400, seed=6)
    np.savez(tmp_path / "val.npz", x=x, y=y)
    validation = (str(tmp_path / "val.npz"),)
    written = OutputSettings(str(tmp_path / "out.onnx"))
    made = carry_out(
        commands.join, model, data, output=written, data=DataSettings((str(data),), val=validation)
    )
    again = DataSettings(validation)
    found = commands.verify(tweaked=str(tmp_path / "out.onnx"), data=again, engine=ONE_THREAD)
    right = round(made.before.overall * 400), round(made.after.overall * 400)
    assert failed(found) == []
    counts = f"{right[0]} -> {right[1]}"
    assert f"overall {counts} of 400, recorded {counts}; targets " in said(found, "accuracy")
    proto = onnx.load(tmp_path / "out.onnx")
    entry = next(entry for entry in proto.metadata_props if entry.key == "onnxtweak.1.provenance")
    record = json.loads(entry.value)
    record["validation"][boast] = edit(record["validation"][boast])
    entry.value = json.dumps(record, sort_keys=True, separators=(",", ":"))
    (tmp_path / "boasting.onnx").write_bytes(proto.SerializeToString())
    found = commands.verify(tweaked=str(tmp_path / "boasting.onnx"), data=again, engine=ONE_THREAD)
    assert {"digests", "accuracy"} <= set(failed(found))
    assert said(found, "digests") == "the record of tweak 1 was changed"


def test_another_scale_has_no_recorded_result(files, mlp, tmp_path):
    model, data = mlp
    output = OutputSettings(str(tmp_path / "half.onnx"))
    commands.apply(model=str(model), tweak=str(files / "join.safetensors"), output=output, scale=0.5)
    found = commands.verify(tweaked=str(tmp_path / "half.onnx"), data=DataSettings((str(data),)))
    assert failed(found) == [] and [check.name for check in found.unchecked] == ["accuracy"]
    assert "scale 0.5" in found.unchecked[0].reason


def test_a_saved_tweak_carries_its_result(files, mlp, tmp_path):
    output = OutputSettings(str(tmp_path / "again.onnx"))
    commands.apply(model=str(mlp[0]), tweak=str(files / "fit.safetensors"), output=output)
    assert (tmp_path / "again.onnx").read_bytes() == (files / "fit.onnx").read_bytes()
    tweak = load(files / "fit.safetensors")
    for spoilt in ({}, {"validation": 5}, {"validation": {"targets": {"x": [1]}}}):
        save(
            replace(tweak, provenance={"inputs": tweak.provenance["inputs"], **spoilt}),
            tmp_path / "t.safetensors",
            force=True,
        )
        output = OutputSettings(str(tmp_path / "plain.onnx"), force=True)
        commands.apply(model=str(mlp[0]), tweak=str(tmp_path / "t.safetensors"), output=output)
        found = commands.verify(tweaked=output.path, data=DataSettings((str(mlp[1]),)))
        assert failed(found) == [] and [check.name for check in found.unchecked] == ["accuracy"]


def test_what_older_versions_wrote_is_not_counted_as_compared(files, mlp, tmp_path, capsys):
    old = tmp_path / "old.onnx"
    old.write_bytes(without_digests((files / "fit.onnx").read_bytes()))
    found = commands.verify(tweaked=str(old), engine=ONE_THREAD)
    assert failed(found) == [] and "digests" not in {check.name for check in found.checks}
    assert [check.name for check in found.unchecked] == ["digests"]
    assert "could not be compared" in found.unchecked[0].reason
    compared = commands.diff(base=str(mlp[0]), tweaked=str(old))
    assert failed(compared) == [] and [check.name for check in compared.unchecked] == ["digests"]
    assert main(["verify", str(old)]) == 0
    captured = capsys.readouterr()
    assert "6 of 6 checks passed; 1 could not be made: digests" in captured.err
    assert "not made: tweak 1 was written by a version" in " ".join(captured.out.split())
    assert main(["verify", str(old), "-f", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [check["name"] for check in told["unchecked"]] == ["digests"]
    assert main(["revert", str(old), "-o", str(tmp_path / "back.onnx")]) == 0
    assert (tmp_path / "back.onnx").read_bytes() == mlp[0].read_bytes()


def test_a_file_that_another_tool_wrote_anew_still_has_its_patch(files, tmp_path):
    proto = parse((files / "shadow.onnx").read_bytes())
    proto.producer_name = "another tool"
    (tmp_path / "anew.onnx").write_bytes(proto.SerializeToString())
    found = commands.verify(tweaked=str(tmp_path / "anew.onnx"), engine=ONE_THREAD)
    assert failed(found) == ["revert"] and "are as written" in said(found, "digests")
    assert [check.name for check in found.unchecked] == ["base", "checker", "unharmed", "neutral", "reload"]


def test_a_damaged_file_that_does_not_run_is_told_by_what_is_damaged(files, mlp, tmp_path):
    def of_another_shape(tensor):
        if tensor.name == "onnxtweak/1/weight":
            tensor.dims[:] = [1, int(np.prod(tensor.dims))]

    place = edited(files / "join.onnx", tmp_path / "damaged.onnx", of_another_shape)
    found = commands.verify(tweaked=str(place), data=DataSettings((str(mlp[1]),)), engine=ONE_THREAD)
    assert said(found, "digests") == "array onnxtweak/1/weight of tweak 1 was changed"
    assert [check.name for check in found.unchecked] == ["neutral", "reload", "accuracy"]
    assert all("cannot be run" in check.reason for check in found.unchecked)
    assert main(["verify", str(place), "-d", str(mlp[1])]) == 3


def test_a_tweak_without_synapses_changes_nothing_and_is_verified(files, mlp, tmp_path):
    none, nobody = no_patch(), np.empty(0, np.int64)
    tweak = load(files / "join.safetensors")
    neurons = replace(tweak.neurons, tap_of=nobody.astype(np.int32), index=nobody)
    save(replace(tweak, neurons=neurons, patch=none), tmp_path / "none.safetensors")
    output = OutputSettings(str(tmp_path / "none.onnx"))
    commands.apply(model=str(mlp[0]), tweak=str(tmp_path / "none.safetensors"), output=output, shadow=True)
    found = commands.verify(tweaked=output.path, data=DataSettings((str(mlp[1]),)), engine=ONE_THREAD)
    assert "simulation" not in failed(found) and found.before.overall == found.after.overall
    assert "simulation" in {check.name for check in found.checks}
    with pytest.raises(ModelError, match="belongs to another model"):
        commands.apply(
            model=str(files / "join.onnx"),
            tweak=str(tmp_path / "none.safetensors"),
            output=OutputSettings("x"),
        )
