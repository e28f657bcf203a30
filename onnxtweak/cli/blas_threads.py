"""How many cores may NumPy take?"""

from __future__ import annotations

import os

# What linear algebra, of whichever make, asks for its threads when NumPy is loaded.
_ASKED = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def bound_arithmetic(threads: int) -> None:
    """Linear algebra takes no more threads than runs do, unless the environment says how many.

    It would take all cores, and where others need them its threads wait for each other. Without effect once
    NumPy is loaded.
    """
    for name in _ASKED:
        os.environ.setdefault(name, str(threads))
