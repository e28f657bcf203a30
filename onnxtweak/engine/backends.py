"""Which of theta's back ends does the arithmetic?"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial, wraps
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np

from onnxtweak.engine.machine.gpu import gpu_count, gpu_numbers
from onnxtweak.errors import MachineError
from onnxtweak.settings import EngineSettings
from onnxtweak.theta.state import ThetaState, sweep_state

# Large enough that starting a fold costs little beside it: Python starts kernels for every tap, one by one.
_GPU_FOLD_BYTES = 8 * 2**30


def _as_it_is(value: Any) -> Any:
    return value


def _members(member: np.ndarray, targets: int) -> np.ndarray:
    return member


def _nothing() -> None:
    return None


def _add_up(total: Any, part: Any) -> None:
    total += part
    part.fill(0)


def host_buffer(shape: tuple[int, int], device: str) -> np.ndarray:
    """Memory for hidden values in NumPy, wherever they come from."""
    return np.empty(shape, np.float32)


def _fed_from_host(values: np.ndarray, device: str) -> np.ndarray:
    return np.ascontiguousarray(values)


@dataclass(frozen=True)
class Backend:
    """The folds of theta (see `onnxtweak.theta.numpy_backend`), and where their arrays are.

    find_survivors : None where counts take a second sweep over the wrong target samples instead.
    new_state : an empty state to fold into. host_state : that state in NumPy;
    take_state : and back.
    buffer : float32 memory of a shape that a session on a device ("cpu", "cuda:i") fills with hidden values.
    feed : a model's input (b, ...), where a session on a device takes it at once; kept by the caller until
    the session is done. place : hidden values, where the folds want them. place_limit, place_member,
    place_wanted : the folds' other arguments likewise, once for all taps; members with the number of targets.
    add_up : add a shard's sums to the total and clear them. wait : until nothing reads the buffers any more.
    gpu_fold : bytes of hidden values that a fold should take; None on the CPU, where a cache decides.
    state_room : bytes of state that the GPU can hold; None on the CPU.
    """

    name: str
    fold_limits: Callable[..., None]
    fold_sums: Callable[..., None]
    fold_wanted: Callable[..., None]
    find_survivors: Callable[..., tuple] | None = None
    new_state: Callable[[int, int], ThetaState] = sweep_state
    host_state: Callable[[ThetaState], ThetaState] = _as_it_is
    take_state: Callable[[ThetaState], ThetaState] = _as_it_is
    buffer: Callable[[tuple[int, int], str], Any] = host_buffer
    feed: Callable[[np.ndarray, str], Any] = _fed_from_host
    place: Callable[[Any], Any] = _as_it_is
    place_limit: Callable[[np.ndarray], Any] = _as_it_is
    place_member: Callable[[np.ndarray, int], Any] = _members
    place_wanted: Callable[[np.ndarray], Any] = _as_it_is
    gpu_fold: int | None = None
    state_room: int | None = None
    wait: Callable[[], None] = _nothing
    add_up: Callable[[Any, Any], None] = _add_up


def open_backend(engine: EngineSettings) -> Backend:
    """The back end that was asked for; "auto" is CuPy where a GPU may be used and answers, else Numba.

    Raises MachineError when "cupy" is asked for and cannot be had.
    """
    if engine.backend == "numpy":
        from onnxtweak.theta import numpy_backend as chosen

        return Backend("numpy", *_folds(chosen))
    if engine.backend == "cupy" or (engine.backend == "auto" and engine.device != "cpu"):
        number = (gpu_numbers(engine.device) or (0,))[0]
        trouble = why_no_cupy(number)
        if trouble is None:
            return _on_gpu(number)
        if engine.backend == "cupy":
            what, hint = trouble
            raise MachineError(what, where="--backend cupy", hint=hint)
    from onnxtweak.theta.numba import backend as chosen

    pool = ThreadPoolExecutor(engine.cores, thread_name_prefix="theta")
    return Backend("numba", *(partial(fold, pool=pool) for fold in _folds(chosen)))


def why_no_cupy(number: int) -> tuple[str, str] | None:
    """What keeps theta from running on this GPU, and what to do; None when it does run there.

    That CuPy is installed and that a GPU answers are different facts; whether both fit each other is known
    when a kernel has been compiled and its result is right.
    """
    if find_spec("cupy") is None:
        return "CuPy is not installed", "pip install 'onnxtweak[gpu]', or use --backend numba"
    if gpu_count() <= number:
        return f"GPU {number} does not answer: the driver shows {gpu_count()}", "see `nvidia-smi`"
    try:
        made = _on_gpu(number)
        state = made.new_state(2, 1)
        V, limit = np.array([[2, -3]], np.float32), np.array([[0.5]], np.float32)
        made.fold_limits(made.place(V), limit, state.hi, state.lo, state.bad)
        state = made.host_state(state)
    except MachineError:
        raise
    except Exception as error:  # CuPy, NVRTC and the driver each have errors of their own
        return (
            f"CuPy does not work on GPU {number}: {' '.join(str(error).split())[:200]}",
            "the CUDA version of the cupy-cuda package must suit the driver's (`nvidia-smi`)",
        )
    if state.hi.tolist() != [[1, 0]] or state.lo.tolist() != [[0, 1.5]]:
        return f"GPU {number} computes wrong results", "see `nvidia-smi -q` for memory errors"
    return None


def _on_gpu(number: int) -> Backend:
    import cupy

    from onnxtweak.theta.cupy import backend as chosen

    def there(function: Callable) -> Callable:
        @wraps(function)
        def run(*arguments):
            try:
                with cupy.cuda.Device(number):
                    return function(*arguments)
            except cupy.cuda.memory.OutOfMemoryError as error:
                raise MachineError(
                    "the GPU's memory is full",
                    where=f"cuda:{number}",
                    hint="lower --memory or --batch, name fewer targets, or use --backend numba",
                ) from error

        return run

    def buffer(shape: tuple[int, int], device: str) -> Any:
        """On the GPU for a session that runs there; else page-locked, which is copied there fastest."""
        if device.startswith("cuda"):
            return cupy.empty(shape, np.float32)
        return chosen.page_locked(math.prod(shape), np.float32).reshape(shape)

    beside = cupy.cuda.Stream(non_blocking=True)

    def feed(values: np.ndarray, device: str) -> Any:
        """Copied while the GPU computes, if its own type knows the numbers."""
        values = np.ascontiguousarray(values)
        if not device.startswith("cuda") or values.dtype.kind not in "biuf":
            return values
        with beside:
            there = cupy.empty(values.shape, values.dtype)
            there.set(values)
        beside.synchronize()
        return there

    cupy.cuda.Device(number).use()  # for arithmetic on the arrays outside the folds
    with cupy.cuda.Device(number):
        free, _ = cupy.cuda.runtime.memGetInfo()
    return Backend(
        "cupy",
        there(chosen.fold_limits),
        there(chosen.fold_sums),
        there(chosen.fold_wanted),
        new_state=there(chosen.new_state),
        host_state=there(chosen.host_state),
        take_state=there(chosen.device_state),
        buffer=there(buffer),
        feed=there(feed),
        place=there(chosen.place),
        place_limit=there(chosen.place_limit),
        place_member=there(chosen.place_member),
        place_wanted=there(chosen.place_wanted),
        gpu_fold=min(_GPU_FOLD_BYTES, free // 8),
        state_room=free // 3,
        add_up=there(_add_up),
        wait=there(lambda: cupy.cuda.get_current_stream().synchronize()),
    )


def array_module(backend: Backend) -> ModuleType:
    """The library that trains on tables: CuPy where theta's arithmetic is on a GPU, else NumPy."""
    if backend.name != "cupy":
        return np
    import cupy

    return cupy


def _folds(module) -> tuple[Callable, ...]:
    return module.fold_limits, module.fold_sums, module.fold_wanted, module.find_survivors
