"""How does a test run a program in a process of its own, to be killed, without a second of imports each time?

A server that has loaded the package forks itself for each program. What a program is killed by, its signals,
files and exit code are those of any process; tests of how the program starts do without.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from multiprocessing import forkserver
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# `python -m onnxtweak`
ONNXTWEAK = "import runpy; runpy.run_module('onnxtweak', run_name='__main__')"


class Forked:
    """A program that has been started."""

    def __init__(self, code: str, arguments: Sequence[object], environment: Mapping[str, str], cwd: str):
        self.arguments = [str(argument) for argument in arguments]
        self._said = tempfile.TemporaryDirectory()
        self._process = context().Process(
            target=_run, args=(code, self.arguments, dict(environment), cwd, self._said.name)
        )
        self._process.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return not self._process.is_alive()

    def kill(self) -> None:
        """Without a chance to clear up."""
        self._process.kill()

    def wait(self) -> subprocess.CompletedProcess[str]:
        """When it has ended: its exit code and what it said."""
        self._process.join()
        out, err = ((Path(self._said.name) / name).read_text() for name in ("out", "err"))
        code = self._process.exitcode
        self._process.close()
        self._said.cleanup()
        return subprocess.CompletedProcess(self.arguments, code, out, err)


def start(code: str, *arguments: object, **environment: str) -> Forked:
    """The program `python -c code *arguments`, here; `environment` is added to what there is."""
    return Forked(code, arguments, {**os.environ, **environment}, os.getcwd())


def dask(part: str, *options: object, cwd: Path) -> Forked:
    """Dask's `scheduler` or `worker` with options, in a folder."""
    code = f"import runpy; runpy.run_module('distributed.cli.dask_{part}', run_name='__main__')"
    return Forked(code, [*options, "--no-dashboard"], os.environ, str(cwd))


def run(code: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """The same, waited for."""
    return start(code, *arguments, **environment).wait()


@cache
def context():
    """Of `multiprocessing`: its processes are forked from one that has loaded `tests.support.preloaded`."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["tests.support.preloaded"])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), before)))
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
    return server


@contextmanager
def forked_workers() -> Iterator[None]:
    """The worker processes that Dask starts inside are forked from that one as well."""
    from dask import config

    context()
    with config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        yield


def _run(code: str, arguments: list[str], environment: dict[str, str], cwd: str, said: str) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    for number, name in ((1, "out"), (2, "err")):
        file = os.open(os.path.join(said, name), os.O_CREAT | os.O_WRONLY)
        os.dup2(file, number)
        os.close(file)
    sys.argv = ["-c", *arguments]
    try:
        exec(compile(code, "<program>", "exec"), {"__name__": "__main__"})
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
