"""Marks of several labels at once: what counts as some, and what is refused."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from onnxtweak.data import InputSpec, open_splits
from onnxtweak.data.open_data import read_sources
from onnxtweak.data.samples import MarkedAt, Part, Reading
from onnxtweak.data.several.at_positions import marks_at_positions, one_hot_as_classes
from onnxtweak.data.several.marks import are_marks, marks, one_each, rarest
from onnxtweak.errors import DataError
from onnxtweak.in_memory import InMemory
from onnxtweak.settings import DataSettings

INPUTS = (InputSpec("x", "float32", (None, 3)),)


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        ([[0, 1], [1, 1]], True),
        ([[0.0, 1.0], [np.nan, -1.0]], True),
        ([[True, False], [True, True]], True),
        ([[0, 2], [1, 1]], False),
        ([[0.5, 0.5]], False),
        ([[1], [0]], False),
        ([0, 1], False),
        ([["a", "b"]], False),
    ],
)
def test_marks_are_rows_of_1_0_and_unknown(raw, found):
    assert are_marks(np.array(raw)) == found


def test_a_row_with_what_is_not_known_is_no_class():
    assert one_each(np.array([[0, 1, 0], [1, 0, 0]]))
    assert not one_each(np.array([[0, 1, -1], [1, 0, 0]]))


def written(path, labels):
    np.savez(path, x=np.random.default_rng(0).normal(size=(len(labels), 3)).astype(np.float32), y=labels)
    return str(path)


def test_splits_have_every_label(tmp_path):
    rng = np.random.default_rng(1)
    labels = (rng.random((200, 5)) < [0.5, 0.3, 0.1, 0.05, 0.03]).astype(np.int8)
    data = DataSettings((written(tmp_path / "d.npz", labels),))
    splits = open_splits(data, INPUTS, several=True)
    for view in splits.views:
        assert view.labels.shape == (len(view), 5) and view.classes.tolist() == [0, 1, 2, 3, 4]
    assert sum(map(len, splits.views)) == 200
    assert rarest(labels).max() <= 5


def test_one_hot_rows_beside_marks_are_marks(tmp_path):
    marks = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]] * 10, np.int8)
    test = written(tmp_path / "t.npz", np.eye(3, dtype=np.int8))
    data = DataSettings((written(tmp_path / "d.npz", marks),), test=(test,))
    splits = open_splits(data, INPUTS, several=True)
    assert splits.test.labels.tolist() == np.eye(3).tolist()


def test_rows_of_other_lengths_are_refused(tmp_path):
    one = written(tmp_path / "a.npz", np.ones((4, 3), np.int8))
    other = written(tmp_path / "b.npz", np.ones((4, 2), np.int8))
    with pytest.raises(DataError, match="a sample has 2 labels here, and 3 in"):
        open_splits(DataSettings((one, other)), INPUTS, several=True)


def test_marks_that_change_are_other_data(tmp_path):
    marks = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]] * 10, np.int8)
    digests = []
    for change in (0, -1):
        marks[0, 2] = change
        data = DataSettings((written(tmp_path / "d.npz", marks),))
        digests.append(open_splits(data, INPUTS, several=True).fit.dataset.digest)
    assert digests[0] != digests[1]


def table_of(rng):
    x = rng.normal(0, 1, (40, 3)).round(3)
    return x, (rng.random((40, 4)) < 0.4).astype(int)


def read(source):
    return read_sources([source], INPUTS, Reading(several=True))


def listing(folder, x, labels):
    """A table with a list of marks in each row, also as `table.parquet`."""
    table = pa.table({**dict(zip("abc", x.T, strict=True)), "labels": labels})
    pq.write_table(table, folder / "table.parquet")
    return table


@pytest.mark.parametrize("key", ["tag *", "tag cat,tag dog,tag ox,tag rat"])
@pytest.mark.parametrize("kind", ["csv", "parquet", "memory"])
def test_a_table_may_have_a_column_of_marks_for_each_label(tmp_path, kind, key):
    x, marks = table_of(np.random.default_rng(0))
    marks[3, 1] = -1
    names = [f"tag {animal}" for animal in ("cat", "dog", "ox", "rat")]
    cells = np.column_stack([x, marks])
    table = pa.table(dict(zip([*"abc", *names], cells.T, strict=True)))
    if kind == "memory":
        found = read(InMemory("<table>", table, key))
    else:
        path = tmp_path / f"table.{kind}"
        pq.write_table(table, path) if kind == "parquet" else np.savetxt(
            path, cells, delimiter=",", header=",".join(table.column_names), comments=""
        )
        found = read(f"{path}#{key}")
    assert found.several and np.array_equal(found.labels, marks) and found.classes == tuple(names)
    values, _, _ = next(found.batches(None, 40))
    assert values["x"] == pytest.approx(x, abs=1e-6)


@pytest.mark.parametrize("kind", ["parquet", "memory"])
def test_a_table_may_have_a_list_of_marks_in_each_row(tmp_path, kind):
    x, marks = table_of(np.random.default_rng(0))
    table = listing(tmp_path, x, marks.tolist())
    found = read(InMemory("<table>", table) if kind == "memory" else str(tmp_path / "table.parquet"))
    assert found.several and np.array_equal(found.labels, marks)


def test_bad_marks_in_tables_are_named(tmp_path):
    x, marks = table_of(np.random.default_rng(0))
    listing(tmp_path, x, [row[: 3 if k == 7 else 4] for k, row in enumerate(marks.tolist())])
    with pytest.raises(DataError, match="3 marks here, and 4 in row 0") as error:
        read(str(tmp_path / "table.parquet"))
    assert "row 7" in str(error.value)
    (tmp_path / "words.csv").write_text("a,b,c,t1,t2\n1,2,3,yes,no\n")
    with pytest.raises(DataError, match="are no numbers: 'yes'"):
        read(f"{tmp_path / 'words.csv'}#t?")
    with pytest.raises(DataError, match="no column `u"):
        read(f"{tmp_path / 'words.csv'}#u*")


def test_no_mark_in_parquet_is_one_that_is_not_known(tmp_path):
    x, marks = table_of(np.random.default_rng(0))
    rows = enumerate(marks.tolist())
    listing(tmp_path, x, [[None if k == c else mark for c, mark in enumerate(row)] for k, row in rows])
    found = read(str(tmp_path / "table.parquet"))
    assert (found.labels[range(4), range(4)] == -1).all() and (found.labels == -1).sum() == 4


def part_of(labels, **others):
    return Part("d", "d", {}, np.asarray(labels), "y", (), **others)


def test_labels_that_nothing_is_known_to_lack_are_refused():
    signs = np.array([[1, -1], [-1, 1]] * 12)
    said = r"labels 0, 1 are marked 1 or not known \(-1\), and nowhere 0"
    with pytest.raises(DataError, match=said):
        marks([part_of(signs)])
    one = signs.copy()
    one[0, 1] = 0  # a zero elsewhere does not tell of label 0
    with pytest.raises(DataError, match="label 0 is marked 1 or not known"):
        marks([part_of(one)])
    few = np.where(np.arange(24)[:, None] < 18, [-1, 1], one)
    few[20, 1] = 0
    assert marks([part_of(few)]) is not None  # of label 0 too few are known to wonder at
    assert marks([part_of(one), part_of([[0, 0]])]) is not None
    assert marks([part_of(signs, listed=True)]) is not None  # what has to become right says no more
    mask = np.where(np.arange(40).reshape(1, 5, 8) % 3 == 0, 1, -1)
    with pytest.raises(DataError, match="label 0 is marked 1 or not known"):
        marks_at_positions([part_of(mask)], MarkedAt((None, 1, 5, 8), 1), None, certain=False)


def test_one_hot_positions_are_classes_unless_marks_are_meant():
    at, numbers = MarkedAt((None, 3, 2, 2), 1), np.array([[[0, 2], [1, 1]]])
    one_hot = np.moveaxis(np.eye(3, dtype=np.float32)[numbers], -1, 1)
    one_hot[0, :, 0, 1] = np.nan  # a position without a label
    (found,) = one_hot_as_classes([part_of(one_hot)], at, None)
    assert found.labels.tolist() == [[[0, -1], [1, 1]]]
    assert "one-hot labels of 3 classes at each position" in found.notes[0]
    one_hot[0, 2, 1, 1] = 1
    (found,) = one_hot_as_classes([part_of(one_hot)], at, None)
    assert found.labels is one_hot


@pytest.mark.parametrize(("head", "several"), [(None, False), ("classes", False), ("labels", True)])
def test_one_hot_positions_are_read_as_asked(head, several):
    labels = np.moveaxis(np.eye(2, dtype=np.int8)[np.arange(12).reshape(4, 3) % 2], -1, 1)
    held = InMemory("<arrays>", {"x": np.zeros((4, 3), np.float32), "y": labels})
    reading = Reading(several=MarkedAt((None, 2, 3), 1), head=head)
    found = read_sources([held], INPUTS, reading)
    assert found.several == several and found.sizes == (3,)


def test_marks_may_have_their_axis_at_another_place_than_the_scores():
    at = MarkedAt((None, 4, None, None), 1)
    shapes = ((2, 4, 6, 6), (2, 6, 6, 4), (2, 6, 4, 4), (2, 4, 4, 4), (2, 1, 6, 4), (2, 6, 6))
    assert [at.axis_of(np.zeros(shape)) for shape in shapes] == [1, 3, None, 1, None, None]
    assert MarkedAt((None, 6, 5), 0).axis_of(np.zeros((2, 6, 5))) is None


def test_marks_at_positions_may_be_floats_in_a_file(tmp_path):
    labels = (np.arange(48).reshape(4, 2, 6) % 5 < 2).astype(np.float32)
    labels[0, 0, 0] = np.nan
    reading = Reading(several=MarkedAt((None, 2, 6), 1))
    found = read_sources([written(tmp_path / "d.npz", labels)], INPUTS, reading)
    wanted = np.where(np.isnan(labels), -1, labels).transpose(0, 2, 1).reshape(-1, 2)
    assert np.array_equal(found.labels, wanted)


def test_marks_in_a_csv_may_be_words_or_nothing(tmp_path):
    text = "a,b,c,tag_x,tag_y\n1,2,3,True,false\n4,5,6,,1\n7,8,9,0,-1\n"
    (tmp_path / "t.csv").write_text(text)
    found = read_sources([f"{tmp_path / 't.csv'}#tag_*"], INPUTS, Reading(several=True))
    assert found.labels.tolist() == [[1, 0], [-1, 1], [0, -1]]
    (tmp_path / "t.csv").write_text(text.replace("True", "maybe"))
    with pytest.raises(DataError, match="no numbers: 'maybe'"):
        read_sources([f"{tmp_path / 't.csv'}#tag_*"], INPUTS, Reading(several=True))
