"""Parquet: columns become inputs, row groups are read one at a time, and the rest is refused."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from onnxtweak.data.open_data import open_data
from onnxtweak.data.samples import InputSpec
from onnxtweak.errors import DataError
from onnxtweak.settings import Preprocess

pa = pytest.importorskip("pyarrow", reason="Parquet is read by pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

N = 23


def written(folder, columns: dict, group: int = 5):
    path = folder / "t.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=group)
    return path


def opened(source, *specs: InputSpec):
    specs = specs or (InputSpec("x", "float32", (None, 2)),)
    return open_data([str(source)], inputs=specs, preprocess=Preprocess())


def whole(data, size: int = 4, rows=None) -> dict[str, np.ndarray]:
    batches = [feeds for feeds, _, _ in data.batches(rows, size)]
    return {name: np.concatenate([feeds[name] for feeds in batches]) for name in data.inputs}


def test_number_columns_side_by_side(tmp_path):
    a, b, y = np.arange(N), np.arange(N) / 2, np.arange(N) % 3
    data = opened(written(tmp_path, {"a": a, "label": y, "b": b}))
    assert data.labels.tolist() == y.tolist()
    assert np.array_equal(whole(data)["x"], np.column_stack([a, b]).astype(np.float32))
    rows = np.array([0, 4, 5, 13, 22])
    assert np.array_equal(whole(data, 2, rows)["x"], np.column_stack([a, b])[rows].astype(np.float32))


def test_lists_by_the_name_of_an_input(tmp_path):
    x = np.random.default_rng(0).standard_normal((N, 4)).astype(np.float32)
    path = written(tmp_path, {"extra": np.zeros(N), "image": list(x), "y": ["cat", "dog"] * 11 + ["cat"]})
    data = opened(path, InputSpec("image", "float32", (None, 4)))
    assert np.array_equal(whole(data)["image"], x)
    assert data.classes == ("cat", "dog")


def test_several_inputs_are_several_columns(tmp_path):
    path = written(tmp_path, {"age": np.arange(N), "income": np.arange(N) * 2.0, "y": np.arange(N) % 2})
    specs = (InputSpec("age", "int64", (None, 1)), InputSpec("income", "float32", (None, 1)))
    found = whole(opened(path, *specs))
    assert found["age"].shape == (N, 1) and found["age"].dtype == np.int64
    assert found["income"][5] == 10.0


def test_a_key_names_the_labels(tmp_path):
    path = written(tmp_path, {"a": np.arange(N), "b": np.arange(N), "answer": np.arange(N) % 2})
    with pytest.raises(DataError, match="no column is named like labels") as raised:
        opened(path)
    assert "a, b, answer" in raised.value.hint
    assert len(opened(f"{path}#answer[3:9]")) == 6
    with pytest.raises(DataError, match="no column `ansver`"):
        opened(f"{path}#ansver")


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"a": [1.0, None], "b": [1.0, 2.0], "y": [0, 1]}, "NaN|finite|not a number"),
        ({"a": [1.0, 2.0], "z": ["a", "b"], "y": [0, 1]}, "`z` contains string, not numbers"),
        ({"x": [1.0, 2.0], "z": [1.0, 2.0], "y": [0, None]}, "1 labels are missing"),
        ({"x": [[1.0, 2.0], [3.0]], "y": [0, 1]}, "do not all have length 2"),
        ({"a": [[1.0, 2.0], [3.0, 4.0]], "b": [1.0, 2.0], "y": [0, 1]}, "cannot be combined"),
        ({"x": pa.array([], pa.float32()), "y": pa.array([], pa.int64())}, "empty"),
        ({"a": [1.0], "y": [0], "label": [0]}, "several columns could be the labels"),
    ],
)
def test_what_cannot_be_used(tmp_path, columns, said):
    with pytest.raises(DataError, match=said):
        whole(opened(written(tmp_path, columns)))


def test_what_is_no_parquet(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and more")
    with pytest.raises(DataError, match="not a Parquet file"):
        opened(tmp_path / "t.parquet")


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    path = written(tmp_path, {"a": [1.0], "y": [0]})
    monkeypatch.setitem(sys.modules, "onnxtweak.data.sources.parquet", None)
    with pytest.raises(DataError) as raised:
        opened(path)
    assert "onnxtweak[parquet]" in raised.value.hint


def test_columns_are_bound_by_name_as_in_csv(tmp_path):
    path = written(
        tmp_path, {"b": np.arange(N), "id": np.arange(N), "a": np.arange(N) * 2.0, "y": [0, 1] * 11 + [0]}
    )
    named = opened(path, InputSpec("x", "float32", (None, 2), ("a", "b")))
    assert np.array_equal(whole(named)["x"], np.column_stack([np.arange(N) * 2.0, np.arange(N)]))
    assert "left out: id" in named.describe()
    with pytest.raises(DataError, match="3 columns beside the labels") as raised:
        opened(path)
    assert "b, id, a" in raised.value.hint
    ordered = opened(path, InputSpec("x", "float32", (None, 3)))
    assert "does not name its features: input `x` takes the columns in the order of the file, b, id, a" in (
        ordered.describe()
    )


def test_text_feeds_an_input_of_text(tmp_path):
    path = written(tmp_path, {"town": ["Bonn", "Ulm"], "age": [3, 4], "y": [0, 1]})
    specs = (InputSpec("age", "float32", (None, 1)), InputSpec("town", "object", (None, 1)))
    assert whole(opened(path, *specs))["town"].ravel().tolist() == ["Bonn", "Ulm"]
    with pytest.raises(DataError, match="column `age` does not hold a text"):
        opened(path, InputSpec("age", "object", (None, 1)), specs[1])


def test_labels_that_are_not_utf8_are_refused(tmp_path):
    ends, text = np.array([0, 2, 4], np.int32), b"\xff\xfeab"
    broken = pa.Array.from_buffers(pa.string(), 2, [None, pa.py_buffer(ends.tobytes()), pa.py_buffer(text)])
    pq.write_table(pa.table({"f": [1.0, 2.0], "label": broken}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="the labels are not UTF-8 text"):
        open_data(
            [str(tmp_path / "a.parquet")],
            inputs=(InputSpec("f", "float32", (None, 1)),),
            preprocess=Preprocess(),
        )
