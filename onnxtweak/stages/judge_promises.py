"""Which promises did the written file keep? The verdict, from the classes that base, file and bias show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxtweak.data.splits import View
from onnxtweak.engine.machine.large_arrays import by_rows
from onnxtweak.goal import ResolvedGoal
from onnxtweak.head import ONE_LABEL, Decisions, Head
from onnxtweak.listed import ListedOutcome, ListedSample
from onnxtweak.method.compare.comparison import MethodOutcome
from onnxtweak.method.metrics import metric_change
from onnxtweak.method.table import Table
from onnxtweak.metric.kinds import Predictions
from onnxtweak.metric.several import label_counts, slice_counts
from onnxtweak.quantities import number_of
from onnxtweak.sample_counts import NONE_WANTED, LabelCounts, SampleCounts, SliceCounts
from onnxtweak.types import MetricChange
from onnxtweak.verdict import (
    BASE,
    BIAS,
    KEPT,
    LISTED,
    NOT_KEPT,
    Asked,
    GroupChange,
    Promise,
    Verdict,
    copied,
    group_changes,
    of_listed,
    reached,
    with_listed,
)

# The base has probably seen the samples that were learnt from where it is right on more of them than on test
# samples: by so many standard errors, and by so much of its errors on test.
_SURELY, _PART = 3.0, 1 / 3
_NAMED = 3  # listed samples that a promise names
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Shown:
    """The classes that are shown for the samples of a split, each (N,) int64, and its labels.

    Of several labels at once, all (N, C) marks.

    split : "test", "validation" or "listed". bias : of the base with the best biases. groups : those that
    samples belong to, None without any. slices : groups by the column of the goal's slice, if it has one.
    unit : what these are, "samples" or "positions".
    metric : what became of the goal's metric, if it has one. touched (C,) bool : of several labels, those
    whose logit the patch changes; None: any may be. counts : of objects, which are counted already.
    """

    split: str
    labels: np.ndarray
    base: np.ndarray
    tweaked: np.ndarray
    bias: np.ndarray
    groups: np.ndarray | None = None
    slices: np.ndarray | None = None
    unit: str = "samples"
    metric: MetricChange | None = None
    touched: np.ndarray | None = None
    counts: LabelCounts | None = None


def answer_of(command: str, changes: bool, neurons: int) -> str:
    """What a method came to: "base" where nothing changes, "bias" where no neuron is read, else its name."""
    return BASE if not changes else command if neurons else BIAS


def judge_promises(
    shown: Shown,
    goal: ResolvedGoal,
    names: Sequence[str],
    answer: str,
    cautions: Sequence[str] = (),
    promises: Sequence[Promise] = (),
) -> Verdict:
    """The verdict on a file. names : of all classes. cautions : on the samples, of `learnt_on`.

    promises : those about listed samples.
    """
    samples = len(shown.labels)
    if shown.split == LISTED:
        found = of_listed(answer, samples, promises)
    elif answer == BASE and all(promise.state == KEPT for promise in promises):
        found = copied(shown.split, samples, cautions)
    else:
        asked, counts = _asked(shown, goal, len(names))
        found = with_listed(reached(answer, shown.split, names, asked, counts, cautions), promises)
    unit = "samples" if goal.head.several else shown.unit
    said = goal.sentence(names, {promise.name: promise.samples for promise in promises}, unit)
    return replace(found, goal=said, unit=shown.unit)


def _asked(shown: Shown, goal: ResolvedGoal, classes: int) -> tuple[Asked, SampleCounts | LabelCounts]:
    """What a goal asks of the samples of a split, and how many of them changed."""
    labels = shown.labels
    drops = goal.promised_overall_drop, goal.max_class_drop
    if shown.counts is not None:
        return Asked(goal.targets, *drops, None, shown.metric, goal.head.measure), shown.counts
    if goal.head.several:
        each = shown.base, shown.tweaked, shown.bias
        of_labels = label_counts(labels, each, shown.groups, shown.touched)
        of_groups = _slice_of_labels(shown, goal, each)
        return Asked(goal.targets, *drops, of_groups, shown.metric, goal.head.measure), of_labels
    was, now, biased = (each == labels for each in (shown.base, shown.tweaked, shown.bias))
    base, bias = now.astype(np.int64) - was, now.astype(np.int64) - biased
    counts = SampleCounts.of(labels, classes, base, bias, shown.groups)
    sliced = None
    if goal.slice is not None and shown.slices is not None:
        own, of = shown.slices, goal.slice
        in_groups = SampleCounts.of(own, len(of.names), base, bias, shown.groups)
        right = np.bincount(own[was], minlength=len(of.names))
        sliced = SliceCounts(of.column, of.names, of.wanted, right, in_groups)
    counted = goal.head.measure if goal.reference is None or goal.head.several else "agreement"
    return Asked(goal.targets, *drops, sliced, shown.metric, counted), counts


def _slice_of_labels(
    shown: Shown, goal: ResolvedGoal, each: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> SliceCounts | None:
    """What became of the groups of the goal's slice, in F1 of all decisions on their samples."""
    if goal.slice is None or shown.slices is None:
        return None
    of, many = goal.slice, len(goal.slice.names)
    counts = slice_counts(shown.labels, each, shown.slices, many, shown.groups)
    return SliceCounts(of.column, of.names, of.wanted, np.zeros(many, np.int64), counts)


def changes_by(
    columns: Sequence[str],
    view: View,
    shown: tuple[np.ndarray, np.ndarray],
    groups: np.ndarray | None,
    head: Head = ONE_LABEL,
) -> tuple[GroupChange, ...]:
    """What became of each group by some columns, decision by decision.

    shown : two (N,), the classes that base and file show, or marks (N, C). groups (N,) int64 : samples that
    belong together; None: none do.
    """
    before, after = (head.decisions(each, view.labels) for each in shown)
    was, now, of = before.right, after.right, before.of
    together = np.arange(len(view)) if groups is None and head.several else groups
    groups = None if together is None else together[of]
    change, found = now.astype(np.int64) - was, list[GroupChange]()
    for column in columns:
        by, names = view.groups(column), view.dataset.groups[column].names
        assert by is not None  # the column was read
        codes = by[of]
        counts = SampleCounts.of(codes, len(names), change, np.zeros_like(change), groups)
        right = np.bincount(codes[was], minlength=len(names))
        found += group_changes(SliceCounts(column, names, NONE_WANTED, right, counts))
    return tuple(found)


def depend_on_groups(column: str | None, groups: np.ndarray | None) -> tuple[str, ...]:
    """A caution where samples belong together. groups (N,) int64 : of the samples judged on, by `column`.

    column : None where they are positions, which samples hold together.
    """
    if groups is None:
        return ()
    if column is None:
        return (
            f"positions of one sample are not independent: the intervals of the verdict rest on "
            f"{number_of(len(np.unique(groups)), 'sample')}; McNemar's p and intervals elsewhere count every "
            "position, and are too sure",
        )
    return (
        f"samples of one group of `{column}` are not independent: the intervals of the verdict rest on "
        f"{number_of(len(np.unique(groups)), 'group')}; McNemar's p and intervals elsewhere count every "
        "sample, and are too sure",
    )


def judge_method(
    answer: str,
    outcome: MethodOutcome,
    bias: MethodOutcome,
    test: Table,
    goal: ResolvedGoal,
    names: Sequence[str],
) -> Verdict:
    """The verdict on a method of a comparison. bias : what the best biases came to."""
    was, metric = by_rows(goal.head.predict, test.Z), None
    if goal.metric is not None and outcome.made is not None and bias.made is not None:
        base = Predictions(test.labels, was, test.Z)
        metric = metric_change(goal.metric, (base, outcome.made, bias.made), test.groups)
    groups = test.groups, test.slices
    shown = Shown("test", test.labels, was, outcome.predicted, bias.predicted, *groups, metric=metric)
    return judge_promises(shown, goal, names, answer)


def learnt_on(learnt: Decisions, test: Decisions) -> tuple[str, ...]:
    """A caution where the base is much better on samples that choices were made on than on test samples.

    learnt, test : what the base decides of each. Classes are weighted alike on both sides, as they occur in
    the test samples.
    """
    sides = (learnt, test)
    classes = max(int(side.number.max(initial=0)) for side in sides) + 1
    samples = np.array([np.bincount(side.number, minlength=classes).astype(float) for side in sides])
    right = np.array([np.bincount(side.number, side.right, classes) for side in sides])
    both = (samples > 0).all(axis=0)
    if not both.any():
        return ()
    weight = samples[1, both] / samples[1, both].sum()
    # One sample right and one wrong are added: a class that is all right has a variance too.
    likely = (right[:, both] + 1) / (samples[:, both] + 2)
    variance = (weight**2 * likely * (1 - likely) / (samples[:, both] + 2)).sum()
    seen, unseen = (weight * right[:, both] / samples[:, both]).sum(axis=1)
    if seen - unseen <= max(_SURELY * np.sqrt(variance), _PART * (1 - unseen)):
        return ()
    return (
        f"the base is right on {seen:.1%} of the samples that were chosen on, but on {unseen:.1%} of the test"
        " samples: it has probably been trained on them, and what is learnt from such samples breaks its"
        " promises more often; give samples that it has not seen",
    )


def promises_of(listed: ListedOutcome, may_change: float | None) -> Iterator[Promise]:
    """What was asked of listed samples: counted on the samples themselves, so that nothing is uncertain.

    may_change : percentage of the decisions on kept samples, as of a class; None: any number of them.
    """
    if listed.must is not None:
        must = listed.must
        detail = f"{must.right:,} of {must.samples:,} are, {must.already_right:,} were before"
        detail += _named(must.infeasible, must.named)
        yield _counted("must", "every must-sample right", (must.infeasible, must.samples), detail)
    if listed.lock is not None:
        lock = listed.lock
        detail = f"{lock.broken:,} of {lock.right:,} broken"
        if lock.right < lock.samples:
            detail += f"; {lock.samples - lock.right:,} more were wrong before, and bind nobody"
        detail += _named(lock.broken, lock.named)
        yield _counted("lock", "no lock-sample broken", (lock.broken, lock.right), detail)
    if listed.keep is not None:
        keep = listed.keep
        some = "any number" if may_change is None else f"at most {may_change:g} %"
        asked = f"{some} of kept decisions change"
        detail = f"{keep.broken:,} of {keep.right:,} changed"
        yield _counted(
            "keep", asked, (keep.broken, keep.right), detail, 100.0 if may_change is None else may_change
        )


def _counted(name: str, asked: str, failed: tuple[int, int], detail: str, may_fail: float = 0.0) -> Promise:
    """failed : how many of how many. may_fail : percentage of them."""
    count, samples = failed
    change = 0.0 - 100 * count / samples if samples else 0.0
    state = NOT_KEPT if -change > may_fail + _ROUNDING else KEPT
    return Promise(name, asked, state, change if samples else None, 0.0 - may_fail, None, samples, detail)


def _named(failed: int, named: Sequence[ListedSample]) -> str:
    said = [
        f"{one.where} is {one.label}, shown as {one.after}"
        + (f" (rivals {', '.join(one.rivals)})" if one.rivals else "")
        for one in named[:_NAMED]
    ]
    more = f"; and {failed - len(said):,} more" if failed > len(said) else ""
    return f": {'; '.join(said)}{more}" if said else ""
