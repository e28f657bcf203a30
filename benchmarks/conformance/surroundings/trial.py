"""What do all kinds of cases share? One case's folder, in which jobs are done and judged one by one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.conformance.surroundings.jobs import SLOW, WORKERS, Job, jobs
from benchmarks.conformance.surroundings.judge import (
    Expected,
    judge_bytes,
    judge_files,
    judge_process,
    snapshot,
)
from benchmarks.conformance.surroundings.launch import PROGRAM, Ended, Running, Surroundings
from benchmarks.conformance.surroundings.workshop import Bench, Workshop

EXECUTED = 0.03  # share of cases with a new interpreter, so that starting up is covered too
_WORKERS, _SLOW = 0.003, 0.004  # shares of jobs that take seconds
NOBODY = 65534


@cache
def can_be(user: int, starts: bool) -> bool:
    """Whether a case can be another user. starts : and starts interpreters, which that user has to reach."""
    if os.geteuid() != 0:
        return False
    needed = [Path(each) for each in (sys.executable, os.__file__, np.__file__, PROGRAM[-1])]
    folders = {folder for path in needed for folder in (*path.parents, *path.resolve().parents)}
    return not starts or all(folder.stat().st_mode & 0o005 == 0o005 for folder in folders)


@dataclass
class Trial:
    """A case: its random numbers, its folder, and what has been found. said : what was done, in words."""

    shop: Workshop
    rng: np.random.Generator
    folder: Path
    said: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def one_of(self, *choices: object) -> object:
        return choices[self.rng.integers(len(choices))]

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def job(self, *, lasting: bool = False) -> Job:
        """Any job. lasting : one that writes files."""
        draw = self.rng.random()
        if draw < _WORKERS:
            return WORKERS
        if draw < _WORKERS + _SLOW and not lasting:
            return SLOW[self.rng.integers(len(SLOW))]
        choices = [job for job in jobs() if job.writes or not lasting]
        return choices[self.rng.integers(len(choices))]

    def bench(self, *of: Job) -> Bench:
        """The case's folder with what jobs read, for one job or several."""
        reads = tuple(dict.fromkeys(name for job in of for name in job.reads))
        return self.shop.bench(replace(of[0], reads=reads), self.folder)

    def program(self, share: float = EXECUTED) -> tuple[str, ...]:
        """How the case starts commands: seldom by a new interpreter."""
        return self.shop.program or (PROGRAM if self.chance(share) else ())

    def carry_out(
        self,
        job: Job,
        around: Surroundings,
        expected: Expected,
        meanwhile: Callable[[Running], object] = lambda running: None,
        before: dict[str, str] | None = None,
        more: tuple[str, ...] = (),
    ) -> Ended:
        """Do a job in `place`, and judge it. before : a snapshot of the case's folder, of now by default."""
        before = snapshot(self.folder) if before is None else before
        ended = self.shop.launcher.run((*job.given, *more), self.folder / "place", around, meanwhile)
        self.judge(job, ended, expected, before)
        return ended

    def judge(self, job: Job, ended: Ended, expected: Expected, before: dict[str, str]) -> None:
        """Judge a job that has ended."""
        self.said.append(f"{job.name}: {'hung' if ended.code is None else ended.code}")
        found = [*judge_process(ended, expected)]
        found += judge_files(job, before, snapshot(self.folder), ended, expected)
        if ended.code == 0 and expected.same:
            told = ended if expected.told else None
            found += judge_bytes(job, self.folder / "place", told, self.shop.result(job))
        self.note(job, found, ended)

    def note(self, job: Job, faults: list[str], ended: Ended) -> None:
        if faults:
            self.faults += [f"{job.name}: {fault}" for fault in faults]
            self.errors += ended.err.strip().splitlines()[-6:]

    def open_to(self, user: int | None) -> None:
        """Give the case's folder to a user."""
        if user is None:
            return
        for place, folders, files in os.walk(self.folder):
            os.chown(place, user, user)
            for name in (*folders, *files):
                os.lchown(os.path.join(place, name), user, user)
