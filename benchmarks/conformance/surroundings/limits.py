"""What does a command do on a full disk, or where files may not be large, or not many may be open?

It says so in one line, leaves nothing, and works once there is room. A disk is a tmpfs of a random size,
where one may be mounted.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.conformance.surroundings.judge import Expected, snapshot
from benchmarks.conformance.surroundings.trial import Trial

_REFUSED = Expected(frozenset({0, 2, 4}))
_WHOLE = "64m"  # the size of a disk with room enough
_MOST_ROOM = 18.0  # logarithm, to base 2, of the most bytes left
_PAGE = 4096


@cache
def can_mount() -> bool:
    """Whether this user may mount a disk."""
    if os.name == "nt" or os.geteuid() != 0:
        return False
    with TemporaryDirectory() as folder:
        try:
            with disk(Path(folder)):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


@contextmanager
def disk(folder: Path) -> Iterator[None]:
    """A disk of its own in an empty folder."""
    _call("mount", "-t", "tmpfs", "-o", f"size={_WHOLE}", "none", folder)
    try:
        yield
    finally:
        _call("umount", "-l", folder)


def resize(folder: Path, size: int | str) -> None:
    _call("mount", "-o", f"remount,size={size}", folder)


def limit(trial: Trial) -> None:
    """One job under a limit, and then without."""
    ways = ["file size", "open files", *(["disk"] * 2 if can_mount() else [])]
    way = ways[trial.rng.integers(len(ways))]
    if way == "disk":
        with disk(trial.folder):
            _limited(trial, way)
    else:
        _limited(trial, way)


def _limited(trial: Trial, way: str) -> None:
    job = trial.job(lasting=not trial.chance(0.2))
    bench, program = trial.bench(job), trial.program()
    before = snapshot(trial.folder)
    room = int(2 ** (trial.rng.random() * _MOST_ROOM))
    limits = {}
    if way == "disk":
        about = os.statvfs(trial.folder)
        resize(
            trial.folder, (about.f_blocks - about.f_bfree) * about.f_frsize + room // _PAGE * _PAGE + _PAGE
        )
    elif way == "file size":
        limits = {"RLIMIT_FSIZE": room}
    else:
        # Python itself does not start with less than ten.
        room = int(trial.rng.integers(10 if program else 4, 32))
        limits = {"RLIMIT_NOFILE": room}
    trial.said.append(f"{way} {room:,}")
    ended = trial.carry_out(job, bench.around(program=program, limits=limits), _REFUSED, before=before)
    if way == "disk":
        resize(trial.folder, _WHOLE)
    if ended.code != 0:
        trial.carry_out(job, bench.around(program=program), Expected(), before=before)


def _call(*command: str | Path) -> None:
    subprocess.run([str(each) for each in command], check=True, capture_output=True)
