"""Does a command that was stopped at any moment leave nothing behind, and the same bytes after the next try?

It gets SIGKILL, SIGTERM, SIGINT or SIGHUP, alone or with all that it started: after a random time, or when it
is about to change its folder for the so-many-th time. Then the same command is given again.
"""

from __future__ import annotations

import signal

from benchmarks.conformance.surroundings.judge import Expected, judge_bytes, snapshot
from benchmarks.conformance.surroundings.launch import Running
from benchmarks.conformance.surroundings.trial import Trial
from benchmarks.conformance.surroundings.workshop import written

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_STARTING = 1.0  # seconds that a new interpreter takes to begin, about
_CHANGES = 60  # of folders, that a job makes at most, about


def kill(trial: Trial) -> None:
    """One job, stopped and done again."""
    rng, job = trial.rng, trial.job()
    wanted = trial.shop.result(job)
    bench, program = trial.bench(job), trial.program()
    number = SIGNALS[rng.integers(len(SIGNALS))]
    stop = None
    if not program and not job.workers and trial.chance(0.5):
        stop = (int(number), int(rng.integers(1, _CHANGES) ** rng.random()))
    after = rng.random() * (wanted.seconds * 1.1 + (_STARTING if program else 0))
    group = trial.chance(0.5)
    trial.said.append(f"{number.name} {f'at change {stop[1]}' if stop else f'after {after:.3f} s'}")
    sent = []

    def meanwhile(running: Running) -> None:
        if stop is None and not sent and running.seconds > after:
            running.send(number, group)
            sent.append(number)

    before = snapshot(trial.folder)
    killed = number == signal.SIGKILL
    codes = frozenset({0, 128 + number})
    expected = Expected(codes, sent=number, left=killed, whole=codes, same=False)
    ended = trial.carry_out(job, bench.around(program=program, stop=stop), expected, meanwhile, before)
    whole = wanted.files.keys() - {"told"} <= written(job, bench.place).keys() and bool(job.writes)
    if ended.code == 0 or whole:
        trial.note(job, list(judge_bytes(job, bench.place, None, wanted)), ended)
    if ended.code == 0:
        return
    again = ("--force",) if whole else ()
    trial.carry_out(job, bench.around(program=program), Expected(told=not again), before=before, more=again)
