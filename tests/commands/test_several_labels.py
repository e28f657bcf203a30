"""Several labels at once: measured, fitted, written, verified and taken out, label by label."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score

import onnxtweak
from onnxtweak.errors import DataError, ModelError, UsageError
from tests.support.nets import NetBuilder
from tests.support.several_labels import KINDS, LABELS, WEAK, several_labels


@pytest.fixture(scope="module", params=KINDS)
def made(request, tmp_path_factory):
    return several_labels(request.param, tmp_path_factory.mktemp(request.param))


def test_labels_are_measured_at_the_thresholds_of_the_file(made):
    found = onnxtweak.evaluate(made.model, data=made.data, target=list(WEAK))
    shown, metrics = made.shown(made.model), found.metrics
    assert metrics.per_class == pytest.approx(f1_score(made.labels, shown, average=None))
    assert metrics.precision == pytest.approx(precision_score(made.labels, shown, average=None))
    assert metrics.recall == pytest.approx(recall_score(made.labels, shown, average=None))
    assert metrics.overall == pytest.approx(f1_score(made.labels, shown, average="macro"))
    assert metrics.target == pytest.approx(metrics.per_class[list(WEAK)].mean())
    assert metrics.support.tolist() == made.labels.sum(axis=0).tolist()
    f1, mean_precision = found.readings
    assert (f1.name, f1.value) == ("f1", pytest.approx(metrics.overall))
    assert mean_precision.value == pytest.approx(metrics.mean_average_precision)
    assert f1.interval[0] < f1.value < f1.interval[1]
    assert found.unit == "labels"


def test_what_is_not_known_does_not_count(tmp_path):
    made = several_labels("sigmoid", tmp_path, unknown=0.3)
    found = onnxtweak.evaluate(made.model, data=made.data)
    shown = made.shown(made.model)
    for c in range(LABELS):
        known = made.labels[:, c] >= 0
        assert found.metrics.per_class[c] == pytest.approx(f1_score(made.labels[known, c], shown[known, c]))
    assert "labels are not known and do not count" in " ".join(found.notes)
    (nan,) = (np.where(made.labels < 0, np.nan, made.labels),)
    again = onnxtweak.evaluate(made.model, data=(made.x, nan))
    assert np.array_equal(again.metrics.confusion, found.metrics.confusion)


def test_average_precision_is_that_of_scikit_learn(tmp_path):
    made = several_labels("logits", tmp_path)
    found = onnxtweak.evaluate(made.model, data=made.data).metrics
    scores = np.asarray(_values(made))
    expected = [average_precision_score(made.labels[:, c], scores[:, c]) for c in range(LABELS)]
    assert found.average_precision == pytest.approx(expected)


def _values(made):
    import onnxruntime as ort

    session = ort.InferenceSession(str(made.model), providers=["CPUExecutionProvider"])
    return session.run([made.output], {"x": made.x})[0]


def test_inspect_says_which_labels_are_wanted(made):
    found = onnxtweak.inspect(made.model)
    if found.kind == "several labels":
        assert f"Labels of shape (N, {LABELS}), 1, 0 and -1 for unknown" in " ".join(found.notes)
    assert (found.kind == "several labels") == (made.output != "answer" or made.cut == 0.5)


def test_the_worst_labels_are_those_of_the_lowest_f1(tmp_path):
    made = several_labels("sigmoid", tmp_path)
    assert onnxtweak.evaluate(made.model, data=made.data, worst=2).targets == tuple(map(str, WEAK))


def test_one_label_each_is_still_one_label(tmp_path):
    made = several_labels("sigmoid", tmp_path)
    one = made.labels.argmax(axis=1)
    found = onnxtweak.evaluate(made.model, data=(made.x, one))
    assert found.unit == "samples" and found.metrics.confusion.shape == (LABELS, LABELS)
    hot = onnxtweak.evaluate(made.model, data=(made.x, np.eye(LABELS, dtype=np.int8)[one]))
    assert np.array_equal(hot.metrics.confusion, found.metrics.confusion)


@pytest.mark.parametrize("tail", ["Softmax", "Hardmax"])
def test_a_model_that_shows_one_class_is_refused(tmp_path, tail):
    net = NetBuilder()
    net.op(tail, net.gemm("x", 8, LABELS), axis=1, name="answer")
    model, x = tmp_path / "m.onnx", np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    declared = {"x": (TensorProto.FLOAT, ["N", 8])}, {"answer": (TensorProto.FLOAT, ["N", LABELS])}
    model.write_bytes(net.model(*declared).SerializeToString())
    labels = (np.random.default_rng(1).random((40, LABELS)) < 0.4).astype(np.int8)
    with pytest.raises(ModelError, match="the model does not show each class for itself"):
        onnxtweak.evaluate(model, data=(x, labels))


@pytest.mark.parametrize(
    ("change", "error", "what"),
    [
        (lambda y: y[:, :4], DataError, "marks for 4 labels a sample, and the model has 6"),
        (lambda y: np.zeros_like(y), DataError, "no sample has any label"),
        (lambda y: y * 2, DataError, "neither class numbers nor one-hot"),
        (lambda y: y - 1, DataError, "no sample has any label"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path, change, error, what):
    made = several_labels("sigmoid", tmp_path)
    with pytest.raises(error, match=what):
        onnxtweak.evaluate(made.model, data=(made.x, change(made.labels)))


def test_labels_of_two_kinds_are_refused(tmp_path):
    made = several_labels("sigmoid", tmp_path)
    one = made.labels.argmax(axis=1)
    with pytest.raises(DataError, match="these labels are a class for each sample"):
        onnxtweak.fit(made.model, data=(made.x, made.labels), test=(made.x, one), target=1)


@pytest.mark.parametrize(
    ("asked", "error", "what"),
    [
        ({"metric": "balanced"}, UsageError, "is about one label a sample"),
        ({"threshold": 0.4}, UsageError, "several labels have a threshold each"),
        ({"by": "site"}, ModelError, "--by: measuring groups does not work with several labels at once yet"),
    ],
)
def test_what_does_not_work_says_so(tmp_path, asked, error, what):
    made = several_labels("sigmoid", tmp_path)
    np.savez(made.data, x=made.x, y=made.labels, site=np.arange(len(made.x)) % 3)
    with pytest.raises(error, match=what):
        onnxtweak.evaluate(made.model, data=made.data, **asked)
