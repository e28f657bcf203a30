"""Which GPUs answer, and which does `--device` name?"""

from __future__ import annotations

import ctypes
import sys
from functools import cache


@cache
def gpu_count() -> int:
    """How many NVIDIA GPUs the driver shows to this process; 0 without a driver. Needs no CUDA library."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return 0
    found = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(found)) != 0:
        return 0
    return found.value


def gpu_numbers(device: str) -> tuple[int, ...]:
    """The GPUs that a `--device` names, as CUDA numbers them: (0,) for "auto" and "cuda"; () for "cpu"."""
    if device == "cpu":
        return ()
    numbers = device.partition(":")[2]
    return tuple(int(number) for number in numbers.split(",")) if numbers else (0,)
