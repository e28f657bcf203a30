"""How is a surplus of overall accuracy spent on the targets, without believing lucky counts (METHOD 7.1)?

A patch that improves every class leaves room: each target's logit is raised by an exactly set bias until the
overall accuracy is down to what is allowed. The best of many points looks better than it is (the winner's
curse), so the points are judged on logits of samples that the weights were not fitted to, and have to hold
the limit with a margin of standard errors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxtweak.method.metrics import classes_hold
from onnxtweak.method.tuning.bias_path import BiasPaths
from onnxtweak.method.tuning.boosted import BoostTable, decisions, predict
from onnxtweak.method.tuning.operating_point import AllowedDrops, choose
from onnxtweak.types import Trial

# The margin depends on how many samples the point changes, and the point on the margin.
_ROUNDS = 3
# Of the factor on the biases that spares every class.
_HALVINGS = 20


@dataclass(frozen=True)
class BiasChoice:
    """The chosen biases and what they are expected to do.

    bias (c,) : added to the target logits. right (N,) bool : samples right under them. holds : whether the
    limit is kept, margin included; where not even bias 0 keeps it this is False. trials : of the curve.
    """

    bias: np.ndarray
    right: np.ndarray
    holds: bool
    trials: tuple[Trial, ...]


def all_classes_are_targets(labels: np.ndarray, targets: np.ndarray) -> bool:
    """Whether every sample is of a target class: then there is no one to take accuracy from."""
    return bool(np.isin(labels, targets).all())


def set_target_bias(
    Z: np.ndarray,
    base: np.ndarray,
    labels: np.ndarray,
    targets: np.ndarray,
    *,
    overall_drop: float = 0.0,
    margin: float = 1.0,
    class_drop: float | None = None,
) -> BiasChoice:
    """The biases with the best target accuracy whose overall accuracy is not below the base's.

    Z (N, C) : logits under the patch, each sample's from weights that have not seen it. base (N, C) : without
    the patch. overall_drop : percentage points that may be lost. margin : standard errors of the difference
    to the base that the overall accuracy keeps clear of the limit. class_drop : percentage points that any
    class may lose against the base; all biases are lowered alike until none loses more.
    """
    samples = len(labels)
    was = base.argmax(axis=1) == labels
    here = Z.argmax(axis=1) == labels
    if all_classes_are_targets(labels, targets):
        return _as_it_is(Z, base, labels, targets, overall_drop, margin, class_drop)
    table = decisions(Z, labels, targets)
    ones = np.ones((samples, len(targets), 1))
    lines = BiasPaths(table, ones, (1,))
    clear = margin * standard_error(was, here)
    for _ in range(_ROUNDS):
        limit = overall_drop / 100 - clear
        room = (int(here.sum()) - int(was.sum())) / samples + limit
        found = choose(table, ones, (1,), None, AllowedDrops(room * 100), lines)
        right = predict(table, np.broadcast_to(found.scale, (samples, len(targets)))) == labels
        clear = max(clear, margin * standard_error(was, right))
        holds = float(right.mean() - was.mean()) >= -(overall_drop / 100 - clear) - 1e-12
        if holds:
            break
    bias = found.scale
    if class_drop is not None:
        bias, right, kept = _sparing_classes(table, was, bias, class_drop)
        holds = holds and kept
    moved = (int(was.sum()) - int(here.sum())) / samples * 100
    trials = tuple(Trial(t.n, t.scale, t.drop + moved, t.target) for t in found.trials)
    return BiasChoice(bias, right, holds, trials)


def _as_it_is(Z, base, labels, targets, overall_drop, margin, class_drop) -> BiasChoice:
    """All classes are targets: no bias, and the overall accuracy is the targets'."""
    was, right = (logits.argmax(axis=1) == labels for logits in (base, Z))
    gained = float(right.mean() - was.mean())
    holds = gained >= margin * standard_error(was, right) - overall_drop / 100 - 1e-12
    spared = classes_hold(base.argmax(axis=1), Z.argmax(axis=1), labels, Z.shape[1], class_drop)
    trials = Trial(1, 0.0, 0.0, float(was.mean())), Trial(1, 1.0, -gained * 100, float(right.mean()))
    return BiasChoice(np.zeros(len(targets)), right, holds and spared, trials)


def _sparing_classes(
    table: BoostTable, was: np.ndarray, bias: np.ndarray, drop: float
) -> tuple[np.ndarray, np.ndarray, bool]:
    """The largest multiple of the biases that spares every class; right (N,) under it; whether it does."""
    support = np.bincount(table.labels, minlength=table.classes)
    floor = np.bincount(table.labels[was], minlength=table.classes) - np.floor(drop / 100 * support + 1e-9)

    def tried(factor: float) -> tuple[np.ndarray, bool]:
        boost = np.broadcast_to(bias * factor, (len(was), len(bias)))
        right = predict(table, boost) == table.labels
        return right, bool((np.bincount(table.labels[right], minlength=table.classes) >= floor).all())

    low, high = 0.0, 1.0
    right, kept = tried(high)
    if kept:
        return bias, right, True
    for _ in range(_HALVINGS):  # classes that are no target only lose as the biases grow
        middle = (low + high) / 2
        low, high = (middle, high) if tried(middle)[1] else (low, middle)
    right, kept = tried(low)
    return bias * low, right, kept


def standard_error(was: np.ndarray, now: np.ndarray) -> float:
    """Of the difference between two paired accuracies; was, now (N,) bool."""
    difference = now.astype(np.int8) - was.astype(np.int8)
    return float(difference.std() / np.sqrt(max(len(was), 1)))
