"""How are samples read from a Python function? `file.py:function`, called once, its batches stored on disk.

The function yields `(inputs, labels)`: an array (n, ...) or a dict of arrays by input name, and n labels. The
dict may hold columns of groups too.
The batches are written to a temporary folder, so that every pass sees the same samples, in bounded memory,
and the digest covers their contents. The function has to end, unless rows `[start:stop]` of it are chosen:
then no more are asked for. It may take its time: that it is waited for is shown. A named pipe it may not
open, which waits for whoever writes it, possibly for ever. The file is executed: give only files whose code
you trust.
"""

from __future__ import annotations

import os
import runpy
import stat
import sys
import threading
import traceback
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from onnxtweak.data.samples import InputSpec, Part, Reading
from onnxtweak.data.source_spec import Source
from onnxtweak.data.sources.memory.batches import BATCH_HINT, spooled
from onnxtweak.errors import DataError, OnnxtweakError
from onnxtweak.input_files import MOST_SOURCE, require_regular
from onnxtweak.types import ticking

_BOUNDED = "of a function that does not end, choose rows: FILE.py:FUNCTION#[0:10000]"
_AT_ONCE = getattr(os, "O_NONBLOCK", 0)


def read_function(source: Source, inputs: Sequence[InputSpec], reading: Reading) -> list[Part]:
    """What `file.py:function` yields, as parts. Raises DataError, naming the line that failed."""
    if not source.key:
        raise DataError(
            "the name of the function is missing", where=source.path, hint=f"write {source.path}:FUNCTION"
        )
    require_regular(source.path, DataError, MOST_SOURCE)
    where = f"{source.path}:{source.key}"
    forward = (source.start or 0) >= 0 and (source.stop or 0) >= 0
    reading.progress.start(f"read {source.path.name}:{source.key}", 0)
    with ExitStack() as stack:
        stack.enter_context(ticking(reading.progress))
        stack.enter_context(_without_pipes())
        batches = stack.enter_context(closing(_batches(source.path, source.key, where)))
        parts = spooled(batches, where, inputs, reading, _BOUNDED, source.stop if forward else None)
    if not parts:
        raise DataError("the function yielded no samples", where=where, hint=BATCH_HINT)
    reading.progress.finish()
    return parts


def _batches(path: Path, name: str, where: str) -> Generator[Any, None, None]:
    """What the function yields. Raises DataError for any exception in it."""
    folder = str(path.resolve().parent)  # importable, as when the file is run as a script
    batches = 0
    sys.path.insert(0, folder)
    try:
        function = runpy.run_path(str(path), run_name="onnxtweak_data").get(name)
        if not callable(function):
            raise DataError(f"no function `{name}`", where=path, hint=f"define it: def {name}(): yield x, y")
        result = function()
        if not isinstance(result, Iterable):
            raise DataError(
                f"the function returns {type(result).__name__}, not batches", where=where, hint=BATCH_HINT
            )
        for batch in result:
            yield batch
            batches += 1
    except OnnxtweakError:
        raise
    except (Exception, SystemExit) as error:  # user code may raise anything
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
        line = lines[-1] if lines else getattr(error, "lineno", None)
        raise DataError(
            f"the function failed: {type(error).__name__}: {error}",
            where=", ".join((f"batch {batches} of {where}", *([f"line {line}"] if line else []))),
            hint="run the file on its own to see the full traceback",
        ) from error
    finally:
        sys.path.remove(folder)


@contextmanager
def _without_pipes() -> Iterator[None]:
    """In this thread, until the block ends, opening a named pipe raises DataError where it would wait."""
    readers, reader = _refused_pipes(), threading.get_ident()
    readers.add(reader)
    try:
        yield
    finally:
        readers.discard(reader)


@cache
def _refused_pipes() -> set[int]:
    """Threads that may open no named pipes. Python tells of all that is opened, and never stops telling."""
    readers: set[int] = set()

    def heard(event: str, given: tuple[Any, ...]) -> None:
        if event == "open" and threading.get_ident() in readers and _waits(*given):
            path = os.fsdecode(given[0])
            raise DataError(
                "the function opens a named pipe, which waits until somebody writes to it",
                where=path,
                hint="let it read a file on disk, or `sys.stdin`",
            )

    sys.addaudithook(heard)
    return readers


def _waits(path: Any, mode: Any, flags: Any) -> bool:
    """Whether to open a path waits for another process to open it too."""
    if not isinstance(path, str | bytes) or (isinstance(flags, int) and flags & (_AT_ONCE | os.O_RDWR)):
        return False
    try:
        # What a shell hands on, as <(command) or /dev/stdin, is open already.
        given = os.path.realpath(os.fsdecode(path)).startswith("/proc/")
        return stat.S_ISFIFO(os.stat(path).st_mode) and not given
    except (OSError, ValueError):
        return False
