"""How does freed memory get back to the system? By `malloc_trim` of the C library."""

from __future__ import annotations

import ctypes
import sys


def malloc_trim() -> None:
    """Return freed memory to the system, where the C library can.

    Weights that were parsed, copied and freed leave holes, and every further session would add some.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only glibc has it
        if trim is not None:
            trim(0)
