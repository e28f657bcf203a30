"""How far can an accuracy, or a change of it, be trusted? 95 % confidence intervals from counts."""

from __future__ import annotations

import math
from statistics import NormalDist

_Z = 1.959963984540054  # the normal's 97.5 % point

Interval = tuple[float, float]


def wilson(right: float, samples: float) -> Interval | None:
    """Wilson's score interval of an accuracy, as fractions; None without samples."""
    if samples <= 0:
        return None
    share, z2 = right / samples, _Z * _Z
    centre = (share + z2 / (2 * samples)) / (1 + z2 / samples)
    half = _Z * math.sqrt(share * (1 - share) / samples + z2 / (4 * samples**2)) / (1 + z2 / samples)
    return max(0.0, centre - half), min(1.0, centre + half)


def deviations(together: int = 1) -> float:
    """Standard errors on either side of a 95 % interval, where so many are to hold at once (Bonferroni)."""
    return _Z if together <= 1 else NormalDist().inv_cdf(1 - 0.025 / together)


def paired(fixed: float, broken: float, samples: float, together: int = 1) -> Interval | None:
    """Interval of the change in accuracy when the same samples are judged twice (Bonett and Price 2012).

    As fractions; one sample is added to those fixed and to those broken. None without samples. together : how
    many such intervals are to hold at once with 95 % (Bonferroni), as where the worst of them is looked for.
    Counts need not be whole: where samples depend on one another they count for fewer (a design effect).
    """
    if samples <= 0:
        return None
    gained, lost = (fixed + 1) / (samples + 2), (broken + 1) / (samples + 2)
    z = deviations(together)
    half = z * math.sqrt(max(0.0, gained + lost - (gained - lost) ** 2) / (samples + 2))
    return max(-1.0, gained - lost - half), min(1.0, gained - lost + half)
