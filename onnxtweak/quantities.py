"""How is a quantity written: a number, a size, a height and width? The same in options and in recipes."""

from __future__ import annotations

import math
import re

_UNITS = {"": 1, "b": 1} | {
    f"{prefix}{suffix}": base**power
    for power, prefix in enumerate("kmgt", start=1)
    for suffix, base in (("", 1024), ("b", 1000), ("ib", 1024))
}


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
