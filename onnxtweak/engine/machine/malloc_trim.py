"""Which memory does the C library still hold that nobody uses any more?"""

from __future__ import annotations

import ctypes
import sys


def malloc_trim() -> None:
    """Return freed memory to the system, where the C library can be asked to.

    Weights that were parsed, copied and freed leave holes that every further session would widen.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone
        if trim is not None:
            trim(0)
