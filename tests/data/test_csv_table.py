"""CSV: a table of columns by name, or a list of pictures; streamed, and every bad cell is named."""

from __future__ import annotations

import gzip
import tracemalloc

import numpy as np
import pytest

from onnxtweak.data.open_data import open_data
from onnxtweak.data.samples import InputSpec
from onnxtweak.data.sources import csv_table
from onnxtweak.errors import DataError
from onnxtweak.settings import Preprocess

PAIR = InputSpec("x", "float32", (None, 2))


def opened(source, *specs: InputSpec, **options):
    return open_data([str(source)], inputs=specs or (PAIR,), preprocess=Preprocess(**options))


def whole(data, size: int = 4) -> dict[str, np.ndarray]:
    batches = [feeds for feeds, _, _ in data.batches(None, size)]
    return {name: np.concatenate([feeds[name] for feeds in batches]) for name in data.inputs}


def written(folder, text: str, name: str = "t.csv", encoding: str = "utf-8"):
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def test_columns_beside_the_labels_in_file_order_and_it_is_said(tmp_path):
    data = opened(written(tmp_path, "b,label,a\n1,0,10\n2.5,1,-3e1\n3,2,30\n"))
    assert data.labels.tolist() == [0, 1, 2]
    assert whole(data)["x"].tolist() == [[1, 10], [2.5, -30], [3, 30]]
    assert whole(data)["x"].dtype == np.float32
    assert "does not name its features: input `x` takes the columns in their order, b, a" in (data.describe())


def test_features_that_the_model_names_are_found_by_name(tmp_path):
    spec = InputSpec("x", "float32", (None, 2), ("a", "b"))
    data = opened(written(tmp_path, "b,id,label,a\n1,7,0,10\n2,8,1,20\n"), spec)
    assert whole(data)["x"].tolist() == [[10, 1], [20, 2]]
    assert "left out: id" in data.describe()
    with pytest.raises(DataError, match="no column for `a`") as raised:
        opened(written(tmp_path, "b,c,label\n1,2,0\n"), spec)
    assert "--input" not in raised.value.hint  # which takes inputs, not features of one


@pytest.mark.parametrize("shape", [(None, 1), (None,)])
def test_an_input_a_column(tmp_path, shape):
    path = written(tmp_path, "town,age,id,kind\nBonn,31,1,cat\nUlm,44,2,dog\n")
    specs = (InputSpec("age", "int64", shape), InputSpec("town", "object", shape))
    data = opened(f"{path}#kind", *specs)
    found = whole(data)
    assert found["age"].dtype == np.int64 and found["age"].shape == (2, *shape[1:])
    assert found["age"].ravel().tolist() == [31, 44]
    assert found["town"].ravel().tolist() == ["Bonn", "Ulm"]
    assert data.classes == ("cat", "dog")
    assert "columns that feed no input are left out: id" in data.describe()
    with pytest.raises(DataError, match="no column for `income`") as raised:
        opened(f"{path}#kind", *specs, InputSpec("income", "float32", shape))
    assert "town, age, id" in raised.value.hint


def test_names_but_for_case_and_punctuation(tmp_path):
    path = written(tmp_path, "petal length (cm),Width,y\n1,2,0\n3,4,1\n")
    specs = (InputSpec("petal_length_cm", "float32", (None, 1)), InputSpec("width", "float32", (None, 1)))
    data = opened(path, *specs)
    assert whole(data)["petal_length_cm"].ravel().tolist() == [1, 3]
    assert "`petal length (cm)` feeds `petal_length_cm`, `Width` feeds `width`" in data.describe()


@pytest.mark.parametrize(("delimiter", "word"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
def test_other_delimiters_are_found_and_said(tmp_path, delimiter, word):
    text = "a,b,y\r\n1,2,0\r\n3,4,1\r\n".replace(",", delimiter)
    data = opened(written(tmp_path, text, encoding="utf-8-sig"))
    assert whole(data)["x"].tolist() == [[1, 2], [3, 4]]
    assert f"separated by {word}" in data.describe()


def test_quotes_spaces_blank_lines_and_row_numbers(tmp_path):
    text = ',"a, of all",b,"label"\n0,"1", 2 ,"sea, lion"\n\n1,3,4,cat\n'
    data = opened(written(tmp_path, text, "t.tsv"))
    assert whole(data)["x"].tolist() == [[1, 2], [3, 4]]
    assert data.classes == ("cat", "sea, lion")
    assert "the column without a name numbers the rows" in data.describe()


def test_whole_numbers_stay_whole_and_labels_may_be_written_as_floats(tmp_path):
    path = written(tmp_path, f"a,y\n{2**53 + 1},1.0\n5,0.0\n")
    data = opened(path, InputSpec("a", "int64", (None, 1)))
    assert whole(data)["a"].ravel().tolist() == [2**53 + 1, 5]
    assert data.labels.tolist() == [1, 0]


def test_a_row_of_pixels_is_a_picture(tmp_path):
    head = ",".join(f"pixel{i}" for i in range(16))
    path = written(tmp_path, f"label,{head}\n" + "".join(f"{i},{','.join(['7'] * 16)}\n" for i in (0, 1)))
    assert whole(opened(path, InputSpec("x", "float32", (None, 1, 4, 4))))["x"].shape == (2, 1, 4, 4)


@pytest.mark.parametrize(
    ("text", "said", "where"),
    [
        ("a,b,y\n1,2,0\n3,,1\n", "the cell is empty", "line 3 (row 1), column `b`"),
        ("a,b,y\n1,2,0\n3,4,\n", "the cell is empty", "line 3 (row 1), column `y`"),
        ("a,b,y\n1,Bonn,0\n", "`Bonn` is not a finite number", "line 2 (row 0), column `b`"),
        ("a,b,y\n1,nan,0\n", "`nan` is not a finite number", "line 2 (row 0), column `b`"),
        ("a,b,y\n1e99,2,0\n", "`1e99` is not a finite number", "line 2 (row 0), column `a`"),
        ("a;b;y\n1,5;2;0\n3;4;1\n", "`1,5` is not a finite number", "line 2 (row 0), column `a`"),
        ("a,b,y\n1,2,0\n1,2\n", "2 cells, but 3 columns", "line 3"),
        ("a,a,y\n1,2,0\n", "two columns are named `a`", "t.csv"),
        ("a,b,c\n1,2,0\n", "no column is named like labels", "t.csv"),
        ("a,label,y\n1,2,0\n", "several columns could be the labels", "t.csv"),
        ("1,2,0\n3,4,1\n", "the first line does not name the columns", "t.csv"),
        ("a,b,y\n", "names its columns, but has no rows", "t.csv"),
        ("a,b,c,y\n1,2,3,0\n", "3 columns beside the labels, but the model's input `x` takes 2", "t.csv"),
        ("some words\n", "neither a table nor a list of pictures", "t.csv"),
        ("", "the CSV is empty", "t.csv"),
    ],
)
def test_what_cannot_be_used(tmp_path, text, said, where):
    with pytest.raises(DataError) as raised:
        whole(opened(written(tmp_path, text)))
    assert said in raised.value.what and where in raised.value.where
    assert raised.value.hint


def test_a_cell_that_says_it_is_missing_is_not_a_fault_of_its_column(tmp_path):
    for cell in ("NaN", "NA", "?"):
        with pytest.raises(DataError) as raised:
            whole(opened(written(tmp_path, f"a,b,y\n1,2,0\n1,{cell},1\n")))
        assert raised.value.hint == "fill it in, or remove the row"


def test_decimal_commas_other_encodings_and_floats_for_whole_numbers(tmp_path):
    with pytest.raises(DataError) as raised:
        opened(written(tmp_path, "a;b;y\n1,5;2;0\n3;4;1\n"))
    assert raised.value.hint == "write decimal points, not commas"
    with pytest.raises(DataError, match="not UTF-8"):
        opened(written(tmp_path, "a,b,y\nMünchen,1,0\n", encoding="latin-1"))
    with pytest.raises(DataError, match="is no whole number"):
        opened(written(tmp_path, "a,y\n1.5,0\n"), InputSpec("a", "int64", (None, 1)))


def test_a_long_table_is_never_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_table, "_CHUNK", 6400)
    rows, columns = 3000, 200
    head = ",".join([*(f"c{i}" for i in range(columns)), "y"])
    line = ",".join(["0.12345678"] * columns)
    path = written(tmp_path, head + "\n" + "".join(f"{line},{i % 3}\n" for i in range(rows)))
    tracemalloc.start()
    data = opened(path, InputSpec("x", "float32", (None, columns)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert data.bytes_in_memory == 0
    assert peak < rows * columns * 4 / 2
    assert np.allclose(whole(data, 256)["x"], 0.12345678)


def test_the_digest_follows_the_file_and_its_labels(tmp_path):
    one = opened(written(tmp_path, "a,b,y,z\n1,2,0,1\n3,4,1,0\n"), InputSpec("x", "float32", (None, 3)))
    path = tmp_path / "t.csv"
    other = opened(f"{path}#z", InputSpec("x", "float32", (None, 3)))
    assert one.digest != other.digest
    assert one.digest == opened(path, InputSpec("x", "float32", (None, 3))).digest


@pytest.mark.parametrize(
    ("name", "written", "said", "hint"),
    [
        ("a.csv", "a,b,label\n1,2,0\n".encode("utf-16"), "the CSV is UTF-16", "iconv -f UTF-16 -t UTF-8"),
        ("a.csv", "a,b,label\n1,2,0\n".encode("utf-16-le"), "the CSV is UTF-16", "iconv"),
        ("a.csv", gzip.compress(b"a,b,label\n1,2,0\n", mtime=0), "the CSV is compressed", "unpack it"),
        (
            "a.csv.gz",
            gzip.compress(b"a,b,label\n1,2,0\n", mtime=0),
            "unsupported file type `.gz`",
            "unpack it",
        ),
        ("a.csv", b"a,b,label\n1,2,3.5\n1,2,1\n", "label `3.5` is no class number", "whole numbers from 0"),
        ("a.csv", b"a,b,label\n1,2,3\n1,2,nan\n", "label `nan` is no class number", "whole numbers"),
    ],
)
def test_what_is_no_csv_of_classes_is_said(tmp_path, name, written, said, hint):
    (tmp_path / name).write_bytes(written)
    with pytest.raises(DataError, match=said) as caught:
        opened(tmp_path / name)
    assert hint in caught.value.hint


def test_names_that_are_numbers_are_found_in_the_names_file(tmp_path):
    (tmp_path / "a.csv").write_text("a,b,label\n1,2,3.5\n1,2,1\n")
    data = open_data(
        [str(tmp_path / "a.csv")], inputs=(PAIR,), preprocess=Preprocess(), names=("1", "2.5", "3.5")
    )
    assert data.labels.tolist() == [2, 0]


@pytest.mark.parametrize("column", ["label", "town"])
def test_text_of_a_csv_is_bounded_by_the_memory(tmp_path, column):
    """One long word makes all as long."""
    rows = [
        "label,town",
        *["x,y"] * 30_000,
        ",".join("w" * 500 if c == column else "x" for c in ("label", "town")),
    ]
    (tmp_path / "a.csv").write_text("\n".join(rows))
    spec = (InputSpec("town", "object", (None, 1)),)
    with pytest.raises(DataError, match="would take 57 MiB, which are held as a whole: more than the 32 MiB"):
        open_data([str(tmp_path / "a.csv")], inputs=spec, preprocess=Preprocess(), memory=32 << 20)


def test_a_line_without_end_is_refused_before_it_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_table, "_LONGEST_LINE", 1000)
    path = written(tmp_path, "a,b,label\n" + "1,2,0\n" * 50 + "9" * 5000)
    with pytest.raises(DataError, match="longer than 1,000 characters") as caught:
        opened(path)
    assert "line 52" in str(caught.value)
    with pytest.raises(DataError, match="line 1 "):
        opened(written(tmp_path, "a" * 5000, "first.csv"))
