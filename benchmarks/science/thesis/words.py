"""How do numbers become sentences?"""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

from benchmarks.science.thesis.tables import interval


def flow(text: str) -> str:
    """A paragraph without the line breaks of the source."""
    return " ".join(text.split())


def difference(values: Sequence[float], times: float = 100.0) -> str:
    """One difference a seed: mean, in points where shares are compared, and whether it is clear of 0."""
    mean, half = (v * times for v in interval(values))
    if isnan(half):
        return "not reached" if isnan(mean) else f"{mean:+.1f} in one seed"
    sure = "" if abs(mean) > half else " (not clear of 0)"
    return f"{mean:+.1f} ± {half:.1f}{sure}"


def verdict(values: Sequence[float], more: str, less: str, neither: str) -> str:
    """Which of three texts holds for differences, one a seed: clearly above 0, clearly below, or neither."""
    mean, half = interval(values)
    if abs(mean) > half:
        return more if mean > 0 else less
    return neither
