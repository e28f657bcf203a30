"""What does a detector decide at each of its anchors? Which classes of objects are there, or one, or none.

Decisions at anchors are what is learnt from; what they come to is judged by average precision, of boxes that
are left after suppression.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxtweak.head import SMALLEST, Head, SeveralLabels, on_logit_scale

_MEASURE, _RULE = "average precision", "the scores of every class at each anchor"
_BOUND = 80.0  # of a logit, whose exponential float32 holds


@dataclass(frozen=True)
class EachObject(SeveralLabels):
    """A sigmoid for each class: each is there or not, whatever the others are."""

    @property
    def measure(self) -> str:
        return _MEASURE

    @property
    def rule(self) -> str:
        return _RULE


@dataclass(frozen=True)
class OneObject(Head):
    """A softmax: the class of an object, or the last class, which stands for none."""

    @property
    def measure(self) -> str:
        return _MEASURE

    @property
    def rule(self) -> str:
        return _RULE


def objects_of(head: Head, columns: int) -> int:
    """How many classes of objects there are, where scores have so many columns."""
    return columns - (not head.several)


def scores_of(head: Head, Z: np.ndarray) -> np.ndarray:
    """What a detector shows for logits Z (N, columns): (N, C) between 0 and 1, of the classes of objects."""
    if head.several:
        shown: np.ndarray = 1 / (1 + np.exp(-np.clip(Z, -_BOUND, _BOUND)))
        return shown
    power = np.exp(Z - Z.max(axis=1, keepdims=True))
    found: np.ndarray = (power / power.sum(axis=1, keepdims=True))[:, :-1]
    return found


def product_scores(head: Head, Z: np.ndarray, base: np.ndarray, objectness: np.ndarray) -> np.ndarray:
    """What is shown, (N, C), for logits Z (N, columns) of the products of a class's score and the objectness.

    base (N, columns) : those of the base. objectness (N,) : 1 where there is none. A patch moves the class's
    own log-odds by Z - base, so that no product exceeds the objectness.
    """
    there = objectness[:, None]
    if not head.several or (objectness == 1).all():
        return scores_of(head, Z)
    own = np.clip(scores_of(head, base) / np.maximum(there, SMALLEST), 0, 1)
    found: np.ndarray = there * scores_of(head, on_logit_scale(own, "odds") + (Z - base))
    return found
