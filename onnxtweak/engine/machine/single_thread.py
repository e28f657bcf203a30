"""How is NumPy kept to one core per task? By a limit on the threads of the BLAS that it has loaded.

For many small products: the threads of each wait for one another, spinning, and where other programs need the
cores that takes many times longer than the product. Tasks beside each other use the cores better.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from itertools import islice
from typing import TypeVar

from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")
Made = TypeVar("Made")

# Multiplications and additions in a product from which on two threads are worth their waiting: on two cores
# that other programs use as well, 8 million take 0.2 ms of one thread and 3.6 ms of two.
LARGE = 100_000_000


def single_thread() -> AbstractContextManager[object]:
    """Within it, linear algebra takes one thread."""
    limit: AbstractContextManager[object] = _blas().limit(limits=1)
    return limit


@cache
def one_thread_for_good() -> None:
    """From now on linear algebra of this process takes one thread: of a worker, whose calls run together.

    A limit that one call sets and lifts again would be lifted under another.
    """
    _blas().limit(limits=1)


def is_small(products: int) -> bool:
    """Whether a product of so many multiplications is better left to one thread."""
    return products < LARGE


def threads_for(products: int) -> AbstractContextManager[object]:
    """Within it, linear algebra takes one thread if its products have so few multiplications."""
    return single_thread() if is_small(products) else nullcontext()


def side_by_side(task: Callable[[Item], Made], items: Iterable[Item], most: int) -> Iterator[Made]:
    """What the task makes of each item, in order, each on one core; `most` at a time, if there are the cores.

    As many are begun at once as linear algebra would take threads, and the next only when these are done and
    asked for: a caller that stops asking saves the rest.
    """
    threads = [pool["num_threads"] for pool in _blas().info()]
    at_once, waiting = max(min([most, *threads]), 1), iter(items)
    while batch := list(islice(waiting, at_once)):
        # The limit is of the whole process: set before the first task and lifted after the last.
        with single_thread():
            made = _beside_each_other(task, batch)
        yield from made


def _beside_each_other(task: Callable[[Item], Made], batch: Sequence[Item]) -> list[Made]:
    """What the task makes of each item; one alone needs no thread of its own."""
    if len(batch) == 1:
        return [task(batch[0])]
    with ThreadPoolExecutor(len(batch)) as pool:
        return list(pool.map(task, batch))


@cache
def _blas() -> ThreadpoolController:
    """The linear algebra that NumPy has loaded."""
    return ThreadpoolController().select(user_api="blas")
