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


def deviations(together: int = 1, drawn: int | None = None) -> float:
    """Standard errors on either side of a 95 % interval, where so many are to hold at once (Bonferroni).

    drawn : how many samples or groups an error is estimated from by drawing them again, 2 at least; None: it
    is known, or from very many. Of few the error itself is uncertain, and too small: Student's distribution,
    and the factor of Bessel.
    """
    z = _Z if together <= 1 else NormalDist().inv_cdf(1 - 0.025 / together)
    if drawn is None:
        return z
    return _student(z, drawn - 1) * math.sqrt(drawn / (drawn - 1))


def _student(z: float, freedom: int) -> float:
    """Where Student's distribution has the probability that the normal one has at z.

    Exact for 1 and 2 degrees of freedom, else within 0.2 % by four terms of Cornish and Fisher
    (Abramowitz and Stegun, 26.7.5).
    """
    tail = 1 - NormalDist().cdf(z)
    if freedom == 1:
        return 1 / math.tan(math.pi * tail)
    if freedom == 2:
        return (1 - 2 * tail) / math.sqrt(2 * tail * (1 - tail))
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))


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
