"""One process for each GPU of this machine: no two sessions share a process, each process sees one GPU."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait
from threading import Thread
from typing import Any

from onnxtweak.errors import MachineError

_VISIBLE = "CUDA_VISIBLE_DEVICES"


@contextmanager
def gpu_processes(numbers: Sequence[int | None]) -> Iterator[Callable[..., Future]]:
    """Processes that take calls `submit(function, *arguments)`; None: one that sees no particular GPU.

    In each of them the GPU it was given is `cuda:0`. Raises MachineError when one dies.
    """
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    free = context.SimpleQueue()
    for number in numbers:
        free.put(None if number is None else _visible(number))
    pool = ProcessPoolExecutor(len(numbers), context, _take, (free,))
    try:
        yield pool.submit
    except BrokenProcessPool as error:
        raise MachineError(
            "a process that scored on a GPU died",
            where=", ".join(f"cuda:{number}" for number in numbers),
            hint="the machine may be out of memory; see `dmesg`, and lower --memory",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _visible(number: int) -> str:
    """How CUDA_VISIBLE_DEVICES names a GPU that this process calls by a number."""
    shown = os.environ.get(_VISIBLE)
    return shown.split(",")[number].strip() if shown else str(number)


def _take(free: Any) -> None:
    """In a new process, before anything has looked at the GPUs."""
    Thread(target=_end_with_parent, daemon=True).start()
    name = free.get()
    if name is not None:
        os.environ[_VISIBLE] = name


def _end_with_parent() -> None:
    """A parent that was killed tells nobody: its processes would wait for work, and keep their GPUs."""
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
