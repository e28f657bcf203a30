"""The same pass shared among processes: one for each GPU here, or, through Dask, on one machine or many.

A worker is given one shard at a time and opens model and samples itself, from paths. Shards are taken in
in order, so the result has the bits of a single process. A lost worker's shard is done again by another.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import numpy as np

from onnxtweak.engine.backends import open_backend
from onnxtweak.engine.checkpoint import Checkpoint
from onnxtweak.engine.fleet import gpu_processes
from onnxtweak.engine.gpu import gpu_count, gpu_numbers
from onnxtweak.engine.passes import Engine, Ledger
from onnxtweak.engine.plan import Block
from onnxtweak.engine.scoring import Question, Read, Reopen, Sweep, fold, merge, new_sweep, on_host, taps_of
from onnxtweak.errors import MachineError
from onnxtweak.settings import EngineSettings
from onnxtweak.types import silent

try:
    import distributed
except ImportError:  # only a run that asks for workers says which extra to install
    distributed = None

# A worker that dies takes its shard with it; one that dies again and again has another cause.
_RETRIES = 5
# Results on their way: enough to keep workers busy, few enough to fit into memory.
_AHEAD = 2


@contextmanager
def sharing(reopen: Reopen, engine: Engine) -> Iterator[Callable[..., Sweep]]:
    """Workers, for as long as there is something to sweep.

    `sweep(block, question, name, checkpoint)` is a whole sweep, from where the checkpoint is. Raises
    MachineError where workers cannot be had, or Dask is missing.
    """
    with _workers(engine.settings) as (submit, workers):
        yield partial(_sweep, submit, workers, reopen, engine)


def _sweep(
    submit: Callable,
    workers: int,
    reopen: Reopen,
    engine: Engine,
    block: Block,
    question: Question,
    what: str,
    checkpoint: Checkpoint | None,
) -> Sweep:
    settings, total = engine.settings, len(question.labels)
    host = replace(engine, backend=open_backend(replace(settings, backend="numpy")))
    sweep = new_sweep(block, question, host)
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

    def take(future: Any) -> None:
        shard = future.result()
        merge(sweep, shard)
        if checkpoint is not None:
            checkpoint.save(sweep, host.backend.host_state)
        engine.progress.advance(len(shard.predicted))

    done, waiting = sweep.at, []
    engine.progress.start(what, total - done)
    for start in range(done, total, settings.shard):
        asked = replace(question, labels=question.labels[start : start + settings.shard])
        waiting.append(submit(_one_shard, reopen, block, asked, inside, start))
        if len(waiting) > _AHEAD * workers:
            take(waiting.pop(0))
    for future in waiting:
        take(future)
    engine.progress.finish()
    engine.ledger.passes.append((f"{what}, {workers} workers", total - done))
    return sweep


def _one_shard(
    reopen: Reopen, block: Block, question: Question, settings: EngineSettings, start: int
) -> Sweep:
    """In a worker: one shard from nothing."""
    read, engine = _opened(reopen, settings)
    sweep = new_sweep(block, question, engine)
    for got in read("score", taps_of(block), np.arange(start, start + len(question.labels))):
        fold(sweep, got, question, engine)
    return on_host(sweep, engine)


@lru_cache(maxsize=1)
def _opened(reopen: Reopen, settings: EngineSettings) -> tuple[Read, Engine]:
    """Model and samples stay open in a worker from shard to shard."""
    engine = Engine(settings, open_backend(settings), silent, Ledger())
    return reopen(engine), engine


def _threads(settings: EngineSettings, workers: int) -> int | None:
    if settings.scheduler is not None:
        return settings.threads
    return settings.threads or max(1, (os.cpu_count() or 1) // workers)


def _gpus(settings: EngineSettings) -> tuple[int, ...]:
    """The GPUs that get a process each; none where Dask was asked for, or one GPU is enough."""
    numbers = gpu_numbers(settings.device)
    return numbers if len(numbers) > 1 and not (settings.workers or settings.scheduler) else ()


@contextmanager
def _workers(settings: EngineSettings) -> Iterator[tuple[Callable, int]]:
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
            distributed.Client(cluster) as client,
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
        workers = len(client.scheduler_info()["workers"])
        if not workers:
            raise MachineError(
                "the Dask scheduler has no workers",
                where=settings.scheduler,
                hint="start some with `dask worker ADDRESS`",
            )
        yield client, workers
