"""`file.py:function`: run once, the same samples every time, mistakes named with their line."""

from __future__ import annotations

import numpy as np
import pytest

from onnxtweak.data.open_data import open_data
from onnxtweak.data.samples import InputSpec
from onnxtweak.errors import DataError
from onnxtweak.settings import Preprocess

GOOD = """
import numpy as np
from beside import CALLS

def samples():
    CALLS.append(1)
    rng = np.random.default_rng()  # other samples at each call
    for _ in range(3):
        yield rng.standard_normal((4, 2)), [0, 1, 0, 1]

def two():
    yield {"a": np.ones((2, 2), np.uint8), "b": np.zeros((2, 3))}, np.array(["cat", "dog"])
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "beside.py").write_text("CALLS = []\n")
    path = tmp_path / "mine.py"
    path.write_text(GOOD)
    return path


def opened(source, *specs: InputSpec):
    specs = specs or (InputSpec("x", "float32", (None, 2)),)
    return open_data([str(source)], inputs=specs, preprocess=Preprocess())


def whole(data, name="x"):
    return np.concatenate([feeds[name] for feeds, _, _ in data.batches(None, 5)])


def test_every_pass_sees_the_same_samples(file):
    data = opened(f"{file}:samples")
    assert len(data) == 12 and data.labels.tolist() == [0, 1] * 6
    assert np.array_equal(whole(data), whole(data))
    assert data.digest != opened(f"{file}:samples").digest  # its samples are random
    assert len(opened(f"{file}:samples#[2:5]")) == 3


def test_several_inputs_by_name(file):
    data = opened(f"{file}:two", InputSpec("a", "uint8", (None, 2)), InputSpec("b", "float32", (None, 3)))
    assert whole(data, "a").dtype == np.uint8 and whole(data, "b").shape == (2, 3)
    assert data.classes == ("cat", "dog")
    assert (
        data.digest
        == opened(
            f"{file}:two", InputSpec("a", "uint8", (None, 2)), InputSpec("b", "float32", (None, 3))
        ).digest
    )


@pytest.mark.parametrize(
    ("body", "said", "where"),
    [
        ("    yield 1 / 0, [0]", "ZeroDivisionError", "line 3"),
        ("    exit(3)", "SystemExit", "line 3"),
        ("    return 5", "returns int, not batches", "samples"),
        ("    return iter(())", "yielded nothing", "samples"),
        ("    yield np.ones((2, 2))", "not a pair", "batch 0"),
        ("    yield np.ones((2, 2)), [0]", "its labels", "batch 0"),
        ("    yield {'z': np.ones((2, 2))}, [0, 1]", "`x` is missing", "batch 0"),
        (
            "    yield np.ones((1, 2)), [0]\n    yield np.ones((1, 3)), [0]",
            r"\(2,\) float64 before",
            "batch 1",
        ),
        ("    yield np.array([['a', 'b']]), [0]", "not numbers", "batch 0"),
    ],
)
def test_mistakes_are_named(tmp_path, body, said, where):
    path = tmp_path / "mine.py"
    path.write_text(f"import numpy as np\ndef samples():\n{body}\n")
    with pytest.raises(DataError, match=said) as raised:
        opened(f"{path}:samples")
    assert where in raised.value.where


def test_files_that_do_not_run(tmp_path, file):
    (tmp_path / "bad.py").write_text("def samples(:\n")
    with pytest.raises(DataError, match="SyntaxError"):
        opened(f"{tmp_path / 'bad.py'}:samples")
    with pytest.raises(DataError, match="no function `sample`"):
        opened(f"{file}:sample")
    with pytest.raises(DataError, match="the name of the function is missing"):
        opened(file)
    with pytest.raises(DataError, match="no such file"):
        opened(tmp_path / "none.py:samples")
