"""How are sums over very many rows made, again and again? Chunk by chunk, here or by workers that hold them.

A chunk is a fixed number of rows, whoever holds it, and is summed by one core; the chunks are added up in
their order. So the bits do not depend on the workers, nor on the cores. Rows are sent once; a call sends what
is new, and gets sums back. Those that died with a worker are sent to another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from onnxtweak.engine.machine.single_thread import one_thread_for_good, side_by_side
from onnxtweak.errors import MachineError

if TYPE_CHECKING:
    from onnxtweak.engine.workers.dask_cluster import DaskWorkers
    from onnxtweak.engine.workers.processes import Crew

# Rows of a chunk: enough for products to take their time, few enough that all cores of several machines
# have some.
ROWS = 16_384
# How often rows are sent again before it is given up.
_TRIES = 5


@dataclass(frozen=True)
class HeldChunks:
    """A value for each chunk. futures : of those that workers hold; empty: they are here."""

    values: Sequence[Any]
    futures: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Chunks:
    """Where the chunks are. crew : on other machines; None: here. used : said of it, filled as they are."""

    crew: Crew | None = None
    used: set[str] = field(default_factory=set, compare=False, repr=False)

    def hold(self, values: Sequence[Any]) -> HeldChunks:
        """A value for each chunk, where its sums are made."""
        if self.crew is None:
            return HeldChunks(values)
        with self.crew.at_work() as workers:
            assert workers.dask is not None  # no others are elsewhere
            return HeldChunks(values, [_sent(workers.dask, value, g) for g, value in enumerate(values)])

    def each(self, function: Callable[..., Any], held: Sequence[HeldChunks], news: Any) -> Iterator[Any]:
        """`function(*values, news)` of each chunk, in their order.

        function : of a module; whatever it is given it leaves as it is. Raises MachineError where all workers
        are lost.
        """
        numbers = range(len(held[0].values))
        if self.crew is None:
            yield from side_by_side(
                lambda g: function(*(one.values[g] for one in held), news), numbers, len(numbers)
            )
            return
        with self.crew.at_work() as workers:
            dask = workers.dask
            assert dask is not None
            self.used.add(f"{dask.processes} workers")
            given = dask.spread(news)

            def begun(g: int) -> Any:
                return dask.submit(_alone, function, *(one.futures[g] for one in held), given)

            calls = [begun(g) for g in numbers]
            for g in numbers:
                for _ in range(_TRIES):
                    found = dask.result_unless_lost(calls[g], [one.futures[g] for one in held])
                    if found is not None:
                        break
                    for one in held:
                        one.futures[g] = _sent(dask, one.values[g], g)
                    calls[g] = begun(g)
                else:
                    raise MachineError(
                        f"workers were lost {_TRIES} times while they learnt",
                        hint="see why in their logs, or leave --scheduler out",
                    )
                calls[g] = None  # what it found is large
                yield found


def cut(rows: int) -> list[slice]:
    """The chunks of so many rows."""
    return [slice(start, min(start + ROWS, rows)) for start in range(0, rows, ROWS)]


def _sent(dask: DaskWorkers, value: Any, chunk: int) -> Any:
    """The future of a value that a worker now holds."""
    for attempt in range(_TRIES):
        places = dask.places()
        if not places:
            break
        future = dask.hold(value, places[(chunk + attempt) % len(places)])
        if future is not None:
            return future
    raise MachineError("no worker takes the rows to learn from", hint="start workers again")


def _alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """In a worker: what one core makes of it."""
    one_thread_for_good()
    return function(*arguments)
