"""How does a verdict read: its headline, a row for each promise, and what else is to be said of it?

Drawn from its JSON, so that a result just made and one read back look alike. `onnxtweak.verdict` says what
the words mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from onnxtweak.report.markup import shortened
from onnxtweak.verdict import BIAS, COPY, KEPT, NOT_KEPT, NOT_SHOWN

COPIED = "a copy of the base: nothing was changed"
NO_LIMIT = "no limit"  # of the class that pays, where none was asked

_NAME = 40  # characters of a class's name


class PromiseRow(NamedTuple):
    """One row: state, or `NO_LIMIT`; whether a loss is beyond chance; what was promised, and the same with
    the class that it is about; figures in points."""

    state: str
    surely: bool
    asked: str
    said: str
    change: str
    interval: str


def headline(verdict: Mapping[str, Any]) -> str:
    """One line, the worst first."""
    if verdict["state"] == COPY:
        return COPIED
    states = [promise["state"] for promise in verdict["promises"]]
    counts = [(states.count(state), state) for state in (NOT_KEPT, NOT_SHOWN, KEPT) if state in states]
    (first, state), *others = counts
    promises = "promise" if len(states) == 1 else "promises"
    said = f"{first} of {len(states)} {promises} {state}" if others else f"{first} {promises} {state}"
    said += "".join(f", {count} {state}" for count, state in others)
    return f"a bias alone, {said}" if verdict["answer"] == BIAS else said


def rows(verdict: Mapping[str, Any]) -> list[PromiseRow]:
    """The promises, what would be regretted first; without a limit for classes, the class that pays too."""
    found = [_row(promise, verdict["worst"]) for promise in verdict["promises"]]
    worst, names = verdict["worst"], {promise["name"] for promise in verdict["promises"]}
    if worst is not None and "classes" not in names:
        asked = "the class that pays most"
        said = f"{asked}: {shortened(worst['name'], _NAME)}"
        figures = _points(worst["change"]), _between(worst["interval"])
        row = PromiseRow(NO_LIMIT, worst["surely"], asked, said, *figures)
        # A class that surely lost is said before what was kept; a loss that may be chance, after.
        place = sum(row.state == NOT_KEPT for row in found) if worst["surely"] else len(found)
        found.insert(place, row)
    return found


def remarks(verdict: Mapping[str, Any]) -> Iterator[str]:
    """What the figures do not say, in sentences."""
    yield from verdict["cautions"]
    for promise in verdict["promises"]:
        if promise["detail"]:
            yield f"{promise['asked']}: {promise['detail']}"


def _row(promise: Mapping[str, Any], worst: Mapping[str, Any] | None) -> PromiseRow:
    said = promise["asked"]
    if promise["name"] == "classes" and worst is not None:
        said += f"; worst: {shortened(worst['name'], _NAME)}"
    state, figures = promise["state"], (_points(promise["change"]), _between(promise["interval"]))
    return PromiseRow(state, state == NOT_KEPT, promise["asked"], said, *figures)


def _points(change: float | None) -> str:
    return "-" if change is None else _signed(change)


def _between(interval: Any) -> str:
    return "-" if interval is None else f"{_signed(interval[0])} to {_signed(interval[1])}"


def _signed(points: float) -> str:
    """What rounds to nothing has no minus sign."""
    return f"{round(points, 1) + 0.0:+.1f}"
