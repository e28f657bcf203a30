"""How do worker processes share a pass? One per GPU, or, through Dask, on one machine or many.

A worker is given one shard at a time and opens model and samples itself, from paths. Shards are merged in
order, so the result has the bits of a single process. A lost worker's shard is done again by another.

States are large. Processes for GPUs lend them to this one in shared memory; those of a Dask worker come
directly, past the scheduler, where this process can reach the worker.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import lru_cache, partial
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple, Protocol

import numpy as np

from onnxtweak.engine.backends import open_backend
from onnxtweak.engine.machine.gpu import gpu_count, gpu_numbers
from onnxtweak.engine.machine.memory_plan import Block
from onnxtweak.engine.passes import Engine, RunStats
from onnxtweak.engine.scoring.checkpoint import Checkpoint
from onnxtweak.engine.scoring.gpu_processes import gpu_processes
from onnxtweak.engine.scoring.open_files import require_files
from onnxtweak.engine.scoring.shared_memory import Borrower, Lender, Lent
from onnxtweak.engine.scoring.shielded import shielded
from onnxtweak.engine.scoring.sweep import (
    Read,
    Reopen,
    ScoringTask,
    Sweep,
    fold,
    merge,
    new_sweep,
    on_host,
    taps_of,
    to_send,
)
from onnxtweak.errors import MachineError
from onnxtweak.settings import EngineSettings
from onnxtweak.temporary_files import temporary_folder
from onnxtweak.types import silent

try:
    distributed: Any = import_module("distributed")
except ImportError:  # `_client` says which extra to install
    distributed = None

# A worker that dies loses its shard; where that happens again and again, the shard is the cause.
_RETRIES = 5
# Seconds in which a worker answers, if it can be reached.
_TIMEOUT = 2.0
_ADDRESS = re.compile(r"((tcp|tls|wss?|ucx)://)?[^/\s]+:[0-9]{1,5}|inproc://.+")
_ANSWER = 10  # seconds in which a scheduler has to answer; a client may take twice that to give up
_LOOK = 2  # seconds after which it is asked whether there are workers still
_AGAIN = "start them again; with --work-dir, --resume continues where this run ended"
# Threads that merge: more would be limited by the memory.
MERGING = 8
# Shards in flight per worker: enough to keep workers busy, few enough to fit into memory.
_AHEAD = 2


class Workers(NamedTuple):
    """Processes that take calls. submit : `submit(function, *arguments)`, a future. processes : how many.

    result : waits for what a future's call returns. Raises MachineError where nobody is left to make it.
    """

    submit: Callable[..., Any]
    processes: int
    result: Callable[[Any], Any]


class SharedSweep(Protocol):
    """A whole sweep by workers, from where the checkpoint is."""

    def __call__(
        self, block: Block, task: ScoringTask, what: str, checkpoint: Checkpoint | None, /
    ) -> Sweep: ...


@contextmanager
def sharing(reopen: Reopen, engine: Engine) -> Iterator[SharedSweep]:
    """Workers for one sweep after another. Raises MachineError where they cannot be started."""
    with open_workers(engine.settings) as workers:
        yield partial(_sweep, workers, reopen, engine)


def _sweep(
    workers: Workers,
    reopen: Reopen,
    engine: Engine,
    block: Block,
    task: ScoringTask,
    what: str,
    checkpoint: Checkpoint | None,
) -> Sweep:
    settings, total = engine.settings, len(task.labels)
    host = replace(engine, backend=open_backend(replace(settings, backend="numpy")))
    sweep = new_sweep(block, task, host)
    sweep.parts = []  # the workers fold
    if checkpoint is not None:
        checkpoint.load(sweep, engine.progress)
    worker_settings = replace(
        settings,
        workers=None,
        scheduler=None,
        work_dir=None,
        threads=_threads(settings, workers.processes),
        device="cuda" if _gpus(settings) else settings.device,
    )
    borrower = os.getpid() if _gpus(settings) else None
    borrowed = Borrower()

    def take(future: Any, call: tuple[Any, ...]) -> None:
        answer = workers.result(future)
        try:
            shard = borrowed.look(answer) if isinstance(answer, Lent) else answer
        except OSError:  # the lender has died since, or no more memory can be mapped
            shard = workers.result(workers.submit(_one_shard, *call, None))
        merge(sweep, shard, pool)
        borrowed.give_back(answer)
        if checkpoint is not None:
            checkpoint.save(sweep, host.backend.host_state)
        engine.progress.advance(len(shard.predicted))

    done = sweep.at
    waiting: list[tuple[Any, tuple[Any, ...]]] = []
    engine.progress.start(what, total - done)
    with ThreadPoolExecutor(min(MERGING, settings.cores)) as pool:
        for start in range(done, total, settings.shard):
            part = replace(task, labels=task.labels[start : start + settings.shard])
            call = reopen, block, part, worker_settings, start
            waiting.append((workers.submit(_one_shard, *call, borrower), call))
            if len(waiting) > _AHEAD * workers.processes:
                take(*waiting.pop(0))
        while waiting:
            take(*waiting.pop(0))
    engine.progress.finish()
    engine.stats.passes.append((f"{what}, {workers.processes} workers", total - done))
    return sweep


def _one_shard(
    reopen: Reopen,
    block: Block,
    task: ScoringTask,
    settings: EngineSettings,
    start: int,
    borrower: int | None,
) -> Sweep | Lent:
    """In a worker: fold one shard. borrower : process of this machine to lend it to; None: it is sent."""
    read, engine, lender = _opened(reopen, settings)
    sweep = new_sweep(block, task, engine)
    for got in read("score", taps_of(block), np.arange(start, start + len(task.labels))):
        fold(sweep, got, task, engine)
    sent = to_send(sweep)
    lent = None if borrower is None else lender.lend(borrower, sent)
    return lent or on_host(sent, engine)


@lru_cache(maxsize=1)
def _opened(reopen: Reopen, settings: EngineSettings) -> tuple[Read, Engine, Lender]:
    """In a worker: model, samples and shared memory, which stay open from shard to shard."""
    engine = Engine(settings, open_backend(settings), silent, RunStats())
    return reopen(engine), engine, Lender(lambda count: engine.backend.buffer((1, count), "cpu"))


def _threads(settings: EngineSettings, workers: int) -> int | None:
    if settings.scheduler is not None:
        return settings.threads
    return settings.threads or max(1, (os.cpu_count() or 1) // workers)


def _gpus(settings: EngineSettings) -> tuple[int, ...]:
    """The GPUs that get a process each; none where Dask is used, or only one GPU is."""
    numbers = gpu_numbers(settings.device)
    return numbers if len(numbers) > 1 and not (settings.workers or settings.scheduler) else ()


@contextmanager
def open_workers(settings: EngineSettings) -> Iterator[Workers]:
    """The processes that the settings ask for. Raises MachineError where they cannot be started."""
    numbers = _gpus(settings)
    if numbers:
        if gpu_count() <= max(numbers):
            raise MachineError(
                f"a requested GPU does not answer: the driver shows {gpu_count()}",
                where=settings.device,
                hint="see `nvidia-smi`; GPUs are numbered from 0",
            )
        with gpu_processes(numbers) as submit:
            yield Workers(submit, len(numbers), lambda future: future.result())
        return
    with ExitStack() as stack:
        with _starting() if settings.scheduler is None else nullcontext():
            client, count = stack.enter_context(_client(settings))
        submit = partial(client.submit, retries=_RETRIES, pure=False)
        yield Workers(submit, count, partial(_result, client))


def _result(client: Any, future: Any) -> Any:
    """What a Dask future's call returns. Raises MachineError where all workers are gone, and none comes."""
    alone_since = None
    while True:
        try:
            return future.result(timeout=_LOOK)
        except TimeoutError:
            # The call may end just after the wait for it did: only its own error ends this.
            if future.status == "error":
                return future.result()
        now = time.monotonic()
        if client.nthreads():
            alone_since = None
        elif alone_since is None:
            alone_since = now
        elif now - alone_since > _ANSWER:
            raise MachineError(
                "all workers of the Dask scheduler were lost", where=client.scheduler.address, hint=_AGAIN
            )


@contextmanager
def _starting() -> Iterator[None]:
    """Processes of this machine are started inside, which needs a place for their locks, /dev/shm for one."""
    try:
        with shielded():
            yield
    except (OSError, RuntimeError) as error:
        raise MachineError(
            f"worker processes cannot be started: {' '.join(str(error).split())[:200]}",
            where="--workers",
            hint="make /dev/shm and TMPDIR writable, or leave --workers out",
        ) from error


@contextmanager
def _client(settings: EngineSettings) -> Iterator[tuple[Any, int]]:
    """A Dask client, and how many workers it has."""
    if distributed is None:
        raise MachineError("Dask is not installed", hint="pip install 'onnxtweak[dask]'")
    if settings.scheduler is None:
        require_files(settings.processes or 1)
        with (
            temporary_folder(Path(tempfile.gettempdir()), private=True) as scratch,
            distributed.LocalCluster(
                n_workers=settings.processes,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
                local_directory=str(scratch),
                # Any free port: the usual one may be another cluster's, of which Dask would warn.
                scheduler_kwargs={"local_directory": str(scratch), "dashboard_address": "127.0.0.1:0"},
                silence_logs=logging.CRITICAL,
            ) as cluster,
            distributed.Client(cluster, direct_to_workers=True) as client,
        ):
            yield client, settings.processes or 1
        return
    with _connected(settings.scheduler) as client:
        workers = list(client.nthreads())
        if not workers:
            raise MachineError(
                "the Dask scheduler has no workers",
                where=settings.scheduler,
                hint="start workers with `dask worker ADDRESS`",
            )
        client.direct_to_workers = _within_reach(workers)
        lost = (
            distributed.comm.CommClosedError,
            distributed.client.CancelledError,
            distributed.client.FutureCancelledError,
            distributed.KilledWorker,
        )
        try:
            yield client, len(workers)
        except lost as error:
            raise MachineError(
                "the Dask scheduler or its workers were lost",
                where=settings.scheduler,
                hint=_AGAIN,
            ) from error


def _connected(address: str) -> Any:
    """A client of the scheduler. Raises MachineError unless one answers in time, whatever else does."""
    if not _ADDRESS.fullmatch(address):
        hint = "write it like tcp://HOST:8786"
        raise MachineError("not the address of a Dask scheduler", where=address, hint=hint)
    _quiet_dask()
    found: list[Any] = []

    def connect() -> None:
        try:
            found.append(distributed.Client(address, timeout=f"{_ANSWER}s"))
        except BaseException as error:  # what answers may be anything, and so may what it leads to
            found.append(error)

    waiting = Thread(target=connect, daemon=True)
    waiting.start()
    waiting.join(2 * _ANSWER)
    client = found[0] if found else TimeoutError()
    if not isinstance(client, BaseException):
        return client
    raise MachineError(
        "the Dask scheduler does not answer",
        where=address,
        hint="start one with `dask scheduler`, and workers with `dask worker ADDRESS`",
    ) from client


def _quiet_dask() -> None:
    """Its tracebacks would hide the one line. Dask gives some of its loggers a level of their own."""
    ours = ("distributed", "tornado", "asyncio")
    for name in (*ours, *logging.root.manager.loggerDict):
        if name.startswith(ours):
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _within_reach(workers: Sequence[str]) -> bool:
    """Whether this process can reach all workers; else results take the slow way through the scheduler."""
    try:
        for address in workers:
            socket.create_connection(distributed.comm.get_address_host_port(address), _TIMEOUT).close()
    except (OSError, ValueError):
        return False
    return True
