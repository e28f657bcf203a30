"""How do many workers add up what each finds for very many neurons? Every worker merges a range of them.

One receiver of everything would be the limit: what it is sent grows with the shards, and the workers wait.
Here a shard's result is cut by neurons, and each worker is sent its own range by all others (a
reduce-scatter). Ranges are merged in the order of the shards, so the bits are those of a single process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from onnxtweak.engine.machine.memory_plan import Block, TapSlice

if TYPE_CHECKING:
    from onnxtweak.engine.workers.dask_cluster import DaskWorkers

# Shards in flight per worker: enough to keep workers busy, few enough to fit into memory.
AHEAD = 2
# Shards that are merged by one call, at least: it copies what was merged before, as it may be made again.
_TOGETHER = 4
# Bytes of a range, at least: each one of a shard is a call, which takes the scheduler a millisecond or two.
_LEAST = 1 << 26
# Neurons at whose multiples ranges begin, where there are enough of them.
_WHOLE = 1024


def ranges_of(block: Block, workers: int, bytes_each: int) -> list[Block]:
    """A block cut into consecutive ranges of about as many neurons, one for each worker or fewer.

    bytes_each : what a shard sends of a neuron.
    """
    neurons = sum(map(len, block))
    count = min(workers, max(neurons * bytes_each // _LEAST, 1))
    each = -(-neurons // count)
    if each > _WHOLE:
        each += -each % _WHOLE
    found: list[list[TapSlice]] = [[]]
    left = each
    for tap_slice in block:
        start = tap_slice.start
        while start < tap_slice.stop:
            if not left:
                found.append([])
                left = each
            stop = min(start + left, tap_slice.stop)
            number = tap_slice.number + start - tap_slice.start
            found[-1].append(TapSlice(tap_slice.tap, start, stop, number))
            left -= stop - start
            start = stop
    return [tuple(part) for part in found]


def merged_by_range(
    workers: DaskWorkers,
    shards: Iterable[Callable[[], Any]],
    merge: Callable[[Any, Sequence[Any]], Any],
    merged: list[Any],
    take: Callable[[Any], None],
    save: Callable[[], None] = lambda: None,
) -> None:
    """Merge what calls find, range by range, each in the order of the shards.

    shards : each begins a call and returns its future, of a list: a part for each range, and last what this
    process wants to see. merge : of what was merged and some parts makes what they come to; it must change
    neither, for the call may be made again. merged : futures of what each range begins with, or None; then of
    what it comes to. take : is handed what this process wants of each shard, in order. save : is called where
    `merged` holds all that was taken.
    """
    ahead: deque[Any] = deque()
    together: list[Any] = []
    begun: deque[list[Any]] = deque()

    def join() -> None:
        places = workers.places()
        cut = [workers.items(shard, len(merged)) for shard in together]
        for k, before in enumerate(merged):
            place = places[k % len(places)] if places else None
            merged[k] = workers.submit(_merged, merge, before, [parts[k] for parts in cut], place=place)
        together.clear()
        begun.append(list(merged))
        if len(begun) > 1:  # results that wait to be merged take memory
            workers.wait(begun.popleft())
        save()

    def take_next() -> None:
        shard = ahead.popleft()
        take(workers.result(workers.submit(itemgetter(len(merged)), shard)))
        together.append(shard)
        if len(together) >= max(_TOGETHER, workers.processes // 2):
            join()

    for begin in shards:
        ahead.append(begin())
        if len(ahead) > AHEAD * workers.processes:
            take_next()
    while ahead:
        take_next()
    if together:
        join()


def _merged(merge: Callable[[Any, Sequence[Any]], Any], before: Any, parts: Sequence[Any]) -> Any:
    return merge(before, parts)
