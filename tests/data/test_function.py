"""`file.py:function`: run once, the same samples every time, mistakes named with their line."""

from __future__ import annotations

import os
import time
from collections import namedtuple

import numpy as np
import pytest

from onnxtweak.data.open_data import open_data
from onnxtweak.data.samples import InputSpec
from onnxtweak.errors import DataError, OutputError
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
        ("    return iter(())", "yielded no samples", "samples"),
        ("    yield np.ones((0, 2)), []", "yielded no samples", "samples"),
        ("    yield np.ones((2, 2))", "not a pair", "batch 0"),
        ("    yield np.ones((2, 2)), [0]", "its labels", "batch 0"),
        ("    yield {'z': np.ones((2, 2))}, [0, 1]", "`x` is missing", "batch 0"),
        (
            "    yield np.ones((1, 2)), [0]\n    yield np.ones((1, 3)), [0]",
            r"\(2,\) float64 before",
            "batch 1",
        ),
        ("    yield np.array([['a', 'b']]), [0]", "not numbers", "batch 0"),
        (
            "    yield np.ones((2, 2)), [0, 1]\n    yield [[1], [1, 2]], [0, 1]",
            "cannot be read",
            "sample 2 on",
        ),
        ("    yield np.ones((2, 2)), [[0], [1, 2]]", "the labels cannot be read as an array", "batch 0"),
        ("    yield np.ones((2, 2)), [0, None]", "labels are object", "batch 0"),
        (
            "    yield np.ones((2, 2)), [0, 1]\n    yield np.ones((2, 2)), ['a', 'b']",
            "labels are <U1 .* but int64",
            "batch 1, from sample 2 on",
        ),
        (
            "    yield np.ones((2, 2)), [0, 1]\n    yield np.ones((2, 2)), np.eye(2)",
            r"labels are float64 \(2, 2\) here",
            "batch 1",
        ),
        ("    yield np.ones((2, 2)), [0, 1]\n    raise StopIteration", "RuntimeError", "batch 1"),
    ],
)
def test_mistakes_are_named(tmp_path, body, said, where):
    path = tmp_path / "mine.py"
    path.write_text(f"import numpy as np\ndef samples():\n{body}\n")
    with pytest.raises(DataError, match=said) as raised:
        opened(f"{path}:samples")
    assert where in raised.value.where and f"{path}:samples" in raised.value.where


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


ENDLESS = """
import numpy as np

def samples():
    for number in range(10**9):
        yield np.full((500, 2), number), np.zeros(500, int)

def large():
    yield np.zeros((3_000_000, 2)), np.zeros(3_000_000, int)
"""


def test_a_function_that_does_not_end_is_bounded_by_the_memory(tmp_path):
    (tmp_path / "mine.py").write_text(ENDLESS)
    with pytest.raises(DataError, match="which are held as a whole: more than the 1 MiB of --memory") as no:
        open_data(
            [f"{tmp_path / 'mine.py'}:samples"],
            inputs=(InputSpec("x", "float32", (None, 2)),),
            preprocess=Preprocess(),
            memory=1 << 20,
        )
    assert "of a function that does not end, choose rows: FILE.py:FUNCTION#[0:10000]" in no.value.hint
    with pytest.raises(DataError, match="the batch takes 46 MiB: more than the 8 MiB of --memory"):
        open_data(
            [f"{tmp_path / 'mine.py'}:large"],
            inputs=(InputSpec("x", "float32", (None, 2)),),
            preprocess=Preprocess(),
            memory=8 << 20,
        )


def test_no_more_is_asked_for_than_the_rows_chosen(tmp_path):
    (tmp_path / "mine.py").write_text(ENDLESS)
    data = opened(f"{tmp_path / 'mine.py'}:samples#[400:1200]")
    assert len(data) == 800 and whole(data)[:, 0].tolist() == [0.0] * 100 + [1.0] * 500 + [2.0] * 200


def test_progress_is_told_of_every_batch(file):
    told = []

    class Told:
        def start(self, what, total, unit="samples"):
            told.append((what, total))

        def advance(self, count):
            told.append(count)

        def finish(self):
            told.append("end")

    specs = (InputSpec("x", "float32", (None, 2)),)
    open_data([f"{file}:samples"], inputs=specs, preprocess=Preprocess(), progress=Told())
    assert told == [("read mine.py:samples", 0), 4, 4, 4, "end"]


def test_a_function_that_is_waited_for_shows_that_time_passes(tmp_path, monkeypatch):
    monkeypatch.setattr("onnxtweak.types._TICK", 0.01)
    (tmp_path / "mine.py").write_text(
        "import os, time\nimport numpy as np\n\ndef samples():\n"
        "    until = time.monotonic() + 300\n"
        f"    while not os.path.exists({str(tmp_path / 'enough')!r}) and time.monotonic() < until:\n"
        "        time.sleep(0.01)\n    yield np.zeros((2, 2)), [0, 1]\n"
    )
    told = []

    class Told:
        def start(self, what, total, unit="samples"): ...

        def advance(self, count):
            told.append(count)
            if len(told) == 4:
                (tmp_path / "enough").touch()

        def finish(self):
            told.append("end")

    specs = (InputSpec("x", "float32", (None, 2)),)
    open_data([f"{tmp_path}/mine.py:samples"], inputs=specs, preprocess=Preprocess(), progress=Told())
    ticks = told.index(2)
    assert ticks > 3 and told[:ticks] == [0] * ticks
    time.sleep(0.05)
    assert told[-1] == "end"  # and no tick after it


PIPES = """
import os
import numpy as np

def named():
    data = np.load("{pipe}")
    yield data["x"], data["y"]

def low():
    os.open("{pipe}", os.O_RDONLY)
    yield np.zeros((2, 2)), [0, 1]

def handed_on():
    reader, writer = os.pipe()
    os.write(writer, b"1")
    with open(f"/dev/fd/{{reader}}", "rb", buffering=0) as file:
        assert file.read(1) == b"1"
    os.close(os.open("{pipe}", os.O_RDONLY | os.O_NONBLOCK))
    yield np.zeros((2, 2)), [0, 1]
"""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes of POSIX")
def test_a_named_pipe_is_not_waited_for(tmp_path):
    pipe = tmp_path / "a.npz"
    os.mkfifo(pipe)
    (tmp_path / "mine.py").write_text(PIPES.format(pipe=pipe))
    for name in ("named", "low"):
        with pytest.raises(DataError, match="the function opens a named pipe") as no:
            opened(f"{tmp_path}/mine.py:{name}")
        assert no.value.where == str(pipe)
    assert len(opened(f"{tmp_path}/mine.py:handed_on")) == 2
    # Others may still open pipes, and so may this thread afterwards.
    os.close(os.open(pipe, os.O_RDWR))


def test_a_huge_file_is_not_compiled(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def samples():\n    yield 1, 2\n")
    os.truncate(path, 2 << 30)
    with pytest.raises(DataError, match="2,048 MiB, over the 1 MiB allowed"):
        opened(f"{path}:samples")


def test_a_disk_is_not_filled_up(tmp_path, monkeypatch):
    """Nine tenths of what is free, by a disk that says it has little."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("onnxtweak.data.sources.spool.shutil.disk_usage", lambda _: usage(0, 0, 100_000))
    (tmp_path / "mine.py").write_text(ENDLESS)
    with pytest.raises(OutputError, match="takes 0 MiB so far: more than nine tenths") as no:
        opened(f"{tmp_path / 'mine.py'}:samples")
    assert "of a function that does not end, choose rows" in no.value.hint and "TMPDIR" in no.value.hint
