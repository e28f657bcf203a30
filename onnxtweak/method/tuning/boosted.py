"""What would be predicted if the target logits were boosted? Arithmetic on tables, no model needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class BoostTable:
    """What matters of Z when only the logits of c targets can move.

    labels (N,) int64. targets (c,) int64 ascending. target_logits (N, c). rest (N,) and rest_label (N,) :
    best of the other classes. classes : C.
    """

    labels: np.ndarray
    targets: np.ndarray
    target_logits: np.ndarray
    rest: np.ndarray
    rest_label: np.ndarray
    classes: int


def decisions(Z: np.ndarray, labels: np.ndarray, targets: np.ndarray) -> BoostTable:
    """Reduce Z (N, C) for boosts of `targets` (c,), which must ascend."""
    others = Z.copy()
    others[:, targets] = -np.inf
    rest_label = others.argmax(axis=1)
    rest = others[np.arange(len(Z)), rest_label]
    return BoostTable(labels, targets, Z[:, targets], rest, rest_label, Z.shape[1])


def predict(table: BoostTable, boost: np.ndarray) -> np.ndarray:
    """Predicted class (N,) when `boost` (N, c) is added to the target logits.

    Added in the logits' own precision, and ties go to the lowest class: as the spliced file does it.
    """
    boosted = table.target_logits + boost.astype(table.target_logits.dtype)
    return best_among(table, boosted)[1]


def best_among(table: BoostTable, boosted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best of all classes where the target logits are `boosted` (N, c): logit (N,), class (N,)."""
    best = boosted.argmax(axis=1)
    value = boosted[np.arange(len(boosted)), best]
    other = (value > table.rest) | ((value == table.rest) & (table.targets[best] < table.rest_label))
    return np.where(other, value, table.rest), np.where(other, table.targets[best], table.rest_label)


def rival_gap(table: BoostTable, boost: np.ndarray, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Gap and best rival of one target (position) under the others' boosts: (N,) float64 and int64."""
    boosted = table.target_logits + boost.astype(table.target_logits.dtype)
    boosted[:, target] = -np.inf
    value, label = best_among(table, boosted)
    return value.astype(np.float64) - table.target_logits[:, target].astype(np.float64), label
