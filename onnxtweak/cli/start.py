"""How is the program started as a process? So that it can be stopped from its first moment on."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys

from onnxtweak.cli.stopping import Stopping

_HINT = "check the installation and the limits of this shell (`ulimit -n`)"


def main() -> int:
    """Run the program on the arguments of the process, and return the exit code."""
    # ONNX Runtime would write an identifier into the home folder, complain where it cannot, and send reports.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    stopping = Stopping()
    stopping.listen()
    try:
        stopping.watch(lambda: _leave(_told(stopping)))
        code = _carry_out(stopping)
        stopping.end()
    except KeyboardInterrupt:
        stopping.end()
        code = _told(stopping)
    if stopping.number is not None:
        _leave(code)
    stopping.end_for_good()
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
    except (OSError, ValueError):  # full or closed: what was told is lost, and the job's exit code stands
        sys.stderr = None
    return code


def _told(stopping: Stopping) -> int:
    """Say that a signal ends the program; the exit code."""
    if sys.stderr is not None:
        sys.stderr.write(f"error: {stopping.said}\n")
    return stopping.code


def _carry_out(stopping: Stopping) -> int:
    try:
        from onnxtweak.cli.main import carry_out
    except OSError as error:
        if stopping.number is not None:
            raise KeyboardInterrupt from error
        stopping.end()
        if sys.stderr is not None:
            sys.stderr.write(f"error: the program cannot be loaded: {error}\nhint: {_HINT}\n")
        return 4
    return carry_out(sys.argv[1:], stopping)


def _leave(code: int) -> None:
    """End the process once it is cleaned up, without waiting for threads that were interrupted at work.

    To take the interpreter down under them, and under libraries that were interrupted while they loaded, has
    ended in crashes.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # full, closed, none
            stream.flush()
    os._exit(code)
