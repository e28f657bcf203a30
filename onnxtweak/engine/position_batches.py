"""How does a pass over rows run, where a sample has a row for each position? Sample by sample, rows picked.

A view names positions; the samples they are of are run, and of what that gives the named rows are kept.
No sample is run for two shards: a shard ends where a sample does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from onnxtweak.data.samples import Part
from onnxtweak.data.splits import View
from onnxtweak.engine.machine.memory_plan import BatchPlan
from onnxtweak.engine.subject import Subject, filled
from onnxtweak.errors import DataError


@dataclass(frozen=True)
class PositionBatch:
    """Some samples of a pass.

    feeds : inputs by name, as the model takes them. rows (r,) int64 : of the view, ascending.
    local (r,) int64 : the same, counted within the batch. samples : how many, without those that fill it up.
    run : how many, with those. positions : of each. part : of the data set, which they are of.
    """

    feeds: Mapping[str, Any]
    rows: np.ndarray
    local: np.ndarray
    samples: int
    run: int
    positions: int
    part: Part

    def require(self, rows: int) -> None:
        """Raise DataError where the model has not as many rows of scores for the batch as are counted on.

        Of most sizes it is the labels that say how many there are.
        """
        if rows != self.run * self.positions:
            raise not_at(self.part, self.positions, rows // self.run)


def not_at(part: Part, given: int, positions: int) -> DataError:
    """The error for labels of a part at other positions than the scores of its samples have."""
    sample = next(column for column in part.columns.values() if column.shape).locate(part.start)
    return DataError(
        f"there is a label at each of {given:,} positions, and the model has scores at {positions:,}",
        where=f"{part.label_where}: {sample}",
        hint="give labels of the size of the scores for each sample",
    )


def shard_ends(view: View, size: int) -> np.ndarray:
    """Where the shards of a view end, ascending, in rows (s,) int64: each has `size` rows, or a few more.

    At positions it goes on to the end of the sample that it has begun. What is left of a view when some of
    its shards are done has the same ends.
    """
    if not view.dataset.sizes:
        return np.minimum(np.arange(size, len(view) + size, size), len(view))
    of_row, ends, at = view.rows // view.dataset.positions, [], 0
    while at < len(of_row):
        last = min(at + size, len(of_row)) - 1
        at = int(np.searchsorted(of_row, of_row[last], side="right"))
        ends.append(at)
    return np.array(ends, np.int64)


def position_batches(
    subject: Subject, view: View, plan: BatchPlan, names: list[str], threads: int, every: int | None = None
) -> Iterator[PositionBatch]:
    """The samples of a view, batch by batch, with the rows wanted of each.

    names : inputs to be fed. every : rows of a shard, across whose end no batch reaches; None: no shards.
    """
    for start, stop in pairwise((0, *shard_ends(view, every or max(len(view), 1)))):
        yield from _batches(subject, View(view.dataset, view.rows[start:stop]), plan, names, threads)


def _batches(
    subject: Subject, view: View, plan: BatchPlan, names: list[str], threads: int
) -> Iterator[PositionBatch]:
    """The batches of one shard."""
    # A row counts the positions of the largest sample; the model gives those that a sample has.
    positions, samples = view.dataset.positions, view.samples
    of_row = view.rows // positions
    ends = np.searchsorted(of_row, samples, side="right")
    done = at = 0
    for feeds, _, chunk in view.dataset.batches(samples, plan.batch, threads=threads):
        done += len(chunk)
        span = slice(at, int(ends[done - 1]))
        at = span.stop
        rows = view.rows[span]
        part = view.dataset.parts[int(view.dataset.by_part.of(chunk[:1])[0])]
        own = int(view.dataset.by_part.positions_of(chunk[:1])[0])
        local = np.searchsorted(chunk, of_row[span]) * own + rows % positions
        size = plan.batch if plan.fixed else len(chunk)
        whole = {name: filled(value, size) for name, value in feeds.items()}
        fed = subject.feeding.fed(whole, names)
        yield PositionBatch(fed, rows, local, len(chunk), size, own, part)
