"""What must a back end do? The folds of theta, and where their arrays live.

A back end is one file with a class that satisfies `Backend`, and one line in `engine.backends`. On the CPU it
inherits from `CpuBackend` and adds its name and its folds.

Arrays are NumPy's, or those of the back end's own library (`xp`) once `place` or one of its siblings has put
them where the folds want them. Shapes: see `onnxtweak.types`; b samples of one batch, m neurons of one tap.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from onnxtweak.theta.state import ThetaState, sweep_state

# An array of NumPy's, or of the back end's own library; or what one of its `place_*` methods makes of one.
Array = Any
# Survivors of a batch: target, neuron (n,) int32, ratio (n,) float32.
Found = tuple[np.ndarray, np.ndarray, np.ndarray]
_LINE = 16  # numbers of float32 in a line of the cache


class Backend(Protocol):
    """What the engine asks of a back end. Every back end gives the same bits."""

    @property
    def name(self) -> str:
        """As `--backend` spells it."""

    @property
    def xp(self) -> ModuleType:
        """The array library that lives where the folds run: NumPy or CuPy."""

    @property
    def gpu_fold_bytes(self) -> int | None:
        """Bytes of hidden values that one fold should take on a GPU; None on the CPU: its cache decides."""

    @property
    def gpu_state_bytes(self) -> int | None:
        """Bytes of state that the GPU can hold; None on the CPU, where `--memory` is the limit."""

    @property
    def gpu_learning_bytes(self) -> int | None:
        """Bytes that learners may take on the GPU; None on the CPU."""

    @property
    def where(self) -> str:
        """Where the arrays of `xp` are: "cpu" or "cuda:i"."""

    def learning(self) -> AbstractContextManager[None]:
        """Inside, learners compute there; their memory is given back. Raises MachineError for want of it."""

    # The folds; `theta.numpy_backend` is their specification. They update the state's arrays in place.

    def fold_limits(self, V: Array, limit: Array, hi: Array, lo: Array, bad: Array) -> None:
        """Raise the running limits by one batch.

        V (b, m) float32. limit (b, c) float32: `Gaps.limit`. hi, lo (c, m) float32; bad (m,) bool.
        """

    def fold_sums(self, V: Array, member: Array, total: Array, peak: Array) -> None:
        """Add up the samples of each target.

        member (b,) int64: the position of a sample's label among the targets, or -1. total (c, m) float64;
        peak (c, m) float32.
        """

    def fold_samples(
        self,
        V: Array,
        limit: Array,
        member: Array,
        hi: Array,
        lo: Array,
        bad: Array,
        total: Array,
        peak: Array,
    ) -> None:
        """`fold_limits` and `fold_sums` of one batch, which may read V once for both."""

    def fold_wanted(
        self,
        V: Array,
        wanted: Array,
        hi: Array,
        lo: Array,
        count_hi: Array,
        count_lo: Array,
        last_hi: Array,
        last_lo: Array,
    ) -> None:
        """Count the samples fixed within finished limits.

        wanted (b, c) float32: `Gaps.wanted`. count_* (c, m) int32; last_* (c, m) float32.
        """

    @property
    def find_survivors(self) -> Callable[[Array, np.ndarray, Array, Array], Found] | None:
        """`find_survivors(V, wanted, hi, lo)`: ratios beyond the limits so far, in any order.

        None: this back end does not find them. Counts then take a second sweep with `fold_wanted`.
        """

    # States.

    def new_state(self, neurons: int, targets: int) -> ThetaState:
        """An empty state that the folds can update."""

    def host_state(self, state: ThetaState) -> ThetaState:
        """The same state in NumPy, to be finished, combined or saved."""

    def device_state(self, state: ThetaState) -> ThetaState:
        """The inverse of `host_state`."""

    def add_up(self, total: Array, part: Array) -> None:
        """Add a shard's sums (c, m) float64 to the total, and set them to zero."""

    # Memory.

    def buffer(self, shape: tuple[int, int], device: str) -> Array:
        """Float32 memory that a session on `device` ("cpu", "cuda:i") can fill with hidden values."""

    def feed(self, values: np.ndarray, device: str) -> Array:
        """A model input (b, ...), where a session on `device` reads it fastest.

        The caller keeps it until the session is done with it.
        """

    def place(self, V: Array) -> Array:
        """Hidden values (b, m), where the folds want them."""

    def place_limit(self, limit: np.ndarray) -> Array:
        """`limit` as `fold_limits` wants it, made once for all taps of a batch."""

    def place_member(self, member: np.ndarray, targets: int) -> Array:
        """`member` as `fold_sums` wants it, for so many targets."""

    def place_wanted(self, wanted: np.ndarray) -> Array:
        """`wanted` as `fold_wanted` wants it."""

    def wait(self) -> None:
        """Return once no fold reads the buffers any more."""


def host_buffer(shape: tuple[int, int], device: str) -> np.ndarray:
    """Float32 memory in NumPy, whatever the device, that begins where a line of the cache does.

    Elsewhere, as NumPy has it, each vector of values would lie in two lines.
    """
    count = shape[0] * shape[1]
    room = np.empty(count + _LINE, np.float32)
    begin = -room.ctypes.data // room.itemsize % _LINE
    return room[begin : begin + count].reshape(shape)


class CpuBackend:
    """All of `Backend` but its name and its folds, for back ends whose arrays are NumPy's and stay put."""

    xp: ModuleType = np
    gpu_fold_bytes: int | None = None
    gpu_state_bytes: int | None = None
    gpu_learning_bytes: int | None = None
    where = "cpu"

    def learning(self) -> AbstractContextManager[None]:
        return nullcontext()

    def new_state(self, neurons: int, targets: int) -> ThetaState:
        return sweep_state(neurons, targets)

    def host_state(self, state: ThetaState) -> ThetaState:
        return state

    def device_state(self, state: ThetaState) -> ThetaState:
        return state

    def add_up(self, total: np.ndarray, part: np.ndarray) -> None:
        total += part
        part.fill(0)

    def buffer(self, shape: tuple[int, int], device: str) -> np.ndarray:
        return host_buffer(shape, device)

    def feed(self, values: np.ndarray, device: str) -> np.ndarray:
        return np.ascontiguousarray(values)

    def place(self, V: np.ndarray) -> np.ndarray:
        return V

    def place_limit(self, limit: np.ndarray) -> np.ndarray:
        return limit

    def place_member(self, member: np.ndarray, targets: int) -> np.ndarray:
        return member

    def place_wanted(self, wanted: np.ndarray) -> np.ndarray:
        return wanted

    def wait(self) -> None:
        return None
