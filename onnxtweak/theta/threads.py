"""How is a kernel's range shared among threads?"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise


def share_out(kernel: Callable, arguments: tuple, count: int, pool: ThreadPoolExecutor | None) -> list:
    """Run `kernel(*arguments, first, last)` over [0, count), in as even shares as whole numbers allow.

    pool : threads to share it among; None: this one. Returns what the shares returned, in order.
    """
    shares = max(1, min(1 if pool is None else pool._max_workers, count))
    if shares == 1:
        return [kernel(*arguments, 0, count)]
    edges = [count * k // shares for k in range(shares + 1)]
    parts = [pool.submit(kernel, *arguments, first, last) for first, last in pairwise(edges)]
    return [part.result() for part in parts]
