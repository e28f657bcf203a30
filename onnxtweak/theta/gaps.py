"""How far is each sample from another prediction? Reciprocal gaps of logits, for each target class.

A synapse adds `b = w v` to the logit of target j. With the best rival `a = max_{i != j} Z[:, i]`, its label
R, and the gap `g = a - Z[:, j]`, the sample is predicted j exactly when b > g. Everything that theta needs
from the logits is therefore one signed reciprocal gap per sample and target. Of several labels at once the
rival of each is the cut, 0 (METHOD 17).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxtweak.head import ONE_LABEL, Head

LARGEST = np.float32(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Gaps:
    """Reciprocal gaps of one batch.

    limit (N, c) float32 : 1/|g| where a positive boost would break a sample that is right (group D_c of
        METHOD 2), -1/|g| where a negative boost would (D_t), 0 where no boost can break the sample.
    wanted (N, c) float32 : 1/|g| where a positive boost fixes the sample (D_w), else 0.
    gap (N, c) float32 : g itself.
    own (N, c) bool : samples of each target.
    predicted (N,) int64 : argmax of the logits; of several labels (N, C), the marks that are shown.
    """

    limit: np.ndarray
    wanted: np.ndarray
    gap: np.ndarray
    own: np.ndarray
    predicted: np.ndarray


def rivals(Z: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Best rival of each target: `(rival (N, c) of Z's dtype, its label (N, c) int64, predicted (N,) int64)`.

    Ties go to the lowest class number, as ONNX's ArgMax does.
    """
    rows = np.arange(len(Z))
    best, predicted = ONE_LABEL.best(Z)
    others = Z.copy()
    others[rows, predicted] = -np.inf
    second = ONE_LABEL.predict(others)
    runner_up = Z[rows, second]
    is_top = predicted[:, None] == targets[None, :]
    rival = np.where(is_top, runner_up[:, None], best[:, None])
    label = np.where(is_top, second[:, None], predicted[:, None])
    return rival, label, predicted


def is_of(classes: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Which samples are of each target, (N, c) bool. classes (N,) int; or (N, C), marks of several labels."""
    found: np.ndarray = (
        classes[:, targets] == 1 if classes.ndim == 2 else classes[:, None] == targets[None, :]
    )
    return found


@dataclass(frozen=True)
class _Contest:
    """How samples stand to each target, all (N, c): its rival's logit, whether they are of it, are shown as
    it, are right. predicted : as of `Gaps`."""

    rival: np.ndarray
    own: np.ndarray
    shown: np.ndarray
    right: np.ndarray
    predicted: np.ndarray

    @classmethod
    def of(cls, Z: np.ndarray, L: np.ndarray, targets: np.ndarray, head: Head) -> _Contest:
        if head.several:  # each label against the cut, as far as it is known
            rival, predicted = np.zeros((len(Z), len(targets)), Z.dtype), head.predict(Z)
            right = (predicted == L)[:, targets]  # never where a mark is -1
        else:
            rival, _, predicted = rivals(Z, targets)
            right = (predicted == L)[:, None]
        return cls(rival, is_of(L, targets), is_of(predicted, targets), right, predicted)


def reciprocal_gaps(
    Z: np.ndarray, L: np.ndarray, targets: np.ndarray, theta: str = "signed", head: Head = ONE_LABEL
) -> Gaps:
    """Reciprocal gaps for theta "signed" (METHOD 2) or "thesis" (Eq. 3.1; |V| must then stand for V).

    Z (N, C) float; L (N,) int, or (N, C) marks of several labels; targets (c,) int. A gap of zero (a tie)
    counts as the smallest gap that can be represented: any boost in the harmful direction breaks such a
    sample.
    """
    targets = np.asarray(targets, dtype=np.int64)
    contest = _Contest.of(Z, L, targets, head)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        gap = (contest.rival - Z[:, targets]).astype(np.float32)
        size = 1.0 / np.abs(gap)
    size = np.minimum(np.nan_to_num(size, nan=0.0, posinf=float(LARGEST)), LARGEST).astype(np.float32)
    of_target, says_target, right = contest.own, contest.shown, contest.right
    limit = np.where(~of_target & right, size, np.float32(0))  # D_c
    if theta == "signed":
        limit = np.where(of_target & says_target, -size, limit)  # D_t, which the thesis leaves out
    wanted = np.where(of_target & ~says_target, size, np.float32(0))  # D_w
    return Gaps(
        np.ascontiguousarray(limit, np.float32),
        np.ascontiguousarray(wanted, np.float32),
        gap,
        of_target,
        contest.predicted,
    )
