"""How data sources are written, and which rows they select."""

import numpy as np
import pytest

from onnxtweak.data.samples import ArrayColumn, Part
from onnxtweak.data.source_spec import natural_key, parse_source, select_rows
from onnxtweak.errors import DataError


def part(samples, start=0):
    return Part(
        "here", "here", {"x": ArrayColumn("x", np.zeros((99, 1)))}, np.arange(samples), "y", (), start=start
    )


@pytest.mark.parametrize(
    ("selection", "key", "start", "stop"),
    [
        ("", None, None, None),
        ("#train", "train", None, None),
        ("#train[3:9]", "train", 3, 9),
        ("#[:9]", None, None, 9),
        ("#[-5:]", None, -5, None),
    ],
)
def test_selection_is_taken_apart(tmp_path, selection, key, start, stop):
    path = tmp_path / "a.npz"
    path.touch()
    source = parse_source(f"{path}{selection}")
    assert (source.path, source.key, source.start, source.stop) == (path, key, start, stop)


def test_a_path_with_a_hash_in_its_name_is_a_path(tmp_path):
    path = tmp_path / "c#.npz"
    path.touch()
    assert parse_source(str(path)).key is None
    assert parse_source(f"{path}#train").key == "train"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("absent.npz", "no such file"),
        ("absent.npz#train", "no such file"),
        ("absent.npz[0:3]", "no such file"),
    ],
)
def test_absent_path_is_refused(text, message):
    with pytest.raises(DataError, match=message):
        parse_source(text)


def test_unreadable_selection_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    path.touch()
    with pytest.raises(DataError, match="cannot parse the selection"):
        parse_source(f"{path}#train[1:2:3]")


def test_cut_counts_rows_over_all_parts(tmp_path):
    path = tmp_path / "a.npz"
    path.touch()
    kept = select_rows([part(10), part(10), part(10)], parse_source(f"{path}#[5:12]"))
    assert [(p.start, len(p), p.labels[0]) for p in kept] == [(5, 5, 5), (0, 2, 0)]
    assert [len(p) for p in select_rows([part(10), part(10)], parse_source(f"{path}#[-3:]"))] == [3]


@pytest.mark.parametrize("rows", ["[0:31]", "[5:5]", "[9:3]", "[-40:]"])
def test_rows_that_are_not_there_are_refused(tmp_path, rows):
    path = tmp_path / "a.npz"
    path.touch()
    with pytest.raises(DataError, match="there are 30"):
        select_rows([part(30)], parse_source(f"{path}#{rows}"))


def test_natural_order_counts():
    assert sorted(["s10", "s2", "s1", "a"], key=natural_key) == ["a", "s1", "s2", "s10"]
    assert sorted(["10", "9", "x"], key=natural_key) == ["9", "10", "x"]


def test_a_part_of_a_source_is_named_with_its_rows():
    first, second = select_rows([part(4), part(4)], parse_source(f"{__file__}#[2:8]"))
    assert (first.where, second.where) == ("here#[2:4]", "here#[0:4]")
