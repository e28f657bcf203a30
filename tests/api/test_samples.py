"""What a program hands over as samples is told apart by its form, before anything is opened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import onnxtweak
from onnxtweak.api.samples import sources_of
from onnxtweak.errors import UsageError
from onnxtweak.in_memory import InMemory
from tests.support.at_positions import model_at_positions
from tests.support.foreign import Frame, Loader, Series, Tensor
from tests.support.weak_class import TARGET, weak_mlp

X, Y = np.zeros((6, 2), np.float32), np.arange(6)
TABLE = Frame({"one": Y, "label": Y})
NAMED = {"x": X, "y": Y}


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("a.npz#fit", ["a.npz#fit"]),
        (Path("a.npz"), ["a.npz"]),
        (["a.npz", Path("b.npz")], ["a.npz", "b.npz"]),
        (("a.npz", "b.npz"), ["a.npz", "b.npz"]),
        ((), []),
        ((X, Y), ["data=<arrays>"]),
        ([X, Y], ["data=<arrays>"]),
        ((Tensor(X), Y.tolist()), ["data=<arrays>"]),
        ((X.tolist(), Y.tolist()), ["data=<arrays>"]),
        ((X, [None] * 6), ["data=<arrays>"]),
        ((list(X), list(Y)), ["data=<arrays>"]),
        (([], []), ["data=<arrays>"]),
        (([X, X[:3]], [X, X[:3]]), ["data=<arrays>"]),
        ([[X, Y], [X, Y]], ["data[0]=<arrays>", "data[1]=<arrays>"]),
        ((iter(X), Y), ["data=<arrays>"]),  # no array either, which reading it says
        (NAMED, ["data=<arrays>"]),
        (({"x": X}, Y), ["data=<arrays>"]),
        (TABLE, ["data=<table>"]),
        ((TABLE, "label"), ["data=<table>"]),
        ((TABLE, Series(Y)), ["data=<table>"]),
        (Loader(X, Y, 2), ["data=<batches>"]),
        (iter([(X, Y)]), ["data=<batches>"]),
        ([(X, Y), (X, Y)], ["data[0]=<arrays>", "data[1]=<arrays>"]),
        (((X, Y), (X, Y)), ["data[0]=<arrays>", "data[1]=<arrays>"]),
        ([NAMED, NAMED], ["data[0]=<arrays>", "data[1]=<arrays>"]),
        ([TABLE, TABLE], ["data[0]=<table>", "data[1]=<table>"]),
        (["a.npz", (X, Y)], ["a.npz", "data[1]=<arrays>"]),
        ([(X, Y)], ["data=<arrays>"]),
    ],
)
def test_forms_are_told_apart(value, names):
    assert [str(source) for source in sources_of(value, "data")] == names


@pytest.mark.parametrize(
    ("value", "what", "where", "hint"),
    [
        (X, "an array without labels", "data", "data=(x, y)"),
        (X, "an array without labels", "data", "data={'x': x}"),
        (Series(Y), "an array without labels", "data", "data=(x, y)"),
        ([X, "a.npz"], "an array without labels", "data[0]", "data[0]=(x, y)"),
        ((X, Y, Y), "an array without labels", "data[0]", "(x, y)"),
        (5, "int holds no samples", "data", "(x, y)"),
        (b"a.npz", "bytes holds no samples", "data", "a path"),
        (lambda: (X, Y), "function holds no samples", "data", "call it"),
    ],
)
def test_what_holds_no_samples_is_refused(value, what, where, hint):
    with pytest.raises(UsageError) as raised:
        sources_of(value, "data")
    assert raised.value.what == what and raised.value.where == where and hint in raised.value.hint


def arrays(data):
    """The samples and labels of a file."""
    with np.load(data) as found:
        return tuple(next(found[name] for name in found.files if name.startswith(letter)) for letter in "xy")


def test_arrays_give_the_patch_that_their_file_gives(tmp_path):
    model, data = weak_mlp(tmp_path)
    x, y = arrays(data)
    before = x.copy()
    asked = {"target": TARGET, "count": 5, "max_overall_drop": 0.5}
    written = [
        onnxtweak.join(model, data=given, output=tmp_path / f"{number}.onnx", **asked)
        for number, given in enumerate([(x, y), {"x": x, "y": y}, [(x, y)]])
    ]
    of_file = onnxtweak.join(model, data=data, **asked)
    assert all(made.tweak == of_file.tweak and made.samples == of_file.samples for made in written)
    assert len({(tmp_path / f"{number}.onnx").read_bytes() for number in range(3)}) == 1
    assert np.array_equal(x, before) and x.flags.writeable
    assert "from data=<arrays>" in written[0].notes[0]
    spooled = onnxtweak.join(model, data=Loader(x, y, 64), **asked)
    assert spooled.tweak == of_file.tweak and "data=<batches>" in spooled.notes[0]


def test_an_iterator_serves_a_whole_call(tmp_path):
    model, data = weak_mlp(tmp_path)
    x, y = arrays(data)
    batches = ((x[k : k + 64], y[k : k + 64]) for k in range(0, len(y), 64))
    found = onnxtweak.compare(model, data=batches, target=TARGET, methods=["bias"], repeats=2)
    assert found.samples["fit"] > 0 and list(batches) == []


def test_names_may_be_a_list(tmp_path):
    model, data = weak_mlp(tmp_path)
    count = onnxtweak.inspect(model).classes
    names = [f"kind {number}" for number in range(count)]
    found = onnxtweak.evaluate(model, data=data, names=names, target=f"kind {TARGET}")
    assert found.targets == (f"kind {TARGET}",) and found.classes == tuple(names)
    for wrong in (["same"] * count, [], [*names[1:], " "]):
        with pytest.raises(onnxtweak.errors.InputError):
            onnxtweak.evaluate(model, data=data, names=wrong)


@pytest.mark.parametrize("asked", [{"workers": 2}, {"scheduler": "127.0.0.1:9"}, {"device": "cuda:0,1"}])
def test_workers_need_files(tmp_path, asked):
    model, data = weak_mlp(tmp_path)
    with pytest.raises(UsageError, match="worker processes open model and samples") as raised:
        onnxtweak.join(model, data=(X, Y), target=TARGET, **asked)
    assert raised.value.where == "data=<arrays>" and "numpy.savez" in raised.value.hint
    with pytest.raises(UsageError) as raised:
        onnxtweak.join(model.read_bytes(), data=data, target=TARGET, **asked)
    assert raised.value.where == "<bytes>"


def test_listed_samples_and_goals_take_arrays(tmp_path):
    model, data = weak_mlp(tmp_path)
    x, y = arrays(data)
    of_file = onnxtweak.fit(model, must=f"{data}#[0:4]", lock=f"{data}#[4:300]")
    goal = onnxtweak.Goal(must=(x[:4], y[:4]), lock=(x[4:300], y[4:300]))
    assert onnxtweak.fit(model, goal=goal).tweak == of_file.tweak


def test_names_of_samples_in_memory_are_words():
    assert str(InMemory("val=<table>", TABLE)) == "val=<table>"
    assert "0." not in repr(InMemory("val=<arrays>", X, Y))


def test_arrays_of_labels_at_positions(tmp_path):
    made = model_at_positions("pixels", tmp_path)
    of_file = onnxtweak.evaluate(made.model, data=made.data)
    of_arrays = onnxtweak.evaluate(made.model, data=(made.x, made.labels))
    assert of_arrays.unit == "positions" and of_arrays.metrics.samples == made.labels.size
    assert np.array_equal(of_arrays.metrics.confusion, of_file.metrics.confusion)
    batches = ((made.x[k : k + 40], made.labels[k : k + 40]) for k in range(0, len(made.x), 40))
    assert onnxtweak.evaluate(made.model, data=batches).metrics.overall == of_file.metrics.overall
