"""How did each class do? One row with a picture per class, sorted by change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onnxtweak.intervals import wilson
from onnxtweak.report.changes import ClassChange, class_changes
from onnxtweak.report.markup import between, change, percent, safe, section, shortened, table
from onnxtweak.report.page.charts import dumbbell

_ROWS = 40  # classes that are seen at once; the others unfold

_HEAD = ["class", "samples", "base → tweaked", "base", "tweaked", "change", "bias only"]
_SAID = (
    "{counted} in percent, largest gain first, targets in bold. The grey dot is the base, the coloured one "
    "the tweaked model{sure}. The lines run from {least:.0f} to 100 %."
)
_SURE = ", with its 95 % Wilson interval as a thin line; below each change is its paired interval"
_RANKED = ["average precision, base", "tweaked"]  # of several labels at once


def class_table(made: Mapping[str, Any], evidence: Mapping[str, Any]) -> str:
    """A section; if there are many classes, those that changed least are folded."""
    changes = class_changes(made)
    if not changes:
        return ""
    least = min(0.9, int(min(min(one.before, one.after) for one in changes) * 10) / 10)
    half = _ROWS // 2
    if len(changes) > _ROWS:  # the most telling ones first: gains, then losses, then what is between
        changes = [*changes[:half], *changes[-half:], *changes[half:-half]]
    rows = [_row(one, made, evidence, least) for one in changes]
    several = "average_precision" in made["before"]
    counted = "F1" if several else "Agreement with the reference" if made.get("matched") else "Accuracy"
    head, numbers = (_HEAD + _RANKED, 6) if several else (_HEAD, 4)
    return section(
        "Classes",
        '<p class="elsewhere" hidden></p>',
        foldable_table(head, rows, [one.number for one in changes], numbers=numbers, least=least),
        said=_SAID.format(counted=counted, sure="" if several else _SURE, least=least * 100),
    )


def foldable_table(
    head: list[str], rows: list[list[str]], classes: Sequence[int], *, numbers: int, least: float = 0
) -> str:
    """A table of classes that the script can sort and search; without it, rows beyond the first few unfold.

    classes : the number of each row's class. least : where lines in it begin.
    """
    folded = len(rows) > _ROWS
    marks = [
        f' data-c="{int(c)}"{" class=more" if folded and k >= _ROWS else ""}' for k, c in enumerate(classes)
    ]
    made = table(head, rows, numbers, "classes workable", marks)
    made = made.replace("<table ", f'<table data-least="{least:g}" ', 1)
    search = (
        '<p class="search" hidden><label>Find a class <input type="search" autocomplete="off"></label> '
        '<output class="found"></output></p>'
    )
    if not folded:
        return search + made
    return (
        f'{search}<input type="checkbox" class="unfold" id="unfold">'
        f'<label for="unfold">show all {len(rows):,} classes</label>{made}'
    )


def _row(one: ClassChange, made: Mapping[str, Any], evidence: Mapping[str, Any], least: float) -> list[str]:
    c, interval = one.number, (one.after, one.after)
    name, moved = f"<bdi>{safe(shortened(one.name, 60))}</bdi>", change(one.before, one.after)
    support = f"{evidence['support'][c]:,}" if "support" in evidence else ""
    if one.interval is not None:
        samples = evidence["support"][c]
        interval = wilson(round(one.after * samples), samples) or interval
        moved += f"<br><small>{between(one.interval, sign=True)}</small>"
    return [
        f"<b>{name}</b>" if one.target else name,
        support,
        dumbbell(one.before, one.after, interval, least),
        percent(one.before),
        percent(one.after),
        moved,
        percent(made["bias_control"]["per_class"][c]),
        *(percent(each[c]) for key in ("before", "after") if (each := made[key].get("average_precision"))),
    ]
