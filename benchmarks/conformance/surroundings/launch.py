"""How is a command run under watch? In given surroundings, to its end or to a limit, with all that it did."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.conformance.surroundings.warm import MOST

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = (sys.executable, str(ROOT / "cli.py"))
HANG = 30.0  # seconds
_LOOK = 0.02  # seconds between two looks at a process
_MEASURE = 0.2  # seconds between two measurements of the memory of all its processes
_DIES = 10.0  # seconds in which workers notice that the process that they work for is gone


@dataclass(frozen=True)
class Surroundings:
    """What a process finds around it.

    environment : all its variables. user : its number; None: the present one. limits : of the resource
    module, by name. stdout, stderr : read, full, closed or gone (a pipe without a reader). program : begins
    the command line of a new interpreter; empty: a fork of the warm process. stop : a signal that it sends
    itself at its so-many-th change of a folder (forks only). workers : it starts processes of its own.
    """

    environment: dict[str, str]
    user: int | None = None
    limits: dict[str, int] = field(default_factory=dict)
    stdout: str = "read"
    stderr: str = "read"
    program: tuple[str, ...] = ()
    stop: tuple[int, int] | None = None
    workers: bool = False


@dataclass(frozen=True)
class Ended:
    """What became of a process. code : exit code, less than 0 for the signal that it died of; None: it hung.

    peak : bytes, of it and all that it started. left : processes that it left. sent : a signal to it.
    """

    code: int | None
    out: str
    err: str
    seconds: float
    peak: int
    left: tuple[str, ...] = ()
    sent: int | None = None


class Running:
    """A process that has been started. `look` until it is `ended`."""

    def __init__(self, launcher: Launcher, process: int, pipes: list[int], around: Surroundings) -> None:
        self.process, self.around = process, around
        self._launcher, self._pipes = launcher, pipes
        self._said: dict[int, bytearray] = {number: bytearray() for number in pipes}
        self._open = set(pipes)
        self._began = self._measured = time.monotonic()
        self._peak = 0
        self._sent = around.stop[0] if around.stop else None
        self.ended: Ended | None = None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def send(self, number: int, group: bool) -> None:
        """A signal to it, or to all of its session."""
        self._sent = number
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.process, number)

    def look(self) -> None:
        """Take what it has written, measure it, and find out whether it has ended."""
        for number in select.select(list(self._open), [], [], _LOOK)[0] if self._open else ():
            if data := os.read(number, 1 << 16):
                self._said[number] += data
            else:
                self._open.discard(number)
        if not self._open:
            time.sleep(_LOOK / 4)
        if self.around.workers and time.monotonic() - self._measured > _MEASURE:
            self._peak = max(self._peak, sum(memory_of(each) for each in session(self.process)))
            self._measured = time.monotonic()
        told = self._launcher.ask({"wait": self.process})
        if told:
            self._end(told["code"], max(self._peak, told["peak"]))
        elif self.seconds > self._launcher.hang:
            os.killpg(self.process, signal.SIGKILL)
            while not (told := self._launcher.ask({"wait": self.process})):
                time.sleep(_LOOK)
            self._end(None, max(self._peak, told["peak"]))

    def _end(self, code: int | None, peak: int) -> None:
        seconds = self.seconds
        left = self._left()
        for number in self._pipes:
            os.set_blocking(number, False)
            with contextlib.suppress(BlockingIOError):
                while data := os.read(number, 1 << 16):
                    self._said[number] += data
            os.close(number)
        out, err = (bytes(self._said[number]).decode("utf-8", "replace") for number in self._pipes)
        self.ended = Ended(code, out, err, seconds, peak, left, self._sent)

    def _left(self) -> tuple[str, ...]:
        """Processes of its session that live on; they are ended here."""
        until = time.monotonic() + (_DIES if self.around.workers else 0.5)
        while (rest := session(self.process)) and time.monotonic() < until:
            time.sleep(_LOOK)
        names = tuple(name_of(each) for each in rest)
        for each in rest:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        return names


class Launcher:
    """Starts commands, as a context. hang : seconds after which a command is taken to hang."""

    def __init__(self, hang: float = HANG) -> None:
        self.hang = hang

    def __enter__(self) -> Launcher:
        self._channel, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
            "ORT_DISABLE_TELEMETRY": "1",
        }
        command = [sys.executable, "-m", "benchmarks.conformance.surroundings.warm", str(other.fileno())]
        with other:
            self._warm = subprocess.Popen(command, cwd=ROOT, env=environment, pass_fds=[other.fileno()])
        told = self._channel.recv(MOST)
        if not told:
            self.__exit__()
            raise RuntimeError("the warm process ended before it was ready")
        if (threads := json.loads(told)["threads"]) != 1:
            raise RuntimeError(f"the warm process has {threads} threads; it cannot fork")
        return self

    def __exit__(self, *raised: object) -> None:
        self._channel.close()
        self._warm.wait(60)

    def ask(self, what: dict[str, Any], numbers: Sequence[int] = ()) -> dict[str, Any]:
        socket.send_fds(self._channel, [json.dumps(what).encode()], numbers)
        return json.loads(self._channel.recv(MOST))

    def start(self, arguments: Sequence[str], folder: Path, around: Surroundings) -> Running:
        """Start a command in a folder."""
        ends, pipes = [], []
        for stream in (around.stdout, around.stderr):
            reader, writer = os.pipe()
            if stream == "full":
                os.close(writer)
                writer = os.open("/dev/full", os.O_WRONLY)
            pipes.append(reader)
            ends.append(writer)
            if stream == "gone":
                os.close(reader)
                pipes[-1] = os.open(os.devnull, os.O_RDONLY)
        asked = {
            "arguments": list(arguments),
            "folder": str(folder),
            "environment": around.environment,
            "user": around.user,
            "limits": around.limits,
            "closed": [k for k, each in ((1, around.stdout), (2, around.stderr)) if each == "closed"],
            "program": around.program,
            "stop": around.stop,
        }
        process = self.ask(asked, ends)["process"]
        for number in ends:
            os.close(number)
        return Running(self, process, pipes, around)

    def run(
        self,
        arguments: Sequence[str],
        folder: Path,
        around: Surroundings,
        meanwhile: Callable[[Running], object] = lambda running: None,
    ) -> Ended:
        """Run a command to its end. meanwhile : called with it again and again."""
        running = self.start(arguments, folder, around)
        while running.ended is None:
            meanwhile(running)
            running.look()
        return running.ended


def session(leader: int) -> list[int]:
    """The living processes of a session."""
    return [number for number in _processes() if _session_of(number) == leader]


def memory_of(process: int) -> int:
    """Bytes of a process, shared ones by their share; 0 where it is gone."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def name_of(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:120]
    except OSError:
        return str(process)


def _processes() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _session_of(process: int) -> int:
    """0 for one that is gone, or has ended and waits to be noticed."""
    try:
        state, *rest = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return 0
    return 0 if state == "Z" else int(rest[2])
