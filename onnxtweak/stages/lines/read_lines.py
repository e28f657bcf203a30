"""What is read in each line of text, before and after? Error rates of greedy CTC decoding, line by line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from onnxtweak.data.splits import View
from onnxtweak.engine.answer.shown import ShownClasses
from onnxtweak.head import Readout
from onnxtweak.method.metrics import metric_change, read_metric
from onnxtweak.metric.lines import CHARACTERS, LINES, WORDS, LinesRead
from onnxtweak.types import MetricChange, MetricReading


@dataclass(frozen=True, eq=False)
class _LinesOfView:
    """What stands in the lines of a view, and what is read.

    groups (N,) int64 : of lines; None: each for itself.
    """

    made: LinesRead
    groups: np.ndarray | None

    @classmethod
    def of(cls, view: View, numbers: np.ndarray, column: str | None) -> _LinesOfView | None:
        """None where the view has no lines. numbers (n,) int64 : of the model's own classes, at positions."""
        lines, data = view.dataset.lines, view.dataset
        own = data.by_part.positions_of(np.arange(len(data)))
        found = [] if lines is None else [*lines.read(view.rows, numbers, data.positions, own)]
        if not found:
            return None
        starts, texts, read = zip(*found, strict=True)
        groups = None if column is None else view.groups(column)
        return cls(LinesRead.of(texts, read), None if groups is None else groups[list(starts)])


def line_readings(view: View, numbers: np.ndarray, column: str | None) -> tuple[MetricReading, ...]:
    """Error rates by character and by word, and lines that are right; nothing where there are no lines.

    numbers (N,) int64 : shown, of the model's own classes. column : by which samples belong together.
    """
    read = _LinesOfView.of(view, numbers, column)
    if read is None:
        return ()
    return tuple(read_metric(each, read.made, read.groups) for each in (CHARACTERS, LINES, WORDS))


@dataclass(frozen=True, eq=False)
class ShownBeside:
    """What base, file and the base with the best biases show at the positions of a view.

    bias (N,) int64 : classes.
    """

    base: ShownClasses
    tweaked: ShownClasses
    bias: np.ndarray

    def numbers(self, readout: Readout | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same as numbers of the model's own classes; of the rest, what the base shows where it does."""
        numbers = self.bias
        if readout is not None and readout.rest:
            own = np.append(np.array(readout.source, np.int64), -1)[self.bias]
            numbers = np.where((own < 0) & (self.base.classes == self.bias), self.base.numbers, own)
        return self.base.numbers, self.tweaked.numbers, numbers


def changes_of_lines(
    view: View, readout: Readout | None, shown: ShownBeside, column: str | None
) -> tuple[MetricChange, ...]:
    """What became of each error rate; nothing where there are no lines. column : as of `line_readings`."""
    before, after, bias = (_LinesOfView.of(view, each, column) for each in shown.numbers(readout))
    if before is None or after is None or bias is None:
        return ()
    made = before.made, after.made, bias.made
    return tuple(metric_change(each, made, before.groups) for each in (CHARACTERS, LINES, WORDS))


def said_of_lines(changes: tuple[MetricChange, ...], *, of_all: bool = False) -> Iterator[str]:
    """A note on each rate, but for the first, which a verdict is about, unless `of_all`."""
    for change in changes if of_all else changes[1:]:
        before, after, gain = change.before, change.after, change.interval
        between = "" if gain is None else f", better by {gain[0]:.1f} to {gain[1]:.1f} points"
        yield f"{after.title}: {before.value:.1%} -> {after.value:.1%}{between}"
