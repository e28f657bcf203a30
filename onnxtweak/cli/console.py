"""What does the user see on stderr while a command works, and when it fails?"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import time
import traceback
from typing import Any, TextIO

from onnxtweak.errors import OnnxtweakError
from onnxtweak.printable import visible
from onnxtweak.quantities import number_of

QUIET, NORMAL, VERBOSE = -1, 0, 1

_REDRAW_SECONDS = 0.1  # on a terminal
_REPEAT_SECONDS = 10.0  # elsewhere, and only in verbose mode


class Console:
    """Narration and progress of one command; every line goes to stderr, and is one line whatever it quotes.

    verbosity : QUIET shows only errors; VERBOSE adds `detail` lines.
    Satisfies `onnxtweak.types.Progress`: on a terminal the bar is redrawn in place, elsewhere each finished
    pass is one line.
    """

    def __init__(self, verbosity: int = NORMAL, stream: TextIO | None = None) -> None:
        self.verbosity = verbosity
        # Without stderr there is nobody to tell.
        self.stream = stream or sys.stderr or io.StringIO()
        self.redraws = self.stream.isatty() and os.environ.get("TERM") != "dumb"
        self._pause = _REDRAW_SECONDS if self.redraws else _REPEAT_SECONDS
        self._drawn = False

    def say(self, line: str) -> None:
        """A line for everybody, except in quiet mode."""
        if self.verbosity >= NORMAL:
            self._write(line)

    def detail(self, line: str) -> None:
        """A line for verbose mode."""
        if self.verbosity >= VERBOSE:
            self._write(line)

    def start(self, what: str, total: int, unit: str = "samples") -> None:
        self._what, self._total, self._unit = what, total, unit
        self._done = 0
        self._began = time.perf_counter()
        self._next_draw = self._began + (0 if self.redraws and not total else self._pause)
        if not total:
            self.advance(0)  # it may take any time until there is the first

    def advance(self, count: int) -> None:
        self._done += count
        now = time.perf_counter()
        # What has no known end is shown in a log too.
        least = NORMAL if self.redraws or not self._total else VERBOSE
        if now < self._next_draw or self.verbosity < least:
            return
        self._next_draw = now + self._pause
        width = shutil.get_terminal_size().columns - 1
        line = progress_line(self._what, self._done, self._total, self._unit, now - self._began, width)
        if self.redraws:
            self._put(f"\r\x1b[K{visible(line)}")
            self._drawn = True
        else:
            self._write(line)

    def finish(self) -> None:
        seconds = time.perf_counter() - self._began
        pace = pace_of(self._done, seconds)
        rate = f" ({pace})" if pace else ""
        done = number_of(self._done, self._unit.removesuffix("s"))
        self.say(f"{self._what}: {done} in {duration(seconds)}{rate}")

    def reuse(self, what: str) -> None:
        """Instead of a pass: an earlier run has made it."""
        self.say(f"{what}: cached")

    def remake(self, what: str) -> None:
        """Before a pass: an earlier run has made it, but its file is not as it was written."""
        self.say(f"note: {what}: what was saved is damaged or was changed, so it is made again")

    def fail(self, what: str, where: str = "", hint: str = "") -> None:
        """The form of every error, one line each: `error: WHAT (WHERE)` and `hint: WHAT TO DO`."""
        where = " ".join(where.split())
        self._write(f"error: {' '.join(what.split())}" + (f" ({where})" if where else ""))
        if hint:
            self._write(f"hint: {' '.join(hint.split())}")

    def trace(self, error: BaseException) -> None:
        """The traceback of an error, indented: a message of several lines begins none of its own."""
        for line in "".join(traceback.format_exception(error)).split("\n"):
            self._write(f"  {line}".rstrip())

    def warn(self, message: Warning | str, *where: Any, **more: Any) -> None:
        """What a library warns of, as a note; takes what `warnings.showwarning` is given."""
        self.say(f"note: {' '.join(str(message).split())}")

    def fail_with(self, error: OnnxtweakError) -> None:
        self.fail(error.what, error.where, error.hint)

    def _write(self, line: str) -> None:
        erased, self._drawn = "\r\x1b[K" if self._drawn else "", False
        self._put(f"{erased}{visible(line)}\n")

    def _put(self, text: str) -> None:
        # What is narrated may get lost, on a full disk for one: the job goes on.
        with contextlib.suppress(OSError):
            self.stream.write(text)
            self.stream.flush()


def progress_line(what: str, done: int, total: int, unit: str, seconds: float, width: int) -> str:
    """One line of at most `width` characters: bar, share done, rate and time left."""
    rate = done / seconds if seconds > 0 else 0.0
    if total > 0:
        share = min(done / total, 1.0)
        # Padded, so that the bar keeps its length while the numbers grow.
        pace = pace_of(done, seconds)
        facts = f"{share:4.0%}  {done:>{len(f'{total:,}')},}/{total:,} {unit}  {pace:>8}"
        if rate > 0:
            facts += f"  {duration(max(total - done, 0) / rate)} left"
        room = min(width - len(what) - len(facts) - 6, 30)
        if room >= 5:
            filled = round(share * room)
            facts = f"[{'#' * filled}{'.' * (room - filled)}] {facts}"
    else:
        # That time passes is all there is to see of what may not have begun yet.
        count = f"{done:,} {unit}" if done else ""
        facts = "  ".join(filter(None, (count, pace_of(done, seconds), duration(seconds))))
    return f"{what}  {facts}"[: max(width, 0)]


def pace_of(done: int, seconds: float) -> str:
    """How many a second, or the time of each where that is longer; nothing before the first."""
    if not done or seconds <= 0:
        return ""
    rate = done / seconds
    return f"{rate:,.0f}/s" if rate >= 1 else f"{duration(seconds / done)} each"


def duration(seconds: float) -> str:
    """Seconds in a readable form: 0.42 s, 12.3 s, 4:05 min, 2:10 h."""
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d} h"
