"""A disk without room is said in one line, before a file is mapped; the process is not killed."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest

from onnxtweak import disk_space
from onnxtweak.cli.main import main
from onnxtweak.disk_space import cannot_write, new_mapped, no_room, reserve, write_all
from onnxtweak.errors import OutputError
from tests.support.weak_class import TARGET, weak_cnn


@contextmanager
def largest_file(size):
    """Files may not be larger than so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("shape", [(), (3,), (0, 4), (7, 1000)])
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.float16])
def test_a_mapped_file_is_a_whole_npy_file(tmp_path, shape, dtype):
    if 0 in shape:
        shape = (1, *shape[1:])
    array = new_mapped(tmp_path / "a.npy", dtype, shape, tmp_path)
    assert array.shape == shape and array.dtype == dtype and not array.any()
    array[...] = 1
    array.flush()
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.ones(shape, dtype))
    size = (tmp_path / "a.npy").stat()
    assert size.st_blocks * 512 >= size.st_size, "the space is reserved"


def test_without_room_nothing_is_mapped(tmp_path):
    with largest_file(10_000), pytest.raises(OutputError, match="larger than a file may be") as caught:
        new_mapped(tmp_path / "a.npy", np.float64, (10_000,), tmp_path / "scores.npz")
    assert "scores.npz" in caught.value.where and "ulimit" in caught.value.hint


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL])
def test_zeros_are_written_where_space_cannot_be_reserved(tmp_path, monkeypatch, number):
    def refuse(*arguments):
        raise OSError(number, "no")

    monkeypatch.setattr(disk_space.os, "posix_fallocate", refuse)
    with open(tmp_path / "a", "wb", buffering=0) as file:
        reserve(file, 3_000_000)
    assert (tmp_path / "a").read_bytes() == bytes(3_000_000)
    with (
        largest_file(1_500_000),
        open(tmp_path / "b", "wb", buffering=0) as file,
        pytest.raises(OSError, match="large") as caught,
    ):
        reserve(file, 3_000_000)
    assert no_room(caught.value)


def test_a_full_disk_says_how_much_is_needed(tmp_path):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    error = cannot_write(tmp_path / "x", full, "a table", 1_000_000)
    assert "a table needs 1,000,000 bytes, of which" in error.what and error.exit_code == 2
    assert "disk is full" in cannot_write(tmp_path / "x", OSError(errno.EDQUOT, "quota")).what
    assert not no_room(OSError(errno.EACCES, "no")) and not no_room(ValueError())


def test_everything_is_written_to_a_file_that_takes_little(tmp_path):
    class Slow:
        def __init__(self):
            self.held = b""

        def write(self, data):
            self.held += bytes(data[:3])
            return min(3, len(data))

    file = Slow()
    write_all(file, b"0123456789")
    assert file.held == b"0123456789"


COMMANDS = {
    "score": ["score", "-t", str(TARGET), "-o", "scores.npz"],
    "score into a work directory": ["score", "-t", str(TARGET), "-o", "scores.npz", "--work-dir", "work"],
    "dump": ["dump", "-o", "tables"],
    "join": ["join", "-t", str(TARGET), "-o", "out.onnx", "--tweak", "t.safetensors", "--report", "r.html"],
}


@pytest.mark.parametrize("what", COMMANDS)
def test_commands_end_in_one_line_and_leave_nothing(tmp_path, monkeypatch, capsys, what):
    model, data = weak_cnn(tmp_path, n=250)
    monkeypatch.chdir(tmp_path)
    before = {path for path in tmp_path.rglob("*") if path.name != "work"}
    name, *rest = COMMANDS[what]
    with largest_file(4_000):
        assert main([name, str(model), "-d", str(data), *rest, "-q", "--threads", "1"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
    assert {path for path in tmp_path.rglob("*") if path.name != "work"} == before


def test_a_function_whose_samples_find_no_room(tmp_path):
    model, _ = weak_cnn(tmp_path, n=50)
    (tmp_path / "spooled").mkdir()
    (tmp_path / "samples.py").write_text(
        "import numpy as np\ndef f():\n    yield np.zeros((90, 1, 8, 8), 'f4'), np.arange(90) % 6\n"
    )
    code = (
        "import resource, sys; from onnxtweak.cli.main import main;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY));"
        "sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "evaluate", str(model), "-d", f"{tmp_path}/samples.py:f"],
        env={**os.environ, "TMPDIR": str(tmp_path / "spooled")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "larger than a file may be" in done.stderr and "TMPDIR" in done.stderr
    assert not list((tmp_path / "spooled").glob(".onnxtweak*"))


def test_any_other_place_where_the_disk_is_full(monkeypatch, capsys):
    def full(**options):
        raise OSError(errno.ENOSPC, "No space left on device", "/somewhere")

    monkeypatch.setattr("onnxtweak.commands.doctor", full)
    assert main(["doctor"]) == 2
    assert "error: the disk is full; nothing was written (/somewhere)" in capsys.readouterr().err
