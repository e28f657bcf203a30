"""How is a kernel's range shared among threads?"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

# Parts for each thread: one that starts late, or whose core others use as well, takes fewer of them.
_PARTS = 4


def share_out(kernel: Callable, arguments: tuple, count: int, pool: ThreadPoolExecutor | None) -> list:
    """Run `kernel(*arguments, first, last)` over [0, count), in as even parts as whole numbers allow.

    pool : threads that take part after part until none is left. This thread takes the place of one of them,
    because waking a thread takes as long as a tenth of a small fold. None, or a pool of one: a single part.
    Returns what the parts returned, in order.
    """
    threads = 1 if pool is None else pool._max_workers
    parts = 1 if threads == 1 else max(1, min(_PARTS * threads, count))
    edges = [count * k // parts for k in range(parts + 1)]
    left = iter(list(enumerate(pairwise(edges))))
    results: list = [None] * parts

    def work() -> None:
        for k, (first, last) in left:
            results[k] = kernel(*arguments, first, last)

    others = [pool.submit(work) for _ in range(min(threads, parts) - 1)]
    work()
    for other in others:
        if not other.cancel():  # it has begun
            other.result()
    return results
