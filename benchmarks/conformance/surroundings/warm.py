"""How does a command start within milliseconds? By a fork of a process that has loaded everything already.

    python -m benchmarks.conformance.surroundings.warm NUMBER

NUMBER is a descriptor of a socket (SOCK_SEQPACKET) on which `launch.Launcher` asks: to start a command in
given surroundings, or how a started one has ended. A child leaves the loop below and goes on as a process
that was started as `python -m onnxtweak` is: a session of its own, the entry point of the program, the end of
the interpreter. It forks with a single thread only, or says that it cannot.
"""

from __future__ import annotations

import atexit
import codecs
import contextlib
import gc
import importlib
import io
import json
import os
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

MOST = 1 << 17  # bytes of a message
_ENDS = 10.0  # seconds in which threads end that were told to
# Pyarrow has a thread, CuPy wants a GPU, and the last is the program itself.
# Of extras, which start threads or are not installed.
_NOT_LOADED = (
    "onnxtweak.__main__",
    "onnxtweak.api.frames",
    "onnxtweak.api.mlflow_log",
    "onnxtweak.data.sources.memory.arrow",
    "onnxtweak.data.sources.parquet",
    "onnxtweak.engine.runtimes.",
    "onnxtweak.theta.cupy",
)
_CHANGES = ("os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "open")


def main() -> int:
    channel = socket.socket(fileno=int(sys.argv[1]))
    load()
    gc.freeze()  # or collecting in a child would copy every page
    channel.send(json.dumps({"threads": threads()}).encode())
    while True:
        message, numbers, _, _ = socket.recv_fds(channel, MOST, 2)
        if not message:
            return 0
        asked = json.loads(message)
        if "wait" in asked:
            channel.send(json.dumps(ended(asked["wait"])).encode())
            continue
        if (process := os.fork()) == 0:
            channel.close()
            become(asked, numbers)
            from onnxtweak.cli.start import main as program

            leave(program())
        for number in numbers:
            os.close(number)
        channel.send(json.dumps({"process": process}).encode())


def load() -> None:
    """All that a command loads while it runs, and the kernels, by running one."""
    import PIL.Image

    import onnxtweak
    from onnxtweak.cli.main import main as program
    from onnxtweak.demo_files import demo_files

    importlib.import_module("email.policy")  # by what lists packages, when it is asked to
    for name in ("utf-8-sig", "ascii", "latin-1"):
        codecs.lookup(name)
    package = Path(onnxtweak.__file__).parent
    for path in sorted(package.rglob("*.py")):
        name = ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")
        if not name.startswith(_NOT_LOADED):
            importlib.import_module(name)
    PIL.Image.init()  # its readers of formats
    files = demo_files()
    command = ["score", files.model, "-d", f"{files.data}#test[0:100]", "-t", "3", "--threads", "1", "-q"]
    with contextlib.redirect_stdout(io.StringIO()):
        program([str(each) for each in command])


def threads() -> int:
    """How many there are, once those that were told to end have done so."""
    until = time.monotonic() + _ENDS
    while (count := len(os.listdir("/proc/self/task"))) > 1 and time.monotonic() < until:
        time.sleep(0.01)
    return count


def ended(process: int) -> dict[str, Any]:
    """Whether a process has ended, with which exit code (less than 0: by a signal), and its peak memory."""
    number, status, used = os.wait4(process, os.WNOHANG)
    if number == 0:
        return {}
    return {"code": os.waitstatus_to_exitcode(status), "peak": used.ru_maxrss * 1024}


def become(asked: dict[str, Any], numbers: list[int]) -> None:
    """Turn this process into the command that is asked for, in its surroundings."""
    os.setsid()
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for standard, number in zip((1, 2), numbers, strict=True):
        os.dup2(number, standard)
    os.closerange(3, 64)
    for number in asked["closed"]:
        os.close(number)
    os.chdir(asked["folder"])
    for name, most in asked["limits"].items():
        resource.setrlimit(getattr(resource, name), (most, most))
    if asked["user"] is not None:
        os.setgroups([])
        os.setgid(asked["user"])
        os.setuid(asked["user"])
    if asked["program"]:
        os.execve(asked["program"][0], [*asked["program"], *asked["arguments"]], asked["environment"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    tempfile.tempdir = None
    sys.argv = ["onnxtweak", *asked["arguments"]]
    encoding = os.environ.get("PYTHONIOENCODING") or "utf-8"
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(io.FileIO(number, "w", closefd=False), encoding, errors, line_buffering=number == 2)
        if number not in asked["closed"]
        else None
        for number, errors in ((1, "strict"), (2, "backslashreplace"))
    )
    sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr
    if asked["stop"]:
        with contextlib.suppress(OSError):
            tempfile.gettempdir()  # tries folders by files that Python itself leaves when it is killed
        stop_after(*asked["stop"])


def leave(code: int) -> NoReturn:
    """End as the interpreter does, without taking apart all that was loaded, which takes half a second."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            try:
                stream.flush()
            except OSError:
                code = 120
    os._exit(code)


def stop_after(number: int, changes: int) -> None:
    """Send this process a signal when it is about to make its so-many-th change of a folder."""
    left = [changes]

    def heard(event: str, given: tuple[Any, ...]) -> None:
        if event not in _CHANGES or (event == "open" and not _writes(given)):
            return
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), number)

    sys.addaudithook(heard)


def _writes(given: tuple[Any, ...]) -> bool:
    return isinstance(given[2], int) and bool(given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


if __name__ == "__main__":
    sys.exit(main())
