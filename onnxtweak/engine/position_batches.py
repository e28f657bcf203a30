"""How does a pass over rows run, where a sample has a row for each position? Sample by sample, rows picked.

A view names positions; the samples they are of are run, and of what that gives the named rows are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxtweak.data.splits import View
from onnxtweak.engine.machine.memory_plan import BatchPlan
from onnxtweak.engine.subject import Subject, filled


@dataclass(frozen=True)
class PositionBatch:
    """Some samples of a pass.

    feeds : inputs by name, as the model takes them. rows (r,) int64 : of the view, ascending.
    local (r,) int64 : the same, counted within the batch. samples : how many, without those that fill it up.
    """

    feeds: Mapping[str, Any]
    rows: np.ndarray
    local: np.ndarray
    samples: int


def position_batches(
    subject: Subject, view: View, plan: BatchPlan, names: list[str], threads: int
) -> Iterator[PositionBatch]:
    """The samples of a view, batch by batch, with the rows wanted of each. names : inputs to be fed."""
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
        own = int(view.dataset.by_part.positions_of(chunk[:1])[0])
        local = np.searchsorted(chunk, of_row[span]) * own + rows % positions
        size = plan.batch if plan.fixed else len(chunk)
        whole = {name: filled(value, size) for name, value in feeds.items()}
        yield PositionBatch(subject.feeding.fed(whole, names), rows, local, len(chunk))
