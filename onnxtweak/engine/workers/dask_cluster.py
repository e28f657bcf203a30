"""Which workers does Dask have? Those that it starts on this machine, or those of a scheduler."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import socket
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from operator import getitem
from pathlib import Path
from threading import Thread
from typing import Any

from onnxtweak.engine.workers.open_files import require_files
from onnxtweak.engine.workers.shielded import shielded
from onnxtweak.errors import MachineError
from onnxtweak.settings import EngineSettings
from onnxtweak.temporary_files import temporary_folder

try:
    distributed: Any = import_module("distributed")
except ImportError:  # `_client` says which extra to install
    distributed = None

# A worker that dies loses its calls; where that happens again and again, the call is the cause.
_RETRIES = 5
# Seconds in which a worker answers, if it can be reached.
_TIMEOUT = 2.0
_ADDRESS = re.compile(r"((tcp|tls|wss?|ucx)://)?[^/\s]+:[0-9]{1,5}|inproc://.+")
_ANSWER = 10  # seconds in which a scheduler has to answer; a client may take twice that to give up
_LOOK = 2  # seconds after which it is asked whether there are workers still
_ALONE = 10  # seconds for which a scheduler may have none: one that died may be started again
_AGAIN = "start them again; with --work-dir, --resume continues where this run ended"


@dataclass(frozen=True)
class DaskWorkers:
    """What `Workers` asks of processes: the workers of one Dask client."""

    client: Any
    processes: int

    def submit(self, function: Callable[..., Any], *arguments: Any, place: str | None = None) -> Any:
        """A future of a call. place : the worker that makes it, before others, unless that is gone."""
        where = {} if place is None else {"workers": [place], "allow_other_workers": True, "priority": 1}
        return self.client.submit(function, *arguments, retries=_RETRIES, pure=False, **where)

    def items(self, future: Any, count: int) -> list[Any]:
        """Futures of the first items of what a future's call returns, which stay where it was made."""
        futures: list[Any] = self.client.map(
            getitem, [future] * count, range(count), retries=_RETRIES, pure=False
        )
        return futures

    def result(self, future: Any) -> Any:
        """What a future's call returns. Raises MachineError where all workers are gone, and none comes."""
        return self._result(future, ())

    def result_unless_lost(self, future: Any, of: Sequence[Any]) -> Any:
        """What a future's call returns; None where something it needs died with its worker.

        of : futures of what was sent for it. Raises MachineError as `result` does.
        """
        try:
            return self._result(future, of)
        except distributed.client.CancelledError:
            return None

    def _result(self, future: Any, of: Sequence[Any]) -> Any:
        """The same of both; CancelledError where one of `of` is lost."""
        alone_since = None
        while True:
            try:
                return future.result(timeout=_LOOK)
            except TimeoutError:
                # The call may end just after the wait for it did: only its own error ends this.
                if future.status == "error":
                    return future.result()
            if any(one.status in ("lost", "cancelled") for one in of):
                raise distributed.client.CancelledError
            alone_since = self._require_company(alone_since)

    def hold(self, value: Any, place: str) -> Any:
        """A future of a value that a worker is sent; None where it does not take it."""
        try:
            (future,) = self.client.scatter([value], workers=[place], hash=False, timeout=_ANSWER)
        except (TimeoutError, OSError, ValueError):
            return None
        return future

    def spread(self, value: Any) -> Any:
        """A future of a value that many calls are given: workers pass it on, and it survives all of them."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph")
            return self.submit(_as_it_is, value)

    def wait(self, futures: Sequence[Any]) -> None:
        """Until all calls have ended, however. Raises MachineError as `result` does."""
        alone_since = None
        while True:
            try:
                with self.client.as_current():
                    distributed.wait(futures, timeout=_LOOK)
                return
            except TimeoutError:
                alone_since = self._require_company(alone_since)

    def _require_company(self, alone_since: float | None) -> float | None:
        """Since when there is no worker; None: there is one. Raises MachineError after a while."""
        now = time.monotonic()
        if self.client.nthreads():
            return None
        if alone_since is not None and now - alone_since > _ALONE:
            raise MachineError(
                "all workers of the Dask scheduler were lost",
                where=self.client.scheduler.address,
                hint=_AGAIN,
            )
        return alone_since or now

    def places(self) -> list[str]:
        """The workers there are now."""
        return sorted(self.client.nthreads())

    @contextmanager
    def giving(self, data: bytes) -> Iterator[Any]:
        """What calls are given for bytes: it travels with their graph, however many workers die."""
        yield self.spread(data)


def _as_it_is(value: Any) -> Any:
    return value


@contextmanager
def dask_workers(settings: EngineSettings) -> Iterator[DaskWorkers]:
    """The workers that the settings ask for. Raises MachineError where there are none."""
    with ExitStack() as stack:
        with _starting() if settings.scheduler is None else nullcontext():
            client, count = stack.enter_context(_client(settings))
        yield DaskWorkers(client, count)


@contextmanager
def undisturbed() -> Iterator[None]:
    """No garbage is collected while a client or a cluster of Dask starts inside.

    Collecting closes clients that were forgotten, each of which waits for the lock that a start holds: in the
    same thread for ever, in the new one until Dask gives that up.
    """
    gc.collect()
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collected:
            gc.enable()


@contextmanager
def _starting() -> Iterator[None]:
    """Processes of this machine are started inside, which needs a place for their locks, /dev/shm for one."""
    try:
        with undisturbed(), shielded():
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
            closing(distributed.Client(cluster, direct_to_workers=True, set_as_default=False)) as client,
        ):
            yield client, settings.processes or 1
        return
    with closing(_connected(settings.scheduler)) as client:
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
            asyncio.run(_greet(address))
            found.append(distributed.Client(address, timeout=f"{_ANSWER}s", set_as_default=False))
        except BaseException as error:  # what answers may be anything, and so may what it leads to
            found.append(error)

    waiting = Thread(target=connect, daemon=True)
    with undisturbed():
        waiting.start()
        # Short waits: a machine that stands still for long uses up one of them.
        for _ in range(round(20 * _ANSWER)):
            waiting.join(0.1)
            if not waiting.is_alive():
                break
    client = found[0] if found else TimeoutError()
    if not isinstance(client, BaseException):
        return client
    raise MachineError(
        "the Dask scheduler does not answer",
        where=address,
        hint="start one with `dask scheduler`, and workers with `dask worker ADDRESS`",
    ) from client


async def _greet(address: str) -> None:
    """Connect as a client does, and leave. A client that gets no answer would be left behind unclosed."""
    if not address.startswith("inproc:"):
        keys = distributed.Security().get_connection_args("client")
        (await distributed.comm.connect(address, timeout=_ANSWER, **keys)).abort()


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
