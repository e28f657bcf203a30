"""How does the engine use a GPU? The CuPy back end: the folds of `folds`, all on one GPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import ModuleType
from typing import Any, Concatenate, ParamSpec, TypeVar

import cupy
import numpy as np

from onnxtweak.errors import MachineError
from onnxtweak.theta.cupy import folds
from onnxtweak.theta.state import ThetaState

# Large enough that starting a fold costs little in comparison: Python starts kernels tap by tap.
_FOLD_BYTES = 8 * 2**30
# Shares of the GPU's free memory: of hidden values of one fold, of state, of what learners hold.
_FOLD_SHARE, _STATE_SHARE, _LEARNING_SHARE = 8, 3, 2

P = ParamSpec("P")
R = TypeVar("R")


def _on_its_gpu(
    method: Callable[Concatenate[CupyBackend, P], R],
) -> Callable[Concatenate[CupyBackend, P], R]:
    """Run a method with the back end's GPU as the current device. Raises MachineError when it is full."""

    @wraps(method)
    def run(self: CupyBackend, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self._here():
            return method(self, *args, **kwargs)

    return run


class CupyBackend:
    """`theta.backend.Backend` on one GPU. Counts take a second sweep: survivors are not found here."""

    name = "cupy"
    xp: ModuleType = cupy
    find_survivors = None

    def __init__(self, number: int) -> None:
        """number : of the GPU, as CUDA counts them; it becomes the current device."""
        self.number = number
        self._copies = cupy.cuda.Stream(non_blocking=True)
        cupy.cuda.Device(number).use()  # for arithmetic on the arrays outside the folds
        with cupy.cuda.Device(number):
            free, _ = cupy.cuda.runtime.memGetInfo()
        self.gpu_fold_bytes: int | None = min(_FOLD_BYTES, free // _FOLD_SHARE)
        self.gpu_state_bytes: int | None = free // _STATE_SHARE
        self.gpu_learning_bytes: int | None = free // _LEARNING_SHARE
        self.where = f"cuda:{number}"

    @contextmanager
    def learning(self) -> Iterator[None]:
        with self._here():
            yield
            cupy.get_default_memory_pool().free_all_blocks()  # the model may want it again

    @contextmanager
    def _here(self) -> Iterator[None]:
        try:
            with cupy.cuda.Device(self.number):
                yield
        except cupy.cuda.memory.OutOfMemoryError as error:
            raise MachineError(
                "the GPU's memory is full",
                where=self.where,
                hint="lower --memory or --batch, name fewer targets, or use --backend numba",
            ) from error

    @_on_its_gpu
    def fold_limits(self, V: Any, limit: Any, hi: Any, lo: Any, bad: Any) -> None:
        folds.fold_limits(V, limit, hi, lo, bad)

    @_on_its_gpu
    def fold_sums(self, V: Any, member: Any, total: Any, peak: Any) -> None:
        folds.fold_sums(V, member, total, peak)

    @_on_its_gpu
    def fold_samples(
        self, V: Any, limit: Any, member: Any, hi: Any, lo: Any, bad: Any, total: Any, peak: Any
    ) -> None:
        folds.fold_limits(V, limit, hi, lo, bad)
        folds.fold_sums(V, member, total, peak)

    @_on_its_gpu
    def fold_wanted(
        self,
        V: Any,
        wanted: Any,
        hi: Any,
        lo: Any,
        count_hi: Any,
        count_lo: Any,
        last_hi: Any,
        last_lo: Any,
    ) -> None:
        folds.fold_wanted(V, wanted, hi, lo, count_hi, count_lo, last_hi, last_lo)

    @_on_its_gpu
    def new_state(self, neurons: int, targets: int) -> ThetaState:
        return folds.new_state(neurons, targets)

    @_on_its_gpu
    def host_state(self, state: ThetaState) -> ThetaState:
        return folds.host_state(state)

    @_on_its_gpu
    def device_state(self, state: ThetaState) -> ThetaState:
        return folds.device_state(state)

    @_on_its_gpu
    def add_up(self, total: Any, part: Any) -> None:
        total += part
        part.fill(0)

    @_on_its_gpu
    def buffer(self, shape: tuple[int, int], device: str) -> Any:
        """On the GPU for a session that runs there; else page-locked, which is copied there fastest."""
        if device.startswith("cuda"):
            return cupy.empty(shape, np.float32)
        return folds.page_locked(math.prod(shape), np.float32).reshape(shape)

    @_on_its_gpu
    def feed(self, values: np.ndarray, device: str) -> Any:
        """Copied while the GPU computes, if CuPy has the type."""
        values = np.ascontiguousarray(values)
        if not device.startswith("cuda") or values.dtype.kind not in "biuf":
            return values
        with self._copies:
            on_gpu = cupy.empty(values.shape, values.dtype)
            on_gpu.set(values)
        self._copies.synchronize()
        return on_gpu

    @_on_its_gpu
    def place(self, V: Any) -> Any:
        return folds.place(V)

    @_on_its_gpu
    def place_limit(self, limit: np.ndarray) -> folds.PlacedLimits:
        return folds.place_limit(limit)

    @_on_its_gpu
    def place_member(self, member: np.ndarray, targets: int) -> folds.PlacedLists:
        return folds.place_member(member, targets)

    @_on_its_gpu
    def place_wanted(self, wanted: np.ndarray) -> folds.PlacedLists:
        return folds.place_wanted(wanted)

    @_on_its_gpu
    def wait(self) -> None:
        cupy.cuda.get_current_stream().synchronize()
