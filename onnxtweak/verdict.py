"""Which promises did a patch keep? The verdict: computed once, from counts of the samples it was judged on.

A promise is a change of accuracy that may not be less than its limit. It is *kept* where the whole 95 %
interval of the change reaches the limit, *not kept* where all of it lies below, and *not shown* where it
covers both. Intervals of single classes are so wide that those of all classes hold at once: of many classes
one always looks bad by chance. Changes, limits and intervals are percentage points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxtweak.intervals import Interval, paired

KEPT, NOT_KEPT, NOT_SHOWN, COPY = "kept", "not kept", "not shown", "copy"
BASE, BIAS = "base", "bias"  # answers that no method gives its name to
LISTED = "listed"  # the split where there are no samples but those that are listed

_WORST_FIRST = (NOT_KEPT, NOT_SHOWN, KEPT)
_NAMED = 3  # classes that a promise names
_ANY_LOSS = 100.0  # points: a limit that cannot be exceeded


@dataclass(frozen=True)
class SampleCounts:
    """What became of the samples of each class, all (C,) int64.

    samples : how many. fixed, broken : that only the patched model, or only the base, gets right. ahead,
    behind : that only the patched model, or only the best bias, gets right.
    """

    samples: np.ndarray
    fixed: np.ndarray
    broken: np.ndarray
    ahead: np.ndarray
    behind: np.ndarray


@dataclass(frozen=True)
class Asked:
    """What was promised. targets (c,) int64 : classes that should do better. The drops : as in `Goal`."""

    targets: np.ndarray
    max_overall_drop: float
    max_class_drop: float | None


@dataclass(frozen=True)
class Promise:
    """One promise and what became of it.

    name : "classes", "overall", "targets" or "bias"; of listed samples "must", "lock" or "keep". asked : it
    in words. limit : the least change that keeps it. change, interval : as measured; None without samples, or
    where nothing is uncertain. detail : what the figures do not say.
    """

    name: str
    asked: str
    state: str
    change: float | None
    limit: float
    interval: Interval | None
    samples: int
    detail: str = ""


@dataclass(frozen=True)
class WorstClass:
    """The class that pays most. surely : whether it lost at all, or more than its limit, beyond chance."""

    name: str
    change: float
    interval: Interval
    samples: int
    surely: bool


@dataclass(frozen=True)
class Verdict:
    """What can be said of a result.

    answer : "base" for a copy of it, "bias" for a patch that reads no neurons, else the method. state : the
    worst of the promises, or "copy". split, samples : what it was judged on. promises : what would be
    regretted first. worst : None where no class lost. cautions : on how far all this can be trusted.
    """

    answer: str
    state: str
    split: str
    samples: int
    promises: tuple[Promise, ...]
    worst: WorstClass | None
    cautions: tuple[str, ...] = ()


def copied(split: str, samples: int) -> Verdict:
    """The verdict on a file that is a copy of the base: it promises nothing."""
    return Verdict(BASE, COPY, split, samples, (), None)


def reached(
    answer: str, split: str, names: Sequence[str], asked: Asked, counts: SampleCounts, cautions: Sequence[str]
) -> Verdict:
    """The verdict on a patch. names : of all C classes. split : "test", or "validation" where there is none.

    What a patch was chosen on can show that a promise is not kept, and never that it is.
    """
    worst = _worst(names, asked, counts)
    everyone = not counts.samples[_others(asked, counts)].any()
    promises = [
        *_of_classes(worst, asked, counts),
        *([] if everyone else _of_overall(asked, counts)),
    ]
    if len(asked.targets):
        promises.append(_of_targets(names, asked, counts, everyone))
        promises += [] if answer == BIAS else [_over_bias(asked, counts, everyone)]
    if split != "test":
        promises = [replace(p, state=NOT_SHOWN) if p.state == KEPT else p for p in promises]
        cautions = (
            *cautions,
            "there is no test split: judged on the validation samples, on which the patch was chosen, so"
            " nothing is shown to be kept; --test gives others",
        )
    promises.sort(key=lambda promise: _WORST_FIRST.index(promise.state))
    lost = worst if worst is not None and worst.change < 0 else None
    samples = int(counts.samples.sum())
    return Verdict(answer, promises[0].state, split, samples, tuple(promises), lost, tuple(cautions))


def with_listed(verdict: Verdict, promises: Sequence[Promise]) -> Verdict:
    """The verdict with promises about listed samples, which hold or fail on those samples themselves."""
    if not promises:
        return verdict
    every = sorted((*promises, *verdict.promises), key=lambda promise: _WORST_FIRST.index(promise.state))
    return replace(verdict, state=every[0].state, promises=tuple(every))


def of_listed(answer: str, samples: int, promises: Sequence[Promise]) -> Verdict:
    """The verdict where there are no samples but those that are listed."""
    if answer == BASE and all(promise.state == KEPT for promise in promises):
        return copied(LISTED, samples)
    said = "there are no other samples: nothing is shown about them; labelled ones can be given with -d"
    return with_listed(Verdict(answer, NOT_SHOWN, LISTED, samples, (), None, (said,)), promises)


def _state(interval: Interval | None, limit: float) -> str:
    if interval is None or interval[0] < limit <= interval[1]:
        return NOT_SHOWN
    return KEPT if interval[0] >= limit else NOT_KEPT


def _change(better: int, worse: int, samples: int, together: int = 1) -> tuple[float | None, Interval | None]:
    """The change of an accuracy and its interval, in points."""
    found = paired(better, worse, samples, together)
    if found is None:
        return None, None
    return (better - worse) / samples * 100, (found[0] * 100, found[1] * 100)


def _others(asked: Asked, counts: SampleCounts) -> np.ndarray:
    """(C,) bool: classes that are no target."""
    return ~np.isin(np.arange(len(counts.samples)), asked.targets)


def _intervals(counts: SampleCounts) -> list[tuple[int, float, Interval]]:
    """Class, change and interval, which holds for all classes at once, of every class with samples."""
    seen = np.flatnonzero(counts.samples)
    found = []
    for c in seen.tolist():
        three = int(counts.fixed[c]), int(counts.broken[c]), int(counts.samples[c])
        change, interval = _change(*three, len(seen))
        if change is not None and interval is not None:
            found.append((c, change, interval))
    return found


def _worst(names: Sequence[str], asked: Asked, counts: SampleCounts) -> WorstClass | None:
    """The class with the largest loss as measured, of those beyond their limit by more than chance if any."""
    limit = 0.0 - (asked.max_class_drop or 0.0)
    each = [(interval[1] >= limit, change, c, interval) for c, change, interval in _intervals(counts)]
    if not each:
        return None
    uncertain, change, c, interval = min(each)
    return WorstClass(names[c], change, interval, int(counts.samples[c]), not uncertain)


def _of_classes(worst: WorstClass | None, asked: Asked, counts: SampleCounts) -> list[Promise]:
    if asked.max_class_drop is None or worst is None:
        return []
    limit = 0.0 - asked.max_class_drop
    states = [_state(interval, limit) for _, _, interval in _intervals(counts)]
    state = next(state for state in _WORST_FIRST if state in states)
    many, detail = states.count(state), ""
    if state == NOT_KEPT and many > 1:
        detail = f"{many:,} classes lost more, beyond chance"
    elif state == NOT_SHOWN:
        have = "has" if many == 1 else "have"
        detail = f"{many:,} of {len(states):,} classes {have} too few samples to tell"
    said = f"no class loses more than {asked.max_class_drop:g} points"
    return [Promise("classes", said, state, worst.change, limit, worst.interval, worst.samples, detail)]


def _of_overall(asked: Asked, counts: SampleCounts) -> list[Promise]:
    drop = asked.max_overall_drop
    if drop >= _ANY_LOSS:
        return []
    said = "overall accuracy kept" if drop == 0 else f"overall loses at most {drop:g} points"
    if drop < 0:
        said = f"overall gains at least {-drop:g} points"
    limit, samples = 0.0 - drop, int(counts.samples.sum())
    change, interval = _change(int(counts.fixed.sum()), int(counts.broken.sum()), samples)
    return [Promise("overall", said, _state(interval, limit), change, limit, interval, samples)]


def _of_targets(names: Sequence[str], asked: Asked, counts: SampleCounts, everyone: bool) -> Promise:
    own = asked.targets
    fixed, broken, samples = (int(each[own].sum()) for each in (counts.fixed, counts.broken, counts.samples))
    change, interval = _change(fixed, broken, samples)
    limit = max(0.0, 0.0 - asked.max_overall_drop) if everyone else 0.0
    if everyone:
        said = f"overall gains at least {limit:g} points" if limit else "overall accuracy up"
        return Promise("targets", said, _state(interval, limit), change, limit, interval, samples)
    fell = own[counts.broken[own] > counts.fixed[own]]
    detail = ""
    if len(own) > 1 and len(fell):
        detail = f"{len(fell):,} of {len(own):,} targets fell: {_listed(names, fell)}"
    said = f"better on {_listed(names, own)}"
    return Promise("targets", said, _state(interval, limit), change, limit, interval, samples, detail)


def _over_bias(asked: Asked, counts: SampleCounts, everyone: bool) -> Promise:
    """Better on the targets and not surely worse overall; or better overall, and no worse on the targets."""
    own = asked.targets
    ahead, behind, samples = (int(each[own].sum()) for each in (counts.ahead, counts.behind, counts.samples))
    change, interval = _change(ahead, behind, samples)
    ahead, behind = int(counts.ahead.sum()), int(counts.behind.sum())
    overall, wide = _change(ahead, behind, int(counts.samples.sum()))
    on_targets, over_all = _state(interval, 0.0), _state(wide, 0.0)
    points = change or 0.0
    state = NOT_SHOWN
    if (on_targets == KEPT and over_all != NOT_KEPT) or (over_all == KEPT and points >= 0):
        state = KEPT
    elif (on_targets == NOT_KEPT and over_all != KEPT) or (over_all == NOT_KEPT and points <= 0):
        state = NOT_KEPT
    told = everyone or overall is None or abs(overall) < 0.05
    detail = "" if told else f"overall {overall:+.1f} points against it"
    return Promise("bias", "better than the best bias", state, change, 0.0, interval, samples, detail)


def _listed(names: Sequence[str], classes: np.ndarray) -> str:
    more = f" and {len(classes) - _NAMED:,} more" if len(classes) > _NAMED else ""
    return ", ".join(names[c] for c in classes[:_NAMED]) + more
