"""Which array library trains on tables: NumPy or CuPy?"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from onnxtweak.engine.backends import Backend


def array_module(backend: Backend) -> ModuleType:
    """CuPy where theta's arithmetic is on a GPU, else NumPy."""
    if backend.name != "cupy":
        return np
    import cupy

    return cupy
