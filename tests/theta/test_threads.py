"""A range is covered once, in order, whichever thread takes which part."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from onnxtweak.theta.threads import share_out


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 1000])
def test_parts_cover_the_range_in_order(count, threads):
    with ThreadPoolExecutor(threads) as pool:
        for chosen in (None, pool):
            got = share_out(lambda letter, first, last: (letter, first, last), ("a",), count, chosen)
            edges = [0] + [last for _, _, last in got]
            assert edges[-1] == count
            assert got == [("a", first, last) for first, last in zip(edges, edges[1:], strict=False)]


def test_a_thread_that_lags_leaves_its_parts_to_others():
    here, taken, enough = threading.get_ident(), [], threading.Event()

    def kernel(first, last):
        if threading.get_ident() != here:
            assert enough.wait(300)  # as if it had no core
            return
        taken.append((first, last))
        if len(taken) == 7:
            enough.set()

    with ThreadPoolExecutor(2) as pool:
        parts = share_out(kernel, (), 100, pool)
    assert len(parts) == 8 and len(taken) >= 7


def test_an_error_in_any_part_comes_back():
    here = threading.get_ident()

    def kernel(first, last):
        time.sleep(0.01)
        if threading.get_ident() != here:
            raise ValueError("there")

    with ThreadPoolExecutor(2) as pool, pytest.raises(ValueError, match="there"):
        share_out(kernel, (), 100, pool)
