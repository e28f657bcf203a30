"""How is a kernel's range shared among threads?"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

# Parts per thread: one that starts late, or shares its core with others, takes fewer of them.
_PARTS = 4


def share_out(
    kernel: Callable[..., Any], arguments: tuple[Any, ...], count: int, pool: ThreadPoolExecutor | None
) -> list[Any]:
    """Run `kernel(*arguments, first, last)` over [0, count), in parts as even as whole numbers allow.

    pool : threads that take part after part until none is left. The calling thread stands in for one of them,
    because waking a thread takes a tenth of the time of a small fold. None, or a pool of one: a single part.
    Returns the parts' results, in order.
    """
    threads = 1 if pool is None else pool._max_workers
    if pool is None or threads == 1:
        return [kernel(*arguments, 0, count)]
    parts = max(1, min(_PARTS * threads, count))
    edges = [count * k // parts for k in range(parts + 1)]
    left = iter(list(enumerate(pairwise(edges))))
    results: list[Any] = [None] * parts

    def work() -> None:
        for k, (first, last) in left:
            results[k] = kernel(*arguments, first, last)

    others = [pool.submit(work) for _ in range(min(threads, parts) - 1)]
    work()
    for other in others:
        if not other.cancel():  # it has begun
            other.result()
    return results
