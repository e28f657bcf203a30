"""How is a surplus of overall accuracy spent on the targets, without believing lucky counts (METHOD 7, 9)?

A patch that improves every class leaves room: each target's logit is raised by an exactly set bias until the
overall accuracy is down to what is allowed. The best of many points looks better than it is (the winner's
curse), so the points are judged on logits of samples that the weights were not fitted to, and have to hold
the limit with a margin of standard errors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxtweak.method.decide import decisions, predict
from onnxtweak.method.operate import Allowed, choose
from onnxtweak.types import Trial

# The margin depends on how many samples the point changes, and the point on the margin.
_ROUNDS = 3


@dataclass(frozen=True)
class Spent:
    """The chosen biases and what they are expected to do.

    bias (c,) : added to the target logits. right (N,) bool : samples right under them. holds : whether the
    limit is kept, margin included; where not even bias 0 keeps it this is False. trials : of the curve.
    """

    bias: np.ndarray
    right: np.ndarray
    holds: bool
    trials: tuple[Trial, ...]


def spend(
    Z: np.ndarray,
    base: np.ndarray,
    labels: np.ndarray,
    targets: np.ndarray,
    *,
    overall_drop: float = 0.0,
    margin: float = 1.0,
) -> Spent:
    """The biases with the best target accuracy whose overall accuracy is not below the base's.

    Z (N, C) : logits under the patch, each sample's from weights that have not seen it. base (N, C) : without
    the patch. overall_drop : percentage points that may be lost. margin : standard errors of the difference
    to the base that the overall accuracy keeps clear of the limit.
    """
    samples = len(labels)
    was = base.argmax(axis=1) == labels
    here = Z.argmax(axis=1) == labels
    table = decisions(Z, labels, targets)
    ones = np.ones((samples, len(targets), 1))
    clear = margin * standard_error(was, here)
    for _ in range(_ROUNDS):
        limit = overall_drop / 100 - clear
        room = (int(here.sum()) - int(was.sum())) / samples + limit
        found = choose(table, ones, (1,), None, Allowed(room * 100))
        right = predict(table, np.broadcast_to(found.scale, (samples, len(targets)))) == labels
        clear = max(clear, margin * standard_error(was, right))
        holds = float(right.mean() - was.mean()) >= -(overall_drop / 100 - clear) - 1e-12
        if holds:
            break
    moved = (int(was.sum()) - int(here.sum())) / samples * 100
    trials = tuple(Trial(t.n, t.scale, t.drop + moved, t.target) for t in found.trials)
    return Spent(found.scale, right, holds, trials)


def standard_error(was: np.ndarray, now: np.ndarray) -> float:
    """Of the difference between two paired accuracies; was, now (N,) bool."""
    difference = now.astype(np.int8) - was.astype(np.int8)
    return float(difference.std() / np.sqrt(max(len(was), 1)))
