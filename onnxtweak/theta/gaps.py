"""How far is each sample from another prediction? Reciprocal gaps of logits, for each target class.

A synapse adds `b = w v` to the logit of target j. With the best rival `a = max_{i != j} Z[:, i]`, its label
R, and the gap `g = a - Z[:, j]`, the sample is predicted j exactly when b > g. Everything that theta needs
from the logits is therefore one signed reciprocal gap per sample and target.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxtweak.head import ONE_LABEL

LARGEST = np.float32(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Gaps:
    """Reciprocal gaps of one batch.

    limit (N, c) float32 : 1/|g| where a positive boost would break a sample that is right (group D_c of
        METHOD 2), -1/|g| where a negative boost would (D_t), 0 where no boost can break the sample.
    wanted (N, c) float32 : 1/|g| where a positive boost fixes the sample (D_w), else 0.
    gap (N, c) float32 : g itself.
    predicted (N,) int64 : argmax of the logits.
    """

    limit: np.ndarray
    wanted: np.ndarray
    gap: np.ndarray
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


def reciprocal_gaps(Z: np.ndarray, L: np.ndarray, targets: np.ndarray, theta: str = "signed") -> Gaps:
    """Reciprocal gaps for theta "signed" (METHOD 2) or "thesis" (Eq. 3.1; |V| must then stand for V).

    Z (N, C) float; L (N,) int; targets (c,) int. A gap of zero (a tie) counts as the smallest gap that can be
    represented: any boost in the harmful direction breaks such a sample.
    """
    targets = np.asarray(targets, dtype=np.int64)
    rival, _, predicted = rivals(Z, targets)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        gap = (rival - Z[:, targets]).astype(np.float32)
        size = 1.0 / np.abs(gap)
    size = np.minimum(np.nan_to_num(size, nan=0.0, posinf=float(LARGEST)), LARGEST).astype(np.float32)
    of_target = L[:, None] == targets[None, :]
    says_target = predicted[:, None] == targets[None, :]
    right = (predicted == L)[:, None]
    limit = np.where(~of_target & right, size, np.float32(0))  # D_c
    if theta == "signed":
        limit = np.where(of_target & says_target, -size, limit)  # D_t, which the thesis leaves out
    wanted = np.where(of_target & ~says_target, size, np.float32(0))  # D_w
    return Gaps(
        np.ascontiguousarray(limit, np.float32), np.ascontiguousarray(wanted, np.float32), gap, predicted
    )
