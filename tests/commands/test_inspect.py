"""`inspect` says what a model is, and measures it with samples where it leaves its sizes open."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxtweak import commands
from onnxtweak.cli.main import main
from onnxtweak.errors import DataError, ModelError
from onnxtweak.report.text import inspection
from onnxtweak.settings import DataSettings, EngineSettings, Preprocess
from tests.support.nets import NetBuilder

ENGINE = EngineSettings(device="cpu", threads=1)
FLOAT = TensorProto.FLOAT
RNG = np.random.default_rng(0)


def saved(folder, shape, tail=None, classes: int = 3, name: str = "m.onnx"):
    """A small MLP on 4 x 4 images; tail : (operator, attributes) behind its scores."""
    net = NetBuilder()
    hidden = net.op("Relu", net.gemm(net.op("Flatten", "image"), 16, 8), name="hidden")
    net.gemm(hidden, 8, classes, name="scores")
    if tail is not None:
        net.op(tail[0], "scores", name="answer", **tail[1])
    out = "scores" if tail is None else "answer"
    proto = net.model({"image": (FLOAT, shape)}, {out: (FLOAT, ("N", classes))})
    onnx.save(proto, folder / name)
    return folder / name


def samples(folder, labels, name: str = "d.npz"):
    np.savez(folder / name, x=RNG.random((len(labels), 4, 4, 1), np.float32), y=labels)
    return DataSettings((str(folder / name),))


def without_shape(path):
    proto = onnx.load(path)
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    onnx.save(proto, path)


@pytest.mark.parametrize("missing", ["sizes", "rank"])
def test_samples_measure_what_the_model_leaves_open(tmp_path, missing):
    path = saved(tmp_path, ("N", "c", "h", "w"))
    if missing == "rank":
        without_shape(path)
    found = commands.inspect(model=str(path), engine=ENGINE)
    assert not found.taps and "give samples with -d DATA" in found.notes[0]
    assert found.inputs[0][2] == (None if missing == "rank" else (None, None, None, None))
    data = DataSettings(samples(tmp_path, np.arange(6) % 3).data, preprocess=Preprocess(layout="NCHW"))
    found = commands.inspect(model=str(path), data=data, engine=ENGINE)
    assert [(tap.name, tap.shape) for tap in found.taps] == [("hidden", (8,))]
    assert not found.notes


def test_the_hint_can_be_followed_on_the_command_line(tmp_path, capsys):
    path = saved(tmp_path, ("N", "c", "h", "w"))
    without_shape(path)
    samples(tmp_path, np.arange(6) % 3)
    assert main(["inspect", str(path)]) == 0
    said = capsys.readouterr().out
    assert "image float32 of any shape" in said and "unknown: the hidden tensors could not be" in said
    asked = ["inspect", str(path), "-d", str(tmp_path / "d.npz"), "--layout", "NCHW", "-f", "json"]
    assert main(asked) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["neurons"] == 8 and found["inputs"][0][2] is None


def test_a_single_number_is_called_so(tmp_path):
    path = saved(tmp_path, ("N", 1, 4, 4))
    proto = onnx.load(path)
    proto.graph.input.append(helper.make_tensor_value_info("rate", FLOAT, ()))
    onnx.save(proto, path)
    facts = inspection.inspection(commands.inspect(model=str(path), engine=ENGINE))[1].pairs
    assert ("input", "rate float32 scalar") in facts


def test_samples_that_do_not_fit_are_refused(tmp_path):
    path = saved(tmp_path, ("N", 1, 8, 8))
    with pytest.raises(DataError, match="expects"):
        commands.inspect(model=str(path), data=samples(tmp_path, np.arange(6) % 3), engine=ENGINE)


@pytest.mark.parametrize(
    ("tail", "classes", "kind", "said"),
    [
        (None, 3, "one label", ""),
        (("Sigmoid", {}), 5, "several labels", "a sigmoid for each of 5 classes"),
        (("LpNormalization", {"axis": 1}), 4, "embedding", "--logits answer"),
        (None, 1, "one number", "a regression"),
    ],
)
def test_the_kind_of_model_is_said(tmp_path, tail, classes, kind, said):
    found = commands.inspect(model=str(saved(tmp_path, ("N", 1, 4, 4), tail, classes)), engine=ENGINE)
    assert found.kind == kind
    assert said in " ".join(found.notes)
    assert ("holds" in found.logits[2]) == (kind in ("one label", "several labels"))


def test_commands_refuse_labels_that_do_not_fit_the_kind(tmp_path):
    embedding = saved(tmp_path, ("N", 1, 4, 4), ("LpNormalization", {"axis": 1}), 4, "e.onnx")
    data = samples(tmp_path, np.arange(8) % 3)
    with pytest.raises(ModelError, match="looks like an embedding") as raised:
        commands.evaluate(model=str(embedding), data=data, engine=ENGINE)
    assert raised.value.hint.endswith("--logits answer")
    assert main(["evaluate", str(embedding), "-d", *data.data, "--logits", "answer", "--threads", "1"]) == 0
    number = saved(tmp_path, ("N", 1, 4, 4), None, 1, "r.onnx")
    with pytest.raises(DataError, match=r"labels range from 0 to 2: this looks like a regression"):
        commands.evaluate(model=str(number), data=data, engine=ENGINE)
    two = samples(tmp_path, np.arange(8) % 2, "two.npz")
    assert commands.evaluate(model=str(number), data=two, engine=ENGINE).metrics.samples == 8
    several = saved(tmp_path, ("N", 1, 4, 4), ("Sigmoid", {}), 3, "s.onnx")
    assert any("several labels" in note for note in commands.evaluate(model=str(several), data=data).notes)
    flags = samples(tmp_path, np.array([[1, 1], [0, 1]] * 4), "flags.npz")
    with pytest.raises(DataError, match="there are marks for 2 labels a sample, and the model has 3"):
        commands.evaluate(model=str(several), data=flags, engine=ENGINE)


def test_a_quantity_is_no_label(tmp_path):
    number = saved(tmp_path, ("N", 1, 4, 4), None, 1)
    with pytest.raises(DataError, match=r"labels are float64, not integers \(such as 0.5\)") as raised:
        commands.evaluate(model=str(number), data=samples(tmp_path, np.array([0.5, 30.0])), engine=ENGINE)
    assert "classifiers" in raised.value.hint


def test_logits_of_another_type_than_declared_are_refused_with_the_repair(tmp_path):
    path = saved(tmp_path, ("N", 1, 4, 4))
    data = samples(tmp_path, np.arange(8) % 3)
    right = commands.evaluate(model=str(path), data=data, engine=ENGINE).metrics.overall
    proto = onnx.load(path)
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    onnx.save(proto, path)
    with pytest.raises(ModelError, match="as float64, but computes float32") as raised:
        commands.evaluate(model=str(path), data=data, engine=ENGINE)
    words = shlex.split(raised.value.hint[raised.value.hint.index("python -c") :])
    subprocess.run([sys.executable, *words[1:]], check=True)
    repaired = commands.evaluate(model=str(tmp_path / "m-repaired.onnx"), data=data, engine=ENGINE)
    assert repaired.metrics.overall == right


def test_a_model_that_suppresses_boxes_in_its_own_way_is_no_classifier(tmp_path):
    net = NetBuilder()
    hidden = net.op("Relu", net.dense("x", 6, 16))
    boxes, scores = net.dense(hidden, 16, 4), net.op("Sigmoid", net.dense(hidden, 16, 1))
    shape = net.ints(1, 1, -1)
    boxes = net.op("Unsqueeze", boxes, net.ints(0))
    most = net.const(20, np.int64), net.const(0.5), net.const(0.25)
    net.op("NonMaxSuppression", boxes, net.op("Reshape", scores, shape), *most, name="found")
    net.op("Softmax", net.dense(hidden, 16, 5), axis=1, name="scores")
    outputs = {"scores": (TensorProto.FLOAT, ["N", 5]), "found": (TensorProto.INT64, [None, 3])}
    onnx.save(net.model({"x": (TensorProto.FLOAT, ["N", 6])}, outputs), tmp_path / "m.onnx")
    notes = commands.inspect(model=str(tmp_path / "m.onnx")).notes
    assert any("it looks like a detector, with a NonMaxSuppression" in note for note in notes)


@pytest.mark.parametrize("boxes", ["pred_boxes", "tags"])
def test_boxes_of_what_is_no_position_of_a_map_are_no_labels(boxes, tmp_path):
    """As DETR has them; of another name it is a second head of a tagger."""
    net = NetBuilder()
    queries = net.op("Relu", net.dense("x", 6, 16))
    net.op("Softmax", net.dense(queries, 16, 5), axis=2, name="scores")
    net.op("Relu", net.dense(queries, 16, 4), name=boxes)
    outputs = {"scores": (TensorProto.FLOAT, ["N", 20, 5]), boxes: (TensorProto.FLOAT, ["N", 20, 4])}
    model = net.model({"x": (TensorProto.FLOAT, ["N", 20, 6])}, outputs)
    onnx.save(model, tmp_path / "m.onnx")
    notes = commands.inspect(model=str(tmp_path / "m.onnx")).notes
    assert any("it looks like a detector, with boxes in" in note for note in notes) == (boxes != "tags")
    assert any("take labels of shape" in note for note in notes) == (boxes == "tags")
