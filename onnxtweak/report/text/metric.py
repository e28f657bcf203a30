"""What does the text say about metrics: one model's, or the one that was the goal, before and after?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from onnxtweak.intervals import Interval
from onnxtweak.report.markup import counted_in
from onnxtweak.report.text.layout import Block, Heading, Note, TextTable
from onnxtweak.types import AtCut, MetricChange, MetricReading


def reading_blocks(readings: Sequence[MetricReading]) -> Iterator[Block]:
    """A row for each metric of one model."""
    if not readings:
        return
    rows = tuple((one.name, _number(one.value), _between(one.interval)) for one in readings)
    yield Heading(f"Metrics, per 100 {counted_in(one.name for one in readings)}")
    yield TextTable(("metric", "value", "95 % interval"), rows)
    for one in readings:
        if one.at_cut is not None:
            yield Note(f"{one.name}: at the model's own cut {_at_cut(one.at_cut)}")


def change_blocks(made: MetricChange | None) -> Iterator[Block]:
    """The metric of base, patched model and best biases; with a limit, what each does at its own cut."""
    if made is None:
        return
    sides = (("base", made.before), ("tweaked", made.after), ("bias only", made.bias))
    limited = made.after.at_cut is not None
    rows: list[tuple[str, ...]] = []
    for name, one in sides:
        row: tuple[str, ...] = (name, _number(one.value), _between(one.interval))
        if one.at_cut is not None:
            cut = one.at_cut
            row += (_number(cut.recall), _number(cut.rate), _between(cut.interval), _kept(cut))
        rows.append(row)
    head: tuple[str, ...] = ("", "value", "95 % interval")
    head += ("recall at own cut", _rate(made), "95 % interval", "limit") if limited else ()
    yield Heading(f"{made.after.title} ({made.after.name}), per 100 {counted_in([made.after.name])}")
    yield TextTable(head, tuple(rows))


def change_line(made: MetricChange) -> str:
    """One metric before and after, and its limit, for the last line."""
    said = f"{made.after.name} {_number(made.before.value)} -> {_number(made.after.value)}"
    cut = made.after.at_cut
    return said if cut is None else f"{said} (at its own cut {_at_cut(cut)})"


def _at_cut(cut: AtCut) -> str:
    return (
        f"recall {_number(cut.recall)}, {_share(cut)}: the limit is {'' if cut.kept else 'not '}kept"
        " on these samples"
    )


def _share(cut: AtCut) -> str:
    """The rate with its counts, which tell which rate it is."""
    return f"{_number(cut.rate)} ({cut.false:,} false alarms among {cut.samples:,})"


def _rate(made: MetricChange) -> str:
    return "false positives" if made.at_most else "precision"


def _kept(cut: AtCut) -> str:
    return "kept" if cut.kept else "EXCEEDED"


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value * 100:.1f}"


def _between(interval: Interval | None) -> str:
    return "-" if interval is None else f"{interval[0] * 100:.1f} to {interval[1] * 100:.1f}"
