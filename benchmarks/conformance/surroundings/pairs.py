"""Do two commands at once leave each other alone?

The same output, the same work directory or recipe, or other outputs in one folder; and one of them killed
while the other lives on.
"""

from __future__ import annotations

import signal
from dataclasses import replace

from benchmarks.conformance.surroundings.jobs import jobs
from benchmarks.conformance.surroundings.judge import Expected, judge_bytes, snapshot
from benchmarks.conformance.surroundings.trial import Trial

_SIGNALS = (signal.SIGKILL, signal.SIGTERM)


def pair(trial: Trial) -> None:
    """Two jobs at once, of which one may be killed; then a third, which clears up after both."""
    rng = trial.rng
    first = trial.job(lasting=True)
    twins = trial.chance(0.6)
    second = first if twins else jobs()[rng.integers(len(jobs()))]
    same = (twins and trial.chance(0.4)) or (first.alone and second == first)
    second = second.named("o" if same else "p")
    wanted = trial.shop.result(first)
    trial.shop.result(second)
    bench, program = trial.bench(first, second), trial.program()
    around = bench.around(program=program)
    more = ("--force",) if same and "-o" in first.given and trial.chance(0.5) else ()
    dies = rng.integers(2) if trial.chance(0.4) else None
    number = _SIGNALS[rng.integers(2)]
    gap, after = rng.random(2) * wanted.seconds
    before = snapshot(trial.folder)
    both = [trial.shop.launcher.start((*first.given, *more), bench.place, around)]
    began = both[0]
    trial.said.append(f"{'one output' if same else 'two outputs'}{', forced' * bool(more)}")
    if dies is not None:
        trial.said.append(f"{number.name} to the {('first', 'second')[dies]}")
    sent = False
    while len(both) < 2 or any(each.ended is None for each in both):
        if len(both) < 2 and (began.seconds > gap or began.ended is not None):
            both.append(trial.shop.launcher.start((*second.given, *more), bench.place, around))
        if dies is not None and dies < len(both) and not sent and both[dies].seconds > after:
            sent = True
            if both[dies].ended is None:
                both[dies].send(number, False)
        for each in both:
            if each.ended is None:
                each.look()
    killed = dies is not None and number == signal.SIGKILL
    for k, (job, each) in enumerate(zip((first, second), both, strict=True)):
        stopped = number if k == dies else None
        codes = {0} | ({2} if same and not more else set()) | ({128 + stopped} if stopped else set())
        # Whichever of two has one output, its files are there; and unfinished work of one that was killed.
        whole = frozenset(codes | ({-stopped} if stopped else set()))
        expected = Expected(frozenset(codes), sent=stopped, left=killed, whole=whole, same=False)
        other = second if k == 0 else first
        everything = replace(job, keeps=(*job.keeps, *other.keeps, *(() if same else other.writes)))
        assert each.ended is not None
        trial.judge(everything, each.ended, expected, before)
        if each.ended.code == 0:
            told = each.ended if not killed else None
            trial.note(job, list(judge_bytes(job, bench.place, told, trial.shop.result(job))), each.ended)
    if same and dies is None and not any(each.ended and each.ended.code == 0 for each in both):
        trial.faults.append("neither of the two succeeded")
    force = ("--force",) if "-o" in first.given else ()
    third = trial.shop.launcher.run((*first.given, *force), bench.place, around)
    everything = replace(first, keeps=(*first.keeps, *second.keeps, *(() if same else second.writes)))
    # What was left in a folder where it writes nothing stays.
    trial.judge(everything, third, Expected(told=False, left=killed and not twins), before)
