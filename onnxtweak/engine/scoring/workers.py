"""The same pass shared among processes: one for each GPU here, or, through Dask, on one machine or many.

A worker is given one shard at a time and opens model and samples itself, from paths. Shards are taken in
order, so the result has the bits of a single process. A lost worker's shard is done again by another.

States are large. The processes for GPUs lend them to this one; those of a Dask worker come straight from it,
past the scheduler, where it is within reach.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import numpy as np

from onnxtweak.engine.backends import open_backend
from onnxtweak.engine.machine.gpu import gpu_count, gpu_numbers
from onnxtweak.engine.passes import Engine, RunStats
from onnxtweak.engine.plan import Block
from onnxtweak.engine.scoring.checkpoint import Checkpoint
from onnxtweak.engine.scoring.gpu_processes import gpu_processes
from onnxtweak.engine.scoring.shared_memory import Borrower, Lender, Lent
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
from onnxtweak.types import silent

try:
    import distributed
    from distributed.comm import get_address_host_port
except ImportError:  # only a run that asks for workers says which extra to install
    distributed = None

# A worker that dies takes its shard with it; one that dies again and again has another cause.
_RETRIES = 5
# Seconds in which a worker answers, if it ever does.
_PATIENCE = 2.0
# Threads that merge: more of them than this find no faster memory.
MERGING = 8
# Results on their way: enough to keep workers busy, few enough to fit into memory.
_AHEAD = 2


@contextmanager
def sharing(reopen: Reopen, engine: Engine) -> Iterator[Callable[..., Sweep]]:
    """Workers, for as long as there is something to sweep.

    `sweep(block, question, name, checkpoint)` is a whole sweep, from where the checkpoint is. Raises
    MachineError where workers cannot be had, or Dask is missing.
    """
    with open_workers(engine.settings) as (submit, workers):
        yield partial(_sweep, submit, workers, reopen, engine)


def _sweep(
    submit: Callable,
    workers: int,
    reopen: Reopen,
    engine: Engine,
    block: Block,
    question: ScoringTask,
    what: str,
    checkpoint: Checkpoint | None,
) -> Sweep:
    settings, total = engine.settings, len(question.labels)
    host = replace(engine, backend=open_backend(replace(settings, backend="numpy")))
    sweep = new_sweep(block, question, host)
    sweep.parts = []  # for those who fold
    if checkpoint is not None:
        checkpoint.load(sweep)
    inside = replace(
        settings,
        workers=None,
        scheduler=None,
        work_dir=None,
        threads=_threads(settings, workers),
        device="cuda" if _gpus(settings) else settings.device,
    )

    lends_to = os.getpid() if _gpus(settings) else None
    borrowed = Borrower()

    def take(future: Any, asked: tuple) -> None:
        answer = future.result()
        try:
            shard = borrowed.look(answer) if isinstance(answer, Lent) else answer
        except OSError:  # who lent it has died since, or nothing more can be looked into
            shard = submit(_one_shard, *asked, None).result()
        merge(sweep, shard, pool)
        borrowed.give_back(answer)
        if checkpoint is not None:
            checkpoint.save(sweep, host.backend.host_state)
        engine.progress.advance(len(shard.predicted))

    done, waiting = sweep.at, []
    engine.progress.start(what, total - done)
    with ThreadPoolExecutor(min(MERGING, settings.cores)) as pool:
        for start in range(done, total, settings.shard):
            part = replace(question, labels=question.labels[start : start + settings.shard])
            asked = reopen, block, part, inside, start
            waiting.append((submit(_one_shard, *asked, lends_to), asked))
            if len(waiting) > _AHEAD * workers:
                take(*waiting.pop(0))
        while waiting:
            take(*waiting.pop(0))
    engine.progress.finish()
    engine.stats.passes.append((f"{what}, {workers} workers", total - done))
    return sweep


def _one_shard(
    reopen: Reopen,
    block: Block,
    question: ScoringTask,
    settings: EngineSettings,
    start: int,
    lends_to: int | None,
) -> Sweep | Lent:
    """In a worker: one shard from nothing. lends_to : the process on this machine that asks, if it is."""
    read, engine, lender = _opened(reopen, settings)
    sweep = new_sweep(block, question, engine)
    for got in read("score", taps_of(block), np.arange(start, start + len(question.labels))):
        fold(sweep, got, question, engine)
    sent = to_send(sweep)
    lent = None if lends_to is None else lender.lend(lends_to, sent)
    return lent or on_host(sent, engine)


@lru_cache(maxsize=1)
def _opened(reopen: Reopen, settings: EngineSettings) -> tuple[Read, Engine, Lender]:
    """Model and samples stay open in a worker from shard to shard, and so does what it lends."""
    engine = Engine(settings, open_backend(settings), silent, RunStats())
    return reopen(engine), engine, Lender(lambda count: engine.backend.buffer((1, count), "cpu"))


def _threads(settings: EngineSettings, workers: int) -> int | None:
    if settings.scheduler is not None:
        return settings.threads
    return settings.threads or max(1, (os.cpu_count() or 1) // workers)


def _gpus(settings: EngineSettings) -> tuple[int, ...]:
    """The GPUs that get a process each; none where Dask was asked for, or one GPU is enough."""
    numbers = gpu_numbers(settings.device)
    return numbers if len(numbers) > 1 and not (settings.workers or settings.scheduler) else ()


@contextmanager
def open_workers(settings: EngineSettings) -> Iterator[tuple[Callable, int]]:
    """`submit(function, *arguments)`, and how many processes take what is submitted."""
    numbers = _gpus(settings)
    if numbers:
        if gpu_count() <= max(numbers):
            raise MachineError(
                f"a GPU was asked for that does not answer: the driver shows {gpu_count()}",
                where=settings.device,
                hint="see `nvidia-smi`; numbers start at 0",
            )
        with gpu_processes(numbers) as submit:
            yield submit, len(numbers)
        return
    with _client(settings) as (client, workers):
        yield partial(client.submit, retries=_RETRIES, pure=False), workers


@contextmanager
def _client(settings: EngineSettings) -> Iterator[tuple]:
    if distributed is None:
        raise MachineError("Dask is not installed", hint="pip install 'onnxtweak[dask]'")
    if settings.scheduler is None:
        with (
            distributed.LocalCluster(
                n_workers=settings.workers, threads_per_worker=1, processes=True, dashboard_address=None
            ) as cluster,
            distributed.Client(cluster, direct_to_workers=True) as client,
        ):
            yield client, settings.workers
        return
    try:
        client = distributed.Client(settings.scheduler, timeout="10s")
    except (OSError, TimeoutError) as error:
        raise MachineError(
            "the Dask scheduler does not answer",
            where=settings.scheduler,
            hint="start one with `dask scheduler`, and workers with `dask worker ADDRESS`",
        ) from error
    with client:
        workers = list(client.nthreads())
        if not workers:
            raise MachineError(
                "the Dask scheduler has no workers",
                where=settings.scheduler,
                hint="start some with `dask worker ADDRESS`",
            )
        client.direct_to_workers = _within_reach(workers)
        yield client, len(workers)


def _within_reach(workers: Sequence[str]) -> bool:
    """All answer this process; else the scheduler hands on what they made, which takes far longer."""
    try:
        for address in workers:
            socket.create_connection(get_address_host_port(address), _PATIENCE).close()
    except (OSError, ValueError):
        return False
    return True
