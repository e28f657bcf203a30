"""How is the program told to stop? By Ctrl-C, a termination (SIGTERM) or a hangup (SIGHUP), all alike.

Each raises `Stopped`, a KeyboardInterrupt: what would be cleaned up after Ctrl-C is cleaned up, and the exit
code is 128 and the signal's number. Nothing heavy is imported here: it holds while the rest is loaded.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from _thread import interrupt_main
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

_SAID = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "interrupted: the terminal hung up"}
# Seconds in which further signals are taken for the first: Ctrl-C pressed twice, a signal to a whole group.
_ONE_REQUEST = 5.0
_PATIENCE = 5.0  # seconds that a library's call may go on after a signal
_AGAIN = 0.02  # seconds until one that was swallowed is raised again


class Stopped(KeyboardInterrupt):
    """A signal has asked the program to end. number : the signal's. swallowed : called when this is freed."""

    def __init__(self, number: int, swallowed: Callable[[int], None]) -> None:
        super().__init__()
        self.number = number
        self._swallowed = swallowed

    def __del__(self) -> None:
        self._swallowed(self.number)


class Stopping:
    """The handlers of these signals, as a context. Signals that are ignored, as under `nohup`, stay ignored.

    number : the signal that came; None: none has. What is raised after it has that cause, whatever it says: a
    module that was interrupted while it was loaded, for one, reports that it cannot be imported. Until `end`,
    a `Stopped` that somebody swallows is raised again.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._at = 0.0
        self._ended = False
        self._waits: list[int] | None = None  # signals that have come in a block of `later`
        self._before: dict[int, Any] = {}
        self._hook = sys.unraisablehook

    def listen(self) -> None:
        """Install the handlers; where Python allows none, outside the main thread, all stays as it is."""
        with contextlib.suppress(ValueError):
            for name in _SAID:
                number = getattr(signal, name, None)  # Windows has no SIGHUP
                if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._receive)
        if self._before:
            self._hook, sys.unraisablehook = sys.unraisablehook, self._unraised

    def watch(self, leave: Callable[[], object]) -> None:
        """Call `leave`, from another thread, where a signal does not reach Python within a few seconds.

        It does not while the main thread is inside a library: ONNX Runtime can take minutes to start a model.
        """
        if not self._before:
            return
        # No more files or threads, Windows. A thread that is half started would be waited for without end.
        with self.later(), contextlib.suppress(OSError, RuntimeError, ValueError):
            from threading import Thread

            reader, writer = os.pipe()
            os.set_blocking(writer, False)
            signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
            Thread(target=self._watch, args=(reader, leave), daemon=True).start()

    def _watch(self, reader: int, leave: Callable[[], object]) -> None:
        while heard := os.read(reader, 1):
            until = time.monotonic() + _PATIENCE
            while self.number is None and not self._ended and time.monotonic() < until:
                time.sleep(_AGAIN)
            if heard[0] in self._before and self.number is None and not self._ended:
                self.number = heard[0]
                self.end()
                _silence()
                leave()

    def __enter__(self) -> Stopping:
        self.listen()
        return self

    def __exit__(self, *raised: object) -> None:
        self.end()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._before:
            sys.unraisablehook = self._hook

    def end(self) -> None:
        """From now on signals are ignored: what is left is to be cleaned up undisturbed."""
        self._ended = True

    def end_for_good(self) -> None:
        """`end`, until the process is gone: Python takes down its handlers before the rest of itself.

        What the system ignores stays ignored, so a signal that comes late cannot replace the exit code.
        """
        self.end()
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)

    @property
    def code(self) -> int:
        """The exit code."""
        return 128 + (self.number or signal.SIGINT)

    @property
    def said(self) -> str:
        """What has happened, in a few words."""
        return _SAID[signal.Signals(self.number or signal.SIGINT).name]

    @contextlib.contextmanager
    def later(self) -> Iterator[None]:
        """Let a signal wait until the block ends: for what would leave something if it were stopped."""
        self._waits = []
        try:
            yield
        finally:
            waited, self._waits = self._waits, None
            for number in waited[:1]:
                self._receive(number, None)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._waits is not None:
            self._waits.append(number)
            return
        if self._ended or (self.number is not None and now - self._at < _ONE_REQUEST):
            return
        self.number, self._at = number, now
        _silence()
        raise Stopped(number, self._raise_again)

    def _raise_again(self, number: int) -> None:
        if self._ended:
            return
        from threading import Timer

        self._at = 0.0
        with contextlib.suppress(RuntimeError):  # the interpreter ends
            # Not here: in a destructor nothing can be raised.
            again = Timer(_AGAIN, self._interrupt, (number,))
            again.daemon = True
            again.start()

    def _interrupt(self, number: int) -> None:
        if not self._ended:
            interrupt_main(signal.Signals(number))

    def _unraised(self, lost: Any) -> None:
        if self.number is None:
            self._hook(lost)


def _silence() -> None:
    """What other modules log from now on, and the threads that end with an error, are about being stopped."""
    if (logging := sys.modules.get("logging")) is not None:
        logging.disable()
    if (threading := sys.modules.get("threading")) is not None:
        threading.__dict__["excepthook"] = lambda lost: None
