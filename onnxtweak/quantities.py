"""How is a quantity written, and which may it be? The same in options, in recipes and in Python."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from numbers import Real

_UNITS = {"": 1, "b": 1} | {
    f"{prefix}{suffix}": base**power
    for power, prefix in enumerate("kmgt", start=1)
    for suffix, base in (("", 1024), ("b", 1000), ("ib", 1024))
}


@dataclass(frozen=True)
class Range:
    """The values that a number may have; None: no limit. most is allowed, above and below are not.

    option : its word on the command line, where that is not the setting's.
    """

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    option: str | None = None

    def require(self, value: float) -> None:
        """Raise ValueError, saying why, for a number that it may not be, and for what is none."""
        if isinstance(value, bool) or not isinstance(value, Real):
            raise ValueError(f"{value!r} is not a number")
        if not math.isfinite(value):
            raise ValueError(f"{value} is not a finite number")
        for wrong, words, limit in (
            (self.least is not None and value < self.least, "less than", self.least),
            (self.above is not None and value <= self.above, "not greater than", self.above),
            (self.most is not None and value > self.most, "greater than", self.most),
            (self.below is not None and value >= self.below, "not less than", self.below),
        ):
            if wrong:
                shown = f"{value:.15g}" if isinstance(value, float) else value  # whole ones as written
                raise ValueError(f"{shown} is {words} {limit}")

    def __str__(self) -> str:
        parts = [
            f"{word} {limit:,}"
            for word, limit in (
                ("at least", self.least),
                ("greater than", self.above),
                ("at most", self.most),
                ("less than", self.below),
            )
            if limit is not None
        ]
        return " and ".join(parts) or "finite"


def number_of(count: int, noun: str) -> str:
    """`1 sample`, `2,000 samples`. noun : in the singular."""
    plural = noun + ("es" if noun.endswith(("s", "x", "ch")) else "s")
    return f"{count:,} {noun if count == 1 else plural}"


def number(text: str) -> float:
    """`0.5`, `1e-3`, `1/255`. Raises ValueError that says what is wrong."""
    above, slash, below = text.partition("/")
    try:
        found = float(above) / float(below) if slash else float(above)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{text.strip()!r} is not a number") from None
    if not math.isfinite(found):
        raise ValueError(f"{text.strip()!r} is not a finite number")
    return found


def plain_number(text: str) -> float:
    """A number as a model's input takes it: like `number`, whole where it is; `true` is 1, `false` is 0."""
    word = text.strip().lower()
    if word in ("true", "false"):
        return int(word == "true")
    found = number(text)
    return int(found) if found.is_integer() else found


def size(text: str) -> int:
    """Bytes: `4GiB`, `500MB`, `1.5g`; a bare number is in bytes, a bare letter is a binary unit."""
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([a-zA-Z]*)\s*", text)
    unit = _UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise ValueError(f"{text!r} is not a size; write it like 4GiB or 500MB")
    found = int(float(match[1]) * unit)
    if found < 1:
        raise ValueError(f"{text!r} is less than one byte")
    return found


def height_width(text: str) -> tuple[int, int]:
    """`HxW` in pixels, or one number for a square: `224x224`, `32`."""
    match = re.fullmatch(r"([1-9][0-9]*)(?:[x×X]([1-9][0-9]*))?", text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a height and width; write it like 224x224")
    return int(match[1]), int(match[2] or match[1])
