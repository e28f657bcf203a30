"""A file that another tool made of a tweaked one: do its decisions and the gain survive?"""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from onnxtweak import commands
from onnxtweak.cli.main import program
from onnxtweak.errors import ModelError, UsageError
from onnxtweak.settings import (
    DataSettings,
    EngineSettings,
    FitSettings,
    JoinSettings,
    OutputSettings,
    TargetSettings,
)
from tests.support.nets import mlp, random_inputs
from tests.support.rounded import rounded
from tests.support.weak_class import run

ENGINE = EngineSettings(backend="numpy")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tweaked file with its base, and samples with and without labels."""
    folder = tmp_path_factory.mktemp("rewritten")
    truth = mlp(inputs=16, hidden=(32, 24), classes=5)
    onnx.save(rounded(truth, 3), folder / "model.onnx")
    for seed, name in enumerate(("fit", "test")):
        (x,) = random_inputs(truth, 1500, seed).values()
        y = run(truth, x).argmax(axis=1)
        np.savez(folder / f"{name}.npz", x=x, y=y)
        np.savez(folder / f"bare_{name}.npz", x=x)
    result = commands.fit(
        model=str(folder / "model.onnx"),
        data=DataSettings((str(folder / "fit.npz"),)),
        settings=FitSettings(hidden=0),
        engine=ENGINE,
        output=OutputSettings(str(folder / "tweaked.onnx")),
    )
    assert result.verdict.answer == "fit"
    return folder


def verify(folder, file, data="test.npz", same_as="tweaked.onnx"):
    return commands.verify(
        tweaked=str(file),
        same_as=str(folder / same_as),
        data=DataSettings((str(folder / data),)),
        engine=ENGINE,
    )


def checks(found):
    return {check.name: check.passed for check in found.checks}


def written_anew(folder, tmp_path, change=None):
    """The tweaked file as a tool leaves it that keeps nothing but the graph."""
    proto = onnx.load(folder / "tweaked.onnx")
    del proto.metadata_props[:]
    if change is not None:
        change(proto)
    onnx.save(proto, tmp_path / "anew.onnx")
    return tmp_path / "anew.onnx"


def without_tweak(proto):
    for tensor in proto.graph.initializer:
        if tensor.name.startswith("onnxtweak/") and tensor.name.endswith(("weight", "bias")):
            tensor.CopyFrom(numpy_helper.from_array(0 * numpy_helper.to_array(tensor), tensor.name))


def test_a_copy_without_a_record_is_the_same(made, tmp_path):
    found = verify(made, written_anew(made, tmp_path))
    assert checks(found) == {"decisions": True, "gain": True}
    made_of = found.rewritten
    assert (made_of.same, made_of.largest, made_of.samples) == (1.0, 0.0, 1500)
    assert made_of.changed == made_of.kept > 0
    assert made_of.accuracy["rewritten"] == made_of.accuracy["tweaked"] > made_of.accuracy["base"]


def test_accuracies_are_those_of_the_files(made, tmp_path):
    found = verify(made, written_anew(made, tmp_path, without_tweak)).rewritten
    with np.load(made / "test.npz") as test:
        x, y = test["x"], test["y"]
    for name, file in (
        ("base", made / "model.onnx"),
        ("tweaked", made / "tweaked.onnx"),
        ("rewritten", tmp_path / "anew.onnx"),
    ):
        shown = run(onnx.load(file), x).argmax(axis=1)
        assert found.accuracy[name] == pytest.approx((shown == y).mean())


@pytest.mark.parametrize(("data", "failed"), [("test.npz", "gain"), ("bare_test.npz", "decisions")])
def test_a_lost_gain_ends_with_exit_code_3(data, failed, made, tmp_path):
    file = written_anew(made, tmp_path, without_tweak)
    found = checks(verify(made, file, data))
    assert not found[failed] and not found["decisions"]  # labels or not: what the tweak changed is gone
    words = ["verify", str(file), "--same-as", str(made / "tweaked.onnx"), "-d", str(made / data)]
    ran = CliRunner().invoke(program, words, standalone_mode=False)
    assert "check `decisions` failed" in str(ran.exception)
    assert ran.exception.exit_code == 3
    assert "quantise or convert the base first" in ran.exception.hint


def test_without_labels_nothing_is_said_of_accuracy(made, tmp_path):
    found = verify(made, written_anew(made, tmp_path), "bare_test.npz")
    assert checks(found) == {"decisions": True}
    assert found.rewritten.accuracy is None


def test_a_quantised_file_keeps_the_gain(made, tmp_path):
    quantize_dynamic(made / "tweaked.onnx", tmp_path / "int8.onnx", weight_type=QuantType.QInt8)
    found = verify(made, tmp_path / "int8.onnx")
    assert 0.9 < found.rewritten.same < 1.0
    assert checks(found) == {"decisions": True, "gain": True}
    said = "\n".join(commands.inspect(model=str(tmp_path / "int8.onnx")).notes)
    assert "another tool wrote this file anew" in said and "parts of the tweak changed" in said


def test_inspect_tells_a_reserialised_file_from_one_as_written(made, tmp_path):
    assert not any(
        "another tool" in note for note in commands.inspect(model=str(made / "tweaked.onnx")).notes
    )
    proto = onnx.load(made / "tweaked.onnx")
    proto.graph.name = "renamed"
    onnx.save(proto, tmp_path / "anew.onnx")
    said = "\n".join(commands.inspect(model=str(tmp_path / "anew.onnx")).notes)
    assert "what the tweak added is as it was" in said


def test_targets_are_told_apart(made, tmp_path):
    commands.join(
        model=str(made / "model.onnx"),
        data=DataSettings((str(made / "fit.npz"),)),
        targets=TargetSettings(worst=1),
        settings=JoinSettings(max_overall_drop=5.0),
        engine=ENGINE,
        output=OutputSettings(str(tmp_path / "joined.onnx")),
    )
    (tmp_path / "test.npz").write_bytes((made / "test.npz").read_bytes())
    found = verify(tmp_path, tmp_path / "joined.onnx", same_as="joined.onnx")
    assert found.rewritten.targets["tweaked"] > found.rewritten.targets["base"]


def test_a_shadow_is_compared_by_its_tweaked_logits(made, tmp_path):
    words = ["fit", str(made / "model.onnx"), "-d", str(made / "fit.npz"), "--hidden", "0"]
    words += ["-o", str(tmp_path / "t.onnx"), "--tweak", str(tmp_path / "t.safetensors")]
    assert CliRunner().invoke(program, words).exit_code == 0
    words = ["apply", str(made / "model.onnx"), str(tmp_path / "t.safetensors"), "--shadow"]
    assert CliRunner().invoke(program, [*words, "-o", str(tmp_path / "shadow.onnx")]).exit_code == 0
    (tmp_path / "test.npz").write_bytes((made / "test.npz").read_bytes())
    found = verify(tmp_path, tmp_path / "t.onnx", same_as="shadow.onnx")
    assert found.rewritten.same == 1.0 and found.rewritten.changed > 0


def test_as_json_and_text(made, tmp_path):
    file = written_anew(made, tmp_path)
    words = ["verify", str(file), "--same-as", str(made / "tweaked.onnx"), "-d", str(made / "test.npz")]
    found = json.loads(CliRunner().invoke(program, [*words, "-f", "json"]).stdout)
    assert found["rewritten"]["same"] == 1.0 and found["model"]["path"] == str(file)
    said = " ".join(CliRunner().invoke(program, words).stdout.split())
    assert "Accuracy beside" in said and "this file" in said


def test_what_cannot_be_compared_is_one_error(made, tmp_path):
    file = str(written_anew(made, tmp_path))
    with pytest.raises(UsageError, match="only be compared on samples"):
        commands.verify(tweaked=file, same_as=str(made / "tweaked.onnx"))
    with pytest.raises(ModelError, match="no tweak inside"):
        verify(made, file, same_as="model.onnx")
    proto = onnx.load(made / "tweaked.onnx")
    proto.graph.name = "renamed"
    onnx.save(proto, made / "touched.onnx")
    with pytest.raises(ModelError, match="the base cannot be rebuilt"):
        verify(made, file, same_as="touched.onnx")
    words = ["verify", file, "--same-as", "x.onnx", "--base", "y.onnx"]
    ran = CliRunner().invoke(program, words, standalone_mode=False)
    assert "exclude each other" in str(ran.exception)


def test_a_file_of_other_classes_is_refused(made, tmp_path):
    def fewer(proto):
        old = proto.graph.output[0].name
        proto.graph.output[0].name = "fewer"
        proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 3
        for name, value in (("starts", 0), ("ends", 3), ("axes", 1)):
            proto.graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [1], [value]))
        proto.graph.node.append(helper.make_node("Slice", [old, "starts", "ends", "axes"], ["fewer"]))

    with pytest.raises(ModelError, match="the rewritten file has 3 classes"):
        verify(made, written_anew(made, tmp_path, fewer))
