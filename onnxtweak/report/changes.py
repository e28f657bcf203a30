"""Which classes gain by a patch, and which pay for it? Read from the JSON of a result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from onnxtweak.intervals import Interval, paired
from onnxtweak.quantities import number_of
from onnxtweak.report.markup import between, percent, shortened

_LEAST = 0.0005  # a change that a table with one decimal shows
_NAME = 40


class ClassChange(NamedTuple):
    """One class: its number, name, accuracies as fractions, and, with evidence, the paired interval."""

    number: int
    name: str
    before: float
    after: float
    interval: Interval | None
    target: bool

    @property
    def points(self) -> float:
        """The change in percentage points."""
        return (self.after - self.before) * 100


def class_changes(made: Mapping[str, Any]) -> list[ClassChange]:
    """Every class that has samples, the largest gain first."""
    evidence, targets = made.get("evidence", {}), set(made["targets"])
    counted = evidence.keys() >= {"support", "fixed", "broken"}
    pairs = zip(made["before"]["per_class"], made["after"]["per_class"], strict=True)
    found = []
    for c, (before, after) in enumerate(pairs):
        if before is None or after is None:
            continue
        counts = (evidence[key][c] for key in ("fixed", "broken", "support")) if counted else ()
        name = str(made["classes"][c])
        interval = paired(*counts) if counted else None
        found.append(ClassChange(c, name, before, after, interval, name in targets))
    return sorted(found, key=lambda one: (-one.points, one.number))


def gains_and_losses(made: Mapping[str, Any]) -> tuple[list[ClassChange], list[ClassChange]]:
    """The classes that gain, most first, and those that pay, most first."""
    changes = class_changes(made)
    gains = [one for one in changes if one.after - one.before > _LEAST]
    return gains, [one for one in reversed(changes) if one.before - one.after > _LEAST]


def most_changed(made: Mapping[str, Any], each: int) -> tuple[list[ClassChange], int]:
    """The classes that gain most and those that pay most, so many of each; and how many more change."""
    gains, losses = gains_and_losses(made)
    found = [*gains[:each], *reversed(losses[:each])]
    return found, len(gains) + len(losses) - len(found)


def cells(one: ClassChange, longest: int) -> tuple[str, ...]:
    """Name, accuracies, points and interval of a class in a table. longest : characters of the name."""
    shares = percent(one.before), percent(one.after)
    return shortened(one.name, longest), *shares, f"{one.points:+.1f}", between(one.interval, sign=True)


def measure_of(made: Mapping[str, Any]) -> str:
    """What is measured of each class: accuracy, or F1 where a sample has several labels at once."""
    return str(made["after"].get("measure") or "accuracy")


def in_a_sentence(made: Mapping[str, Any], most: int = 3) -> str:
    """Who gains and who pays, the targets first among those that gain; not yet escaped."""
    gains, losses = gains_and_losses(made)
    gains.sort(key=lambda one: not one.target)
    said = [_listed("gain", gains, most), _listed("pay", losses, most) or "no class pays"]
    return "; ".join(filter(None, said))


def _listed(verb: str, changes: list[ClassChange], most: int) -> str:
    if not changes:
        return ""
    named = ", ".join(f"{shortened(one.name, _NAME)} ({one.points:+.1f})" for one in changes[:most])
    more = f" and {len(changes) - most:,} more" if len(changes) > most else ""
    classes = number_of(len(changes), "class")
    return f"{classes} {verb}{'s' if len(changes) == 1 else ''}: {named}{more}"
