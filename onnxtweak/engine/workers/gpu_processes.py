"""How do several GPUs work at once? One process per GPU, which sees that GPU alone."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread
from typing import Any

from onnxtweak.engine.workers.shielded import shielded
from onnxtweak.errors import MachineError
from onnxtweak.temporary_files import temporary_folder

_VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class GpuProcesses:
    """What `Workers` asks of processes: a pool of this machine's."""

    submit: Callable[..., Future[Any]]
    processes: int

    def result(self, future: Future[Any]) -> Any:
        """What a future's call returns."""
        return future.result()

    @contextmanager
    def giving(self, data: bytes) -> Iterator[Path]:
        """What calls are given for bytes: a file, since all are on this machine."""
        with temporary_folder(Path(tempfile.gettempdir()), private=True) as folder:
            file = folder / "given"
            file.write_bytes(data)
            yield file


@contextmanager
def gpu_processes(numbers: Sequence[int | None]) -> Iterator[GpuProcesses]:
    """Processes that each own one GPU; None: a process without one.

    In each of them its GPU is `cuda:0`. Raises MachineError when a process dies.
    """
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    free = context.SimpleQueue()
    for number in numbers:
        free.put(None if number is None else _visible(number))
    pool = ProcessPoolExecutor(len(numbers), context, _claim, (free,))
    try:
        with shielded():
            for _ in numbers:  # a process begins when it gets its first call
                pool.submit(os.getpid)
        yield GpuProcesses(pool.submit, len(numbers))
    except KeyboardInterrupt:
        for process in list(pool._processes.values()):  # what they score is not wanted any more
            process.terminate()
        raise
    except BrokenProcessPool as error:
        raise MachineError(
            "a process that was scoring on a GPU died",
            where=", ".join(f"cuda:{number}" for number in numbers),
            hint="the machine may have run out of memory: see `dmesg`, and lower --memory",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _visible(number: int) -> str:
    """How CUDA_VISIBLE_DEVICES names the GPU that has this number in this process."""
    shown = os.environ.get(_VISIBLE)
    return shown.split(",")[number].strip() if shown else str(number)


def _claim(free: Any) -> None:
    """In a new process, before anything has looked at the GPUs: make one of them the only visible one."""
    Thread(target=_end_with_parent, daemon=True).start()
    name = free.get()
    if name is not None:
        os.environ[_VISIBLE] = name


def _end_with_parent() -> None:
    """A parent that is killed cannot tell its processes: they would wait for work, and keep their GPUs."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
