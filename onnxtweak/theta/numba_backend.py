"""The compiled back end on the CPU. Numba, which takes a quarter of a second to load, waits for a fold."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from importlib import import_module
from typing import Any

from onnxtweak.theta.backend import CpuBackend, Found


class NumbaBackend(CpuBackend):
    """`theta.backend.Backend` in Numba, with threads of its own."""

    name = "numba"

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="theta")

    @cached_property
    def fold_limits(self) -> Callable[..., None]:
        return self._compiled("fold_limits")

    @cached_property
    def fold_samples(self) -> Callable[..., None]:
        return self._compiled("fold_samples")

    @cached_property
    def fold_sums(self) -> Callable[..., None]:
        return self._compiled("fold_sums")

    @cached_property
    def fold_wanted(self) -> Callable[..., None]:
        return self._compiled("fold_wanted")

    @cached_property
    def find_survivors(self) -> Callable[..., Found]:
        return self._compiled("find_survivors")

    def _compiled(self, name: str) -> Callable[..., Any]:
        return partial(getattr(import_module("onnxtweak.theta.numba.backend"), name), pool=self._pool)
