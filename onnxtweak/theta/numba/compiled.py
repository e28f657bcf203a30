"""How are loops compiled, and where is their machine code kept? On disk where there is a place for it.

Numba looks for a folder that it can write: `NUMBA_CACHE_DIR`, `__pycache__` beside the loops, the user's own
cache. In a container that is installed by root, run by another user and read-only, there is none: the loops
are compiled in each run, and a warning says so. A cache that cannot be read or written is done without.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import warnings
from functools import cache
from typing import Any, ClassVar

from numba import config, njit
from numba.core.caching import CompileResultCacheImpl, FunctionCache, NullCache, UserWideCacheLocator

NO_PLACE = (
    "Numba finds no folder to keep compiled loops in, so every run compiles them again (some seconds of CPU"
    " time): set NUMBA_CACHE_DIR to a folder that can be written"
)


def compilable() -> bool:
    """Whether Numba compiles at all: NUMBA_DISABLE_JIT forbids it."""
    return not config.DISABLE_JIT  # type: ignore[attr-defined]


def compiled(loop: Any) -> Any:
    """A decorator: `loop` as machine code that lets other threads run, compiled when it is first called."""
    made: Any = njit(nogil=True, boundscheck=False)(loop)
    if compilable():
        made._cache = _cache_for(loop)
    return made


def kept() -> bool:
    """Whether there is a place for machine code."""
    return isinstance(_cache_for(compiled), FunctionCache)


def _cache_for(loop: Any) -> FunctionCache | NullCache:
    try:
        return _Kept(loop)
    except RuntimeError:  # no place
        return _NotKept()


class _Place(CompileResultCacheImpl):
    """Numba's own search, but for a user without a home: "~" would become a folder of that name."""

    _locator_classes: ClassVar[list[Any]] = [  # type: ignore[misc]
        locator
        for locator in CompileResultCacheImpl._locator_classes
        if locator is not UserWideCacheLocator or os.path.isabs(os.path.expanduser("~"))
    ]


class _Kept(FunctionCache):
    """Machine code on disk: what it holds is used, what goes wrong with it is not the job's failure."""

    _impl_class = _Place

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a damaged file may raise anything; the loop is compiled
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception:  # a full disk, or a damaged index, which is begun anew
            with contextlib.suppress(OSError):
                self.flush()


class _NotKept(NullCache):
    """No place for machine code. A loop that is compiled now will be again."""

    def load_overload(self, sig: Any, target_context: Any) -> None:
        say_no_place()


@cache
def say_no_place() -> None:
    """Warn, once: compiling makes Python forget which warnings it has shown."""
    if multiprocessing.parent_process() is None:  # of several processes, the first one says it
        warnings.warn(NO_PLACE, stacklevel=1)
