"""How is a pass made shard by shard? In this process, or by workers, in order and with the same bits.

A shard is a fixed number of samples, or of positions to the end of a sample, whoever makes it: what is added
up within one is added up in the same order, and no batch reaches across its end.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, pairwise
from typing import Any, Protocol, TypeVar

import numpy as np

from onnxtweak.data.splits import View
from onnxtweak.engine.passes import Captured, Engine, Folding, capture
from onnxtweak.engine.position_batches import shard_ends
from onnxtweak.engine.shared.by_ranges import AHEAD
from onnxtweak.engine.shared.sending import files_read, opened, packed
from onnxtweak.engine.subject import Subject
from onnxtweak.engine.workers.processes import Call, settings_of_worker
from onnxtweak.types import Neurons, Tap

Made = TypeVar("Made", covariant=True)


class PassWork(Protocol[Made]):
    """A pass: makes one thing of each shard of a view, in order; picklable.

    It runs the model over the whole view and reports to the engine; `captured_shards` does.
    """

    def __call__(self, subject: Subject, view: View, engine: Engine, what: str, /) -> Iterator[Made]: ...


def captured_shards(
    subject: Subject,
    view: View,
    engine: Engine,
    what: str,
    taps: Sequence[Tap] = (),
    neurons: Neurons | None = None,
    folding: Folding = Folding(),
) -> Iterator[Generator[Captured]]:
    """The batches of each shard, as `capture` has them; `folding.every` is set here."""
    size = engine.settings.shard
    batches = capture(subject, view, engine, what, taps, neurons, replace(folding, every=size))
    return in_shards(batches, shard_ends(view, size))


def in_shards(batches: Iterable[Captured], ends: np.ndarray) -> Iterator[Generator[Captured]]:
    """The batches of each shard. Each has to be read to its end before the next one is asked for.

    ends (s,) int64 : as of `shard_ends`.
    """
    last, at, whole = set(ends.tolist()), 0, iter(batches)

    def one(first: Captured) -> Generator[Captured]:
        nonlocal at
        for got in chain((first,), whole):
            at += len(got.rows)
            ended = at in last
            yield got
            if ended:
                return

    for first in whole:
        yield one(first)


def joined(parts: Iterable[Sequence[np.ndarray]]) -> tuple[np.ndarray, ...]:
    """The arrays of several parts of a shard, such as its batches: each the rows of all, in order."""
    return tuple(map(np.concatenate, zip(*parts, strict=True)))


def by_shards(
    work: PassWork[Made], subject: Subject, view: View, engine: Engine, what: str
) -> Iterator[Made]:
    """What a pass makes of each shard of a view, in order; its arrays may change once the next is asked for.

    what : the pass's name. A pass is shared where there are workers, and at least two shards. Raises
    MachineError where workers cannot be started or are lost.
    """
    ends, crew = shard_ends(view, engine.settings.shard), engine.crew
    if crew is None or not crew.wanted or len(ends) < 2:
        yield from work(subject, view, engine, what)
        return
    begin = time.perf_counter()
    with crew.at_work() as workers:
        count = workers.of.processes
        settings = settings_of_worker(engine.settings, count)
        pack = packed((work, subject, view), engine, settings, files_read(subject, view))
        ahead: deque[tuple[Call, int]] = deque()
        engine.progress.start(what, len(view.samples))
        shards = pairwise((0, *ends.tolist()))
        with workers.of.giving(pack) as given:
            while True:
                while len(ahead) < AHEAD * count and (shard := next(shards, None)) is not None:
                    samples = len(View(view.dataset, view.rows[slice(*shard)]).samples)
                    ahead.append((workers.begin(_made, given, *shard), samples))
                if not ahead:
                    break
                call, samples = ahead.popleft()
                with workers.answer(call) as made:
                    yield made
                engine.progress.advance(samples)
        engine.progress.finish()
    engine.stats.passes.append((f"{what}, {count} workers", len(view.samples)))
    engine.stats.seconds[what] = engine.stats.seconds.get(what, 0.0) + time.perf_counter() - begin


def _made(given: Any, start: int, stop: int, borrower: int | None) -> Any:
    """In a worker: what the pass makes of one shard, rows [start, stop) of the view."""
    here = opened(given)
    work, subject, view = here.value
    (made,) = work(subject, View(view.dataset, view.rows[start:stop]), here.engine, "shard")
    return here.hand_over(made, lambda found: found, borrower)
