"""How strong may a patch be with a guarantee on the harm it does? Conformal risk control (METHOD 7.4).

Along a fixed direction a sample that the base has right breaks at one scale and never comes back. The share
broken therefore grows with the scale, and conformal risk control on samples that the patch was not fitted to
gives the largest scale whose expected harm on new samples of the same kind is at most the level.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from onnxtweak.engine.machine.large_arrays import by_rows
from onnxtweak.errors import UsageError
from onnxtweak.head import ONE_LABEL, Head

# Just below the scale at which one sample too many breaks; further than float32 logits resolve.
_BELOW = 1e-5
_ROUNDING = 1e-9  # of sums of shares


@dataclass(frozen=True)
class Certificate:
    """scale : the largest allowed, at most 1. level : share of all samples that may break in expectation.

    samples : how many it was set on, groups of them where they were given. broken : how many samples break at
    that scale.
    """

    scale: float
    level: float
    samples: int
    broken: int


def certify(
    base: np.ndarray,
    tweaked: np.ndarray,
    labels: np.ndarray,
    level: float,
    head: Head = ONE_LABEL,
    groups: np.ndarray | None = None,
) -> Certificate:
    """The certificate of a patch from logits (N, C) without and with it, of samples unused for fitting it.

    (broken + 1) / (N + 1) <= level bounds the expected share of new samples that the base has right and the
    scaled patch has wrong. groups (N,) : which samples are alike, such as the positions of a picture; then N
    counts groups, and each breaks by the share of its samples that do. Of several labels at once a sample is
    such a group, of the decisions on its known labels. Too few for the level: scale 0.
    Raises UsageError for a level that is not between 0 and 1.
    """
    if head.several:  # each known mark is a row of two classes: not there, with a score of 0, and there
        decided = head.decisions(labels, labels)
        cut, own = np.zeros(len(decided.of)), (decided.of, decided.number)
        base, tweaked = np.column_stack([cut, base[own]]), np.column_stack([cut, tweaked[own]])
        groups = decided.of if groups is None else groups[decided.of]
        labels, head = labels[own].astype(np.int64), ONE_LABEL
    if not 0 < level < 1:
        raise UsageError(
            f"{level:g} is not a share of samples",
            where="--certify",
            hint="give a number between 0 and 1, like 0.02",
        )
    alone = np.arange(len(labels)) if groups is None else groups
    _, member, sizes = np.unique(alone, return_inverse=True, return_counts=True)
    breaking = by_rows(partial(breaking_scale, head=head), base, tweaked, labels)
    order = np.argsort(breaking, kind="stable")
    allowed = level * (len(sizes) + 1) - 1 + _ROUNDING
    if allowed < 0:
        return Certificate(0.0, level, len(sizes), 0)
    too_many = np.cumsum(1 / sizes[member][order]) > allowed
    scale = 1.0
    if too_many.any():
        scale = min(1.0, float(breaking[order][too_many.argmax()]) * (1 - _BELOW))
    return Certificate(scale, level, len(sizes), int((breaking <= scale).sum()))


def breaking_scale(
    base: np.ndarray, tweaked: np.ndarray, labels: np.ndarray, head: Head = ONE_LABEL
) -> np.ndarray:
    """The scale in [0, inf] at which each sample breaks, (N,) float64; inf where the base is wrong."""
    Z, direction = base.astype(np.float64), tweaked.astype(np.float64) - base
    rows = np.arange(len(labels))
    ahead = Z[rows, labels][:, None] - Z
    closing = direction - direction[rows, labels][:, None]
    ahead[rows, labels] = np.inf
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.where(closing > 0, ahead / closing, np.inf).min(axis=1)
    return np.where(head.right(base, labels), scale, np.inf)
