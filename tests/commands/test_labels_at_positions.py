"""Labels at every position, each there or not: measured, fitted, written, verified and taken out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto
from sklearn.metrics import average_precision_score, f1_score

import onnxtweak
from onnxtweak import commands
from onnxtweak.commands.slot import slot
from onnxtweak.engine.opened import open_model
from onnxtweak.errors import DataError, ModelError, UsageError
from onnxtweak.method.table import take
from onnxtweak.model.edit.tweak_file import load, save
from onnxtweak.patch import bias_patch
from onnxtweak.settings import DataSettings, OutputSettings, TapSettings
from tests.support.labels_at_positions import KINDS, LABELS, SINGLE, WEAK, labels_at_positions
from tests.support.nets import NetBuilder
from tests.support.plain_session import plain_session
from tests.support.short_trainings import short_trainings

QUICK = {"backend": "numpy", "device": "cpu", "hidden": 0}
MASKS = ("mask", "mask-squeezed", "roll")
# Of maps a few samples have as many positions.
SAMPLES = {kind: 25 if kind in ("pixels", *MASKS) else 80 for kind in KINDS}


def test_a_number_among_marks_is_named_where_there_are_several(tmp_path):
    made = labels_at_positions("tokens", tmp_path, samples=40)
    with pytest.raises(DataError, match="7 is no mark of a label at a position") as error:
        onnxtweak.evaluate(made.model, data=(made.x, np.where(made.labels == 1, 7, made.labels)))
    assert "--ignore-index" in error.value.hint
    with pytest.raises(DataError, match="a label at each of 9x4 positions"):  # which are marks, all of them
        onnxtweak.evaluate(made.model, data=(made.x, made.labels), head="classes")


@pytest.fixture(scope="module", params=KINDS)
def made(request, tmp_path_factory):
    return labels_at_positions(
        request.param, tmp_path_factory.mktemp(request.param), SAMPLES[request.param], seed=1
    )


def f1(marks, shown):
    return f1_score(marks, shown, average=None if marks.shape[1] > 1 else "binary")


def test_inspect_says_which_labels_it_wants(made):
    found = onnxtweak.inspect(made.model)
    assert found.kind == "several labels at positions"
    shape = [size for size in made.labels.shape[1:] if size != 1]  # which `evaluate` takes as they are
    assert f"(N, {', '.join(map(str, shape))})" in " ".join(found.notes)
    assert found.class_axis == made.axis


@pytest.mark.parametrize(
    ("kind", "taken"),
    [
        ("pixels", "(N, 4, H, W)"),
        ("tokens", "(N, T, 4)"),
        ("mask", "(N, H, W)"),
        ("frame", "(N, T)"),
        ("frame-squeezed", "(N, T)"),
    ],
)
def test_sizes_may_be_open(tmp_path, kind, taken):
    """Not even the axis of the one score is declared with its size, as the last layer tells it."""
    made = labels_at_positions(kind, tmp_path, samples=8)
    proto = onnx.load(made.model)
    for place, axis in enumerate(proto.graph.input[0].type.tensor_type.shape.dim):
        axis.dim_param = f"axis{place}"
    if kind in SINGLE:
        for axis in proto.graph.output[0].type.tensor_type.shape.dim:
            axis.Clear()
    onnx.save(proto, made.model)
    found = onnxtweak.inspect(made.model)
    assert found.kind == "several labels at positions"
    assert found.classes in (None, 1 if kind in SINGLE else LABELS)
    assert f"take labels of shape {taken}, 1, 0," in " ".join(found.notes)
    marks = made.labels.squeeze(made.axis) if kind in ("mask", "frame") else made.labels
    shown = made.rows(made.shown(made.model))
    measured = onnxtweak.evaluate(made.model, data=(made.x, marks)).metrics.per_class
    assert measured == pytest.approx(np.atleast_1d(f1(made.rows(made.labels), shown)))


def test_f1_and_average_precision_are_of_all_positions(made):
    found = onnxtweak.evaluate(made.model, data=made.data)
    marks, shown = made.rows(made.labels), made.rows(made.shown(made.model))
    assert found.metrics.per_class == pytest.approx(np.atleast_1d(f1(marks, shown)))
    assert found.metrics.samples == len(marks) and found.unit == "labels"
    scores = made.rows(made.value(made.model))
    expected = [average_precision_score(marks[:, c], scores[:, c]) for c in range(marks.shape[1])]
    assert found.metrics.average_precision == pytest.approx(expected, abs=1e-5)


def test_the_weak_label_is_learnt_and_the_file_shows_it(made, tmp_path):
    new, again, back = tmp_path / "new.onnx", tmp_path / "again.onnx", tmp_path / "back.onnx"
    tweak = tmp_path / "new.safetensors"
    fitted = onnxtweak.fit(made.model, data=made.data, output=new, tweak=tweak, **QUICK)
    assert all(check.passed for check in fitted.checks) and fitted.verdict.state == "kept"
    assert {check.name for check in fitted.checks} >= {"neutral", "simulation", "answer"}
    marks = made.rows(made.labels)
    was, now = (np.atleast_1d(f1(marks, made.rows(made.shown(path)))) for path in (made.model, new))
    weak = WEAK if len(was) > 1 else 0
    assert now[weak] > was[weak] + 0.2 and (now >= was - 0.02).all()
    onnxtweak.apply(made.model, tweak, again)
    assert again.read_bytes() == new.read_bytes()
    data = DataSettings(data=(str(made.data),))
    for verified in (
        commands.verify(tweaked=str(new), base=str(made.model), data=data),
        commands.verify(tweaked=str(new)),
    ):
        assert all(check.passed for check in verified.checks) and not verified.unchecked
    assert onnxtweak.evaluate(new, data=made.data).metrics.per_class == pytest.approx(now)
    assert made.shown(new, made.x[:2]).shape == made.labels[:2].shape  # other sizes work, too
    onnxtweak.revert(new, back)
    assert back.read_bytes() == made.model.read_bytes()


def test_what_the_layers_have_dropped_is_read_at_the_front_and_bent_by_a_hidden_layer(tmp_path):
    """A net of one channel; marks ask that another is high too, which the graph makes of its input."""
    net, rng = NetBuilder(seed=0), np.random.default_rng(0)
    x = rng.normal(0, 1, (60, 2, 20)).astype(np.float32)
    front = net.op("Mul", "x", net.const(2.0))
    kernel = np.array([[[1.0], [0.0]]], np.float32)
    hidden = net.op("Relu", net.op("Conv", front, net.const(kernel)))
    logits = net.op("Conv", hidden, net.const(np.ones((1, 1, 1), np.float32)))
    net.op("Sigmoid", net.op("Sub", logits, net.const(1.0)), name="answer")
    model, new, back = (tmp_path / f"{name}.onnx" for name in ("model", "new", "back"))
    declared = {"x": (TensorProto.FLOAT, ["N", 2, 20])}, {"answer": (TensorProto.FLOAT, ["N", 1, 20])}
    onnx.save(net.model(*declared), model)
    data = x, ((x[:, :1] > 0) & (x[:, 1:] > 0)).astype(np.int8)
    with short_trainings(2500, 0.1):
        found = onnxtweak.fit(model, data=data, output=new, **{**QUICK, "hidden": 4})
    assert "what the first layers read, 4 hidden units" in " ".join(found.notes)
    assert all(check.passed for check in found.checks) and found.verdict.state == "kept"
    (shown,) = plain_session(str(new)).run(None, {"x": x})
    assert f1_score(data[1].ravel(), shown.ravel() > 0.5) > 0.9
    onnxtweak.revert(new, back)
    assert back.read_bytes() == model.read_bytes()


def test_what_is_not_known_does_not_count(tmp_path):
    made = labels_at_positions("frames", tmp_path, SAMPLES["frames"])
    rng = np.random.default_rng(0)
    hidden = np.where(rng.random(made.labels.shape) < 0.3, -1, made.labels)
    found = onnxtweak.evaluate(made.model, data=(made.x, hidden))
    marks, shown = made.rows(hidden), made.rows(made.shown(made.model))
    known = marks[:, WEAK] >= 0
    assert found.metrics.per_class[WEAK] == pytest.approx(f1_score(marks[known, WEAK], shown[known, WEAK]))
    seven = np.where(hidden < 0, 7, hidden)
    again = onnxtweak.evaluate(made.model, data=(made.x, seven), ignore_index=7)
    assert np.array_equal(again.metrics.confusion, found.metrics.confusion)
    with pytest.raises(DataError, match="7 is no mark") as error:
        onnxtweak.evaluate(made.model, data=(made.x, seven), head="labels")
    assert "--ignore-index" in error.value.hint


def test_masks_of_bytes_may_be_white(tmp_path):
    made = labels_at_positions("mask", tmp_path, samples=12)
    white = made.labels.astype(np.uint8) * 255
    found, again = (onnxtweak.evaluate(made.model, data=(made.x, y)) for y in (made.labels, white))
    assert np.array_equal(again.metrics.confusion, found.metrics.confusion)
    assert "255 is where the label is there" in " ".join(again.notes)
    flat = onnxtweak.evaluate(made.model, data=(made.x, made.labels[:, 0]))
    assert np.array_equal(flat.metrics.confusion, found.metrics.confusion)


def test_a_class_for_each_position_is_still_possible(tmp_path):
    made = labels_at_positions("tokens", tmp_path, SAMPLES["tokens"])
    classes = made.labels.argmax(axis=-1)
    found = onnxtweak.evaluate(made.model, data=(made.x, classes))
    assert found.unit == "positions"
    value = made.value(made.model)
    assert found.metrics.overall == pytest.approx((value.argmax(axis=-1) == classes).mean())


def test_the_axis_of_the_labels_can_be_said(tmp_path):
    made = labels_at_positions("tokens", tmp_path, SAMPLES["tokens"])
    found = onnxtweak.inspect(made.model, class_axis=1)
    assert "9 labels at once" in " ".join(found.notes)
    alone = onnxtweak.inspect(made.model, class_axis=0)
    assert f"one label, there or not, at each of 9x{LABELS} positions" in " ".join(alone.notes)
    with pytest.raises(UsageError, match="3 axes, of which axis 0 counts samples"):
        onnxtweak.evaluate(made.model, data=made.data, class_axis=5)


def test_a_wrong_guess_is_overruled_and_the_file_remembers(tmp_path):
    made, new = labels_at_positions("frames", tmp_path, SAMPLES["frames"]), tmp_path / "new.onnx"
    model = onnx.load(made.model)
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_value = 12
    onnx.save(model, made.model)
    assert "12 labels at once" in " ".join(onnxtweak.inspect(made.model).notes)
    fitted = onnxtweak.fit(made.model, data=made.data, class_axis=1, output=new, **QUICK)
    assert fitted.verdict.state == "kept"
    verified = commands.verify(tweaked=str(new), data=DataSettings(data=(str(made.data),)))
    assert all(check.passed for check in verified.checks) and not verified.unchecked


def test_a_single_score_is_no_class_among_others(tmp_path):
    made = labels_at_positions("mask", tmp_path, samples=8)
    with pytest.raises(ModelError, match="each position has a single score"):
        onnxtweak.evaluate(made.model, data=(made.x, made.labels[:, 0]), head="classes")


def test_outputs_may_have_their_labels_behind_the_positions(tmp_path):
    """A Transpose after the sigmoid; marks in either layout; and the axis is known from the output alone."""
    made, last, new = (
        labels_at_positions("pixels", tmp_path, SAMPLES["pixels"]),
        tmp_path / "last.onnx",
        tmp_path / "new.onnx",
    )
    net = onnx.load(made.model)
    net.graph.node[-1].output[0] = "across"
    net.graph.node.append(onnx.helper.make_node("Transpose", ["across"], ["answer"], perm=[0, 2, 3, 1]))
    dims = net.graph.output[0].type.tensor_type.shape.dim
    dims.insert(3, dims.pop(1))
    onnx.save(net, last)
    wanted = onnxtweak.evaluate(made.model, data=(made.x, made.labels)).metrics
    behind = made.labels.transpose(0, 2, 3, 1)
    for labels in (made.labels, behind):
        found = onnxtweak.evaluate(last, data=(made.x, labels)).metrics
        assert np.array_equal(found.confusion, wanted.confusion)
    onnxtweak.fit(last, data=(made.x, behind), output=new, **QUICK)
    found = onnxtweak.evaluate(new, data=(made.x, behind)).metrics
    shown = made.value(new).reshape(-1, LABELS) > 0.5
    assert found.per_class == pytest.approx(f1(made.rows(made.labels), shown))
    assert found.per_class[WEAK] > wanted.per_class[WEAK] + 0.05


def test_labels_of_another_shape_are_refused(tmp_path):
    made = labels_at_positions("mask", tmp_path, samples=12)
    with pytest.raises(DataError, match="no marks at positions") as error:
        onnxtweak.evaluate(made.model, data=(made.x, made.labels.reshape(len(made.x), -1)))
    assert "(N," in error.value.hint
    with pytest.raises(DataError, match="3 is no mark"):
        onnxtweak.evaluate(made.model, data=(made.x, made.labels * 3))
    with pytest.raises(DataError, match="no position has any label"):
        onnxtweak.evaluate(made.model, data=(made.x, made.labels * 0))


@pytest.mark.parametrize("kind", SINGLE)
def test_one_channel_means_one_score_a_position(kind, tmp_path):
    made = labels_at_positions(kind, tmp_path, samples=8)
    logits = open_model(made.model, TapSettings()).logits
    assert logits.axis in (0, made.axis)


def test_outputs_that_read_the_scores_are_named(tmp_path):
    made = labels_at_positions("mask", tmp_path, samples=20)
    model = onnx.load(made.model)
    kernel = onnx.numpy_helper.from_array(np.ones((1, 1, 3, 3), np.float32), "edge/w")
    model.graph.initializer.append(kernel)
    model.graph.node.append(onnx.helper.make_node("Conv", ["answer", "edge/w"], ["edge"], pads=[1] * 4))
    model.graph.output.append(onnx.helper.make_tensor_value_info("edge", onnx.TensorProto.FLOAT, None))
    onnx.save(model, made.model)
    said = "later layers read these scores: what `edge` shows changes with them"
    found = onnxtweak.evaluate(made.model, data=made.data, logits="answer")
    assert said in " ".join(found.notes)


@pytest.mark.parametrize("kind", ["pixels", "tokens", "frame-squeezed"])
def test_a_slot_takes_a_bias_alone(tmp_path, kind):
    made, saved = labels_at_positions(kind, tmp_path, samples=20), tmp_path / "t.safetensors"
    onnxtweak.fit(made.model, data=made.data, target=0, tweak=saved, **QUICK)
    tweak, bias = load(saved), np.linspace(0.5, -0.5, 1 if kind in SINGLE else LABELS)
    nothing = take(tweak.neurons, np.empty(0, np.int64))
    save(replace(tweak, neurons=nothing, patch=bias_patch(bias)), saved, force=True)
    out = tmp_path / "slot.onnx"
    slot(model=str(made.model), tweaks=[str(saved)], output=OutputSettings(str(out)))
    np.testing.assert_array_equal(made.value(out), made.value(made.model))
    adapter = ort.LoraAdapter()
    adapter.Load(str(tmp_path / "t.onnx_adapter"))
    options = ort.RunOptions()
    options.add_active_adapter(adapter)
    session = plain_session(str(out))
    (filled,) = session.run(["answer"], {"x": made.x}, options)
    commands.apply(model=str(made.model), tweak=str(saved), output=OutputSettings(str(tmp_path / "a.onnx")))
    np.testing.assert_allclose(filled, made.value(tmp_path / "a.onnx"), rtol=1e-5, atol=1e-6)
    assert not np.array_equal(filled, made.value(made.model))
