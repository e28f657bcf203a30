"""What a program holds in memory is read as files are: by name, unchanged, without a copy of it all."""

from __future__ import annotations

import gc
import itertools

import numpy as np
import pytest

from onnxtweak.data import InputSpec, open_data, open_splits
from onnxtweak.data.sources.memory.values import as_array
from onnxtweak.errors import DataError
from onnxtweak.in_memory import InMemory
from onnxtweak.settings import DataSettings, Preprocess
from tests.support.foreign import DLPackTensor, Frame, Loader, Tensor, TensorOnDevice

FLAT = (InputSpec("input", "float32", (None, 2)),)
PAIR = (InputSpec("a", "float32", (None, 2)), InputSpec("b", "float32", (None, 1)))
TEXT = (InputSpec("said", "object", (None, 1)),)
X = np.arange(12, dtype=np.float32).reshape(6, 2)
Y = np.array([0, 1, 2, 0, 1, 2])


def opened(samples, labels=None, inputs=FLAT, groups=()):
    source = InMemory("data=<it>", samples, labels)
    return open_data([source], inputs=inputs, preprocess=Preprocess(), groups=groups)


def refused(samples, labels=None, inputs=FLAT, groups=()):
    with pytest.raises(DataError) as caught:
        opened(samples, labels, inputs, groups)
    return caught.value


def values(dataset, size=4):
    """All inputs, joined over the batches, and all labels."""
    batches = list(dataset.batches(None, size))
    return {name: np.concatenate([feeds[name] for feeds, _, _ in batches]) for name in dataset.inputs}


def rows_of(*rows):
    """An array of Python objects, as pandas has for lists."""
    found = np.empty(len(rows), object)
    found[:] = rows
    return found


# ------------------------------------------------------------------------------------------- arrays


@pytest.mark.parametrize(
    ("samples", "labels"),
    [
        (X, Y),
        (X.tolist(), Y.tolist()),
        (Tensor(X), Tensor(Y)),
        (DLPackTensor(X), Y),
        (np.asfortranarray(X), Y),
        (np.repeat(X, 2, axis=0)[::2], Y),
        ({"input": X, "y": Y}, None),
        ({"x": X, "labels": Y, "other": 1}, None),
        ({"input": X}, Y),
        (X.astype(object), Y.astype(object)),
        (X, np.eye(3)[Y]),
    ],
)
def test_arrays_are_read_in_every_form(samples, labels):
    found = opened(samples, labels)
    assert np.array_equal(values(found)["input"], X) and np.array_equal(found.labels, Y)


def test_arrays_are_seen_in_place_and_cannot_be_written_to():
    found = opened(X, Y)
    (column,) = (part.columns["input"] for part in found.parts)
    assert np.shares_memory(column.array, X) and not column.array.flags.writeable
    assert X.flags.writeable and found.bytes_in_memory == 0  # it is the caller's memory
    feeds, _, _ = next(found.batches(None, 6))
    with pytest.raises(ValueError, match="read-only"):
        feeds["input"][0] = 7


def test_a_mapping_feeds_several_inputs_and_holds_groups_names_and_numbers():
    inputs = (*PAIR, InputSpec("rate", "float32", ()))
    held = {"a": X, "b": X[:, :1], "rate": 2.5, "y": Y, "classes": ["u", "v", "w"], "site": list("ppqqrr")}
    found = opened(held, None, inputs, groups=("site",))
    assert found.inputs == ("a", "b") and found.constants == {"rate": 2.5}
    assert found.classes == ("u", "v", "w") and found.groups["site"].names == ("p", "q", "r")
    assert np.array_equal(values(found)["b"], X[:, :1])


def test_inputs_may_be_called_like_labels():
    found = opened({"y": X}, Y, (InputSpec("y", "float32", (None, 2)),))
    assert np.array_equal(values(found)["y"], X) and np.array_equal(found.labels, Y)


def test_labels_may_be_names():
    found = opened(X, np.array(["cat", "dog", "emu"], object)[Y])
    assert found.classes == ("cat", "dog", "emu") and np.array_equal(found.labels, Y)
    assert any("sorting" in note for note in found.notes)


@pytest.mark.parametrize(
    ("samples", "labels", "what", "where"),
    [
        (X, Y[:5], "6 samples but 5 labels", "x in data=<it>; labels of data=<it>"),
        ({"x": X}, None, "no labels; found `x`", "data=<it>"),
        ({"z": X, "y": Y}, None, "no array for the model's input `input`; found `y`, `z`", "data=<it>"),
        ({1: X, "y": Y}, None, "1 names no array", "data=<it>"),
        (X, ["a", None, *"abab"], "the value is missing", "row 1 of labels of data=<it>"),
        (X, ["a", 1, *"abab"], "text and int are mixed: 1 in row 1", "labels of data=<it>"),
        (X, Y.astype("M8[D]"), "datetime64[D] is neither numbers nor text", "labels of data=<it>"),
        (X, Y + 0.5, "labels are float64, not integers (such as 0.5)", "labels of data=<it>"),
        ([[1, 2], [3]], Y[:2], "list cannot be read as an array", "x in data=<it>"),
        (TensorOnDevice(X), Y, "can't convert cuda:0 device type tensor to numpy", "x in data=<it>"),
        (rows_of(X[0], X[0, :1]), Y[:2], "row 1 has the shape (1,), row 0 (2,)", "x in"),
        (iter(X), Y, "iterator cannot be read as an array: it is no array", "x in data=<it>"),
        (np.ma.masked_array(X, X == 5), Y, "the value is masked", "row 2 of x in data=<it>"),
        (np.array([{}, {}]), Y[:2], "dict is neither a number nor text", "x in data=<it>"),
        (X[:0], Y[:0], "no samples", "data=<it>"),
        (X, Y[0], "6 samples but labels of shape ()", "x in"),
    ],
)
def test_what_is_wrong_with_arrays_is_said(samples, labels, what, where):
    error = refused(samples, labels)
    assert what in error.what and where in error.where and error.hint


def test_rows_that_are_arrays_are_stacked():
    assert np.array_equal(as_array(rows_of(X[0], X[1].tolist()), "x"), X[:2])


# ------------------------------------------------------------------------------------------- digests


def test_the_digest_covers_contents_and_nothing_else():
    digest = opened(X, Y).digest
    for same in (X.copy(), np.asfortranarray(X), Tensor(X)):
        assert opened(same, Y).digest == digest
    changed = X.copy()
    changed[5, 1] += 1
    assert opened(changed, Y).digest != digest
    assert opened(X, Y[::-1]).digest != digest
    assert opened(X.astype(np.float64), Y).digest != digest
    assert opened(X.reshape(6, 1, 2), Y, (InputSpec("input", "float32", (None, 1, 2)),)).digest != digest


def test_the_digest_of_a_large_array_is_made_in_blocks():
    large = np.zeros((3, 1_500_000), np.float32)  # a row is larger than a block
    specs = (InputSpec("input", "float32", (None, 1_500_000)),)
    before = opened(large, Y[:3], specs).digest
    large[2, -1] = 1
    assert opened(large, Y[:3], specs).digest != before


# ------------------------------------------------------------------------------------------- tables


def frame(**more):
    return Frame({"one": X[:, 0], "two": X[:, 1].astype(np.float64), "label": Y, **more})


@pytest.mark.parametrize(
    ("table", "labels"),
    [
        (frame(), None),
        (Frame({"one": X[:, 0], "two": X[:, 1], "kind": Y}), "kind"),
        (Frame({"one": X[:, 0], "two": X[:, 1]}), Y),
        (Frame({1: X[:, 0], 2: X[:, 1], "label": Y}), None),
    ],
)
def test_a_table_is_read_with_its_labels_in_it_or_beside_it(table, labels):
    found = opened(table, labels)
    assert np.array_equal(values(found)["input"], X) and np.array_equal(found.labels, Y)
    assert any("takes the columns in their order" in note for note in found.notes)


def test_columns_are_not_copied():
    one = np.arange(6, dtype=np.float32)
    found = opened(Frame({"one": one, "two": X[:, 1], "label": Y}))
    (column,) = (part.columns["input"] for part in found.parts)
    assert np.shares_memory(column.arrays[0], one) and column.held == 0


def test_columns_go_to_inputs_by_name():
    table = Frame({"b": Y, "a": rows_of(*X), "y": Y, "when": Y.astype("M8[D]"), "site": list("ppqqrr")})
    found = opened(table, None, PAIR, groups=("site",))
    assert np.array_equal(values(found)["a"], X) and values(found)["b"].ravel().tolist() == Y.tolist()
    assert "columns that feed no input are left out: when" in found.notes
    assert found.groups["site"].names == ("p", "q", "r")


def test_text_feeds_inputs_of_text():
    found = opened(Frame({"said": np.array([*"uvwxyz"], object), "label": Y}), None, TEXT)
    assert values(found)["said"].ravel().tolist() == [*"uvwxyz"]


@pytest.mark.parametrize(
    ("table", "labels", "what"),
    [
        (frame(), "kind", "no column `kind`"),
        (Frame({"one": X[:, 0], "two": X[:, 1]}), None, "no column is named like labels"),
        (frame(extra=Y), None, "3 columns beside the labels, but the model's input `input` takes 2"),
        (Frame({"one": X[:0, 0], "two": X[:0, 1], "y": Y[:0]}), None, "the table is empty"),
        (Frame({"one": np.array([*"uvwxyz"]), "two": X[:, 1], "y": Y}), None, "column `one` holds text"),
        (Frame({"one": X[:, 0], "two": Y.astype("M8[D]"), "y": Y}), None, "datetime64[D] is neither"),
        (Frame({1: X[:, 0], "1": X[:, 1], "y": Y}), None, "two columns are named `1`"),
        (Frame({"one": np.array([1, None] * 3), "two": X[:, 1], "y": Y}), None, "the value is missing"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(table, labels, what):
    error = refused(table, labels)
    assert what in error.what and "data=<it>" in error.where and error.hint


def test_a_column_of_groups_that_is_missing_is_named():
    assert "no column `side`" in refused(frame(site=Y), groups=("side",)).what


def test_what_only_speaks_arrow_comes_through_pyarrow():
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"one": X[:, 0], "two": X[:, 1], "label": Y})
    assert np.array_equal(values(opened(table))["input"], X)
    stream = InMemory("data=<stream>", table.to_reader())
    for _ in range(2):  # a stream comes only once, and is opened more often
        found = open_data([stream], inputs=FLAT, preprocess=Preprocess())
        assert np.array_equal(values(found)["input"], X) and np.array_equal(found.labels, Y)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_data_frames_of_the_libraries(library):
    module = pytest.importorskip(library)
    table = module.DataFrame(
        {"one": X[:, 0], "two": X[:, 1], "label": np.array(["cat", "dog", "emu"])[Y], "site": [*"ppqqrr"]}
    )
    found = opened(table, None, groups=("site",))
    assert np.array_equal(values(found)["input"], X)
    assert found.classes == ("cat", "dog", "emu") and found.groups["site"].names == ("p", "q", "r")
    rows = module.DataFrame({"input": [row.tolist() for row in X]})
    assert np.array_equal(values(opened(rows, Y))["input"], X)


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_a_column_may_hold_lists_of_lists(library):
    module = pytest.importorskip(library)
    held = {"input": X.reshape(2, 3, 2).tolist(), "label": [0, 1]}
    table = module.table(held) if library == "pyarrow" else module.DataFrame(held)
    found = opened(table, None, inputs=(InputSpec("input", "float32", (None, 3, 2)),))
    assert np.array_equal(values(found)["input"], X.reshape(2, 3, 2))


# ------------------------------------------------------------------------------------------- batches


def test_batches_are_taken_once_and_kept():
    loader = Loader(X, Y, 4)
    source = InMemory("data=<it>", loader)
    found = [open_data([source], inputs=FLAT, preprocess=Preprocess()) for _ in range(3)]
    assert loader.begun == 1
    assert np.array_equal(values(found[2])["input"], X) and np.array_equal(found[2].labels, Y)
    assert found[0].digest == found[2].digest == opened(Loader(X, Y, 4)).digest
    assert opened(Loader(X[::-1], Y, 4)).digest != found[0].digest


@pytest.mark.parametrize(
    ("batch", "groups"),
    [
        ((X, Y), ()),
        ([Tensor(X), Y.tolist()], ()),
        (({"input": X, "site": [*"ppqqrr"]}, Y), ("site",)),
        ({"x": X, "y": Y, "site": [*"ppqqrr"]}, ("site",)),
        ({"input": X, "labels": Tensor(Y), "site": [*"ppqqrr"]}, ("site",)),
    ],
)
def test_batches_in_every_form(batch, groups):
    found = opened(iter([batch, batch]), groups=groups)
    assert np.array_equal(values(found)["input"], np.concatenate([X, X])) and len(found) == 12
    assert all(found.groups[name].names == ("p", "q", "r") for name in groups)


def test_an_iterator_that_has_ended_says_so():
    error = refused(iter([]))
    assert error.what == "no samples" and "can be read once" in error.hint
    assert "yield (inputs, labels)" in refused([]).hint


def test_what_is_wrong_with_a_batch_is_said():
    error = refused(iter([(X, Y), (X, Y[:3])]))
    assert error.where == "batch 1, from sample 6 on, of data=<it>" and "(3,)" in error.what
    assert "not a pair" in refused(iter([X])).what
    assert "no labels; found `x`" in refused(iter([{"x": X}])).what


def test_what_an_iterable_raises_is_its_own():
    def broken():
        yield X, Y
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        opened(broken())


def test_batches_that_do_not_end_are_stopped_by_what_the_disk_holds(monkeypatch):
    monkeypatch.setattr("onnxtweak.data.sources.memory.batches.room_in", lambda folder: 200)
    with pytest.raises(Exception, match="more than nine tenths") as caught:
        opened(itertools.repeat((X, Y)))
    assert "itertools.islice" in caught.value.hint


# ------------------------------------------------------------------------------------------- the same samples


def split(**sources):
    held = {role: (InMemory(f"{role}=<arrays>", *arrays),) for role, arrays in sources.items()}
    return open_splits(DataSettings(**held), FLAT)


def test_samples_that_serve_twice_are_counted_by_what_they_hold():
    x = np.arange(60, dtype=np.float32).reshape(30, 2)
    y = np.arange(30) % 3
    (note,) = [n for n in split(data=(x[:20], y[:20]), test=(x[15:], y[15:])).notes if "also serve" in n]
    assert note.startswith("5 test samples also serve as fit or validation samples")
    assert not [n for n in split(data=(x[:20], y[:20]), test=(x[20:], y[20:])).notes if "also serve" in n]


def test_listed_copies_are_in_no_split():
    x = np.arange(120, dtype=np.float32).reshape(60, 2)
    y = np.arange(60) % 3
    wrong = np.array([3, 40, 50])
    found = split(data=(x[:45], y[:45]), test=(x[45:], y[45:]), must=(x[wrong], y[wrong]))
    assert len(found.listed["must"]) == 3
    assert len(found.fit) + len(found.validation) == 43 and len(found.test) == 14
    assert "2 samples of the data are listed too: no split has them" in found.notes


def test_the_copy_of_batches_is_deleted_with_the_last_of_their_columns(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    found = opened(iter([(X, Y), (X, Y)]))
    (folder,) = tmp_path.iterdir()
    assert found.digest and len(list(folder.iterdir())) == 1
    few = found.parts[0].rows(0, 2)
    del found
    gc.collect()
    assert folder.is_dir() and few.columns["input"].shape == (12, 2)
    del few
    gc.collect()
    assert not list(tmp_path.iterdir())
