"""What must hold whatever happens to a command? Each thing that does not is told in a line.

No exit code 70, no traceback, no death by a signal that was not sent, no hang, no memory beyond `--memory`
and half a gigabyte, no process and no file left, all files delivered or none, nothing read is changed, and
the same bytes as of a command that was left alone.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.conformance.surroundings.jobs import MEMORY, Job
from benchmarks.conformance.surroundings.launch import Ended
from benchmarks.conformance.surroundings.workshop import Result, is_hidden, written

BEYOND = 512 << 20  # bytes beyond `--memory`
_LARGE = 64 << 20  # bytes of a file that is not read whole
USER_ERROR, ENVIRONMENT = 2, 4


@dataclass(frozen=True)
class Expected:
    """What is allowed.

    codes : exit codes. sent : a signal that may end it. same : it writes the same bytes, where it succeeds;
    told : and its stdout too. silent : its stderr cannot be read. left : unfinished work may lie about (it
    had no chance to clear up). whole : with these exit codes its files may be there, all of them.
    """

    codes: frozenset[int] = frozenset({0})
    sent: int | None = None
    same: bool = True
    silent: bool = False
    told: bool = True
    left: bool = False
    whole: frozenset[int] = frozenset({0})


def snapshot(folder: Path) -> dict[str, str]:
    """What lies in a folder, at any depth: kind and digest of each thing by its path."""
    found: dict[str, str] = {}
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place, name)
            found[path.relative_to(folder).as_posix()] = _thing(path)
    return found


def _thing(path: Path) -> str:
    about = path.lstat()
    if stat.S_ISLNK(about.st_mode):
        return f"link to {os.readlink(path)}"
    if not stat.S_ISREG(about.st_mode):
        return str(stat.S_IFMT(about.st_mode))
    if about.st_size > _LARGE:
        return f"{about.st_size} bytes"
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except PermissionError:
        return f"{about.st_size} bytes that cannot be read"


def judge_process(ended: Ended, expected: Expected) -> Iterator[str]:
    """Faults of how a command ended."""
    if ended.code is None:
        yield "it hung"
        return
    if ended.code < 0:
        if -ended.code != expected.sent:
            yield f"it died of signal {-ended.code}"
    elif ended.code == 70:
        yield "exit code 70"
    elif ended.code not in expected.codes:
        yield f"exit code {ended.code}"
    if "Traceback (most recent call last)" in ended.err + ended.out and ended.code != -(expected.sent or 0):
        yield "a traceback"
    if ended.peak > MEMORY + BEYOND:
        yield f"{ended.peak >> 20} MiB of memory"
    if ended.left:
        yield f"processes left: {', '.join(ended.left)}"
    lines = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    if len(lines) > 1:
        yield f"{len(lines)} errors told"
    if ended.code in (USER_ERROR, ENVIRONMENT) and not lines and not expected.silent:
        yield f"exit code {ended.code} without a word"


def judge_files(
    job: Job, before: Mapping[str, str], after: Mapping[str, str], ended: Ended, expected: Expected
) -> Iterator[str]:
    """Faults of what lies about afterwards. before, after : snapshots of the case's folder."""
    mine = {f"place/{name}" for name in job.writes}
    kept = {f"place/{name}" for name in job.keeps}
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) == after.get(name):
            continue
        if is_hidden(name):
            if name in after and not expected.left:
                yield f"unfinished work left: {name}"
        elif not _inside(name, mine | kept):
            if name not in before:
                yield f"a file left: {name}"
            else:
                yield f"{'changed' if name in after else 'deleted'}: {name}"
    alone = mine - kept  # what another command writes as well may be that one's
    there = {name for name in alone if name in after}
    if there and there != alone and not expected.left:
        yield f"delivered by half: {', '.join(sorted(there))}"
    elif there and before.keys() & mine != mine and ended.code not in expected.whole and not expected.left:
        yield f"exit code {ended.code}, but all is delivered"
    if ended.code == 0 and mine and not there:
        yield "exit code 0, but nothing is delivered"


def judge_bytes(job: Job, place: Path, ended: Ended | None, wanted: Result) -> Iterator[str]:
    """Differences from what the job writes when it is left alone. ended : None: its stdout does not count."""
    found = written(job, place, ended)
    for name in sorted(found.keys() | wanted.files.keys()):
        if name == "told" and (ended is None or ended.code != 0 or job.out != "o"):
            continue
        if found.get(name) != wanted.files.get(name):
            yield (
                f"other bytes: {name}"
                if name in found and name in wanted.files
                else f"{name} is missing or new"
            )


def _inside(name: str, folders: set[str]) -> bool:
    return any(name == each or name.startswith(f"{each}/") for each in folders)
