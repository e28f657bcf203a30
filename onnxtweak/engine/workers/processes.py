"""Which processes share the passes of a command? One per GPU, or, through Dask, on one machine or many.

They are started for the first pass that is shared, and kept for the next one. What the GPU processes answer
lies in shared memory; that of a Dask worker comes directly, past the scheduler, where this process can reach
the worker.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol
from weakref import finalize

from onnxtweak.engine.machine.gpu import gpu_count, gpu_numbers
from onnxtweak.engine.workers.gpu_processes import gpu_processes
from onnxtweak.engine.workers.shared_memory import Borrower, Lent
from onnxtweak.errors import MachineError
from onnxtweak.settings import EngineSettings

if TYPE_CHECKING:
    from onnxtweak.engine.workers.dask_cluster import DaskWorkers


@dataclass(frozen=True)
class Call:
    """A call that was begun. future : of its answer."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    future: Any


class Processes(Protocol):
    """Where calls are made. processes : how many there are."""

    @property
    def processes(self) -> int: ...

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """A future of `function(*arguments)`."""

    def result(self, future: Any) -> Any:
        """Wait for what a future's call returns. Raises MachineError where nobody is left to make it."""

    def giving(self, data: bytes) -> AbstractContextManager[Any]:
        """Makes of bytes the argument that calls inside get in their place: each process gets them once."""


@dataclass(frozen=True)
class Workers:
    """Processes that take calls.

    of : them. dask : the same, where they are Dask's: futures may then be arguments of calls, and what these
    return goes from worker to worker. borrower : this process's id, where answers are lent to it in shared
    memory; None: they are sent. borrowed : what this process has mapped of that.
    """

    of: Processes
    dask: DaskWorkers | None = None
    borrower: int | None = None
    borrowed: Borrower = field(default_factory=Borrower)

    def begin(self, function: Callable[..., Any], *arguments: Any) -> Call:
        """Begin `function(*arguments, borrower)`, which may return what was lent to that process."""
        return Call(function, arguments, self.of.submit(function, *arguments, self.borrower))

    @contextmanager
    def answer(self, call: Call) -> Iterator[Any]:
        """Wait for a call's answer. Its arrays are read-only, and lent until the end of the block."""
        found = value = self.of.result(call.future)
        if isinstance(found, Lent):
            try:
                value = self.borrowed.look(found)
            except OSError:  # the lender has died since, or no more memory can be mapped
                value = self.of.result(self.of.submit(call.function, *call.arguments, None))
        try:
            yield value
        finally:
            self.borrowed.give_back(found)


class Crew:
    """The workers of a command: started when first needed, ended with the last that refers to this.

    starting, working : seconds that they took to start, and that passes took which they shared.
    """

    def __init__(self, settings: EngineSettings) -> None:
        """settings : those of the command; where they ask for no workers there are none."""
        self._settings = settings
        self._workers: Workers | None = None
        self._open = ExitStack()
        self.starting = self.working = 0.0

    @property
    def wanted(self) -> bool:
        """Whether passes are shared."""
        settings = self._settings
        return bool(settings.workers or settings.scheduler or gpus_apart(settings))

    @property
    def elsewhere(self) -> bool:
        """Whether they may be on other machines, with cores of their own."""
        return self._settings.scheduler is not None

    @contextmanager
    def at_work(self) -> Iterator[Workers]:
        """The workers. An error inside ends them; those that are lost meanwhile are a MachineError.

        Raises MachineError where they cannot be started.
        """
        if self._workers is None:
            self._open, begin = ExitStack(), time.perf_counter()
            finalize(self, self._open.close)
            self._workers = self._open.enter_context(open_workers(self._settings))
            self.starting += time.perf_counter() - begin
        begin = time.perf_counter()
        try:
            yield replace(self._workers, borrowed=Borrower())  # what it has mapped is freed after the pass
        except GeneratorExit:  # whoever reads the pass has seen enough
            raise
        except BaseException:
            self._workers = None
            self._open.__exit__(*sys.exc_info())
            raise
        finally:
            self.working += time.perf_counter() - begin


def gpus_apart(settings: EngineSettings) -> tuple[int, ...]:
    """The GPUs that get a process each; none where Dask is used, or only one GPU is."""
    numbers = gpu_numbers(settings.device)
    return numbers if len(numbers) > 1 and not (settings.workers or settings.scheduler) else ()


def settings_of_worker(settings: EngineSettings, processes: int) -> EngineSettings:
    """The settings with which one of so many workers makes its part of a pass."""
    threads = settings.threads
    if settings.scheduler is None:
        threads = threads or max(1, (os.cpu_count() or 1) // processes)
    device = "cuda" if gpus_apart(settings) else settings.device
    return replace(
        settings, workers=None, scheduler=None, work_dir=None, threads=threads, device=device, resume=False
    )


@contextmanager
def open_workers(settings: EngineSettings) -> Iterator[Workers]:
    """The processes that the settings ask for. Raises MachineError where they cannot be started."""
    numbers = gpus_apart(settings)
    if not numbers:
        from onnxtweak.engine.workers.dask_cluster import dask_workers

        with dask_workers(settings) as workers:
            yield Workers(workers, workers)
        return
    if gpu_count() <= max(numbers):
        raise MachineError(
            f"a requested GPU does not answer: the driver shows {gpu_count()}",
            where=settings.device,
            hint="see `nvidia-smi`; GPUs are numbered from 0",
        )
    with gpu_processes(numbers) as processes:
        yield Workers(processes, borrower=os.getpid())
