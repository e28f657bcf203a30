"""How are the rows of a batch made: all at once, or in chunks by parallel threads?"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

# Bytes of a chunk that stays in a core's cache from one step to the next, and of a batch worth threads.
_CHUNK = 2 * 1024**2
_WORTH_THREADS = 256 * 1024
# Enough that no thread waits long for the last one.
_CHUNKS_PER_THREAD = 2


def rows_in_parallel(
    make: Callable[[int, int], np.ndarray],
    rows: int,
    row_bytes: int,
    pool: ThreadPoolExecutor | None,
    threads: int,
) -> np.ndarray:
    """`make(0, rows)`, made in chunks by the pool's `threads` where the batch is large enough.

    make(first, last) : these rows (last - first, ...), the same values for any division into chunks; called
    from several threads at once. Where it raises, the error of the first failing chunk is raised.
    """
    if pool is None or rows < 2 or rows * row_bytes < _WORTH_THREADS:
        return make(0, rows)
    height = max(1, min(_CHUNK // max(row_bytes, 1), -(-rows // (_CHUNKS_PER_THREAD * threads))))
    head = make(0, min(height, rows))
    batch = np.empty((rows, *head.shape[1:]), head.dtype)
    batch[:height] = head

    def fill(first: int) -> None:
        batch[first : first + height] = make(first, min(first + height, rows))

    for _ in pool.map(fill, range(height, rows, height)):  # raises the first chunk's error
        pass
    return batch
