"""How well does a model do on each group of samples? One table for each column of groups, worst first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from onnxtweak.quantities import number_of
from onnxtweak.report.text.layout import Block, Heading, Note, TextTable
from onnxtweak.types import GroupMetrics

_ROWS = 30  # groups that get a row; if there are more, the worst do


def group_blocks(groups: Sequence[GroupMetrics], unit: str) -> Iterator[Block]:
    """groups, unit : as in `Evaluation`."""
    for column, found in groupby(groups, lambda group: group.column):
        listed = list(found)
        yield Heading(f"Accuracy by `{column}`, in percent, worst first")
        yield TextTable(
            (column, unit, "accuracy", "95 % interval", ""), tuple(map(_row, listed[:_ROWS])), left=1
        )
        if len(listed) > _ROWS:
            yield Note(f"better: {number_of(len(listed) - _ROWS, 'other group')}; -f json lists them all")
        if any(group.few for group in listed):
            yield Note(f"groups with few samples are marked: their accuracy by `{column}` says little")


def _row(group: GroupMetrics) -> tuple[str, ...]:
    low, high = group.interval
    return (
        group.name,
        f"{group.samples:,}",
        f"{group.accuracy * 100:.1f}",
        f"{low * 100:.1f} to {high * 100:.1f}",
        "few samples" if group.few else "",
    )
