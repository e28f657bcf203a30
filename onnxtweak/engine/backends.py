"""Which of theta's back ends does the arithmetic?"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from onnxtweak.errors import MachineError
from onnxtweak.settings import EngineSettings


@dataclass(frozen=True)
class Backend:
    """The folds of theta (see `onnxtweak.theta.numpy_backend`) and their name.

    find_survivors : None where counts take a second sweep over the wrong target samples instead.
    """

    name: str
    fold_limits: Callable[..., None]
    fold_sums: Callable[..., None]
    fold_wanted: Callable[..., None]
    find_survivors: Callable[..., tuple] | None = None


def open_backend(engine: EngineSettings) -> Backend:
    """The back end that was asked for; "auto" is Numba on the CPU. Raises MachineError when it is missing."""
    if engine.backend == "numpy":
        from onnxtweak.theta import numpy_backend as chosen

        return Backend("numpy", *_folds(chosen))
    if engine.backend == "cupy":
        raise MachineError(
            "theta does not run on a GPU yet", where="--backend cupy", hint="use --backend numba"
        )
    from onnxtweak.theta import numba_backend as chosen

    pool = ThreadPoolExecutor(engine.threads or os.cpu_count() or 1, thread_name_prefix="theta")
    return Backend("numba", *(partial(fold, pool=pool) for fold in _folds(chosen)))


def _folds(module) -> tuple[Callable, ...]:
    return module.fold_limits, module.fold_sums, module.fold_wanted, module.find_survivors
