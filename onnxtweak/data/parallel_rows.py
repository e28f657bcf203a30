"""How are the rows of a batch made: one after the other, or in stretches by several threads?"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

# Bytes of a stretch that stay in a core's cache from one step to the next, and a batch that is worth threads.
_STRETCH = 2 * 1024**2
_WORTH = 256 * 1024
# Stretches for each thread: enough that none waits long for the last one.
_EACH = 2


def in_stretches(
    make: Callable[[int, int], np.ndarray],
    rows: int,
    row_bytes: int,
    pool: ThreadPoolExecutor | None,
    threads: int,
) -> np.ndarray:
    """`make(0, rows)`, made by the pool's `threads` a stretch each where that is worth it.

    make(first, last) : those rows (last - first, ...), the same whatever the stretch; called by several
    threads at once. The first row that raises is the one whose error is seen.
    """
    if pool is None or rows < 2 or rows * row_bytes < _WORTH:
        return make(0, rows)
    height = max(1, min(_STRETCH // max(row_bytes, 1), -(-rows // (_EACH * threads))))
    begun = make(0, min(height, rows))
    whole = np.empty((rows, *begun.shape[1:]), begun.dtype)
    whole[:height] = begun

    def fill(first: int) -> None:
        whole[first : first + height] = make(first, min(first + height, rows))

    for _ in pool.map(fill, range(height, rows, height)):  # raises what the first of them raised
        pass
    return whole
