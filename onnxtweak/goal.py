"""Which samples should do better, and what must not get worse? The goal: targets or a slice, and drops.

The one place that knows which samples belong to the goal, and how much accuracy may be lost.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxtweak.errors import DataError, UsageError
from onnxtweak.head import ONE_LABEL, Head, classes_there
from onnxtweak.metric.kinds import Metric, behind, drawn_accuracies
from onnxtweak.metric.several import f1_of
from onnxtweak.quantities import number_of
from onnxtweak.sample_counts import independent_changes
from onnxtweak.settings import TargetSettings

# Counts of samples are compared with shares: what rounding may add to a share that stands for a count.
_ROUNDING = 1e-9
_ANY_LOSS = 100.0  # points: a limit that cannot be exceeded
_NAMED = 5  # classes that a sentence names


@dataclass(frozen=True, eq=False)
class Slice:
    """One group of samples, by a column of the data, that should do better.

    column : its name. names : of its G groups. wanted : position of the group in `names`. named : whether it
    was asked for by name; else it is the worst, and no other may take its place.
    """

    column: str
    names: tuple[str, ...]
    wanted: int
    named: bool

    @classmethod
    def worst(cls, column: str, names: tuple[str, ...], codes: np.ndarray, right: np.ndarray) -> Slice:
        """The group that does worst. codes (N,) int64 : of each sample. right (N,) bool : whether it is."""
        whole = cls(column, names, 0, named=False)
        return replace(whole, wanted=int(whole.accuracies(codes, right).argmin()))

    def __str__(self) -> str:
        return f"{self.column}={self.names[self.wanted]}"

    def accuracies(self, codes: np.ndarray, right: np.ndarray) -> np.ndarray:
        """(G,) float64: the share of each group that is right, drawn towards that of all if samples are few.

        codes (N,) int64 : group of each sample. right (N,) bool, or a share of each sample.
        """
        return drawn_accuracies(codes, right, len(self.names))

    def need(self, codes: np.ndarray, right: np.ndarray) -> np.ndarray:
        """How much each sample needs weight, (N,) float64: 1 in the slice and 0 elsewhere.

        Where the worst group is wanted, others below the average do as well: what they are behind it, as a
        share of what the worst is.
        """
        found = np.zeros(len(codes)) if self.named else behind(codes, right, len(self.names))
        return found if found.any() else (codes == self.wanted).astype(np.float64)

    def rating(self, codes: np.ndarray, right: np.ndarray) -> float:
        """What counts: how the slice does; or the worst group and the mean of all, half and half.

        codes, right : as of `accuracies`. The worst alone would be content as soon as another is as bad.
        """
        each = self.accuracies(codes, right)
        return float(each[self.wanted] if self.named else (each.min() + each.mean()) / 2)


@dataclass(frozen=True, eq=False)
class ResolvedGoal:
    """What a job is for: the target classes should do better. What was asked for, with classes as numbers.

    targets (c,) int64, ascending. head : how logits become decisions. max_overall_drop, max_class_drop :
    percentage points that the overall accuracy, or that of any class, may lose. A negative drop demands a
    gain; without `max_class_drop` any class may lose any amount. slice : the group that should do better, of
    whatever class; the targets are all classes then, and no group may lose more than a class. metric : what
    should be better instead of accuracy, the targets being all classes; with a limit of its own, accuracy may
    fall as it has to. reference : the name of a model whose decisions are taken for right, where labels are
    not. unnamed_stay : whether as much must be decided for classes without a sample as is now. at_positions :
    whether what has a label is a position of a sample, which is like others of it.
    """

    targets: np.ndarray
    head: Head = ONE_LABEL
    max_overall_drop: float = 0.0
    max_class_drop: float | None = None
    slice: Slice | None = None
    metric: Metric | None = None
    reference: str | None = None
    unnamed_stay: bool = True
    at_positions: bool = False

    def __len__(self) -> int:
        return len(self.targets)

    def wanted(self, labels: np.ndarray) -> np.ndarray:
        """Which samples should do better, (N,) bool. labels (N,) int64."""
        return np.isin(labels, self.targets)

    def place(self, labels: np.ndarray) -> np.ndarray:
        """Position of each label among the targets, (N,) int64; -1 for any other."""
        found = np.searchsorted(self.targets, labels)
        return np.where(self.wanted(labels), found, -1)

    def on_all_classes(self, bias: np.ndarray, classes: int) -> np.ndarray:
        """Biases (c,) of the targets as those of all classes, (C,) float64."""
        whole = np.zeros(classes)
        whole[self.targets] = bias
        return whole

    @property
    def promised_overall_drop(self) -> float:
        """Percentage points of the overall accuracy that are promised; any loss where the metric is that.

        What should rise may not fall: that is said once.
        """
        said = self.metric is not None and self.metric.is_overall and self.max_overall_drop >= 0
        return _ANY_LOSS if said else self.max_overall_drop

    def all_are_targets(self, labels: np.ndarray) -> bool:
        """Whether every sample should do better: then there is no class to take accuracy from."""
        return bool(self.wanted(labels).all())

    def sentence(
        self, names: Sequence[str], listed: Mapping[str, int] | None = None, unit: str = "samples"
    ) -> str:
        """The goal in words: "raise cat and dog; keep overall accuracy; lose at most 5 points in any class".

        names : of all C classes. listed : how many samples are listed, by role ("must", "lock" or "keep").
        unit : what they are, "samples" or "positions".
        """
        counts = listed or {}
        wanted, limits = self._better(names), self._limits(everyone=len(self.targets) == len(names))
        parts = [f"make {_counted(counts['must'], unit)} right"] if counts.get("must") else []
        parts += [wanted, *limits] if wanted else []
        parts += [f"keep {_counted(counts['lock'], unit)} right"] if counts.get("lock") else []
        parts += [f"keep the decision on {_counted(counts['keep'], unit)}"] if counts.get("keep") else []
        return "; ".join(parts)

    def _better(self, names: Sequence[str]) -> str:
        if self.metric is not None:
            return f"{'raise' if self.metric.sign > 0 else 'lower'} {self.metric.title}"
        if self.slice is not None:
            return f"raise {self.slice}, of whatever class"
        if self.reference is not None:
            return f"decide as {self.reference} does"
        if len(self.targets) == len(names) > 1:
            return f"raise overall {self.head.measure}"
        return f"raise {_enumerated([names[j] for j in self.targets])}" if len(self.targets) else ""

    def _limits(self, *, everyone: bool) -> Iterator[str]:
        """everyone : whether all classes are targets, so that overall accuracy is what should rise."""
        drop, metric = self.promised_overall_drop, self.metric
        if metric is not None and metric.promise:
            yield metric.promise
        if drop < 0:
            yield f"gain at least {-drop:g} points overall"
        elif (
            drop < _ANY_LOSS
            and self.reference is None
            and (not everyone or self.slice is not None or metric is not None)
        ):
            yield f"lose at most {drop:g} points overall" if drop else f"keep overall {self.head.measure}"
        if self.max_class_drop is not None and self.max_class_drop < _ANY_LOSS:
            where = "any class" if self.slice is None else f"any class or group of {self.slice.column}"
            lost = f"at most {self.max_class_drop:g} points" if self.max_class_drop else "nothing"
            lost += "" if self.reference is None else " of agreement"
            yield f"lose {lost} in {where}"

    def overall_floor(self, right: int, samples: int) -> int:
        """How many of all samples must be right, where `right` of them were before."""
        return least_right(right, self.max_overall_drop, samples)

    def class_floor(self, right: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray | None:
        """How many samples of each class must be right, (C,) float64; None without `max_class_drop`.

        right (N,) bool : samples that were right before.
        """
        if self.max_class_drop is None:
            return None
        support = np.bincount(labels, minlength=classes)
        before = np.bincount(labels[right], minlength=classes)
        return np.subtract(before, np.floor(self.max_class_drop / 100 * support + _ROUNDING))

    def classes_hold(
        self,
        before: np.ndarray,
        after: np.ndarray,
        labels: np.ndarray,
        classes: int,
        margin: float = 0.0,
        groups: np.ndarray | None = None,
    ) -> bool:
        """Whether no class loses more than it may. before, after (N,) bool : samples that are right.

        margin : standard errors of the change by which each stays clear of that (METHOD 7.1). groups (N,)
        int64 : samples that are not independent; None: all are.
        """
        floor = self.class_floor(before, labels, classes)
        if floor is None:
            return True
        if margin:
            allowed = (self.max_class_drop or 0.0) / 100 * np.bincount(labels, minlength=classes)
            changed = independent_changes(after.astype(np.int8) - before, labels, classes, groups)
            # So few samples cannot tell whether a class loses that little: one of them may be lost.
            floor += np.where((allowed > 0) & (allowed < 1), -1, margin * np.sqrt(changed))
        return bool((np.bincount(labels[after], minlength=classes) >= floor).all())


def _counted(samples: int, unit: str) -> str:
    return f"{samples:,} listed {unit.removesuffix('s') if samples == 1 else unit}"


def _enumerated(names: Sequence[str]) -> str:
    """Names in a sentence; of many, the first few."""
    shown = list(names[:_NAMED])
    if len(names) > _NAMED:
        others = len(names) - _NAMED
        return f"{', '.join(shown)} and {number_of(others, 'more class')}"
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))


def least_right(right: int, drop: float, samples: int) -> int:
    """How many samples must be right so that no more than `drop` percentage points are lost.

    right : how many of all `samples` were right before.
    """
    return right - math.floor(drop / 100 * samples + _ROUNDING)


def every_class(fit: np.ndarray, validation: np.ndarray) -> np.ndarray:
    """All classes that have samples, (c,) int64: the targets where the overall accuracy is the goal.

    fit, validation : labels of the two splits.
    """
    return np.union1d(classes_there(fit), classes_there(validation))


def class_names(names: Sequence[str] | None, classes: int) -> tuple[str, ...]:
    """Names of all C classes: as given, else their numbers."""
    return tuple(names) if names is not None else tuple(str(number) for number in range(classes))


def find_targets(
    settings: TargetSettings,
    names: Sequence[str],
    fit: np.ndarray,
    validation: np.ndarray,
    predicted: np.ndarray | None = None,
) -> np.ndarray:
    """Target class numbers (c,) int64, ascending.

    names : of all classes. fit, validation : labels of the two splits. predicted : of validation, where the
    settings ask for the worst classes. All (N,), or (N, C) marks of several labels at once. Raises UsageError
    for an unknown class or none at all, DataError for a target without samples.
    """
    if settings.worst is not None:
        if settings.targets:
            raise UsageError("--target and --worst exclude each other", hint="give one of them")
        if predicted is None:
            raise ValueError("the worst classes are found by what is predicted on validation")
        return _worst(settings.worst, fit, validation, predicted)
    if not settings.targets:
        raise UsageError("no target class", hint="name one with --target, or use --worst 3")
    numbers = sorted({_number(text, names) for text in settings.targets})
    for role, labels in (("fit", fit), ("validation", validation)):
        for number in numbers:
            if number not in classes_there(labels):
                raise DataError(
                    f"target class {names[number]} has no {role} sample",
                    where=f"--target {names[number]}",
                    hint="give samples of it, or name another class",
                )
    return np.array(numbers, np.int64)


def _number(text: str, names: Sequence[str]) -> int:
    if text in names:
        return list(names).index(text)
    if text.isdecimal() and int(text) < len(names):
        return int(text)
    near = difflib.get_close_matches(text, names, n=3, cutoff=0.5)
    known = ", ".join(near) if near else f"{names[0]} ... {names[-1]}"
    raise UsageError(
        f"the model has no class {text!r}",
        where="--target",
        hint=f"did you mean {known}?" if near else f"classes are {known}, or numbers 0 to {len(names) - 1}",
    )


def worst(possible: np.ndarray, predicted: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """The `count` classes of `possible` with the lowest accuracy, ascending; ties go to the lower number.

    Of several labels at once, predicted and labels (N, C): with the lowest F1.
    """
    if labels.ndim == 2:
        order = np.lexsort((possible, f1_of(predicted, labels)[possible]))
        return np.sort(possible[order[:count]]).astype(np.int64)
    most = int(possible.max(initial=0)) + 1
    support = np.maximum(np.bincount(labels, minlength=most)[possible], 1)
    right = np.bincount(labels[predicted == labels], minlength=most)[possible]
    return np.sort(possible[np.lexsort((possible, right / support))[:count]]).astype(np.int64)


def _worst(count: int, fit: np.ndarray, validation: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    known = np.intersect1d(classes_there(fit), classes_there(validation))
    if not 1 <= count <= len(known):
        raise UsageError(
            f"cannot pick the worst {count:,} of {len(known):,} classes that have fit and validation samples",
            where="--worst",
            hint=f"use a number from 1 to {len(known)}",
        )
    return worst(known, predicted, validation, count)
