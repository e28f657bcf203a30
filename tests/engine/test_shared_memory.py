"""What one process lends, another reads: the same values, from memory that leaves nothing behind."""

from __future__ import annotations

import ast
import gc
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from onnxtweak.engine.workers.shared_memory import Borrower, Lender, Lent

pytestmark = pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no memory without a name here")
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Shard:
    name: str
    arrays: tuple


class OnGpu:
    """As much of a CuPy array as is needed to bring it to the host."""

    __cuda_array_interface__ = None

    def __init__(self, values):
        self.values, self.dtype, self.shape, self.nbytes = values, values.dtype, values.shape, values.nbytes
        self.size = values.size

    def ravel(self):
        return OnGpu(self.values.ravel())

    def __getitem__(self, which):
        return OnGpu(self.values[which])

    def get(self, out):
        out[...] = self.values


def lender():
    return Lender(lambda count: np.empty((1, count), np.float32))


def shard(size=100_000):
    rng = np.random.default_rng(size)
    sums = rng.random((3, size))
    return Shard("one", (sums.astype(np.float32), sums, sums > 0.5, sums[:, ::2], np.arange(3), sums[:, :0]))


def same(one, other):
    assert one.name == other.name
    for a, b in zip(one.arrays, other.arrays, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def held():
    """Memory without a name that this process has open, or looks into."""
    gc.collect()
    links = [Path("/proc/self/fd", number) for number in os.listdir("/proc/self/fd")]
    files = [os.readlink(link) for link in links if link.is_symlink()]
    looks = Path("/proc/self/maps").read_text().splitlines()
    return sum("memfd:onnxtweak" in line or "/dev/shm/#" in line for line in (*files, *looks))


@pytest.fixture(scope="module", autouse=True)
def little_to_look_at():
    """What was there before can be no garbage of these tests: `held` need not look at it each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(params=["memfd", "/dev/shm"], autouse=True)
def memory(request, monkeypatch):
    """As Python has it; and as it is where Python was built for older systems."""
    if request.param == "/dev/shm":
        monkeypatch.delattr(os, "memfd_create", raising=False)
    elif not hasattr(os, "memfd_create"):
        pytest.skip("this Python was built for older systems")


def test_what_was_lent_is_what_is_seen():
    mine, yours, value = lender(), Borrower(), shard()
    lent = mine.lend(os.getpid(), value)
    assert len(lent.pickled) < 2000 < sum(array.nbytes for array in value.arrays)
    seen = yours.look(lent)
    same(seen, value)
    with pytest.raises(ValueError, match="read-only"):
        seen.arrays[0][0] = 1
    value.arrays[1][...] = -1  # what was lent does not change with it
    same(seen, shard())


def test_arrays_come_from_a_gpu_piece_by_piece():
    value = shard(700_000)
    whole = value.arrays[1].nbytes
    assert whole > 3 * (1 << 22) and whole % (1 << 22)
    mine = lender()
    lent = mine.lend(os.getpid(), Shard("one", tuple(OnGpu(array) for array in value.arrays)))
    same(Borrower().look(lent), value)


def test_memory_is_filled_again_when_it_was_given_back():
    mine, yours = lender(), Borrower()
    first = mine.lend(os.getpid(), shard(50_000))
    second = mine.lend(os.getpid(), shard(60_000))
    assert first.inode != second.inode
    same(yours.look(first), shard(50_000))
    yours.give_back(first)
    third = mine.lend(os.getpid(), shard(90_000))  # more than there was before
    assert third.inode == first.inode
    same(yours.look(third), shard(90_000))
    same(yours.look(second), shard(60_000))


def test_nothing_is_left_behind():
    before = held()
    mine, yours = lender(), Borrower()
    seen = yours.look(mine.lend(os.getpid(), shard()))
    assert held() > before
    del mine
    same(seen, shard())  # as long as somebody looks at it
    del yours, seen
    assert held() == before


def test_where_there_is_too_little_memory_nothing_is_lent():
    import resource

    mine, before = lender(), held()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        assert mine.lend(os.getpid(), shard()) is None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert held() == before
    lent = mine.lend(os.getpid(), shard())
    same(Borrower().look(lent), shard())


_LENDS = """
import sys
import numpy as np
from onnxtweak.engine.workers.shared_memory import Lender
lender = Lender(np.empty)
lent = lender.lend(int(sys.argv[1]), np.arange(100_000))
print(lent if lent is None else (lent.pickled, lent.process, lent.file, lent.inode, lent.size), flush=True)
sys.stdin.read()
"""


def test_another_process_lends_and_is_missed_when_it_died():
    process = subprocess.Popen(
        [sys.executable, "-c", _LENDS, str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    )
    with process:
        lent = Lent(*ast.literal_eval(process.stdout.readline()))
        yours = Borrower()
        np.testing.assert_array_equal(yours.look(lent), np.arange(100_000))
        process.kill()
    np.testing.assert_array_equal(yours.look(lent), np.arange(100_000))
    with pytest.raises(OSError):
        Borrower().look(lent)


def test_nothing_is_lent_to_a_process_that_cannot_be_seen():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert lender().lend(gone.pid, shard()) is None
