"""Which promises did a patch keep? The verdict: computed once, from counts of the samples it was judged on.

A promise is a change of accuracy that may not be less than its limit. It is *kept* where the whole 95 %
interval of the change reaches the limit, *not kept* where all of it lies below, and *not shown* where it
covers both. Samples of one group are not independent: where there are such, an interval rests on how groups
changed. Intervals of single classes are so wide that those of all classes hold at once: of many classes
one always looks bad by chance. Changes, limits and intervals are percentage points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxtweak.intervals import Interval
from onnxtweak.quantities import number_of
from onnxtweak.sample_counts import LabelCounts, SampleCounts, SliceCounts
from onnxtweak.types import MetricChange

KEPT, NOT_KEPT, NOT_SHOWN, COPY = "kept", "not kept", "not shown", "copy"
BASE, BIAS = "base", "bias"  # answers that no method gives its name to
LISTED = "listed"  # the split where there are no samples but those that are listed

Counts = SampleCounts | LabelCounts

_WORST_FIRST = (NOT_KEPT, NOT_SHOWN, KEPT)
_NAMED = 3  # classes that a promise names
_ANY_LOSS = 100.0  # points: a limit that cannot be exceeded


@dataclass(frozen=True)
class Asked:
    """What was promised. targets (c,) int64 : classes that should do better. Drops : as in `ResolvedGoal`.

    slice : the group that should do better instead, of whatever class, and what became of all groups.
    metric : what should be better instead of accuracy, and what became of it.
    counted : what is counted: "accuracy", "F1" of several labels, or "agreement" with a reference.
    """

    targets: np.ndarray
    max_overall_drop: float
    max_class_drop: float | None
    slice: SliceCounts | None = None
    metric: MetricChange | None = None
    counted: str = "accuracy"


@dataclass(frozen=True)
class Promise:
    """One promise and what became of it.

    name : "classes", "groups", "overall", "targets" or "bias"; of a metric "metric" and "limit"; of listed
    samples "must", "lock" or "keep".
    asked : it in words. limit : the least change that keeps it. change, interval : as measured; None without
    samples, or where nothing is uncertain. detail : what the figures do not say.
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
class GroupChange:
    """What became of one group. before, after : accuracies, fractions. change, interval : in points; the
    interval holds for all groups at once. wanted : whether it is the one that should do better."""

    column: str
    name: str
    samples: int
    before: float
    after: float
    change: float
    interval: Interval
    wanted: bool


@dataclass(frozen=True)
class Verdict:
    """What can be said of a result.

    answer : "base" for a copy of it, "bias" for a patch that reads no neurons, else the method. state : the
    worst of the promises, or "copy". split, samples : what it was judged on. promises : what would be
    regretted first. worst : None where no class lost. cautions : on how far all this can be trusted. groups :
    of the slice's column and of those that were asked for, the worst before first. goal : what was asked for,
    in a sentence. unit : what was counted, "samples" or "positions".
    """

    answer: str
    state: str
    split: str
    samples: int
    promises: tuple[Promise, ...]
    worst: WorstClass | None
    cautions: tuple[str, ...] = ()
    groups: tuple[GroupChange, ...] = ()
    goal: str = ""
    unit: str = "samples"


def copied(split: str, samples: int, cautions: Sequence[str] = ()) -> Verdict:
    """The verdict on a file that is a copy of the base: it promises nothing."""
    return Verdict(BASE, COPY, split, samples, (), None, tuple(cautions))


def reached(
    answer: str, split: str, names: Sequence[str], asked: Asked, counts: Counts, cautions: Sequence[str]
) -> Verdict:
    """The verdict on a patch. names : of all C classes. split : "test", or "validation" where there is none.

    What a patch was chosen on can show that a promise is not kept, and never that it is.
    """
    worst, groups = _worst(names, asked, counts), group_changes(asked.slice)
    everyone = asked.slice is None and not counts.samples[_others(asked, counts)].any()
    everyone = everyone and asked.metric is None
    own = (
        _Own(counts, asked.targets)
        if asked.slice is None
        else _Own(asked.slice.counts, np.array([asked.slice.wanted]))
    )
    promises = [
        *_of_classes(worst, asked, counts),
        *_of_groups(groups, asked),
        *([] if everyone else _of_overall(asked, counts)),
    ]
    if asked.metric is not None:
        promises = [*_of_metric(asked.metric, int(counts.samples.sum()), answer), *promises]
    elif len(asked.targets) or asked.slice is not None:
        promises.append(_of_targets(names, asked, own, everyone))
        promises += [] if answer == BIAS else [_over_bias(own, counts, everyone)]
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
    state = promises[0].state
    return Verdict(answer, state, split, samples, tuple(promises), lost, tuple(cautions), tuple(groups))


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


@dataclass(frozen=True)
class _Own:
    """The samples that should do better: those of some classes, or groups."""

    counts: Counts
    chosen: np.ndarray

    @property
    def samples(self) -> int:
        return int(self.counts.samples[self.chosen].sum())


def _others(asked: Asked, counts: Counts) -> np.ndarray:
    """(C,) bool: classes that are no target."""
    return ~np.isin(np.arange(len(counts.samples)), asked.targets)


def _intervals(counts: Counts) -> list[tuple[int, float, Interval]]:
    """Class or group, change and interval, which holds for all at once, of every one with samples."""
    seen = np.flatnonzero(counts.samples)
    found = []
    for c in seen.tolist():
        change, interval = counts.change(np.array([c]), together=len(seen))
        if change is not None and interval is not None:
            found.append((c, change, interval))
    return found


def group_changes(of: SliceCounts | None) -> list[GroupChange]:
    """What became of each group that has samples, the worst before first."""
    if of is None:
        return []
    found = []
    for g, change, interval in _intervals(of.counts):
        samples, right = int(of.counts.samples[g]), int(of.right[g])
        now = right + int(of.counts.fixed[g] - of.counts.broken[g])
        before, after = right / samples, now / samples
        if isinstance(of.counts, LabelCounts):
            before, after = float(of.counts.f1[0, g]), float(of.counts.f1[1, g])
        figures = samples, before, after, change, interval, g == of.wanted
        found.append(GroupChange(of.column, of.names[g], *figures))
    return sorted(found, key=lambda group: group.before)


def _of_groups(groups: Sequence[GroupChange], asked: Asked) -> list[Promise]:
    """No group that was not to do better loses more than a class may."""
    others = [group for group in groups if not group.wanted]
    if asked.max_class_drop is None or not others:
        return []
    limit = 0.0 - asked.max_class_drop
    states = [_state(group.interval, limit) for group in others]
    state = next(state for state in _WORST_FIRST if state in states)
    worst = min(others, key=lambda group: group.change)
    said = f"no group of `{worst.column}` loses more than {asked.max_class_drop:g} points"
    figures = worst.change, limit, worst.interval, worst.samples
    return [Promise("groups", said, state, *figures, f"the worst is {worst.name}")]


def _worst(names: Sequence[str], asked: Asked, counts: Counts) -> WorstClass | None:
    """The class with the largest loss as measured, of those beyond their limit by more than chance if any."""
    limit = 0.0 - (asked.max_class_drop or 0.0)
    each = [(interval[1] >= limit, change, c, interval) for c, change, interval in _intervals(counts)]
    if not each:
        return None
    uncertain, change, c, interval = min(each)
    return WorstClass(names[c], change, interval, int(counts.samples[c]), not uncertain)


def _of_classes(worst: WorstClass | None, asked: Asked, counts: Counts) -> list[Promise]:
    if asked.max_class_drop is None or worst is None:
        return []
    limit = 0.0 - asked.max_class_drop
    states = [_state(interval, limit) for _, _, interval in _intervals(counts)]
    state = next(state for state in _WORST_FIRST if state in states)
    many, detail = states.count(state), ""
    if state == NOT_KEPT and many > 1:
        detail = f"{number_of(many, 'class')} lost more, beyond chance"
    elif state == NOT_SHOWN:
        have = "has" if many == 1 else "have"
        detail = f"{many:,} of {len(states):,} classes {have} too few samples to tell"
    said = f"no class loses more than {asked.max_class_drop:g} points"
    return [Promise("classes", said, state, worst.change, limit, worst.interval, worst.samples, detail)]


def _of_overall(asked: Asked, counts: Counts) -> list[Promise]:
    drop = asked.max_overall_drop
    if drop >= _ANY_LOSS:
        return []
    said = f"overall {asked.counted} kept" if drop == 0 else f"overall loses at most {drop:g} points"
    if drop < 0:
        said = f"overall gains at least {-drop:g} points"
    limit, samples = 0.0 - drop, int(counts.samples.sum())
    change, interval = counts.change(None)
    return [Promise("overall", said, _state(interval, limit), change, limit, interval, samples)]


def _of_targets(names: Sequence[str], asked: Asked, own: _Own, everyone: bool) -> Promise:
    change, interval = own.counts.change(own.chosen)
    limit = max(0.0, 0.0 - asked.max_overall_drop) if everyone else 0.0
    figures = _state(interval, limit), change, limit, interval, own.samples
    if asked.slice is not None:
        return Promise("targets", f"better on {asked.slice}", *figures)
    if everyone:
        said = f"overall gains at least {limit:g} points" if limit else f"overall {asked.counted} up"
        return Promise("targets", said, *figures)
    fell = own.chosen[own.counts.fell[own.chosen]]
    detail = ""
    if len(own.chosen) > 1 and len(fell):
        detail = f"{len(fell):,} of {len(own.chosen):,} targets fell: {_listed(names, fell)}"
    return Promise("targets", f"better on {_listed(names, own.chosen)}", *figures, detail)


def _of_metric(metric: MetricChange, samples: int, answer: str) -> list[Promise]:
    """The limit that it has, that the metric is better, and better than under the best biases."""
    after, found, limit = metric.after, list[Promise](), metric.limit
    cut = after.at_cut
    if cut is not None and cut.interval is not None:
        sign = -1 if metric.at_most else 1  # a rate above its limit, or a precision below it, lies below 0
        ends = sorted(sign * (each - limit) * 100 for each in cut.interval)
        interval = ends[0], ends[1]
        figures = _state(interval, 0.0), sign * (cut.rate - limit) * 100, 0.0, interval, cut.samples
        detail = (
            f"{cut.rate * 100:.2f} % as measured, {number_of(cut.false, 'false alarm')} among "
            f"{number_of(cut.samples, 'sample')}; recall {cut.recall * 100:.1f} %"
        )
        found.append(Promise("limit", metric.promise, *figures, detail))
    said = f"{after.title} {'up' if after.sign > 0 else 'down'}"
    values = f"{metric.before.value * 100:.1f} -> {after.value * 100:.1f} per 100 samples ({after.name})"
    if cut is not None and answer == BIAS:
        return found  # biases leave the order of scores as it is, and that is what the value is read off
    gained = _better(metric.interval), metric.gain, 0.0, metric.interval, samples
    found.append(Promise("metric", said, *gained, values))
    if answer != BIAS:
        over = metric.over_bias, 0.0, metric.over_bias_interval, samples
        state = _better(metric.over_bias_interval)
        found.append(Promise("bias", "better than the best bias", state, *over))
    return found


def _better(interval: Interval | None) -> str:
    """The state of a promise that something gains. Resamples of few changes may lack them all: 0 is none."""
    if interval is None or (interval[0] <= 0 <= interval[1]):
        return NOT_SHOWN
    return KEPT if interval[0] > 0 else NOT_KEPT


def _over_bias(own: _Own, counts: Counts, everyone: bool) -> Promise:
    """Better on the targets and not surely worse overall; or better overall, and no worse on the targets."""
    change, interval = own.counts.change(own.chosen, bias=True)
    overall, wide = counts.change(None, bias=True)
    on_targets, over_all = _state(interval, 0.0), _state(wide, 0.0)
    points = change or 0.0
    state = NOT_SHOWN
    if (on_targets == KEPT and over_all != NOT_KEPT) or (over_all == KEPT and points >= 0):
        state = KEPT
    elif (on_targets == NOT_KEPT and over_all != KEPT) or (over_all == NOT_KEPT and points <= 0):
        state = NOT_KEPT
    told = everyone or overall is None or abs(overall) < 0.05
    detail = "" if told else f"overall {overall:+.1f} points against it"
    return Promise("bias", "better than the best bias", state, change, 0.0, interval, own.samples, detail)


def _listed(names: Sequence[str], classes: np.ndarray) -> str:
    more = f" and {len(classes) - _NAMED:,} more" if len(classes) > _NAMED else ""
    return ", ".join(names[c] for c in classes[:_NAMED]) + more
