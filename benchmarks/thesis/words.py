"""How do numbers become sentences?"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.thesis.tables import interval


def flow(text: str) -> str:
    """A paragraph without the line breaks of the source."""
    return " ".join(text.split())


def difference(values: Sequence[float], times: float = 100.0) -> str:
    """One difference a seed: mean, in points where shares are compared, and whether it is clear of 0."""
    mean, half = (v * times for v in interval(values))
    sure = "" if abs(mean) > half else " (not clear of 0)"
    return f"{mean:+.1f} ± {half:.1f}{sure}"
