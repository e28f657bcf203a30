"""Parquet: columns become inputs, row groups are read one at a time, and the rest is refused."""

from __future__ import annotations

import inspect
import itertools
import sys

import numpy as np
import pytest

from onnxtweak.data.open_data import open_data
from onnxtweak.data.samples import InputSpec
from onnxtweak.errors import DataError
from onnxtweak.settings import Preprocess

pa = pytest.importorskip("pyarrow", reason="Parquet is read by pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

from onnxtweak.data.sources.parquet_pages import page_bytes, pages_at  # noqa: E402

N = 23
# Newer versions end a page after some thousand rows as well, however small it is.
MANY = "max_rows_per_page"
ONE_PAGE = {MANY: 1 << 30} if MANY in inspect.signature(pq.ParquetWriter.__init__).parameters else {}


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
        ({"a": [1.0, None], "b": [1.0, 2.0], "y": [0, 1]}, "the value is missing .row 1, column `a` "),
        ({"a": [1.0, 2.0], "z": ["a", "b"], "y": [0, 1]}, "`z` contains string, not numbers"),
        ({"x": [1.0, 2.0], "z": [1.0, 2.0], "y": [0, None]}, "labels are missing .row 1, "),
        ({"x": [[1.0, 2.0], None], "y": [0, 1]}, "the value is missing .row 1, column `x` "),
        ({"x": [[1.0, 2.0], [3.0, None]], "y": [0, 1]}, "the value is missing .row 1, column `x` "),
        ({"x": [1, None], "z": [1, 2], "y": [0, 1]}, "the value is missing .row 1, column `x` "),
        ({"x": [1.0, 2.0], "z": [1.0, float("nan")], "y": [0, 1]}, "NaN or infinity in a sample .row 1 "),
        ({"x": [1.0, 2.0], "z": [1.0, 2.0], "y": [[0], [1]]}, "labels are list<.*>, neither numbers nor"),
        ({"x": [1.0, 2.0], "z": [1.0, 2.0], "y": [b"a", b"b"]}, "labels are binary, neither numbers nor"),
        ({"x": [1.0, 2.0], "z": [1.0, 2.0], "y": pa.nulls(2)}, "labels are null, neither numbers nor"),
        ({"x": [1.0, 2.0], "z": [1.0, 2.0], "y": [0.0, float("nan")]}, "labels are missing"),
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
    assert "does not name its features: input `x` takes the columns in their order, b, id, a" in (
        ordered.describe()
    )


def test_text_feeds_an_input_of_text(tmp_path):
    path = written(tmp_path, {"town": ["Bonn", "Ulm"], "age": [3, 4], "y": [0, 1]})
    specs = (InputSpec("age", "float32", (None, 1)), InputSpec("town", "object", (None, 1)))
    assert whole(opened(path, *specs))["town"].ravel().tolist() == ["Bonn", "Ulm"]
    with pytest.raises(DataError, match="column `age` does not hold a text"):
        opened(path, InputSpec("age", "object", (None, 1)), specs[1])


def broken(*rows: bytes):
    """Text as nothing checks it when it is written."""
    ends = np.cumsum([0, *map(len, rows)]).astype(np.int32)
    buffers = [None, pa.py_buffer(ends.tobytes()), pa.py_buffer(b"".join(rows))]
    return pa.Array.from_buffers(pa.string(), len(rows), buffers)


@pytest.mark.parametrize("text", [[b"\xff\xfe", b"ab"], [b"ab", b"\xc3"], [b"\xed\xa0\x80", b"x"]])
def test_text_that_is_not_utf8_is_refused(tmp_path, text):
    number, words = InputSpec("f", "float32", (None, 1)), InputSpec("f", "object", (None, 1))
    with pytest.raises(DataError, match=r"the labels are not UTF-8 text .rows 0 to 1, column `label`"):
        opened(written(tmp_path, {"f": [1.0, 2.0], "label": broken(*text)}), number)
    with pytest.raises(DataError, match=r"the text is not UTF-8 .rows 0 to 1, column `f`"):
        opened(written(tmp_path, {"f": broken(*text), "label": [0, 1]}), words)


def test_labels_as_categories(tmp_path):
    town, number = pa.array(["b", "a", "b"]).dictionary_encode(), pa.array([2, 0, 2]).dictionary_encode()
    for labels in (town, number):
        data = opened(written(tmp_path, {"a": [1.0] * 3, "b": [1.0] * 3, "y": labels}, group=2))
        assert data.labels.tolist() == ([1, 0, 1] if labels is town else [2, 0, 2])


def test_rows_come_in_batches_within_groups(tmp_path, monkeypatch):
    monkeypatch.setattr("onnxtweak.data.sources.parquet._BATCH", 3 * 2 * 8)  # three rows
    a, b = np.arange(N), np.arange(N) / 2
    data = opened(written(tmp_path, {"a": a, "b": b, "y": a % 3}, group=10))
    for size, rows in ((4, np.arange(N)), (7, np.array([0, 4, 5, 9, 10, 13, 22])), (1, np.array([21]))):
        assert np.array_equal(whole(data, size, rows)["x"], np.column_stack([a, b])[rows].astype(np.float32))


def test_what_reading_takes_is_known_from_the_footer(tmp_path):
    x = np.random.default_rng(0).standard_normal((40, 100_000)).astype(np.float32)
    wide = {f"c{place}": column for place, column in enumerate(x)}
    path = written(tmp_path, {**wide, "y": np.arange(100_000) % 2}, group=100_000)
    spec = (InputSpec("x", "float32", (None, 40)),)
    with pytest.raises(
        DataError, match=r"40 columns in row groups of 100,000 rows take [0-9]+ MiB to read"
    ) as no:
        open_data([str(path)], inputs=spec, preprocess=Preprocess(), memory=22 << 20)
    assert "--memory" in no.value.hint
    path = written(tmp_path, {**wide, "y": np.arange(100_000) % 2}, group=7_000)
    data = open_data([str(path)], inputs=spec, preprocess=Preprocess(), memory=22 << 20)
    assert np.array_equal(whole(data, 8192)["x"], x.T) and 0 < data.bytes_in_memory < 22 << 20


@pytest.mark.parametrize("kind", ["list", "text", "labels"])
def test_few_bytes_that_stand_for_many_are_refused(tmp_path, kind):
    long = pa.array(["a" * 40_000]).take(pa.array(np.zeros(1000, int)))
    columns = {"x": [[1.0, 2.0]] * 1000, "y": pa.array(np.arange(1000) % 2)}
    spec = InputSpec("x", "object" if kind == "text" else "float32", (None, 1 if kind == "text" else 2))
    if kind == "list":
        columns["x"] = pa.FixedSizeListArray.from_arrays(
            pa.array(np.zeros(20_000_000, np.float32)), 20_000_000
        )
        columns["y"] = [0]
    else:
        columns["x" if kind == "text" else "y"] = long
    path = written(tmp_path, columns, group=1000)
    del columns, long
    assert path.stat().st_size < 2**18
    before = pa.default_memory_pool().bytes_allocated()
    with pytest.raises(DataError, match=r"--memory|would take 153 MiB"):
        open_data([str(path)], inputs=(spec,), preprocess=Preprocess(), memory=64 << 20)
    assert pa.default_memory_pool().bytes_allocated() - before < 2**24


PAGES = list(
    itertools.product(
        ["none", "zstd"], ["1.0", "2.0"], [True, False], [1000, 1 << 20, 1 << 29], [True, False]
    )
)


@pytest.fixture(scope="module")
def long_table():
    """Columns of four kinds, with more text than a page of the usual size holds."""
    rng = np.random.default_rng(0)
    columns = {
        "number": rng.standard_normal(20_000),
        "text": ["x" * int(length) for length in rng.integers(0, 500, 20_000)],
        "lists": pa.array(list(rng.integers(0, 9, (20_000, 3)))),
        "flags": rng.integers(0, 2, 20_000) > 0,
    }
    return pa.table(columns)


@pytest.mark.parametrize(("compression", "version", "dictionary", "size", "statistics"), PAGES)
def test_the_size_of_pages_is_in_their_headers(
    long_table, tmp_path, compression, version, dictionary, size, statistics
):
    path = tmp_path / "t.parquet"
    pq.write_table(
        long_table,
        path,
        compression=compression,
        data_page_version=version,
        use_dictionary=dictionary,
        data_page_size=size,
        write_statistics=statistics,
        write_page_checksum=statistics,
        row_group_size=15_000,
        **ONE_PAGE,
    )
    footer = pq.ParquetFile(path).metadata
    for place in range(4):
        chunks = [footer.row_group(group).column(place) for group in range(2)]
        found = page_bytes(path, [pages_at(chunk) for chunk in chunks])
        largest = max(chunk.total_uncompressed_size for chunk in chunks)
        if size == 1 << 29 and not dictionary:  # one page
            assert 0.95 * largest < found
        if size == 1000 and not dictionary and place == 0:
            assert found < 100_000  # a page ends with a batch of 1,024 rows
        assert 0 < found <= 2.1 * largest


@pytest.mark.parametrize("column", ["x", "y"])
def test_a_huge_page_is_refused_before_it_is_decompressed(tmp_path, column):
    """16 MiB of values or labels in one page, for which a few kilobytes stand."""
    rows, memory = {"x": (1 << 22, 24 << 20), "y": (1 << 24, 96 << 20)}[column]
    columns = {"x": np.zeros(rows, np.float32), "y": np.zeros(rows, np.int8)}
    other = {"x": "y", "y": "x"}[column]
    path, spec = tmp_path / "t.parquet", (InputSpec("x", "float32", (None, 1)),)
    for encoded, refused in ([other], True), (["x", "y"], False):
        # Equal values that are written as references to a dictionary take no space in a page.
        pq.write_table(
            pa.table(columns),
            path,
            row_group_size=rows,
            compression="zstd",
            use_dictionary=encoded,
            data_page_size=1 << 30,
            **ONE_PAGE,
        )
        assert path.stat().st_size < 2**20
        if refused:
            with pytest.raises(DataError, match=r"1 columns in row groups of .* take [0-9]+ MiB"):
                open_data([str(path)], inputs=spec, preprocess=Preprocess(), memory=memory)
        else:
            assert len(open_data([str(path)], inputs=spec, preprocess=Preprocess(), memory=memory)) == rows


def test_headers_of_pages_that_are_damaged_are_one_error(tmp_path):
    path = written(tmp_path, {"a": np.arange(4.0), "b": np.arange(4.0), "y": np.arange(4)})
    data = bytearray(path.read_bytes())
    data[4:20] = b"\xff" * 16
    path.write_bytes(data)
    with pytest.raises(DataError, match="the header of a page is damaged"):
        opened(path)
