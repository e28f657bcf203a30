"""Which of theta's back ends does the arithmetic: NumPy, Numba or CuPy?"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from onnxtweak.engine.machine.gpu import gpu_count, gpu_numbers
from onnxtweak.errors import MachineError
from onnxtweak.settings import EngineSettings
from onnxtweak.theta.backend import Backend


def _numpy(settings: EngineSettings) -> Backend:
    from onnxtweak.theta.numpy_backend import NumpyBackend

    return NumpyBackend()


def _numba(settings: EngineSettings) -> Backend:
    from onnxtweak.theta.numba_backend import NumbaBackend

    if _forbids_compiling():
        if settings.backend == "numba":
            raise MachineError(
                "Numba does not compile where NUMBA_DISABLE_JIT is set",
                where="--backend numba",
                hint="unset it, or use --backend numpy",
            )
        warnings.warn(
            "NUMBA_DISABLE_JIT is set: scores are computed by NumPy, which is many times slower", stacklevel=1
        )
        return _numpy(settings)
    return NumbaBackend(settings.cores)


def _forbids_compiling() -> bool:
    """Whether Numba compiles nothing here. It is loaded only where somebody may have said so."""
    if os.environ.get("NUMBA_DISABLE_JIT", "0") == "0" and not Path(".numba_config.yaml").exists():
        return False
    from onnxtweak.theta.numba.compiled import compilable

    return not compilable()


def _cupy(settings: EngineSettings) -> Backend:
    number = _gpu_number(settings)
    trouble = why_no_cupy(number)
    if trouble is None:
        return _on_gpu(number)
    what, hint = trouble
    raise MachineError(what, where="--backend cupy", hint=hint)


# A new back end is one file under `theta` and one line here (and its name among the choices of `--backend`).
_OPENERS: dict[str, Callable[[EngineSettings], Backend]] = {"numpy": _numpy, "numba": _numba, "cupy": _cupy}


def open_backend(settings: EngineSettings) -> Backend:
    """The back end that the settings name; "auto": CuPy where a GPU may be used and works, else Numba.

    Where NUMBA_DISABLE_JIT forbids compiling, NumPy takes Numba's place, with a warning. Raises MachineError
    when "cupy" or "numba" is named and cannot be used.
    """
    if settings.backend != "auto":
        return _OPENERS[settings.backend](settings)
    if settings.device != "cpu" and why_no_cupy(_gpu_number(settings)) is None:
        return _on_gpu(_gpu_number(settings))
    return _numba(settings)


def why_no_cupy(number: int) -> tuple[str, str] | None:
    """What keeps theta from running on this GPU, and what to do about it; None when it does run there.

    That CuPy is installed and that a GPU answers are different facts; whether they fit each other is known
    once a kernel has been compiled and its result is right.
    """
    if find_spec("cupy") is None:
        return "CuPy is not installed", "pip install 'onnxtweak[gpu]', or use --backend numba"
    if gpu_count() <= number:
        return f"GPU {number} does not answer: the driver shows {gpu_count()}", "see `nvidia-smi`"
    try:
        right = folds_correctly(_on_gpu(number))
    except MachineError:
        raise
    except Exception as error:  # CuPy, NVRTC and the driver each have errors of their own
        return (
            f"CuPy does not work on GPU {number}: {' '.join(str(error).split())[:200]}",
            "the CUDA version of the cupy-cuda package must match the driver's (`nvidia-smi`)",
        )
    if not right:
        return f"GPU {number} computes wrong results", "see `nvidia-smi -q` for memory errors"
    return None


def folds_correctly(backend: Backend) -> bool:
    """Whether one small fold of limits gives the right result."""
    state = backend.new_state(2, 1)
    V, limit = np.array([[2, -3]], np.float32), np.array([[0.5]], np.float32)
    backend.fold_limits(backend.place(V), limit, state.hi, state.lo, state.bad)
    state = backend.host_state(state)
    return bool(state.hi.tolist() == [[1, 0]] and state.lo.tolist() == [[0, 1.5]])


def _gpu_number(settings: EngineSettings) -> int:
    return (gpu_numbers(settings.device) or (0,))[0]


def _on_gpu(number: int) -> Backend:
    from onnxtweak.theta.cupy.backend import CupyBackend

    return CupyBackend(number)
